"""Every claim of the paper with its check: errata 1 to 39 first, then what it claims to its credit."""

from itertools import chain

import pandas as pd

from ..config import Profile
from .about_bavit import ABOUT_BAVIT
from .about_detector import ABOUT_THE_DETECTOR
from .accuracy import ACCURACY, LOSS_AND_TRAINING
from .base import Claim
from .cost import COST
from .labels import LABELS
from .method import MEASURED_NOWHERE, METHOD
from .table2 import TABLE_2

GROUPS: dict[str, tuple[Claim, ...]] = {
    "Labels": LABELS,
    "Loss and training": LOSS_AND_TRAINING,
    "Accuracy": ACCURACY,
    "Cost": COST,
    "Table 2 and Eq. 4": TABLE_2,
    "Method": METHOD,
    "Said, and measured nowhere": MEASURED_NOWHERE,
    "What BAViT does": ABOUT_BAVIT,
    "What the pruned detector does": ABOUT_THE_DETECTOR,
}
CLAIMS = tuple(chain.from_iterable(GROUPS.values()))


def claims_table(profile: Profile) -> pd.DataFrame:
    """Run every check: columns `no.`, `where`, `the paper says`, `check`, `what came out`, `status`.

    AP is that of the profile's data (`claims.base.detection_data`); what isn't stored says so.
    """
    rows = []
    for claim in CLAIMS:
        outcome = claim.outcome(profile)
        rows.append((claim.number, claim.where, claim.says, claim.how, outcome.finding, outcome.status))
    return pd.DataFrame(rows, columns=["no.", "where", "the paper says", "check", "what came out", "status"])


def filter_claims(table: pd.DataFrame, status: str | None = None, text: str = "") -> pd.DataFrame:
    """The rows of `claims_table` that have a status (None: any) and hold a text in any column, whatever its case."""
    found = table if status is None else table[table["status"] == status]
    holds = found.astype(str).apply(lambda column: column.str.contains(text, case=False, regex=False))
    return found[holds.any(axis=1)]
