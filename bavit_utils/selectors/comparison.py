"""Who chooses the tokens better: every selector on the same detector at the same budgets, and AP decides (Fig. 1)."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..annotations import stacked_labels
from ..config import get_profile
from ..cost import measure_latency, multiply_adds, random_pair
from ..metrics import DetectionEvaluation, bootstrap_ap, number, with_interval
from ..results import short_hash
from ..sweep import detections
from ..yolos import PrunedYolos
from .runs import COMPARED, REFERENCE, SPARSITIES, Run, chosen_runs
from .scores import Inputs, trained_files

N_BOOT = 1000
BETWEEN = (0.9, 0.8, 0.53, 0.4, 0.23, 0.17)  # more points of BAViT-small's curve, so that its chords stay near to it
REPEATS = 15  # timed rounds
TIMED_AT = 0.35  # the budget at which runs are timed at the paper's sizes, too
DENSE = Run("dense")  # the detector with every token, and nothing in front of it


def compare(
    inputs: Inputs,
    names: Sequence[str] = tuple(COMPARED),
    folder: Path | None = None,
    sparsities: Sequence[float] = SPARSITIES,
) -> list[dict]:
    """Rows of `results/selectors-<profile>.json`: the selectors called `names`, at each budget, against BAViT-small.

    Detections are kept in `folder`, so that the same call goes on where an interrupted one stopped. `delta_to_bavit`
    pairs a row with BAViT-small of the same budget: equal sparsity for choices by scores, equal multiply-adds for
    merging. `delta_at_gmacs` pairs each with BAViT-small's curve, which has points `BETWEEN`, too, at the row's
    multiply-adds, `delta_at_paper_share` at what these would be at the paper's sizes, where BAViT takes a smaller
    share. Then all runs are timed in turn on one picture each, the selector included: `latency_ms_b1`, and at the
    paper's sizes, for the budget of `TIMED_AT`, `paper_latency_ms_b1`. The dense detector is a row, too.
    """
    every = list(chosen_runs(REFERENCE, inputs, (*sparsities, *BETWEEN)))
    budgets = {run.budget: run.cost(inputs.profile) for run in every[: len(sparsities)]}
    others = (COMPARED[name](inputs, budgets) for name in names if name != REFERENCE)
    runs = tqdm(chain([DENSE], every, *others), desc="comparison", unit="run")
    evaluations = {run: _evaluated(run, inputs, folder) for run in runs}
    against = _Against(inputs, evaluations)
    compared = [run for run in evaluations if run not in every[len(sparsities) :]]
    times, paper_times = _medians(inputs, compared)
    rows = []
    for run in compared:
        key = run.selector, run.budget
        row = against.row(run, evaluations[run])
        rows.append(row | {"latency_ms_b1": times[key], "paper_latency_ms_b1": paper_times.get(key)})
    return rows


def _evaluated(run: Run, inputs: Inputs, folder: Path | None) -> DetectionEvaluation:
    # Other weights must not find these detections.
    files = trained_files(run.choice.scorer, inputs.profile) if run.choice else ()
    kept = folder and folder / "-".join([run.selector, *map(short_hash, files)])
    name = f"budget-{run.budget}-seed-{run.seed}" + (f"-merged-{run.merged:.4f}" if run.merged else "")
    options = {"after_layers": run.after_layers(inputs.profile), "square_side": run.side(inputs.profile)}
    found = detections(run.model(inputs), inputs.images, run.keep, kept, name, **options)
    return DetectionEvaluation(inputs.records, found)


class _Against:
    """What every run is compared with: the dense detector, and BAViT-small at the same budget and at the same cost."""

    def __init__(self, inputs: Inputs, evaluations: dict[Run, DetectionEvaluation]):
        self.profiles = inputs.profile, get_profile("coco")
        self.dense = evaluations[DENSE].resampled(N_BOOT)
        bavit = {run: each.resampled(N_BOOT) for run, each in evaluations.items() if run.selector == REFERENCE}
        self.bavit = {run.budget: values for run, values in bavit.items()}
        labels = stacked_labels(inputs.records, inputs.profile.detector_grid, inputs.profile.pruner_rule)
        self.foreground = torch.from_numpy(labels == 1)
        self.curves = []
        for profile in self.profiles:  # up to where BAViT runs and nothing is pruned
            undecided = multiply_adds(int(np.prod(profile.detector_grid)), profile, REFERENCE)
            costs = [run.cost(profile) for run in bavit] + [undecided]
            self.curves.append((costs, [*bavit.values(), self.dense]))

    def row(self, run: Run, evaluation: DetectionEvaluation) -> dict:
        """All that is stored of a run, but for the times."""
        costs = [run.cost(profile) for profile in self.profiles]
        share, paper_share = (c / DENSE.cost(p) for c, p in zip(costs, self.profiles, strict=True))
        at_gmacs, at_paper = (curve_at(cost, *curve) for cost, curve in zip(costs, self.curves, strict=True))
        own, unknown = evaluation.resampled(N_BOOT), np.full(1 + N_BOOT, np.nan)
        return {
            "selector": run.selector,
            "seed": run.seed,
            "budget": run.budget,
            "sparsity": run.budget if run.choice else None,
            "sparsity_reached": run.sparsity_reached,
            "gmacs": costs[0] / 1e9,
            "share": share,
            "paper_share": paper_share,
            **evaluation.average_precision(),
            **bootstrap_ap(evaluation, N_BOOT),
            **with_interval("delta_AP", own - self.dense),
            **with_interval("delta_to_bavit", own - self.bavit.get(run.budget, unknown), "delta"),
            **with_interval("delta_at_gmacs", own - at_gmacs, "at_gmacs"),
            **with_interval("delta_at_paper_share", own - at_paper, "at_paper_share"),
            "fg_recall": None if run.keep is None else number(run.keep[self.foreground].double().mean().item()),
            "n_images": len(self.foreground),
        }


def curve_at(cost: float, costs: Sequence[float], points: Sequence[np.ndarray]) -> np.ndarray:
    """AP and its resamples at a `cost`, straight between a curve's points [1 + N_BOOT] each; nan beyond its ends."""
    order = np.argsort(costs)
    columns = np.stack([points[i] for i in order], axis=1)
    return np.array([np.interp(cost, np.asarray(costs)[order], each, np.nan, np.nan) for each in columns])


def _medians(inputs: Inputs, runs: Sequence[Run]) -> list[dict[tuple, float]]:
    """Milliseconds for one picture by selector and budget, here, and at the paper's sizes of those at `TIMED_AT`."""
    paper = _paper_inputs()
    firsts = {(run.selector, run.budget): run for run in reversed(runs)}  # seeds differ in nothing that takes time
    works = {key: run.work(inputs) for key, run in firsts.items()}
    there = {key: run.work(inputs, paper) for key, run in firsts.items() if run.budget in (TIMED_AT, None)}
    return [{t["method"]: t["median_ms"] for t in measure_latency(each, REPEATS)} for each in (works, there)]


def _paper_inputs() -> Inputs:
    """The paper's sizes, with random weights."""
    profile = get_profile("coco")
    return Inputs(profile, (), (), PrunedYolos(random_pair(profile)[1]).eval())
