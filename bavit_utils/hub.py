"""The published detector, and which detector a profile prunes: its own stored one or, on COCO, the published one."""

from pathlib import Path

import torch
from torch import nn
from transformers import YolosForObjectDetection

from .config import Profile
from .datasets import class_names
from .download import fetch
from .yolos import load_yolos


def profile_detector(
    profile: Profile, name: str = "yolos", keep_aspect: bool = False
) -> tuple[YolosForObjectDetection, Path]:
    """A profile's detector, in evaluation mode, and the file that holds its weights (section 3.5).

    That is the stored checkpoint `name` ("yolos", "yolos-f" or "yolos-control"). On COCO, "yolos" is the published one
    where none of ours is stored, fetched if need be; with `keep_aspect` it comes with its whole position table. Raises
    FileNotFoundError for a missing checkpoint and DownloadError without the net.
    """
    stored = profile.checkpoint(name)
    if stored.exists() or (profile.detector_data, name) != ("coco", "yolos"):
        return load_yolos(stored), stored
    folder = fetch("yolos-tiny")
    return load_hub_yolos(None if keep_aspect else profile.detector_img_size, folder), folder / "model.safetensors"


def load_hub_yolos(img_size: int | None, name: str | Path = "hustvl/yolos-tiny") -> YolosForObjectDetection:
    """The published COCO detector (section 3.5), from the hub, its cache, or a folder of the same form, as safetensors.

    Its position table, for 800 x 1333 pixels, is resized once to square pictures of `img_size` pixels, as it would be
    in every forward; None leaves it, for pictures that keep their aspect. Its head has a row for each of COCO's ids up
    to 90, used or not; it is cut to the 80 classes of `datasets`, so that labels count as everywhere else here. Wants
    ImageNet's mean and std: `config.normalise` is "imagenet". Raises OSError when it is neither online nor cached,
    ValueError when it doesn't know COCO's classes.
    """
    classes = class_names("coco")
    detector = YolosForObjectDetection.from_pretrained(name, use_safetensors=True)
    known = {label: index for index, label in detector.config.id2label.items()}
    if unknown := set(classes) - set(known):
        raise ValueError(f"{name} doesn't know the classes {sorted(unknown)}: give names of its config.id2label")
    rows = torch.tensor([known[label] for label in classes] + [detector.config.num_labels])  # the last is no-object
    old = detector.class_labels_classifier.layers[-1]
    new = nn.Linear(old.in_features, len(rows)).to(old.weight)
    new.load_state_dict({"weight": old.weight.data[rows], "bias": old.bias.data[rows]})
    detector.class_labels_classifier.layers[-1] = new
    if img_size:
        embeddings = detector.vit.embeddings
        with torch.no_grad():
            positions = embeddings.interpolation(embeddings.position_embeddings, (img_size, img_size))
        embeddings.position_embeddings = nn.Parameter(positions)
        detector.config.image_size = [img_size, img_size]
    detector.config.id2label = dict(enumerate(classes))
    detector.config.label2id = {label: index for index, label in enumerate(classes)}
    detector.config.normalise = "imagenet"
    return detector.eval()
