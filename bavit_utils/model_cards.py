"""Model cards: what each committed checkpoint is, what it was trained on, how good it is, and what it is not for."""

import json
from pathlib import Path

from safetensors import safe_open

from .accuracy import DATA_NOTES
from .config import CHECKPOINTS, Recipe, get_profile
from .results import load_rows, short_hash

CARDS = CHECKPOINTS / "README.md"
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


def model_cards(folder: Path = CHECKPOINTS) -> str:
    """The cards of all checkpoints in a folder, as Markdown: data, recipe, metrics and limits of each."""
    return "\n".join([_HEAD, *(_card(path) for path in sorted(folder.glob("*.safetensors")))])


def _card(path: Path) -> str:
    with safe_open(path, framework="pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items() if key != "format"}
    dataset = metadata["dataset"]
    profile = get_profile(metadata.get("profile", _PROFILE_OF[dataset]))
    model = path.stem.split(f"-{dataset}")[0]
    is_bavit = metadata["model"] == "bavit"
    of_detectors = {"yolos": profile.detector_recipe}
    recipe = profile.bavit_recipe if is_bavit else of_detectors.get(model, profile.finetune_recipe)
    rule = metadata.get("rule", "mask")
    data = f"`{dataset}`, {'labels by the ' + rule + ' rule' if is_bavit else 'boxes'}: {DATA_NOTES[dataset, rule]}"
    rows = [
        ("what", _what(metadata, is_bavit)),
        ("data", data),
        ("recipe", _recipe(recipe) + _started_from(metadata.get("start"), path.parent)),
        *(_bavit_metrics(path, model, dataset, rule) if is_bavit else _detector_metrics(path, profile.name, model)),
        ("limits", _LIMITS[dataset]),
        ("file", f"{path.stat().st_size / 1e6:.1f} MB, SHA-256 {short_hash(path)}…"),
    ]
    return f"## `{path.name}`\n\n| | |\n|:--|:--|\n" + "".join(f"| {name} | {text} |\n" for name, text in rows)


def _what(metadata: dict, is_bavit: bool) -> str:
    if is_bavit:
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
    small += f", the first {recipe.composed_epochs} on composed scenes" if recipe.composed_epochs else ""
    return (
        f"AdamW, {recipe.epochs} epochs{small}, batch {recipe.batch_size}, rate {recipe.lr:g} with warm-up and cosine, "
        f"weight decay {recipe.weight_decay:g}; {changes}"
    )


def _started_from(start: str | None, folder: Path) -> str:
    """Which of the folder's checkpoints a training went on from, by its hash."""
    found = [path.name for path in sorted(folder.glob("*.safetensors")) if start and short_hash(path) == start]
    return f"; went on from `{found[0]}`" if found else f"; went on from a checkpoint {start}…" if start else ""


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
            f"token accuracy {row.accuracy:.1%} ({row.accuracy_low:.1%} to {row.accuracy_high:.1%}; always one class "
            f"{row.majority:.1%}), balanced {row.balanced_accuracy:.1%}, AUROC {row.auroc:.3f}, {row.fg_recall_at_35:.1%} of the "
            f"foreground kept at 35 % sparsity; on {row.n_images} held-out pictures, trained on {row.n_train}",
        ),
        _made_by(source),
    ]


def _detector_metrics(path: Path, profile: str, model: str) -> list[tuple[str, str]]:
    rows = load_rows(f"table2-{profile}", detector=model, sparsity=0.0)
    rows = rows.drop_duplicates("detector") if len(rows) else rows
    curves = load_rows("curves").attrs["provenance"]
    made = [_made_by(source) for source in curves.values() if source["checkpoints"].get(path.name)]
    metrics = [
        ("metrics", f"AP {row.AP:.3f}, AP50 {row.AP50:.3f} on {row.n_images} held-out pictures")
        for row in rows.itertuples()
    ]
    return [*metrics, *made[:1]]


def _made_by(source: dict) -> tuple[str, str]:
    return "made by", f"`{source['command']}` at {source['commit']}, {source['date']}, on {source['device']}"
