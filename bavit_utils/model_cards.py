"""Model cards: what each committed checkpoint is, what it was trained on, how good it is, and what it is not for."""

import json
import re
from pathlib import Path

from safetensors import safe_open

from . import config
from .accuracy import DATA_NOTES
from .config import Recipe, get_profile
from .results import load_rows, short_hash
from .selectors.heads import SELECTORS
from .selectors.training import selector_recipe

CARDS = "README.md"  # among the checkpoints
_PROFILE_OF = {"sample": "sample", "voc2007": "voc", "voc2012": "voc", "coco": "coco"}
_LIMITS = {
    "sample": "It has seen drawn scenes only and knows nothing of photographs.",
    "voc2007": "It takes what VOC has no class for as background, and half-covered patches at a box's edge as foreground; its pictures "
    "are not those of a published protocol.",
    "voc2012": "It has seen animals and people: other things, aeroplanes and furniture among them, it prunes.",
    "coco": "It comes from a few hundred pictures: fit to show the method on COCO, not to be used for its own sake.",
}
_HEAD = """# Checkpoints

Written by `bavit readme` from the files' own metadata and `data/results/`. All are safetensors, in half precision or
with matrices in eight bits, and load with `bavit_utils.bavit.load_bavit` or `bavit_utils.yolos.load_yolos`. They were
trained by the commands given, from ImageNet's ViT-tiny blocks (`vit_tiny_patch16_224.augreg_in21k_ft_in1k`, Apache 2.0)
or from each other, and are under this repository's licence. They are there to reproduce a paper and are no products:
which patches of a picture of people matter is not theirs to decide.
"""


def bundled(folder: Path | None = None) -> list[Path]:
    """The checkpoints that the repository holds: without those of photographs at half scale and of own pictures."""
    return [path for path in sorted((folder or config.CHECKPOINTS).glob("*.safetensors")) if not re.search(r"-half\.|-own-", path.name)]


def model_cards(folder: Path | None = None) -> str:
    """The cards of the bundled checkpoints in a folder, as Markdown: data, recipe, metrics and limits of each."""
    return "\n".join([_HEAD, *map(_card, bundled(folder))])


def _card(path: Path) -> str:
    with safe_open(path, framework="pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items() if key != "format"}
    dataset = metadata["dataset"]
    profile = get_profile(metadata.get("profile", _PROFILE_OF[dataset]))
    model = path.stem.split(f"-{dataset}")[0]
    kind, rule = metadata["model"], metadata.get("rule", profile.pruner_rule)
    if kind == "bavit":
        recipe, labels = profile.bavit_recipe, f"labels by the {rule} rule"
        measured = _bavit_metrics(path, model, dataset, rule)
    elif kind in SELECTORS:
        recipe = selector_recipe(profile, kind)
        labels = "the detector's attention" if kind == "sparse-detr" else "boxes"
        measured = _selector_metrics(path, profile.name, model)
    else:
        recipe, labels = profile.detector_recipe if model == "yolos" else profile.finetune_recipe, "boxes"
        measured = _detector_metrics(path, profile.name, model)
    rows = [
        ("what", _what(metadata, path.parent)),
        ("data", f"`{dataset}`, {labels}: {DATA_NOTES[dataset, rule]}"),
        ("recipe", _recipe(recipe) + _started_from(metadata.get("start"), path.parent)),
        *measured,
        ("limits", _LIMITS[dataset]),
        ("file", f"{path.stat().st_size / 1e6:.1f} MB, SHA-256 {short_hash(path)}…"),
    ]
    return f"## `{path.name}`\n\n| | |\n|:--|:--|\n" + "".join(f"| {name} | {text} |\n" for name, text in rows)


def _what(metadata: dict, folder: Path) -> str:
    if metadata["model"] in SELECTORS:
        author = {"sparse-detr": "Sparse DETR", "focus-detr": "Focus DETR"}[metadata["model"]]
        return (
            f"{author}'s scoring of patches, on the patch embeddings of {_by_hash(metadata['detector'], folder)} alone"
        )
    if metadata["model"] == "bavit":
        side = metadata["img_size"]
        return f"BAViT of {metadata['depth']} blocks for {side} px ({side // 16}x{side // 16} patches): foreground or background"
    config = metadata["config"]
    return (
        f"YOLOS of {config['num_hidden_layers']} layers, {config['num_detection_tokens']} detection tokens, "
        f"{config['image_size'][0]} px, {len(config['id2label'])} classes"
    )


def _recipe(recipe: Recipe) -> str:
    changes = ", ".join(recipe.augment) or "no augmentation"
    small = f", the first {recipe.small_epochs} at {recipe.small_img_size} px" if recipe.small_epochs else ""
    return (
        f"AdamW, {recipe.epochs} epochs{small}, batch {recipe.batch_size}, rate {recipe.lr:g} with warm-up and cosine, "
        f"weight decay {recipe.weight_decay:g}; {changes}"
    )


def _started_from(start: str | None, folder: Path) -> str:
    return f"; went on from {_by_hash(start, folder)}" if start else ""


def _by_hash(digest: str, folder: Path) -> str:
    """Which of the folder's checkpoints has this hash."""
    found = [path.name for path in sorted((folder or config.CHECKPOINTS).glob("*.safetensors")) if short_hash(path) == digest]
    return f"`{found[0]}`" if found else f"a checkpoint {digest}…"


def _bavit_metrics(path: Path, model: str, dataset: str, rule: str) -> list[tuple[str, str]]:
    rows = load_rows("table1", model=model, dataset=dataset, rule=rule, seed=0)
    made = [(run, source) for run, source in rows.attrs["provenance"].items() if source["checkpoints"].get(path.name)]
    if not made:
        return [("metrics", "not measured")]
    run, source = made[0]
    row = rows[rows.run == run].iloc[0]
    return [
        (
            "metrics",
            (
                f"token accuracy {row.accuracy:.1%} ({row.accuracy_low:.1%} to {row.accuracy_high:.1%}; always one class "
                f"{row.majority:.1%}), balanced {row.balanced_accuracy:.1%}, AUROC {row.auroc:.3f}, {row.fg_recall_at_35:.1%} of the "
                f"foreground kept at 35 % sparsity; on {row.n_images} held-out pictures, trained on {row.n_train}"
            ),
        ),
        _made_by(source),
    ]


def _selector_metrics(path: Path, profile: str, model: str) -> list[tuple[str, str]]:
    rows = load_rows(f"selectors-{profile}", selector=model, budget=0.35)
    metrics = [
        ("metrics", f"AP {row.AP:.3f} with 35 % of the patches pruned by it, on {row.n_images} held-out pictures")
        for row in rows[:1].itertuples()
    ]
    return [*(metrics or [("metrics", "not measured")]), *_made(path)]


def _detector_metrics(path: Path, profile: str, model: str) -> list[tuple[str, str]]:
    rows = load_rows(f"table2-{profile}", detector=model, sparsity=0.0)
    rows = rows.drop_duplicates("detector") if len(rows) else rows
    metrics = [
        ("metrics", f"AP {row.AP:.3f}, AP50 {row.AP50:.3f} on {row.n_images} held-out pictures")
        for row in rows.itertuples()
    ]
    return [*metrics, *_made(path)]


def _made(path: Path) -> list[tuple[str, str]]:
    """The command behind the training's stored curve."""
    curves = load_rows("curves").attrs["provenance"]
    return [_made_by(source) for source in curves.values() if source["checkpoints"].get(path.name)][:1]


def _made_by(source: dict) -> tuple[str, str]:
    return "made by", f"`{source['command']}` at {source['commit']}, {source['date']}, on {source['device']}"
