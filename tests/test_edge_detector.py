"""From a picture to boxes without torch: the same numbers as the method's, and errors that say what is wanted."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bavit_utils.edge.detector import Detector, as_detections, edge_folder, kept_patches
from bavit_utils.edge.on_torch import TorchDetector
from bavit_utils.images import to_batch
from bavit_utils.pruning import detector_keep
from bavit_utils.yolos import PrunedYolos, detect, predict

IMAGE = np.random.default_rng(1).integers(0, 256, (40, 70, 3), dtype=np.uint8)


def test_a_fresh_process_never_imports_torch(edge_pair):
    code = (
        "import sys, numpy as np; from bavit_utils.edge.detector import Detector\n"
        f"found = Detector(folder={str(edge_pair[2])!r}).detect(np.zeros((9, 9, 3), np.uint8))\n"
        "print(len(found['scores']), [name for name in ('torch', 'transformers', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "5 []\n"


@pytest.mark.parametrize("grids", [((12, 12), (16, 16)), ((24, 24), (32, 32)), ((3, 5), (7, 4)), ((6, 6), (6, 6))])
def test_kept_patches_are_those_of_the_method(grids):
    coarse, fine = grids
    fg_prob = torch.rand(1, *coarse, generator=torch.Generator().manual_seed(0))
    for threshold in (0, 0.3, 1 - fg_prob[0, 1, 1].item(), 0.9, 1):
        wanted = detector_keep(fg_prob, threshold, fine).flatten().nonzero()[:, 0].numpy()
        found = kept_patches(fg_prob.numpy(), threshold, fine)
        assert found.dtype == np.int64 and np.array_equal(found, wanted)


@pytest.mark.parametrize("threshold", [-0.1, 35, float("nan"), "0.9"])
def test_a_threshold_is_a_number_from_0_to_1(threshold):
    with pytest.raises(ValueError, match="the threshold is .*: give a number from 0 to 1"):
        kept_patches(np.zeros((1, 3, 3)), threshold, (4, 4))


def test_detections_are_transformers_own():
    generator = torch.Generator().manual_seed(0)
    logits, boxes = torch.randn(1, 6, 4, generator=generator), torch.rand(1, 6, 4, generator=generator)
    (wanted,) = detect(SimpleNamespace(logits=logits, pred_boxes=boxes), [(40, 70)])
    for key, values in as_detections(logits[0].numpy(), boxes[0].numpy(), (40, 70)).items():
        np.testing.assert_allclose(values, wanted[key].numpy(), rtol=1e-5)


@pytest.mark.parametrize("pruned", [False, True])
def test_from_picture_to_boxes_both_runtimes_do_what_the_method_does(pruned, edge_pair):
    bavit, detector, folder = edge_pair
    keep, threshold, torchs = None, None, TorchDetector(bavit, detector)
    if pruned:
        fg_prob = torch.from_numpy(torchs.foreground(to_batch([IMAGE], 48).numpy()))
        threshold = 1 - fg_prob.flatten().sort().values[3:5].mean().item()
        keep = detector_keep(fg_prob, threshold, (4, 4))
        assert 0 < keep.sum() < 16
    (wanted,) = predict(PrunedYolos(detector).eval(), [IMAGE], keep)
    for one in (Detector(folder=folder), torchs):
        for key, values in one.detect(IMAGE, threshold).items():
            np.testing.assert_allclose(values, wanted[key].numpy(), atol=1e-3)


def test_pixels_are_the_methods_own(edge_pair):
    one = Detector(folder=edge_pair[2])
    assert np.array_equal(one.pixels(IMAGE), to_batch([IMAGE], 64).numpy())
    one.meta |= {"yolos_mean": [0.485, 0.456, 0.406], "yolos_std": [0.229, 0.224, 0.225]}
    np.testing.assert_allclose(one.pixels(IMAGE), to_batch([IMAGE], 64, "imagenet").numpy(), atol=1e-6)
    assert one.pixels(IMAGE, "bavit").shape == (1, 3, 48, 48)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_wrong_sizes_and_indices_are_answered_with_what_is_wanted(runtime, edge_pair):
    bavit, detector, folder = edge_pair
    one = TorchDetector(bavit, detector) if runtime == "torch" else Detector(folder=folder)
    pixels = np.zeros((1, 3, 64, 64), np.float32)
    for keep in ([16], [-1], [0.5], [[0, 1]], [True]):
        with pytest.raises(ValueError, match=r"indices, row \* cols \+ col in the grid \[4, 4\], as int64 .* 0 to 15"):
            one.run(pixels, np.array(keep))
    for wrong in (pixels[:, :, :48], np.zeros((2, 3, 64, 64), np.float32), pixels.astype(float)):
        with pytest.raises(ValueError, match=r"yolos wants float32 \[1, 3, 64, 64\]"):
            one.run(wrong, np.array([0]))
    with pytest.raises(ValueError, match=r"bavit wants float32 \[1, 3, 48, 48\]"):
        one.foreground(pixels)


def test_a_missing_or_damaged_graph_names_the_command_that_makes_it(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(FileNotFoundError, match="bavit.onnx: make it with `bavit export --profile voc`"):
        Detector("voc", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="-int8.onnx: make it with `bavit export --profile voc --int8`"):
        Detector("voc", int8=True, folder=tmp_path)
    (tmp_path / "bavit.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match="bavit.onnx is no graph .* `bavit export --profile sample`"):
        Detector("sample", folder=tmp_path)
    assert edge_folder("voc").parent.name == "runs"
