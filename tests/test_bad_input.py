"""Bad input ends in a sentence with file and remedy, nothing lost, nothing half written; odd input that can be is read.

Each table below is a family of mistakes; `refused` holds all of them to the same.
"""

import hashlib
import json
import math
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from own_pictures import OWN_CLASSES, SIDE, write_coco, write_voc
from PIL import Image
from pycocotools import mask as coco_mask
from safetensors.torch import save_file

from bavit_utils.bavit import create_bavit, load_bavit, save_bavit
from bavit_utils.checks import check_number, check_room, inside
from bavit_utils.config import Recipe, get_profile
from bavit_utils.cost import token_table, yolos_multiply_adds
from bavit_utils.data import pretrained
from bavit_utils.data.masks import _run_lengths
from bavit_utils.data.pictures import decode_upload, image_size, load_image
from bavit_utils.data.records import check_pictures, class_names, load_records, load_training_lists
from bavit_utils.data.sample_world import write_split
from bavit_utils.experiments.calibration import operating_point_rows
from bavit_utils.metrics import token_metrics
from bavit_utils.pruning import keep_mask, spare_some, threshold_for_sparsity
from bavit_utils.results import load_rows, save_rows
from bavit_utils.sweep import detections
from bavit_utils.training import loop
from bavit_utils.training.loop import Task, fit
from bavit_utils.training.pictures import TokenPictures
from bavit_utils.weights import read_weights, save_weights
from bavit_utils.yolos import PrunedYolos, create_yolos, load_yolos, save_yolos

REMEDY = re.compile(
    r"(correct|export|fetch|restore|train it|train anew|give|save it|make room|number them|set BAVIT_DATA_DIR|choose|"
    r"remove|wait for|use the box|take one|look at|move it|drop that|bring it|call again|change|at least one)"
)


def everything_in(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".lock"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@contextmanager
def refused(folder: Path, message: str):
    """A block that ends in one sentence, which `message` is found in, with a remedy; `folder` is as before."""
    before = everything_in(folder)
    with pytest.raises((ValueError, OSError)) as caught:
        yield
    said = str(caught.value)
    assert re.search(message, said), said
    assert REMEDY.search(said) and "\n" not in said and " at 0x" not in said, said
    assert everything_in(folder) == before


@pytest.fixture(scope="module")
def forms(tmp_path_factory) -> Path:
    """Two folders of a person's own pictures, in COCO's form with masks and in VOC's."""
    root = tmp_path_factory.mktemp("forms")
    write_coco(root / "coco", {"train": 2, "val": 2}, masks=True)
    write_voc(root / "voc", {"train": 2, "val": 2})
    return root


@pytest.fixture
def coco(forms, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path / "pictures"))
    return Path(shutil.copytree(forms / "coco", tmp_path / "pictures"))


@pytest.fixture
def voc(forms, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path / "pictures"))
    return Path(shutil.copytree(forms / "voc", tmp_path / "pictures"))


def edit(path: Path, change) -> None:
    """Change a JSON file's content in place, or replace it by what `change` gives."""
    content = json.loads(path.read_text())
    changed = change(content)
    if isinstance(changed, bytes):
        path.write_bytes(changed)
    else:
        path.write_text(json.dumps(content if changed is None else changed))


def first(part: str, **values):
    """An edit of the first picture, annotation or category."""
    return lambda content: content[part][0].update(values)


def without(part: str, key: str | None = None):
    """An edit that takes out a key of the first one, or the whole part."""
    return lambda content: [(content[part][0] if key else content).pop(key or part), None][1]


# ---- COCO's form: lists

