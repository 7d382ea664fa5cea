"""Packed pictures: parts that unpack into what the readers read, smaller, and the same bytes every time."""

import subprocess

import numpy as np
import pytest
from PIL import Image

from bavit_utils import packing
from bavit_utils.cli import main
from bavit_utils.config import get_profile
from bavit_utils.datasets import VOID, fingerprint, load_records
from bavit_utils.images import DataError
from bavit_utils.packing import pack_pictures

VOC = get_profile("voc")
SPLITS = (*VOC.detector_train, VOC.detector_eval)
LARGE, SMALL = (120, 160), (60, 50)  # (height, width): shrunk to a side of 80, and left
OBJECT = """<object><name>dog</name><difficult>{}</difficult><bndbox><ymin>{}</ymin><xmin>{}</xmin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox><part><name>head</name><bndbox><xmin>9</xmin></bndbox></part></object>"""


@pytest.fixture
def voc(tmp_path, monkeypatch):
    """Both years, three pictures a list: a large, a small and a large one; and the ImageNet blocks' file."""
    root, rng = tmp_path / "official", np.random.default_rng(0)
    monkeypatch.setenv("BAVIT_DATA_DIR", str(root))
    for dataset, split in SPLITS:
        year, kind = root / "VOCdevkit" / dataset.upper(), "Segmentation" if dataset == "voc2012" else "Main"
        folders = ("JPEGImages", "Annotations", "SegmentationClass", f"ImageSets/{kind}")
        jpegs, xmls, masks, lists = (year / name for name in folders)
        for folder in (jpegs, xmls, masks, lists):
            folder.mkdir(parents=True, exist_ok=True)
        names = [f"{split}_{k}" for k in (2, 0, 1)]  # the list's order is kept
        (lists / f"{split}.txt").write_text("\n".join(names))
        for name, (height, width) in zip(names, (LARGE, SMALL, LARGE)):
            noise = Image.fromarray(rng.integers(0, 256, (height // 4, width // 4), dtype=np.uint8))
            noise.convert("RGB").resize((width, height)).save(jpegs / f"{name}.jpg", quality=98)
            boxes = OBJECT.format(0, 11, 21, 40, 50), OBJECT.format(1, 1, 1, width, height)
            size = f"<size><width>{width}</width><height>{height}</height></size>"
            (xmls / f"{name}.xml").write_text(f"<annotation>{size}{''.join(boxes)}</annotation>")
            if dataset == "voc2012":
                mask = np.zeros((height, width), dtype=np.uint8)
                mask[10:50, 20:40], mask[:2] = 12, VOID
                Image.fromarray(mask).save(masks / f"{name}.png")
    (root / "weights").mkdir()
    (root / "weights" / "vit_tiny_patch16_224.safetensors").write_bytes(b"blocks")
    return root


def read_all() -> dict:
    return {split: load_records(*split) for split in SPLITS}


def unpacked(parts, folder, monkeypatch):
    """What the shell makes of the parts, in the order of their names."""
    folder.mkdir()
    for part in parts:
        subprocess.run(["tar", "-xf", part, "-C", folder], check=True)
    monkeypatch.setenv("BAVIT_DATA_DIR", str(folder))
    return folder


def test_parts_unpack_into_what_the_readers_read(voc, tmp_path, monkeypatch):
    before = read_all()
    parts = pack_pictures(VOC, 80, tmp_path / "pack", part_mb=0.0205)
    assert len(parts) > 2 and all(part.stat().st_size <= 20_500 for part in parts)
    assert [part.name for part in parts[:2]] == ["part-01.tar", "part-02.tar"]
    folder = unpacked(parts, tmp_path / "there", monkeypatch)
    after = read_all()
    for split, records in before.items():
        assert [r.image_id for r in after[split]] == [r.image_id for r in records]
        for old, new in zip(records, after[split]):
            shrunk = old.size == LARGE
            assert new.size == ((60, 80) if shrunk else old.size) == new.image().shape[:2]
            assert new.boxes == pytest.approx(old.boxes / 2 if shrunk else old.boxes, abs=2e-3)
            assert (new.labels == old.labels).all() and (new.difficult == old.difficult).all()
            expected = np.asarray(Image.fromarray(old.image()).resize(new.size[::-1], Image.Resampling.LANCZOS))
            assert np.abs(new.image().astype(int) - expected).mean() < (8 if shrunk else 1e-9)
            if old.masks:
                assert (new.mask() == old.mask()[1 if shrunk else 0 :: 2 if shrunk else 1, :: 2 if shrunk else 1]).all()
    assert (folder / "weights" / "vit_tiny_patch16_224.safetensors").read_bytes() == b"blocks"


def test_small_enough_pictures_keep_their_fingerprint(voc, tmp_path, monkeypatch):
    before = [fingerprint(records) for records in read_all().values()]
    unpacked(pack_pictures(VOC, 160, tmp_path / "pack"), tmp_path / "there", monkeypatch)
    assert [fingerprint(records) for records in read_all().values()] == before


def test_the_same_pictures_give_the_same_bytes(voc, tmp_path):
    parts = [pack_pictures(VOC, 80, tmp_path / name, part_mb=0.05, limit=2) for name in ("one", "two")]
    assert [part.read_bytes() for part in parts[0]] == [part.read_bytes() for part in parts[1]]
    names = {name for part in parts[0] for name in tar_names(part)}
    assert len(names) == 3 + 2 * 2 * 3 + 2 + 1  # lists, pictures and boxes, masks, blocks
    with pytest.raises(OSError, match="one holds something already: remove it"):
        pack_pictures(VOC, 80, tmp_path / "one")


def tar_names(part) -> list[str]:
    return subprocess.run(["tar", "-tf", part], check=True, capture_output=True, text=True).stdout.split()


def test_what_fits_no_part_is_named_and_nothing_is_left(voc, tmp_path, capsys):
    command = ["pack-pictures", "--profile", "voc", "--folder", str(tmp_path / "pack"), "--part-mb", "0.011"]
    assert main([*command, "--img-size", "160"]) == 1
    said = capsys.readouterr().err
    assert "VOC2007/JPEGImages/train_2.jpg alone makes a part of" in said
    assert "--part-mb" in said and "--img-size" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["official"]
    assert main([*command[:-1], "0.1", "--img-size", "80"]) == 0
    assert capsys.readouterr().out.startswith("part-01.tar 0.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["official", "pack"]


def test_a_broken_picture_or_a_full_disk_leaves_nothing(voc, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(packing, "_write_tar", full)
        with pytest.raises(OSError, match="pack can't be packed .*No space left.*call again"):
            pack_pictures(VOC, 80, tmp_path / "pack")
    path = next(voc.glob("VOCdevkit/VOC2007/JPEGImages/train_2.jpg"))
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"train_2\.jpg"):
        pack_pictures(VOC, 80, tmp_path / "pack")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["official"]


def test_only_voc_is_packed(tmp_path):
    for name, remedy in (("sample", "sample-world"), ("coco", "COCO's folder has to be copied")):
        with pytest.raises(ValueError, match=remedy):
            pack_pictures(get_profile(name), 80, tmp_path / "pack")
    with pytest.raises(ValueError, match="1 pixel or more"):
        pack_pictures(VOC, 0, tmp_path / "pack")
