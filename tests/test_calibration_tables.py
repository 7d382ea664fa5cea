"""Tables say what their rows do, in per cent, and what was not run."""

import pytest
import torch

from bavit_utils import calibration_tables as tables
from bavit_utils.experiments.calibration import calibration_rows
from bavit_utils.experiments.postprocessing import papers_setting, postprocessing_rows
from bavit_utils.results import NOT_RUN, load_rows, save_rows

DELTA = ["delta_fg_recall", "delta_fg_recall_low", "delta_fg_recall_high"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Calibration and post-processing, of "here" as they come from disk; "there" has none."""
    folder = tmp_path_factory.mktemp("results")
    maps = torch.rand(12, 6, 6, generator=torch.Generator().manual_seed(0))
    pictures = maps, (maps + 0.3 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(1)) > 0.6).long()
    save_rows("calibration", "a-run", calibration_rows(*pictures, *pictures, n_boot=20), {}, folder)
    save_rows("postprocessing", "a-run", postprocessing_rows(*pictures, n_boot=20), {}, folder)
    return [
        {"here": load_rows(name, folder), "there": load_rows(name, folder, run="none")}
        for name in ("calibration", "postprocessing")
    ]


def judged(frame, **values):
    frame = frame.copy()
    frame.loc[papers_setting(frame).index, list(values)] = list(values.values())
    return frame


def test_an_interval_is_shown_in_per_cent():
    assert tables.shown_interval({"a": 0.98, "a_low": 0.9744, "a_high": 0.9851}, "a") == "98.0 [97.4, 98.5]"


@pytest.mark.parametrize(
    "low, high, expects", [(0.01, 0.1, "too much"), (-0.1, -0.01, "too little"), (-0.1, 0.1, "as")]
)
def test_error_table_says_which_way_the_probabilities_are_off(stored, low, high, expects):
    frame = stored[0]["here"].copy()
    frame.loc[frame.kind == "calibration-error", ["bias_low", "bias_high"]] = low, high
    table = tables.error_table({"here": frame, "there": stored[0]["there"]})
    assert table["BAViT expects"][0].startswith(expects) and table["pictures"][0] == 12
    assert table.iloc[1, :2].tolist() == ["there", NOT_RUN]


def test_operating_table_says_whether_the_promise_is_kept(stored):
    frame = stored[0]["here"].copy()
    held_out = frame.split == "held-out"
    frame.loc[held_out, ["fg_recall", "fg_recall_low", "fg_recall_high"]] = 0.979, 0.97, 0.99
    table = tables.operating_table({"here": frame, "also": stored[0]["here"], "there": stored[0]["there"]})
    assert table["keeps the promise"].tolist()[:2] == [False, True]
    assert table["FG kept"][0] == "97.9 [97.0, 99.0]"
    assert table["threshold"].str.startswith(f"{frame[held_out].threshold.iloc[0]:.3f} [").tolist()[:2] == [True, True]
    assert table["threshold"][2] == NOT_RUN


def test_sparsity_table_has_labels_and_both_thresholds(stored):
    table = tables.sparsity_table(stored[0])
    assert table["by"].tolist()[:2] == ["the labels", "threshold 0.5"] and table["by"][3] == NOT_RUN
    mean = stored[0]["here"].query("kind == 'sparsity-of-pictures'")["mean"]
    assert table["mean"].tolist()[:3] == [f"{100 * value:.0f}" for value in mean]


def test_steps_and_settings_show_the_difference(stored):
    rows = stored[1] | {"here": judged(stored[1]["here"], **dict(zip(DELTA, (0.1, 0.05, 0.2))), sparsity=0.4)}
    steps, settings = tables.steps_table(rows), tables.settings_table(rows)
    assert steps["step"].tolist()[:6] == [0, 1, 2, 3, 4, 5] and steps["step"][6] == NOT_RUN
    assert steps["fill less threshold"][3] == "10.0 [5.0, 20.0]" and steps["pruned"][3] == "40.0"
    assert len(settings) == 8 and settings["there"].eq(NOT_RUN).all() and settings["here"].ne(NOT_RUN).all()
    assert settings.query("neighbours == 8 and `more than` == 2")["here"].item() == "10.0 [5.0, 20.0] at 40%"


@pytest.mark.parametrize(
    "delta, accuracy, says",
    [
        ((0.1, 0.05, 0.2), 1.0, "higher than without a fill, and at equal sparsity a moved threshold keeps less"),
        ((-0.1, -0.2, -0.05), 0.1, "lower than without a fill, and at equal sparsity a moved threshold keeps more"),
        ((0.1, -0.2, 0.2), 0.1, "lower than without a fill, and at equal sparsity a moved threshold keeps neither"),
    ],
)
def test_verdict_is_that_of_the_interval(stored, delta, accuracy, says):
    frame = judged(stored[1]["here"], **dict(zip(DELTA, delta)), accuracy=accuracy)
    words, table = tables.verdict(frame), tables.verdict_table({"here": frame, "there": stored[1]["there"]})
    assert says in words and words.endswith("earns its place" if delta[1] > 0 else "does not earn its place")
    assert table["earns its place"][0] == (delta[1] > 0)
    better = (frame[frame.step > 0].delta_fg_recall_low > 0).sum()
    assert table["settings that do"][0] == f"{better} of 40" and table["pruned"][1] == NOT_RUN


def test_nothing_stored_is_said(stored):
    nothing = {"there": stored[1]["there"]}
    assert tables.verdict_table(nothing).to_numpy().tolist() == [["there", NOT_RUN]]
    assert tables.verdict(nothing["there"]) == NOT_RUN
