"""Checks of the paper's positive claims about BAViT itself: accuracy, cost, post-processing."""

import numpy as np
import pandas as pd
import torch

from ..annotations import stacked_labels
from ..bavit import foreground_maps, load_bavit
from ..config import DEPTHS, Profile, get_profile
from ..cost import bavit_multiply_adds, bavit_parameters, yolos_multiply_adds, yolos_parameters
from ..data.records import load_records
from ..experiments.postprocessing import papers_setting
from ..finetuning_tables import TRAINED_AT
from ..metrics import token_metrics
from ..paper import PAPER
from .base import (
    NOT_AS_STATED,
    PARTLY,
    REPRODUCED,
    Claim,
    NotRun,
    Outcome,
    change,
    listed,
    measured_status,
    of_each_data,
    percent,
    stored,
)

_SHOWN = {"coco": "COCO", "voc2012": "VOC2012", "voc2007": "VOC2007"}
_RULES = {"mask": "masks", "box": "boxes"}
_POSTPROCESSED = {"coco": "COCO", "voc2012": "VOC2012", "sample": "the sample world"}
_PAPER_ACCURACY = {(row["model"], row["dataset"]): row["accuracy"] for row in PAPER.table1}


def _accuracies(model: str) -> pd.DataFrame:
    """Stored accuracy of a model on photographs, a row for each data set and label rule, over seeds."""
    rows = stored("table1", "accuracy", model=model, recipe="best", dataset=["voc2012", "voc2007", "coco"])
    rows = (
        rows.groupby(["dataset", "rule"], sort=False)[["accuracy", "accuracy_low", "majority", "n_images"]]
        .mean()
        .reset_index()
    )
    rows["paper"] = [_PAPER_ACCURACY[model, "coco" if name == "coco" else "voc"] for name in rows.dataset]
    return rows


def _accuracy_outcome(rows: pd.DataFrame) -> Outcome:
    holds = (rows.accuracy >= rows.paper - 0.01) & (rows.accuracy_low > rows.majority)
    whole = holds.all() and (rows[rows.dataset == "coco"].n_images == PAPER.n_val_images).any()
    told = "; ".join(
        f"{_SHOWN[row.dataset]} by {_RULES[row.rule]} {percent(row.accuracy)} (paper {percent(row.paper)}, "
        f"always one class {percent(row.majority)})"
        for row in rows.itertuples()
    )
    status = REPRODUCED if whole else PARTLY if holds.any() else NOT_AS_STATED
    pictures = f"{int(rows.n_images.min()):,} to {int(rows.n_images.max()):,}"
    return Outcome(status, f"{told}. On {pictures} held-out pictures.")


def small_separates(profile: Profile) -> Outcome:
    """Reads BAViT-small's token accuracy on held-out photographs (stored); no set of pictures is the paper's own."""
    return _accuracy_outcome(_accuracies("bavit-small"))


def large_separates(profile: Profile) -> Outcome:
    """Reads ten blocks' token accuracy on photographs (stored); where they were run at half scale alone, that."""
    try:
        return _accuracy_outcome(_accuracies("bavit-large"))
    except NotRun:
        row = stored("ablation-depth", "accuracy_low", depth=DEPTHS["bavit-large"]).iloc[0]
        paper = _PAPER_ACCURACY["bavit-large", "voc"]
        return Outcome(
            PARTLY if row.accuracy >= paper - 0.01 else NOT_AS_STATED,
            f"VOC2012 by masks {percent(row.accuracy)} at half scale (paper {percent(paper)}, always one class "
            f"{percent(row.majority)}); on COCO not run here.",
        )


def large_is_better(profile: Profile) -> Outcome:
    """Subtracts two blocks' accuracy from ten blocks', on VOC2012 and the sample world (stored), and in Table 1."""
    small, large = DEPTHS["bavit-small"], DEPTHS["bavit-large"]
    depths = stored("ablation-depth", "accuracy_low").set_index("depth")
    sample = stored("table1", "accuracy_low", dataset="sample").set_index("depth")
    pairs = {"VOC2012 at half scale": depths, "the sample world": sample[~sample.index.duplicated()]}
    clear = [rows.accuracy_low[large] > rows.accuracy_high[small] for rows in pairs.values()]
    told = ", ".join(
        f"{100 * (rows.accuracy[large] - rows.accuracy[small]):+.1f} on {name}" for name, rows in pairs.items()
    )
    paper = [_PAPER_ACCURACY["bavit-large", name] - _PAPER_ACCURACY["bavit-small", name] for name in ("voc", "coco")]
    return Outcome(
        PARTLY if any(clear) else NOT_AS_STATED,
        f"Ten blocks less two: {told} (points of accuracy). The paper: {100 * paper[0]:+.1f} on VOC, "
        f"{100 * paper[1]:+.1f} on COCO.",
    )


