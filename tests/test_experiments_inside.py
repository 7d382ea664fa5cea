"""What pruning inside is compared with: points, their thresholds, what they cost, and who is best at a time."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from bavit_utils import config
from bavit_utils.config import get_profile
from bavit_utils.cost import bavit_multiply_adds, multiply_adds
from bavit_utils.data.records import class_names, load_records
from bavit_utils.experiments import frontier as ranking
from bavit_utils.experiments import inside
from bavit_utils.experiments.frontier import frontier, measure_times
from bavit_utils.experiments.inside import Comparison, Point, points, tuned_points
from bavit_utils.inside import PatchHead
from bavit_utils.selectors.merging import merged_multiply_adds
from bavit_utils.sweep import read_detections
from bavit_utils.verbs import inside as verbs
from bavit_utils.yolos import create_yolos, save_yolos

TINY = replace(get_profile("sample"), detector_img_size=64, detector_depth=3, num_detection_tokens=5, bavit_img_size=48)


def make_head(layer: int, threshold: float = 1.0) -> PatchHead:
    torch.manual_seed(layer)
    head = PatchHead(layer, threshold)
    torch.nn.init.normal_(head.score.weight, std=0.3)
    return head.eval()


@pytest.fixture(scope="module")
def comparison():
    torch.manual_seed(0)
    detectors = {}
    for name in ("yolos", "yolos-inside-2"):
        detectors[name] = create_yolos(class_names("sample"), **TINY.detector_shape).eval()
        torch.nn.init.normal_(detectors[name].vit.embeddings.position_embeddings, std=0.5)
    records = load_records("sample", "val", 20)
    heads = {"yolos": {k: make_head(k) for k in (1, 2)}, "yolos-inside-2": {2: make_head(2)}}
    learnt = {0.5: [make_head(1, 0.55), make_head(2, 0.5)]}
    return Comparison(TINY, detectors, heads, records[:8], records[8:], learnt)


CHOICES = [Point("bavit-small", 0, 0.5), Point("head", 1, 0.5), Point("head-equal", 2, 0.5), Point("random", 2, 0.5)]
CHOICES += [Point("truth", 1, 0.35), Point("head", 2, 0.5, detector="yolos-inside-2")]


@pytest.mark.parametrize("point", CHOICES, ids=lambda point: f"{point.method}-{point.detector}")
def test_the_threshold_is_chosen_on_dev_pictures_and_costs_are_the_formulas(comparison, point):
    keep = comparison.keep(point)
    assert 1 - keep[:8].double().mean() == pytest.approx(point.sparsity, abs=0.04)
    if point.by == "head":  # the same threshold on all pictures
        maps = comparison.maps(point, (4, 4))
        assert maps[keep].min() > maps[~keep].max()
    found, kept = comparison.run(point)
    assert len(found) == 20 and torch.equal(kept[-1], keep) and len(kept) == 1 + (point.after_layers > 0)
    bavit = "bavit-small" if point.by == "bavit-small" else None
    formula = multiply_adds(keep[8:].flatten(1).sum(1).numpy(), TINY, bavit, point.after_layers)
    own = 16 * 2 * 192 if point.by.startswith("head") else 0
    assert comparison.cost(point, kept) == pytest.approx(formula + own)


def test_bavit_is_charged_to_who_uses_it(comparison):
    costs = {}
    for point in (Point(), Point("bavit-small", 0, 0.5)):
        costs[point.by] = comparison.cost(point, [torch.ones(20, 4, 4, dtype=torch.bool)])
    assert costs["bavit-small"] - costs[""] == bavit_multiply_adds(2, 9)


def test_a_row_says_what_was_done(comparison):
    row = comparison.row(Point("head", 1, 0.5))
    assert (row["method"], row["trained"], row["side"], row["n_images"]) == ("inside-1", "frozen", 64, 12)
    assert 0.2 < row["sparsity_reached"] < 0.8 and row["delta_low"] <= row["delta_AP"] <= row["delta_high"]
    assert 0 < row["accuracy"] < 1 and 0 < row["auroc"] < 1
    dense = comparison.row(Point())
    assert dense["delta_AP"] == 0 and dense["sparsity_reached"] == 0 and dense["gmacs"] > row["gmacs"]
    assert comparison.row(Point("head", 2, 0.5, detector="yolos-inside-2"))["trained"] == "tuned"
    assert comparison.row(Point("tome", 0, 0.2))["gmacs"] == pytest.approx(merged_multiply_adds(0.2, TINY) / 1e9)


def test_detections_are_kept_by_name(comparison, tmp_path):
    point, there = Point("random", 1, 0.35), replace(comparison, folder=tmp_path)
    there.row(point)
    stored, found = read_detections(tmp_path / "random-1-yolos-0.35.safetensors"), comparison.run(point)[0]
    assert len(stored) == 20 and all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(stored, found))


def test_smaller_and_larger_pictures_cost_what_their_patches_cost(comparison):
    small, large = (comparison.row(Point(side=side)) for side in (48, 96))
    assert (small["method"], small["side"]) == ("resolution-48", 48)
    assert small["gmacs"] == pytest.approx(multiply_adds(9, TINY, None, patches=9) / 1e9)
    assert large["gmacs"] == pytest.approx(multiply_adds(36, TINY, None, patches=36) / 1e9)


def test_several_stages_prune_one_after_another_and_coarse_ones_keep_blocks(comparison):
    _, kept = comparison.run(Point("adaptive", sparsity=0.5, stages=(1, 2)))
    assert len(kept) == 3 and kept[0].all() and not (kept[2] & ~kept[1]).any() and kept[2].sum() < kept[1].sum()
    fine, coarse = Point("head", 1, 0.8), Point("head", 1, 0.8, coarse=True)
    assert coarse.method == "coarse-inside-1"
    left, blocks = (comparison.run(point)[1][-1] for point in (fine, coarse))
    assert (blocks & ~left).any() and not (left & ~blocks).any()


def test_all_points_have_names_of_their_own_and_a_tuned_detector_has_its_controls():
    tuned = [
        "yolos-f",
        "yolos-control",
        "yolos-inside-4",
        "yolos-random-4",
        "yolos-resolution-192",
        "yolos-sparse-inside-4",
    ]
    every = points(get_profile("voc"), 4, (1, 2, 4))
    every += [point for name in tuned for point in tuned_points(get_profile("voc"), name)]
    keys = [(point.method, point.detector, point.sparsity) for point in every]
    assert len(set(keys)) == len(keys)
    assert {point.detector for point in every} == {"yolos", *tuned}
    assert ("resolution-192", "yolos-resolution-192", 0.0) in keys and ("dense", "yolos-control", 0.0) in keys
    assert ("inside-4", "yolos-inside-4", 0.5) in keys and ("inside-4-320", "yolos-inside-4", 0.5) in keys
    assert ("inside-4", "yolos-sparse-inside-4", 0.5) in keys


def test_times_run_what_the_points_run(monkeypatch):
    calls = []
    monkeypatch.setattr(
        ranking, "foreground_probability", lambda model, small: calls.append("bavit") or torch.rand(1, 4, 4)
    )
    original = PatchHead.forward
    monkeypatch.setattr(PatchHead, "forward", lambda self, tokens: calls.append("head") or original(self, tokens))
    seen = []
    gather = inside.PrunedYolos._gather
    monkeypatch.setattr(
        inside.PrunedYolos,
        "_gather",
        lambda self, x, keep: (
            seen.append((len(keep), keep.flatten(1).sum(1).double().mean().item())) or gather(self, x, keep)
        ),
    )
    mask, full = [6, 2, 3, 4, 5, 6, 7, 8, 9], [16] * 9
    ways = {Point(): [full], Point("bavit-small", 0, 0.5): [mask], Point("head", 1, 0.5): [full, mask]}
    times = measure_times(TINY, ways, batch=1, repeats=1)
    assert set(times) == set(ways) and all(time > 0 for time in times.values())
    assert calls.count("bavit") == calls.count("head") == 4  # with three rounds to warm up
    assert set(seen) == {(1, 16), (1, 6)}
    seen.clear()
    measure_times(TINY, {Point("tome", 0, 0.3): [], **ways}, batch=8, scale=2, repeats=1)
    assert set(seen) == {(8, 64), (8, 64 // 16 * 5.5)}


@pytest.mark.parametrize("scale", [1, 2])
def test_coarse_points_are_timed_with_as_many_tokens_as_they_had(monkeypatch, scale):
    """Stored counts are of what was computed: after two by two background patches became one."""
    seen, gather = [], inside.PrunedYolos._gather
    monkeypatch.setattr(
        inside.PrunedYolos,
        "_gather",
        lambda self, x, keep: seen.append(keep.flatten(1).sum(1)) or gather(self, x, keep),
    )
    counts, full = torch.tensor([6, 4, 5, 7, 9, 10, 11, 13, 16]), [16] * 9
    for point, kept in (
        (Point("bavit-small", 0, 0.5, coarse=True), [counts.tolist()]),
        (Point("head", 1, 0.5, coarse=True), [full, counts.tolist()]),
    ):
        for batch, wanted in ((1, counts[:1]), (8, counts[1:])):
            seen.clear()
            measure_times(TINY, {point: kept}, batch, scale, repeats=1)
            assert len(seen) == 4 * len(kept) and all((one == 16 * scale**2).all() for one in seen[: len(kept) - 1])
            assert (seen[-1] - scale**2 * wanted).abs().max() <= 2


def test_who_is_best_is_chosen_on_dev_pictures_and_shown_on_the_others(comparison, tmp_path):
    there = replace(comparison, folder=tmp_path)
    ways = [Point(), Point(side=48), Point("bavit-small", 0, 0.5), Point("head", 1, 0.5), Point("truth", 1, 0.35)]
    rows = pd.DataFrame([there.row(point) for point in ways]).assign(ms=[10.0, 5.0, 9.0, 6.0, 1.0])
    rows["dev_AP"] = [0.5, 0.1, 0.3, 0.4, 0.9]
    labels = torch.randint(0, 2, (12, 4, 4)).numpy()
    best = pd.DataFrame(frontier(rows, ["ms"], tmp_path, 8, comparison.held_out, labels))
    chosen = best[best["part"] == "all"].pivot(index="speed", columns="family", values="method")
    assert chosen.loc[1.1].to_dict() == {
        "any": "inside-1", "front": "bavit-small", "inside": "inside-1", "resolution": "resolution-48"
    }  # fmt: skip
    assert chosen.loc[1.8, "any"] == "resolution-48" and chosen.loc[1.8, ["front", "inside"]].isna().all()
    assert 2.5 not in chosen.index  # no smaller picture is as fast
    own = best[best["family"] == "resolution"]
    assert (own["delta_AP"] == 0).all() and set(best["n_images"]) == {12, 4}
    one = best[(best["part"] == "all") & (best["family"] == "inside") & (best["speed"] == 1.1)].iloc[0]
    assert one["AP"] == pytest.approx(rows["AP"][3]) and one["delta_AP"] == pytest.approx(rows["AP"][3] - rows["AP"][1])


def test_a_comparison_in_which_only_ours_was_tuned_does_not_count():
    ways = [("inside", "tuned"), ("inside", "frozen"), ("resolution", "frozen")]
    rows = [
        {"time": "gmacs", "speed": 1.5, "part": "all", "family": family, "trained": trained} for family, trained in ways
    ]
    rows += [row | {"speed": 1.2, "trained": "tuned"} for row in rows[1:]]
    kept = ranking.fair(pd.DataFrame(rows, index=[7, 8, 9, 10, 11]))
    assert kept.index.tolist() == [8, 9, 10, 11]


def test_choices_are_paired_two_and_two(comparison, tmp_path, monkeypatch):
    monkeypatch.setattr(ranking, "SPARSITIES", (0.5,))
    there = replace(comparison, folder=tmp_path)
    head, drawn, equal = (there.row(Point(by, 1, 0.5))["AP"] for by in ("head", "random", "head-equal"))
    rows = ranking.paired_choices(1, "yolos", tmp_path, 8, comparison.held_out)
    assert [(row["method"], row["against"], row["n_images"]) for row in rows] == [
        ("inside-1", "random-1", 12), ("inside-equal-1", "inside-1", 12)
    ]  # fmt: skip
    assert [row["delta_AP"] for row in rows] == pytest.approx([head - drawn, equal - head])
    adaptive = there.folder / f"{Point('adaptive', sparsity=0.5, stages=(1, 2)).name}.safetensors"
    adaptive.write_bytes((tmp_path / f"{Point('random', 1, 0.5).name}.safetensors").read_bytes())
    (learnt,) = [
        row
        for row in ranking.paired_choices(1, "yolos", tmp_path, 8, comparison.held_out)
        if row["method"] == "adaptive"
    ]
    assert learnt["against"] == "inside-1" and learnt["delta_AP"] == pytest.approx(drawn - head)
    with pytest.raises(ValueError, match=r"inside-1-yolos-0.50.safetensors holds 12 held-out .* without --limit"):
        ranking.paired_choices(1, "yolos", tmp_path, 8, comparison.held_out[:5])


def test_detectors_are_opened_where_they_are_and_the_hubs_heads_are_looked_for_among_ours(
    comparison, tmp_path, monkeypatch
):
    hub = comparison.detectors["yolos"], tmp_path / "weights" / "yolos-tiny" / "model.safetensors"
    monkeypatch.setattr(verbs, "profile_detector", lambda profile, name: hub)
    monkeypatch.setattr(config, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(config, "RUNS", tmp_path / "runs")
    coco = get_profile("coco")
    assert verbs._opened(coco, "yolos") == (*hub, tmp_path / "heads-coco.safetensors")
    left = tmp_path / "runs" / "yolos-inside-4-coco-seed0" / "model.safetensors"
    save_yolos(hub[0], left)
    detector, file, heads = verbs._opened(coco, "yolos-inside-4")
    assert detector.config.num_hidden_layers == 3 and (file, heads) == (left, left.with_name("heads.safetensors"))


def test_remembering_what_is_kept_changes_nothing(comparison):
    detector = comparison.detectors["yolos"]
    pixels = torch.randn(3, 3, 64, 64)
    watched = inside.PrunedYolos(detector, [make_head(1, 0.5)]).eval()
    with torch.no_grad():
        plain = watched(pixels)
        watched.kept = []
        parts = [watched(part).last_hidden_state for part in (pixels[:2], pixels[2:])]
    torch.testing.assert_close(torch.cat(parts), plain.last_hidden_state)
    everything, kept = (torch.cat(stage) for stage in zip(*watched.kept))
    assert everything.all()
    torch.testing.assert_close(kept.flatten(1).sum(1), (plain.last_hidden_state[:, 1:-5].abs().sum(-1) > 0).sum(1))
