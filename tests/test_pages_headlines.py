"""The paper beside ours: numbers from the stored rows, absent ones said so; as wide as promised; the README's copy."""

from itertools import pairwise

import numpy as np
import pytest

from bavit_utils.config import REPO, get_profile
from bavit_utils.pages import headlines as module
from bavit_utils.pages.headlines import as_text, headlines, with_headlines
from bavit_utils.results import NOT_RUN, save_rows
from bavit_utils.sweep import Way

SAMPLE = get_profile("sample")
SOURCE = {"command": "bavit sweep --store", "commit": "abc"}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """An empty folder of results; a function that stores rows in it."""
    load = module.load_rows
    monkeypatch.setattr(module, "load_rows", lambda name, **where: load(name, tmp_path, **where))
    return lambda name, *rows: save_rows(name, "run", rows, SOURCE, tmp_path)


def one(table, claim, data=""):
    """The one row whose claim and data begin so."""
    (row,) = table[table.claim.str.startswith(claim) & table.data.str.startswith(data)].itertuples()
    return row


def test_without_stored_rows_every_claim_was_not_run_and_the_papers_numbers_stand(stored):
    table = headlines(SAMPLE)
    assert 6 <= len(table) <= 10 and set(table.ours) == set(table.status) == {NOT_RUN}
    assert list(table.paper) == [
        "75.9 / 88.8 %", "70.9 / 80.6 %", "28.8", "-4.4, -15 % of dense", "-4.4, -15 % of dense", "–", "–",
        "+2.2, no control", "1.3x to 1.4x", "less",
    ]  # fmt: skip


def test_accuracy_is_the_mean_over_seeds_of_the_best_recipe_at_the_papers_size(stored):
    common = {"model": "bavit-small", "dataset": "voc2012", "rule": "mask", "majority": 0.6, "n_images": 400}
    seeds = [
        common | {"recipe": "best", "seed": seed, "accuracy": accuracy} for seed, accuracy in enumerate((0.8, 0.9))
    ]
    stored(
        "table1",
        *seeds,
        common | {"recipe": "best-256", "accuracy": 0.1},
        common | {"recipe": "paper", "accuracy": 0.2},
    )
    row = one(headlines(SAMPLE), "token accuracy on VOC")
    assert row.ours == f"small 85.0 ± 7.1 % (majority 60.0 %); large {NOT_RUN}"
    assert (row.data, row.status) == ("VOC2012 subset, 400 images", f"subset; rest {NOT_RUN}")


def table2(bavit, sparsity, ap, detector="yolos", **more):
    row = {"bavit": bavit, "sparsity": sparsity, "AP": ap, "AP50": 2 * ap, "detector": detector, "n_images": 800}
    return row | vars(Way()) | {"delta_AP": ap - 0.2, "delta_low": ap - 0.21, "delta_high": ap - 0.19} | more


def test_the_change_in_ap_has_its_interval_its_share_of_the_dense_ap_and_random_choice_beside_it(stored):
    filled = table2("bavit-small", 0.35, 0.01, fill_steps=3)
    patches = table2("bavit-small", 0.35, 0.02, readout="patches")
    random = [table2("random", 0.35, ap, seed=seed) for seed, ap in enumerate((0.1, 0.12))]
    stored("table2-voc", table2("bavit-small", 0.0, 0.2), table2("bavit-small", 0.35, 0.18), filled, patches, *random)
    table = headlines(SAMPLE)
    row = one(table, "change in AP", "VOC2007 re-split")
    assert row.ours == "-2.0 [-3.0, -1.0], -10 % of dense; random -9.0"
    assert (row.data, row.status) == ("VOC2007 re-split, 800 images", "re-split")
    dense = one(table, "AP of the dense")
    assert dense.ours == f"sample world {NOT_RUN}; VOC2007 re-split 20.0 (AP50 40.0)"
    assert dense.status == f"other images; rest {NOT_RUN}"


