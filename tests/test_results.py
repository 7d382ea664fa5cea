"""Result files: what goes in, what comes out, what is refused, and the paper's tables."""

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest
import torch

from bavit_utils import config, results
from bavit_utils.data.records import fingerprint, load_records
from bavit_utils.paper import PAPER
from bavit_utils.results import NOT_RUN, check_against_stored, load_rows, provenance, save_rows, store


def test_rows_come_back_and_other_runs_stay(tmp_path):
    save_rows("table1", "b", [{"accuracy": 0.5}, {"accuracy": 0.25, "rule": "box"}], {"date": "d1"}, tmp_path)
    row = {"accuracy": np.float32(0.1), "n": np.int64(3), "x": torch.tensor(2.0)}
    save_rows("table1", "a", [row], {"date": "d2"}, tmp_path)
    save_rows("table1", "b", [{"accuracy": 0.75, "rule": "mask", "auroc": None}], {"date": "d3"}, tmp_path)
    frame = load_rows("table1", tmp_path)
    assert frame.run.tolist() == ["a", "b"]
    assert frame.accuracy.tolist() == [0.1, 0.75]
    assert frame.attrs["provenance"] == {"a": {"date": "d2"}, "b": {"date": "d3"}}
    stored = json.loads((tmp_path / "table1.json").read_text())["rows"][0]
    assert stored == {"run": "a", "accuracy": 0.1, "n": 3, "x": 2.0}


def test_what_a_command_stores_names_its_images_checkpoints_and_how_many_were_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "RESULTS", tmp_path)
    weights = tmp_path / "bavit.safetensors"
    weights.write_bytes(b"weights")
    dev, held_out = load_records("photos", "val", 3), load_records("photos", "val", 2)
    source = store("table1", "one", [{"accuracy": 0.5}], {"photos/train, end": dev, "photos/val": held_out}, [weights])
    assert load_rows("table1").attrs["provenance"] == {"one": source}
    assert source["n_images"] == 2 and source["checkpoints"] == {weights.name: results.short_hash(weights)}
    assert source["data"] == {"photos/train, end": fingerprint(dev), "photos/val": fingerprint(held_out)}


def test_same_rows_same_bytes_one_row_a_line(tmp_path):
    rows = [{"b": 1 / 3, "a": i} for i in range(3)]
    path = save_rows("t", "one", rows, {"z": 1, "command": "bavit sweep"}, tmp_path)
    before = path.read_text()
    save_rows("t", "two", rows, {}, tmp_path)
    assert path.read_text().count("0.333333}") == 6
    assert '{"run": "one", "a": 0, "b": 0.333333},\n' in before
    turned = [dict(reversed(row.items())) for row in rows]
    again = save_rows("t", "one", turned, {"command": "bavit sweep", "z": 1}, tmp_path / "again")
    assert again.read_text() == before


def test_where_filters(tmp_path):
    save_rows("t", "r", [{"rule": r, "seed": s} for r in ("mask", "box") for s in (0, 1, 2)], {}, tmp_path)
    assert len(load_rows("t", tmp_path, rule="mask")) == 3
    assert load_rows("t", tmp_path, rule="box", seed=[0, 2]).seed.tolist() == [0, 2]
    assert load_rows("t", tmp_path, nothing="x").empty


def test_absent_file_is_an_empty_frame(tmp_path):
    frame = load_rows("table1", tmp_path)
    assert frame.empty and frame.attrs["provenance"] == {} and NOT_RUN == "not run here"


@pytest.mark.parametrize(
    "bad", [float("nan"), np.inf, torch.tensor(float("nan")), [1.0, float("-inf")], {"x": np.float32("nan")}]
)
def test_numbers_that_are_not_finite_are_refused(tmp_path, bad):
    path = save_rows("t", "r", [{"AP": 1.0}], {}, tmp_path)
    before = path.read_text()
    with pytest.raises(ValueError, match="run r, row 1, AP.*not finite"):
        save_rows("t", "r", [{"AP": 1.0}, {"AP": bad}], {}, tmp_path)
    assert path.read_text() == before


