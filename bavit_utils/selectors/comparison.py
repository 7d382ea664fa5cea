"""Who chooses the tokens better: every selector on the same detector at the same budgets, and AP decides (Fig. 1)."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..annotations import stacked_labels
from ..config import get_profile
from ..cost import measure_latency, multiply_adds
from ..data.records import class_names
from ..metrics import DetectionEvaluation, bootstrap_ap, interval, number, paired_difference
from ..results import short_hash
from ..sweep import detections
from ..yolos import PrunedYolos, create_yolos
from .runs import COMPARED, REFERENCE, SPARSITIES, Run, chosen_runs
from .scores import Inputs, trained_files

N_BOOT = 1000
BETWEEN = (0.9, 0.8, 0.53, 0.4, 0.23, 0.17)  # more points of BAViT-small's curve, so that its chords stay near to it
TIMED_AT = 0.35  # the budget at which runs are timed at the paper's sizes, too
DENSE = Run("dense")  # the detector with every token, and nothing in front of it


class ReferenceCurve:
    """BAViT-small's AP against multiply-adds, of all resamples of the pictures at once, straight between its points."""

    def __init__(self, costs: Sequence[float], evaluations: Sequence[DetectionEvaluation]):
        order = np.argsort(costs)
        self._costs = np.asarray(costs)[order]
        self._ap = np.stack([_ap_and_resamples(evaluations[i]) for i in order], axis=1)

    def difference(self, evaluation: DetectionEvaluation, cost: float) -> tuple[float | None, ...]:
        """AP of `evaluation` less the curve's at as many multiply-adds, and its 95 % interval, paired.

        None, three times, where the curve has no point that cheap or that dear.
        """
        curve = np.array([np.interp(cost, self._costs, each, np.nan, np.nan) for each in self._ap])
        delta = _ap_and_resamples(evaluation) - curve
        return number(delta[0]), *interval(delta[1:])


def _ap_and_resamples(evaluation: DetectionEvaluation) -> np.ndarray:
    """[1 + N_BOOT]"""
    ap = evaluation.average_precision()["AP"]
    return np.append(np.nan if ap is None else ap, evaluation.resampled(N_BOOT, 0))


def compare(
    inputs: Inputs,
    names: Sequence[str] = tuple(COMPARED),
    folder: Path | None = None,
    sparsities: Sequence[float] = SPARSITIES,
    repeats: int = 15,
    between: Sequence[float] = BETWEEN,
) -> list[dict]:
    """Rows of `results/selectors-<profile>.json`: the selectors called `names`, at each budget, against BAViT-small.

    Detections are kept in `folder`, so that the same call goes on where an interrupted one stopped. `delta_to_bavit`
    pairs a row with BAViT-small of the same budget: equal sparsity for choices by scores, equal multiply-adds for
    merging. `delta_at_gmacs` pairs each with BAViT-small's curve, which has points `between`, too, at the row's
    multiply-adds, `delta_at_paper_share` at what these would be at the paper's sizes, where BAViT takes a smaller
    share. Then all runs are timed in turn on one picture each, `repeats` times (0: not at all), the selector included:
    `latency_ms_b1`, and at the paper's sizes, for the budget of `TIMED_AT`, `paper_latency_ms_b1`. The dense detector
    is a row, too.
    """
    every = list(chosen_runs(REFERENCE, inputs, (*sparsities, *between)))
    dense = _evaluated(DENSE, inputs, folder)
    bavit = {run: _evaluated(run, inputs, folder) for run in every}
    against = _Against(inputs, dense, bavit)
    budgets = {run.budget: run.cost(inputs.profile) for run in every[: len(sparsities)]}
    others = (COMPARED[name](inputs, budgets) for name in names if name != REFERENCE)
    rows, runs = [], {}
    for run in tqdm(chain([DENSE], every[: len(sparsities)], *others), desc="comparison", unit="run"):
        evaluation = dense if run is DENSE else bavit.get(run) or _evaluated(run, inputs, folder)
        rows.append(against.row(run, evaluation))
        runs.setdefault((run.selector, run.budget), run)  # seeds differ in nothing that takes time
    times, there = _medians(inputs, runs, repeats) if repeats else ({}, {})
    for row in rows:
        key = row["selector"], row["budget"]
        row |= {"latency_ms_b1": times.get(key), "paper_latency_ms_b1": there.get(key)}
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

    def __init__(self, inputs: Inputs, dense: DetectionEvaluation, bavit: dict[Run, DetectionEvaluation]):
        self.profiles = inputs.profile, get_profile("coco")
        self.dense, self.bavit = dense, {run.budget: evaluation for run, evaluation in bavit.items()}
        labels = stacked_labels(inputs.records, inputs.profile.detector_grid, inputs.profile.pruner_rule)
        self.foreground = torch.from_numpy(labels == 1)
        self.curves = []
        for profile in self.profiles:  # up to where BAViT runs and nothing is pruned
            undecided = multiply_adds(int(np.prod(profile.detector_grid)), profile, REFERENCE)
            costs = [run.cost(profile) for run in bavit] + [undecided]
            self.curves.append(ReferenceCurve(costs, [*bavit.values(), dense]))

    def row(self, run: Run, evaluation: DetectionEvaluation) -> dict:
        """All that is stored of a run, but for the times."""
        costs = [run.cost(profile) for profile in self.profiles]
        share, paper_share = (c / DENSE.cost(p) for c, p in zip(costs, self.profiles, strict=True))
        to_dense = paired_difference(evaluation, self.dense, N_BOOT)
        bavit = self.bavit.get(run.budget)
        to_bavit = paired_difference(evaluation, bavit, N_BOOT) if bavit else dict.fromkeys(to_dense)
        at_gmacs, at_paper = (c.difference(evaluation, cost) for c, cost in zip(self.curves, costs, strict=True))
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
            **_named("delta_AP", "delta_AP_low", "delta_AP_high", values=to_dense.values()),
            **_named("delta_to_bavit", "delta_low", "delta_high", values=to_bavit.values()),
            **_named("delta_at_gmacs", "at_gmacs_low", "at_gmacs_high", values=at_gmacs),
            **_named("delta_at_paper_share", "at_paper_share_low", "at_paper_share_high", values=at_paper),
            "fg_recall": None if run.keep is None else number(run.keep[self.foreground].double().mean().item()),
            "n_images": len(self.foreground),
        }


def _named(*names: str, values: Iterable[float | None]) -> dict[str, float | None]:
    return dict(zip(names, values, strict=True))


def _medians(inputs: Inputs, runs: dict[tuple, Run], repeats: int) -> list[dict[tuple, float]]:
    """Milliseconds for one picture of each run, here, and at the paper's sizes those at `TIMED_AT`."""
    paper = _paper_inputs()
    works = {key: run.work(inputs) for key, run in runs.items()}
    there = {key: run.work(inputs, paper) for key, run in runs.items() if run.budget in (TIMED_AT, None)}
    return [{t["method"]: t["median_ms"] for t in measure_latency(each, repeats)} for each in (works, there)]


def _paper_inputs() -> Inputs:
    """The paper's sizes, with random weights."""
    profile = get_profile("coco")
    torch.manual_seed(0)
    detector = create_yolos(class_names(profile.detector_data), **profile.detector_shape)
    return Inputs(profile, (), (), PrunedYolos(detector).eval())
