"""YOLOS that computes only the kept tokens (section 3.5, Fig. 3 right), on transformers' own detector."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert
from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor
from transformers.models.yolos.modeling_yolos import YolosObjectDetectionOutput

from .config import PATCH_SIZE
from .images import to_batch
from .packed import compiled_layer, run_layer
from .pruning import gather_tokens, merge_background
from .weights import described, fill_model, read_weights, save_weights

# What a stored configuration may say of a detector, and how large it may be; anything else in it is left aside, as some
# of transformers' keys name code to fetch.
_SIZES = {"hidden_size": 4096, "num_attention_heads": 64, "intermediate_size": 16384, "num_hidden_layers": 64}
_SIZES |= {"num_detection_tokens": 4096, "patch_size": 64}
_OTHERS = ("image_size", "id2label", "label2id", "layer_norm_eps", "normalise", "use_mid_position_embeddings")

BATCH_SIZE = 16  # pictures that `predict` runs together
NMS_IOU, PATCH_DETECTIONS = 0.5, 100  # of the second readout


def create_yolos(
    names: Sequence[str], img_size: int = 512, depth: int = 12, num_detection_tokens: int = 100
) -> YolosForObjectDetection:
    """YOLOS-tiny for classes of these names, on pictures of `img_size` pixels a side (section 3.5); random weights.

    Class and detection tokens and the position table, which transformers leaves at zero, are drawn from a truncated
    normal of std 0.02. It expects mean = std = 0.5, as the blocks of `data.pretrained.start_from_imagenet` do:
    `config.normalise` says so in the words of `images.to_batch`.
    """
    config = YolosConfig(
        hidden_size=192,
        num_attention_heads=3,
        intermediate_size=768,
        num_hidden_layers=depth,
        num_detection_tokens=num_detection_tokens,
        image_size=[img_size] * 2,
        patch_size=PATCH_SIZE,
        layer_norm_eps=1e-6,
        use_mid_position_embeddings=False,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        normalise="bavit",
    )
    detector = YolosForObjectDetection(config)
    embeddings = detector.vit.embeddings
    for parameter in (embeddings.cls_token, embeddings.detection_tokens, embeddings.position_embeddings):
        nn.init.trunc_normal_(parameter, std=0.02)
    return detector


def save_yolos(
    detector: YolosForObjectDetection, path: str | Path, bits: int = 16, metadata: dict | None = None
) -> Path:
    """Saves a detector as one safetensors file with its configuration; `metadata` (JSON values) goes along."""
    return save_weights(
        path,
        detector.state_dict(),
        {**(metadata or {}), "model": "yolos", "config": detector.config.to_diff_dict()},
        bits,
    )


def load_yolos(path: str | Path) -> YolosForObjectDetection:
    """Loads what `save_yolos` wrote, in float32 and in evaluation mode; `config.normalise` is for `images.to_batch`.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one or another kind or shape of model.
    """
    state, metadata = read_weights(path, "yolos")
    stored = metadata.get("config")
    try:
        sizes = {key: described(stored, key, path, high=most) for key, most in _SIZES.items()}
        sides = dict(zip(("height", "width"), stored["image_size"], strict=True))
        check = [described(sides, side, path, sizes["patch_size"]) for side in sides]
        config = YolosConfig(**sizes, **{key: stored[key] for key in _OTHERS} | {"image_size": check})
        detector = YolosForObjectDetection(config)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f"{path} doesn't describe a detector ({error!r}): restore it, or train it anew") from error
    return fill_model(detector, state, path).eval()


class PrunedYolos(nn.Module):
    """Wraps a detector, without copying it, so that it computes only the kept tokens (section 3.5, Fig. 3 right).

    Pruned patches are never embedded; every image runs its own kept tokens, its class token and its detection tokens,
    and nothing is padded. Keeping everything equals the wrapped detector. `heads`, `inside.PatchHead`s, prune inside,
    each after its own number of layers. With `coarse`, background isn't lost: two by two patches, all of them pruned at
    once, become one token, in front the embedding of the picture at half its size, inside the mean of the four.
    """

    def __init__(self, detector: YolosForObjectDetection, heads: Iterable[nn.Module] = (), coarse: bool = False):
        super().__init__()
        if detector.config.use_mid_position_embeddings:
            raise ValueError("this detector adds positions between its layers; only YOLOS-tiny's kind can be wrapped")
        self.detector, self.heads, self.coarse = detector, nn.ModuleList(heads), coarse
        self.compiled = False  # in training, where every picture keeps as many tokens
        self.kept: list[list[Tensor]] | None = None  # given a list: each batch's keep masks, one a stage, go there

    def forward(
        self, pixel_values: Tensor, keep: Tensor | None = None, labels: list[dict] | None = None, after_layers: int = 0
    ) -> YolosObjectDetectionOutput:
        """Detects on the kept patches of `pixel_values [B, 3, height, width]`.

        `keep` is boolean `[B, rows, cols]` on the patch grid, None for all. `labels`, as transformers wants them
        (`class_labels [n]`, `boxes [n, 4]` cxcywh in 0 to 1), add its loss. With `after_layers` the first layers see
        every token and pruning by `keep` comes after them. Returns transformers' output: logits `[B, D, classes + 1]`,
        pred_boxes `[B, D, 4]` cxcywh, and last_hidden_state `[B, 1 + N + D, C]` with zeros for the pruned tokens.
        ValueError for a keep mask of another shape or type.
        """
        config, layers = self.detector.config, self.detector.vit.encoder.layer
        grid = tuple(side // config.patch_size for side in pixel_values.shape[-2:])
        everything = torch.ones(len(pixel_values), *grid, dtype=torch.bool, device=pixel_values.device)
        keep = everything if keep is None else keep
        if keep.shape != everything.shape or keep.dtype != torch.bool:
            raise ValueError(
                f"keep is a boolean {list(everything.shape)} for these pictures, "
                f"not {keep.dtype} {list(keep.shape)}: bring it to the grid with pruning.resize_grid"
            )
        if not 0 <= after_layers <= len(layers):
            raise ValueError(f"after_layers is 0 to {len(layers)} for this detector, not {after_layers}")

        stages = {head.after_layers: head.keep for head in self.heads}
        if after_layers:
            stages[after_layers], keep = (lambda _, given, wanted=keep: given & wanted), everything
        x, lengths, restore, keep = self._embed(pixel_values, keep)
        kept = [keep]
        for index in range(len(layers) + 1):
            if index in stages:
                x, lengths, restore, keep = self._prune(restore(x), keep, stages[index])
                kept.append(keep)
            if index < len(layers):
                # Steps that share one shape are worth compiling; what BAViT keeps differs at every step.
                alike = self.compiled and self.training and len(set(lengths)) == 1
                x = (compiled_layer() if alike else run_layer)(layers[index], x, lengths)
        hidden = restore(self.detector.vit.layernorm(x))
        if self.kept is not None:
            self.kept.append(kept)

        loss = loss_dict = None
        with torch.autocast(hidden.device.type, enabled=False):  # bf16 would round boxes to whole pixels
            queries = hidden[:, -config.num_detection_tokens :].to(self.detector.vit.embeddings.cls_token.dtype)
            logits = self.detector.class_labels_classifier(queries)
            boxes = self.detector.bbox_predictor(queries).sigmoid()
            if labels is not None:
                loss, loss_dict, _ = self.detector.loss_function(logits, labels, logits.device, boxes, config)
        return YolosObjectDetectionOutput(
            loss=loss, loss_dict=loss_dict, logits=logits, pred_boxes=boxes, last_hidden_state=hidden
        )

    def _prune(self, tokens: Tensor, keep: Tensor, choose: Callable[[Tensor, Tensor], Tensor]):
        """What `choose` leaves of the patches in `tokens [B, 1 + N + D, C]`, as of `_gather`; and the keep mask."""
        first, patches, last = tokens.split([1, keep[0].numel(), self.detector.config.num_detection_tokens], dim=1)
        patches = patches.unflatten(1, keep.shape[1:])
        chosen = choose(patches, keep)
        if self.coarse:
            patches, chosen = merge_background(patches, keep, chosen)
            tokens = torch.cat([first, patches.flatten(1, 2), last], dim=1)
        return *self._gather(tokens, chosen), chosen

    def _gather(self, x: Tensor, keep: Tensor):
        """`gather_tokens` of `[B, 1 + N + D, C]`; class and detection tokens are always kept. Lengths as a list."""
        tokens = F.pad(keep.flatten(1), (1, self.detector.config.num_detection_tokens), value=True)
        packed, lengths, restore = gather_tokens(x, tokens)
        return packed, lengths.tolist(), restore

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Embeddings of every token with their positions, before the first layer: `[B, 1 + N + D, C]`.

        Class token, patches, detection tokens, as the wrapped detector makes them.
        """
        embeddings, count = self.detector.vit.embeddings, self.detector.config.num_detection_tokens
        patches = embeddings.patch_embeddings(pixel_values)
        return embeddings.dropout(self._learned(pixel_values.shape[-2:]) + F.pad(patches, (0, 0, 1, count)))

    def _learned(self, size: tuple[int, int]) -> Tensor:
        """What doesn't depend on the pixels: positions, class and detection tokens, `[1, 1 + N + D, C]`."""
        embeddings, count = self.detector.vit.embeddings, self.detector.config.num_detection_tokens
        table = embeddings.position_embeddings
        if tuple(size) != tuple(self.detector.config.image_size):
            table = embeddings.interpolation(table, tuple(size))
        first, last = table[:, :1] + embeddings.cls_token, table[:, -count:] + embeddings.detection_tokens
        return torch.cat([first, table[:, 1:-count], last], dim=1)

    def _embed(self, pixel_values: Tensor, keep: Tensor):
        """Packed embeddings of class token, kept patches and detection tokens, as of `_gather`; and what is kept."""
        embeddings, config = self.detector.vit.embeddings, self.detector.config
        count, size = config.num_detection_tokens, config.patch_size
        learned = self._learned(pixel_values.shape[-2:]).expand(len(keep), -1, -1)
        patches = _patches(pixel_values, size)
        if self.coarse:
            everything, positions = torch.ones_like(keep), learned[:, 1:-count].unflatten(1, keep.shape[1:])
            half = _patches(F.avg_pool2d(pixel_values, 2), size)
            patches, _ = merge_background(patches.flatten(3), everything, keep, half.flatten(3))
            positions, keep = merge_background(positions, everything, keep)
            learned = torch.cat([learned[:, :1], positions.flatten(1, 2), learned[:, -count:]], dim=1)
        x, lengths, restore = self._gather(learned, keep)

        image, row, col = keep.nonzero(as_tuple=True)
        projection = embeddings.patch_embeddings.projection
        embedded = F.linear(patches[image, row, col].flatten(1), projection.weight.flatten(1), projection.bias)
        # Packed, each image's patches follow its class token and precede its detection tokens.
        place = torch.arange(len(image), device=image.device) + 1 + image * (1 + count)
        return embeddings.dropout(x.index_add(0, place, embedded.to(x.dtype))), lengths, restore, keep