WRONG_LISTS = {
    "no JSON": (lambda c: b"{", "malformed"),
    "nothing": (lambda c: b"", "malformed"),
    "binary": (lambda c: bytes(range(256)), "malformed"),
    "nested without end": (lambda c: b"[" * 100_000, "malformed"),
    "a list": (lambda c: [1], "malformed"),
    "a number": (lambda c: 5, "malformed"),
    "no pictures": (lambda c: c.update(images=[], annotations=[]), "names no pictures"),
    "no images": (without("images"), "no 'images' is given"),
    "no annotations": (without("annotations"), "no 'annotations' is given"),
    "null annotations": (lambda c: c.update(annotations=None), "malformed"),
    "a text for an annotation": (lambda c: c.update(annotations=["a"]), "malformed"),
    "picture id twice": (first("images", id=1), "picture ids 1 occur twice"),
    "picture id twice as a text": (first("images", id="1"), "picture ids 1 occur twice"),
    "category id twice": (first("categories", id=10), "category ids 10 occur twice"),
    "of no picture": (first("annotations", image_id=77), "annotation 1: it is of picture 77, which isn't listed"),
    "no picture named": (without("annotations", "image_id"), "annotation 1: no 'image_id' is given"),
    "unknown class": (first("annotations", category_id=99), "annotation 1 is of the unknown class 99"),
    "no class": (without("annotations", "category_id"), "no 'category_id' is given"),
    "crowd of two": (first("annotations", iscrowd=2), "iscrowd of annotation 1 is 2"),
    "crowd of a word": (first("annotations", iscrowd="no"), "malformed .picture 0: .*'no'"),
    "area nan": (first("annotations", area=math.nan), "the area of annotation 1 is nan"),
    "area infinite": (first("annotations", area=math.inf), "the area of annotation 1 is inf"),
    "area negative": (first("annotations", area=-4), "the area of annotation 1 is -4"),
    "no file name": (without("images", "file_name"), "picture 0: no 'file_name' is given"),
    "file name a number": (first("images", file_name=5), "5 is no name of a file"),
    "file name empty": (first("images", file_name=""), "'' is no name of a file"),
    "file name above": (first("images", file_name="../train/0000.jpg"), "is no name of a file in .*without"),
    "file name far above": (first("images", file_name="a/../../../b.jpg"), "is no name of a file in .*without"),
    "file name absolute": (first("images", file_name="/etc/hostname"), "'/etc/hostname' is no name of a file"),
    "file name with a zero": (first("images", file_name="a\0.jpg"), "is no name of a file"),
    "file that is missing": (first("images", file_name="gone.jpg"), "gone.jpg is missing, .*val.json lists it"),
    "height zero": (first("images", height=0), "picture 0: height is 0"),
    "height negative": (first("images", height=-96), "picture 0: height is -96"),
    "width beyond all": (first("images", width=10**9), "picture 0: width is 10{9}"),
    "width a word": (first("images", width="wide"), "malformed .picture 0.*wide"),
    "no width": (without("images", "width"), "picture 0: no 'width' is given"),
    "another class name": (lambda c: c["categories"][0].update(name="gear"), "unknown class 'gear'; correct it to one"),
    "no class name": (lambda c: c["categories"][0].update(name=None), "unknown class None"),
    "no box": (without("annotations", "bbox"), "annotation 1: no 'bbox' is given|malformed .picture 0: no 'bbox'"),
} | {
    f"box {box}": (first("annotations", bbox=box), message)
    for box, message in [
        ([5, 5, 0, 9], r"annotation 1 has no area"),
        ([5, 5, -9, 9], r"annotation 1 has no area"),
        ([math.nan, 5, 9, 9], r"annotation 1 has no area"),
        ([5, 5, math.inf, 9], r"annotation 1 has no area"),
        ([500, 5, 9, 9], r"annotation 1 lies outside its picture of 96x96"),
        ([5, 5, 200, 9], r"annotation 1 lies outside its picture"),
        ([5, 5, 9], "malformed"),
        ([5, 5, 9, 9, 9], "malformed"),
        ([5, 5, 9, "x"], "malformed"),
        ("5 5 9 9", "malformed"),
        (None, "malformed"),
    ]
}


@pytest.mark.parametrize("case", WRONG_LISTS)
def test_a_wrong_list_in_cocos_form_is_refused(coco, case):
    change, message = WRONG_LISTS[case]
    edit(coco / "annotations" / "val.json", change)
    with refused(coco, message):
        load_records("own", "val")


@pytest.mark.parametrize("categories", [[], [{}], [{"id": 1}], [{"id": 1, "name": 5}], [{"id": 1, "name": ""}], 5])
def test_wrong_categories_are_refused(coco, categories):
    edit(coco / "annotations" / "train.json", lambda c: c.update(categories=categories))
    with refused(coco, "train.json (is malformed .categories|names 0 classes)"):
        class_names("own")


# ---- COCO's form: masks

RLE = coco_mask.encode(np.asfortranarray(np.eye(SIDE, dtype=np.uint8)))["counts"].decode()
SQUARE = [5, 5, 25, 5, 25, 25, 5, 25]


def rle(counts, size=(SIDE, SIDE)):
    return {"size": size, "counts": counts}


