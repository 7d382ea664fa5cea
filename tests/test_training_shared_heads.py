"""What lets a YOLOS learn from few pictures: patches that answer for boxes, and tokens that start as patches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import PartialState
from transformers import YolosForObjectDetection

from bavit_utils.config import get_profile
from bavit_utils.training.detector import VARIANTS
from bavit_utils.training.pictures import half_of_patches
from bavit_utils.training.shared_heads import assign_patches, patch_loss, start_as_patches
from bavit_utils.yolos import PrunedYolos, create_yolos, load_yolos, predict, save_yolos

TINY = replace(get_profile("sample"), detector_img_size=96, detector_depth=2, num_detection_tokens=6)
GRID = TINY.detector_grid  # 6 x 6
NAMES = ("a", "b", "c")


@pytest.fixture
def detector():
    PartialState(cpu=True)
    torch.manual_seed(0)
    return create_yolos(NAMES, **TINY.detector_shape)


def test_patches_near_a_centre_answer_for_the_smallest_box():
    boxes = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.25, 0.25, 1 / 3, 1 / 3]])
    answers = assign_patches(boxes, GRID)
    assert answers[1, 1] == 1 and answers[3, 3] == 0  # the small one's own centre; the large one's
    assert answers[0, 0] == -1 and answers[5, 5] == -1  # beyond 0.3 of the large one's sides
    assert ((answers == 0).sum(), (answers == 1).sum()) == (15, 1)  # of the large one's 4 x 4 the small one has one


def test_a_tiny_box_has_a_patch_and_no_boxes_have_none():
    assert (assign_patches(torch.tensor([[0.4, 0.6, 0.01, 0.01]]), GRID) == 0).sum() >= 1
    assert (assign_patches(torch.zeros(0, 4), GRID) == -1).all()


def _loss(detector, targets, keep=None, pixels=None):
    keep = torch.ones(len(targets), *GRID, dtype=torch.bool) if keep is None else keep
    pixels = torch.zeros(len(targets), 3, 96, 96) if pixels is None else pixels
    output = PrunedYolos(detector)(pixels, keep)
    return patch_loss(detector, output.last_hidden_state, targets, keep)


def target(*boxes, label=0):
    return {"class_labels": torch.full((len(boxes),), label), "boxes": torch.tensor(boxes).reshape(-1, 4)}


def test_the_patches_heads_learn_their_boxes(detector):
    assert torch.isfinite(_loss(detector, [target(), target()]))
    targets = [target([0.5, 0.5, 0.5, 0.5], label=1), target()]
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        losses.append(_loss(detector, targets))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_its_gradient_reaches_the_heads_and_not_the_pruned_patches(detector):
    keep = torch.zeros(1, *GRID, dtype=torch.bool)
    keep[:, :, :3] = True
    pixels = torch.randn(1, 3, 96, 96, requires_grad=True)
    _loss(detector, [target([0.25, 0.5, 0.5, 0.5])], keep, pixels).backward()
    assert detector.bbox_predictor.layers[0].weight.grad.abs().sum() > 0
    assert pixels.grad[..., :48].abs().sum() > 0 and pixels.grad[..., 48:].abs().sum() == 0


def test_tokens_start_at_places_of_a_grid_with_hardly_any_content(detector):
    pixels = torch.randn(8, 3, 96, 96)
    embeddings = detector.vit.embeddings
    start_as_patches(detector, pixels)
    table = embeddings.position_embeddings[0]
    patches, places = table[1:-6].unflatten(0, GRID), table[-6:]
    # 2 x 3 places on 6 x 6 patches: the first lies between rows 1 and 2 (of 0 to 5), in the middle of columns 0 and 1.
    torch.testing.assert_close(places[0], patches[1, :2].mean(dim=0), atol=1e-5, rtol=1e-4)
    mean = embeddings.patch_embeddings(pixels).mean(dim=(0, 1))
    spread = (embeddings.detection_tokens[0] - mean).std()
    assert 0.01 < spread < 0.03


def test_half_of_the_patches_are_left_out_by_chance_or_from_the_background():
    rng, boxes = np.random.default_rng(0), np.array([[0.0, 0.0, 0.5, 0.5]])
    kept = [half_of_patches(boxes, GRID, "background", rng) for _ in range(20)]
    assert all(one.sum() == 18 and one[:3, :3].all() for one in kept)
    kept = np.stack([half_of_patches(boxes, GRID, "any", rng) for _ in range(400)])
    assert (kept.sum(axis=(1, 2)) == 18).all()
    assert np.abs(kept.mean(axis=0) - 0.5).max() < 0.12  # regardless of the box
    assert half_of_patches(np.array([[0.0, 0.0, 1.0, 1.0]]), GRID, "background", rng).sum() == 18


@pytest.mark.parametrize("profile", ["voc", "voc-512"])
def test_each_variant_of_the_recipe_changes_one_thing(profile):
    recipe = get_profile(profile).detector_recipe
    changed = {name: replace(recipe, **change) for name, change in VARIANTS.items()}
    assert all(len(change) == 1 for change in VARIANTS.values())
    assert len({recipe, *changed.values()}) == 1 + len(VARIANTS)
    assert recipe.half == "any" and changed["sparse"].half == "background"


def test_a_checkpoint_is_transformers_own_detector(detector, tmp_path):
    """What is trained by the recipe loads into the plain class, and detects the same there."""
    start_as_patches(detector, torch.randn(4, 3, 96, 96))
    stored = load_yolos(save_yolos(detector, tmp_path / "yolos.safetensors", bits=32))
    stored.save_pretrained(tmp_path / "plain")
    plain = YolosForObjectDetection.from_pretrained(tmp_path / "plain").eval()
    pixels = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        ours, theirs = PrunedYolos(stored).eval()(pixels), plain(pixels)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.pred_boxes, theirs.pred_boxes, atol=1e-5, rtol=1e-5)


def test_the_second_readout_gives_boxes_of_kept_patches_alone(detector):
    images = [np.random.default_rng(k).integers(0, 255, (60, 90, 3), dtype=np.uint8) for k in range(2)]
    keep = torch.zeros(2, *GRID, dtype=torch.bool)
    keep[0, 0, 0], keep[1] = True, True
    pruned = PrunedYolos(detector).eval()
    few, many = predict(pruned, images, keep, readout="patches")
    assert len(few["scores"]) == 1 and 1 < len(many["scores"]) <= 36
    assert (many["scores"][:-1] >= many["scores"][1:]).all()
    hidden = pruned(torch.from_numpy(np.zeros((1, 3, 96, 96), dtype=np.float32))).last_hidden_state
    assert hidden.shape[1] == 1 + 36 + 6
