"""Profiles: which data sets, sizes, thresholds and recipes a run uses. Everything else asks here."""

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
SAMPLE_DIR = REPO / "data" / "sample"  # bundled pictures, tracked
PHOTOS_DIR = REPO / "data" / "photos"  # photographs of COCO under CC BY 2.0, tracked
CHECKPOINTS = REPO / "data" / "checkpoints"  # weights trained by us, tracked
RESULTS = REPO / "data" / "results"  # measured numbers with provenance, tracked
CACHE = REPO / "data" / "cache"  # generated pictures, git-ignored
RUNS = REPO / "runs"  # state of long trainings and sweeps, git-ignored

PATCH_SIZE = 16


@dataclass(frozen=True)
class Recipe:
    """One training recipe, in AdamW (Adam, where `weight_decay` is 0); `lr` is the peak, after a linear warm-up."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    step_epochs: int = 0  # the rate falls tenfold after so many epochs, again and again; 0: along a cosine to zero
    augment: tuple[str, ...] = ("flip", "crop", "colour")
    fg_weight: float = 1.0  # of a foreground token in BAViT's loss, beside 1 for background
    mixed_precision: str = "no"  # or "bf16", worth it on a GPU and on a CPU with bf16 instructions
    small_epochs: int = 0  # the first epochs see smaller pictures: most of what is learnt, at a fraction of the price
    small_img_size: int = 192
    # What lets a detector learn from few pictures, see `training.shared_heads` and `training.pictures`.
    shared_heads: bool = False  # its heads are applied to the patch tokens, too, one box to many patches
    patch_start: bool = False  # its detection tokens start as patches without content
    half: str = ""  # of the patches are left out: "any", or those of the "background" first; "" leaves out none
    half_until: float = 0.8  # of the training: the last third of its time sees all patches
    mosaics: float = 0.0  # this share of the visits sees four pictures in one
    mosaics_until: float = 0.75  # of the training
    backbone_lr: float = 1.0  # of the rate, for what comes from ImageNet: all but heads and detection tokens
    smallest_crop: float = 0.6  # of a side
    compiled: bool = False  # a detector's blocks; a minute at the start, then a seventh faster
    clip: float = 0.1  # the largest norm of a detector's gradient


@dataclass(frozen=True)
class Profile:
    """One scale of the whole experiment: square sides in pixels, data sets and splits as `data.records` names them.

    `bavit_data`/`bavit_rule` is the pair BAViT is shown on (section 3.1, Table 1); `pruner_data`/`pruner_rule` the pair
    whose BAViT prunes the detector (Table 2): the same kind of pictures and classes as the detector's.
    """

    name: str
    bavit_data: str
    bavit_rule: str  # "mask" or "box"
    pruner_data: str
    pruner_rule: str
    detector_data: str  # the data set whose classes the detector knows
    detector_train: tuple[str, ...]  # the data sets whose training lists it learns from
    detector_eval: tuple[str, str]
    bavit_img_size: int
    detector_img_size: int
    detector_depth: int
    num_detection_tokens: int
    bavit_recipe: Recipe
    detector_recipe: Recipe
    finetune_recipe: Recipe  # of YOLOS-F and its control, from the trained detector on (section 4.2)
    suffix: str = ""  # of the names of checkpoints and trainings, where two profiles have the same data

    @property
    def bavit_grid(self) -> tuple[int, int]:
        """BAViT's patch grid, (rows, cols)."""
        return (self.bavit_img_size // PATCH_SIZE,) * 2

    @property
    def detector_grid(self) -> tuple[int, int]:
        """The detector's patch grid, (rows, cols)."""
        return (self.detector_img_size // PATCH_SIZE,) * 2

    @property
    def detector_shape(self) -> dict[str, int]:
        """What `yolos.create_yolos` asks for besides the names of the classes."""
        return {
            "img_size": self.detector_img_size,
            "depth": self.detector_depth,
            "num_detection_tokens": self.num_detection_tokens,
        }

    @property
    def num_labels(self) -> int:
        """How many classes the detector knows; with your own pictures, as many as their lists name."""
        if self.detector_data == "own":
            from .data.own import own_classes  # only here: nothing else in this file reads data

            return len(own_classes())
        return NUM_LABELS[self.detector_data]

    def checkpoint(self, model: str, dataset: str | None = None, rule: str | None = None) -> Path:
        """Where a committed checkpoint lies, e.g. `bavit-small-sample-mask.safetensors`."""
        parts = [model, dataset or (self.detector_data if model.startswith("yolos") else self.pruner_data)]
        if model.startswith("bavit"):
            parts.append(rule or self.pruner_rule)
        return CHECKPOINTS / ("-".join(parts) + self.suffix + ".safetensors")


# BAViT-large is ten blocks, BAViT-small two (section 3.2).
DEPTHS = {"bavit-small": 2, "bavit-large": 10}
NUM_LABELS = {"sample": 8, "voc2007": 20, "voc2012": 20, "coco": 80}
EVAL_SPLIT = {"sample": "val", "voc2007": "test", "voc2012": "val", "coco": "val", "own": "val", "photos": "val"}

# What the paper says of its training (section 3.4): Adam, a step schedule, 100 epochs. The rest is not said, and chosen here:
# a rate of 1e-4 that falls tenfold every 40 epochs, 32 pictures a batch, and the pictures as they are.
PAPER_RECIPE = Recipe(
    epochs=100,
    batch_size=32,
    lr=1e-4,
    weight_decay=0.0,
    warmup_epochs=0.0,
    step_epochs=40,
    augment=(),
    mixed_precision="bf16",
)

# How a detector learns from the ImageNet blocks, with all that makes it learn from few pictures, and goes on afterwards.
_LEARN = Recipe(
    epochs=22,
    batch_size=16,
    lr=4e-4,
    weight_decay=1e-4,
    warmup_epochs=0.4,
    mixed_precision="bf16",
    small_epochs=9,
    shared_heads=True,
    patch_start=True,
    half="any",
    mosaics=0.3,
    backbone_lr=0.3,
    smallest_crop=0.45,
    clip=1.0,
    compiled=True,
)
_GO_ON = replace(_LEARN, epochs=2, lr=1e-4, warmup_epochs=0.25, small_epochs=0, half="", mosaics=0.0, smallest_crop=0.6)


def _all_of(data: str) -> dict:
    """One data set for everything that a profile trains and measures."""
    return dict.fromkeys(("bavit_data", "pruner_data", "detector_data"), data) | {
        "detector_train": (data,), "detector_eval": (data, "val")
    }  # fmt: skip


_PROFILES = {
    # The drawn world, at sides at which every notebook is quick on two CPU cores.
    "sample": Profile(
        name="sample",
        **_all_of("sample"),
        bavit_rule="mask",
        pruner_rule="mask",
        bavit_img_size=192,
        detector_img_size=256,
        detector_depth=12,
        num_detection_tokens=40,
        bavit_recipe=Recipe(epochs=3, batch_size=32, lr=5e-4, augment=("flip", "colour"), mixed_precision="bf16"),
        # Its objects are small as they are: no mosaics.
        detector_recipe=replace(_LEARN, epochs=16, small_epochs=6, mosaics=0.0, smallest_crop=0.6),
        finetune_recipe=_GO_ON,
    ),
    # The paper's sizes on VOC, for a GPU: the detector learns 2007's boxes and 2012's, and is tested on the 2007 re-split.
    "voc-512": Profile(
        name="voc-512",
        bavit_data="voc2012",
        bavit_rule="mask",
        pruner_data="voc2007",
        pruner_rule="box",
        detector_data="voc2007",
        detector_train=("voc2007", "voc2012"),
        detector_eval=("voc2007", "test"),
        bavit_img_size=384,
        detector_img_size=512,
        detector_depth=12,
        num_detection_tokens=100,
        bavit_recipe=Recipe(epochs=13, batch_size=16, lr=5e-4, mixed_precision="bf16", small_epochs=5),
        detector_recipe=replace(_LEARN, epochs=150, batch_size=32, small_epochs=50, small_img_size=256),
        finetune_recipe=replace(_GO_ON, epochs=30, batch_size=32),
    ),
}

# The paper's own experiment; the detector comes from the hub (hustvl/yolos-tiny).
_HUB = Recipe(epochs=30, batch_size=32, lr=2.5e-5, weight_decay=1e-4, mixed_precision="bf16")
_PROFILES["coco"] = replace(
    _PROFILES["voc-512"],
    name="coco",
    **_all_of("coco"),
    pruner_rule="mask",
    bavit_recipe=Recipe(epochs=24, batch_size=16, lr=5e-4, mixed_precision="bf16", small_epochs=14),
    detector_recipe=_HUB,
    finetune_recipe=_HUB,
)
# VOC at what two CPU cores can train: the paper's detector and the paper's shares, at half the side.
_PROFILES["voc"] = replace(
    _PROFILES["voc-512"],
    name="voc",
    suffix="-256",
    bavit_data="voc2007",
    bavit_rule="box",
    bavit_img_size=192,
    detector_img_size=256,
    num_detection_tokens=40,
    bavit_recipe=Recipe(epochs=12, batch_size=16, lr=5e-4, mixed_precision="bf16"),
    detector_recipe=_LEARN,
    finetune_recipe=_GO_ON,
)
# Your own pictures (`data.own`), in the same way, by boxes, as most people have nothing else.
_PROFILES["own"] = replace(_PROFILES["voc"], name="own", **_all_of("own"))
PROFILE_NAMES = tuple(_PROFILES)


def get_profile(name: str | None = None) -> Profile:
    """The named profile, or the one in `BAVIT_PROFILE`, or `sample`. Raises ValueError for an unknown name.

    What `own` trains and stores has the name of the data folder in its own; two names never become one.
    """
    name = name or os.environ.get("BAVIT_PROFILE") or "sample"
    if name not in _PROFILES:
        raise ValueError(
            f"unknown profile {name!r}: choose one of {', '.join(PROFILE_NAMES)}, by name or in BAVIT_PROFILE"
        )
    if name == "own":
        folder = data_dir().resolve().name
        plain = re.sub(r"[^\w.]+", "-", folder).strip("-")
        mark = "" if plain == folder else "-" + hashlib.sha256(folder.encode()).hexdigest()[:4]  # `a b` isn't `a-b`
        return replace(_PROFILES[name], suffix=f"-{plain}{mark}")
    return _PROFILES[name]


def run_folder(name: str) -> Path:
    """Where the state of the training or sweep of this name is kept."""
    return RUNS / name


def data_dir() -> Path:
    """The folder of `VOCdevkit`, `coco` and `weights`, or of your own pictures: `BAVIT_DATA_DIR`, or `data/` here."""
    return Path(os.environ.get("BAVIT_DATA_DIR") or REPO / "data").expanduser()


def figures_dir(profile: Profile) -> Path:
    """`figures/<profile>/` (or under `BAVIT_FIGURES_DIR`), made if it is missing."""
    folder = Path(os.environ.get("BAVIT_FIGURES_DIR") or REPO / "figures") / profile.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
