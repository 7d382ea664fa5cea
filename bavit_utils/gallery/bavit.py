"""The gallery's entries of notebooks 02 and 03: BAViT, its trainings, its accuracy (Fig. 3 left, Table 1, Fig. 4)."""

from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure

from .. import config
from ..accuracy import DATA_NOTES, table1
from ..accuracy_plots import ablation_figure, table1_figure
from ..annotations import stacked_labels
from ..bavit import create_bavit, foreground_maps, load_bavit
from ..config import DEPTHS, EVAL_SPLIT, PAPER_RECIPE, Profile
from ..cost import bavit_multiply_adds, bavit_parameters
from ..drawings import draw_bavit
from ..paper import PAPER
from ..picture_plots import figure4
from ..plots import sparsity_histogram, training_curves
from ..pruning import keep_mask, sparsity
from ..results import NOT_RUN, load_rows
from .entry import Entry, photographs, split_maps, split_records

_PARTS = {
    "patch_embed": "16 x 16 x 3 values to 192", "pos_embed": "learned, added",
    "blocks.0": "attention (3 heads) and MLP", "blocks.1": "the same", "norm": "layer norm", "head": "192 to 2: BG, FG",
}  # fmt: skip
_ABLATIONS = {
    "depth": "Token accuracy by the number of blocks: deeper is better, up to BAViT-large's ten.",
    "size": "Token accuracy by the side of the input.",
    "init": "Token accuracy from ImageNet's blocks and from random ones: this decides most.",
    "pictures": "Token accuracy by the number of training pictures, at equal steps.",
    "rule": "Token accuracy by the label rule, each by its own labels, and the comparable AUROC by mask labels.",
}


def _parts(profile: Profile) -> pd.DataFrame:
    """Shapes and parameters of BAViT-small's parts, from a forward pass."""
    model = create_bavit(DEPTHS["bavit-small"], PAPER.bavit_img_size).eval()
    shapes = {"pos_embed": model.pos_embed.shape}

    def remember(name, module, inputs, output):
        shapes[name] = output.shape

    for name in _PARTS.keys() - shapes.keys():
        model.get_submodule(name).register_forward_hook(partial(remember, name))
    with torch.no_grad():
        model(torch.zeros(1, 3, PAPER.bavit_img_size, PAPER.bavit_img_size))
    sizes = {part: sum(p.numel() for name, p in model.named_parameters() if name.startswith(part)) for part in _PARTS}
    rows = [(part, text, str(tuple(shapes[part])), sizes[part]) for part, text in _PARTS.items()]
    rows.append(("all", "", str(tuple(shapes["head"])), sum(sizes.values())))
    return pd.DataFrame(rows, columns=["part", "what", "output", "parameters"])


def _cost(profile: Profile) -> pd.DataFrame:
    table = pd.DataFrame({"blocks": [2, 3, 10]})
    table["parameters"] = [bavit_parameters(depth) for depth in table["blocks"]]
    table["GMAC"] = [bavit_multiply_adds(depth) / 1e9 for depth in table["blocks"]]
    table["GFLOP"] = 2 * table["GMAC"]
    table["the paper's parameters"] = [PAPER.bavit_parameters, None, None]
    table["the paper's GFLOPS"] = [PAPER.bavit_flops / 1e9, None, None]
    return table


def _trainings(profile: Profile) -> pd.DataFrame:
    curves = load_rows("curves", model=list(DEPTHS))
    made_by = curves.attrs["provenance"]
    rows = [
        {
            "run": name, "steps": int(run.step.max()), "first loss": run.loss.dropna().iloc[0],
            "last loss": run.loss.dropna().iloc[-8:].mean(), "token accuracy": run.metric.dropna().iloc[-1],
            "command": made_by[name]["command"],
        }
        for name, run in (curves.groupby("run") if len(curves) else ())
    ]  # fmt: skip
    return pd.DataFrame(rows or [{"run": NOT_RUN}]).sort_values("run")


def _curves(profile: Profile) -> Figure | None:
    curves = load_rows("curves", model=list(DEPTHS))
    return training_curves(curves, "token accuracy") if len(curves) else None


def _ablation(what: str, profile: Profile) -> Figure | None:
    rows = load_rows(f"ablation-{what}")
    return ablation_figure(what, rows) if len(rows) else None


