"""Checks of the paper's positive claims about BAViT itself: accuracy, cost, post-processing."""

from contextlib import suppress

import numpy as np
import pandas as pd
import torch

from ..annotations import stacked_labels
from ..bavit import foreground_maps, load_bavit
from ..config import DEPTHS, get_profile
from ..cost import bavit_multiply_adds, bavit_parameters, yolos_multiply_adds, yolos_parameters
from ..data.records import load_records
from ..experiments.postprocessing import papers_setting
from ..metrics import token_metrics
from ..pages.tables import shown_interval
from ..paper import PAPER, TRAINED_AT
from .base import Interval, NotRun, Status, ap_verdict, claim, listed, on_each, percent, stored, verdict

_SMALL, _LARGE = DEPTHS["bavit-small"], DEPTHS["bavit-large"]
_NAMES = {"coco": "COCO", "voc2012": "VOC2012", "voc2007": "the VOC2007 re-split", "sample": "the sample world"}
_PAPER = {(row["depth"], row["dataset"]): row["accuracy"] for row in PAPER.table1}
_MEASURES = ["accuracy", "accuracy_low", "accuracy_high", "majority", "n_images"]


def _accuracies(depth: int) -> pd.DataFrame:
    """Stored accuracy at a depth, mean over seeds, by data set, label rule and whether it is at half the paper's size.

    Of trainings by our own recipes, and of the ablation of depth. Raises NotRun.
    """
    rows = stored("table1", *_MEASURES, depth=depth)
    rows = rows[rows.recipe != "paper"].assign(half=lambda each: each.recipe != "best")
    with suppress(NotRun):
        rows = pd.concat([rows, stored("ablation-depth", *_MEASURES, depth=depth).assign(half=True)])
    return rows.groupby(["dataset", "rule", "half"], sort=False)[_MEASURES].mean()


def _reaches_the_paper(depth: int):
    """Status and finding of whether accuracy on photographs reaches Table 1's; half of the claim is COCO's."""
    rows = _accuracies(depth).drop(index="sample", errors="ignore")
    holds, parts = [], []
    for (dataset, rule, half), row in rows.iterrows():
        paper = _PAPER[depth, "coco" if dataset == "coco" else "voc"]
        holds.append(Interval.of(row, "accuracy").above(max(paper, row.majority)))
        accuracy = shown_interval(*Interval.of(row, "accuracy"))
        parts.append(f"{_NAMES[dataset]} by {rule} labels{', 192 px' if half else ''}: {accuracy} (paper "
                     f"{100 * paper:.1f}, majority {100 * row.majority:.1f})")  # fmt: skip
    status = verdict(*holds, own=rows.n_images.min() >= PAPER.n_val_images)
    if "coco" not in rows.index.get_level_values("dataset"):
        parts.append("COCO: not run here")
        status = Status.PARTLY if all(holds) else status
    return status, "; ".join(parts) + "."


@claim(40, "Abstract", "“Using 2 layers” tokens are separated with “75%” accuracy on VOC and “71%” on COCO.",
       "measured")  # fmt: skip
def small_separates():
    """Sets BAViT-small's token accuracy on held-out photographs (stored) beside Table 1; no set is the paper's own."""
    return _reaches_the_paper(_SMALL)


@claim(41, "Conclusion", "“accuracy of up to 88.79% on the Pascal VOC dataset and 80.57% on the COCO dataset using a "
       "10-layer transformer model”.", "measured")  # fmt: skip
def large_separates():
    """Sets ten blocks' token accuracy on every set of photographs that they were run on (stored) beside Table 1."""
    return _reaches_the_paper(_LARGE)


@claim(42, "§ 3.2, Table 1", "10 layers beat 2: “to show the scalability and flexibility of this approach”.",
       "measured")  # fmt: skip
