"""Unpacking: nothing reaches out of its folder, nothing is left half done, and the readers find what they expect."""

import io
import json
import re
import signal
import subprocess
import sys
import tarfile
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from download_server import NOISE, is_complete, make_tar, make_zip, names_in, offer, put_file
from PIL import Image

from bavit_utils.config import REPO
from bavit_utils.data.download import DownloadError, fetch
from bavit_utils.data.records import load_records
from bavit_utils.data.sources import SOURCES, Source


def _link(kind, name="VOCdevkit/VOC2007/link", to="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


@pytest.mark.parametrize(
    ("member", "refused"),
    [
        (tarfile.TarInfo("VOCdevkit/../../../evil"), True),
        (tarfile.TarInfo("/evil"), False),  # it comes to lie in the folder that is unpacked to
        (_link(tarfile.SYMTYPE), True),
        (_link(tarfile.LNKTYPE, to="../../evil"), True),
        (_link(tarfile.FIFOTYPE), True),
    ],
    ids=["up", "absolute", "link", "hard link", "pipe"],
)
def test_nothing_of_a_tar_reaches_out(member, refused, server, monkeypatch, tmp_path):
    file = put_file(server, "voc.tar", make_tar(noise=NOISE, evil=member))
    offer(monkeypatch, "voc2007", Source("", "VOCdevkit/VOC2007", (file,), ("VOCdevkit/VOC2007/noise",)))
    with pytest.raises(DownloadError, match=r"voc\.tar can't be unpacked") if refused else nullcontext():
        fetch("voc2007")
    assert names_in(tmp_path / "data" / "VOCdevkit") == (set() if refused else {"VOC2007"})
    assert not list(tmp_path.rglob("*evil*")) and not Path("/evil").exists()


@pytest.mark.parametrize("name", ["../evil.jpg", "val2017/../../../evil.jpg", "/evil.jpg", "link"])
def test_nothing_of_a_zip_reaches_out(name, server, monkeypatch, tmp_path):
    member = zipfile.ZipInfo(name)
    if name == "link":
        member.external_attr = 0o120777 << 16
    file = put_file(server, "val2017.zip", make_zip({"val2017/1.jpg": b"1", member: b"/etc/passwd"}))
    offer(monkeypatch, "coco-val2017", Source("coco", "val2017", (file,), ("val2017/*.jpg",)))
    assert names_in(fetch("coco-val2017")) == {"1.jpg"} and names_in(tmp_path / "data" / "coco") == {"val2017"}
    assert not list(tmp_path.rglob("*evil*")) and not Path("/evil.jpg").exists()


def test_a_damaged_archive_and_one_of_something_else_leave_no_folder(server, monkeypatch, tmp_path):
    file = put_file(server, "voc.tar", NOISE, checked=False)
    offer(monkeypatch, "voc2007", Source("", "VOCdevkit/VOC2007", (file,), ("VOCdevkit/VOC2007/noise",)))
    with pytest.raises(DownloadError, match=r"voc\.tar can't be unpacked .*: delete it and call again"):
        fetch("voc2007")
    (tmp_path / "data" / "cache" / "downloads" / "voc.tar").unlink()
    server.files["0/voc.tar"] = make_tar(other=b"1").ljust(len(NOISE), b"\0")
    with pytest.raises(DownloadError, match=r"voc\.tar holds no VOCdevkit/VOC2007/noise: delete it and call again"):
        fetch("voc2007")
    assert names_in(tmp_path / "data" / "VOCdevkit") == set()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_while_unpacking_leaves_no_folder_and_the_archive_is_not_fetched_again(
    error, server, voc, tmp_path, monkeypatch
):
    def fails(archive, folder, **kwargs):
        (folder / "half").mkdir(parents=True)
        raise error

    with monkeypatch.context() as patch, pytest.raises((DownloadError, KeyboardInterrupt)) as failed:
        patch.setattr("shutil.unpack_archive", fails)
        fetch("voc2007")
    if isinstance(error, OSError):
        assert re.search("voc2007 can't be put into .*No space left.*call again.*BAVIT_DATA_DIR", str(failed.value))
    assert names_in(tmp_path / "data" / "VOCdevkit") == set()
    fetch("voc2007")
    assert len(server.seen) == 1 and is_complete(tmp_path / "data")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_process_killed_while_unpacking_leaves_nothing_under_the_final_name(server, voc, tmp_path):
    program = f"""
import os, shutil, signal
from bavit_utils.data import download
from bavit_utils.data.sources import File, Source
download.SOURCES["voc2007"] = {SOURCES["voc2007"]!r}
def killed(archive, folder, **kwargs):
    (folder / "half").mkdir(parents=True)
    os.kill(os.getpid(), signal.SIGKILL)
shutil.unpack_archive = killed
download.fetch("voc2007")
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, cwd=REPO, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    left = names_in(tmp_path / "data" / "VOCdevkit")
    assert left == {".VOC2007.partial"}  # half of it, hidden
    fetch("voc2007")
    assert len(server.seen) == 1 and is_complete(tmp_path / "data")


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((30, 40, 3), 90, dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def _voc_members(name: str, split: str) -> dict[str, bytes]:
    box = "<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>20</xmax><ymax>26</ymax></bndbox>"
    xml = f"<annotation><object><name>dog</name>{box}</object></annotation>"
    return {
        f"JPEGImages/{name}.jpg": _jpeg(),
        f"Annotations/{name}.xml": xml.encode(),
        f"ImageSets/Main/{split}.txt": f"{name}\n".encode(),
        f"ImageSets/Main/dog_{split}.txt": f"{name}  1\n".encode(),
    }


def test_voc2007_is_put_together_from_both_archives_as_the_reader_expects(server, monkeypatch):
    (official,) = SOURCES["voc2007"]
    assert [file.name for file in official.files] == ["VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"]
    contents = make_tar(**_voc_members("000005", "train")), make_tar(**_voc_members("000001", "test"))
    files = tuple(put_file(server, file.name, content) for file, content in zip(official.files, contents, strict=True))
    offer(monkeypatch, "voc2007", Source(official.folder, official.target, files, official.there))
    fetch("voc2007")
    for split, name in (("train", "000005"), ("test", "000001")):
        (record,) = load_records("voc2007", split)
        assert record.image_id == name and record.boxes.tolist() == [[4, 5, 20, 26]]
        assert record.image().shape == (30, 40, 3)


def test_coco_is_put_together_as_the_reader_expects_and_its_annotations_come_once(server, monkeypatch, tmp_path):
    content = {"categories": [{"id": 1, "name": "person"}], "annotations": []}
    members = {}
    for split, number in (("train", 9), ("val", 139)):
        image = {"id": number, "file_name": f"{number:012}.jpg", "height": 30, "width": 40}
        members[f"annotations/instances_{split}2017.json"] = json.dumps(content | {"images": [image]})
        pictures = put_file(server, f"{split}2017.zip", make_zip({f"{split}2017/{number:012}.jpg": _jpeg()}))
        both = put_file(server, "annotations_trainval2017.zip", make_zip(members))
        official = SOURCES[f"coco-{split}2017"]
        files = (pictures,), (both,)
        offer(monkeypatch, f"coco-{split}2017",
               *(Source(s.folder, s.target, f, s.there) for s, f in zip(official, files, strict=True)))  # fmt: skip
    assert fetch("coco-val2017") == tmp_path / "data" / "coco" / "val2017"
    assert [r.image_id for r in load_records("coco", "val")] == [139]
    fetch("coco-train2017")
    assert load_records("coco", "train")[0].image().shape == (30, 40, 3)
    assert sum(path.endswith("annotations_trainval2017.zip") for path, *_ in server.seen) == 1
    assert names_in(tmp_path / "data" / "coco") == {"annotations", "train2017", "val2017"}