def test_a_gain_by_fine_tuning_is_told_with_its_control_alone(stored):
    rows = [table2("bavit-small", 0.35, ap, name) for name, ap in (("yolos", 0.2), ("yolos-f", 0.25))]
    stored("table2-sample", *rows)
    assert one(headlines(SAMPLE), "gain in AP").ours == NOT_RUN
    stored("table2-sample", *rows, table2("bavit-small", 0.35, 0.21, "yolos-control"))
    assert one(headlines(SAMPLE), "gain in AP").ours.startswith("sample world +5.0, control +1.0; VOC2007")


def test_the_smaller_image_is_the_largest_that_costs_no_more(stored):
    whole = module.multiply_adds(256, SAMPLE, bavit=None) / 1e9
    shares = {"bavit-small": 0.8, "resolution-240": 0.9, "resolution-224": 0.75, "resolution-160": 0.4}
    stored("selectors-sample", *(
        {"selector": name, "sparsity": 0.35 if name == "bavit-small" else None, "seed": 0, "gmacs": whole * share,
         "AP": share, "AP_low": share - 0.01, "AP_high": share + 0.01, "n_images": 200}
        for name, share in shares.items()
    ))  # fmt: skip
    row = one(headlines(SAMPLE), "AP with 35%", "sample world")
    assert row.ours == "pruned 80.0 [79.0, 81.0] at cost 0.80; 224 px 75.0 [74.0, 76.0] at cost 0.75"
    assert row.data == "sample world, 200 images" and row.status == "drawn images"


def test_pruning_inside_stands_beside_the_best_smaller_image_that_is_as_fast(stored, tmp_path):
    common = {"part": "all", "time": "latency_512_ms_b1", "sparsity": 0.5, "n_images": 800}
    rows = [
        common | {"speed": speed, "family": family, "method": method, "trained": "frozen", "delta_AP": delta, "delta_low": delta - 0.01,
                  "delta_high": delta + 0.01}
        for speed, delta in ((1.3, 0.004), (1.6, -0.02), (2.0, 0.5))
        for family, method in (("inside", "inside-4"), ("resolution", "resolution-224"))
    ]  # fmt: skip
    save_rows("inside-voc", "frontier", rows[:2] + rows[3:], SOURCE, tmp_path)
    row = one(headlines(SAMPLE), "AP of pruning inside", "VOC2007")
    assert row.ours == "1.3x: after layer 4, 50% pruned, +0.4 [-0.6, +1.4] against 224 px"  # none inside is 1.6x
    save_rows("inside-voc", "frontier", rows, SOURCE, tmp_path)
    row = one(headlines(SAMPLE), "AP of pruning inside", "VOC2007")
    assert row.ours == (
        "1.3x: after layer 4, 50% pruned, +0.4 [-0.6, +1.4] against 224 px; "
        "1.6x: after layer 4, 50% pruned, -2.0 [-3.0, -1.0] against 224 px"
    )


def throughput(**more):
    rows = [("dense", 0.0, 1.0, 140), ("transformers", 0.0, 1.0, 153), ("pad", 0.35, 9.9, 104)]
    rows += [("gather", 0.28, 1.1, 110), ("gather", 0.34, 1.4, 104)]
    names = "method", "sparsity", "speedup", "peak_mb"
    return [more | dict(zip(names, row)) | {"mac_speedup": 1.5, "threads": 2} for row in rows]


def test_speed_is_that_at_the_abstracts_drop_and_memory_that_at_the_papers_sparsity(stored):
    others = throughput(profile="sample", batch=8) + [
        row | {"speedup": 9.9, "peak_mb": 999} for row in throughput(profile="coco", batch=8)
    ]
    stored("throughput-cpu", *throughput(profile="voc-512", batch=8), *others)
    table = headlines(SAMPLE)
    assert one(table, "speed at 29% (the abstract's 3 AP)").ours == "1.10x of 1.50x (batch 8)"
    assert one(table, "speed").data == "512 px, CPU, 2 threads"
    assert one(table, "peak memory at 35%").ours == "104 MB, dense 140 to 153 (batch 8)"
    edge = {"img_size": 512, "threads": 1, "round_to": 0, "batch": 1}
    times = ("torch", "fp32", 1.0, 300), ("torch", "fp32", 0.65, 200), ("onnxruntime", "int8", 0.65, 120)
    rows = [edge | dict(zip(("runtime", "dtype", "keep", "median_ms"), row)) for row in times]
    stored("edge-cpu", *rows, *(row | {"median_ms": 1, "threads": 2} for row in rows))
    assert one(headlines(SAMPLE), "speed").ours.endswith("; int8 at 35% against dense float32, one thread: 2.50x")