def large_is_better():
    """Subtracts two blocks' accuracy from ten blocks', on each data set that has both (stored), and in Table 1."""
    small, large = _accuracies(_SMALL), _accuracies(_LARGE)
    holds, shown = [], []
    for key in large.index.intersection(small.index):
        gain = Interval.of(large.loc[key], "accuracy") - Interval.of(small.loc[key], "accuracy")
        holds.append(gain.above())
        shown.append(f"{gain} on {_NAMES[key[0]]}{', 192 px' if key[2] else ''}")
    paper = [100 * (_PAPER[_LARGE, name] - _PAPER[_SMALL, name]) for name in ("voc", "coco")]
    return verdict(*holds, own=False), (
        f"Ten blocks less two: {'; '.join(shown)}, in points of accuracy. "
        f"The paper: {paper[0]:+.1f} on VOC, {paper[1]:+.1f} on COCO."
    )


@claim(43, "§ 4.1", "“able to separate FG/BG patches effectively even with multiple objects from different classes”.")
def several_classes():
    """Runs BAViT-small on the sample world, and compares pictures of one class with those of several."""
    sample = get_profile("sample")
    if not sample.checkpoint("bavit-small").exists():
        raise NotRun("the sample world's BAViT-small")
    records = [record for record in load_records("sample", "val") if len(record.boxes)]
    maps = foreground_maps(load_bavit(sample.checkpoint("bavit-small")), [record.image() for record in records])
    labels = torch.from_numpy(stacked_labels(records, sample.bavit_grid))
    several = np.array([len(set(record.labels.tolist())) > 1 for record in records])
    one, more = (token_metrics(maps[at], labels[at], n_boot=1)["balanced_accuracy"] for at in (~several, several))
    return verdict(more > one - 0.05, own=False), (
        f"Balanced token accuracy is about {percent(more, 0)} on the {several.sum()} pictures of the sample world with "
        f"several classes, and about {percent(one, 0)} on the {(~several).sum()} with one."
    )


@claim(44, "§ 4.1", "“can be applied to different datasets with configurable number of layers”.", "measured")
def any_depth_and_data():
    """Reads accuracy against depth, and the margin over majority on each data set (stored)."""
    depths = stored("ablation-depth", "accuracy_low").sort_values("depth")
    rows = stored("table1", "accuracy_low", model="bavit-small")
    margins = (rows.accuracy_low - rows.majority).groupby(rows.dataset).min()
    shallowest, deepest = (Interval.of(depths.iloc[i], "accuracy") for i in (0, -1))
    return verdict((deepest - shallowest).above(), *(margins > 0), own=False), (
        "Accuracy by blocks on VOC2012, half scale: "
        f"{', '.join(f'{row.depth}: {percent(row.accuracy)}' for row in depths.itertuples())}, for "
        f"{depths.gmacs.iloc[0]:.2f} to {depths.gmacs.iloc[-1]:.2f} GMAC. On {len(margins)} data sets "
        f"({', '.join(margins.index)}) small is at least {100 * margins.min():.0f} points above majority."
    )


@claim(45, "§ 4.1", "“marginally increases the total number of parameters” and “FLOP counts”.")
def marginal_cost():
    """Computes BAViT-small's share of YOLOS-tiny's parameters, multiply-adds and tokens: marginal is up to a tenth."""
    shares = {
        "parameters": bavit_parameters(_SMALL) / yolos_parameters(),
        "multiply-adds": bavit_multiply_adds(_SMALL) / yolos_multiply_adds(PAPER.detector_tokens),
        "tokens": PAPER.table2[0]["tokens_bavit"] / PAPER.table2[0]["tokens_yolos"],
    }
    return verdict(*(each <= 0.1 for each in shares.values())), (
        f"{', '.join(f'{percent(each)} of the {name}' for name, each in shares.items())} of YOLOS-tiny; the paper's own "
        f"numbers are {percent(PAPER.bavit_parameters / PAPER.yolos_parameters)} of the parameters."
    )


@claim(46, "§ 2.3", "“produces foreground images which visibly looks very similar to Focus DETR produced foreground "
       "images”.", "measured")  # fmt: skip
