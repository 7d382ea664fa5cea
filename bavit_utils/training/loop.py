"""The training loop, on accelerate, for whatever is trained.

A training lives in a folder: `state.safetensors` (weights, optimiser, position; written whole or not at all) and
`log.csv`. The same command goes on where an interrupted one stopped: every random choice is a function of the seed and
the step (see `pictures.py`). Several processes (`torchrun`, or on GPUs `accelerate launch`) share a batch,
and get the losses of one.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, reduce
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate
from tqdm import tqdm

from ..checks import check_number, check_room
from ..config import Recipe
from ..data.records import Record, fingerprint
from .pictures import Pictures, Visits
from .state import Interruption, Log, State

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
    max_minutes: float | None = None,
) -> nn.Module:
    """Train `model` in place by AdamW and return it, in evaluation mode on the CPU.

    Recipe and seed are those of `data`. `loss_of(model, pixels, targets)` gives a batch's loss, `evaluate(model)` a
    number for the log after each epoch, or each few of many.
    `identity` says what is trained besides the recipe and the pictures: a folder's state is taken up only by the same
    training, else ValueError, as for a folder in use. `max_steps` (of the whole training) and `max_minutes` (of this
    call) stop early, with the state saved.
    Raises FloatingPointError, naming the step, for a loss or gradient that isn't finite and for a loss above MAX_LOSS;
    the last state stays. Ctrl-C and SIGTERM save the state before they go on up. The log has the loss of all processes
    together; the first one alone evaluates and writes.
    """
    recipe, seed = data.recipe, data.seed
    if max_minutes is not None:
        check_number("the number of minutes", max_minutes, 0)
    loading = DataLoaderConfiguration(split_batches=True, non_blocking=True)
    on_cpu = not torch.accelerator.is_available()  # unless accelerate is told so, torchrun's processes don't meet
    accelerator = Accelerator(cpu=on_cpu, dataloader_config=loading)
    main, rank = accelerator.is_main_process, accelerator.process_index
    visits = Visits(len(data), recipe.batch_size, seed)
    # Decoding at every visit is what takes long; a GPU would wait for the changes to pictures in memory, too.
    cuda = accelerator.device.type == "cuda"
    workers = os.cpu_count() if cuda or data.kept is None else 0
    loader = DataLoader(
        data,
        batch_sampler=visits,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=cuda,
    )
    optimizer = torch.optim.AdamW(_groups(model, recipe), lr=recipe.lr, weight_decay=recipe.weight_decay)
    identity = {**asdict(recipe), **(identity or {}), "seed": seed, "pictures": len(data), "img_size": data.img_size}
    identity["data"] = fingerprint(data.records)
    state = State(folder / "state.safetensors", model, optimizer, identity)
    end = min(recipe.epochs * len(visits), max_steps or math.inf)
    measured = {*range(0, recipe.epochs, max(1, recipe.epochs // MEASURES)), recipe.epochs}  # after so many epochs
    alone = _alone_in(folder, model) if main else nullcontext()
    with alone, Interruption(hold=accelerator.num_processes > 1) as interruption:
        step = state.load()
        wrapped, prepared, loader = accelerator.prepare(model, optimizer, loader)
        log = Log(folder / "log.csv", step) if main else None
        progress = tqdm(total=end, initial=step, unit="step", disable=not main, mininterval=5)
        saved = time.perf_counter()
        deadline = saved + 60 * (math.inf if max_minutes is None else max_minutes)
        try:
            while True:
                visits.epoch, visits.start = divmod(step, len(visits))
                due = evaluate and visits.start == 0 and visits.epoch in measured
                if main and due and log.measured < step:
                    model.eval()
                    log.write(step=step, epoch=visits.epoch - 1, metric=f"{evaluate(model):.5f}")
                if step >= end:
                    break
                wrapped.train()
                for pixels, targets in loader:
                    torch.manual_seed(hash((seed, step, rank)) % 2**63)  # for a model that draws, as dropout does
                    rate = learning_rate(recipe, step, len(visits))
                    for group in optimizer.param_groups:
                        group["lr"] = rate * group["share"]
                    # Not accelerate's own mixed precision, which is fixed for all trainings of a process.
                    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=recipe.mixed_precision == "bf16"):
                        loss = loss_of(wrapped, pixels, targets)
                    prepared.zero_grad()
                    accelerator.backward(loss)
                    norm = accelerator.clip_grad_norm_(model.parameters(), clip)
                    asked = loss.new_tensor([interruption.wanted, time.perf_counter() > deadline])
                    told = torch.cat([torch.stack([loss.detach(), norm]).float(), asked])
                    mean_loss, norm, wanted, late = accelerator.reduce(told, "mean").tolist()
                    if not (mean_loss <= MAX_LOSS and math.isfinite(norm)):
                        raise FloatingPointError(
                            f"the loss is {mean_loss}, its gradient {norm} at step {step}: lower the learning rate "
                            f"and remove {folder}, or go on from the last good state there"
                        )
                    if wanted:
                        interruption.stop()
                    if late:  # for any of the processes, so that all stop after this step
                        end = step + 1
                    with interruption.held():  # the step, its row and its state: all or none
                        prepared.step()
                        step += 1
                        progress.update()
                        if main and (step % LOG_STEPS == 0 or step == end):
                            row = {"loss": f"{mean_loss:.5f}", "lr": f"{rate:.3g}"}
                            log.write(step=step, epoch=visits.epoch, **row)
                            progress.set_postfix(loss=row["loss"], refresh=False)
                        if main and time.perf_counter() - saved > SAVE_SECONDS:
                            state.save(step)
                            saved = time.perf_counter()
                    if step == end:
                        break
            if main:
                if log.empty:  # it was deleted after the last step
                    log.write(step=step, epoch=visits.epoch)
                state.save(step)
        except (KeyboardInterrupt, SystemExit):
            progress.close()
            if main:
                with interruption.held():
                    state.save(step)
                    print(f"stopped at step {step}; the same command goes on from there", flush=True)
            raise
        finally:
            progress.close()
    return model.eval().cpu()


@contextmanager
def _alone_in(folder: Path, model: nn.Module) -> Iterator[None]:
    """A training's folder, for one process; ValueError where another one is in it, OSError without room for a state."""
    folder.mkdir(parents=True, exist_ok=True)
    check_room(folder / "state.safetensors", 12 * sum(p.numel() for p in model.parameters()))  # with both moments
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder} is in use by another training: wait for its end, or take another folder") from None
    with lock:
        yield


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
