"""The gallery's entries of notebook 08: who chooses the tokens better (Fig. 1), and why the first ones cost so much."""

from collections.abc import Callable
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from ..annotations import stacked_labels
from ..config import Profile, get_profile
from ..explorer.pictures import photographs
from ..hub import profile_detector
from ..picture_plots import figure4
from ..results import load_rows
from ..selector_plots import comparison_figure, context_figure, selector_title, typical_pictures
from ..selector_runs import kept_shares
from ..selector_tables import comparison_table, context_table, verdicts
from ..token_selectors import Inputs, trained_files
from ..yolos import PrunedYolos
from .entry import Entry, split_records

SHOWN = ("sparse-detr", "focus-detr", "bavit-small", "contrast")  # Fig. 1's, and the one that has learnt nothing
KEPT_AT = 0.6  # sparsity


def _figure1(profile: Profile) -> Figure | None:
    """What each keeps of two scenes and two photographs (Fig. 1); None where a selector isn't trained."""
    files = [profile.checkpoint("yolos"), *(path for name in SHOWN for path in trained_files(name, profile))]
    if not all(path.exists() for path in files):
        return None
    records = split_records(*profile.detector_eval)
    share = stacked_labels(records, profile.bavit_grid, profile.pruner_rule).mean(axis=(1, 2))
    images = [records[i].image() for i in typical_pictures(share, 2)]
    images += [photographs()[name] for name in ("cat", "astronaut")]
    detector, path = profile_detector(profile)
    inputs = Inputs(profile, [], images, PrunedYolos(detector).eval(), path)
    titles = {name: selector_title(name).removesuffix("'s scoring") for name in SHOWN}
    keeps = {titles[name]: kept_shares(name, inputs, KEPT_AT).numpy() for name in SHOWN}
    return figure4(images, keeps, width=4.2)


def _of_rows(name: str, draw: Callable, profile: Profile) -> Figure | pd.DataFrame | None:
    """`draw(rows, oracle)` of the stored comparison of the profile called `name`."""
    of = get_profile(name.format(p=profile))
    rows = load_rows(f"selectors-{of.name}")
    return draw(rows, f"oracle-{of.pruner_rule}") if len(rows) else None


def _stored(kind: str, name: str, of: str, draw: Callable, caption: str) -> Entry:
    return Entry(kind, name, partial(_of_rows, of, draw), "08", caption, results=(f"selectors-{of}",))


def _compared(rows: pd.DataFrame, oracle: str) -> pd.DataFrame:
    return comparison_table(rows)


def _judged(rows: pd.DataFrame, oracle: str) -> pd.DataFrame:
    return verdicts(rows)


ENTRIES = (
    Entry(
        "figure", "figure1", _figure1, "08",
        "What Sparse DETR's scoring, Focus DETR's, BAViT-small and plain local contrast keep of two scenes and two "
        "photographs.", "Fig. 1", pictures=True,
    ),
    _stored(
        "table", "selectors", "{p.name}", _compared,
        "Who chooses the tokens, at 35 % sparsity or BAViT-small's multiply-adds there.",
    ),
    _stored(
        "figure", "selectors", "{p.name}", comparison_figure,
        "The change in AP by who chooses the tokens, against sparsity, time, and multiply-adds, the selector's own "
        "counted.",
    ),
    _stored(
        "table", "selectors-verdicts", "{p.name}", _judged,
        "Budgets at which a selector beats / ties with / loses to BAViT-small.",
    ),
    _stored(
        "table", "context", "{p.name}", context_table, "What true background costs, and what BAViT's mistakes add.",
    ),
    _stored(
        "figure", "context", "{p.name}", context_figure,
        "The change in AP where exactly true background goes, against mistakes: what the first tokens cost.",
    ),
    _stored(
        "table", "selectors-voc-half", "voc-half", _compared, "The same on VOC2007 test pictures, at half scale.",
    ),
    _stored(
        "figure", "selectors-voc-half", "voc-half", comparison_figure,
        "Who chooses the tokens on photographs, at half scale.",
    ),
    _stored(
        "figure", "context-voc-half", "voc-half", context_figure,
        "What true background costs on photographs, at half scale.",
    ),
    _stored(
        "table", "selectors-verdicts-voc-half", "voc-half", _judged,
        "Wins / ties / losses against BAViT-small on VOC2007, half scale.",
    ),
)  # fmt: skip
