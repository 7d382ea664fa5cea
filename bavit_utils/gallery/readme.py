"""figures/README.md: the paper's figures and tables beside ours, with status, command and data; then all our others.

Commands, commits, data and numbers of pictures are those of the stored results that a figure is made of.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from ..accuracy import table1
from ..config import Profile, figures_dir, get_profile
from ..figures import markdown_table
from ..notebook_runner import notebook_paths
from ..results import NOT_RUN, load_rows
from . import ENTRIES
from .entry import Entry

PAPERS = {
    "Fig. 1": "tokens that Sparse DETR, Focus DETR and BAViT keep",
    "Fig. 2": "from a picture to its labels",
    "Fig. 3": "BAViT, and BAViT in front of YOLOS",
    "Fig. 4": "pictures without their background",
    "Fig. 5": "the appendix's convolution",
    "Fig. 6": "what it does to a prediction",
    "Table 1": "token accuracy",
    "Table 2": "AP and tokens against sparsity",
}
_HEAD = """# Figures and tables

Written by `make figures` (`bavit figures`), which draws everything below from `data/results/`, formulas, and the
bundled pictures and checkpoints, in less than a minute on two CPU cores; the notebooks call the same functions. Figures
are PNG and SVG (those that show pictures PNG only), tables Markdown, CSV with all digits, and LaTeX (`booktabs`).
`make figures PROFILE=voc` or `coco` fills a folder of that name, without pictures, as those aren't ours to store.

## The paper's, and ours

"""


def figures_readme() -> str:
    """The text of figures/README.md as it should stand now, for the sample profile."""
    profile = get_profile("sample")
    parts = [_HEAD, markdown_table(papers_beside_ours(profile, ENTRIES))]
    for paper, title in PAPERS.items():
        ours = [entry for entry in ENTRIES if entry.paper == paper]
        parts.append(f"\n### {paper}: {title}\n\n{_gallery(ours, profile)}")
    parts.append("\n## All others\n")
    others = [entry for entry in ENTRIES if not entry.paper]
    for path in notebook_paths():
        here = [entry for entry in others if entry.notebook == path.name[:2]]
        if here:
            parts.append(f"\n### [{path.stem}](../notebooks/{path.name})\n\n{_gallery(here, profile)}")
    return "".join(parts)


def write_readme() -> Path:
    """Write figures/README.md (under `BAVIT_FIGURES_DIR`, where that is set); returns its path."""
    path = figures_dir(get_profile("sample")).parent / "README.md"
    path.write_text(figures_readme(), encoding="utf-8")
    return path


def papers_beside_ours(profile: Profile, entries: Sequence[Entry]) -> pd.DataFrame:
    """A row for each of the paper's figures and tables: ours that answer it, their status, commands and data."""
    rows = []
    for paper, title in PAPERS.items():
        ours = [entry for entry in entries if entry.paper == paper]
        runs = _runs(ours, profile)
        rows.append({
            "the paper's": f"**{paper}**: {title}",
            "ours": "<br>".join(dict.fromkeys(_link(entry, profile) for entry in ours)) or NOT_RUN,
            "status": _status(paper, ours, bool(runs)),
            "commands that measured it": "<br>".join(_commands(runs)) or "–",
            "data": "<br>".join(_data(runs)) or ("the bundled pictures" if any(e.pictures for e in ours) else "–"),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _link(entry: Entry, profile: Profile) -> str:
    if not entry.measured(profile):
        return f"{entry.name} ({entry.kind}): {NOT_RUN}"
    return f"[{entry.name}]({profile.name}/{entry.files()[0]}) ({entry.kind})"


def _runs(entries: Iterable[Entry], profile: Profile) -> list[dict]:
    """The provenance of all runs that entries are made of."""
    names = dict.fromkeys(name.format(p=profile) for entry in entries for name in entry.results)
    return [run for name in names for run in load_rows(name).attrs["provenance"].values()]


def _commands(runs: Iterable[dict]) -> list[str]:
    """Each command once, without its seed, with the commits it ran at."""
    commits: dict[str, dict] = {}
    for run in runs:
        command = re.sub(r" --(store|seed \d+)(?= |$)", "", run["command"])
        commits.setdefault(command, {})[run["commit"]] = None
    return [f"`{command}` ({', '.join(found)})" for command, found in commits.items()]


def _data(runs: Iterable[dict]) -> list[str]:
    """What was measured on, with the number of pictures; pictures that a threshold was chosen on go unnamed."""
    pairs = dict.fromkeys(
        (name, run["n_images"])
        for run in runs
        for name in run["data"]
        if not name.endswith(", end") and run["n_images"]
    )
    return [f"{name}, {n} pictures" for name, n in pairs]


def _status(paper: str, entries: Sequence[Entry], measured: bool) -> str:
    """How ours came about, and what of the paper's own is missing."""
    if not entries:
        return NOT_RUN
    kinds = {
        "measured": measured,
        "shown on bundled pictures": any(entry.pictures for entry in entries),
        "drawn by code": any(e.kind == "figure" and not e.pictures and not e.results for e in entries) and not measured,
    }
    told = [", ".join(kind for kind, holds in kinds.items() if holds)]
    if paper == "Table 1":
        rows = table1(("voc2012", "voc2007", "coco"))
        rows = rows[rows["recipe"] == "best"]
        absent = rows["ours (%)"] == NOT_RUN
        told += [
            f"{row['model']} on {row['data set']}, {row['labels']} labels: {NOT_RUN}"
            for _, row in rows[absent].iterrows()
        ]
    if paper == "Table 2" and not len(load_rows("table2-coco")):
        told.append(f"the paper's own rows, YOLOS-tiny at 512 px on COCO: {NOT_RUN}")
    return "; ".join(told)


def _gallery(entries: Iterable[Entry], profile: Profile) -> str:
    """A list of entries with their captions; figures are shown small."""
    lines = []
    for entry in entries:
        caption = f"- {_link(entry, profile)}: {entry.caption.format(p=profile)}\n"
        shown = f'  <br><img src="{profile.name}/{entry.name}.png" width="420" alt="{entry.name}">\n'
        lines.append(caption + (shown if entry.kind == "figure" and entry.measured(profile) else ""))
    return "".join(lines)