@pytest.mark.parametrize(
    "bad", ["/home/someone/a.json", "bavit x --out=/srv/y", "C:\\Users\\z", "~/w", "a '/b c'", os.getcwd()]
)
def test_machine_paths_are_refused(tmp_path, bad):
    with pytest.raises(ValueError, match="path of this machine"):
        save_rows("t", "r", [{"note": bad}], {}, tmp_path)
    with pytest.raises(ValueError, match="path of this machine"):
        save_rows("t", "r", [{"note": ""}], {"command": bad}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_no_path_is_stored(tmp_path):
    for text in ("images/s", "https://example.org/a/b", "hustvl/yolos-tiny", "and / or", "data/x/y", "sample/val"):
        save_rows("t", "r", [{"note": text}], {}, tmp_path)
        assert load_rows("t", tmp_path).note.tolist() == [text]


def test_bad_calls_say_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        save_rows("t", "r", [], {}, tmp_path)
    with pytest.raises(ValueError, match="cannot store a set"):
        save_rows("t", "r", [{"a": {1}}], {}, tmp_path)
    (tmp_path / "t.json").write_text('{"rows": [')
    with pytest.raises(ValueError, match="t.json is not a result file.*restore"):
        load_rows("t", tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_rows("t", "r", [{"a": 1}], {}, tmp_path)
    before = path.read_text()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_rows("t", "r", [{"a": 2}], {}, tmp_path)
    assert path.read_text() == before and [p.name for p in tmp_path.iterdir()] == ["t.json"]


def test_runs_that_are_saved_at_once_are_all_kept(tmp_path, monkeypatch):
    read = results._read
    monkeypatch.setattr(results, "_read", lambda path: (read(path), time.sleep(0.005))[0])
    save_rows("t", "first", [{"a": 0}], {}, tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: save_rows("t", f"run-{i}", [{"a": i}], {}, tmp_path), range(12)))
    assert sorted(load_rows("t", tmp_path).a) == [0, *range(12)]
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_provenance_says_where_it_comes_from(tmp_path, monkeypatch):
    weights = tmp_path / "bavit.safetensors"
    weights.write_bytes(b"abc")
    script = str(results.REPO / "bavit_utils" / "cli.py")
    monkeypatch.setattr("sys.argv", [script, "sweep", "--data", str(tmp_path / "in put"), f"--out={tmp_path}", "--n=3"])
    found = provenance({"sample/val": "0123"}, 7, [weights], dtype="bfloat16")
    assert found["command"] == f"bavit sweep --data 'in put' --out={tmp_path.name} --n=3"
    assert found["checkpoints"] == {"bavit.safetensors": "ba7816bf8f01"}
    assert found["data"] == {"sample/val": "0123"}
    assert (found["n_images"], found["dtype"], found["threads"]) == (7, "bfloat16", torch.get_num_threads())
    assert found["versions"]["torch"].startswith(torch.__version__.split("+")[0]) and found["device"]
    save_rows("t", "r", [{"a": 1}], found, tmp_path)
    assert str(tmp_path) not in (tmp_path / "t.json").read_text()
    with pytest.raises(FileNotFoundError, match="gone.safetensors"):
        provenance(checkpoints=[tmp_path / "gone.safetensors"])


def test_commit_is_marked_when_the_tree_differs(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "REPO", tmp_path)
    assert results.git_commit() == "unknown"
    git = ["git", "-C", tmp_path, "-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert results.git_commit() == "unknown"
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    clean = results.git_commit()
    assert len(clean) == 10 and int(clean, 16) >= 0
    (tmp_path / "data" / "results").mkdir(parents=True)
    (tmp_path / "data" / "results" / "table1.json").write_text("{}")
    assert results.git_commit() == clean
    for name in ("figures/a.png", "notebooks/a.ipynb"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
        assert results.git_commit() == clean
    for name in ("code.py", "bavit_utils/cost.py", "tests/a.py", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
        assert results.git_commit() == clean + "-dirty", name
        (tmp_path / name).unlink()


STORED = [{"sparsity": s, "seed": 0, "AP": ap} for s, ap in ((0.0, 0.40), (0.35, 0.36), (0.7, 0.20))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"AP": 0.3649}, None),  # within the tolerance
        ({"AP": 0.3651}, r"sparsity 0.35: AP is 0.3651, stored 0.3600"),
        ({"AP": 0.3549}, r"sparsity 0.35: AP is 0.3549, stored 0.3600"),
        ({"AP": float("nan")}, r"sparsity 0.35: AP is nan"),
        ({"AP": 0.20}, r"sparsity 0.35: AP is 0.2000"),  # that of another row
        ({"sparsity": 0.36}, r"sparsity 0.36: 0 stored rows"),
    ],
)
def test_what_is_computed_now_is_held_to_what_is_stored(tmp_path, change, message):
    save_rows("t", "r", STORED, {}, tmp_path)
    now = [STORED[0], STORED[1] | change, STORED[2]]
    if message is None:
        said = check_against_stored("t", now, ["sparsity"], {"AP": 0.005}, tmp_path)
        assert said == "3 rows agree with the stored ones: AP within 0.005"
        return
    with pytest.raises(AssertionError, match=message):
        check_against_stored("t", now, ["sparsity"], {"AP": 0.005}, tmp_path)


def test_the_comparator_needs_rows_on_both_sides_and_each_once(tmp_path):
    options = {"on": ["sparsity"], "tolerance": {"AP": 1.0}, "folder": tmp_path}
    with pytest.raises(AssertionError, match="0 stored rows"):
        check_against_stored("t", STORED, **options)
    save_rows("t", "a", STORED, {}, tmp_path)
    with pytest.raises(AssertionError, match="no rows"):
        check_against_stored("t", [], **options)
    save_rows("t", "b", [row | {"seed": 1} for row in STORED], {}, tmp_path)
    with pytest.raises(AssertionError, match="2 stored rows"):
        check_against_stored("t", STORED, **options)
    check_against_stored("t", STORED, **options, seed=1)
    check_against_stored("t", STORED, **options | {"on": ["sparsity", "seed"]})
    with pytest.raises(AssertionError, match="sparsity 0.0.*sparsity 0.35.*sparsity 0.7"):  # all that differs
        check_against_stored("t", [row | {"AP": 9.0} for row in STORED], **options, seed=1)


def test_the_papers_tables():
    assert [row["accuracy"] for row in PAPER.table1] == [0.7593, 0.8879, 0.7088, 0.8057]
    frame = pd.DataFrame(PAPER.table2)
    assert frame.shape == (12, 8)
    assert (frame.tokens_bavit + frame.tokens_pruned == frame.tokens_total).all()
    assert frame.sparsity.is_monotonic_decreasing and frame[frame.detector == "yolos"].AP.is_monotonic_increasing
    assert PAPER.table2[-1]["AP"] == PAPER.base_AP
    with pytest.raises(FrozenInstanceError):
        PAPER.base_AP = 0.287
    with pytest.raises(TypeError):
        PAPER.table2[0]["AP"] = 0.3
