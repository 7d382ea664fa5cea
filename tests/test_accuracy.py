"""Table 1: seeds averaged, recipes apart, what was not run said so; and its figures."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from bavit_utils import accuracy
from bavit_utils.accuracy import DATA_NOTES, table1
from bavit_utils.accuracy_plots import ablation_figure, table1_figure
from bavit_utils.results import NOT_RUN, load_rows


def row(**changes) -> dict:
    return {
        "model": "bavit-small", "dataset": "coco", "rule": "mask", "recipe": "best", "seed": 0, "accuracy": 0.75,
        "accuracy_low": 0.7, "accuracy_high": 0.8, "majority": 0.6, "balanced_accuracy": 0.7, "auroc": 0.8,
        "fg_recall_at_35": 0.9, "n_train": 10, "n_images": 5, "train_s": 120.0, "device": "a machine",
    } | changes  # fmt: skip


@pytest.fixture
def stored(monkeypatch):
    rows = [row(), row(seed=1, accuracy=0.77), row(recipe="paper", accuracy=0.7), row(rule="box", accuracy=0.65)]
    monkeypatch.setattr(accuracy, "load_rows", lambda name: pd.DataFrame(rows))


def test_seeds_are_averaged_and_recipes_kept_apart(stored):
    table = table1(("coco",)).set_index(["model", "labels", "recipe"])
    best = table.loc["bavit-small", "mask", "best"]
    assert best["ours (%)"] == "76.0" and best["seeds"] == 2 and best["± seeds"] == pytest.approx(2**0.5)
    assert best["95 % interval"] == "70.0 to 80.0" and best["minutes"] == 2 and best["paper (%)"] == 70.88
    paper = table.loc["bavit-small", "mask", "paper"]
    assert paper["ours (%)"] == "70.0" and paper["seeds"] == 1 and pd.isna(paper["± seeds"])
    assert table.loc["bavit-small", "box", "best"]["ours (%)"] == "65.0"
    assert table.loc["bavit-large", "mask", "best"]["ours (%)"] == NOT_RUN


def test_every_combination_has_a_row(monkeypatch):
    monkeypatch.setattr(accuracy, "load_rows", lambda name: pd.DataFrame())
    table = table1()
    assert len(table) == 4 * 4 + 2 and set(table["ours (%)"]) == {NOT_RUN}
    assert set(table["data set"]) == {dataset for dataset, _ in DATA_NOTES}
    assert table[table["data set"] == "voc2007"]["paper (%)"].tolist() == pytest.approx([75.93, 75.93, 88.79, 88.79])
    assert table[table["data set"] == "sample"]["paper (%)"].isna().all()


def test_the_stored_rows_make_a_figure():
    table = table1()
    figure = table1_figure(table)
    run = (table["ours (%)"] != NOT_RUN).sum()
    assert len(figure.axes[0].get_yticklabels()) == run >= 2
    plt.close(figure)


def test_an_ablation_of_labels_shows_the_auroc_by_masks():
    rows = pd.DataFrame([row(value=name, mask_auroc=0.9) for name in ("mask > 10 %", "box ≥ 50 %")])
    for what, panels in (("rule", 2), ("depth", 1), ("pictures", 1)):
        figure = ablation_figure(what, rows)
        assert len(figure.axes) == panels
        ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert ticks == (["10", "10"] if what == "pictures" else ["mask > 10 %", "box ≥ 50 %"])
        plt.close(figure)


@pytest.mark.parametrize("what", ["depth", "size", "init", "pictures", "rule", "recipe"])
def test_stored_ablations_hold_one_row_a_variant(what):
    rows = load_rows(f"ablation-{what}")
    if not len(rows):
        pytest.skip(f"ablation-{what}: {NOT_RUN}")
    assert set(rows.what) == {what} and not rows.duplicated(["dataset", "seed", "value"]).any()
