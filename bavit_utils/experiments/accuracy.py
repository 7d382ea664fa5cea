"""Table 1: token accuracy, the paper's beside ours."""

import pandas as pd

from ..config import PROFILE_NAMES, get_profile
from ..paper import PAPER
from ..results import load_rows

_TRAINING = ["model", "dataset", "rule", "recipe"]  # what trainings of several seeds have in common


def table1() -> pd.DataFrame:
    """Table 1 beside ours, as numbers: a row for each model, data set, label rule and recipe that was trained.

    Shares are 0 to 1. `paper` is the paper's accuracy for the model and for VOC or COCO, whatever our year and rule, as
    it doesn't say; missing beside other data. `accuracy`, `majority`, `balanced_accuracy`, `auroc`, `fg_recall_at_35`
    and `minutes` are means over `seeds`, `seed_std` the accuracy's standard deviation; `accuracy_low`, `accuracy_high`
    (95 % over pictures), `n_train` and `n_images` are the first seed's; `img_size` is the side in pixels. A row of the
    paper's for which nothing was trained stands there without ours: its `accuracy` is missing.
    """
    means = ["accuracy", "majority", "balanced_accuracy", "auroc", "fg_recall_at_35", "train_s"]
    firsts = ["accuracy_low", "accuracy_high", "n_train", "n_images"]
    stored = load_rows("table1").reindex(columns=[*_TRAINING, "seed", *means, *firsts])
    stored = stored.astype(dict.fromkeys(_TRAINING, str))  # where nothing is stored, too
    runs = stored.sort_values("seed", kind="stable").groupby(_TRAINING, as_index=False)
    ours = runs[means].mean().merge(runs[firsts].first())
    ours["seeds"], ours["seed_std"] = runs.size()["size"], runs["accuracy"].std()["accuracy"]
    ours["minutes"] = ours.pop("train_s") / 60
    ours["img_size"] = [_img_size(*row) for row in ours[["dataset", "recipe"]].itertuples(index=False)]
    ours["data"] = ours["dataset"].str.replace(r"20\d\d$", "", regex=True)
    paper = pd.DataFrame(PAPER.table1).drop(columns="depth").rename(columns={"accuracy": "paper", "dataset": "data"})
    beside = paper.merge(ours, how="left", on=["model", "data"])
    beside["dataset"] = beside["dataset"].fillna(beside["data"])
    others = ours[~ours["data"].isin(paper["data"])].sort_values("model", ascending=False, kind="stable")
    return pd.concat([beside, others], ignore_index=True).drop(columns="data")


def _img_size(dataset: str, recipe: str) -> int:
    """BAViT's side in the profile that a stored row is of: a recipe's name ends with the profile's suffix."""
    half = get_profile("voc")
    name = dataset if dataset in PROFILE_NAMES else half.name if recipe.endswith(half.suffix) else "voc-512"
    return get_profile(name).bavit_img_size
