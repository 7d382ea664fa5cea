"""Table 1 beside ours: seeds averaged, recipes and sizes apart, and the paper's rows that nobody trained."""

import pandas as pd
import pytest

from bavit_utils.experiments import accuracy
from bavit_utils.experiments.accuracy import table1


def row(**changes) -> dict:
    return {
        "model": "bavit-small", "dataset": "coco", "rule": "mask", "recipe": "best", "seed": 0, "accuracy": 0.75,
        "accuracy_low": 0.7, "accuracy_high": 0.8, "majority": 0.6, "balanced_accuracy": 0.7, "auroc": 0.8,
        "fg_recall_at_35": 0.9, "n_train": 10, "n_images": 5, "train_s": 120.0,
    } | changes  # fmt: skip


def of(rows: list[dict], monkeypatch) -> pd.DataFrame:
    monkeypatch.setattr(accuracy, "load_rows", lambda name: pd.DataFrame(rows))
    return table1().set_index(["model", "dataset", "rule", "recipe"]).sort_index()


def test_seeds_are_averaged_and_the_interval_is_the_first_seeds(monkeypatch):
    rows = [row(seed=1, accuracy=0.77, accuracy_low=0.1, train_s=240.0), row(), row(recipe="paper", accuracy=0.7)]
    table = of(rows, monkeypatch)
    best, paper = table.loc["bavit-small", "coco", "mask", "best"], table.loc["bavit-small", "coco", "mask", "paper"]
    assert best.accuracy == pytest.approx(0.76) and best.seeds == 2 and best.seed_std == pytest.approx(0.02 / 2**0.5)
    assert best.accuracy_low == 0.7 and best.minutes == 3 and best.paper == 0.7088 and best.img_size == 384
    assert paper.accuracy == 0.7 and paper.seeds == 1 and pd.isna(paper.seed_std)


def test_a_year_of_voc_meets_the_papers_voc_and_half_the_side_is_a_row_of_its_own(monkeypatch):
    voc = {"dataset": "voc2007", "rule": "box", "model": "bavit-large"}
    table = of([row(**voc), row(**voc, recipe="best-256"), row(dataset="sample")], monkeypatch)
    sides = table.loc["bavit-large", "voc2007", "box"]
    assert sides.img_size.to_dict() == {"best": 384, "best-256": 192} and (sides.paper == 0.8879).all()
    sample = table.loc["bavit-small", "sample", "mask", "best"]
    assert pd.isna(sample.paper) and sample.accuracy == 0.75 and sample.img_size == 192


@pytest.mark.parametrize("rows", [[], [row()]])
def test_what_was_not_trained_stands_there_without_ours(rows, monkeypatch):
    table = of(rows, monkeypatch).reset_index()
    assert len(table) == 4 and table.paper.notna().all() and table.accuracy.notna().sum() == len(rows)
    assert set(zip(table.model, table.dataset)) == {
        (model, data) for model in ("bavit-small", "bavit-large") for data in ("voc", "coco")
    }
