"""Detectors made, saved and loaded, from the hub's form too, and the way from their output to boxes in pixels."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn
from transformers import YolosConfig, YolosForObjectDetection

from bavit_utils import yolos
from bavit_utils.config import data_dir, get_profile
from bavit_utils.datasets import class_names
from bavit_utils.images import to_batch
from bavit_utils.weights import imagenet_blocks, save_weights
from bavit_utils.yolos import PrunedYolos, create_yolos, detect, load_hub_yolos, load_yolos, predict, save_yolos

SMALL = replace(get_profile("sample"), detector_img_size=96, detector_depth=3, num_detection_tokens=5)


@pytest.fixture
def detector() -> YolosForObjectDetection:
    torch.manual_seed(0)
    return create_yolos(SMALL, pretrained=False).eval()


def test_create_yolos_follows_its_profile_and_starts_from_no_zeros():
    model = create_yolos(get_profile("sample"), pretrained=False)
    names = list(class_names("sample"))
    assert [model.config.id2label[i] for i in range(len(names))] == names and model.config.normalise == "bavit"
    assert len(model.vit.encoder.layer) == 6 and model.config.num_detection_tokens == 25
    embeddings = model.vit.embeddings
    assert embeddings.position_embeddings.shape == (1, 1 + 16 * 16 + 25, 192)
    for parameter in (embeddings.cls_token, embeddings.detection_tokens, embeddings.position_embeddings):
        assert 0.015 < parameter.std() < 0.025


@pytest.mark.skipif(not list((data_dir() / "weights").glob("vit_tiny*")),
                    reason="no ImageNet weights in BAVIT_DATA_DIR's weights folder")
def test_the_imagenet_start_computes_timms_blocks():
    """With timm's own ViT on the same weights: equal features when the detection tokens are hidden."""
    profile = replace(SMALL, detector_img_size=224, detector_depth=2)
    model = create_yolos(profile).eval()
    vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=0)
    weights = imagenet_blocks()
    vit.load_state_dict({name: weights[name] for name in vit.state_dict()})
    picture = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = vit.eval().forward_features(picture)
        x = model.vit.embeddings(picture)[:, :-5]
        for layer in model.vit.encoder.layer:
            x = layer(x)
        torch.testing.assert_close(model.vit.layernorm(x), expected, atol=2e-4, rtol=1e-4)
    assert model.vit.embeddings.detection_tokens.std() > 0.015


def test_saved_and_loaded_is_the_same_detector(detector, tmp_path):
    path = save_yolos(detector, tmp_path / "new" / "yolos.safetensors", half=False, metadata={"epoch": 3})
    loaded = load_yolos(path)
    assert not loaded.training and loaded.config.normalise == "bavit"
    assert loaded.config.id2label == detector.config.id2label
    picture = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(loaded(picture).logits, detector(picture).logits)
    halved = save_yolos(detector, tmp_path / "half.safetensors")
    assert halved.stat().st_size < 0.55 * path.stat().st_size
    table = load_yolos(halved).vit.embeddings.position_embeddings
    assert table.dtype == torch.float32
    torch.testing.assert_close(table, detector.vit.embeddings.position_embeddings, atol=1e-3, rtol=1e-3)
    assert [file.name for file in path.parent.iterdir()] == ["yolos.safetensors"]


def test_unusable_checkpoints_are_named(detector, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.safetensors.*train one"):
        load_yolos(tmp_path / "gone.safetensors")
    path = save_yolos(detector, tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut.safetensors is damaged"):
        load_yolos(path)
    detector.config.num_detection_tokens = 9
    with pytest.raises(ValueError, match="other.safetensors.*position_embeddings"):
        load_yolos(save_yolos(detector, tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match="bavit.safetensors holds bavit"):
        load_yolos(save_weights(tmp_path / "bavit.safetensors", {}, {"model": "bavit"}))


def test_the_hub_form_is_read_from_a_folder_and_its_head_cut(tmp_path, monkeypatch):
    """A folder as `save_pretrained` writes it, with a head of COCO's form, ids with gaps, and a table not square."""
    torch.manual_seed(0)
    labels = {0: "N/A", 1: "person", 2: "N/A", 3: "car"}
    config = YolosConfig(
        hidden_size=192, num_attention_heads=3, intermediate_size=768, num_hidden_layers=2, image_size=[64, 112],
        num_detection_tokens=5, use_mid_position_embeddings=False, id2label=labels)
    published = YolosForObjectDetection(config).eval()
    nn.init.normal_(published.vit.embeddings.position_embeddings, std=0.5)
    nn.init.normal_(published.class_labels_classifier.layers[-1].bias)
    published.save_pretrained(tmp_path)
    monkeypatch.setattr(yolos, "class_names", lambda dataset: ["person", "car"])
    loaded, picture = load_hub_yolos(96, tmp_path), torch.randn(1, 3, 96, 96)
    assert loaded.config.num_labels == 2 and loaded.config.normalise == "imagenet" and not loaded.training
    with torch.no_grad():
        full, cut = published(picture), PrunedYolos(loaded)(picture)
    torch.testing.assert_close(cut.logits, full.logits[..., [1, 3, 4]], atol=1e-6, rtol=0)
    torch.testing.assert_close(cut.pred_boxes, full.pred_boxes, atol=1e-6, rtol=0)
    again = load_yolos(save_yolos(loaded, tmp_path / "own.safetensors"))
    assert again.config.normalise == "imagenet" and again.config.image_size == [96, 96]
    monkeypatch.setattr(yolos, "class_names", lambda dataset: ["person", "dog"])
    with pytest.raises(ValueError, match="dog"):
        load_hub_yolos(96, tmp_path)


def test_detect_gives_pixels_of_the_original_picture():
    logits = torch.tensor([[[0.0, 2.0, 1.0], [1.0, 0.0, 9.0]]])  # two classes, then no-object
    boxes = torch.tensor([[[0.5, 0.5, 1.0, 0.5], [0.25, 0.25, 0.5, 0.5]]])
    output = yolos.YolosObjectDetectionOutput(logits=logits, pred_boxes=boxes)
    (found,) = detect(output, [(100, 200)])
    assert found["labels"].tolist() == [1, 0]
    torch.testing.assert_close(found["scores"], logits[0].softmax(-1)[:, :2].max(-1).values)
    torch.testing.assert_close(found["boxes"], torch.tensor([[0.0, 25.0, 200.0, 75.0], [0.0, 0.0, 100.0, 50.0]]))


def test_predict_warps_normalises_and_gives_boxes_in_each_pictures_pixels(detector):
    keep = torch.rand(3, *SMALL.detector_grid) < 0.5
    images = [np.random.default_rng(i).integers(0, 255, (40 + 30 * i, 90, 3), dtype=np.uint8) for i in range(3)]
    pruned = PrunedYolos(detector).eval()
    found = predict(pruned, images, keep, batch_size=2)
    with torch.no_grad():
        output = pruned(to_batch(images, 96, "bavit"), keep)
    for ours, expected in zip(found, detect(output, [image.shape[:2] for image in images]), strict=True):
        torch.testing.assert_close(ours["boxes"], expected["boxes"], atol=1e-3, rtol=0)
        torch.testing.assert_close(ours["scores"], expected["scores"], atol=1e-5, rtol=0)
    detector.config.normalise = "imagenet"
    assert (predict(pruned, images, keep)[2]["scores"] - found[2]["scores"]).abs().max() > 1e-5
