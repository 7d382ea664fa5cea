"""The comparison of selectors: its points, their costs, the pairing with BAViT, and going on after an interruption."""

from dataclasses import replace

import numpy as np
import pytest
from test_selectors_scores import inputs  # noqa: F401

from bavit_utils import sweep
from bavit_utils.bavit import foreground_probability
from bavit_utils.config import get_profile
from bavit_utils.cost import bavit_multiply_adds, multiply_adds
from bavit_utils.metrics import DetectionEvaluation, paired_difference
from bavit_utils.pruning import sparsity
from bavit_utils.selectors import comparison as module
from bavit_utils.selectors import scores
from bavit_utils.selectors.comparison import DENSE, compare, curve_at
from bavit_utils.selectors.runs import CHOICES, COMPARED, chosen_runs
from bavit_utils.yolos import PrunedYolos, predict

SAMPLE, COCO = get_profile("sample"), get_profile("coco")


@pytest.fixture(scope="module")
def budgets(inputs):  # noqa: F811
    return {run.budget: run.cost(SAMPLE) for run in chosen_runs("bavit-small", inputs, (0.46, 0.2))}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(module, "BETWEEN", ())
    monkeypatch.setattr(module, "REPEATS", 1)


@pytest.mark.parametrize("name", COMPARED)
def test_every_selector_meets_its_budgets(inputs, budgets, name):  # noqa: F811
    seen = list(COMPARED[name](inputs, budgets))
    assert seen and len({(run.selector, run.budget, run.seed) for run in seen}) == len(seen)
    for run in seen:
        if name in CHOICES:
            assert run.sparsity_reached == pytest.approx(run.budget, abs=0.03 if "fill" in name else 0.01)
        elif run.budget is not None:
            assert run.cost(SAMPLE) == pytest.approx(budgets[run.budget], rel=0.02)
        else:
            assert run.cost(SAMPLE) < DENSE.cost(SAMPLE)
        run.work(inputs)()
    if name in CHOICES and CHOICES[name].per_picture:
        shares = sparsity(seen[0].keep)
        assert shares.max() - shares.min() < 0.05
    assert {run.seed for run in seen} == ({0, 1, 2, 3, 4} if name == "random" else {0})


def test_costs_are_those_of_table_2_here_and_at_the_papers_sizes(inputs):  # noqa: F811
    run = next(chosen_runs("bavit-small", inputs, (0.35,)))
    kept = run.keep.flatten(1).sum(1).numpy()
    assert run.cost(SAMPLE) == pytest.approx(multiply_adds(kept, SAMPLE))
    assert run.cost(COCO) == pytest.approx(multiply_adds(4 * kept, COCO))  # 32 x 32 patches in place of 16 x 16
    free = next(chosen_runs("centre", inputs, (0.35,)))
    kept = free.keep.flatten(1).sum(1).numpy()
    assert free.cost(SAMPLE) == pytest.approx(multiply_adds(kept, SAMPLE) - bavit_multiply_adds(2, 144))
    late = next(chosen_runs("layer-2", inputs, (0.35,)))
    kept = late.keep.flatten(1).sum(1).numpy()
    there = 2 * COCO.detector_depth // SAMPLE.detector_depth
    assert late.after_layers(SAMPLE) == 2 and late.sparsity_reached == run.sparsity_reached
    assert late.cost(SAMPLE) == pytest.approx(multiply_adds(kept, SAMPLE, after_layers=2))
    assert late.cost(COCO) == pytest.approx(multiply_adds(4 * kept, COCO, after_layers=there))
    smaller = next(COMPARED["resolution"](inputs, {}))
    assert smaller.selector == "resolution-224" and smaller.cost(COCO) == multiply_adds(784, COCO, None, patches=784)


