"""Tables of who chooses the tokens, from `results/selectors-<profile>.json`; AP in points, shares in per cent."""

import pandas as pd

from .results import NOT_RUN
from .selector_plots import family, selector_title
from .selectors.runs import CHOICES, COMPARED
from .selectors.scores import TRUTH

_KINDS = {"tome": "merging", "layer": "later", "resolution": "smaller picture"}


def _signed(rows: pd.DataFrame, delta: str, low: str, high: str) -> str:
    """The mean over seeds of a difference and of its interval's ends: "-1.2 [-1.9, -0.6]"; a dash where it is missing.

    Such a mean interval is wider than one of the mean would be.
    """
    values = 100 * rows[[delta, low, high]].astype(float).mean()
    return "–" if values.isna().any() else f"{values[delta]:+.1f} [{values[low]:+.1f}, {values[high]:+.1f}]"


def comparison_table(rows: pd.DataFrame, budget: float = 0.35) -> pd.DataFrame:
    """One row a selector at one budget, in the order of `COMPARED`; what was not run says so.

    Differences are from BAViT-small: at equal sparsity (of methods: at equal multiply-adds), and on its curve at equal
    multiply-adds here, and at the paper's sizes. Random choice is the mean of its seeds.
    """
    table = []
    for name in COMPARED:
        found = family(rows, name)
        if name != "resolution":
            found = found[found["budget"] == budget]
        if not len(found):
            reason = "too dear" if name not in CHOICES and (rows["selector"] == name).any() else NOT_RUN
            table.append({"selector": selector_title(name), "kind": _kind(name), "AP": reason})
        table += [_line(selector, part) for selector, part in found.groupby("selector", sort=False)]
    dense = rows[rows["selector"] == "dense"]
    if len(dense):
        table.insert(0, _line("dense", dense))
    return pd.DataFrame(table).fillna("–")


def _kind(name: str) -> str:
    if name == "dense":
        return "–"
    if name in TRUTH:
        return "bound"
    if name in ("random", "centre", "contrast"):
        return "nothing learnt"
    return _KINDS.get(name.split("-")[0], "learnt")


def _line(name: str, part: pd.DataFrame) -> dict:
    free = name in TRUTH  # a bound has no price
    mean = part.select_dtypes("number").mean()
    return {
        "selector": selector_title(name),
        "kind": _kind(name),
        "AP": f"{100 * mean['AP']:.1f}",
        "AP50": f"{100 * mean['AP50']:.1f}",
        "FG kept, %": "–" if pd.isna(mean.get("fg_recall")) else f"{100 * mean['fg_recall']:.1f}",
        "from BAViT-small, same budget": _signed(part, "delta_to_bavit", "delta_low", "delta_high"),
        "multiply-adds, %": "–" if free else f"{100 * mean['share']:.0f}",
        "from BAViT-small, same multiply-adds": "–"
        if free
        else _signed(part, "delta_at_gmacs", "at_gmacs_low", "at_gmacs_high"),
        "at the paper's sizes, %": "–" if free else f"{100 * mean['paper_share']:.0f}",
        "from BAViT-small, same there": "–"
        if free
        else _signed(part, "delta_at_paper_share", "at_paper_share_low", "at_paper_share_high"),
        "time, ms": "–" if free else f"{mean['latency_ms_b1']:.1f}",
        "time there, ms": "–" if free or pd.isna(mean["paper_latency_ms_b1"]) else f"{mean['paper_latency_ms_b1']:.0f}",
    }


def verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """At how many budgets a selector beats BAViT-small, ties with it and loses to it, by the paired intervals.

    At equal sparsity, at equal multiply-adds here, and at the paper's sizes; an interval that holds zero is a tie. What
    a bound would cost is not known, and budgets that BAViT-small can't have are left out.
    """
    columns = {
        "same budget": ("delta_low", "delta_high"),
        "same multiply-adds": ("at_gmacs_low", "at_gmacs_high"),
        "same multiply-adds at the paper's sizes": ("at_paper_share_low", "at_paper_share_high"),
    }
    table = []
    for name in COMPARED:
        part = family(rows, name)
        if not len(part) or name == "bavit-small":
            continue
        part = part.groupby(["selector", "budget"], dropna=False, as_index=False).mean(numeric_only=True)
        line = {"selector": selector_title(name)}
        for title, (low, high) in columns.items():
            judged = part.dropna(subset=[low, high])
            if name in TRUTH and title != "same budget" or not len(judged):
                line[title] = "–"
                continue
            wins, losses = int((judged[low] > 0).sum()), int((judged[high] < 0).sum())
            line[title] = f"{wins} / {len(judged) - wins - losses} / {losses}"
        table.append(line)
    return pd.DataFrame(table)


def context_table(rows: pd.DataFrame, sparsities: tuple[float, ...] = (0.05, 0.1, 0.29, 0.35, 0.46)) -> pd.DataFrame:
    """What the first tokens cost: the change in AP where exactly true background goes, and what BAViT's mistakes add.

    True background goes in random order, or from the farthest on. `BAViT's mistakes` are BAViT-small's change less the
    first, over the same resampled pictures. Random choice makes all mistakes there are.
    """
    names = {
        "true background": "oracle-exact",
        "the same, far first": "oracle-near",
        "BAViT-small": "bavit-small",
        "random": "random",
    }
    table = []
    for sparsity in sparsities:
        at = {title: rows[(rows["selector"] == name) & (rows["sparsity"] == sparsity)] for title, name in names.items()}
        if not all(map(len, at.values())):
            continue
        line = {"sparsity, %": f"{100 * sparsity:.0f}"}
        for title, part in at.items():
            line[title] = _signed(part, "delta_AP", "delta_AP_low", "delta_AP_high")
        turned = -at["true background"][["delta_to_bavit", "delta_low", "delta_high"]].astype(float)
        line["BAViT's mistakes"] = _signed(turned, "delta_to_bavit", "delta_high", "delta_low")
        table.append(line)
    return pd.DataFrame(table)
