"""What a claim of the paper is, how its status follows from numbers, and how checks read the stored rows."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from ..paper import PAPER
from ..results import NOT_RUN, load_rows
from ..sweep import PLAIN

REPRODUCED, DIRECTION, PARTLY = "reproduced", "direction only", "partly"
NOT_CONFIRMED, CONTRADICTED = "not confirmed", "contradicted"
UNSPECIFIED, SLIP = "unspecified", "slip of the pen"
STATUSES = {
    REPRODUCED: "what is printed comes out, by the paper's own terms: its numbers, its code path, its data",
    DIRECTION: "the effect is there, but on other data, sizes or devices than the paper's",
    PARTLY: "some of it comes out, or on some of the data, or the interval leaves it open",
    NOT_CONFIRMED: "the effect isn't there, but on other data, sizes or devices than the paper's",
    CONTRADICTED: "something else comes out by the paper's own terms, or it says two things that exclude each other",
    UNSPECIFIED: "the paper leaves a choice open that changes the result",
    SLIP: "a misprint: what is meant follows from another place in the paper, and comes out",
    NOT_RUN: "the measurement that would settle it isn't among the stored rows",
}
COMPUTED, MEASURED, TEXT = "computed", "measured", "text"
KINDS = {
    COMPUTED: "from the paper's own numbers, from formulas, or by a model that runs here",
    MEASURED: "from stored rows: other numbers there give another status",
    TEXT: "a matter of what the paper says: no number of ours changes it",
}
DATA = {  # where AP is looked up; on the first alone, where that is stored
    "coco": "COCO",
    "voc-512": "the VOC2007 re-split at the paper's sizes",
    "voc": "the VOC2007 re-split",
    "sample": "the sample world",
}
TRAINED_AT = next(row["sparsity"] for row in PAPER.table2 if row["detector"] == "yolos-f")
SMALL_DROP = PAPER.drop / PAPER.base_AP  # what the abstract calls "a mAP drop of 3%", as a share of the dense AP


class NotRun(Exception):
    """What a check needs isn't here: each argument names rows that aren't stored."""


@dataclass(frozen=True)
class Claim:
    """One claim: its number, where it stands and what is said there (“ ”: the paper's own words), and its check.

    The check gives a status and a sentence or two with the numbers that it follows from; its docstring says what it
    does, and `kind`, one of `KINDS`, on what the status rests.
    """

    number: int
    where: str
    says: str
    kind: str
    check: Callable[[], tuple[str, str]]

    def outcome(self) -> tuple[str, str]:
        """Status and finding; where rows that the check needs aren't stored the status is `NOT_RUN`."""
        try:
            return self.check()
        except NotRun as missing:
            return NOT_RUN, f"Not here: {', '.join(missing.args)}."

    @property
    def how(self) -> str:
        """What the check does, in its own words."""
        return " ".join(inspect.getdoc(self.check).split())


REGISTERED: list[Claim] = []


def claim(number: int, where: str, says: str, kind: str = COMPUTED) -> Callable:
    """Decorator: register a function without arguments as the check of the claim of this number."""

    def register(check: Callable[[], tuple[str, str]]) -> Callable:
        REGISTERED.append(Claim(number, where, says, kind, check))
        return check

    return register


def verdict(*holds: bool | None, own: bool = True, otherwise: str | None = None) -> str:
    """The status of a claim from whether each of its parts holds, None where an interval leaves that open.

    `own`: by the paper's own terms. Evidence from elsewhere, for or against, is never more than "direction only" or
    "not confirmed". `otherwise` is the status where nothing holds, if it is another one: a slip, say.
    """
    if all(holds):
        return REPRODUCED if own else DIRECTION
    if any(holds) or any(held is None for held in holds):
        return PARTLY
    return otherwise or (CONTRADICTED if own else NOT_CONFIRMED)


def verdict_on_data(holds: Mapping[str, bool | None]) -> str:
    """`verdict` of a claim about AP from whether it holds on each of `DATA`: by COCO alone, where it is stored."""
    return verdict(holds["coco"]) if "coco" in holds else verdict(*holds.values(), own=False)


def together(*holds: bool | None) -> bool | None:
    """Whether all parts hold: False if one doesn't, else None if one is left open."""
    return False if False in holds else None if None in holds else True


def open_point(matters: bool) -> str:
    """The status of a choice that the paper leaves open: does it clearly change the result?"""
    return UNSPECIFIED if matters else PARTLY


def above(low: float, high: float, limit: float = 0.0) -> bool | None:
    """Whether an interval lies above a limit: False if it lies below, None if the limit is in it."""
    return True if low > limit else False if high < limit else None


def alike(low: float, high: float, margin: float) -> bool | None:
    """Whether the interval of a difference lies within a margin of zero: False if wholly outside, else None."""
    return True if max(-low, high) <= margin else False if max(low, -high) > margin else None


def apart(one: pd.Series, other: pd.Series, column: str = "accuracy") -> tuple[float, float, float]:
    """The difference of two estimates and its 95 % interval, from theirs (`<column>_low`, `_high`).

    As if they were independent, which is too wide where both are of the same pictures.
    """
    (a, a_low, a_high), (b, b_low, b_high) = (
        (row[column], row[f"{column}_low"], row[f"{column}_high"]) for row in (one, other)
    )
    return a - b, a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)


