"""What a detector that learns from few pictures owes to each part of its recipe: as many minutes with one thing changed."""

from dataclasses import replace

from transformers import YolosForObjectDetection

from ..config import Profile, run_folder
from ..data.records import Record
from ..metrics import DetectionEvaluation, bootstrap_ap, paired_difference
from ..training.detector import VARIANTS, detection_records, train_yolos
from ..training.loop import Schedule
from ..training.state import read_curve
from ..yolos import PrunedYolos, predict

READOUTS = ("tokens", "patches")


def recipe_rows(profile: Profile, minutes: float, seed: int = 0) -> tuple[list[dict], list[Record]]:
    """A row for the recipe and for each of `VARIANTS`, after equally many `minutes`, and the dev pictures they are of.

    The schedule is the whole training's, so that all stop at its beginning, at a high rate. AP is that of the detection
    tokens, paired with the recipe's own (`delta_AP`); `patches_AP50` is that of the patches' own boxes. A training that
    was interrupted goes on for what is left of its minutes.
    """
    dev, rows, whole = detection_records(profile)[1], [], None
    for name in ("", *VARIANTS):
        detector, steps, seconds = _trained(profile, name, minutes, seed)
        found = {readout: DetectionEvaluation(dev, _found(detector, dev, readout)) for readout in READOUTS}
        whole = whole or found["tokens"]
        rows.append(
            {
                "variant": name or "the recipe",
                "minutes": seconds / 60,
                "pictures": steps * profile.detector_recipe.batch_size,
                **found["tokens"].average_precision(),
                **bootstrap_ap(found["tokens"]),
                **paired_difference(found["tokens"], whole),
                "patches_AP50": found["patches"].average_precision()["AP50"],
                "n_images": len(dev),
                "seed": seed,
            }
        )
    return rows, dev


def _trained(profile: Profile, name: str, minutes: float, seed: int) -> tuple[YolosForObjectDetection, int, float]:
    """A variant's detector, the steps and the seconds that it has learnt for."""
    recipe = replace(profile.detector_recipe, **VARIANTS.get(name, {}))
    folder = run_folder(f"recipe-{name or 'whole'}-{profile.detector_data}{profile.suffix}-seed{seed}")
    before = read_curve(folder)["seconds"].max() / 60 if (folder / "log.csv").exists() else 0.0
    detector = train_yolos(profile, folder, Schedule(seed, recipe, max_minutes=max(0.0, minutes - before)))
    log = read_curve(folder)
    return detector.eval(), int(log["step"].max()), log["seconds"].max()


def _found(detector: YolosForObjectDetection, dev: list[Record], readout: str) -> list[dict]:
    return predict(PrunedYolos(detector).eval(), [record.image() for record in dev], readout=readout)
