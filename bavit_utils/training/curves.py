"""Training logs as rows, and as stored results: what the curves of notebook 02 are drawn from."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ..results import save_rows


def read_curve(folder: Path) -> pd.DataFrame:
    """The rows of a training's `log.csv`: numbers, nan where there is none."""
    return pd.read_csv(folder / "log.csv", dtype=float)


def store_curve(folder: Path, model: str, source: Mapping) -> None:
    """Keep a training's log in `curves.json`, under its folder's name; of long ones every n-th step, at most 400."""
    rows = read_curve(folder)
    rows = rows[(rows.index % -(-len(rows) // 400) == 0) | rows["metric"].notna()]
    rows = rows.astype(object).where(rows.notna(), None).to_dict("records")
    save_rows("curves", folder.name, [{"model": model} | row for row in rows], source)
