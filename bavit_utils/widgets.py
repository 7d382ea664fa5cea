"""The threshold explorer: drag the threshold, see what is pruned and what the detector still finds (section 4.2)."""

import io
from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image, ImageDraw
from timm.models import VisionTransformer

from .bavit import foreground_maps
from .config import Profile
from .cost import multiply_adds
from .datasets import class_names
from .images import warp
from .pruning import detector_keep, sparsity
from .yolos import PrunedYolos, predict

_SIDE = 320  # pixels of each of the two drawn pictures
_GAP = 8
_BOX_COLOUR = (240, 228, 66)
_MIN_SCORE = 0.5


def threshold_explorer(
    profile: Profile, bavit: VisionTransformer, detector: PrunedYolos | None, images: Sequence[np.ndarray],
    labels: torch.Tensor | None = None, threshold: float = 0.5,
) -> "ThresholdExplorer":
    """A picture to choose and a threshold to drag; see `ThresholdExplorer` for its parts.

    `images` are decoded pictures uint8 [H, W, 3], a few of them; BAViT sees them once, here. `labels`, int64 [N,
    *detector grid] with 1 foreground, add the foreground recall. Without a `detector` no boxes are drawn.
    """
    maps = foreground_maps(bavit, images)
    return ThresholdExplorer(profile, maps, detector, images, labels, threshold)


class ThresholdExplorer(widgets.VBox):
    """Shows itself in a notebook. `picture` (a Dropdown) and `slider` (a FloatSlider) steer, `label` (HTML) and `image`
    (an Image: kept patches, and boxes of the pruned detector beside them) follow.

    A higher threshold keeps more. Detections are remembered by keep mask.
    """

    def __init__(self, profile, maps, detector, images, labels, threshold):
        self.profile, self.maps, self.detector, self.images, self.labels = profile, maps, detector, images, labels
        self._names = class_names(profile.detector_data)
        self._small = [warp(image, _SIDE) for image in images]
        self._found: dict[tuple[int, bytes], list[tuple[list[float], str]]] = {}
        self._dense_macs = multiply_adds(int(np.prod(profile.detector_grid)), profile, bavit=None)
        self.picture = widgets.Dropdown(options=[(str(i + 1), i) for i in range(len(images))], description="picture")
        self.slider = widgets.FloatSlider(threshold, min=0, max=1, step=0.001, readout_format=".3f",
                                          description="threshold")
        self.label = widgets.HTML()
        self.image = widgets.Image(format="jpeg", width=2 * _SIDE + _GAP, height=_SIDE)
        super().__init__([widgets.HBox([self.picture, self.slider]), self.label, self.image])
        self.picture.observe(self._update, "value")
        self.slider.observe(self._update, "value")
        self._update()

    def keep(self) -> torch.Tensor:
        """The keep mask of the chosen picture at the chosen threshold, boolean [1, *detector grid]."""
        chosen = self.maps[self.picture.value:][:1]
        return detector_keep(chosen, self.slider.value, self.profile.detector_grid)

    def detections(self) -> list[tuple[list[float], str]]:
        """(box, name) of what is found there with a score of at least one half; boxes are shares of the picture."""
        if self.detector is None:
            return []
        keep, index = self.keep(), self.picture.value
        key = index, keep.numpy().tobytes()
        if key not in self._found:
            image = self.images[index]
            found = predict(self.detector, [image], keep)[0]
            sure = found["scores"] >= _MIN_SCORE
            boxes = found["boxes"][sure].cpu() / torch.tensor(image.shape[1::-1]).repeat(2)
            self._found[key] = [(box, self._names[label])
                                for box, label in zip(boxes.tolist(), found["labels"][sure].tolist(), strict=True)]
        return self._found[key]

    def _update(self, _=None) -> None:
        keep, found = self.keep(), self.detections()
        self.image.value = _encode(_side_by_side(self._small[self.picture.value], keep[0].numpy(), found))
        self.label.value = self._sentence(keep, len(found))

    def _sentence(self, keep: torch.Tensor, n_found: int) -> str:
        kept, patches = int(keep.sum()), keep.numel()
        saved = 1 - multiply_adds(kept, self.profile) / self._dense_macs
        parts = [f"sparsity {sparsity(keep).item():.0%}", f"{kept} of {patches} patches",
                 f"multiply-adds saved, BAViT counted: {saved:.0%}"]
        if self.labels is not None:
            is_fg = self.labels[self.picture.value] == 1
            parts.insert(1, f"foreground kept {keep[0][is_fg].float().mean():.0%}" if is_fg.any() else "no foreground")
        if self.detector is not None:
            parts.append(f"{n_found} found")
        return " · ".join(parts)


def _side_by_side(image: np.ndarray, keep: np.ndarray, found: list[tuple[list[float], str]]) -> Image.Image:
    """The picture uint8 [side, side, 3] with pruned patches white, and the picture, pruned ones greyed, with boxes."""
    side = image.shape[0]
    mask = np.asarray(Image.fromarray(keep).resize((side, side), Image.Resampling.NEAREST))[..., None]
    sheet = Image.new("RGB", (2 * side + _GAP, side), "white")
    sheet.paste(Image.fromarray(np.where(mask, image, np.uint8(255))))
    right = Image.fromarray(np.where(mask, image, image // 3 + np.uint8(150)))
    draw = ImageDraw.Draw(right)
    for box, name in found:
        x1, y1, x2, y2 = (share * side for share in box)
        draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=_BOX_COLOUR, width=2)
        draw.rectangle(draw.textbbox((x1 + 3, y1 + 2), name), fill=_BOX_COLOUR)
        draw.text((x1 + 3, y1 + 2), name, fill="black")
    sheet.paste(right, (side + _GAP, 0))
    return sheet


def _encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", quality=90)
    return buffer.getvalue()
