"""The gallery's entries of notebook 08: who chooses the tokens better (Fig. 1), and why the first ones cost so much."""

from collections.abc import Callable
from functools import partial

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from ..annotations import stacked_labels
from ..config import Profile
from ..data.pretrained import profile_detector
from ..picture_plots import figure4
from ..results import load_rows
from ..selector_plots import comparison_figure, context_figure, selector_title, typical_pictures
from ..selector_tables import comparison_table, context_table, verdicts
from ..pruning import detector_keep
from ..selectors.scores import Inputs, ranks, scores, trained_files
from ..yolos import PrunedYolos
from .entry import Entry, photographs, split_records

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
    keeps = {titles[name]: detector_keep(ranks(scores(name, inputs)), 1 - KEPT_AT, profile.detector_grid).numpy() for name in SHOWN}
    fig = figure4(images, keeps, width=5.0)
    for text in fig.findobj(Text):  # not by an rc_context, after which a notebook would show no more figures
        text.set_fontsize(7)
    return fig


def _of_rows(name: str, draw: Callable, profile: Profile) -> Figure | pd.DataFrame | None:
    """`draw(rows)` of the stored comparison of the profile called `name`."""
    rows = load_rows(f"selectors-{name.format(p=profile)}")
    return draw(rows) if len(rows) else None


def _stored(kind: str, name: str, of: str, draw: Callable, caption: str, paper: str = "") -> Entry:
    return Entry(kind, name, partial(_of_rows, of, draw), "08", caption, paper, results=(f"selectors-{of}",))


ENTRIES = (
    Entry(
        "figure", "figure1", _figure1, "08",
        "What Sparse DETR's scoring, Focus DETR's, BAViT-small and plain local contrast keep of two scenes and two "
        "photographs.", "Fig. 1", pictures=True,
    ),
    _stored(
        "table", "selectors", "{p.name}", comparison_table,
        "Who chooses the tokens, at 35 % sparsity or BAViT-small's multiply-adds there.",
        "Fig. 1",
    ),
    _stored(
        "figure", "selectors", "{p.name}", comparison_figure,
        "The change in AP by who chooses the tokens, against sparsity, time, and multiply-adds, the selector's own "
        "counted.", "Fig. 1",
    ),
    _stored(
        "table", "selectors-verdicts", "{p.name}", verdicts,
        "Budgets at which a selector beats / ties with / loses to BAViT-small.",
    ),
    _stored(
        "table", "context", "{p.name}", context_table,
        "What true background costs, and what BAViT's mistakes add, in points of AP.",
    ),
    _stored(
        "figure", "context", "{p.name}", context_figure,
        "The change in AP where exactly true background goes, against mistakes: what the first tokens cost.",
    ),
    _stored(
        "table", "selectors-voc", "voc", comparison_table,
        "The same on VOC2007 test pictures, at half scale.",
    ),
    _stored(
        "figure", "selectors-voc", "voc", comparison_figure,
        "Who chooses the tokens on photographs, at half scale.",
    ),
    _stored(
        "figure", "context-voc", "voc", context_figure,
        "What true background costs on photographs, at half scale.",
    ),
    _stored(
        "table", "selectors-verdicts-voc", "voc", verdicts,
        "Wins / ties / losses against BAViT-small on VOC2007, half scale.",
    ),
)  # fmt: skip
