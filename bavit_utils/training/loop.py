"""The training loop, on accelerate, for whatever is trained.

A training lives in a folder: `state.safetensors` (weights, optimiser, position; written whole or not at all) and
`log.csv`. The same command goes on where an interrupted one stopped: every random choice is a function of the seed and
the step (see `pictures.py`). Several processes (`torchrun`, or on GPUs `accelerate launch`) share a batch,
and get the losses of one.
"""

import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, reduce
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate
from tqdm import tqdm

from ..checks import check_number
from ..config import Recipe
from ..data.records import Record, fingerprint
from .pictures import Pictures, Visits
from .state import Interruption, Log, State, alone_in

SAVE_SECONDS = 120  # between two states
LOG_STEPS = 25
MEASURES = 12  # of one training, about, where it has more epochs: each takes a minute's worth of steps
_NEW_PARTS = ("class_labels_classifier", "bbox_predictor", "detection_tokens")  # of a YOLOS, not ImageNet's
MAX_LOSS = 1e4  # a loss above has exploded: chance is 0.7 for BAViT, and some 10 for the detector


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The rate of one step: linear warm-up, then a cosine down to zero at the last step, or the recipe's steps."""
    warmup, total = recipe.warmup_epochs * steps_per_epoch, recipe.epochs * steps_per_epoch
    if step < warmup:
        return recipe.lr * (step + 1) / (warmup + 1)
    if recipe.step_epochs:
        return recipe.lr * 0.1 ** (step // (recipe.step_epochs * steps_per_epoch))
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


@dataclass(frozen=True)
class Schedule:
    """How a training runs: `seed`, `recipe` (None: the profile's), and where it stops early, with its state saved.

    `limit` takes the first pictures of each list. `max_steps` are of the whole training, `max_minutes` of this call.
    """

    seed: int = 0
    recipe: Recipe | None = None
    limit: int | None = None
    max_steps: int | None = None
    max_minutes: float | None = None

    @property
    def stops(self) -> dict:
        """What `fit` is told of it; seed and recipe are those of the pictures."""
        return {"max_steps": self.max_steps, "max_minutes": self.max_minutes}


WHOLE = Schedule()  # the profile's recipe from its first step to its last


@dataclass(frozen=True)
class Task:
    """What a model is trained for: `loss_of(model, pixels, targets)` gives a batch's loss.

    `evaluate(model)` gives a number for the log after each epoch, or each few of many. `identity` says what is trained
    besides the recipe and the pictures. `clip` is the largest norm of the gradient.
    """

    loss_of: Callable[[nn.Module, Tensor, object], Tensor]
    evaluate: Callable[[nn.Module], float] | None = None
    identity: dict = field(default_factory=dict)
    collate: Callable = default_collate
    clip: float = 1.0


def fit(
    model: nn.Module,
    data: Pictures,
    task: Task,
    folder: Path,
    max_steps: int | None = None,
    max_minutes: float | None = None,
) -> nn.Module:
    """Train `model` in place by AdamW and return it, in evaluation mode on the CPU.

    Recipe and seed are those of `data`. A folder's state is taken up only by the same training, as its recipe, pictures
    and the task's identity say, else ValueError, as for a folder in use. `max_steps` (of the whole training) and
    `max_minutes` (of this call) stop early, with the state saved.
    Raises FloatingPointError, naming the step, for a loss or gradient that isn't finite and for a loss above MAX_LOSS;
    the last state stays. Ctrl-C and SIGTERM save the state before they go on up. The log has the loss of all processes
    together; the first one alone evaluates and writes.
    """
    if max_minutes is not None:
        check_number("the number of minutes", max_minutes, 0)
    training = _Training(model, data, task, folder)
    alone = alone_in(folder, model) if training.main else nullcontext()
    with alone, Interruption(hold=training.accelerator.num_processes > 1) as interruption:
        training.interruption = interruption
        training.run(max_steps or math.inf, 60 * (math.inf if max_minutes is None else max_minutes))
    return model.eval().cpu()


class _Training:
    """One call of `fit`: how far it has come (`step`), where it ends, and what one step is."""

    interruption: Interruption

    def __init__(self, model: nn.Module, data: Pictures, task: Task, folder: Path):
        self.model, self.data, self.task, self.folder, self.recipe = model, data, task, folder, data.recipe
        loading = DataLoaderConfiguration(split_batches=True, non_blocking=True)
        on_cpu = not torch.accelerator.is_available()  # unless accelerate is told so, torchrun's processes don't meet
        self.accelerator = Accelerator(cpu=on_cpu, dataloader_config=loading)
        self.main = self.accelerator.is_main_process
        self.visits = Visits(len(data), self.recipe.batch_size, data.seed)
        groups = _groups(model, self.recipe)
        self.optimizer = torch.optim.AdamW(groups, lr=self.recipe.lr, weight_decay=self.recipe.weight_decay)
        identity = {**asdict(self.recipe), **task.identity, "seed": data.seed, "pictures": len(data)}
        identity |= {"img_size": data.img_size, "data": fingerprint(data.records)}
        self.state = State(folder / "state.safetensors", model, self.optimizer, identity)

    def _loader(self) -> DataLoader:
        # Decoding at every visit is what takes long; a GPU would wait for the changes to pictures in memory, too.
        cuda = self.accelerator.device.type == "cuda"
        workers = os.cpu_count() if cuda or self.data.kept is None else 0
        return DataLoader(
            self.data,
            batch_sampler=self.visits,
            collate_fn=self.task.collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=cuda,
        )

    def run(self, max_steps: float, max_seconds: float) -> None:
        """From the stored step on to the last, or to the first of these limits."""
        self.step = self.state.load()
        parts = self.accelerator.prepare(self.model, self.optimizer, self._loader())
        self.wrapped, self.stepping, loader = parts
        self.end = min(self.recipe.epochs * len(self.visits), max_steps)
        self.log = Log(self.folder / "log.csv", self.step) if self.main else None
        self.progress = tqdm(total=self.end, initial=self.step, unit="step", disable=not self.main, mininterval=5)
        self.saved = time.perf_counter()
        self.deadline = self.saved + max_seconds
        try:
            while not self._epoch_begins():
                for pixels, targets in loader:
                    self._learn(pixels, targets)
                    if self.step == self.end:
                        break
            self._finish()
        except (KeyboardInterrupt, SystemExit):
            self.progress.close()
            if self.main:
                with self.interruption.held():
                    self.state.save(self.step)
                    print(f"stopped at step {self.step}; the same command goes on from there", flush=True)
            raise
        finally:
            self.progress.close()

    def _epoch_begins(self) -> bool:
        """Go to where the step lies among the visits, measure what is due there; whether the training is over."""
        recipe, visits = self.recipe, self.visits
        visits.epoch, visits.start = divmod(self.step, len(visits))
        measured = {*range(0, recipe.epochs, max(1, recipe.epochs // MEASURES)), recipe.epochs}  # after so many epochs
        due = self.task.evaluate and visits.start == 0 and visits.epoch in measured
        if self.main and due and self.log.measured < self.step:
            metric = self.task.evaluate(self.model.eval())
            self.log.write(step=self.step, epoch=visits.epoch - 1, metric=f"{metric:.5f}")
        self.wrapped.train()
        return self.step >= self.end

    def _learn(self, pixels: Tensor, targets: object) -> None:
        """One step: its gradient, then, if the loss is sound and nobody wants to stop, weights, row and state."""
        seed, rank = self.data.seed, self.accelerator.process_index
        torch.manual_seed(hash((seed, self.step, rank)) % 2**63)  # for a model that draws, as dropout does
        rate = learning_rate(self.recipe, self.step, len(self.visits))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        # Not accelerate's own mixed precision, which is fixed for all trainings of a process.
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.recipe.mixed_precision == "bf16"):
            loss = self.task.loss_of(self.wrapped, pixels, targets)
        self.stepping.zero_grad()
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.task.clip)
        asked = loss.new_tensor([self.interruption.wanted, time.perf_counter() > self.deadline])
        told = torch.cat([torch.stack([loss.detach(), norm]).float(), asked])
        mean_loss, norm, wanted, late = self.accelerator.reduce(told, "mean").tolist()
        if not (mean_loss <= MAX_LOSS and math.isfinite(norm)):
            raise FloatingPointError(
                f"the loss is {mean_loss}, its gradient {norm} at step {self.step}: lower the learning rate "
                f"and remove {self.folder}, or go on from the last good state there"
            )
        if wanted:
            self.interruption.stop()
        if late:  # for any of the processes, so that all stop after this step
            self.end = self.step + 1
        with self.interruption.held():  # the step, its row and its state: all or none
            self.stepping.step()
            self._keep(mean_loss, rate)

    def _keep(self, loss: float, rate: float) -> None:
        """Count a step that was made; write its row and the state when they are due."""
        self.step += 1
        self.progress.update()
        if self.main and (self.step % LOG_STEPS == 0 or self.step == self.end):
            self.log.write(step=self.step, epoch=self.visits.epoch, loss=f"{loss:.5f}", lr=f"{rate:.3g}")
            self.progress.set_postfix(loss=f"{loss:.5f}", refresh=False)
        if self.main and time.perf_counter() - self.saved > SAVE_SECONDS:
            self.state.save(self.step)
            self.saved = time.perf_counter()

    def _finish(self) -> None:
        if self.main:
            if self.log.empty:  # it was deleted after the last step
                self.log.write(step=self.step, epoch=self.visits.epoch)
            self.state.save(self.step)


def _groups(model: nn.Module, recipe: Recipe) -> list[dict]:
    """The parameters with their share of the rate: all of it for a detector's heads and tokens, and for other models."""
    if recipe.backbone_lr == 1:
        return [{"params": list(model.parameters()), "share": 1.0}]
    named = list(model.named_parameters())
    new = [p for name, p in named if any(part in name for part in _NEW_PARTS)]
    pretrained = [p for name, p in named if not any(part in name for part in _NEW_PARTS)]
    return [{"params": new, "share": 1.0}, {"params": pretrained, "share": recipe.backbone_lr}]


def part_of_all(weight: Tensor) -> Tensor:
    """What a mean over `weight` tokens of this process counts for, so that the processes' mean is that over all."""
    weight = weight.float()
    return weight / reduce(weight, "mean").clamp(min=1e-6)


def split_records(records: list[Record]) -> tuple[list[Record], list[Record]]:
    """A training list without its last 200 pictures (or tenth), and these, on which choices are made."""
    dev = min(200, len(records) // 10)
    return (records[:-dev], records[-dev:]) if dev else (records, [])
