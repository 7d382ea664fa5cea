"""What a claim of the paper is, how its status follows from numbers, and how checks read the stored rows."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import pandas as pd

from ..experiments.benchmark import speed_at
from ..pages.tables import shown_interval
from ..paper import PAPER, TRAINED_AT
from ..results import NOT_RUN, load_rows
from ..sweep import PLAIN


class Status(StrEnum):
    """What became of a claim."""

    REPRODUCED = "reproduced"  # by the paper's own terms: its numbers, its code path, its data
    DIRECTION = "direction only"  # the effect is there, but on other data, sizes or devices than the paper's
    PARTLY = "partly"  # in some of its parts or on some of the data, or an interval leaves it open
    NOT_CONFIRMED = "not confirmed"  # the effect isn't there, but on other data, sizes or devices than the paper's
    CONTRADICTED = "contradicted"  # by its own terms, or it says two things that exclude each other
    UNSPECIFIED = "unspecified"  # a choice is left open that changes the result
    SLIP = "slip of the pen"  # a misprint: what is meant follows from another place, and comes out
    NOT_RUN = NOT_RUN  # what would settle it isn't among the stored rows


# What a status rests on: formulas, models and the paper's own numbers; stored rows; or the paper's words alone.
KINDS = ("computed", "measured", "text")
DATA = {  # where AP is looked up; on the first alone, where that is stored
    "coco": "COCO",
    "voc-512": "the VOC2007 re-split at the paper's sizes",
    "voc": "the VOC2007 re-split",
    "sample": "the sample world",
}


class NotRun(Exception):
    """What a check needs isn't here: each argument names rows that aren't stored."""


@dataclass(frozen=True)
class Claim:
    """One claim: its number, where it stands, what is said there (“ ”: the paper's own words), and its check.

    The check gives a status and a sentence or two with the numbers that it follows from; its docstring says what it
    does, and `kind`, one of `KINDS`, what the status rests on.
    """

    number: int
    where: str
    says: str
    kind: str
    check: Callable[[], tuple[Status, str]]

    def outcome(self) -> tuple[Status, str]:
        """Status and finding; `NOT_RUN` where rows that the check needs aren't stored."""
        try:
            return self.check()
        except NotRun as missing:
            return Status.NOT_RUN, f"Not here: {', '.join(missing.args)}."

    @property
    def how(self) -> str:
        """What the check does, in its own words."""
        return " ".join(inspect.getdoc(self.check).split())


REGISTERED: list[Claim] = []


def claim(number: int, where: str, says: str, kind: str = "computed") -> Callable:
    """Decorator: register a function without arguments as the check of the claim of this number."""

    def register(check: Callable[[], tuple[Status, str]]) -> Callable:
        REGISTERED.append(Claim(number, where, says, kind, check))
        return check

    return register


def verdict(*holds: bool | None, own: bool = True, otherwise: Status | None = None) -> Status:
    """The status of a claim from whether each of its parts holds, None where an interval leaves that open.

    `own`: by the paper's own terms. Evidence from elsewhere, for or against, is never more than "direction only" or
    "not confirmed". `otherwise` is the status where nothing holds, if it is another one: a slip, say.
    """
    if all(holds):
        return Status.REPRODUCED if own else Status.DIRECTION
    if any(holds) or any(held is None for held in holds):
        return Status.PARTLY
    return otherwise or (Status.CONTRADICTED if own else Status.NOT_CONFIRMED)


def ap_verdict(read: Callable[[str], tuple[bool | None, str]]) -> tuple[Status, str]:
    """Status of a claim about AP, and what is shown: "on the sample world ...; on COCO ...".

    `read` gives for each of `DATA` whether the claim holds there, and a text. COCO alone decides, where it is stored.
    """
    found = on_each(read)
    holds = [held for held, _ in found.values()]
    status = verdict(found["coco"][0]) if "coco" in found else verdict(*holds, own=False)
    return status, listed({name: shown for name, (_, shown) in found.items()})


def left_open(matters: bool) -> Status:
    """The status of a choice that the paper leaves open: does it clearly change the result?"""
    return Status.UNSPECIFIED if matters else Status.PARTLY


def together(*holds: bool | None) -> bool | None:
    """Whether all parts hold: False if one doesn't, else None if one is left open."""
    return False if False in holds else None if None in holds else True


class Interval(NamedTuple):
    """An estimate with its 95 % interval; as text times a hundred: "-2.8 [-3.7, -1.8]"."""

    estimate: float
    low: float
    high: float

    @classmethod
    def of(cls, row: pd.Series, name: str, bounds: str | None = None) -> "Interval":
        """A row's column `name`, with `<bounds>_low` and `<bounds>_high`, named like itself by default."""
        return cls(row[name], row[f"{bounds or name}_low"], row[f"{bounds or name}_high"])

    def above(self, limit: float = 0.0) -> bool | None:
        """Whether it lies above a limit: False if below, None if the limit is in it."""
        return True if self.low > limit else False if self.high < limit else None

    def below(self, limit: float = 0.0) -> bool | None:
        """Whether it lies below a limit: False if above, None if the limit is in it."""
        return Interval(-self.estimate, -self.high, -self.low).above(-limit)

    def within(self, margin: float) -> bool | None:
        """Whether it lies within a margin of zero: False if wholly outside, else None."""
        return True if max(-self.low, self.high) <= margin else False if max(self.low, -self.high) > margin else None

    def __sub__(self, other: "Interval") -> "Interval":
        """The difference as of independent estimates, which is too wide where both are of the same pictures."""
        difference = self.estimate - other.estimate
        down = math.hypot(self.estimate - self.low, other.high - other.estimate)
        up = math.hypot(self.high - self.estimate, other.estimate - other.low)
        return Interval(difference, difference - down, difference + up)

    def __truediv__(self, by: float) -> "Interval":
        return Interval(*(value / by for value in self))

    def __str__(self) -> str:
        return shown_interval(*self, sign="+")


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


def table2_rows(name: str, detector: str = "yolos", **way) -> pd.DataFrame:
    """The stored rows of Table 2 behind BAViT-small for one data set (a profile's name), by sparsity, the index.

    From BAViT's map to the kept tokens as in `sweep.PLAIN`, but for what `way` changes. `change` is the Interval of the
    change in AP, paired with the dense detector, `share` the same as a share of the dense AP. Raises NotRun.
    """
    rows = stored(f"table2-{name}", "AP", bavit="bavit-small", detector=detector, **PLAIN | way)
    rows["change"] = [Interval.of(row, "delta_AP", "delta") for _, row in rows.iterrows()]
    rows["share"] = [row.change / (row.AP - row.delta_AP) for _, row in rows.iterrows()]
    return rows.drop_duplicates("sparsity").set_index("sparsity")


def speed(rows: pd.DataFrame, batch: int, sparsity: float) -> tuple[Interval, str]:
    """`speed_at`: how many times as fast as the dense detector, and the range by quartiles; and that as text."""
    gain = Interval(*speed_at(rows, batch, sparsity))
    return gain, "{:.2f}x [{:.2f}, {:.2f}]".format(*gain)


def bears_pruning(name: str, **way) -> tuple[bool | None, str]:
    """Whether at 35 % sparsity AP clearly loses a smaller share than in the abstract, and the change in AP as text."""
    row = table2_rows(name, **way).loc[TRAINED_AT]
    return row.share.above(-PAPER.drop_share), f"{row.change} AP ({100 * row.share.estimate:+.1f} % of dense)"


def on_each(read: Callable[[str], object], names: Mapping[str, str] = DATA) -> dict:
    """What `read` gives for each of `names`, those without rows left out; NotRun if all are."""
    found, missing = {}, []
    for name in names:
        try:
            found[name] = read(name)
        except NotRun as error:
            missing.extend(error.args)
    if not found:
        raise NotRun(*missing)
    return found


def percent(value: float, decimals: int = 1) -> str:
    """A share as "25.6 %"."""
    return f"{100 * value:.{decimals}f} %"


def listed(parts: Mapping[str, object]) -> str:
    """ "on the sample world …; on COCO …", from what was found by data set."""
    return "; ".join(f"on {DATA[name]} {part}" for name, part in parts.items())
