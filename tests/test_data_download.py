"""Fetching: mirrors, resuming, checksums, room on the disk, what is there already."""

import hashlib
import io
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest
from download_server import NOISE, is_complete, names_in, offer, put_file

from bavit_utils.data.download import DownloadError, fetch
from bavit_utils.data.sources import SOURCES, File, Source


def test_a_good_server_gives_the_folder_whole_and_a_second_call_asks_nothing(server, voc, tmp_path, capsys):
    place = tmp_path / "data" / "VOCdevkit" / "VOC2007"
    assert fetch("voc2007") == place and is_complete(tmp_path / "data")
    assert names_in(tmp_path / "data" / "cache" / "downloads") == {".lock"}  # the archive has gone
    assert server.seen == [("0/voc.tar", None, voc.size)]
    capsys.readouterr()
    assert fetch("voc2007") == place and len(server.seen) == 1
    assert f"voc2007 is already in {tmp_path / 'data'}: left as it is" in capsys.readouterr().err


@pytest.mark.parametrize(("terminal", "disable", "bars"), [(True, "", True), (True, "1", False), (False, "", False)])
def test_progress_bars_are_for_terminals_and_can_be_turned_off(terminal, disable, bars, voc, monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TQDM_DISABLE", disable)
    fetch("voc2007")
    assert ("voc.tar: 100%" in screen.getvalue()) == ("%" in screen.getvalue()) == bars


@pytest.mark.parametrize("fault", ["dies", "stalls"])
def test_a_second_call_sends_for_the_rest_alone(fault, server, voc, tmp_path):
    server.faults["0/voc.tar"] = [fault, "missing"]
    with pytest.raises(DownloadError, match=r"voc\.tar can't be fetched .*0/voc\.tar: .*Call again later"):
        fetch("voc2007")
    part = tmp_path / "data" / "cache" / "downloads" / "voc.tar.part"
    got = part.stat().st_size
    assert 0 < got <= voc.size // 2 and names_in(tmp_path / "data") == {"cache"}
    fetch("voc2007")
    assert server.seen[-1] == ("0/voc.tar", f"bytes={got}-", voc.size - got)
    assert is_complete(tmp_path / "data") and not part.exists()


def test_one_call_tries_twice_and_goes_on_from_what_came(server, voc, tmp_path):
    server.faults["0/voc.tar"] = ["stalls"]
    fetch("voc2007")
    assert [wanted is None for _, wanted, _ in server.seen] == [True, False] and is_complete(tmp_path / "data")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("missing", "it answers 404 Not Found"),
        ("stalls", "it stalled"),
        ("dies", "it broke off"),
        ("short", "it offers 150000 bytes instead of"),
        ("corrupt", "does not match the known hash"),
    ],
)
def test_the_mirror_is_used_and_without_one_the_error_says_what_to_do(
    fault, reason, server, voc, tmp_path, monkeypatch
):
    server.faults["0/voc.tar"] = [fault] * 2
    with pytest.raises(DownloadError) as failed:
        fetch("voc2007")
    downloads = tmp_path / "data" / "cache" / "downloads"
    for words in (voc.urls[0], reason, f"by hand as {downloads / 'voc.tar'}", "BAVIT_DATA_DIR"):
        assert words in str(failed.value)
    assert "\n" not in str(failed.value)
    assert names_in(tmp_path / "data") == {"cache"}
    mirrored = put_file(server, "voc.tar", server.files["0/voc.tar"], mirrors=2)
    offer(monkeypatch, "voc2007", Source("", "VOCdevkit/VOC2007", (mirrored,), SOURCES["voc2007"][0].there))
    server.faults["0/voc.tar"] = [fault]
    fetch("voc2007")
    assert server.seen[-1][0] == "1/voc.tar" and is_complete(tmp_path / "data")


def test_a_truncation_that_hides_behind_an_honest_length_is_caught_by_the_checksum(server, monkeypatch, tmp_path):
    whole = put_file(server, "w.safetensors", NOISE)
    unsized = File(whole.name, whole.urls, whole.checksum, size=None, room=300_000)
    offer(monkeypatch, "vit-tiny", Source("weights", "w.safetensors", (unsized,), ("w*.safetensors",)))
    server.faults["0/w.safetensors"] = ["short", "short"]
    with pytest.raises(DownloadError, match="does not match the known hash"):
        fetch("vit-tiny")
    assert fetch("vit-tiny").read_bytes() == NOISE