def like_focus_detr():
    """Compares AP on Focus DETR's choice and on BAViT's, at equal sparsity (stored); looks are notebook 8's."""

    alike, margins = PAPER.drop_share / 3, {}  # as one point of the paper's 28.8

    def read(name: str) -> tuple[bool | None, str]:
        rows = stored(f"selectors-{name}", "delta_to_bavit", selector="focus-detr", sparsity=TRAINED_AT)
        mean = rows.mean(numeric_only=True)
        less, margin = Interval.of(mean, "delta_to_bavit", "delta"), alike * (mean.AP - mean.delta_AP)
        margins[name] = f"{100 * margin:.1f}"
        return less.within(margin), str(less)

    status, shown = ap_verdict(read)
    return status, (
        f"AP on Focus DETR's scores less that on BAViT's, at {percent(TRAINED_AT, 0)} sparsity {shown}. Similar would "
        f"be within {percent(alike)} of the dense AP, {listed(margins)}."
    )


def _postprocessed() -> dict[str, pd.DataFrame]:
    """The appendix's setting step by step, which is the index, by data set with stored rows. Raises NotRun."""

    def read(dataset: str) -> pd.DataFrame:
        rows = stored(f"postprocessing-{dataset}", "accuracy", neighbours=8, more_than=PAPER.fill_more_than)
        return rows.sort_values("step").set_index("step", drop=False)

    return {_NAMES[dataset]: rows for dataset, rows in on_each(read, _NAMES).items()}


@claim(47, "Appendix", "“including the post processing convolution is expected to improve accuracy of the model "
       "significantly”.", "measured")  # fmt: skip
def postprocessing_improves():
    """Measures token accuracy before and after three steps, and foreground kept against a moved threshold (stored)."""
    found, steps = _postprocessed(), PAPER.fill_steps
    shown = {name: f"{percent(rows.accuracy[0])} → {percent(rows.accuracy[steps])}" for name, rows in found.items()}
    fill = [papers_setting(rows.reset_index(drop=True)).iloc[0] for rows in found.values()]
    return verdict(*(rows.accuracy[steps] > rows.accuracy[0] for rows in found.values()), own=False), (
        f"Accuracy after {steps} steps: {'; '.join(f'{name} {each}' for name, each in shown.items())}. Foreground kept, "
        f"less what a moved threshold keeps at equal sparsity: "
        f"{', '.join(str(Interval.of(row, 'delta_fg_recall')) for row in fill)} points."
    )


@claim(48, "Appendix", "“We found 3 steps to be optimal”.", "measured")
def three_steps_optimal():
    """Looks for the step with the highest token accuracy, 0 to 5, on each data set (stored)."""
    found, steps = _postprocessed(), PAPER.fill_steps
    best = {name: int(rows.accuracy.idxmax()) for name, rows in found.items()}
    left = "; ".join(f"{percent(rows.sparsity[0], 0)} → {percent(rows.sparsity[steps], 0)}" for rows in found.values())
    return verdict(*(step == steps for step in best.values()), own=False), (
        f"Steps with the highest accuracy: {'; '.join(f'{step} on {name}' for name, step in best.items())}. {steps} "
        f"steps take sparsity from {left}. Which measure was optimal isn't said."
    )


@claim(49, "Appendix", "“More steps reduces classification error but it increases number of FG patches which were "
       "BG”.", "measured")  # fmt: skip
def more_steps_less_error():
    """Follows missed foreground, accuracy and patches kept over steps 0 to 5 (stored)."""
    found = list(_postprocessed().values())
    missed_less, kept_more, accurate = (
        all((sign * rows[column].diff().iloc[1:] > 0).all() for rows in found)
        for column, sign in (("fg_recall", 1), ("sparsity", -1), ("accuracy", 1))
    )
    missed, accuracy = (
        ", ".join(f"{percent(each.iloc[0], 0)} → {percent(each.iloc[-1], 0)}" for each in columns)
        for columns in ([1 - rows.fg_recall for rows in found], [rows.accuracy for rows in found])
    )
    return verdict(missed_less, kept_more, accurate, own=False), (
        f"Over {len(found[0]) - 1} steps FG patches missed go {missed}, at every step "
        f"{'fewer' if missed_less else 'not always fewer'}; sparsity falls {'always' if kept_more else 'not always'}; "
        f"accuracy goes {accuracy}."
    )