WRONG_MASKS = {
    "compressed, too short": (rle(RLE[: len(RLE) // 2]), "fill the picture|malformed"),
    "compressed, too long": (rle(RLE + RLE), "fill the picture|malformed"),
    "compressed, one character less": (rle(RLE[:-1]), "fill the picture|malformed"),
    "compressed, empty": (rle(""), "malformed"),
    "compressed, unending": (rle("P" * 60), "malformed"),
    "compressed, other letters": (rle("né"), "malformed"),
    "compressed, control characters": (rle("\x01\x02"), "malformed"),
    "compressed, of numbers beyond": (rle("o" * 9 + "0"), "malformed"),
    "negative run": (rle([-1, SIDE * SIDE + 1]), "fill the picture"),
    "runs too short": (rle([5, 9]), "fill the picture"),
    "runs too long": (rle([5, SIDE * SIDE]), "fill the picture"),
    "run beyond 64 bits": (rle([10**30]), "fill the picture"),
    "runs that wrap round": (rle([2**63 - 1, 2**63 - 1, 2 + SIDE * SIDE]), "fill the picture"),
    "fractions of runs": (rle([0.5, SIDE * SIDE - 0.5]), "fill the picture"),
    "no runs": (rle([]), "fill the picture"),
    "runs of words": (rle(["a"]), "fill the picture"),
    "runs null": (rle(None), "fill the picture"),
    "another size": (rle([SIDE * SIDE], (SIDE, 9)), r"is 9x96 pixels where .*jpg says 96x96"),
    "half a size": (rle([SIDE * SIDE], (SIDE,)), "malformed"),
    "no size": ({"counts": [SIDE * SIDE]}, "malformed"),
    "no counts": ({"size": [SIDE, SIDE]}, "malformed"),
    "polygon of a line": ([[1, 2, 3, 4]], "has no mask"),
    "polygon with nan": ([[*SQUARE[:-1], math.nan]], "a polygon of points far outside"),
    "polygon with infinity": ([[*SQUARE[:-1], math.inf]], "a polygon of points far outside"),
    "polygon far outside": ([[*SQUARE[:-1], 1e9]], "a polygon of points far outside"),
    "polygon far below": ([[*SQUARE[:-1], -1e9]], "a polygon of points far outside"),
    "polygon of half a point": ([SQUARE[:-1]], "half a point"),
    "polygon of words": ([["a"] * 8], "malformed"),
    "polygon of pairs": ([[[5, 5]] * 8], "malformed|half a point"),
    "polygon not in a list": (SQUARE, "malformed"),
    "a number": (5, "malformed"),
    "a word": ("mask", "malformed|has no mask"),
}


@pytest.mark.parametrize("case", WRONG_MASKS)
def test_a_wrong_mask_is_refused_with_picture_and_object(coco, case):
    segmentation, message = WRONG_MASKS[case]
    edit(coco / "annotations" / "val.json", first("annotations", segmentation=segmentation))
    with refused(coco, f"val.json, picture 0, object 1 of 1.*({message})"):
        load_records("own", "val")[0].mask()


def test_run_lengths_are_pycocotools_own():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.03, 0.5, 0.97, 1.0):
        for shape in ((1, 1), (7, 40), (200, 300)):
            mask = np.asfortranarray(rng.random(shape) < share, dtype=np.uint8)
            mask[: shape[0] // 2] = 0  # long runs beside short ones
            runs = _run_lengths(coco_mask.encode(mask)["counts"].decode())
            decoded = np.repeat(np.arange(len(runs)) % 2, runs).reshape(shape[::-1]).T
            assert np.array_equal(decoded, mask)


# ---- VOC's form

XML = "<annotation>{}</annotation>"
BNDBOX = "<bndbox><xmin>{}</xmin><ymin>5</ymin><xmax>{}</xmax><ymax>25</ymax></bndbox>"
OBJECT = f"<object><name>bolt</name>{BNDBOX}{{}}</object>"
WRONG_XML = {
    "nothing": (b"", "malformed"),
    "cut": (b"<annotation><object>", "malformed"),
    "two roots": (b"<a></a><b></b>", "malformed"),
    "binary": (bytes(range(256)), "malformed"),
    "unknown encoding": (b"<?xml version='1.0' encoding='klingon'?><annotation></annotation>", "malformed"),
    "wrong encoding": (b"<?xml version='1.0' encoding='utf-8'?><annotation>\xe9</annotation>", "malformed"),
    "an entity without end": (b"<!DOCTYPE a [<!ENTITY b '&b;'>]><a>&b;</a>", "malformed"),
    "no box": (XML.format("<object><name>bolt</name></object>").encode(), "malformed"),
    "empty coordinate": (XML.format(OBJECT.format("", 20, "")).encode(), "malformed"),
    "coordinate of a word": (XML.format(OBJECT.format("left", 20, "")).encode(), "malformed"),
    "nan": (XML.format(OBJECT.format("nan", 20, "")).encode(), "bolt has no area"),
    "no area": (XML.format(OBJECT.format(25, 20, "")).encode(), "bolt has no area"),
    "outside": (XML.format(OBJECT.format(5, 400, "")).encode(), "bolt lies outside"),
    "difficult of a word": (XML.format(OBJECT.format(5, 20, "<difficult>no</difficult>")).encode(), "malformed"),
    "no name": (XML.format(OBJECT.replace("bolt", "").format(5, 20, "")).encode(), "unknown class ''; correct it"),
}


@pytest.mark.parametrize("case", WRONG_XML)
def test_a_wrong_xml_is_refused(voc, case):
    content, message = WRONG_XML[case]
    (voc / "Annotations" / "val0001.xml").write_bytes(content)
    with refused(voc, f"val0001.xml.*{message}"):
        load_records("own", "val")


WRONG_NAMES = {
    "above": (b"../train0000\n", "val.txt is malformed .*is no name of a file"),
    "absolute": (b"/etc/hostname\n", "val.txt is malformed .*is no name of a file"),
    "twice": (b"val0000\nval0001\nval0000\n", "val.txt lists 'val0000' twice"),
    "missing": (b"val0000\ngone\n", "gone.xml can't be read"),
    "nothing": (b"\n \n", "names no pictures"),
    "binary": (b"val0000\n\xff\xfe\n", "val.txt is malformed"),
}


@pytest.mark.parametrize("case", WRONG_NAMES)
def test_a_wrong_list_of_names_is_refused(voc, case):
    content, message = WRONG_NAMES[case]
    (voc / "ImageSets" / "Main" / "val.txt").write_bytes(content)
    with refused(voc, message):
        load_records("own", "val")


# ---- odd, and read all the same


def encoded(codec: str):
    return lambda content: json.dumps(content).encode(codec)


def ids_as_texts(content) -> None:
    for part in ("images", "categories", "annotations"):
        for one in content[part]:
            one.update({key: str(value) for key, value in one.items() if key.endswith("id")})


def from_zero(content) -> None:
    for one in content["categories"]:
        one["id"] -= 10
    for number, one in enumerate(content["annotations"]):
        one.update(id=number, category_id=one["category_id"] - 10)


def of_each_annotation(change):
    return lambda content: content.update(annotations=[change(one) for one in content["annotations"]])


ODD = {
    "a mark of byte order": encoded("utf-8-sig"),
    "UTF-16": encoded("utf-16"),
    "ids as texts": ids_as_texts,
    "some ids as texts": of_each_annotation(lambda a: a | {key: str(a[key]) for key in ("image_id", "category_id")}),
    "flags as texts": of_each_annotation(lambda a: a | {"iscrowd": "0", "area": str(a["area"])}),
    "ids from zero": from_zero,
    "annotations without ids": of_each_annotation(lambda a: {key: a[key] for key in a if key != "id"}),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_list_in_cocos_form_is_read(coco, case):
    plain = load_records("own", "val")
    for split in ("train", "val"):
        edit(coco / "annotations" / f"{split}.json", ODD[case])
    assert class_names("own") == OWN_CLASSES
    for one, other in zip(plain, load_records("own", "val"), strict=True):
        for name in ("boxes", "labels", "crowd", "areas"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert np.array_equal(one.mask(), other.mask()) and str(one.image_id) == str(other.image_id)


def test_ids_as_texts_sort_as_numbers(coco):
    names = [{"id": number, "name": name} for number, name in (("10", "ten"), ("9", "nine"), ("100", "hundred"))]
    for split in ("train", "val"):
        edit(coco / "annotations" / f"{split}.json", lambda c: c.update(categories=names, annotations=[]))
    assert class_names("own") == ("nine", "ten", "hundred")


@pytest.mark.parametrize("codec", ["utf-8-sig", "iso-8859-1", "utf-16"])
def test_annotations_of_any_encoding_and_names_with_blanks_are_read(voc, codec):
    name = "Schräge Mutter 1"
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (voc / folder / f"val0000.{suffix}").rename(voc / folder / f"{name}.{suffix}")
    (voc / "ImageSets" / "Main" / "val.txt").write_bytes(f"{name}\r\nval0001  -1\r\n".encode("utf-8-sig"))
    path = voc / "Annotations" / f"{name}.xml"
    declared = {"utf-8-sig": "utf-8"}.get(codec, codec)
    text = f"<?xml version='1.0' encoding='{declared}'?>" + path.read_text().replace("bolt", " Müller-bolt ")
    path.write_bytes(text.encode(codec))
    records = load_records("own", "val")
    assert [record.image_id for record in records] == [name, "val0001"]
    assert class_names("own") == ("Müller-bolt", "bolt", "nut") and records[0].labels.tolist() == [0]


def test_no_objects_is_a_legal_data_set(coco):
    edit(coco / "annotations" / "val.json", lambda c: c.update(annotations=[]))
    records = load_records("own", "val")
    labels = np.zeros((2, 3, 3))
    assert [len(record.boxes) for record in records] == [0, 0]
    assert token_metrics(np.full((2, 3, 3), 0.2), labels, n_boot=5)["auroc"] is None
    with pytest.raises(ValueError, match="no foreground among the labels: .*give pictures with objects"):
        operating_point_rows(labels, labels, labels, labels)


def test_class_names_follow_every_edit(voc):
    path, date = voc / "Annotations" / "val0001.xml", None
    assert class_names("own") == OWN_CLASSES
    for word in ("gear", "wire"):  # as long, and dated as before
        date = date or path.stat()
        path.write_text(re.sub("<name>.*</name>", f"<name>{word}</name>", path.read_text()))
        os.utime(path, ns=(date.st_atime_ns, date.st_mtime_ns))
        assert word in class_names("own")


def test_val_pictures_that_are_training_pictures_are_said(coco):
    shutil.copy(coco / "train" / "0000.jpg", coco / "val" / "0000.jpg")
    with pytest.warns(UserWarning, match="1 of your own val pictures are training pictures, too: "):
        load_training_lists("own")


def test_what_a_training_is_measured_on_is_looked_at_before(coco):
    path = coco / "val" / "0001.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with refused(coco, "0001.jpg is truncated"):
        check_pictures(load_records("own", "val"), "box")
    edit(coco / "annotations" / "val.json", first("annotations", segmentation=[SQUARE[:-1]]))
    with refused(coco, "object 1 of 1: its mask"):
        check_pictures(load_records("own", "val"), "mask")


# ---- pictures


def tiff_of(dtype: str):
    return lambda path: Image.fromarray(np.arange(72, dtype=dtype).reshape(8, 9) * 10**6).save(path, "TIFF")


WRONG_PICTURES = {
    "EPS": (lambda path: Image.new("RGB", (9, 8)).save(path, "EPS"), "a.jpg is truncated or no picture"),
    "text": (lambda path: path.write_text("picture"), "a.jpg is truncated or no picture"),
    "nothing": (lambda path: path.write_bytes(b""), "a.jpg is truncated or no picture"),
    "a folder": (lambda path: path.mkdir(), "a.jpg .*it is no file"),
    "a pipe": (os.mkfifo, "a.jpg .*it is no file"),
    "missing": (lambda path: None, "a.jpg is missing"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "a.jpg is missing"),
    "floats": (tiff_of("float32"), "32-bit numbers, .*save it with 8 bits"),
    "32 bits": (tiff_of("int32"), "32-bit numbers, .*save it with 8 bits"),
}


@pytest.mark.parametrize("case", WRONG_PICTURES)
def test_a_wrong_picture_is_refused(tmp_path, case):
    make, message = WRONG_PICTURES[case]
    make(tmp_path / "a.jpg")
    with refused(tmp_path, message):
        load_image(tmp_path / "a.jpg")
    if (tmp_path / "a.jpg").is_file():
        with refused(tmp_path, message):
            decode_upload((tmp_path / "a.jpg").read_bytes(), "a.jpg")
    if case not in ("floats", "32 bits"):
        with refused(tmp_path, message):
            image_size(tmp_path / "a.jpg")


def test_a_picture_that_its_exif_turns_gets_the_right_hint(coco):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (120, SIDE)).save(coco / "val" / "0000.jpg", exif=exif)
    edit(coco / "annotations" / "val.json", first("images", width=120))
    with refused(coco, "0000.jpg is 96x120 pixels .* its EXIF tag turns it.*drop that tag"):
        load_records("own", "val")[0].image()


# ---- weights


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_bavit(create_bavit(1, 32), folder / "bavit.safetensors")
    save_yolos(create_yolos(["a"], 32, 1, 3), folder / "yolos.safetensors", bits=8)
    return folder


def stored(models, kind):
    """What a file of ours holds, as it may be written anew: its tensors in float32 and its metadata."""
    return read_weights(models / f"{kind}.safetensors", kind)


def config(**values):
    """An edit of a stored detector's configuration; None takes a key out."""

    def change(state, metadata):
        metadata["config"].update(values)
        for key in [key for key, value in values.items() if value is None]:
            del metadata["config"][key]

    return change


def meta(key, value=None):
    return lambda state, metadata: metadata.pop(key) if value is None else metadata.update({key: value})


def tensor(name, value):
    return lambda state, metadata: state.update({name: value})


NORM, HEAD = "norm.weight", "head.weight"
WRONG_WEIGHTS = {
    ("bavit", "nan"): (tensor(NORM, torch.full((192,), math.nan)), "is damaged.*norm.weight isn't finite"),
    ("bavit", "infinity"): (tensor(NORM, torch.full((192,), math.inf)), "is damaged.*norm.weight isn't finite"),
    ("bavit", "another shape"): (tensor(HEAD, torch.zeros(3, 192)), "doesn't fit the model"),
    ("bavit", "a tensor more"): (tensor("spare", torch.zeros(3)), "doesn't fit the model"),
    ("bavit", "a tensor less"): (lambda state, _: state.pop(HEAD), "doesn't fit the model"),
    ("bavit", "a scale without matrix"): (tensor("spare.scale", torch.zeros(3)), "is damaged"),
    ("bavit", "no kind"): (meta("model"), "holds unnamed weights, not a bavit"),
    ("bavit", "another kind"): (meta("model", "yolos"), "holds yolos, not a bavit"),
    **{("bavit", f"depth {v}"): (meta("depth", v), "describe its model .depth") for v in (None, 0, -1, 10**9, "2")},
    **{("bavit", f"size {v}"): (meta("img_size", v), "describe .*img_size") for v in (None, 0, 10**9, "32", [32])},
    ("bavit", "another size"): (meta("img_size", 64), "doesn't fit the model"),
    ("yolos", "no config"): (meta("config"), "doesn't describe"),
    ("yolos", "config of a word"): (meta("config", "yolos"), "doesn't describe"),
    ("yolos", "config of a list"): (meta("config", [1]), "doesn't describe"),
    **{("yolos", f"no {k}"): (config(**{k: None}), "doesn't describe") for k in ("hidden_size", "image_size")},
    **{("yolos", f"layers {v}"): (config(num_hidden_layers=v), "num_hidden_layers") for v in (0, 10**9, "1", 1.0)},
    **{("yolos", f"heads {v}"): (config(num_attention_heads=v), "doesn't describe") for v in (0, 7, 10**9)},
    **{("yolos", f"tokens {v}"): (config(num_detection_tokens=v), "tokens|fit the model") for v in (-1, 4, 10**9)},
    **{("yolos", f"size {v}"): (config(image_size=v), "describe") for v in (32, [32], [32, 0], [10**9] * 2, "ab")},
    ("yolos", "names of a list"): (config(id2label=[1]), "doesn't (describe|fit)"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_WEIGHTS, ids="-".join)
def test_wrong_weights_are_refused(models, tmp_path, case):
    (kind, _), (change, message) = case, WRONG_WEIGHTS[case]
    state, metadata = stored(models, kind)
    change(state, metadata)
    save_file(state, tmp_path / "a.safetensors", {key: json.dumps(value) for key, value in metadata.items()})
    with refused(tmp_path, f"a.safetensors .*({message})"):
        {"bavit": load_bavit, "yolos": load_yolos}[kind](tmp_path / "a.safetensors")


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "nan", "\x00"], ids=["nested", "cut", "word", "zero"])
def test_metadata_that_are_no_json_are_refused(tmp_path, text):
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", {"model": text})
    with refused(tmp_path, "a.safetensors (is damaged|holds)"):
        load_bavit(tmp_path / "a.safetensors")


def test_a_configuration_cant_name_code_to_fetch(models, tmp_path):
    state, metadata = stored(models, "yolos")
    metadata["config"] |= {"_attn_implementation": "somebody/kernels", "auto_map": {"AutoModel": "somebody/code--a.B"}}
    save_weights(tmp_path / "a.safetensors", state, metadata)
    loaded = load_yolos(tmp_path / "a.safetensors").config
    assert loaded._attn_implementation != "somebody/kernels" and not hasattr(loaded, "auto_map")


def test_equal_weights_are_equal_files(models, tmp_path):
    state, metadata = stored(models, "bavit")
    metadata |= {f"key {i}": i for i in range(20)}
    files = [save_weights(tmp_path / f"{i}", state, dict(part)).read_bytes() for i, part in
             enumerate((metadata.items(), reversed(metadata.items()), metadata.items()))]  # fmt: skip
    assert len(set(files)) == 1
    assert read_weights(tmp_path / "0", "bavit")[1] == metadata


@pytest.mark.parametrize("change", [
    lambda state: state.update(pos_embed=torch.zeros(1, 577, 192)),  # of 384 pixels
    lambda state: state.pop("blocks.11.mlp.fc2.weight"),
    lambda state: state.update(cls_token=torch.full((1, 1, 192), math.nan)),
    lambda state: state.clear(),
])  # fmt: skip
def test_imagenet_weights_of_another_network_are_refused(tmp_path, monkeypatch, change):
    state = {name: torch.zeros(shape) for name, shape in pretrained._VIT_SHAPES.items()}
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path))
    path = tmp_path / "weights" / "vit_tiny_patch16_224.safetensors"
    path.parent.mkdir()
    save_file(state, path)
    assert pretrained.imagenet_blocks().keys() == state.keys()
    change(state)
    save_file(state or {"other": torch.zeros(1)}, path)
    with refused(tmp_path, "224.safetensors doesn't hold ImageNet's ViT-tiny"):
        pretrained.imagenet_blocks()


# ---- numbers

MAPS = torch.linspace(0, 1, 32).view(2, 4, 4)
WRONG_NUMBERS = {
    "threshold nan": (lambda: keep_mask(MAPS, math.nan), "the threshold is nan"),
    "thresholds nan": (lambda: keep_mask(MAPS.numpy(), np.array([[[0.5]], [[np.nan]]])), "the threshold is nan"),
    "target nan": (lambda: threshold_for_sparsity(MAPS, math.nan, (4, 4)), "the wanted sparsity is nan"),
    "target above 1": (lambda: threshold_for_sparsity(MAPS, 35, (4, 4)), "the wanted sparsity is 35"),
    "target below 0": (lambda: threshold_for_sparsity(MAPS, -0.1, (4, 4)), "the wanted sparsity is -0.1"),
    "target of a word": (lambda: threshold_for_sparsity(MAPS, "0.3", (4, 4)), "the wanted sparsity is '0.3'"),
    "maps nan": (lambda: threshold_for_sparsity(MAPS / 0, 0.3, (4, 4)), "not all finite"),
    "share nan": (lambda: spare_some(MAPS, math.nan), "the share to spare is nan"),
    "share above 1": (lambda: spare_some(MAPS, 1.5), "the share to spare is 1.5"),
    "sparsity of tokens": (lambda: token_table(1.2), "a share from 0 to 1|give"),
    "kept beyond": (lambda: yolos_multiply_adds(1025), "kept counts are from 0 to 1024"),
    "truth for a number": (lambda: check_number("n", True), "n is True: give a number"),
    "a fraction for a whole": (lambda: check_number("n", 1.0, 0, whole=True), "n is 1.0: give a whole number of at"),
    "no room": (lambda: check_room(Path(__file__), 1e18), r"test_bad_input.py can't be written \(\d+ MB are free"),
    "a way out": (lambda: inside(Path("a"), "b/../../c"), "no name of a file in a"),
}


@pytest.mark.parametrize("case", WRONG_NUMBERS)
def test_a_wrong_number_is_refused(tmp_path, case):
    call, message = WRONG_NUMBERS[case]
    with pytest.raises((ValueError, OSError), match=message):
        call()


# ---- results and kept detections


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"rows": 5}', b"[" * 100_000, b"\xff"])
def test_a_damaged_result_file_is_named_and_left(tmp_path, content):
    (tmp_path / "t.json").write_bytes(content)
    for call in (lambda: load_rows("t", tmp_path), lambda: save_rows("t", "r", [{"a": 1}], {}, tmp_path)):
        with refused(tmp_path, "t.json is not a result file"):
            call()


