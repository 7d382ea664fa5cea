"""The threshold explorer, driven as the next cell of a notebook would drive it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from bavit_utils.bavit import create_bavit
from bavit_utils.config import get_profile
from bavit_utils.pruning import detector_keep
from bavit_utils.widgets import threshold_explorer
from bavit_utils.yolos import PrunedYolos, create_yolos

PROFILE = get_profile("sample")


class CountingYolos(PrunedYolos):
    calls = 0

    def forward(self, *args, **kwargs):
        CountingYolos.calls += 1
        return super().forward(*args, **kwargs)


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    bavit = create_bavit(2, PROFILE.bavit_img_size, pretrained=False).eval()
    detector = CountingYolos(create_yolos(PROFILE, pretrained=False)).eval()
    # One class with certainty, so that there are boxes to draw.
    with torch.no_grad():
        detector.detector.class_labels_classifier.layers[-1].bias[2] = 20
    images = list(np.random.default_rng(0).integers(0, 255, (2, 120, 160, 3), dtype=np.uint8))
    labels = torch.zeros(2, *PROFILE.detector_grid, dtype=torch.int64)
    labels[0, 4:12, 4:12] = 1
    return bavit, detector, images, labels


@pytest.fixture
def explorer(parts):
    bavit, detector, images, labels = parts
    return threshold_explorer(PROFILE, bavit, detector, images, labels)


def drawn(explorer):
    return np.asarray(Image.open(io.BytesIO(explorer.image.value))).astype(int)


def test_moving_the_slider_changes_label_and_picture(explorer):
    explorer.slider.value = 1
    everything, whole = explorer.label.value, drawn(explorer)
    assert "sparsity 0%" in everything and "256 of 256 patches" in everything and "foreground kept 100%" in everything
    explorer.slider.value = 0
    assert "sparsity 100%" in explorer.label.value and "foreground kept 0%" in explorer.label.value
    assert (drawn(explorer)[:, :320] > 250).all() and not (whole[:, :320] > 250).all()


def test_keep_is_the_same_as_the_sweeps(explorer):
    explorer.slider.value = float(1 - explorer.maps[0].median())
    expected = detector_keep(explorer.maps[:1], explorer.slider.value, PROFILE.detector_grid)
    assert torch.equal(explorer.keep(), expected) and 0 < expected.float().mean() < 1
    assert f"{int(expected.sum())} of 256 patches" in explorer.label.value


def test_choosing_another_picture_shows_it(explorer):
    before = drawn(explorer)
    explorer.picture.value = 1
    assert "no foreground" in explorer.label.value
    assert np.abs(drawn(explorer) - before).mean() > 5


def test_keeping_everything_saves_less_than_nothing(explorer):
    explorer.slider.value = 1
    assert "saved, BAViT counted: -" in explorer.label.value


def test_detections_are_remembered_by_keep_mask(explorer):
    explorer.slider.value = 1
    explorer.slider.value = 0
    calls = CountingYolos.calls
    explorer.slider.value = 1
    assert CountingYolos.calls == calls
    boxes = explorer.detections()
    assert len(boxes) == PROFILE.num_detection_tokens and f"{len(boxes)} found" in explorer.label.value
    assert all(-1 < share < 2 for box, _ in boxes for share in box)


def test_without_detector_and_labels_there_are_only_patches(parts):
    explorer = threshold_explorer(PROFILE, parts[0], None, parts[2])
    assert explorer.detections() == []
    assert "found" not in explorer.label.value and "foreground" not in explorer.label.value