def several_classes(profile: Profile) -> Outcome:
    """Runs BAViT-small on the sample world, and compares pictures of one class with those of several."""
    sample = get_profile("sample")
    if not sample.checkpoint("bavit-small").exists():
        raise NotRun("the sample world's BAViT-small")
    records = [record for record in load_records("sample", "val") if len(record.boxes)]
    maps = foreground_maps(load_bavit(sample.checkpoint("bavit-small")), [record.image() for record in records])
    labels = torch.from_numpy(stacked_labels(records, sample.bavit_grid))
    several = np.array([len(set(record.labels.tolist())) > 1 for record in records])
    one, more = (
        token_metrics(maps[which], labels[which], n_boot=1)["balanced_accuracy"] for which in (~several, several)
    )
    return Outcome(
        PARTLY if more > one - 0.05 else NOT_AS_STATED,
        f"Balanced token accuracy is about {more:.1f} on the {several.sum()} pictures of the sample world with several "
        f"classes, and about {one:.1f} on the {(~several).sum()} with one.",
    )


def any_depth_and_data(profile: Profile) -> Outcome:
    """Reads accuracy against depth, and the margin over always one class on each data set (stored)."""
    depths = stored("ablation-depth", "accuracy").sort_values("depth")
    rows = stored("table1", "accuracy_low", model="bavit-small")
    margins = (rows.accuracy_low - rows.majority).groupby(rows.dataset).min()
    holds = [depths.accuracy.is_monotonic_increasing, (margins > 0).all()]
    told = ", ".join(f"{row.depth}: {percent(row.accuracy)}" for row in depths.itertuples())
    return Outcome(
        REPRODUCED if all(holds) else PARTLY if any(holds) else NOT_AS_STATED,
        f"Accuracy by blocks on VOC2012, half scale: {told}, for {depths.gmacs.iloc[0]:.2f} to "
        f"{depths.gmacs.iloc[-1]:.2f} GMAC. On {len(margins)} data sets ({', '.join(margins.index)}) small is at "
        f"least {100 * margins.min():.0f} points above always one class.",
    )


def marginal_cost(profile: Profile) -> Outcome:
    """Computes BAViT-small's share of YOLOS-tiny's parameters, multiply-adds and tokens."""
    depth = DEPTHS["bavit-small"]
    shares = {
        "parameters": bavit_parameters(depth) / yolos_parameters(),
        "multiply-adds": bavit_multiply_adds(depth) / yolos_multiply_adds(PAPER.detector_tokens),
        "tokens": PAPER.table2[0]["tokens_bavit"] / PAPER.table2[0]["tokens_yolos"],
    }
    printed = PAPER.bavit_parameters / PAPER.yolos_parameters
    small = [share <= 0.1 for share in shares.values()]
    return Outcome(
        REPRODUCED if all(small) else PARTLY if any(small) else NOT_AS_STATED,
        ", ".join(f"{percent(share)} of the {name}" for name, share in shares.items())
        + f" of YOLOS-tiny; the paper's own numbers are {percent(printed)} of the parameters.",
    )


def like_focus_detr(profile: Profile) -> Outcome:
    """Compares AP on Focus DETR's choice and on BAViT's, at equal sparsity (stored); looks are notebook 8's."""

    def read(name: str) -> pd.Series:
        rows = stored(
            f"selectors-{name}", "delta_to_bavit", "delta_low", "delta_high", selector="focus-detr", sparsity=TRAINED_AT
        )
        return rows.iloc[0]

    found = of_each_data(profile, read)
    told = listed({name: change(row, "delta_to_bavit") for name, row in found.items()})
    return Outcome(
        measured_status({name: row.delta_low <= 0 for name, row in found.items()}),
        f"Focus DETR's way of choosing less BAViT's, AP at {percent(TRAINED_AT, 0)} sparsity {told}. It holds where "
        "Focus DETR's isn't clearly better.",
    )


def _postprocessed() -> dict[str, pd.DataFrame]:
    """The appendix's setting step by step, by data set; those without stored rows are left out."""
    found = {}
    for name, shown in _POSTPROCESSED.items():
        try:
            found[shown] = stored(
                f"postprocessing-{name}", "accuracy", neighbours=8, more_than=PAPER.fill_more_than
            ).set_index("step").sort_index()  # fmt: skip
        except NotRun as missing:
            last = missing
    if not found:
        raise last
    return found


