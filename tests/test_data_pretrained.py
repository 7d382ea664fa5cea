"""The published detector: read from a folder of its form, cut to COCO's classes, and chosen for its profile."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

from bavit_utils import config
from bavit_utils.config import get_profile
from bavit_utils.data import pretrained
from bavit_utils.data.pretrained import load_hub_yolos, profile_detector
from bavit_utils.data.records import class_names
from bavit_utils.yolos import PrunedYolos, create_yolos, load_yolos, predict, save_yolos

# COCO's ids 0 to 90, with their gaps, as the published configuration has them.
LABELS = ("N/A", *FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:])
GAPS = [index for index, label in enumerate(LABELS) if label == "N/A"]


@pytest.fixture(scope="module")
def published() -> YolosForObjectDetection:
    """hustvl/yolos-tiny's architecture with drawn weights, large enough for all of them to matter."""
    torch.manual_seed(0)
    detector = YolosForObjectDetection(
        YolosConfig(
            hidden_size=192,
            num_attention_heads=3,
            intermediate_size=768,
            image_size=[800, 1333],
            use_mid_position_embeddings=False,
            id2label=dict(enumerate(LABELS)),
            label2id={label: index for index, label in enumerate(LABELS)},
        )
    ).eval()
    for module in detector.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.05)
    embeddings, head = detector.vit.embeddings, detector.class_labels_classifier.layers[-1]
    for parameter in (embeddings.cls_token, embeddings.detection_tokens, embeddings.position_embeddings, head.bias):
        nn.init.normal_(parameter, std=0.5)
    head.bias.data[GAPS] = -30.0  # training never meets these classes
    return detector


@pytest.fixture(scope="module")
def folder(published, tmp_path_factory):
    """What the hub holds: the configuration and the weights as safetensors, where `fetch` would put them."""
    place = tmp_path_factory.mktemp("data") / "weights" / "yolos-tiny"
    published.save_pretrained(place)
    return place


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_the_published_form(published, folder):
    assert published.num_parameters() == 6_488_736 and len(LABELS) == 91 and len(GAPS) == 11
    assert published.vit.embeddings.position_embeddings.shape == (1, 1 + 50 * 83 + 100, 192)
    assert (folder / "model.safetensors").stat().st_size == pytest.approx(25_978_888, rel=1e-3)


@torch.no_grad()
def test_the_head_is_cut_to_cocos_classes_and_the_table_resized_once(published, folder):
    loaded, pixels = load_hub_yolos(128, folder), torch.randn(1, 3, 128, 128)
    assert tuple(loaded.config.id2label.values()) == class_names("coco") and not loaded.training
    assert loaded.vit.embeddings.position_embeddings.shape == (1, 1 + 8 * 8 + 100, 192)
    full, cut = published(pixels), PrunedYolos(loaded).eval()(pixels)
    used = [index for index in range(92) if index not in GAPS]
    torch.testing.assert_close(cut.logits, full.logits[..., used], atol=1e-4, rtol=0)
    torch.testing.assert_close(cut.pred_boxes, full.pred_boxes, atol=1e-5, rtol=0)
    assert (cut.logits[0, 0] - cut.logits[0, 1]).abs().max() > 0.01  # detection tokens differ


def test_detections_are_those_of_transformers_own_way(published, folder):
    """The original's processor, forward and post-processing."""
    image = picture(*(shape := (128, 128)))
    (ours,) = predict(PrunedYolos(load_hub_yolos(128, folder)).eval(), [image])
    processor = YolosImageProcessor(size={"shortest_edge": 128, "longest_edge": 213})
    with torch.no_grad():
        output = published(processor(image, return_tensors="pt")["pixel_values"])
    (theirs,) = processor.post_process_object_detection(output, threshold=-1.0, target_sizes=[shape])
    torch.testing.assert_close(ours["scores"], theirs["scores"], atol=1e-4, rtol=0)
    torch.testing.assert_close(ours["boxes"], theirs["boxes"], atol=0.01, rtol=0)
    names = class_names("coco")
    assert [names[i] for i in ours["labels"]] == [LABELS[i] for i in theirs["labels"]]
    assert len(set(ours["labels"].tolist())) > 1


def test_what_is_loaded_can_be_saved_as_ours(folder, tmp_path):
    again = load_yolos(save_yolos(load_hub_yolos(96, folder), tmp_path / "own.safetensors"))
    assert again.config.normalise == "imagenet" and again.config.image_size == [96, 96]
    assert again.config.num_labels == 80


def test_a_detector_of_other_classes_is_refused(folder, monkeypatch):
    monkeypatch.setattr(pretrained, "class_names", lambda dataset: ("person", "unicorn"))
    with pytest.raises(ValueError, match="unicorn.*id2label"):
        load_hub_yolos(96, folder)


def test_cocos_profile_has_the_published_detector_and_the_others_their_stored_ones(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CHECKPOINTS", tmp_path)
    monkeypatch.setenv("BAVIT_DATA_DIR", str(folder.parents[1]))
    coco = get_profile("coco")
    detector, weights = profile_detector(coco)
    assert weights == folder / "model.safetensors" and not detector.training
    assert detector.vit.embeddings.position_embeddings.shape[1] == 1 + 32 * 32 + 100
    for profile, name in ((coco, "yolos-f"), (get_profile("voc-512"), "yolos")):
        with pytest.raises(FileNotFoundError, match=name):
            profile_detector(profile, name)
    tiny = replace(coco, detector_img_size=64, detector_depth=1, num_detection_tokens=3)
    stored = save_yolos(create_yolos(class_names(tiny.detector_data), **tiny.detector_shape), coco.checkpoint("yolos"))
    detector, weights = profile_detector(coco)
    assert weights == stored and detector.config.num_detection_tokens == 3
