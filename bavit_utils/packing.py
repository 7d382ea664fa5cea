"""The detector's pictures, shrunk and cut into tars, to be carried to another machine: one with a GPU, say.

Each tar unpacks by itself into the layout of the official downloads. The same pictures give the same bytes.
"""

import io
import os
import shutil
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .config import Profile, data_dir
from .datasets import Record, load_records

PART_MB = 45
_QUALITY = 80  # of shrunk JPEGs: at 90 they would be larger than what they come from
# VOC's boxes count pixels from 1 and include the last one: where on its axis each edge is counted from.
_EDGES = {"xmin": ("x", 1), "ymin": ("y", 1), "xmax": ("x", 0), "ymax": ("y", 0)}

Member = tuple[str, bytes]  # a file's name in the data folder, and what it holds


def pack_pictures(
    profile: Profile, img_size: int, folder: str | Path, part_mb: float = PART_MB, limit: int | None = None
) -> list[Path]:
    """Write what training and testing a profile's detector read into tars of at most `part_mb` (10^6 bytes).

    Returns their paths. They hold the lists, boxes, masks and pictures of `detector_train` and `detector_eval`, of each
    list the first `limit`, and the ImageNet blocks where they are at hand. Pictures of a longer side above `img_size`
    pixels are shrunk to it, with their boxes and masks; all others stay byte for byte as they are. Atomic: `folder` is
    there when it is complete. Raises ValueError for a profile of other data than VOC and for a file that fits no part,
    DataError as `load_records` does, and OSError where the disk is full or `folder` holds something already.
    """
    folder, splits = Path(folder).absolute(), (*profile.detector_train, profile.detector_eval)
    if others := sorted({dataset for dataset, _ in splits} - {"voc2007", "voc2012"}):
        raise ValueError(
            f"only VOC is packed, and the profile {profile.name} reads {', '.join(others)}: the sample world is drawn "
            "by `bavit sample-world` on any machine, and COCO's folder has to be copied as it is"
        )
    if img_size < 1:
        raise ValueError(f"the longest side is 1 pixel or more, not {img_size}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} holds something already: remove it, or give another --folder")
    staging = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)  # of a call that was killed
    try:
        staging.mkdir(parents=True)
        for number, part in enumerate(_parts(_members(splits, img_size, limit), int(part_mb * 1e6)), start=1):
            _write_tar(staging / f"part-{number:02}.tar", part)
        os.replace(staging, folder)
    except OSError as error:
        raise OSError(f"{folder} can't be packed ({error}): mend that and call again") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return sorted(folder.glob("*.tar"))


def _members(splits: tuple[tuple[str, str], ...], img_size: int, limit: int | None) -> Iterator[Member]:
    """Everything that is packed, in the order in which it is."""
    for dataset, split in splits:
        records = load_records(dataset, split, limit)
        kind = "Segmentation" if dataset == "voc2012" else "Main"  # the lists that `datasets` reads
        names = "".join(f"{record.image_id}\n" for record in records)
        yield f"VOCdevkit/{dataset.upper()}/ImageSets/{kind}/{split}.txt", names.encode()
        for record in tqdm(records, desc=f"packing {dataset}/{split}", unit="picture"):
            paths = [record.annotation_path, record.image_path, *([record.masks] if record.masks else [])]
            small = max(record.size) > img_size
            contents = _shrunk(record, img_size) if small else [path.read_bytes() for path in paths]
            yield from zip((path.relative_to(data_dir()).as_posix() for path in paths), contents, strict=True)
    for path in sorted((data_dir() / "weights").glob("vit_tiny_patch16_224*.safetensors"))[:1]:
        yield path.relative_to(data_dir()).as_posix(), path.read_bytes()


def _shrunk(record: Record, img_size: int) -> list[bytes]:
    """XML, JPEG and, where the record has one, mask of a picture whose longer side becomes `img_size` pixels."""
    height, width = record.size
    size = tuple(max(1, round(side * img_size / max(record.size))) for side in (width, height))
    picture = Image.fromarray(record.image()).resize(size, Image.Resampling.LANCZOS)
    contents = [_scaled_boxes(record.annotation_path.read_bytes(), size, {"x": size[0] / width, "y": size[1] / height})]
    contents.append(_encoded(picture, "JPEG", quality=_QUALITY))
    if record.masks:
        mask = Image.fromarray(record.mask()).resize(size, Image.Resampling.NEAREST)
        contents.append(_encoded(mask, "PNG"))
    return contents


def _scaled_boxes(xml: bytes, size: tuple[int, int], scale: dict[str, float]) -> bytes:
    """VOC's XML for a picture of `size` (width, height): every box times `scale` of its axis, to a thousandth."""
    annotation = ET.fromstring(xml)
    for name, side in zip(("width", "height"), size, strict=True):
        if (stated := annotation.find(f"size/{name}")) is not None:
            stated.text = str(side)
    for box in annotation.iter("bndbox"):
        for name, (axis, first) in _EDGES.items():
            for edge in box.findall(name):
                edge.text = f"{(float(edge.text) - first) * scale[axis] + first:.3f}"
    return ET.tostring(annotation)


def _encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _parts(members: Iterator[Member], most_bytes: int) -> Iterator[list[Member]]:
    """The files in their order, cut where the next one would make its tar larger than `most_bytes`."""
    part, used = [], 0
    for name, content in members:
        needed = _blocks(len(content), tarfile.BLOCKSIZE) + tarfile.BLOCKSIZE  # behind its header
        if _tar_bytes(needed) > most_bytes:
            raise ValueError(
                f"{name} alone makes a part of {_tar_bytes(needed) / 1e6:.3g} MB where {most_bytes / 1e6:.3g} MB are "
                "allowed: allow more by --part-mb, or shrink more by --img-size"
            )
        if part and _tar_bytes(used + needed) > most_bytes:
            yield part
            part, used = [], 0
        part.append((name, content))
        used += needed
    yield part


def _tar_bytes(used: int) -> int:
    """The size of a tar whose files and headers take `used` bytes: two empty blocks end it, and it is filled up."""
    return _blocks(used + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE)


def _blocks(count: int, block: int) -> int:
    return -(-count // block) * block


def _write_tar(path: Path, members: list[Member]) -> None:
    """A tar of plain files that tells neither dates nor owners."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
