"""The two training loops, on accelerate: BAViT (section 3.4) and the detector it prunes (section 4.2).

A training lives in a folder: `state.safetensors` (weights, optimiser, position; written whole or not at all) and
`log.csv`. The same command goes on where an interrupted one stopped: every random choice is a function of the seed and
the step (see `training_data.py`).
"""

import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate
from tqdm import tqdm

from .annotations import labels_for
from .bavit import accumulative_cross_entropy, create_bavit, foreground_maps
from .config import DEPTHS, PATCH_SIZE, RUNS, Profile, Recipe
from .datasets import Record, load_records
from .images import warp
from .metrics import average_precision, token_metrics
from .training_data import DetectionPictures, Pictures, TokenPictures, Visits, collate_detection
from .weights import read_weights, save_weights
from .yolos import PrunedYolos, create_yolos, predict

SAVE_SECONDS = 120  # between two states
LOG_STEPS = 25


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The rate of one step: linear warm-up, then a cosine down to zero at the last step, or the recipe's steps."""
    warmup, total = recipe.warmup_epochs * steps_per_epoch, recipe.epochs * steps_per_epoch
    if step < warmup:
        return recipe.lr * (step + 1) / (warmup + 1)
    if recipe.step_epochs:
        return recipe.lr * 0.1 ** (step // (recipe.step_epochs * steps_per_epoch))
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class _State:
    """Weights, optimiser and position of a training, as one safetensors file."""

    def __init__(self, path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, identity: dict):
        self.path, self.model, self.optimizer, self.identity = path, model, optimizer, identity

    def save(self, step: int) -> None:
        moments = {
            f"optimizer.{i}.{key}": value
            for i, slots in self.optimizer.state_dict()["state"].items()
            for key, value in slots.items()
        }
        weights = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        save_weights(
            self.path, weights | moments, {"model": "training", "step": step, "identity": self.identity}, half=False
        )

    def load(self) -> int:
        """Take up the stored state, if there is one; returns the step to go on with."""
        if not self.path.exists():
            return 0
        stored, metadata = read_weights(self.path, "training")
        if metadata["identity"] != json.loads(json.dumps(self.identity)):
            raise ValueError(
                f"{self.path} belongs to another training ({metadata['identity']}): "
                "remove its folder, or choose another one"
            )
        self.model.load_state_dict({k.removeprefix("model."): v for k, v in stored.items() if k.startswith("model.")})
        state = self.optimizer.state_dict()
        for key, value in stored.items():
            if key.startswith("optimizer."):
                _, index, slot = key.split(".")
                state["state"].setdefault(int(index), {})[slot] = value
        self.optimizer.load_state_dict(state)
        return metadata["step"]


class _Log:
    """`log.csv`: a row every few steps and one after every epoch; rows past the step we resume from are dropped."""

    columns = ("step", "epoch", "loss", "lr", "seconds", "metric")

    def __init__(self, path: Path, step: int):
        rows = (
            [row for row in csv.DictReader(path.open()) if int(row["step"]) <= step] if path.exists() and step else []
        )
        self.seconds = float(rows[-1]["seconds"]) if rows else 0.0
        self.started = time.perf_counter()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w", newline="")
        self.writer = csv.DictWriter(self.file, self.columns)
        self.writer.writeheader()
        self.writer.writerows(rows)

    def elapsed(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        return self.seconds + time.perf_counter() - self.started

    def write(self, **row) -> None:
        self.writer.writerow({"seconds": f"{self.elapsed():.1f}", **row})
        self.file.flush()


def fit(
    model: nn.Module,
    data: Pictures,
    loss_of: Callable[[nn.Module, Tensor, object], Tensor],
    folder: Path,
    evaluate: Callable[[nn.Module], float] | None = None,
    collate=default_collate,
    clip: float = 1.0,
    identity: dict | None = None,
    max_steps: int | None = None,
) -> nn.Module:
    """Train `model` in place by AdamW and return it, in evaluation mode on the CPU.

    Recipe and seed are those of `data`. `loss_of(model, pixels, targets)` gives a batch's loss, `evaluate(model)` a
    number for the log after each epoch.
    `identity` says what is trained besides the recipe: a folder's state is taken up only by the same training, else
    ValueError. `max_steps` stops early, with the state saved. Raises FloatingPointError, naming the step, for a loss or
    gradient that isn't finite; the last state stays. An interruption (Ctrl-C) saves the state before it goes on up.
    """
    recipe, seed = data.recipe, data.seed
    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(split_batches=True))
    visits = Visits(len(data), recipe.batch_size, seed)
    workers = 0 if data.kept is not None else os.cpu_count()  # decoding at every visit is what takes long
    loader = DataLoader(data, batch_sampler=visits, collate_fn=collate, num_workers=workers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    identity = {**asdict(recipe), **(identity or {}), "seed": seed, "pictures": len(data), "img_size": data.img_size}
    state = _State(folder / "state.safetensors", model, optimizer, identity)
    step = state.load()
    wrapped, prepared, loader = accelerator.prepare(model, optimizer, loader)
    total = recipe.epochs * len(visits)
    end = min(total, max_steps or total)
    log = _Log(folder / "log.csv", step) if accelerator.is_main_process else None
    progress = tqdm(total=end, initial=step, unit="step", disable=not accelerator.is_main_process, mininterval=5)
    saved = time.perf_counter()
    try:
        while step < end:
            visits.epoch, visits.start = divmod(step, len(visits))
            wrapped.train()
            for pixels, targets in loader:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(recipe, step, len(visits))
                # Not accelerate's own mixed precision, which is fixed for all trainings of a process.
                with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=recipe.mixed_precision == "bf16"):
                    loss = loss_of(wrapped, pixels, targets)
                prepared.zero_grad()
                accelerator.backward(loss)
                norm = accelerator.clip_grad_norm_(model.parameters(), clip)
                if not torch.isfinite(loss.detach() + norm):
                    raise FloatingPointError(
                        f"the loss is {loss.item()}, its gradient {norm.item()} at step {step}: lower the learning rate "
                        f"and remove {state.path.parent}, or go on from the last good state there"
                    )
                prepared.step()
                step += 1
                progress.update()
                if log and step % LOG_STEPS == 0:
                    log.write(
                        step=step,
                        epoch=visits.epoch,
                        loss=f"{loss.item():.5f}",
                        lr=f"{optimizer.param_groups[0]['lr']:.3g}",
                    )
                    progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
                if log and time.perf_counter() - saved > SAVE_SECONDS:
                    state.save(step)
                    saved = time.perf_counter()
                if step == end:
                    break
            if log and evaluate and step % len(visits) == 0:
                model.eval()
                log.write(step=step, epoch=visits.epoch, metric=f"{evaluate(model):.5f}")
    except KeyboardInterrupt:
        if log:
            state.save(step)
            progress.write(f"stopped at step {step}; the same command goes on from there")
        raise
    finally:
        progress.close()
    if log:
        state.save(step)
    return model.eval().cpu()


def split_records(records: list[Record]) -> tuple[list[Record], list[Record]]:
    """A training list without its last 200 pictures (or tenth), and these, on which choices are made."""
    dev = min(200, len(records) // 10)
    return (records[:-dev], records[-dev:]) if dev else (records, [])


def train_bavit(
    profile: Profile,
    model: str = "bavit-small",
    dataset: str | None = None,
    rule: str | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    folder: Path | None = None,
    limit: int | None = None,
    max_steps: int | None = None,
) -> tuple[nn.Module, Path]:
    """Train `bavit-small` or `bavit-large` by Eq. 3 on a training split (section 3.4); returns it and its folder.

    Data set and rule default to the profile's. After each epoch the token accuracy on the last pictures of the training
    list is logged.
    """
    dataset, rule = dataset or profile.bavit_data, rule or profile.bavit_rule
    folder = folder or RUNS / f"{model}-{dataset}-{rule}-seed{seed}"
    train, dev = split_records(load_records(dataset, "train", limit))
    torch.manual_seed(seed)
    bavit = create_bavit(DEPTHS[model], profile.bavit_img_size)
    data = TokenPictures(train, profile.bavit_img_size, recipe or profile.bavit_recipe, rule, seed)
    identity = {"model": model, "dataset": dataset, "rule": rule}
    return fit_bavit(bavit, data, dev, folder, identity=identity, max_steps=max_steps), folder


def fit_bavit(
    bavit: VisionTransformer,
    data: TokenPictures,
    dev: list[Record],
    folder: Path,
    identity: dict | None = None,
    max_steps: int | None = None,
) -> VisionTransformer:
    """`fit` a BAViT by Eq. 3, with the token accuracy on `dev` in the log after each epoch; returns it."""
    labels = [labels_for(record, (data.img_size // PATCH_SIZE,) * 2, data.rule, data.tau) for record in dev]
    images = [warp(record.image(), data.img_size) for record in dev]

    def evaluate(bavit: nn.Module) -> float:
        return token_metrics(foreground_maps(bavit, images), np.stack(labels), n_boot=10)["accuracy"]

    def loss_of(bavit: nn.Module, pixels: Tensor, targets: Tensor) -> Tensor:
        return accumulative_cross_entropy(bavit(pixels), targets, data.recipe.fg_weight)

    if not torch.cuda.is_available():
        for block in bavit.blocks:  # on a CPU the backward of the fused attention takes half of a step
            block.attn.fused_attn = False
    return fit(bavit, data, loss_of, folder, evaluate if dev else None, identity=identity, max_steps=max_steps)


def train_yolos(
    profile: Profile,
    seed: int = 0,
    recipe: Recipe | None = None,
    folder: Path | None = None,
    limit: int | None = None,
    max_steps: int | None = None,
) -> tuple[nn.Module, Path]:
    """Train the profile's YOLOS from the ImageNet blocks by transformers' Hungarian loss; returns it and its folder.

    After each epoch the AP50 on the last pictures of the training list is logged.
    """
    recipe, folder = recipe or profile.detector_recipe, folder or RUNS / f"yolos-{profile.detector_data}-seed{seed}"
    train, dev = [], []
    for dataset, split in profile.detector_train:
        records = load_records(dataset, split, limit)
        parts = (records, []) if dev else split_records(records)
        train, dev = train + parts[0], dev + parts[1]
    torch.manual_seed(seed)
    detector = PrunedYolos(create_yolos(profile))
    data = DetectionPictures(train, profile.detector_img_size, recipe, seed)
    images = [r.image() for r in dev]

    def evaluate(detector: PrunedYolos) -> float:
        return average_precision(dev, predict(detector, images))["AP50"] or 0.0

    def loss_of(detector: nn.Module, pixels: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
        return detector(pixels, labels=targets).loss

    trained = fit(
        detector,
        data,
        loss_of,
        folder,
        evaluate if dev else None,
        collate_detection,
        clip=0.1,
        identity={"model": "yolos", "dataset": profile.detector_data},
        max_steps=max_steps,
    )
    return trained.detector, folder
