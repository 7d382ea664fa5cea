"""With other numbers of the paper, or code that does something else, a check comes out differently."""

from dataclasses import replace

import pytest
import torch

from bavit_utils.claims import CLAIMS, Status, accuracy, bavit, cost, detector, labels, method, table2
from bavit_utils.config import get_profile
from bavit_utils.paper import PAPER

REPRODUCED, DIRECTION, PARTLY, NOT_CONFIRMED, CONTRADICTED, UNSPECIFIED, SLIP, NOT_RUN = Status


def outcome(number: int) -> tuple[Status, str]:
    return CLAIMS[number - 1].outcome()


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
        (19, cost, {"focus_detr_parameters": 96e6}, PARTLY),
        (21, table2, {}, SLIP),
        (34, method, {"bavit_tokens": 500}, CONTRADICTED),
    ],
)
def test_numbers_of_the_paper_give_other_statuses(number, module, numbers, status, monkeypatch):
    monkeypatch.setattr(module, "PAPER", replace(PAPER, **numbers))
    found, finding = outcome(number)
    assert found == status, finding


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