def _patches(pixels: Tensor, size: int) -> Tensor:
    """Pictures `[B, 3, height, width]` in patches, `[B, rows, cols, 3, size, size]`."""
    return pixels.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5)


def detect(output: YolosObjectDetectionOutput, sizes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
    """Detections of each image, one per detection token: scores `[D]`, labels `[D]`, boxes `[D, 4]`.

    `sizes` are the original (height, width), and boxes are xyxy in pixels of these. A score is the softmax's best class
    without no-object.
    """
    return YolosImageProcessor().post_process_object_detection(output, threshold=-1.0, target_sizes=list(sizes))


def detect_by_patches(
    detector: YolosForObjectDetection, output: YolosObjectDetectionOutput, sizes: list[tuple[int, int]]
) -> list[dict[str, Tensor]]:
    """Detections by a second readout that costs no parameter: the heads on the computed patch tokens, not the paper's.

    For detectors whose heads were shared with the patches in training (`training.shared_heads`). Of each class's boxes
    that overlap by more than IoU NMS_IOU the best stays, and of all at most PATCH_DETECTIONS; otherwise as of `detect`.
    A pruned patch's output is zero and gives no box.
    """
    hidden = output.last_hidden_state[:, 1 : -detector.config.num_detection_tokens]
    scores, labels = detector.class_labels_classifier(hidden).softmax(dim=-1)[..., :-1].max(dim=-1)
    boxes = box_convert(detector.bbox_predictor(hidden).sigmoid(), "cxcywh", "xyxy")
    found = []
    for i, (height, width) in enumerate(sizes):
        computed = hidden[i].any(dim=-1)
        one = {"scores": scores[i][computed], "labels": labels[i][computed]}
        one["boxes"] = boxes[i][computed] * boxes.new_tensor([width, height] * 2)
        best = batched_nms(one["boxes"], one["scores"], one["labels"], NMS_IOU)[:PATCH_DETECTIONS]
        found.append({key: value[best] for key, value in one.items()})
    return found


@torch.inference_mode()
def predict(
    pruned: PrunedYolos,
    images: Sequence[np.ndarray],
    keep: Tensor | None = None,
    after_layers: int = 0,
    square_side: int | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
    readout: str = "tokens",
) -> list[dict[str, Tensor]]:
    """Detections of decoded pictures (uint8 [H, W, 3], any sizes), as of `detect`, in their own pixels.

    Pictures are warped to the detector's square, or one of `square_side` pixels, and normalised as the detector's
    configuration says; put it into evaluation first. `keep`, boolean [N, rows, cols] on its grid, is None for all
    patches. Of pictures that were warped before, `sizes` are the original (height, width). `readout` is "tokens", the
    detection tokens, or "patches" (`detect_by_patches`).
    """
    config, weight = pruned.detector.config, pruned.detector.vit.embeddings.cls_token
    square = (square_side, square_side) if square_side else tuple(config.image_size)
    sizes = sizes or [image.shape[:2] for image in images]
    found = []
    for start in range(0, len(images), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        pixels = to_batch(images[part], square, config.normalise).to(weight)
        kept = None if keep is None else keep[part].to(weight.device)
        output = pruned(pixels, kept, after_layers=after_layers)
        found += (
            detect(output, sizes[part])
            if readout == "tokens"
            else detect_by_patches(pruned.detector, output, sizes[part])
        )
    return found
