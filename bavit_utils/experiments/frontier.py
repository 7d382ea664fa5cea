"""Who is best at each speed among the points of `experiments.inside`: their times, and paired differences."""

from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..bavit import foreground_probability
from ..config import PATCH_SIZE, Profile
from ..cost import measure_latency, random_pair
from ..data.records import Record
from ..inside import PatchHead
from ..metrics import DetectionEvaluation, paired_difference
from ..pruning import detector_keep
from ..selectors.merging import MergedYolos
from ..sweep import read_detections
from ..yolos import PrunedYolos
from .inside import FEW, SPARSITIES, Point, file_name

FAMILIES = {"resolution": "dense|resolution", "front": "dense|.*bavit-small", "inside": "dense|.*(inside|adaptive)"}
FAMILIES["any"] = "(?!truth)"  # what knows the truth can't be had
SPEEDS = (1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.5)  # of the dense detector


class _Given(PatchHead):
    """A head that computes what a head computes, and then keeps what it is given."""

    def __init__(self, after_layers: int, mask: Tensor):
        super().__init__(after_layers)
        self.mask = mask

    def keep(self, tokens: Tensor, given: Tensor) -> Tensor:
        super().keep(tokens, given)
        return self.mask


def measure_times(
    profile: Profile, kept: dict[Point, list[list[int]]], batch: int, scale: int = 1, repeats: int = 11
) -> dict[Point, float]:
    """Median milliseconds of points, in turn, for one picture or eight: whatever chooses included.

    `kept` are the rows' counts of kept patches. Weights and pictures are random, as time doesn't depend on them; sides
    are `scale` times the points'.
    """
    bavit, detector = random_pair(profile, scale)
    side = scale * profile.bavit_img_size
    small, works = torch.randn(batch, 3, side, side), {}
    for point, counts in kept.items():
        side = scale * (point.side or profile.detector_img_size)
        grid, large = (side // PATCH_SIZE,) * 2, torch.randn(batch, 3, side, side)
        wanted = [[scale**2 * n for n in (stage[:1] if batch == 1 else stage[1:])] for stage in counts]
        masks = [_random_mask(grid, stage, point.coarse) for stage in wanted]
        stages, inside = point.stages or (point.after_layers,), point.by in ("head", "adaptive")
        heads = [_Given(layer, mask) for layer, mask in zip(stages, masks[1:])] if inside else []
        model = PrunedYolos(detector, heads, point.coarse)
        if point.by == "tome":
            model = MergedYolos(model, point.sparsity)
        model.eval()

        def work(point=point, model=model, large=large, masks=masks, grid=grid, inside=inside) -> None:
            with torch.inference_mode():
                if point.by == "bavit-small":
                    detector_keep(foreground_probability(bavit, small), 0.5, grid)
                model(large) if inside or not masks else model(large, masks[-1], after_layers=point.after_layers)

        works[point] = work
    rows = measure_latency({str(i): work for i, work in enumerate(works.values())}, repeats)
    return {point: row["median_ms"] for point, row in zip(works, rows, strict=True)}


def _random_mask(grid: tuple[int, int], counts: Sequence[int], coarse: bool = False) -> Tensor:
    """Boolean [len(counts), rows, cols] with so many patches each; if `coarse`, so many tokens once the rest is merged.

    It then keeps whole cells of two by two: four tokens each, where the others become one.
    """
    if coarse:
        cells = grid[0] // 2, grid[1] // 2
        blocks = _random_mask(cells, [round((count - cells[0] * cells[1]) / 3) for count in counts])
        return blocks.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    order = torch.rand(len(counts), grid[0] * grid[1]).argsort(dim=1).argsort(dim=1)
    return (order < torch.tensor(counts)[:, None]).unflatten(1, grid)


def frontier(
    rows: pd.DataFrame, columns: Sequence[str], folder: Path, dev: int, records: list[Record], labels: np.ndarray
) -> list[dict]:
    """Who is best at each speed: of every family the row that is best on `dev`, and what it gives held out.

    A speed is the dense detector's over a row's in one of `columns`, times or multiply-adds. Detections, of `dev`
    pictures and then of `records`, lie in `folder`. Each is paired with the choice of "resolution", on all pictures, on
    the third with the most background (`labels [N, rows, cols]`) and on the third with the smallest objects.
    """
    background = (labels == 0).reshape(len(labels), -1).mean(axis=1)
    sizes = [np.sqrt(r.areas / np.prod(r.size)).mean() if len(r.areas) else 1.0 for r in records]
    third = len(records) // 3
    parts = {"all": np.arange(len(records)), "most background": np.argsort(-background, kind="stable")[:third]}
    parts["smallest objects"] = np.argsort(sizes, kind="stable")[:third]

    @cache
    def evaluation(name: str, part: str) -> DetectionEvaluation:
        found = _held_out(folder, name, dev, records)
        return DetectionEvaluation([records[i] for i in parts[part]], [found[i] for i in parts[part]])

    best = []
    for column, speed in product(columns, SPEEDS):
        within = rows[rows[column] <= rows.loc[rows["method"] == "dense", column].iloc[0] / speed]
        chosen = {family: within[within["method"].str.match(names)] for family, names in FAMILIES.items()}
        chosen = {family: some.loc[some["dev_AP"].idxmax()] for family, some in chosen.items() if len(some)}
        for (family, row), part in product(chosen.items() if "resolution" in chosen else (), parts):
            ours, theirs = (
                evaluation(file_name(*one[["method", "detector", "sparsity"]]), part)
                for one in (row, chosen["resolution"])
            )
            what = {key: row[key] for key in ("method", "detector", "trained", "sparsity", "side")}
            found = {
                "AP": ours.average_precision()["AP"],
                **paired_difference(ours, theirs),
                "n_images": len(parts[part]),
            }
            best.append({"time": column, "speed": speed, "family": family, "part": part, **what, **found})
    return best


def fair(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `frontier` without those whose detector was trained on for its way while the lower resolution's wasn't."""
    at = ["time", "speed", "part"]
    rival = rows.loc[rows["family"] == "resolution", [*at, "trained"]].rename(columns={"trained": "rival"})
    both = rows.merge(rival, on=at, how="left")
    return rows[((both["trained"] != "tuned") | (both["rival"] == "tuned")).to_numpy()]


def _held_out(folder: Path, name: str, dev: int, records: list[Record]) -> list[dict]:
    """The detections of a row on `records`; ValueError where they were kept of other pictures."""
    found = read_detections(folder / f"{name}.safetensors")[dev:]
    if len(found) != len(records):
        what = f"{folder / name}.safetensors holds {len(found)} held-out images, the comparison has {len(records)}"
        raise ValueError(f"{what}: run `bavit sweep --inside --store` without --limit")
    return found


def paired_choices(layer: int, detector: str, folder: Path, dev: int, records: list[Record]) -> list[dict]:
    """Ways of a frozen detector to choose what goes, two and two: AP of `method` less that of `against`, paired.

    At equal sparsity after `layer`: its head against chance, and learnt thresholds and equal shares against the head's
    one threshold. Learnt thresholds were moved to the same multiply-adds; what isn't in `folder` is left out.
    """
    pairs = [("head", "random", sparsity) for sparsity in SPARSITIES]
    pairs += [(by, "head", sparsity) for by in ("adaptive", "head-equal") for sparsity in FEW]
    rows = []
    for by, other, sparsity in pairs:
        two = [Point(one, 0 if one == "adaptive" else layer, sparsity, detector=detector) for one in (by, other)]
        if all((folder / f"{point.name}.safetensors").exists() for point in two):
            ours, theirs = (DetectionEvaluation(records, _held_out(folder, point.name, dev, records)) for point in two)
            what = {"method": two[0].method, "against": two[1].method, "detector": detector, "sparsity": sparsity}
            rows.append({**what, **paired_difference(ours, theirs), "n_images": len(records)})
    return rows
