"""The gallery's entries of notebook 09: every claim of the paper with its check."""

from functools import lru_cache

import pandas as pd

from ..claims import claims_table
from ..claims.view import counts_figure
from ..config import Profile
from .entry import Entry


@lru_cache(maxsize=2)
def _table(profile: Profile) -> pd.DataFrame:
    return claims_table(profile)


ENTRIES = (
    Entry(
        "table", "claims", _table, "09",
        "The paper's claims, the checks that ran, and what came out. § are the paper's sections, “ ” its own words.",
    ),
    Entry(
        "figure", "claims", lambda profile: counts_figure(_table(profile)), "09",
        "What became of the claims, by part of the paper: orange is mostly what it says of its labels, its costs "
        "and its own Table 2.",
    ),
)  # fmt: skip
