"""The ONNX graphs give what torch gives, whatever the number of patches, and say what they are."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from bavit_utils.data.records import load_records
from bavit_utils.edge.detector import Detector, InsideDetector
from bavit_utils.edge.export import OPSET, export_inside, export_pair
from bavit_utils.edge.on_torch import TorchDetector, describe, load_pair
from bavit_utils.inside import PatchHead
from bavit_utils.yolos import PrunedYolos, predict


@pytest.fixture(scope="module")
def inside_folder(edge_pair, tmp_path_factory):
    """A head after one of the detector's two layers, and the folder of their graphs."""
    torch.manual_seed(3)
    head, folder = PatchHead(1).eval(), tmp_path_factory.mktemp("inside")
    torch.nn.init.normal_(head.score.weight, std=0.3)
    export_inside(edge_pair[1], head, folder, int8=True)
    return head, folder


def some(patches: int, kept: int) -> np.ndarray:
    return np.sort(np.random.default_rng(kept).permutation(patches)[:kept])


def apart(one: Detector, other: Detector, pixels: np.ndarray, keep: np.ndarray) -> list[float]:
    return [np.abs(a - b).max() for a, b in zip(one.run(pixels, keep), other.run(pixels, keep))]


@pytest.mark.parametrize("kept", [0, 1, 5, 11, 16])
def test_the_graph_equals_torch_at_any_number_of_patches(kept, edge_pair):
    bavit, detector, folder = edge_pair
    pixels = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    ours, torchs = Detector(folder=folder), TorchDetector(bavit, detector)
    logits, boxes = apart(ours, torchs, pixels, some(16, kept))
    assert logits < 1e-4 and boxes < 1e-5
    other = some(16, kept + 1 if kept < 16 else 3)
    assert np.abs(ours.run(pixels, some(16, kept))[0] - ours.run(pixels, other)[0]).max() > 1e-2


def test_what_is_pruned_has_no_part_in_it(edge_pair):
    ours, pixels = Detector(folder=edge_pair[2]), np.zeros((1, 3, 64, 64), np.float32)
    keep = np.array([0, 3, 9])
    before = ours.run(pixels, keep)[0]
    pixels[..., 16:32, 16:32] = 5  # patch 5
    assert np.array_equal(ours.run(pixels, keep)[0], before)
    pixels[..., :16, :16] = 5  # patch 0
    assert np.abs(ours.run(pixels, keep)[0] - before).max() > 1e-2


def test_bavits_graph_equals_torch(edge_pair):
    bavit, detector, folder = edge_pair
    pixels = np.random.default_rng(0).standard_normal((1, 3, 48, 48), dtype=np.float32)
    ours, torchs = Detector(folder=folder).foreground(pixels), TorchDetector(bavit, detector).foreground(pixels)
    np.testing.assert_allclose(ours, torchs, atol=1e-5)
    assert ours.shape == (1, 3, 3) and ours.std() > 0.01


def test_in_8_bits_it_is_near_and_the_heads_are_in_float(edge_pair):
    *_, folder = edge_pair
    pixels = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    exact, rough = Detector(folder=folder), Detector(int8=True, folder=folder)
    assert 0 < apart(rough, exact, pixels, some(16, 11))[1] < 0.2
    nodes = onnx.load(folder / "yolos-int8.onnx").graph.node
    kinds = [node.op_type for node in nodes]
    last_norm = max(i for i, kind in enumerate(kinds) if kind == "LayerNormalization")
    assert kinds[last_norm:].count("MatMul") == 6 and "MatMulInteger" not in kinds[last_norm:]
    assert kinds.count("MatMulInteger") == 1 + 6 * 2 and "ConvInteger" not in kinds
    assert (folder / "yolos-int8.onnx").stat().st_size < 0.5 * (folder / "yolos.onnx").stat().st_size


@pytest.mark.parametrize("name", ["bavit", "yolos", "bavit-int8", "yolos-int8"])
def test_a_graph_is_valid_and_says_what_it_is(name, edge_pair):
    bavit, detector, folder = edge_pair
    model = onnx.load(folder / f"{name}.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert next(one.version for one in model.opset_import if not one.domain) == OPSET
    told = {one.key: one.value for one in model.metadata_props}
    assert all(json.loads(told[key]) == value for key, value in describe(bavit, detector).items())
    assert b".py" not in model.SerializeToString()  # no path of the machine that wrote it
    inputs = [[d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim] for one in model.graph.input]
    assert inputs == ([[1, 3, 48, 48]] if "bavit" in name else [[1, 3, 64, 64], ["kept"]])


@pytest.mark.parametrize("kept", [0, 1, 7, 16])
def test_inside_two_graphs_equal_one_detector(kept, edge_pair, inside_folder):
    detector, pixels = edge_pair[1], np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    one, mask = InsideDetector(folder=inside_folder[1]), torch.zeros(1, 4, 4, dtype=torch.bool)
    mask.view(-1)[some(16, kept)] = True
    with torch.no_grad():
        wanted = PrunedYolos(detector).eval()(torch.from_numpy(pixels), mask, after_layers=1)
    logits, boxes = one.run(pixels, some(16, kept))
    assert np.abs(logits - wanted.logits.numpy()).max() < 1e-4
    assert np.abs(boxes - wanted.pred_boxes.numpy()).max() < 1e-5


def test_inside_the_head_chooses_as_it_does_on_torch(edge_pair, inside_folder):
    head, folder = inside_folder
    image = np.random.default_rng(1).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    one = InsideDetector(folder=folder)
    assert one.meta["after_layers"] == 1 and "bavit_size" not in one.meta
    probability = np.sort(one.foreground(one.pixels(image)).ravel())
    head.threshold = float(1 - probability[6:8].mean())
    (wanted,) = predict(PrunedYolos(edge_pair[1], [head]).eval(), [image])
    for key, values in one.detect(image, head.threshold).items():
        np.testing.assert_allclose(values, wanted[key].numpy(), atol=1e-3)
    (whole,) = predict(PrunedYolos(edge_pair[1]).eval(), [image])
    np.testing.assert_allclose(one.detect(image, None)["boxes"], whole["boxes"].numpy(), atol=1e-3)
    assert not np.allclose(whole["boxes"].numpy(), wanted["boxes"].numpy(), atol=1e-2)
    with pytest.raises(ValueError, match="indices"):
        one.run(one.pixels(image), np.array([16]))
    rough = InsideDetector(int8=True, folder=folder)
    assert 0 < apart(rough, one, one.pixels(image), some(16, 9))[1] < 0.2


def test_without_the_packages_it_says_what_is_missing(edge_pair, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"onnxscript is missing: pip install .\[edge\]"):
        export_pair(*edge_pair[:2], tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"onnxruntime is missing: pip install .\[edge\]"):
        Detector(folder=edge_pair[2])


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["sample", "voc"])
def test_the_bundled_checkpoints_give_equal_graphs(profile, tmp_path):
    pair = load_pair(profile)
    export_pair(*pair, tmp_path, int8=True)
    torch.set_num_threads(1)
    ours, torchs = Detector(folder=tmp_path), TorchDetector(*pair)
    for record, kept in zip(load_records("sample", "val", 5), (0, 40, 100, 199, 256)):
        logits, boxes = apart(ours, torchs, ours.pixels(record.image()), some(256, kept))
        assert logits < 1e-4 and boxes < 1e-5
        same = (one.foreground(one.pixels(record.image(), "bavit")) for one in (ours, torchs))
        np.testing.assert_allclose(*same, atol=1e-5)