def _recipes(profile: Profile) -> pd.DataFrame | None:
    tried = load_rows("ablation-recipe")
    if not len(tried):
        return None
    shown = tried[["value", "accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "n_images"]]
    return shown.rename(columns={"value": "recipe", "n_images": "pictures"})


def _open_points(profile: Profile) -> pd.DataFrame:
    ours, printed = profile.bavit_recipe, PAPER_RECIPE
    small = f", {ours.small_epochs} of them at {ours.small_img_size} px"
    rows = [
        ("optimiser", "Adam", f"AdamW, weight decay {ours.weight_decay:g}", "Adam"),
        ("learning rate", "not said", f"{ours.lr:g} at its peak", f"{printed.lr:g}"),
        ("schedule", "steps; where and how large is not said", f"{ours.warmup_epochs:g} epoch warm-up, cosine to zero",
         f"tenfold down every {printed.step_epochs} epochs"),
        ("epochs", f"{PAPER.epochs}", f"{ours.epochs}{small}", f"{printed.epochs}"),
        ("batch size", "not said", f"{ours.batch_size}", f"{printed.batch_size}"),
        ("augmentation", "not said", ", ".join(ours.augment), ", ".join(printed.augment) or "none"),
        ("initial weights", "ImageNet-1k ViT, which blocks is not said",
         "ViT-tiny's embedding, first blocks, last norm", "the same"),
        ("seed", "not said", "0, and the command takes others", "the same"),
        ("picked checkpoint", "not said", "the last one", "the same"),
        ("measure", '"mAP" in sections 3.4 and 4.1', "token accuracy, as Table 1 has it", "the same"),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["what", "paper", "best", "our reading of the paper's"])


def _table1_figure(profile: Profile) -> Figure | None:
    table = table1()
    return table1_figure(table) if (table["ours (%)"] != NOT_RUN).any() else None


def _data(profile: Profile) -> pd.DataFrame:
    notes = [(*key, text) for key, text in DATA_NOTES.items()]
    return pd.DataFrame(notes, columns=["data set", "labels", "what it is"])


def _maps(profile: Profile) -> dict[str, torch.Tensor]:
    """The maps of BAViT-small and -large on the profile's held-out pictures, of those whose checkpoints are at hand."""
    dataset = profile.bavit_data
    paths = {model: profile.checkpoint(model, dataset, profile.bavit_rule) for model in DEPTHS}
    return {model: split_maps(path, dataset, EVAL_SPLIT[dataset]) for model, path in paths.items() if path.exists()}


def _figure4(profile: Profile) -> Figure | None:
    maps = _maps(profile)
    records = split_records(profile.bavit_data, EVAL_SPLIT[profile.bavit_data])
    shown = [i for i, record in enumerate(records) if len(record.boxes) >= 2][:10:2]
    keeps = {model: keep_mask(fg_prob[shown], 0.5).numpy() for model, fg_prob in maps.items()}
    return figure4([records[i].image() for i in shown], keeps) if keeps else None


def _background(profile: Profile) -> Figure:
    records = split_records(profile.bavit_data, EVAL_SPLIT[profile.bavit_data])
    labels = stacked_labels(records, profile.bavit_grid, profile.bavit_rule)
    shares = {"labels": 1 - (labels != 0).mean(axis=(1, 2))}
    shares |= {model: sparsity(keep_mask(fg_prob, 0.5)).numpy() for model, fg_prob in _maps(profile).items()}
    return sparsity_histogram(shares)


def _photographs(profile: Profile) -> Figure | None:
    images = list(photographs().values())
    names = ("sample-mask", "voc2012-mask", "voc2007-box", "coco-mask")
    paths = {name: config.CHECKPOINTS / f"bavit-small-{name}.safetensors" for name in names}
    maps = {name: foreground_maps(load_bavit(path), images) for name, path in paths.items() if path.exists()}
    keeps = {name: keep_mask(fg_prob, 0.5).numpy() for name, fg_prob in maps.items()}
    return figure4(images, keeps) if keeps else None


ENTRIES = (
    Entry(
        "figure", "figure3-left", lambda profile: draw_bavit(), "02",
        "BAViT part by part, drawn by code: no class token, two blocks, two outputs for every patch.", "Fig. 3",
    ),
    Entry("table", "bavit-parts", _parts, "02", "BAViT-small part by part, one picture of 384 x 384 pixels.", "Fig. 3"),
    Entry("table", "bavit-cost", _cost, "02", "BAViT at 384 px. A multiply-add (MAC) is two FLOP."),
    Entry(
        "table", "bavit-trainings", _trainings, "02",
        "Trainings of BAViT. The last loss is the mean of the last eight logged, the accuracy that on pictures held "
        "back from the training list.", results=("curves",),
    ),
    Entry(
        "figure", "bavit-training-curves", _curves, "02",
        "Loss and held-back accuracy of all trainings: most is learnt in the first few epochs, and seeds lie close "
        "together.", results=("curves",),
    ),
    Entry(
        "figure", "bavit-recipes", partial(_ablation, "recipe"), "02",
        "Token accuracy with one thing of the recipe changed: all lie within each other's intervals.",
        results=("ablation-recipe",),
    ),
    Entry(
        "table", "bavit-recipes", _recipes, "02",
        "One thing of the recipe changed at a time, on pictures held back from the training list.",
        results=("ablation-recipe",),
    ),
    Entry(
        "table", "bavit-open-points", _open_points, "02",
        "What the paper leaves open about training BAViT, and what the {p.name} profile's two recipes do.",
    ),
    Entry("table", "data", _data, "03", "The data of our rows, and how it differs from the paper's.", "Table 1"),
    Entry(
        "table", "table1", lambda profile: table1(), "03",
        "Table 1: token accuracy, the paper's beside ours, which is on other data.", "Table 1", ("table1",),
    ),
    Entry(
        "figure", "table1", _table1_figure, "03",
        "Token accuracy with 95 % intervals, the paper's, and what always giving one answer scores: the distance from "
        "that stroke is what was learnt.", "Table 1", ("table1",),
    ),
    Entry(
        "figure", "figure4", _figure4, "03",
        "What is left of a picture when BAViT-small and BAViT-large prune it, at the threshold of one half.",
        "Fig. 4", pictures=True,
    ),
    Entry(
        "figure", "photographs", _photographs, "03",
        "What four BAViT-small leave of photographs: each finds what it was taught to find, and the rocket is no "
        "class of theirs.", "Fig. 4", pictures=True,
    ),
    Entry(
        "figure", "background-of-pictures", _background, "03",
        "How the share of background is spread over pictures, by the labels and by both models.",
    ),
    *(Entry("figure", f"ablation-{what}", partial(_ablation, what), "03", caption, results=(f"ablation-{what}",))
      for what, caption in _ABLATIONS.items()),
)  # fmt: skip
