"""Who chooses the tokens better: every selector on the same detector at the same budgets, and AP decides (Fig. 1)."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..annotations import stacked_labels
from ..config import Profile, get_profile
from ..cost import measure_latency, multiply_adds
from ..data.records import class_names
from ..metrics import DetectionEvaluation, bootstrap_ap, interval, paired_difference
from ..results import short_hash
from ..sweep import detections
from ..yolos import PrunedYolos, create_yolos
from .runs import COMPARED, SPARSITIES, Run, chosen_runs, dense_run, runs
from .scores import CHOICES, REFERENCE, Inputs

N_BOOT = 1000
BETWEEN = (0.9, 0.8, 0.53, 0.4, 0.23, 0.17)  # more points of BAViT-small's curve, so that its chords stay near to it
TIMED_AT = 0.35  # the budget at which runs are timed at the paper's sizes, too


class ReferenceCurve:
    """BAViT-small's AP against multiply-adds, of all resamples of the pictures at once, straight between its points."""

    def __init__(self, costs: Sequence[float], evaluations: Sequence[DetectionEvaluation]):
        order = np.argsort(costs)
        self.costs = np.asarray(costs)[order]
        self._ap = np.array([evaluations[i].average_precision()["AP"] for i in order])
        self._resampled = np.stack([evaluations[i].resampled(N_BOOT, 0) for i in order])

    def difference(self, evaluation: DetectionEvaluation, cost: float) -> tuple[float | None, ...]:
        """AP of `evaluation` less the curve's at as many multiply-adds, and its 95 % interval, paired.

        None, three times, where the curve has no point that cheap or that dear.
        """
        if not self.costs[0] <= cost <= self.costs[-1]:
            return None, None, None
        right = max(1, int(np.searchsorted(self.costs, cost)))
        share = (cost - self.costs[right - 1]) / (self.costs[right] - self.costs[right - 1])
        ap, resampled = ((1 - share) * all_[right - 1] + share * all_[right] for all_ in (self._ap, self._resampled))
        delta = evaluation.average_precision()["AP"] - ap
        return float(delta), *interval(evaluation.resampled(N_BOOT, 0) - resampled)


def compare(
    inputs: Inputs,
    names: Sequence[str] = COMPARED,
    folder: Path | None = None,
    sparsities: Sequence[float] = SPARSITIES,
    repeats: int = 15,
    between: Sequence[float] = BETWEEN,
) -> list[dict]:
    """Rows of `results/selectors-<profile>.json`: the selectors called `names`, at each budget, against BAViT-small.

    Detections are kept in `folder`, so that the same call goes on where an interrupted one stopped. `delta_to_bavit`
    pairs a row with BAViT-small of the same budget: equal sparsity for choices by scores, equal multiply-adds for
    methods. `delta_at_gmacs` pairs each with BAViT-small's curve, which has points `between`, too, at the row's
    multiply-adds, `delta_at_paper_share` at what these would be at the paper's sizes, where BAViT takes a smaller
    share. Then all runs are timed in turn on one picture each, `repeats` times (0: not at all), the selector included:
    `latency_ms_b1`, and at the paper's sizes, for the budget of `TIMED_AT`, `paper_latency_ms_b1`. The dense detector
    is a row, too.
    """
    labels = torch.from_numpy(stacked_labels(inputs.records, inputs.profile.detector_grid, inputs.profile.pruner_rule))
    first = dense_run(inputs)
    dense = _evaluated(first, inputs, folder)
    every = list(chosen_runs(REFERENCE, inputs, (*sparsities, *between)))
    bavit = {run.budget: _evaluated(run, inputs, folder) for run in every}
    evaluations = [bavit[run.budget] for run in every] + [dense]
    curves = [
        ReferenceCurve([run.cost(profile) for run in every] + [_undecided(profile)], evaluations)
        for profile in (inputs.profile, get_profile("coco"))
    ]
    reference = every[: len(sparsities)]
    budgets = {run.budget: run.cost(inputs.profile) for run in reference}
    others = (run for name in names if name != REFERENCE for run in runs(name, inputs, budgets))
    rows, timed, paper = [], {}, _paper_inputs()
    timed_there = {}
    for run in tqdm((first, *reference, *others), desc="comparison", unit="run"):
        evaluation = (
            dense if run is first else bavit[run.budget] if run in reference else _evaluated(run, inputs, folder)
        )
        rows.append(_row(run, inputs, evaluation, dense, bavit.get(run.budget), curves, labels))
        key = _key(rows[-1])
        if key not in timed:  # seeds differ in nothing that takes time
            timed[key] = run.work(inputs)
            if run.budget in (TIMED_AT, None):
                timed_there[key] = run.work(paper)
    times, there = (_medians(works, repeats) if repeats else {} for works in (timed, timed_there))
    return [row | {"latency_ms_b1": times.get(_key(row)), "paper_latency_ms_b1": there.get(_key(row))} for row in rows]


