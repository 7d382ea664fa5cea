"""The verbs of `bavit` for whoever deploys the detector: export to ONNX, detection in one picture, what that costs."""

import argparse
from importlib import metadata

import matplotlib.pyplot as plt
import numpy as np

from ..config import get_profile
from ..data.pictures import load_image
from ..data.pretrained import profile_detector
from ..data.records import fingerprint, load_records
from ..edge.detector import Detector, InsideDetector, edge_folder
from ..edge.export import export_inside, export_pair
from ..edge.on_torch import TorchDetector, load_pair
from ..experiments.edge import accuracy_rows, time_rows
from ..figures import draw_boxes, show_picture
from ..inside import load_heads
from ..results import provenance, save_rows, short_hash
from . import shown
from .inside import LAYER


def export(args: argparse.Namespace) -> None:
    """Write BAViT and the detector as ONNX graphs that take any number of kept patches.

    With --inside the detector alone, in two parts, before and behind a head that chooses after four layers.
    """
    profile, folder = get_profile(args.profile), edge_folder(args.profile)
    if args.inside:
        detector, path = profile_detector(profile)
        head = load_heads(profile.checkpoint("heads"), short_hash(path))[LAYER]
        paths = export_inside(detector, head, folder, args.int8)
    else:
        paths = export_pair(*load_pair(args.profile), folder, args.int8)
    for path in paths:
        print(f"{path.parent.parent.name}/{path.parent.name}/{path.name}: {path.stat().st_size / 1e6:.1f} MB")


def detect(args: argparse.Namespace) -> None:
    """Detect objects in one picture, on the patches that BAViT keeps.

    With --inside, which runs on onnxruntime, on those that a head inside the detector keeps.
    """
    image = load_image(args.picture)
    if args.inside or args.runtime == "onnxruntime":
        detector = (InsideDetector if args.inside else Detector)(args.profile, args.int8)
    else:
        detector = TorchDetector(*load_pair(args.profile))
    found = detector.detect(image, args.threshold)
    order = np.argsort(-found["scores"])
    order = order[found["scores"][order] >= args.min_score]
    names = [f"{detector.meta['names'][found['labels'][i]]} {found['scores'][i]:.2f}" for i in order]
    for name, box in zip(names, found["boxes"][order], strict=True):
        print(name, " ".join(f"{value:.0f}" for value in box))
    print(f"{len(names)} objects of a score of at least {args.min_score:g}; boxes are x1 y1 x2 y2 in pixels")
    if args.save:
        height, width = image.shape[:2]
        figure = plt.figure(figsize=(width / 100, height / 100), dpi=100, layout="none")
        axes = figure.add_axes((0, 0, 1, 1))
        show_picture(axes, image)
        draw_boxes(axes, found["boxes"][order], names)
        figure.savefig(args.save)
        plt.close(figure)


def bench_edge(args: argparse.Namespace) -> None:
    """Measure torch and onnxruntime in float32, bf16 and 8 bits: AP of the exported files, or time.

    AP, of the graphs of `bavit export --int8`, needs no quiet machine. Time, at the profile's size and the paper's,
    does; its weights are random.
    """
    profile, versions = get_profile(args.profile), _versions() if args.store else {}
    if args.what == "ap":
        records = load_records(*profile.detector_eval, args.limit)
        rows = accuracy_rows(profile, records, edge_folder(args.profile))
        source = provenance(
            {"/".join(profile.detector_eval): fingerprint(records)}, len(records),
            [profile.checkpoint("bavit-small"), profile.checkpoint("yolos")],
        )  # fmt: skip
    else:
        paper = get_profile("voc-512")
        sizes = [profile] + ([paper] if paper.detector_img_size != profile.detector_img_size else [])
        rows = time_rows(sizes, args.threads, args.repeats)
        source = provenance()
    for row in rows:
        value = (
            f"AP {shown(row['AP'])}" if args.what == "ap" else f"{row['threads']} threads, {row['median_ms']:.1f} ms"
        )
        told = f", counts rounded to {row['round_to']}" if row.get("round_to") else ""
        print(f"{row['img_size']} px, {row['runtime']} {row['dtype']}, {row['keep']:.0%} kept{told}: {value}")
    if args.store:
        source["versions"] |= versions
        save_rows("edge-cpu", f"{profile.name}-{args.what}", rows, source)


def _versions() -> dict[str, str]:
    """Of the packages that write and run graphs; ImportError, with the remedy, where one is missing."""
    try:
        return {name: metadata.version(name) for name in ("onnx", "onnxruntime")}
    except metadata.PackageNotFoundError as error:
        raise ImportError(f"{error.name} is missing: pip install .[edge]") from None
