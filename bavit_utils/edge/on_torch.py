"""The edge detector on torch, from checkpoints: what the graphs must equal, and what they are timed against."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timm.models import VisionTransformer
from transformers import YolosForObjectDetection

from ..bavit import foreground_probability, load_bavit
from ..config import get_profile
from ..data.pretrained import profile_detector
from ..images import NORMS
from ..yolos import PrunedYolos, load_yolos
from .detector import Detector, fixed_run


class TorchDetector(Detector):
    """`Detector` on torch, in float32 or, with `bf16`, by autocast: the same calls, arrays and errors."""

    def __init__(self, bavit: VisionTransformer, detector: YolosForObjectDetection, bf16: bool = False):
        self.meta, self._bavit, self._yolos, self._bf16 = describe(bavit, detector), bavit, PrunedYolos(detector), bf16

    @torch.inference_mode()
    def _probability(self, pixels: np.ndarray) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            return foreground_probability(self._bavit, torch.from_numpy(pixels)).float().numpy()

    @torch.inference_mode()
    def _outputs(self, pixels: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mask = torch.zeros(1, *self.meta["grid"], dtype=torch.bool)
        mask.view(-1)[torch.from_numpy(keep)] = True
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            output = self._yolos(torch.from_numpy(pixels), mask)
        return output.logits.numpy(), output.pred_boxes.numpy()


def load_pair(profile: str | None = None) -> tuple[VisionTransformer, YolosForObjectDetection]:
    """A profile's BAViT and detector from their checkpoints; FileNotFoundError for a missing one."""
    chosen = get_profile(profile)
    return load_bavit(chosen.checkpoint("bavit-small")), profile_detector(chosen)[0]


def describe(bavit: VisionTransformer | None, detector: YolosForObjectDetection) -> dict:
    """What runs the two, or the detector alone, has to know of them: `Detector.meta`."""
    config = detector.config
    meta = {
        "names": [config.id2label[label] for label in range(config.num_labels)],
        "grid": [side // config.patch_size for side in config.image_size],
    }
    sizes = {"bavit": (bavit.patch_embed.img_size, "bavit")} if bavit else {}
    sizes["yolos"] = config.image_size, config.normalise
    for network, (size, normalise) in sizes.items():
        meta[f"{network}_size"] = list(size)
        meta[f"{network}_mean"], meta[f"{network}_std"] = map(list, NORMS[normalise])
    return meta


def memory_run(folder: str, dtype: str, kept: int, threads: int) -> Callable[[], object]:
    """For `measure_peak_memory`: the checkpoints bavit.safetensors and yolos.safetensors in a folder, ready to run."""
    torch.set_num_threads(threads)
    bavit, detector = load_bavit(Path(folder) / "bavit.safetensors"), load_yolos(Path(folder) / "yolos.safetensors")
    return fixed_run(TorchDetector(bavit, detector, dtype == "bf16"), kept)
