"""Tables as a reader sees them, and on disk: Markdown, LaTeX and CSV that stay as they are."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ..config import Profile, figures_dir

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def save_table(frame: pd.DataFrame, name: str, profile: Profile, caption: str) -> pd.DataFrame:
    """Write `figures/<profile>/<name>.md` and `.tex`, with the caption, and `.csv`; returns the table as it is shown.

    Shown numbers are strings, rounded by column, missing ones a dash; a row that was not run says so in words of its
    own (`results.NOT_RUN`). The CSV holds all digits. Stored files whose numbers agree within 1e-6 are left untouched.
    """
    texts = {
        ".md": f"{caption}\n\n{markdown_table(frame)}",
        ".tex": latex_table(frame, name, caption),
        ".csv": frame.to_csv(index=False, lineterminator="\n"),
    }
    files = {figures_dir(profile) / (name + suffix): text for suffix, text in texts.items()}
    if not _unchanged(files):
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    return shown_table(frame)


def shown_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as a reader sees it: every cell a string, rounded by column, and no index."""
    return pd.DataFrame({column: _shown_column(frame[column]) for column in frame}, index=[""] * len(frame))


def markdown_table(frame: pd.DataFrame) -> str:
    """`shown_table` in GitHub's Markdown, numbers to the right."""
    rule = [":--" if _is_text(frame[column]) else "--:" for column in frame]
    shown = shown_table(frame).map(lambda cell: cell.replace("|", r"\|")).to_numpy().tolist()
    return "".join(f"| {' | '.join(line)} |\n" for line in [list(frame), rule, *shown])


def latex_table(frame: pd.DataFrame, name: str, caption: str) -> str:
    """`shown_table` as a LaTeX table in booktabs' manner, labelled `tab:<name>`."""
    columns = "".join("l" if _is_text(frame[column]) else "r" for column in frame)
    caption, label = re.sub(r"([&%$#_{}])", r"\\\1", caption), f"tab:{name}"
    return shown_table(frame).to_latex(
        index=False, escape=True, caption=caption, label=label, column_format=columns, position="tb"
    )


def _is_text(column: pd.Series) -> bool:
    return column.map(lambda value: isinstance(value, str)).any()


def _unchanged(texts: Mapping[Path, str]) -> bool:
    """Whether the stored files have this caption, these words and, in the CSV within 1e-6, these numbers."""
    for path, text in texts.items():
        stored = path.read_text(encoding="utf-8") if path.exists() else ""
        if _NUMBER.sub("#", stored) != _NUMBER.sub("#", text):
            return False
        if path.suffix == ".md" and stored.split("\n", 1)[0] != text.split("\n", 1)[0]:  # the caption
            return False
        old, new = (np.array(_NUMBER.findall(each), dtype=float) for each in (stored, text))
        if path.suffix == ".csv" and not np.allclose(old, new, rtol=1e-6, atol=1e-6):
            return False
    return True


def _shown_column(column: pd.Series) -> list[str]:
    numbers = [float(value) for value in column if not isinstance(value, str | bool | np.bool_) and pd.notna(value)]
    largest = max(map(abs, numbers), default=0)
    decimals = 0 if all(map(float.is_integer, numbers)) else 3 if largest < 2 else 2 if largest < 100 else 1

    def cell(value) -> str:
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        return value if isinstance(value, str) else "–" if pd.isna(value) else f"{value:,.{decimals}f}"

    return [cell(value) for value in column]


def shown_interval(value: float, low: float, high: float, sign: str = "") -> str:
    """A share and its interval in per cent, "98.0 [97.4, 98.5]"; with the sign "+" a difference, in points."""
    shown = (round(100 * share, 1) + 0.0 for share in (value, low, high))  # without a minus before zero
    return "{:{s}.1f} [{:{s}.1f}, {:{s}.1f}]".format(*shown, s=sign)
