"""Tables of calibration and post-processing as a reader sees them, and the verdict on the appendix's fill.

Each function takes, by data set, the stored rows of one BAViT (`results.load_rows`), empty where there are none: the
table then says `results.NOT_RUN`. Shares are shown in per cent, with 95 % intervals over pictures in brackets.
"""

from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from .experiments.postprocessing import papers_setting
from .paper import PAPER
from .results import NOT_RUN


def shown_interval(row: pd.Series | Mapping, name: str) -> str:
    """A column and its interval (`calibration.with_interval`), in per cent: "98.0 [97.4, 98.5]"."""
    value, low, high = (100 * row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def error_table(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The calibration error, and whether BAViT expects more foreground than there is, of `calibration_rows`."""

    def lines(frame: pd.DataFrame) -> Iterable[dict]:
        error = frame[frame["kind"] == "calibration-error"].iloc[0]
        too_much, too_little = error["bias_low"] > 0, error["bias_high"] < 0
        yield {
            "calibration error (%)": shown_interval(error, "ece"),
            "expected less true FG (points)": shown_interval(error, "bias"),
            "BAViT expects": "too much" if too_much else "too little" if too_little else "as much as there is",
            "pictures": int(error["n_images"]),
        }

    return _table(rows, lines)


def operating_table(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The chosen threshold, what it promised on dev pictures and what it does held-out, of `calibration_rows`."""

    def lines(frame: pd.DataFrame) -> Iterable[dict]:
        dev, held_out = (frame[frame["split"] == split].iloc[0] for split in ("dev", "held-out"))
        yield {
            "threshold": f"{dev['threshold']:.3f} [{dev['threshold_low']:.3f}, {dev['threshold_high']:.3f}]",
            "chosen on": int(dev["n_images"]),
            "FG kept there": shown_interval(dev, "fg_recall"),
            "held-out": int(held_out["n_images"]),
            "FG kept": shown_interval(held_out, "fg_recall"),
            "keeps the promise": bool(held_out["fg_recall"] >= 1 - held_out["most_lost"]),
            "pruned": shown_interval(held_out, "sparsity"),
            "pictures that lose more": f"{100 * held_out['pictures_short']:.0f}",
        }

    return _table(rows, lines)


def sparsity_table(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How sparsity is spread over pictures, by the labels and at two thresholds, of `calibration_rows`."""
    columns = {"mean": "mean", "q05": "5 % lie below", "q50": "half lie below", "q95": "95 % lie below"}

    def lines(frame: pd.DataFrame) -> Iterable[dict]:
        for _, row in frame[frame["kind"] == "sparsity-of-pictures"].iterrows():
            yield {
                "by": "the labels" if row["of"] == "labels" else f"threshold {row['threshold']:.3g}",
                **{shown: f"{100 * row[column]:.0f}" for column, shown in columns.items()},
                f"pictures above {PAPER.sparsity_of_many_images:.0%}": shown_interval(row, "above_70"),
            }

    return _table(rows, lines)


def steps_table(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The appendix's fill step by step, eight neighbours and more than 2, of `postprocessing_rows`."""
    columns = {"sparsity": "pruned", "fg_recall": "FG kept", "fg_recall_alone": "FG kept, threshold alone"}
    right = {"accuracy": "accuracy", "accuracy_alone": "accuracy, threshold alone"}

    def lines(frame: pd.DataFrame) -> Iterable[dict]:
        for _, row in frame.query(f"neighbours == 8 and more_than == {PAPER.fill_more_than}").iterrows():
            yield {
                "step": int(row["step"]),
                **{shown: f"{100 * row[column]:.1f}" for column, shown in columns.items()},
                "fill less threshold": shown_interval(row, "delta_fg_recall"),
                **{shown: f"{100 * row[column]:.1f}" for column, shown in right.items()},
            }

    return _table(rows, lines)


def settings_table(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Foreground kept by every fill of three steps less what a moved threshold keeps, and the sparsity of both."""
    table = pd.DataFrame(
        [(8, count) for count in (1, 2, 3, 4)] + [(4, count) for count in (1, 2, 3, 4)],
        columns=["neighbours", "more than"],
    )
    for name, frame in rows.items():
        shown = {
            (row["neighbours"], row["more_than"]): f"{shown_interval(row, 'delta_fg_recall')} at {row['sparsity']:.0%}"
            for _, row in (frame[frame["step"] == PAPER.fill_steps] if len(frame) else frame).iterrows()
        }
        table[name] = [
            shown.get(setting, NOT_RUN) for setting in zip(table["neighbours"], table["more than"], strict=True)
        ]
    return table


def verdict_table(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The paper's setting against no fill and against a moved threshold, of `postprocessing_rows`.

    The fill earns its place where the whole interval of `delta_fg_recall` is above zero. The last column counts all
    settings for which it is: some by luck, and to pick one of them would be a choice on held-out pictures.
    """

    def lines(frame: pd.DataFrame) -> Iterable[dict]:
        paper, plain = papers_setting(frame).iloc[0], frame[frame["step"] == 0].iloc[0]
        fills = frame[frame["step"] > 0]
        columns = {"sparsity": "pruned", "accuracy": "accuracy", "fg_recall": "FG kept"}
        yield {
            **{shown: f"{100 * plain[name]:.1f} → {100 * paper[name]:.1f}" for name, shown in columns.items()},
            "FG kept, threshold alone": f"{100 * paper['fg_recall_alone']:.1f}",
            "fill less threshold": shown_interval(paper, "delta_fg_recall"),
            "earns its place": bool(paper["delta_fg_recall_low"] > 0),
            "settings that do": f"{(fills['delta_fg_recall_low'] > 0).sum()} of {len(fills)}",
        }

    return _table(rows, lines)


def verdict(frame: pd.DataFrame) -> str:
    """One data set's row of `verdict_table` in words."""
    if not len(frame):
        return NOT_RUN
    paper, plain = papers_setting(frame).iloc[0], frame[frame["step"] == 0].iloc[0]
    low, high = paper["delta_fg_recall_low"], paper["delta_fg_recall_high"]
    kept = "less" if low > 0 else "more" if high < 0 else "neither more nor less"
    accuracy = "higher" if paper["accuracy"] > plain["accuracy"] else "lower"
    return (
        f"accuracy is {accuracy} than without a fill, and at equal sparsity a moved threshold keeps {kept} foreground: "
        f"the fill {'earns' if low > 0 else 'does not earn'} its place"
    )


def _table(rows: Mapping[str, pd.DataFrame], lines: Callable[[pd.DataFrame], Iterable[dict]]) -> pd.DataFrame:
    """The lines of all data sets under one another; where there are no rows, the first column says so."""
    table = pd.DataFrame(
        [{"data set": name, **line} for name, frame in rows.items() if len(frame) for line in lines(frame)]
    )
    absent = [name for name, frame in rows.items() if not len(frame)]
    if absent:
        first = table.columns[1] if len(table) else "result"
        table = pd.concat([table.astype(object), pd.DataFrame({"data set": absent, first: NOT_RUN})], ignore_index=True)
    return table
