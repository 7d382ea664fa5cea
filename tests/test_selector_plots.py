"""Figures and tables of the comparison of selectors, from made-up rows."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from bavit_utils.results import NOT_RUN
from bavit_utils.selector_plots import comparison_figure, context_figure, selector_title, typical_pictures
from bavit_utils.selector_tables import comparison_table, context_table, verdicts


def _row(selector, budget, change, to_bavit=0.0, seed=0, share=0.8, **other):
    delta = {"delta_AP": change, "delta_AP_low": change - 0.01, "delta_AP_high": change + 0.01}
    paired = None if to_bavit is None else to_bavit
    for name, low, high in (
        ("delta_to_bavit", "delta_low", "delta_high"),
        ("delta_at_gmacs", "at_gmacs_low", "at_gmacs_high"),
        ("delta_at_paper_share", "at_paper_share_low", "at_paper_share_high"),
    ):
        delta |= {name: paired, low: paired and paired - 0.01, high: paired and paired + 0.01}
    scored = not selector.startswith(("tome", "resolution", "dense"))
    return {
        "selector": selector, "seed": seed, "budget": budget, "sparsity": budget if scored else None,
        "sparsity_reached": budget, "gmacs": share, "share": share, "paper_share": share - 0.1, "AP": 0.4 + change,
        "AP50": 0.7 + change, "fg_recall": 0.9 if scored else None, "latency_ms_b1": 30 * share,
        "paper_latency_ms_b1": 200 * share, "n_images": 200, **delta, **other,
    }  # fmt: skip


@pytest.fixture
def rows():
    made = [_row("dense", None, 0.0, None, share=1.0), _row("resolution-224", None, -0.03, 0.05, share=0.75)]
    for budget, change in ((0.35, -0.03), (0.05, -0.01)):
        made += [
            _row("bavit-small", budget, change),
            _row("contrast", budget, change - 0.02, -0.02),
            _row("tome", budget, change + 0.02, 0.02),
            _row("oracle-exact", budget, change + 0.005, 0.005),
            _row("oracle-mask", budget, change - 0.01, -0.01),
            _row("oracle-near", budget, change + 0.02, 0.02),
        ]
        made += [_row("random", budget, change - 0.1 + 0.01 * seed, -0.1, seed=seed) for seed in range(5)]
    return pd.DataFrame(made)


def test_the_table_has_every_selector_and_says_what_was_not_run(rows):
    table = comparison_table(rows).set_index("selector")
    assert table.loc["random, five seeds", "AP"] == "29.0"  # the mean of 0.27 to 0.31
    assert table.loc["local contrast", "from BAViT-small, same budget"] == "-2.0 [-3.0, -1.0]"
    assert table.loc["resolution 224 px", "multiply-adds, %"] == "75" and table.loc["dense", "AP"] == "40.0"
    assert table.loc["true labels", "kind"] == "bound" and table.loc["true labels", "time, ms"] == "–"
    assert table.loc["Focus DETR's scoring", "AP"] == NOT_RUN
    assert table.loc["resolution 224 px", "kind"] == "smaller picture"


def test_a_method_that_cannot_be_so_cheap_is_not_called_not_run(rows):
    table = comparison_table(rows[(rows["selector"] != "tome") | (rows["budget"] != 0.35)]).set_index("selector")
    assert table.loc["ToMe's merging", "AP"] == "too dear"


def test_verdicts_count_intervals_that_leave_out_zero(rows):
    counts = verdicts(rows).set_index("selector")
    assert counts.loc["ToMe's merging", "same budget"] == "2 / 0 / 0"
    assert counts.loc["local contrast", "same multiply-adds"] == "0 / 0 / 2"
    bound = counts.loc["true labels"]
    assert bound["same budget"] == "0 / 2 / 0" and bound["same multiply-adds"] == "–"
    assert counts.loc["random, five seeds", "same budget"] == "0 / 0 / 2"  # seeds are one
    assert "BAViT-small" not in counts.index


def test_the_context_is_what_true_background_costs(rows):
    table = context_table(rows, (0.05, 0.2, 0.35))
    assert table["sparsity, %"].tolist() == ["5", "35"]  # nothing is made up for 20 %
    assert table["BAViT's mistakes"].tolist() == ["-0.5 [-1.5, +0.5]"] * 2 and table["true background"][0] == "-0.5 [-1.5, +0.5]"


def test_figures_draw_what_there_is(rows):
    fig = comparison_figure(rows)
    labels = {text.get_text() for text in fig.legends[0].get_texts()}
    assert {"BAViT-small", "lower resolution", "random, five seeds", "true labels"} <= labels
    assert "Focus DETR's scoring" not in labels and "true masks, on BAViT's grid" not in labels
    sparsity, latency, here, paper = fig.axes
    drawn = [{line.get_label() for line in ax.get_lines()} for ax in fig.axes]
    assert "true labels" in drawn[0] and all("true labels" not in one for one in drawn[1:])
    assert "lower resolution" not in drawn[0] and all("lower resolution" in one for one in drawn[1:])
    bavit = next(line for line in latency.get_lines() if line.get_label() == "BAViT-small")
    assert bavit.get_xdata().max() == pytest.approx(0.8)  # of the dense detector's time
    fig = context_figure(rows)
    assert [line.get_label() for line in fig.axes[0].get_lines()][:4] == [
        "true labels, far background first", "true labels", "BAViT-small", "random, five seeds",
    ]  # fmt: skip
    plt.close("all")


def test_titles_and_typical_pictures():
    assert selector_title("resolution-448") == "resolution 448 px" and selector_title("dense") == "dense"
    assert typical_pictures([0.1, 0.9, 0.5, 0.3, 0.7], 3) == [3, 2, 4]
