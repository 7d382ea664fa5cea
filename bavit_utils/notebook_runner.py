"""Run the notebooks top to bottom, and write their outputs back in a form that gives clean diffs."""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbconvert.preprocessors import CellExecutionError, ExecutePreprocessor

from .config import REPO, Profile

CELL_SECONDS = 1200  # one cell may take so long


def notebook_paths() -> list[Path]:
    """The numbered notebooks, in order."""
    return sorted((REPO / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def run_notebooks(profile: Profile, refresh: bool = False) -> None:
    """Run every notebook on a profile, saying how long each takes; with `refresh` their outputs are written back.

    Raises RuntimeError that names the notebook and shows the failing cell's error.
    """
    os.environ["BAVIT_PROFILE"] = profile.name
    for path in notebook_paths():
        started = time.perf_counter()
        print(f"{path.name} ... ", end="", flush=True)
        notebook = nbformat.read(path, as_version=4)
        runner = ExecutePreprocessor(timeout=CELL_SECONDS, record_timing=False, extra_arguments=["--log-level=ERROR"])
        try:
            runner.preprocess(notebook, {"metadata": {"path": str(path.parent)}})
        except CellExecutionError as error:
            raise RuntimeError(f"{path.name} failed on the {profile.name} profile:\n{error}") from error
        print(f"{time.perf_counter() - started:.0f} s")
        if refresh:
            clean(notebook)
            nbformat.write(notebook, path)
    sys.stdout.flush()


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what differs from run to run or that a repository's page can't render, in place.

    Progress bars and warnings (the error stream), times of execution, versions of the interpreter, and the state and
    the ids of widgets, without which GitHub shows their text.
    """
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook
