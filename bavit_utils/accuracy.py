"""Table 1 from the stored rows: the paper's accuracy beside ours over seeds, and what our data is and is not."""

from itertools import product

import pandas as pd

from .config import DEPTHS
from .paper import PAPER
from .results import NOT_RUN, load_rows

# How the data behind the stored rows differs from the paper's, by (data set, label rule).
DATA_NOTES = {
    (
        "voc2012",
        "mask",
    ): """VOC2012 trainval pictures of an animal-pose collection with the masks of VOC2012 and SBD: mostly
        dogs, cats, sheep, horses, cows and people, an easier task than all of VOC""",
    (
        "voc2007",
        "box",
    ): """a random re-split of VOC2007's official test set, 20 classes: not the official protocol, as its
        training pictures are not in it""",
    (
        "coco",
        "mask",
    ): """a subset of a few hundred pictures of train2017 and val2017 with their original annotations; the
        paper has all 118,287 and 5,000""",
    ("coco", "box"): "the same pictures as in the row of masks, labelled by boxes",
    ("sample", "mask"): "the drawn world that comes with this repository; the paper has nothing like it",
}
DATA_NOTES = {key: " ".join(text.split()) for key, text in DATA_NOTES.items()}
_MEASURES = {
    "majority": "always one class (%)", "balanced_accuracy": "balanced (%)", "auroc": "AUROC",
    "fg_recall_at_35": "FG kept at 35 % (%)",
}  # fmt: skip


def table1(datasets: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Table 1: a row for each data set, label rule, model and recipe; the paper's accuracy, and ours over its seeds.

    The stored rows of several seeds are averaged, `± seeds` is their standard deviation, and the 95 % interval is that
    of seed 0, from a bootstrap over pictures. Percentages are 0 to 100. A combination that was not run says so in
    `ours (%)`, and has nothing else. `datasets` picks some.
    """
    stored = load_rows("table1")
    rows = []
    for (dataset, rule), model, recipe in product(DATA_NOTES, DEPTHS, ("best", "paper")):
        if (datasets and dataset not in datasets) or (dataset == "sample" and recipe == "paper"):
            continue
        # The paper does not say which rule or VOC year its rows are of: each of ours stands beside the same number.
        paper = [
            row["accuracy"] for row in PAPER.table1 if row["model"] == model and dataset.startswith(row["dataset"])
        ]
        ours = stored[
            (stored.model == model) & (stored.dataset == dataset) & (stored.rule == rule)
            & ((stored.recipe == "paper") == (recipe == "paper")) & ~stored.recipe.str.endswith("-half")
        ] if len(stored) else stored  # fmt: skip
        rows.append(
            {
                "model": model,
                "data set": dataset,
                "labels": rule,
                "recipe": recipe,
                "paper (%)": 100 * paper[0] if paper else None,
            }
            | _over_seeds(ours)
        )
    return pd.DataFrame(rows)


def _over_seeds(ours: pd.DataFrame) -> dict:
    if not len(ours):
        return {"ours (%)": NOT_RUN}
    first = ours.sort_values("seed").iloc[0]
    percent = {column: 1 if column == "auroc" else 100 for column in _MEASURES}
    return {
        "ours (%)": f"{100 * ours.accuracy.mean():.1f}",
        "± seeds": 100 * ours.accuracy.std() if len(ours) > 1 else None,
        "seeds": len(ours),
        "95 % interval": f"{100 * first.accuracy_low:.1f} to {100 * first.accuracy_high:.1f}",
        **{name: percent[column] * ours[column].mean() for column, name in _MEASURES.items()},
        "trained on": first.n_train,
        "pictures": first.n_images,
        "minutes": ours.train_s.mean() / 60,
        "device": first.device,
    }