def postprocessing_improves(profile: Profile) -> Outcome:
    """Measures token accuracy before and after three steps, and foreground kept against a moved threshold (stored)."""
    found = _postprocessed()
    better = [rows.accuracy[PAPER.fill_steps] > rows.accuracy[0] for rows in found.values()]
    told = "; ".join(
        f"{name} {percent(rows.accuracy[0])} → {percent(rows.accuracy[PAPER.fill_steps])}"
        for name, rows in found.items()
    )
    deltas = [papers_setting(rows.reset_index()).delta_fg_recall.iloc[0] for rows in found.values()]
    against = ", ".join(f"{100 * delta:+.1f}" for delta in deltas)
    return Outcome(
        REPRODUCED if all(better) else PARTLY if any(better) else NOT_AS_STATED,
        f"Accuracy after {PAPER.fill_steps} steps: {told}. Foreground kept, less what a moved threshold keeps at "
        f"equal sparsity: {against} points.",
    )


def three_steps_optimal(profile: Profile) -> Outcome:
    """Looks for the step with the highest token accuracy, 0 to 5, on each data set (stored)."""
    found = _postprocessed()
    best = {name: int(rows.accuracy.idxmax()) for name, rows in found.items()}
    fits = [step == PAPER.fill_steps for step in best.values()]
    told = "; ".join(f"{step} on {name}" for name, step in best.items())
    left = "; ".join(
        f"{percent(rows.sparsity[0], 0)} → {percent(rows.sparsity[PAPER.fill_steps], 0)}" for rows in found.values()
    )
    return Outcome(
        REPRODUCED if all(fits) else PARTLY if any(fits) else NOT_AS_STATED,
        f"Steps with the highest accuracy: {told}. Three steps take sparsity from {left}. Which measure was optimal "
        "isn't said.",
    )


def more_steps_less_error(profile: Profile) -> Outcome:
    """Follows missed foreground, accuracy and patches kept over steps 0 to 5 (stored)."""
    found = _postprocessed().values()
    missed_less, kept_more, accurate = (
        all(
            sign * rows[column].diff().iloc[1:].max() < 0 if sign > 0 else rows[column].diff().iloc[1:].min() > 0
            for rows in found
        )
        for column, sign in (("fg_recall", -1), ("sparsity", 1), ("accuracy", -1))
    )
    ends = 0, next(rows.index[-1] for rows in found)
    missed, accuracy = (
        ", ".join(" → ".join(percent(value, 0) for value in column[list(ends)]) for column in columns)
        for columns in ([1 - rows.fg_recall for rows in found], [rows.accuracy for rows in found])
    )
    return Outcome(
        REPRODUCED
        if missed_less and kept_more and accurate
        else PARTLY
        if missed_less and kept_more
        else NOT_AS_STATED,
        f"Over {ends[1]} steps FG patches missed go {missed}, at every step "
        f"{'fewer' if missed_less else 'not always fewer'}; sparsity falls {'always' if kept_more else 'not always'}; "
        f"accuracy goes {accuracy}.",
    )


ABOUT_BAVIT = (
    Claim(40, "Abstract", "“Using 2 layers” tokens are separated with “75%” accuracy on VOC and “71%” on "
          "COCO.", small_separates),
    Claim(41, "Conclusion", "“accuracy of up to 88.79% on the Pascal VOC dataset and 80.57% on the COCO dataset "
          "using a 10-layer transformer model”.", large_separates),
    Claim(42, "§ 3.2, Table 1", "10 layers beat 2: “to show the scalability and flexibility of this "
          "approach”.", large_is_better),
    Claim(43, "§ 4.1", "“able to separate FG/BG patches effectively even with multiple objects from different "
          "classes”.", several_classes),
    Claim(44, "§ 4.1", "“can be applied to different datasets with configurable number of "
          "layers”.", any_depth_and_data),
    Claim(45, "§ 4.1", "“marginally increases the total number of parameters” and “FLOP counts”.", marginal_cost),
    Claim(46, "§ 2.3", "“produces foreground images which visibly looks very similar to Focus DETR produced "
          "foreground images”.", like_focus_detr),
    Claim(47, "Appendix", "“including the post processing convolution is expected to improve accuracy of the model "
          "significantly”.", postprocessing_improves),
    Claim(48, "Appendix", "“We found 3 steps to be optimal”.", three_steps_optimal),
    Claim(49, "Appendix", "“More steps reduces classification error but it increases number of FG patches which were "
          "BG”.", more_steps_less_error),
)  # fmt: skip