def test_a_full_disk_names_file_and_remedy(tmp_path, monkeypatch):
    save_rows("t", "r", [{"a": 1}], {}, tmp_path)
    full = OSError(28, "No space left on device")

    def fail(*args, **kwargs):
        raise full

    with monkeypatch.context() as patch, refused(tmp_path, r"t.json can't be written \(No space left on device\)"):
        patch.setattr(os, "replace", fail)
        save_rows("t", "r", [{"a": 2}], {}, tmp_path)
    with monkeypatch.context() as patch, refused(tmp_path, r"train can't be written \(No space left on device\)"):
        patch.setattr("bavit_utils.data.sample_world.process_map", fail)
        write_split(tmp_path, "train", 2, workers=1)


@pytest.mark.parametrize("content", [b"", b"damaged", b"\x00" * 100])
def test_damaged_detections_are_found_anew(tmp_path, content):
    detector = PrunedYolos(create_yolos(["a"], 32, 1, 3)).eval()
    images = [np.full((20, 30, 3), 9, dtype=np.uint8)] * 2
    whole = detections(detector, images, folder=tmp_path)
    (tmp_path / "dense.safetensors").write_bytes(content)
    again = detections(detector, images, folder=tmp_path)
    assert all(torch.equal(one[key], other[key]) for one, other in zip(whole, again, strict=True) for key in one)
    read_weights(tmp_path / "dense.safetensors", "detections")