def stored(name: str, *needs: str, **where) -> pd.DataFrame:
    """`load_rows`, without rows that lack a number in one of the columns `needs`.

    Raises NotRun, naming the file, where nothing is left.
    """
    rows = load_rows(name, **where)
    rows = rows.dropna(subset=list(needs)) if set(needs) <= set(rows) else rows.iloc[:0]
    if not len(rows):
        wanted = ", ".join(str(value) for value in where.values() if isinstance(value, str))
        raise NotRun(f"rows of {name}.json" + (f" ({wanted})" if wanted else ""))
    return rows


def table2_rows(name: str, bavit: str = "bavit-small", detector: str = "yolos", **way) -> pd.DataFrame:
    """The stored rows of Table 2 for one data set (a profile's name), by sparsity, which is the index.

    From BAViT's map to the kept tokens as in `sweep.PLAIN`, but for what `way` changes. The change in AP is there as a
    share of the dense detector's, too: `share, share_low, share_high`. Raises NotRun.
    """
    rows = stored(f"table2-{name}", "AP", bavit=bavit, detector=detector, **PLAIN | way)
    dense = rows.AP - rows.delta_AP
    for share, delta in zip(("share", "share_low", "share_high"), ("delta_AP", "delta_low", "delta_high"), strict=True):
        rows[share] = rows[delta] / dense
    return rows.drop_duplicates("sparsity").set_index("sparsity")


def on_each_data(read: Callable[[str], object]) -> dict:
    """What `read` gives for the name of each of `DATA`, those without rows left out; NotRun if all are."""
    found, missing = {}, []
    for name in DATA:
        try:
            found[name] = read(name)
        except NotRun as error:
            missing.extend(error.args)
    if not found:
        raise NotRun(*missing)
    return found


def percent(share: float, decimals: int = 1) -> str:
    """A share as "25.6 %"."""
    return f"{100 * share:.{decimals}f} %"


def interval(estimate: float, low: float, high: float) -> str:
    """A difference with its 95 % interval, times a hundred: "-2.8 [-3.7, -1.8]"."""
    return f"{100 * estimate:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def change(row: pd.Series) -> str:
    """A row's change in AP, in points with its interval, and as a share of the dense detector's AP."""
    return f"{interval(row.delta_AP, row.delta_low, row.delta_high)} AP ({100 * row.share:+.1f} % of dense)"


def listed(parts: Mapping[str, str]) -> str:
    """ "on the sample world …; on COCO …", from texts by data set."""
    return "; ".join(f"on {DATA[name]} {text}" for name, text in parts.items())
