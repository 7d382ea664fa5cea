"""What a claim of the paper is, what its check returns, and how checks read the stored rows."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from ..config import Profile
from ..metrics import shown_interval
from ..results import NOT_RUN, load_rows
from ..sweep import PLAIN

REPRODUCED, PARTLY, NOT_AS_STATED = "reproduced", "partly", "not reproducible as stated"
STATUSES = (REPRODUCED, PARTLY, NOT_AS_STATED, NOT_RUN)
MEASURED_ON = {
    "sample": "sample world",
    "voc": "VOC2007 at half scale",
    "voc": "VOC2007",
    "coco": "COCO",
}


class NotRun(Exception):
    """What a check needs isn't here: rows that aren't stored, each argument some of them."""

    def __str__(self) -> str:
        return f"Not here: {', '.join(self.args)}."


@dataclass(frozen=True)
class Outcome:
    """What came out of a check: one of `STATUSES`, and a sentence or two with the numbers that it follows from."""

    status: str
    finding: str


@dataclass(frozen=True)
class Claim:
    """One claim: its number, where it stands, what is said there, and the check, a function of the profile.

    What `says` holds in “ ” are the paper's own words. A check's docstring says what it does, for the table.
    """

    number: int
    where: str
    says: str
    check: Callable[[Profile], Outcome]

    def outcome(self, profile: Profile) -> Outcome:
        """Run the check; where rows that it needs aren't stored the status is `NOT_RUN`."""
        try:
            return self.check(profile)
        except NotRun as missing:
            return Outcome(NOT_RUN, str(missing))

    @property
    def how(self) -> str:
        """What the check does, in its own words."""
        return " ".join(inspect.getdoc(self.check).split())


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

    From BAViT's map to the kept tokens as in `sweep.PLAIN`, but for what `way` changes. Raises NotRun.
    """
    rows = stored(f"table2-{name}", "AP", bavit=bavit, detector=detector, **PLAIN | way)
    return rows.drop_duplicates("sparsity").set_index("sparsity")


def detection_data(profile: Profile) -> tuple[str, ...]:
    """Where AP is looked up: the profile's own data; for the sample world also VOC2007's photographs."""
    return ("sample", "voc", "voc-512") if profile.name == "sample" else (profile.name,)


def of_each_data(profile: Profile, read: Callable[[str], object]) -> dict:
    """What `read` gives for the name of each of `detection_data`, those without rows left out; NotRun if all are."""
    found, missing = {}, []
    for name in detection_data(profile):
        try:
            found[name] = read(name)
        except NotRun as error:
            missing.extend(error.args)
    if not found:
        raise NotRun(*missing)
    return found


def measured_status(holds: Mapping[str, bool]) -> str:
    """The status of a claim about AP from whether it holds on each data set.

    No more than `PARTLY` without COCO itself, `NOT_AS_STATED` where it holds nowhere.
    """
    if all(holds.values()) and "coco" in holds:
        return REPRODUCED
    return PARTLY if any(holds.values()) else NOT_AS_STATED


def percent(share: float, decimals: int = 1) -> str:
    """A share as "25.6 %"."""
    return f"{100 * share:.{decimals}f} %"


def change(row: pd.Series | Mapping, name: str = "delta_AP", low: str = "delta_low", high: str = "delta_high") -> str:
    """A difference in AP with its 95 % interval, in points: "-2.8 [-3.7, -1.8]"."""
    return shown_interval(row[name], row[low], row[high], "+")


def listed(parts: Mapping[str, str]) -> str:
    """ "on the sample world …, on VOC2007 …", from texts by data set."""
    return "; ".join(
        f"on {'the ' if name == 'sample' else ''}{MEASURED_ON[name]} {text}" for name, text in parts.items()
    )
