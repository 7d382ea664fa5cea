"""Each status follows from numbers: with other numbers, the paper's or measured ones, a check comes out differently."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from bavit_utils.claims import CLAIMS, Status, accuracy, base, bavit, cost, detector, labels, method, table2
from bavit_utils.config import get_profile
from bavit_utils.paper import PAPER
from bavit_utils.results import load_rows

REPRODUCED, DIRECTION, PARTLY, NOT_CONFIRMED, CONTRADICTED, UNSPECIFIED, SLIP, NOT_RUN = Status


def outcome(number: int) -> tuple[Status, str]:
    return CLAIMS[number - 1].outcome()


@pytest.fixture
def edit(monkeypatch):
    """Changes rows of a result file that have some values, as the claims read it; or gives the whole file's rows.

    Detections are the sample world's alone, and there are no selectors: tests make these up.
    """
    files: dict[str, pd.DataFrame] = {}

    def rows_of(name: str) -> pd.DataFrame:
        hidden = name.startswith(("table2", "selectors")) and name != "table2-sample"
        return files.get(name, pd.DataFrame() if hidden else load_rows(name))

    def load(name: str, **where) -> pd.DataFrame:
        rows = rows_of(name)
        for key, value in where.items():
            rows = rows[rows[key].isin(value if isinstance(value, list | tuple) else [value])] if len(rows) else rows
        return rows

    def change(name: str, where: dict, values: dict, source: str | None = None) -> None:
        rows = rows_of(source or name).copy()
        touched = pd.Series(True, rows.index)
        for key, value in where.items():
            touched &= rows[key] == value
        assert touched.any(), (name, where)
        for key, value in values.items():
            rows.loc[touched, key] = value
        files[name] = rows

    change.whole = lambda name, rows: files.__setitem__(name, pd.DataFrame(rows))
    monkeypatch.setattr(base, "load_rows", load)
    return change


# With these numbers of the paper, the claim would be right.
@pytest.mark.parametrize(
    ("number", "module", "numbers"),
    [
        (11, accuracy, {"abstract_accuracy": (0.76, 0.89, 0.71, 0.81)}),
        (13, cost, {"bavit_parameters": 1.15e6}),
        (14, cost, {"bavit_flops": 1.70e9}),
        (15, cost, {"yolos_flops": 23.9e9}),
        (16, cost, {"detector_tokens": 1344}),
        (23, table2, {"text_row": (0.35, 0.256, 0.044)}),
        (24, table2, {"drop": 0.045}),
        (25, table2, {"drop_finetuned": 0.025}),
    ],
)
def test_another_number_of_the_paper_changes_the_status(number, module, numbers, monkeypatch):
    before, _ = outcome(number)
    monkeypatch.setattr(module, "PAPER", replace(PAPER, **numbers))
    after, finding = outcome(number)
    assert before != REPRODUCED and after == REPRODUCED, finding


@pytest.mark.parametrize(
    ("number", "module", "numbers", "status"),
    [
        (5, labels, {"bavit_tokens": 500}, CONTRADICTED),  # then nothing says which grid is meant
        (10, accuracy, {"coco_background_share": 0.6}, DIRECTION),
        (19, cost, {"focus_detr_parameters": 96e6}, PARTLY),
        (21, table2, {}, SLIP),
        (26, table2, {"throughput_gain": (0.18, 0.20)}, DIRECTION),
        (34, method, {"bavit_tokens": 500}, CONTRADICTED),
        (54, detector, {"throughput_gain": (0.10, 0.20)}, DIRECTION),
    ],
)
def test_numbers_of_the_paper_give_other_statuses(number, module, numbers, status, monkeypatch):
    monkeypatch.setattr(module, "PAPER", replace(PAPER, **numbers))
    found, finding = outcome(number)
    assert found == status, finding


ALIKE = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9}
FAR = {"delta_low": 0.1, "delta_high": 0.2, "delta_AP": 0.15}
NO_LOSS = {"delta_AP": 0.0, "delta_low": -0.001, "delta_high": 0.001}
GREAT_LOSS = {"delta_AP": -0.1, "delta_low": -0.12, "delta_high": -0.08}
SLOW = {"median_ms": 1e6, "q25_ms": 1e6, "q75_ms": 1e6}
# (number, file, which rows, new values, status that comes out)
EDITS = [
    (3, "ablation-rule", {"rule": "mask"}, ALIKE, PARTLY),
    (4, "ablation-pictures", {"n_train": 80}, ALIKE, PARTLY),
    (8, "table1", {"dataset": "coco", "recipe": "paper"}, {"accuracy": 0.7705}, PARTLY),
    (10, "table1", {"dataset": "coco"}, {"fg_share": 0.6}, DIRECTION),
    (10, "table1", {"dataset": "coco"}, {"fg_share": 0.6, "n_images": 5000}, REPRODUCED),
    (20, "throughput-cpu", {}, {"q25_ms": 1.0, "q75_ms": 1e6}, PARTLY),
    (26, "throughput-cpu", {"method": "gather"}, SLOW, NOT_CONFIRMED),
    (29, "table2-sample", {"resize": "any"}, FAR, UNSPECIFIED),
    (36, "table2-sample", {"detector": "yolos"}, NO_LOSS, DIRECTION),
    (36, "table2-sample", {"spared": 0.25}, GREAT_LOSS, NOT_CONFIRMED),
    (37, "calibration-coco", {"kind": "sparsity-of-pictures"}, {"above_70_low": 0.3, "above_70_high": 0.5}, DIRECTION),
    (
        37,
        "calibration-coco",
        {"kind": "sparsity-of-pictures"},
        {"above_70_low": 0.1, "above_70_high": 0.2},
        NOT_CONFIRMED,
    ),
    (40, "table1", {"model": "bavit-small", "dataset": "coco"}, {"accuracy_low": 0.7, "accuracy_high": 0.72}, PARTLY),
    (
        40,
        "table1",
        {"model": "bavit-small", "dataset": "voc2007"},
        {"accuracy_high": 0.75, "accuracy_low": 0.7},
        PARTLY,
    ),
    (42, "table1", {"depth": 10}, ALIKE, PARTLY),
    (44, "ablation-depth", {"depth": 10}, {"accuracy": 0.6, "accuracy_low": 0.55, "accuracy_high": 0.65}, PARTLY),
    (47, "postprocessing-coco", {"step": 3}, {"accuracy": 0.9}, PARTLY),
    (48, "postprocessing-coco", {"step": 3}, {"accuracy": 0.99}, PARTLY),
    (51, "table2-sample", {"sparsity": 0.35}, GREAT_LOSS, NOT_CONFIRMED),
    (51, "table2-sample", {"sparsity": 0.35}, {"delta_low": -0.1}, PARTLY),
    (
        52,
        "calibration-coco",
        {"split": "held-out"},
        {"sparsity": 0.6, "sparsity_low": 0.59, "sparsity_high": 0.61},
        PARTLY,
    ),
    (53, "table2-sample", {"sparsity": 0.35}, GREAT_LOSS, NOT_CONFIRMED),
    (53, "table2-sample", {"sparsity": 0.35}, {"delta_low": -0.1}, PARTLY),
    (54, "throughput-cpu", {"method": "gather"}, SLOW, NOT_CONFIRMED),
    (54, "throughput-cpu", {"method": "gather"}, {"median_ms": 10, "q25_ms": 9, "q75_ms": 11}, DIRECTION),
    (55, "throughput-cpu", {"method": "gather"}, {"peak_mb": 1.0}, DIRECTION),
    (55, "throughput-cpu", {"method": "gather"}, {"peak_mb": 1e4}, NOT_CONFIRMED),
    (57, "table2-sample", {"detector": "yolos-control"}, {"AP": 0.55, "AP_low": 0.54, "AP_high": 0.56}, NOT_CONFIRMED),
]


@pytest.mark.parametrize(("number", "name", "where", "values", "status"), EDITS, ids=lambda value: str(value)[:30])
def test_stored_numbers_decide_the_status(number, name, where, values, status, edit):
    before = outcome(number)[1]
    edit(name, where, values)
    after, finding = outcome(number)
    assert after == status and finding != before, finding


def test_rows_of_coco_settle_what_only_coco_can(edit):
    assert {outcome(number)[0] for number in (27, 39)} == {NOT_RUN}
    edit("table2-coco", {}, {"n_images": PAPER.n_val_images, "AP": 0.288} | NO_LOSS, source="table2-sample")
    assert {outcome(number)[0] for number in (27, 39, 53)} == {REPRODUCED}
    edit("table2-sample", {}, GREAT_LOSS)  # with COCO there, other data count no longer
    assert outcome(53)[0] == REPRODUCED
    edit("table2-coco", {}, {"n_images": 200, "AP": 0.2} | GREAT_LOSS)
    assert [outcome(number)[0] for number in (27, 39, 53)] == [NOT_CONFIRMED, PARTLY, CONTRADICTED]


def test_a_large_bavit_is_held_to_every_set_of_photographs(edit):
    assert outcome(41)[0] == PARTLY and "COCO: not run here" in outcome(41)[1]
    row = {"model": "bavit-large", "depth": 10, "majority": 0.6, "n_images": 400}

    def store(*each: tuple) -> None:
        sets = [
            {
                "dataset": d,
                "rule": r,
                "recipe": recipe,
                "accuracy": a,
                "accuracy_low": a - 0.01,
                "accuracy_high": a + 0.01,
            }
            for d, r, recipe, a in each
        ]
        edit.whole("table1", [row | one for one in sets])

    store(("voc2007", "box", "best-256", 0.849), ("coco", "mask", "best", 0.83))
    assert outcome(41)[0] == PARTLY and "the VOC2007 re-split by box labels, half scale: 84.9" in outcome(41)[1]
    store(("voc2007", "box", "best", 0.92), ("coco", "mask", "best", 0.83))
    edit("ablation-depth", {"depth": 10}, {"accuracy_low": 0.9})
    assert outcome(41)[0] == DIRECTION
    store(("voc2007", "box", "best", 0.7), ("coco", "mask", "best", 0.7))
    edit("ablation-depth", {"depth": 10}, {"accuracy_low": 0.6, "accuracy_high": 0.7})
    assert outcome(41)[0] == NOT_CONFIRMED


def selectors(**changes) -> list[dict]:
    """Rows of `selectors-<profile>.json`; `changes` are differences from BAViT with their interval, by selector."""
    differences = {
        "random": (-0.1, -0.12, -0.08), "oracle-exact": (0.001, -0.01, 0.01), "focus-detr": (-0.005, -0.01, 0.002),
        "bavit-large": (0.001, -0.001, 0.004), "resolution-192": (-0.02, -0.03, -0.01), "tome": (-0.02, -0.03, -0.01),
    } | {key.replace("_", "-"): value for key, value in changes.items()}  # fmt: skip
    rows = []
    for selector, values in differences.items():
        cheaper = selector.startswith(("resolution", "tome"))
        names = ("delta_at_paper_share", "at_paper_share_low", "at_paper_share_high")
        names = names if cheaper else ("delta_to_bavit", "delta_low", "delta_high")
        row = {
            "selector": selector,
            "gmacs": 0.8,
            "AP": 0.4,
            "delta_AP": 0.0,
            "budget": 0.35 if selector == "tome" else None,
        }
        for sparsity in (None,) if cheaper else (0.05, 0.35):
            rows.append(row | {"sparsity": sparsity} | dict(zip(names, values, strict=True)))
    return rows


BETTER = (0.02, 0.01, 0.03)


def test_a_good_trade_off_beats_chance_and_what_needs_no_second_network(edit):
    assert outcome(35)[0] == NOT_RUN
    edit.whole("selectors-sample", selectors())
    found, finding = outcome(35)
    assert found == DIRECTION and "random -10.0" in finding and "resolution-192 -2.0" in finding
    edit.whole("selectors-sample", selectors(tome=(0.001, -0.01, 0.01)))
    assert outcome(35)[0] == PARTLY
    for rival in ("tome", "resolution_192", "random"):
        edit.whole("selectors-sample", selectors(**{rival: BETTER}))
        assert outcome(35)[0] == NOT_CONFIRMED, rival
    edit.whole("selectors-voc", selectors())
    assert outcome(35)[0] == PARTLY  # on one of two data sets


def test_the_first_five_percent_need_the_true_labels_beside_them(edit):
    assert outcome(28)[0] == NOT_RUN
    edit.whole("selectors-sample", selectors())
    edit("table2-sample", {"sparsity": 0.05}, {"delta_AP": 0.002, "delta_low": 0.001, "delta_high": 0.003})
    found, finding = outcome(28)
    assert found == NOT_CONFIRMED and "oracle-exact +0.1 [-1.0, +1.0]" in finding and "focus" not in finding
    edit("table2-sample", {"sparsity": 0.05}, {"delta_AP": -0.015, "delta_low": -0.02, "delta_high": -0.01})
    assert outcome(28)[0] == DIRECTION


def test_similar_is_neither_clearly_worse_nor_clearly_better(edit):
    for difference, status in {
        (0.001, -0.005, 0.006): DIRECTION,
        (-0.005, -0.03, 0.02): PARTLY,
        (0.05, 0.04, 0.06): NOT_CONFIRMED,
        (-0.05, -0.06, -0.04): NOT_CONFIRMED,
    }.items():
        edit.whole("selectors-sample", selectors(focus_detr=difference))
        assert outcome(46)[0] == status, difference
    edit.whole("selectors-sample", selectors(bavit_large=(0.05, 0.04, 0.06)))
    assert outcome(12)[0] == NOT_CONFIRMED  # neither in accuracy nor in AP does Fig. 4's model stand for Table 2's


def test_a_sum_instead_of_the_mean_is_noticed(monkeypatch):
    mean = accuracy.accumulative_cross_entropy
    monkeypatch.setattr(accuracy, "accumulative_cross_entropy", lambda *args: 2 * mean(*args))
    assert outcome(7)[0] == CONTRADICTED


def test_labels_by_another_rule_are_noticed(monkeypatch):
    by_rule = labels.labels_from_boxes
    monkeypatch.setattr(
        labels, "labels_from_boxes", lambda boxes, size, grid, rule="coverage", **tau: by_rule(boxes, size, grid, **tau)
    )
    assert outcome(1)[0] == REPRODUCED


def test_a_fill_that_removes_foreground_is_noticed(monkeypatch):
    monkeypatch.setattr(method, "fill_neighbours", lambda keep, *_: torch.zeros_like(keep))
    assert outcome(32)[0] == REPRODUCED  # it would correct what the caption says
    monkeypatch.setattr(method, "fill_neighbours", lambda keep, *_: keep)
    assert (outcome(31)[0], outcome(32)[0]) == (REPRODUCED, CONTRADICTED)


def test_an_even_grid_is_noticed(monkeypatch):
    monkeypatch.setattr(method, "_WIDE_ROWS", 2 * method._ROWS)
    assert outcome(30)[0] == REPRODUCED


def test_a_detector_that_reads_pruned_patches_is_noticed(monkeypatch):
    assert outcome(50)[0] == REPRODUCED

    class Dense(detector.PrunedYolos):
        def forward(self, pictures, keep=None, **kwargs):
            return super().forward(pictures, None, **kwargs)

    class Halved(detector.PrunedYolos):
        def forward(self, pictures, keep=None, **kwargs):
            return super().forward(pictures / 2, keep, **kwargs)

    monkeypatch.setattr(detector, "PrunedYolos", Dense)
    found, finding = outcome(50)
    assert found == CONTRADICTED and "are zeros: no" in finding and "change nothing: no" in finding
    monkeypatch.setattr(detector, "PrunedYolos", Halved)
    assert outcome(51)[0] == CONTRADICTED


def test_pictures_of_several_classes_need_the_checkpoint_and_as_good_an_answer(monkeypatch, tmp_path):
    monkeypatch.setattr(
        bavit, "foreground_maps", lambda _, images: torch.zeros(len(images), *get_profile("sample").bavit_grid)
    )
    assert outcome(43)[0] == DIRECTION and "about 50 %" in outcome(43)[1]
    by_number = iter((0.9, 0.8))
    monkeypatch.setattr(bavit, "token_metrics", lambda *_, **__: {"balanced_accuracy": next(by_number)})
    assert outcome(43)[0] == NOT_CONFIRMED
    monkeypatch.setattr("bavit_utils.config.CHECKPOINTS", tmp_path)
    assert outcome(43)[0] == NOT_RUN