def test_rows_pair_with_bavit_at_equal_sparsity_and_at_equal_cost(inputs, tmp_path, monkeypatch):  # noqa: F811
    names = ("bavit-small", "centre", "tome", "resolution")
    rows = compare(inputs, names, tmp_path, sparsities=(0.46, 0.2))
    found = {(row["selector"], row["budget"]): row for row in rows}
    assert len(found) == len(rows) == 1 + 2 + 2 + 2 + 3
    pair = (next(chosen_runs(name, inputs, (0.46,))) for name in ("centre", "bavit-small"))
    evaluations = [
        DetectionEvaluation(inputs.records, predict(inputs.detector, inputs.images, run.keep)) for run in pair
    ]
    row, expected = found["centre", 0.46], paired_difference(*evaluations)
    assert (row["delta_to_bavit"], row["delta_low"]) == (expected["delta_AP"], expected["delta_low"])
    assert row["AP"] == evaluations[0].average_precision()["AP"] and row["sparsity"] == 0.46
    own = found["bavit-small", 0.46]
    assert own["delta_to_bavit"] == own["delta_at_gmacs"] == own["at_gmacs_high"] == 0
    merged = found["tome", 0.2]  # at the same cost both pairings are nearly the same
    assert merged["sparsity"] is None and merged["delta_at_gmacs"] == pytest.approx(merged["delta_to_bavit"], abs=0.005)
    assert found["resolution-224", None]["delta_to_bavit"] is None and found["dense", None]["delta_AP"] == 0
    assert all(row["latency_ms_b1"] > 0 and row["n_images"] == 6 for row in rows)
    there = {key for key, row in found.items() if row["paper_latency_ms_b1"]}
    assert there == {("dense", None), *((f"resolution-{side}", None) for side in (224, 192, 160))}

    def never(*args, **kwargs):
        raise AssertionError("detected again")

    monkeypatch.setattr(sweep, "predict", never)  # all is there already
    again = compare(inputs, names, tmp_path, sparsities=(0.46, 0.2))
    times = {"latency_ms_b1": 0, "paper_latency_ms_b1": 0}
    assert [row | times for row in again] == [row | times for row in rows]


def test_time_at_the_papers_sizes_is_of_their_networks(inputs, monkeypatch):  # noqa: F811
    """BAViT at 384 px and the detector at 512 px, with the same share of tokens and after the same share of layers."""
    seen, looked = [], []

    class Watched(PrunedYolos):
        def forward(self, pixel_values, keep=None, labels=None, after_layers=0):
            seen.append((pixel_values.shape[-1], keep, after_layers))
            return super().forward(pixel_values, keep, labels, after_layers)

    def watched(bavit, pixels):
        looked.append(pixels.shape[-1])
        return foreground_probability(bavit, pixels)

    monkeypatch.setattr(scores, "foreground_probability", watched)
    there = module._paper_inputs()
    there = replace(there, detector=Watched(there.detector.detector).eval())
    run = next(chosen_runs("bavit-small", inputs, (0.35,)))
    looked.clear()
    run.work(inputs, there)()
    (side, keep, after), mean = seen.pop(), run.keep.double().mean().item()
    assert looked == [384] and (side, after) == (512, 0) and keep.shape == (1, 32, 32)
    assert keep.double().mean().item() == pytest.approx(mean, abs=0.06)
    run.work(inputs)()
    assert looked == [384, 192]  # every timed pass pays for BAViT's own
    next(chosen_runs("layer-2", inputs, (0.35,))).work(inputs, there)()
    assert seen.pop()[::2] == (512, 2 * COCO.detector_depth // SAMPLE.detector_depth)
    next(COMPARED["resolution"](inputs, {})).work(inputs, there)()
    assert seen.pop()[0] == 448


def test_the_reference_curve_is_straight_between_its_points():
    curve = [3.0, 1.0], [np.array([0.4, 0.3, 0.6]), np.array([0.2, 0.1, 0.2])]
    np.testing.assert_allclose(curve_at(2.0, *curve), [0.3, 0.2, 0.4])
    assert curve_at(3.0, *curve).tolist() == [0.4, 0.3, 0.6]  # exactly: a point of the curve is no better than itself
    assert np.isnan(curve_at(0.9, *curve)).all() and np.isnan(curve_at(3.1, *curve)).all()


def test_other_weights_never_meet_kept_detections(inputs, tmp_path, monkeypatch):  # noqa: F811
    compare(inputs, ("bavit-small",), tmp_path, sparsities=(0.35,))
    before = set(tmp_path.rglob("*.safetensors"))
    monkeypatch.setattr(module, "short_hash", lambda path: "another")
    compare(inputs, ("bavit-small",), tmp_path, sparsities=(0.35,))
    new = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*.safetensors")) - before}
    assert new == {"bavit-small-another/budget-0.35-seed-0.safetensors"}
