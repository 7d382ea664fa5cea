"""Who chooses: each scorer's scores by what it may know, and cuts at equal shares of each picture."""

from dataclasses import replace

import pytest
import torch

from bavit_utils.annotations import labels_for
from bavit_utils.config import get_profile
from bavit_utils.cost import bavit_multiply_adds
from bavit_utils.data.pretrained import profile_detector
from bavit_utils.data.records import load_records
from bavit_utils.pruning import detector_keep, threshold_for_sparsity
from bavit_utils.selectors.scores import (
    SCORERS,
    Inputs,
    PixelScorer,
    local_contrast,
    ranks,
    scores,
    scoring_multiply_adds,
)
from bavit_utils.yolos import PrunedYolos

SAMPLE = get_profile("sample")
LOOKING = ("bavit-small", "bavit-large", "sparse-detr", "focus-detr", "sparse-detr-map", "contrast")


@pytest.fixture(scope="module")
def inputs():
    records = load_records("sample", "val", 6)
    detector, path = profile_detector(SAMPLE)
    return Inputs(SAMPLE, records, [record.image() for record in records], PrunedYolos(detector).eval(), path)


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_scores_every_patch_and_can_be_repeated(inputs, name):
    found = scores(name, inputs)
    on_bavits = "bavit-small", "bavit-large", "random", "oracle-mask", "oracle-box"
    grid = SAMPLE.bavit_grid if name in on_bavits else SAMPLE.detector_grid
    assert found.shape == (6, *grid) and found.dtype == torch.float32 and found.isfinite().all()
    assert torch.equal(found, scores(name, inputs))
    assert len(found[0].unique()) > 4
    drawn = name == "random" or name.startswith("oracle")
    assert torch.equal(found, scores(name, replace(inputs, seed=1))) != drawn


@pytest.mark.parametrize("name", LOOKING)
def test_those_that_look_see_each_picture_alone(inputs, name):
    """A picture's scores don't depend on the batch it is in, and do depend on its pixels."""
    assert isinstance(SCORERS[name](inputs), PixelScorer)
    found = scores(name, inputs)
    two = replace(inputs, records=inputs.records[2:4], images=inputs.images[2:4])
    torch.testing.assert_close(scores(name, two), found[2:4], rtol=1e-4, atol=1e-4)
    mirrored = replace(two, images=[image[:, ::-1].copy() for image in two.images])
    assert not torch.allclose(scores(name, mirrored), found[2:4], atol=1e-3)


@pytest.mark.parametrize("name", ["oracle-mask", "oracle-box", "oracle-exact", "oracle-near"])
def test_the_oracle_drops_no_foreground_while_background_is_left(inputs, name):
    found = scores(name, inputs)
    grid = tuple(found.shape[1:])
    rule = "box" if name == "oracle-box" else "mask"
    truth = torch.stack([torch.from_numpy(labels_for(record, grid, rule) == 1) for record in inputs.records])
    background = 1 - truth.float().mean().item()
    keep = detector_keep(found, threshold_for_sparsity(found, 0.9 * background, grid), grid)
    assert keep[truth].all() and not keep.all()
    random = torch.rand(found.shape, generator=torch.Generator().manual_seed(0))
    assert not detector_keep(random, threshold_for_sparsity(random, 0.9 * background, grid), grid)[truth].all()


def test_only_on_its_own_grid_does_the_detector_lose_no_foreground(inputs):
    """Labels on BAViT's grid, resized, drop some of what is foreground on the detector's."""
    grid = SAMPLE.detector_grid
    truth = torch.stack([torch.from_numpy(labels_for(record, grid, "mask") == 1) for record in inputs.records])
    kept = {}
    for name in ("oracle-mask", "oracle-exact"):
        found = scores(name, inputs)
        kept[name] = detector_keep(found, threshold_for_sparsity(found, 0.35, grid), grid)[truth].float().mean().item()
    assert kept["oracle-exact"] == 1 and 0.9 < kept["oracle-mask"] < 1


def test_near_background_outlives_far_background(inputs):
    found, grid = scores("oracle-near", inputs), SAMPLE.detector_grid
    truth = torch.stack([torch.from_numpy(labels_for(record, grid, "mask") == 1) for record in inputs.records])
    grown = torch.nn.functional.max_pool2d(truth.float(), 3, 1, 1).bool()
    touching, rest = grown & ~truth, ~grown
    assert found[truth].min() > found[touching].max() and found[touching].min() > found[rest].max()


def test_the_centre_is_kept_and_contrast_is_a_deviation(inputs):
    centre = scores("centre", inputs)
    assert centre[0, 7:9, 7:9].min() == centre.max() and centre[0, 0, 0] == centre.min() == 0
    assert torch.equal(centre[0], centre[0].flip(0)) and torch.equal(centre[0], centre[0].T)
    pixels = torch.zeros(1, 3, 32, 32)
    pixels[0, :, 0, :16] = 1.0  # one row of the first patch
    deviation = (torch.tensor([1.0] * 16 + [0.0] * 240)).std()
    torch.testing.assert_close(local_contrast(pixels), torch.tensor([[[deviation, 0], [0, 0]]]))


def test_whoever_looks_pays_and_what_cannot_be_had_is_for_nothing():
    free = {"sparse-detr-map", *SCORERS} - set(LOOKING) | {"sparse-detr-map"}
    assert {name for name in SCORERS if not scoring_multiply_adds(name, SAMPLE)} == free
    assert scoring_multiply_adds("bavit-small", SAMPLE) == bavit_multiply_adds(2, 144)
    assert scoring_multiply_adds("contrast", SAMPLE) == 5 * 256**2  # two sums, a difference, a square, a mean


def test_ranks_keep_equally_many_of_each_picture():
    torch.manual_seed(0)
    maps = torch.rand(5, 8, 8) * torch.arange(1, 6).view(5, 1, 1)
    maps[0, :4] = 0  # ties are broken too
    ranked = ranks(maps)
    assert all(len(one.unique()) == 64 for one in ranked) and ranked.max() == 1 and ranked.min() == 1 / 64
    keep = detector_keep(ranked, threshold_for_sparsity(ranked, 0.25, (8, 8)), (8, 8))
    assert keep.flatten(1).sum(1).tolist() == [48] * 5
    for one, kept in zip(maps, keep):
        assert one[kept].min() >= one[~kept].max()


def test_a_head_of_another_detector_is_refused(inputs, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"another detector")
    with pytest.raises(ValueError, match="train it for this one"):
        scores("focus-detr", replace(inputs, checkpoint=other))
