"""The paper's claims, each with the check that settles it: errata 1 to 39 first, then what it claims to its credit.

A check is a function without arguments under `@claim`, in the module of its part of the paper.
"""

import pandas as pd

from . import accuracy, bavit, cost, detector, labels, method, table2
from .base import KINDS, REGISTERED, Claim, Status

CLAIMS = tuple(sorted(REGISTERED, key=lambda claim: claim.number))
PARTS = {
    labels.__name__: "Labels",
    accuracy.__name__: "Loss, training, accuracy",
    cost.__name__: "Cost",
    table2.__name__: "Table 2 and Eq. 4",
    method.__name__: "Method, and what isn't measured",
    bavit.__name__: "What BAViT does",
    detector.__name__: "What the pruned detector does",
}
# The ten that decide what a reader may take from the paper: by number, the most important first.
MATTER_MOST = (26, 24, 53, 55, 40, 10, 35, 57, 1, 21)


def claims_table() -> pd.DataFrame:
    """Run every check: columns `no.`, `part`, `where`, `the paper says`, `check`, `kind`, `what came out`, `status`.

    AP is that of every data set whose rows are stored (`base.DATA`); what isn't stored says so.
    """
    columns = ["no.", "part", "where", "the paper says", "check", "kind", "what came out", "status"]
    rows = [
        (each.number, PARTS[each.check.__module__], each.where, each.says, each.how, each.kind, *each.outcome()[::-1])
        for each in CLAIMS
    ]
    return pd.DataFrame(rows, columns=columns)


__all__ = ["CLAIMS", "KINDS", "MATTER_MOST", "PARTS", "Claim", "Status", "claims_table"]