# ---- trainings

RECIPE = Recipe(epochs=2, batch_size=2, lr=1e-3, warmup_epochs=0)


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, pixels):
        return self.layer(torch.nn.functional.avg_pool2d(pixels, 16).flatten(2).mT)


def train(folder: Path, **options):
    data = TokenPictures(load_records("own", "train"), 32, RECIPE, "box", options.pop("seed", 0))

    def loss_of(model, pixels, targets):
        return torch.nn.functional.cross_entropy(model(pixels).flatten(0, 1), targets.flatten().clamp(min=0))

    return fit(Linear(), data, Task(loss_of, options.pop("evaluate", None)), folder, **options)


@pytest.mark.parametrize("changed", ["box", "class", "picture"])
def test_a_training_knows_its_data(coco, tmp_path, changed):
    train(tmp_path / "run")
    train(tmp_path / "run")
    if changed == "picture":
        shutil.copy(coco / "val" / "0000.jpg", coco / "train" / "0000.jpg")
    else:
        values = {"bbox": [5, 5, 20, 20]} if changed == "box" else {"category_id": 11}  # the first is of 10
        edit(coco / "annotations" / "train.json", first("annotations", **values))
    with refused(tmp_path, "belongs to another training .*or its pictures or labels have changed: remove"):
        train(tmp_path / "run")


