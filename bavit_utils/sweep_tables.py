"""Table 2 as measured: every column beside the stored times, and the other ways from BAViT's map to the tokens kept.

`rows` are those of `results/table2-<profile>.json`; AP is shown in points, shares in per cent.
"""

from itertools import product

import pandas as pd

from .results import NOT_RUN
from .speed_plots import times_dense

_WAYS = {  # resize, fill steps, share of the background spared
    ("nearest", 0, 0.0): "threshold, then the nearest patch (Table 2's)",
    ("bilinear", 0, 0.0): "probabilities resized, then the threshold",
    ("any", 0, 0.0): "threshold, then any patch that overlaps",
    ("nearest", 3, 0.0): "with the appendix's post-processing",
    ("nearest", 0, 0.25): "a random quarter of the background kept",
}


def measured_table(rows: pd.DataFrame, speed: pd.DataFrame) -> pd.DataFrame:
    """Table 2 with all that was measured, one row a sparsity, the highest first.

    `rows` are of one detector and one choice of tokens, `speed` those of `results/throughput-<device>.json` for the
    same profile: `x dense, batch b` is how many times as fast as the dense detector, BAViT's time counted, interpolated
    between measured sparsities. Without any, the column says so.
    """
    rows = rows.sort_values("sparsity", ascending=False)
    table = pd.DataFrame({"sparsity, %": 100 * rows["sparsity_reached"], "threshold": rows["threshold"]})
    for column in ("AP", "AP50", "APs", "APm", "APl"):
        table[column] = 100 * rows[column]
    interval = zip(rows["delta_AP"], rows["delta_low"], rows["delta_high"], strict=True)
    table["change in AP"] = [f"{100 * d:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" for d, low, high in interval]
    table["FG kept, %"] = 100 * rows["fg_recall"]
    table["tokens"], table["with class and detection tokens"] = rows["tokens"], rows["tokens_with_prefix"]
    table["GMAC"] = rows["gmacs"]
    for batch in sorted(speed["batch"].unique()) if len(speed) else ():
        table[f"x dense, batch {batch}"] = times_dense(speed, batch, rows["sparsity_reached"])
    if not len(speed):
        table["x dense"] = NOT_RUN
    return table.reset_index(drop=True)


def ways_table(rows: pd.DataFrame, sparsities: tuple[float, ...] = (0.29, 0.35, 0.46)) -> pd.DataFrame:
    """Each way from BAViT's map to the kept tokens, at equal sparsity (section 3.5, Fig. 5, "completely or partially").

    BAViT-large stands beside BAViT-small in the first way alone. One row each, with the change in AP and the share of
    foreground tokens kept at each sparsity; what isn't stored says so.
    """
    table = []
    for bavit, way in [*product(["bavit-small"], _WAYS), ("bavit-large", next(iter(_WAYS)))]:
        found = rows
        for column, value in zip(("bavit", "resize", "fill_steps", "spared"), (bavit, *way), strict=True):
            found = found[found[column] == value] if len(found) else found
        line = {"BAViT": bavit, "way": _WAYS[way]}
        for sparsity in sparsities:
            here = found[found["sparsity"] == sparsity] if len(found) else found
            line[f"change at {sparsity:.0%}"] = f"{100 * here['delta_AP'].iloc[0]:+.1f}" if len(here) else NOT_RUN
            line[f"FG kept at {sparsity:.0%}, %"] = f"{100 * here['fg_recall'].iloc[0]:.1f}" if len(here) else NOT_RUN
        table.append(line)
    return pd.DataFrame(table)
