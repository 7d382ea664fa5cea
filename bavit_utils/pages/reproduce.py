"""What `make reproduce` does: run the notebooks, and list what they saved in figures/README.md."""

import os
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path

import nbformat
import pandas as pd
from nbconvert.preprocessors import CellExecutionError, ExecutePreprocessor

from .. import config
from ..config import Profile, figures_dir
from ..figures import in_256_colours, read_index, write_index
from ..results import NOT_RUN, load_rows
from .headlines import data_name
from .tables import markdown_table

CELL_SECONDS = 1200  # one cell may take so long
PAPERS = {
    "Fig. 1": "tokens that Sparse DETR, Focus DETR and BAViT keep",
    "Fig. 2": "from an image to its labels",
    "Fig. 3": "BAViT, and BAViT in front of YOLOS",
    "Fig. 4": "images without their background",
    "Fig. 5": "the appendix's convolution",
    "Fig. 6": "what it does to a prediction",
    "Table 1": "token accuracy",
    "Table 2": "AP and tokens against sparsity",
}
_SUFFIX = {"figure": ".png", "table": ".md", "animation": ".gif"}
_HEAD = """# Figures and tables

Written at the end of `make reproduce` from what the notebooks saved: figures as PNG and SVG (those that show images PNG
only), tables as Markdown, CSV with all digits, and LaTeX (`booktabs`). Commands, commits and data are those of the
stored results that a figure or table is made of.

## The paper's, and ours

"""


def notebook_paths(numbers: Sequence[str] = ()) -> list[Path]:
    """The numbered notebooks in order, or those of some numbers ("06"); ValueError for a number that none has."""
    paths = sorted((config.REPO / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    known = [path.name[:2] for path in paths]
    if unknown := [number for number in numbers if number not in known]:
        raise ValueError(f"there is no notebook {', '.join(unknown)}: choose some of {', '.join(known)}")
    return [path for path in paths if not numbers or path.name[:2] in numbers]


def run_notebooks(profile: Profile, paths: Iterable[Path], refresh: bool = False) -> None:
    """Run notebooks on a profile, saying how long each takes; with `refresh` their outputs are written back.

    Raises ValueError that names the notebook and shows the failing cell's error.
    """
    os.environ["BAVIT_PROFILE"] = profile.name
    for path in paths:
        os.environ["JPY_SESSION_NAME"] = str(path)  # as Jupyter tells a kernel whose it is; `figures.save` notes it
        write_index(profile, {key: one for key, one in read_index(profile).items() if one.get("notebook") != path.stem})
        started = time.perf_counter()
        print(f"{path.name} ... ", end="", flush=True)
        notebook = nbformat.read(path, as_version=4)
        runner = ExecutePreprocessor(timeout=CELL_SECONDS, record_timing=False, extra_arguments=["--log-level=ERROR"])
        try:
            runner.preprocess(notebook, {"metadata": {"path": str(path.parent)}})
        except CellExecutionError as error:
            raise ValueError(f"{path.name} failed on the {profile.name} profile:\n{error}") from error
        print(f"{time.perf_counter() - started:.0f} s", flush=True)
        if refresh:
            nbformat.write(clean(notebook), path)


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what differs from run to run or that a repository's page can't render, in place.

    Progress bars and warnings (the error stream), times of execution, versions of the interpreter, and the state and
    the ids of widgets, without which GitHub shows their text. Figures are stored in 256 colours.
    """
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                shown = output.get("data", {})
                shown.pop("application/vnd.jupyter.widget-view+json", None)
                if "image/png" in shown:
                    shown["image/png"] = b64encode(in_256_colours(b64decode(shown["image/png"]))).decode()
    return notebook


# ---- figures/README.md


def write_figures_page(profile: Profile) -> Path:
    """Write the page of all that the notebooks saved for a profile; returns its path.

    It is figures/README.md for the sample world, which is tracked, and figures/<profile>/README.md for others.
    """
    folder = figures_dir(profile)
    path = (folder.parent if profile.name == "sample" else folder) / "README.md"
    path.write_text(figures_page(profile), encoding="utf-8")
    return path


def figures_page(profile: Profile) -> str:
    """The paper's figures and tables beside ours, with status, command and data; then all of ours by notebook.

    What no notebook saves any more is left out: a run of one forgets first what it saved before.
    """
    folder = figures_dir(profile)
    prefix, up = ("sample/", "../") if profile.name == "sample" else ("", "../../")
    by_notebook: dict[str, list[dict]] = {}
    there = {path.stem for path in notebook_paths()}
    for entry in read_index(profile).values():
        file = entry["name"] + _SUFFIX[entry["kind"]]
        if entry.get("notebook") in there and (folder / file).exists():
            entry |= {"link": f"[{entry['name']}]({prefix}{file})", "file": prefix + file}
            by_notebook.setdefault(entry["notebook"], []).append(entry)
    every = [entry for notebook in sorted(by_notebook) for entry in by_notebook[notebook]]
    parts = [_HEAD, markdown_table(pd.DataFrame([_paper_row(paper, every) for paper in PAPERS]))]
    for notebook in sorted(by_notebook):
        parts.append(f"\n## [{notebook}]({up}notebooks/{notebook}.ipynb)\n\n")
        for entry in by_notebook[notebook]:
            parts.append(f"- {entry['link']}: {entry['caption']}\n")
            if entry["kind"] != "table":
                parts.append(f'  <br><img src="{entry["file"]}" width="420" alt="{entry["name"]}">\n')
    return "".join(parts)


def _paper_row(paper: str, entries: Sequence[dict]) -> dict[str, str]:
    """One of the paper's figures or tables: ours that answer it, their status, commands and data."""
    ours = [entry for entry in entries if entry["paper"] == paper]
    names = dict.fromkeys(name for entry in ours for name in entry["results"])
    stored = {name: load_rows(name).attrs["provenance"] for name in names}
    runs = [run for found in stored.values() for run in found.values()]
    commits: dict[str, dict] = {}  # each command once, without its seed, and where it ran
    for run in runs:
        command = re.sub(r" --(store|seed \d+)(?= |$)", "", run["command"])
        commits.setdefault(command, {})[run["commit"]] = None
    status = {
        "measured": bool(runs),
        "shown on bundled images": any(entry["shows"] for entry in ours),
        "drawn or computed by code": bool(ours) and not names and not any(entry["shows"] for entry in ours),
    }
    said = [kind for kind, holds in status.items() if holds]
    absent = [f"{name}: {NOT_RUN}" for name, found in stored.items() if not found]
    return {
        "the paper's": f"**{paper}**: {PAPERS[paper]}",
        "ours": "<br>".join(entry["link"] for entry in ours) or NOT_RUN,
        "status": "; ".join([", ".join(said), *absent]).strip("; ") or NOT_RUN,
        "command (commit)": "<br>".join(f"`{one}` ({', '.join(found)})" for one, found in commits.items()) or "–",
        "data": "<br>".join(dict.fromkeys(f"{data_name(key)}, {run['n_images']} images" for run in runs
                                          for key in run["data"] if run["n_images"] and not key.endswith(", end")))
                or "–",
    }  # fmt: skip
