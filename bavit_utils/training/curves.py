"""Training logs as rows, and as stored results: what the curves of notebook 02 are drawn from."""

import csv
from collections.abc import Mapping
from pathlib import Path

from ..results import save_rows


def read_curve(folder: Path, model: str) -> list[dict]:
    """The rows of a training's `log.csv`, with the model's name: numbers where there are some, else None."""
    with (folder / "log.csv").open(newline="") as file:
        return [
            {"model": model} | {key: float(value) if value else None for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def store_curve(folder: Path, model: str, source: Mapping) -> None:
    """Keep a training's log in `curves.json`, under the name of its folder; of long ones every n-th step, at most 400."""
    rows = read_curve(folder, model)
    every = -(-len(rows) // 400)
    save_rows("curves", folder.name, [row for i, row in enumerate(rows) if i % every == 0 or row["metric"]], source)
