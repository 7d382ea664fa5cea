"""Networks to start from: ImageNet's blocks, the published detector, and which detector a profile prunes."""

import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from transformers import YolosForObjectDetection

from ..config import Profile, data_dir
from ..yolos import load_yolos
from .download import DownloadError, fetch
from .records import class_names

# Tensors by which ImageNet's ViT-tiny is known.
_VIT_SHAPES = {"cls_token": (1, 1, 192), "pos_embed": (1, 197, 192), "patch_embed.proj.weight": (192, 3, 16, 16)}
_VIT_SHAPES |= {"blocks.11.mlp.fc2.weight": (192, 768), "norm.weight": (192,)}
# timm's name of each part of a block, and transformers'.
_BLOCK_PARTS = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def imagenet_blocks() -> dict[str, Tensor] | None:
    """ImageNet ViT-tiny's state dict under timm's tensor names, in float32; None, with a warning, where there is none.

    Read from `weights/` in the data folder; where it isn't there, fetched into it. ValueError for a damaged file, or
    one of another network.
    """
    folder = data_dir() / "weights"
    path = next(iter(sorted(folder.glob("vit_tiny_patch16_224*.safetensors"))), None)
    try:
        path = path or fetch("vit-tiny")
    except DownloadError as error:
        why = f"no ImageNet ViT-tiny weights at hand, so the blocks start from random values: {error}"
        warnings.warn(why, stacklevel=3)
        return None
    try:
        weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and fetch it again") from error
    fits = all(name in weights and weights[name].shape == shape for name, shape in _VIT_SHAPES.items())
    if not fits or not all(tensor.isfinite().all() for tensor in weights.values()):
        raise ValueError(f"{path} doesn't hold ImageNet's ViT-tiny of 224 pixels: move it away and fetch it again")
    return weights


def start_from_imagenet(
    detector: YolosForObjectDetection, weights: dict[str, Tensor] | None
) -> YolosForObjectDetection:
    """Copies `imagenet_blocks` into a detector, in place; detection tokens, their positions and the heads stay.

    Blocks, class token, patch embedding and the patches' positions are then those of ViT-tiny. Without `weights` the
    detector stays as it is.
    """
    if weights is None:
        return detector
    config = detector.config
    state = {
        "embeddings.cls_token": weights["cls_token"],
        "embeddings.patch_embeddings.projection.weight": weights["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": weights["patch_embed.proj.bias"],
        "layernorm.weight": weights["norm.weight"],
        "layernorm.bias": weights["norm.bias"],
    }
    for i in range(config.num_hidden_layers):
        for kind in ("weight", "bias"):
            layer = f"encoder.layer.{i}"
            fused = weights[f"blocks.{i}.attn.qkv.{kind}"].chunk(3)
            for name, part in zip(("query", "key", "value"), fused, strict=True):
                state[f"{layer}.attention.attention.{name}.{kind}"] = part
            for source, target in _BLOCK_PARTS.items():
                state[f"{layer}.{target}.{kind}"] = weights[f"blocks.{i}.{source}.{kind}"]
    grid = [side // config.patch_size for side in config.image_size]
    positions = resample_abs_pos_embed(weights["pos_embed"], grid, num_prefix_tokens=1)
    learned = detector.vit.embeddings.position_embeddings.data[:, -config.num_detection_tokens :]
    state["embeddings.position_embeddings"] = torch.cat([positions, learned], dim=1)
    missing = detector.vit.load_state_dict(state, strict=False)
    assert missing.missing_keys == ["embeddings.detection_tokens"] and not missing.unexpected_keys, missing
    return detector


def profile_detector(profile: Profile, name: str = "yolos") -> tuple[YolosForObjectDetection, Path]:
    """A profile's detector, in evaluation mode, and the file that holds its weights (section 3.5).

    That is the stored checkpoint `name` ("yolos", "yolos-f" or "yolos-control"). On COCO, "yolos" is the published one
    where none of ours is stored, fetched if need be. Raises FileNotFoundError for a missing checkpoint and
    DownloadError without the net.
    """
    stored = profile.checkpoint(name)
    if stored.exists() or (profile.detector_data, name) != ("coco", "yolos"):
        return load_yolos(stored), stored
    folder = fetch("yolos-tiny")
    return load_hub_yolos(profile.detector_img_size, folder), folder / "model.safetensors"


def load_hub_yolos(img_size: int, name: str | Path = "hustvl/yolos-tiny") -> YolosForObjectDetection:
    """The published COCO detector (section 3.5), from the hub, its cache, or a folder of the same form, as safetensors.

    Its position table, for 800 x 1333 pixels, is resized once to square pictures of `img_size` pixels, as it would be
    in every forward. Its head, with a row for each of COCO's ids up to 90, is cut to the 80 classes of `records`. It
    wants ImageNet's mean and std: `config.normalise` is "imagenet". Raises OSError when it is neither online nor
    cached, ValueError when it doesn't know COCO's classes.
    """
    classes = class_names("coco")
    detector = YolosForObjectDetection.from_pretrained(name, use_safetensors=True, attn_implementation="sdpa")
    known = {label: index for index, label in detector.config.id2label.items()}
    if unknown := set(classes) - set(known):
        raise ValueError(f"{name} doesn't know the classes {sorted(unknown)}: give names of its config.id2label")
    rows = torch.tensor([known[label] for label in classes] + [detector.config.num_labels])  # the last is no-object
    old = detector.class_labels_classifier.layers[-1]
    new = nn.Linear(old.in_features, len(rows)).to(old.weight)
    new.load_state_dict({"weight": old.weight.data[rows], "bias": old.bias.data[rows]})
    detector.class_labels_classifier.layers[-1] = new
    embeddings = detector.vit.embeddings
    with torch.no_grad():
        positions = embeddings.interpolation(embeddings.position_embeddings, (img_size, img_size))
    embeddings.position_embeddings = nn.Parameter(positions)
    detector.config.image_size = [img_size, img_size]
    detector.config.id2label = dict(enumerate(classes))
    detector.config.label2id = {label: index for index, label in enumerate(classes)}
    detector.config.normalise = "imagenet"
    return detector.eval()
