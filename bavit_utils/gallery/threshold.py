"""The gallery's entries of notebook 04: calibration, the threshold, the appendix's post-processing (Figs. 5 and 6)."""

from functools import lru_cache, partial

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from ..annotations import stacked_labels
from ..calibration_plots import postprocessing_figure, reliability_figure, sparsity_of_pictures, threshold_curves
from ..calibration_tables import (
    error_table,
    operating_table,
    settings_table,
    sparsity_table,
    steps_table,
    verdict_table,
)
from ..config import EVAL_SPLIT, Profile
from ..drawings import draw_kernel
from ..paper import PAPER
from ..picture_plots import figure6
from ..pruning import fill_neighbours, keep_mask
from ..results import load_rows
from .entry import Entry, split_maps, split_records

_DATASETS = ("sample", "voc2012", "coco")  # each by the mask rule


def stored_by_dataset(name: str) -> dict[str, pd.DataFrame]:
    """The stored rows of BAViT-small in `<name>-<data set>.json`, by data set; empty where there are none."""
    return {dataset: load_rows(f"{name}-{dataset}", run=f"bavit-small-{dataset}-mask") for dataset in _DATASETS}


def _of_rows(name: str, draw, profile: Profile) -> Figure | pd.DataFrame:
    return draw(stored_by_dataset(name))


@lru_cache(maxsize=2)
def _filled(profile: Profile) -> tuple | None:
    """The labels and BAViT-small's answers on the held-out pictures, before and after the fill; what it gains."""
    dataset = profile.bavit_data
    split = dataset, EVAL_SPLIT[dataset]
    maps = split_maps(profile.checkpoint("bavit-small", dataset, profile.bavit_rule), *split)
    if maps is None:
        return None
    truth = torch.from_numpy(stacked_labels(split_records(*split), profile.bavit_grid, profile.bavit_rule))
    keep = keep_mask(maps, 0.5)
    filled = fill_neighbours(keep, PAPER.fill_steps)
    turned = filled & ~keep
    gain = ((truth == 1) & turned).flatten(1).sum(1) - ((truth == 0) & turned).flatten(1).sum(1)
    return truth, keep, filled, gain


def _figure6(pick, profile: Profile) -> Figure | None:
    found = _filled(profile)
    if found is None:
        return None
    truth, keep, filled, gain = found
    index = int(pick(gain.numpy()))
    image = split_records(profile.bavit_data, EVAL_SPLIT[profile.bavit_data])[index].image()
    return figure6(image, truth[index], keep[index], filled[index], PAPER.fill_steps)


def _stored(kind: str, name: str, results: str, draw, caption: str, paper: str = "") -> Entry:
    files = tuple(f"{results}-{dataset}" for dataset in _DATASETS)
    return Entry(kind, name, partial(_of_rows, results, draw), "04", caption, paper, files)


ENTRIES = (
    _stored(
        "figure", "reliability", "calibration", reliability_figure,
        "The observed share of foreground against BAViT-small's probability: points on the diagonal can be taken at "
        "their word. Bars are the share of tokens.",
    ),
    _stored(
        "table", "reliability", "calibration", error_table,
        "How far BAViT-small's probabilities are off, held-out pictures, with 95 % intervals over pictures.",
    ),
    _stored(
        "figure", "threshold-curves", "calibration", threshold_curves,
        "What a threshold saves (blue), keeps of the foreground (red) and gets right (green); the upright line is the "
        "one chosen to keep 98 % of the foreground.",
    ),
    _stored(
        "table", "operating-point", "calibration", operating_table,
        "The threshold that loses at most 2 % of the foreground: chosen on the end of the training list, measured on "
        "held-out pictures; per cent.",
    ),
    _stored(
        "figure", "sparsity-over-pictures", "calibration", sparsity_of_pictures,
        "How sparsity is spread over pictures, by the labels and at two thresholds; dashed: the paper's 70 %.",
    ),
    _stored(
        "table", "sparsity-over-pictures", "calibration", sparsity_table,
        "Sparsity of single pictures on BAViT's grid, per cent.",
    ),
    Entry(
        "figure", "figure5", lambda profile: draw_kernel(), "04",
        "The appendix's convolution, worked: background patches with more than two foreground neighbours turn.",
        "Fig. 5",
    ),
    Entry(
        "figure", "figure6", partial(_figure6, np.argmax), "04",
        "Post-processing where it helps most: orange is foreground taken for background, blue the reverse, which the "
        "paper doesn't mark.", "Fig. 6", pictures=True,
    ),
    Entry(
        "figure", "figure6-worst", partial(_figure6, np.argmin), "04",
        "Post-processing where it harms most: scattered mistakes grow together.", "Fig. 6", pictures=True,
    ),
    _stored(
        "figure", "postprocessing", "postprocessing", postprocessing_figure,
        "The appendix's fills against moving the threshold alone (dashed): below zero in the lowest row a fill "
        "doesn't earn its place.", "Fig. 6",
    ),
    _stored(
        "table", "postprocessing", "postprocessing", steps_table,
        "The appendix's fill, eight neighbours, more than 2, step by step; per cent.", "Fig. 6",
    ),
    _stored(
        "table", "postprocessing-settings", "postprocessing", settings_table,
        "FG kept after three steps, fill less moved threshold in points, at the sparsity (%) of both.",
    ),
    _stored(
        "table", "postprocessing-verdict", "postprocessing", verdict_table,
        "The paper's setting (eight neighbours, more than 2, three steps) against no fill (left of the arrow) and a "
        "moved threshold; per cent.", "Fig. 6",
    ),
)  # fmt: skip