def test_a_server_without_ranges_starts_again_and_a_part_too_long_is_dropped(server, voc, tmp_path):
    part = tmp_path / "data" / "cache" / "downloads" / "voc.tar.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"of another file")
    server.faults["0/voc.tar"] = ["no ranges"]
    fetch("voc2007")
    assert server.seen == [("0/voc.tar", "bytes=15-", voc.size)] and is_complete(tmp_path / "data")
    (tmp_path / "data" / "VOCdevkit").rename(tmp_path / "away")
    part.write_bytes(bytes(voc.size + 1))
    fetch("voc2007")
    assert [wanted for _, wanted, _ in server.seen[1:]] == [f"bytes={voc.size + 1}-", None]
    assert is_complete(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "damaged", "wanted"),
    [("voc.tar.part", b"of another file", ["bytes=15-", None]), ("voc.tar", NOISE, [None])],
    ids=["a part of ours", "an archive fetched by hand"],
)
def test_what_is_whole_is_not_sent_for_and_what_is_damaged_is_fetched_anew(
    server, voc, tmp_path, name, damaged, wanted
):
    there = tmp_path / "data" / "cache" / "downloads" / name
    there.parent.mkdir(parents=True)
    there.write_bytes(server.files["0/voc.tar"])
    fetch("voc2007")
    assert server.seen == [] and is_complete(tmp_path / "data")
    (tmp_path / "data" / "VOCdevkit").rename(tmp_path / "away")
    there.write_bytes(damaged)
    fetch("voc2007")  # the checksum is wrong, then all of it comes
    assert [asked for _, asked, _ in server.seen] == wanted and is_complete(tmp_path / "data")


def test_a_full_disk_is_told_beforehand(server, voc, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10, 0, 2 * voc.size - 1))
    with pytest.raises(DownloadError) as failed:
        fetch("voc2007")
    assert str(failed.value) == (
        f"{tmp_path / 'data'} has 0.000614 GB free, voc2007 needs 0.000614 GB (0.000307 GB to fetch, 0.000307 GB in "
        "place): free some, or set BAVIT_DATA_DIR to a folder on a larger disk"
    )
    assert server.seen == [] and names_in(tmp_path / "data") == {"cache"}
    part = tmp_path / "data" / "cache" / "downloads" / "voc.tar.part"
    part.write_bytes(server.files["0/voc.tar"][:1])
    fetch("voc2007")  # a byte less to fetch: now it is enough
    assert is_complete(tmp_path / "data")


def test_a_copy_that_one_has_is_left_alone_even_where_nothing_may_be_written(server, voc, tmp_path, capsys):
    lists = tmp_path / "data" / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in ("train", "test"):
        (lists / f"{split}.txt").write_text("mine")
    assert fetch("voc2007") == lists.parents[1] and "left as it is" in capsys.readouterr().err
    assert names_in(tmp_path / "data") == {"VOCdevkit"} and names_in(lists.parents[1]) == {"ImageSets"}
    (lists / "test.txt").unlink()
    with pytest.raises(DownloadError, match=r"is there, but .*Main/test\.txt is not: complete it by hand from http"):
        fetch("voc2007")
    assert server.seen == [] and (lists / "train.txt").read_text() == "mine"


def test_weights_of_another_name_count_as_there(server, tmp_path):
    mine = tmp_path / "data" / "weights" / "vit_tiny_patch16_224.mine.safetensors"
    mine.parent.mkdir(parents=True)
    mine.touch()
    assert fetch("vit-tiny") == mine


def test_of_two_calls_at_once_one_fetches_and_the_other_finds_it_there(server, voc, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        places = list(pool.map(fetch, ["voc2007"] * 2))
    assert places[0] == places[1] and len(server.seen) == 1 and is_complete(tmp_path / "data")


def test_a_folder_that_cannot_be_made_is_told(server, voc, tmp_path):
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(DownloadError, match=r"voc2007 can't be put into \S+data \(.*another folder"):
        fetch("voc2007")


def test_an_unverified_file_is_recorded_and_the_next_fetch_is_held_to_it(server, monkeypatch, tmp_path, capsys):
    model, settings = ("tiny/model.safetensors", NOISE), ("tiny/config.json", b"{}")
    files = put_file(server, *model), put_file(server, *settings, checked=False)
    offer(monkeypatch, "yolos-tiny", Source("weights", "tiny", files, ("tiny/config.json",)))
    place, digest = tmp_path / "data" / "weights" / "tiny", hashlib.sha256(b"{}").hexdigest()
    for times in (1, 2):
        assert fetch("yolos-tiny") == place and names_in(place) == {"model.safetensors", "config.json"}
        assert (place.parent / "SHA256SUMS").read_text() == f"{digest}  tiny/config.json\n"
        said = capsys.readouterr().err
        assert ("tiny/config.json is unverified" in said and digest in said) == (times == 1)
        place.rename(tmp_path / f"away{times}")
    server.files["0/tiny/config.json"] = b"[]"
    with pytest.raises(DownloadError, match=r"config\.json can't be fetched .*known hash.*its line in SHA256SUMS"):
        fetch("yolos-tiny")
    assert not place.exists()


def test_an_unverified_file_is_never_put_together_from_two(server, monkeypatch, tmp_path):
    file = put_file(server, "tiny/config.json", NOISE, checked=False)
    offer(monkeypatch, "yolos-tiny", Source("weights", "tiny", (file,), ("tiny/config.json",)))
    server.faults["0/tiny/config.json"] = ["dies"]
    assert (fetch("yolos-tiny") / "config.json").read_bytes() == NOISE
    assert [wanted for _, wanted, _ in server.seen] == [None, None]