def test_what_came_out_is_said_in_words_that_follow_from_the_rows(stored, tmp_path):
    assert module.in_short() == []
    rows = [table2("bavit-small", 0.0, 0.2), table2("bavit-small", 0.35, 0.18)]
    for ap, word in ((0.15, "better than"), (0.23, "worse than"), (0.182, "not distinguishable from")):
        stored("table2-voc", *rows, table2("random", 0.35, ap, seed=0))
        (line,) = module.in_short()
        assert line.startswith(
            "- **On the VOC2007 re-split pruning 35% of the patches costs 10% of the AP** (the paper: 15%)"
        )
        assert f"**{word} random choice**" in line
    common = {"delta_at_paper_share": 0.014, "at_paper_share_low": 0.007, "at_paper_share_high": 0.023}
    sizes = [common | {"selector": f"resolution-{side}", "gmacs": side} for side in (160, 224, 192)]
    save_rows("selectors-voc", "resolution", sizes, SOURCE, tmp_path)
    smaller = module.in_short()[1]
    assert "a smaller image of 224 px is better than BAViT in front**" in smaller and "+1.4 [+0.7, +2.3] AP" in smaller
    (tmp_path / "selectors-voc.json").unlink()
    stored("throughput-cpu", *throughput(profile="voc-512", batch=8))
    assert "doesn't hold everywhere on our CPU**: 1.10x at batch 8" in module.in_short()[1]
    fast = [row | {"speedup": 1.31} for row in throughput(profile="voc-512", batch=8)]
    stored("throughput-cpu", *fast)
    assert "throughput holds on our CPU" in module.in_short()[1]
    common = {"part": "all", "time": "latency_512_ms_b1", "n_images": 800}
    ends = [(0.1, 0.2), (-0.1, 0.1), (-0.3, -0.2)]
    rows = [common | {"speed": 1.0 + low, "delta_low": low, "delta_high": high, "family": family, "trained": "tuned"}
            for low, high in ends for family in ("inside", "resolution")]  # fmt: skip
    only_ours = {"speed": 2.0, "delta_low": 0.1, "delta_high": 0.2}
    rows += [common | only_ours | {"family": family, "trained": trained}
             for family, trained in (("inside", "tuned"), ("resolution", "frozen"))]  # fmt: skip
    save_rows("inside-voc", "frontier", rows, SOURCE, tmp_path)
    assert "clearly ahead at 1, clearly behind at 1 of 3 speeds" in module.in_short()[2]


def test_they_fit_a_terminal_of_a_hundred_columns_and_nothing_is_cut():
    table = headlines(get_profile("coco"))
    text = as_text(table)
    assert max(map(len, text.splitlines())) == 100
    starts = [0, *np.cumsum([width + 2 for width in module._WIDTHS.values()])]
    blocks = text.split("-" * 100 + "\n")[1:]
    for block, row in zip(blocks, table.itertuples(index=False), strict=True):
        shown = ["".join(line[a:b] for line in block.splitlines()) for a, b in pairwise(starts)]
        assert [cell.replace(" ", "").strip("-") for cell in shown] == [
            cell.replace(" ", "").strip("-") for cell in row
        ]


def test_the_readmes_rows_are_up_to_date():
    text = (REPO / "README.md").read_text(encoding="utf-8")
    assert text == with_headlines(text), "run `bavit readme`"


def test_a_readme_without_marks_is_refused():
    with pytest.raises(ValueError, match="results:begin"):
        with_headlines("# no marks")
