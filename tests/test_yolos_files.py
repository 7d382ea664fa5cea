"""Detectors made, saved and loaded, and the way from their output to boxes in pixels."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from transformers import YolosForObjectDetection

from bavit_utils import yolos
from bavit_utils.config import data_dir, get_profile
from bavit_utils.data.pretrained import imagenet_blocks, start_from_imagenet
from bavit_utils.data.records import class_names
from bavit_utils.images import to_batch, warp
from bavit_utils.weights import save_weights
from bavit_utils.yolos import PrunedYolos, create_yolos, detect, load_yolos, predict, save_yolos

SMALL = replace(get_profile("sample"), detector_img_size=96, detector_depth=3, num_detection_tokens=5)


@pytest.fixture
def detector() -> YolosForObjectDetection:
    torch.manual_seed(0)
    return create_yolos(class_names(SMALL.detector_data), **SMALL.detector_shape).eval()


def test_create_yolos_follows_its_profile_and_starts_from_no_zeros():
    model = create_yolos(class_names("sample"), **get_profile("sample").detector_shape)
    names = list(class_names("sample"))
    assert [model.config.id2label[i] for i in range(len(names))] == names and model.config.normalise == "bavit"
    assert len(model.vit.encoder.layer) == 12 and model.config.num_detection_tokens == 40
    embeddings = model.vit.embeddings
    assert embeddings.position_embeddings.shape == (1, 1 + 16 * 16 + 40, 192)
    for parameter in (embeddings.cls_token, embeddings.detection_tokens, embeddings.position_embeddings):
        assert 0.015 < parameter.std() < 0.025


@pytest.mark.skipif(
    not list((data_dir() / "weights").glob("vit_tiny*")),
    reason="no ImageNet weights in BAVIT_DATA_DIR's weights folder",
)
def test_the_imagenet_start_computes_timms_blocks():
    """With timm's own ViT on the same weights: equal features when the detection tokens are hidden."""
    profile = replace(SMALL, detector_img_size=224, detector_depth=2)
    weights = imagenet_blocks()
    new = create_yolos(class_names(profile.detector_data), **profile.detector_shape)
    model = start_from_imagenet(new, weights).eval()
    vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=0)
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
    path = save_yolos(detector, tmp_path / "new" / "yolos.safetensors", bits=32, metadata={"epoch": 3})
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


def test_eight_bits_keep_every_matrix_to_half_a_step_of_its_group(detector, tmp_path):
    path = save_yolos(detector, tmp_path / "yolos.safetensors", bits=8)
    assert path.stat().st_size < 0.7 * save_yolos(detector, tmp_path / "half.safetensors").stat().st_size
    loaded = load_yolos(path).state_dict()
    for name, tensor in detector.state_dict().items():
        step = 1e-3 * tensor.abs()
        if tensor.ndim == 2:
            step = (tensor.unflatten(1, (-1, 32)).abs().amax(-1) / 127).repeat_interleave(32, dim=1)
        assert loaded[name].dtype == torch.float32 and ((loaded[name] - tensor).abs() <= 0.6 * step + 1e-6).all(), name
        assert torch.equal(loaded[name], tensor.half().float()) == (tensor.ndim != 2 or not tensor.any()), name


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


def test_detect_gives_pixels_of_the_original_picture():
    logits = torch.tensor([[[0.0, 2.0, 1.0], [1.0, 0.0, 9.0]]])  # two classes, then no-object
    boxes = torch.tensor([[[0.5, 0.5, 1.0, 0.5], [0.25, 0.25, 0.5, 0.5]]])
    output = yolos.YolosObjectDetectionOutput(logits=logits, pred_boxes=boxes)
    (found,) = detect(output, [(100, 200)])
    assert found["labels"].tolist() == [1, 0]
    torch.testing.assert_close(found["scores"], logits[0].softmax(-1)[:, :2].max(-1).values)
    torch.testing.assert_close(found["boxes"], torch.tensor([[0.0, 25.0, 200.0, 75.0], [0.0, 0.0, 100.0, 50.0]]))


def test_predict_warps_normalises_and_gives_boxes_in_each_pictures_pixels(detector, monkeypatch):
    monkeypatch.setattr(yolos, "BATCH_SIZE", 2)
    keep = torch.rand(3, *SMALL.detector_grid) < 0.5
    images = [np.random.default_rng(i).integers(0, 255, (40 + 30 * i, 90, 3), dtype=np.uint8) for i in range(3)]
    pruned = PrunedYolos(detector).eval()
    found = predict(pruned, images, keep)
    with torch.no_grad():
        output = pruned(to_batch(images, 96, "bavit"), keep)
    for ours, expected in zip(found, detect(output, [image.shape[:2] for image in images]), strict=True):
        torch.testing.assert_close(ours["boxes"], expected["boxes"], atol=1e-3, rtol=0)
        torch.testing.assert_close(ours["scores"], expected["scores"], atol=1e-5, rtol=0)
    warped, sizes = [warp(image, 96) for image in images], [image.shape[:2] for image in images]
    again = predict(pruned, warped, keep, sizes=sizes)
    assert all(torch.equal(one["boxes"], other["boxes"]) for one, other in zip(again, found, strict=True))
    detector.config.normalise = "imagenet"
    assert (predict(pruned, images, keep)[2]["scores"] - found[2]["scores"]).abs().max() > 1e-5