def _key(row: dict) -> tuple:
    return row["selector"], row["budget"]


def _medians(works: dict[tuple, Callable[[], object]], repeats: int) -> dict[tuple, float]:
    return {timing["method"]: timing["median_ms"] for timing in measure_latency(works, repeats)}


def _paper_inputs() -> Inputs:
    """The paper's sizes, with random weights."""
    profile = get_profile("coco")
    torch.manual_seed(0)
    detector = create_yolos(class_names(profile.detector_data), **profile.detector_shape)
    return Inputs(profile, (), (), PrunedYolos(detector).eval())


def _undecided(profile: Profile) -> float:
    """Multiply-adds of BAViT-small and the detector where nothing is pruned."""
    return multiply_adds(int(np.prod(profile.detector_grid)), profile, REFERENCE)


def _evaluated(run: Run, inputs: Inputs, folder: Path | None) -> DetectionEvaluation:
    # Other weights must not find these detections.
    kept = folder and folder / "-".join([run.selector, *map(short_hash, run.files)])
    found = detections(run.model, inputs.images, run.keep, kept, run.file, **run.options)
    return DetectionEvaluation(inputs.records, found)


def _row(
    run: Run,
    inputs: Inputs,
    evaluation: DetectionEvaluation,
    dense: DetectionEvaluation,
    bavit: DetectionEvaluation | None,
    curves: Sequence[ReferenceCurve],
    labels: torch.Tensor,
) -> dict:
    here, paper = inputs.profile, get_profile("coco")
    to_dense = paired_difference(evaluation, dense, N_BOOT)
    to_bavit = paired_difference(evaluation, bavit, N_BOOT) if bavit else dict.fromkeys(to_dense)
    at_gmacs, at_paper = (
        curve.difference(evaluation, run.cost(profile)) for curve, profile in zip(curves, (here, paper), strict=True)
    )
    return {
        "selector": run.selector,
        "seed": run.seed,
        "budget": run.budget,
        "sparsity": run.budget if run.selector in CHOICES else None,
        "sparsity_reached": run.sparsity_reached,
        "gmacs": run.cost(here) / 1e9,
        "share": run.cost(here) / dense_run(inputs).cost(here),
        "paper_share": run.cost(paper) / dense_run(inputs).cost(paper),
        **evaluation.average_precision(),
        **bootstrap_ap(evaluation, N_BOOT),
        **_named("delta_AP", "delta_AP_low", "delta_AP_high", values=to_dense.values()),
        **_named("delta_to_bavit", "delta_low", "delta_high", values=to_bavit.values()),
        **_named("delta_at_gmacs", "at_gmacs_low", "at_gmacs_high", values=at_gmacs),
        **_named("delta_at_paper_share", "at_paper_share_low", "at_paper_share_high", values=at_paper),
        "fg_recall": None if run.keep is None else run.keep[labels == 1].double().mean().item(),
        "n_images": len(labels),
    }


def _named(*names: str, values: Iterable[float | None]) -> dict[str, float | None]:
    return dict(zip(names, values, strict=True))
