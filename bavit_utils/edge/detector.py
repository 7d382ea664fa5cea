"""From a picture to boxes on onnxruntime, NumPy and Pillow alone: nothing here imports torch (Fig. 3, right)."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from ..checks import check_number
from ..config import get_profile, run_folder


class Detector:
    """A profile's BAViT and detector, from a decoded picture to boxes: `Detector("voc").detect(image)`.

    The graphs are those of `bavit export`, with `int8` the quantised ones, or those in `folder`; `threads` 0 is all
    cores. `meta` is what they say of themselves: names of the classes, grid (rows, cols), and for bavit and yolos size
    (height, width), mean and std of their pixels. Raises FileNotFoundError for a missing graph, ImportError without
    onnxruntime, ValueError for what is no graph.
    """

    graphs = "bavit", "yolos"

    def __init__(
        self, profile: str | None = None, int8: bool = False, threads: int = 0, folder: str | Path | None = None
    ):
        options = (" --int8" if int8 else "") + (" --inside" if "first" in self.graphs else "")
        remedy = f"make it with `bavit export --profile {get_profile(profile).name}{options}`"
        folder, suffix = Path(folder or edge_folder(profile)), "-int8" if int8 else ""
        self._bavit, self._yolos = (_open(folder / f"{name}{suffix}.onnx", threads, remedy) for name in self.graphs)
        stored = self._yolos.get_modelmeta().custom_metadata_map
        self.meta = {key: json.loads(text) for key, text in stored.items() if not key.startswith("onnx.")}

    def detect(self, image: np.ndarray, threshold: float | None = 0.9) -> dict[str, np.ndarray]:
        """Detections in a picture uint8 [H, W, 3], any size: scores [D], labels [D], boxes [D, 4] xyxy in its pixels.

        Patches that BAViT is surer than `threshold` to be background go (section 4.2); None keeps all, without BAViT.
        A score is the softmax's best class without no-object. `meta["names"]` names the labels.
        """
        grid = self.meta["grid"]
        keep = np.arange(np.prod(grid))
        if threshold is not None:
            keep = kept_patches(self.foreground(self.pixels(image, "bavit")), threshold, grid)
        logits, boxes = self.run(self.pixels(image), keep)
        return as_detections(logits[0], boxes[0], image.shape[:2])

    def pixels(self, image: np.ndarray, network: str = "yolos") -> np.ndarray:
        """A picture warped to the network's size and normalised: float32 [1, 3, height, width]."""
        size, mean, std = (self.meta[f"{network}_{key}"] for key in ("size", "mean", "std"))
        warped = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
        mean, std = (255 * np.array(values, np.float32) for values in (mean, std))
        return ((np.asarray(warped, np.float32) - mean) / std).transpose(2, 0, 1)[None]

    def foreground(self, pixels: np.ndarray) -> np.ndarray:
        """BAViT's probability that each patch is foreground, float32 [1, rows, cols]; ValueErrors as of `run`."""
        return self._probability(self._checked(pixels, "bavit"))

    def run(self, pixels: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class logits [1, D, classes + 1] and boxes [1, D, 4], cxcywh in 0 to 1, on the patches `keep`, int64 [kept].

        A patch's index is row * cols + col. Raises ValueError, saying what is wanted, for other sizes and indices.
        """
        return self._outputs(self._checked(pixels, "yolos"), self._checked_keep(keep))

    def _checked_keep(self, keep: np.ndarray) -> np.ndarray:
        keep, patches = np.asarray(keep), int(np.prod(self.meta["grid"]))
        if keep.ndim != 1 or keep.dtype != np.int64 or (keep.size and not 0 <= keep.min() <= keep.max() < patches):
            given = f"{keep.dtype} {list(keep.shape)}" + (
                f" with values from {keep.min()} to {keep.max()}" if keep.size else ""
            )
            raise ValueError(
                f"keep is {given}: give the kept patches' indices, row * cols + col in the grid {self.meta['grid']}, "
                f"as int64 [kept] of 0 to {patches - 1}"
            )
        return keep

    def _checked(self, pixels: np.ndarray, network: str) -> np.ndarray:
        wanted = (1, 3, *self.meta[f"{network}_size"])
        if pixels.shape != wanted or pixels.dtype != np.float32:
            raise ValueError(
                f"pixels are {pixels.dtype} {list(pixels.shape)}: {network} wants float32 {list(wanted)}, "
                "which `pixels` makes of a picture"
            )
        return pixels

    def _probability(self, pixels: np.ndarray) -> np.ndarray:
        return self._bavit.run(None, {"pixels": pixels})[0]

    def _outputs(self, pixels: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, boxes = self._yolos.run(None, {"pixels": pixels, "keep": keep})
        return logits, boxes


class InsideDetector(Detector):
    """`Detector` without a BAViT: a head after the detector's first layers chooses, and the other layers see its choice."""

    graphs = "first", "rest"

    def detect(self, image: np.ndarray, threshold: float | None = 0.9) -> dict[str, np.ndarray]:
        """As of `Detector`; the sure background goes after `meta["after_layers"]` layers."""
        (foreground, tokens), grid = self.first(self.pixels(image)), self.meta["grid"]
        keep = np.arange(np.prod(grid)) if threshold is None else kept_patches(foreground, threshold, grid)
        logits, boxes = self.rest(tokens, keep)
        return as_detections(logits[0], boxes[0], image.shape[:2])

    def first(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The head's probability that each patch is foreground, [1, rows, cols], and all tokens after its layers."""
        return self._bavit.run(None, {"pixels": self._checked(pixels, "yolos")})

    def rest(self, tokens: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class logits and boxes, as of `Detector.run`, from the tokens of `first` and the kept patches' indices."""
        return self._yolos.run(None, {"tokens": tokens, "keep": self._checked_keep(keep)})

    def run(self, pixels: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.rest(self.first(pixels)[1], keep)

    def foreground(self, pixels: np.ndarray) -> np.ndarray:
        return self.first(pixels)[0]


def edge_folder(profile: str | None = None) -> Path:
    """Where `bavit export` keeps a profile's graphs: {bavit,yolos}.onnx, and {bavit,yolos}-int8.onnx."""
    chosen = get_profile(profile)
    return run_folder(f"edge-{chosen.name}{chosen.suffix}")


def _open(path: Path, threads: int, remedy: str):
    """An onnxruntime session on the CPU; its idle threads don't spin, which would steal time from whoever runs beside.

    Its memory pattern is off: it would be made anew for every other number of tokens.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ImportError("onnxruntime is missing: pip install .[edge]") from None
    if not path.exists():
        raise FileNotFoundError(f"no graph at {path}: {remedy}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_mem_pattern = threads, False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own have no class in common but this
        raise ValueError(f"{path} is no graph that onnxruntime runs ({error}): {remedy}") from error


def kept_patches(fg_prob: np.ndarray, threshold: float, grid: tuple[int, int]) -> np.ndarray:
    """`pruning.detector_keep` of one picture in NumPy: the kept patches' indices on the detector's grid, int64 [kept].

    `fg_prob` [1, rows, cols] is cut at 1 - threshold; a fine patch copies the coarse one in which its centre lies.
    """
    keep = fg_prob[0] >= 1 - check_number("the threshold", threshold, 0, 1)
    rows, cols = ((2 * np.arange(fine) + 1) * coarse // (2 * fine) for fine, coarse in zip(grid, keep.shape))
    return np.flatnonzero(keep[np.ix_(rows, cols)])


def as_detections(logits: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """What `Detector.detect` gives, from logits [D, classes + 1], boxes [D, 4] cxcywh, and the picture's own size."""
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores = (odds / odds.sum(axis=-1, keepdims=True))[:, :-1]
    centre, half, (height, width) = boxes[:, :2], boxes[:, 2:] / 2, size
    corners = np.concatenate([centre - half, centre + half], axis=1) * np.array([width, height] * 2, np.float32)
    return {"scores": scores.max(axis=-1), "labels": scores.argmax(axis=-1), "boxes": corners}


# ---- for measurements


def fixed_run(detector: Detector, kept: int) -> Callable[[], object]:
    """A run on noise with exactly `kept` patches, behind BAViT and the threshold unless all are kept."""
    grid = detector.meta["grid"]
    patches = int(np.prod(grid))
    small, large = (_noise(*detector.meta[f"{network}_size"]) for network in ("bavit", "yolos"))
    keep = np.linspace(0, patches - 1, kept).round().astype(np.int64)

    def run() -> None:
        if kept < patches:
            kept_patches(detector.foreground(small), 0.5, grid)
        detector.run(large, keep)

    return run


@cache
def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, height, width), dtype=np.float32)


def memory_run(folder: str, dtype: str, kept: int, threads: int) -> Callable[[], object]:
    """For `measure_peak_memory`: the graphs in a folder, on this many threads, opened and ready to run."""
    return fixed_run(Detector(int8=dtype == "int8", threads=threads, folder=folder), kept)
