"""What decides BAViT's token accuracy: trainings at half scale that differ in one thing from a common base."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..annotations import stacked_labels
from ..bavit import create_bavit, foreground_maps
from ..config import PATCH_SIZE, Recipe
from ..cost import bavit_multiply_adds
from ..data import pretrained
from ..data.records import Record
from ..metrics import token_metrics
from ..training.bavit import fit_bavit
from ..training.pictures import TokenPictures

_RECIPE = Recipe(epochs=4, batch_size=16, lr=5e-4, mixed_precision="bf16")


@dataclass(frozen=True)
class Variant:
    """One training of an ablation: BAViT-small at 192 px, four epochs from the ImageNet blocks, unless said otherwise.

    `n_train` takes the first pictures of the training list, for as many steps as all of them would get.
    """

    value: str | int  # what the figure writes under it
    depth: int = 2
    img_size: int = 192
    pretrained: bool = True
    n_train: int | None = None
    rule: str = "mask"
    tau: float | None = None  # the rule's own
    recipe: Recipe = _RECIPE

    @property
    def name(self) -> str:
        """What differs from the base, as a folder's name; equal trainings of two ablations have the same."""
        usual = Variant(self.value)
        mine, others = ({**vars(variant), **vars(variant.recipe)} for variant in (self, usual))
        changes = [f"{key}-{value}" for key, value in mine.items() if key != "recipe" and value != others[key]]
        return re.sub(r"[^\w.-]+", "-", "-".join(changes)).strip("-") or "base"


def _recipe(value: str, **changes) -> Variant:
    return Variant(value, recipe=replace(_RECIPE, **changes))


# One figure each (Table 1's accuracy, sections 3.1 to 3.4); `recipe` holds the choices made on part of the training list.
ABLATIONS: dict[str, tuple[Variant, ...]] = {
    "depth": tuple(Variant(depth, depth=depth) for depth in (1, 2, 4, 6, 10)),
    "size": tuple(Variant(size, img_size=size) for size in (192, 288, 384)),
    "init": (Variant("ImageNet"), Variant("random", pretrained=False)),
    "pictures": tuple(Variant(n or "all", n_train=n) for n in (80, 160, 325, 650, None)),
    "rule": (
        Variant("mask > 10 %"),
        Variant("mask > 50 %", tau=0.5),
        Variant("box ≥ 50 %", rule="box"),
        Variant("box ≥ 10 %", rule="box", tau=0.1),
    ),
    "recipe": (
        _recipe("as the ablations"),
        _recipe("no crops", augment=("flip", "colour")),
        _recipe("flips alone", augment=("flip",)),
        _recipe("nothing changed", augment=()),
        _recipe("twice the rate", lr=1e-3),
        _recipe("foreground x 1.5", fg_weight=1.5),
    ),
}


def run_variant(
    variant: Variant, train: list[Record], dev: list[Record], held_out: list[Record], folder: Path, seed: int = 0
) -> dict:
    """Train a variant (its state in `folder`, taken up again after an interruption) and measure it on `held_out`.

    Returns a row: the variant, `token_metrics` by its own labels, the same by mask labels at 10 % (`mask_...`, where
    there are masks), multiply-adds, and the seconds of training.
    """
    grid, recipe = (variant.img_size // PATCH_SIZE,) * 2, variant.recipe
    if variant.n_train is not None:
        recipe = replace(recipe, epochs=round(recipe.epochs * len(train) / variant.n_train))
        train = train[: variant.n_train]
    torch.manual_seed(seed)
    bavit = create_bavit(variant.depth, variant.img_size, pretrained.imagenet_blocks() if variant.pretrained else None)
    data = TokenPictures(train, variant.img_size, recipe, variant.rule, seed, variant.tau)
    identity = {"variant": [variant.depth, variant.pretrained, variant.rule, data.tau]}
    fit_bavit(bavit, data, dev, folder, identity)
    maps = foreground_maps(bavit, [record.image() for record in held_out])
    labels = stacked_labels(held_out, grid, variant.rule, variant.tau)
    row = {key: value for key, value in vars(variant).items() if key != "recipe"} | {
        "tau": data.tau,
        "seed": seed,
        "n_train": len(train),
        "n_images": len(held_out),
        "gmacs": bavit_multiply_adds(variant.depth, grid[0] * grid[1]) / 1e9,
        **token_metrics(maps, labels),
    }
    if held_out[0].masks is not None:
        by_mask = token_metrics(maps, stacked_labels(held_out, grid))
        row |= {f"mask_{key}": by_mask[key] for key in ("accuracy", "auroc", "fg_recall_at_35")}
    return row