@pytest.mark.parametrize("options, message", [
    ({"max_minutes": -1}, "minutes is -1"), ({"max_minutes": math.nan}, "minutes is nan"), ({"seed": -1}, "seed is -1"),
    ({"seed": 2**40}, "seed is 1099511627776"), ({"seed": 0.5}, "seed is 0.5"),
])  # fmt: skip
def test_numbers_that_stop_or_seed_a_training_are_checked(coco, tmp_path, options, message):
    with refused(tmp_path, message):
        train(tmp_path / "run", **options)


def test_two_trainings_dont_share_a_folder(coco, tmp_path):
    messages = []

    def while_training(model) -> float:
        with pytest.raises(ValueError, match="run is in use by another training: wait for its end") as caught:
            train(tmp_path / "run")
        messages.append(str(caught.value))
        return 0.5

    train(tmp_path / "run", evaluate=while_training)
    assert messages
    train(tmp_path / "run")  # it is free again


def test_a_full_disk_is_known_before_the_first_step(coco, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 10))
    with refused(tmp_path, r"state.safetensors can't be written \(0 MB are free"):
        train(tmp_path / "run")


@pytest.mark.parametrize("stop", [{"max_steps": 1}, {"max_minutes": 0}, {}])
def test_a_training_leaves_a_row_however_short_it_is(coco, tmp_path, monkeypatch, stop):
    assert loop.LOG_STEPS > 2
    train(tmp_path / "run", **stop)
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 2
    (tmp_path / "run" / "log.csv").unlink()
    train(tmp_path / "run", **({"max_steps": 1} if stop else {}))
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 2


def test_a_state_of_another_shape_is_refused(coco, tmp_path):
    train(tmp_path / "run", max_steps=1)
    path = tmp_path / "run" / "state.safetensors"
    state, metadata = read_weights(path, "training")
    save_weights(path, state | {"model.layer.bias": torch.zeros(5)}, metadata, bits=32)
    with refused(tmp_path, "state.safetensors doesn't fit the model"):
        train(tmp_path / "run")
    save_weights(path, state, metadata | {"step": "one"}, bits=32)
    with refused(tmp_path, "state.safetensors doesn't describe its model .step"):
        train(tmp_path / "run")


@pytest.mark.parametrize("names", [("a b", "a-b"), ("a(b)", "a b"), ("a b", "a  b"), ("-a", "a")])
def test_two_folders_never_share_a_name(tmp_path, monkeypatch, names):
    suffixes = []
    for name in names:
        monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path / name))
        suffixes.append(get_profile("own").suffix)
    assert len(set(suffixes)) == 2 and all(re.fullmatch(r"-[\w.-]+", suffix) for suffix in suffixes)
