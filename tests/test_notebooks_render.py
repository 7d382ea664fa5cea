"""The notebooks as a repository's page shows them: a title, pictures that are there, nothing it would refuse."""

import json
import re
import sys
from pathlib import Path

import pytest

from bavit_utils.config import REPO
from bavit_utils.reproduce import notebook_paths

PATHS = notebook_paths()
MOST_OUTPUT, MOST_NOTEBOOK = 1.5e6, 5e6  # bytes: larger ones load slowly, or are not shown at all
MACHINE_PATH = re.compile(r"/(?:home|root|Users|tmp|var|usr|opt|work|mnt)/[\w.-]+|site-packages|[A-Z]:\\\\")


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_starts_with_its_title(path):
    first = cells(path)[0]
    assert first["cell_type"] == "markdown" and re.match(rf"# {int(path.stem[:2])}\. \w", "".join(first["source"]))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_widget_stands_there_without_its_state(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert "widgets" not in notebook["metadata"]
    kinds = {
        kind for cell in notebook["cells"] for output in cell.get("outputs", ()) for kind in output.get("data", ())
    }
    assert kinds <= {"text/plain", "text/html", "text/markdown", "image/png", "image/jpeg", "image/svg+xml"}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_outputs_are_small_enough_and_no_errors(path):
    for number, cell in enumerate(cells(path)):
        outputs = cell.get("outputs", [])
        assert all(output["output_type"] != "error" for output in outputs), f"cell {number} failed"
        assert len(json.dumps(outputs)) < MOST_OUTPUT, f"cell {number}: save its figure smaller"
    assert path.stat().st_size < MOST_NOTEBOOK


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_path_of_a_machine_is_left(path):
    texts = [json.dumps(cell | {"attachments": None}) for cell in cells(path)]
    texts = [re.sub(r'"image/\w+": "[^"]+"', "", text) for text in texts]  # encoded pictures may look like anything
    assert not [match[0] for text in texts if (match := MACHINE_PATH.search(text))]
    assert not any(str(place) in text for text in texts for place in (REPO, Path(sys.prefix), Path.home()))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    prose = "\n".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "markdown")
    for link in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", prose):
        assert (path.parent / link.partition("#")[0]).exists(), link


def test_what_is_looked_for_is_found():
    assert MACHINE_PATH.search("File /home/someone/x.py") and not MACHINE_PATH.search(
        "figures/sample/ and data/results"
    )


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_cell_is_left_to_be_written(path):
    """A word in capitals that stands for a paragraph."""
    texts = ["".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "markdown"]
    assert all(text.strip() and not text.strip().isupper() for text in texts)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_cell_that_draws_shows_a_picture(path):
    """Or says why not; a figure may be drawn, stored, and yet not shown."""
    for cell in cells(path):
        if "show_figure(" in "".join(cell["source"]) and cell["cell_type"] == "code":
            shown = json.dumps(cell["outputs"])
            assert "image/png" in shown or "not run here" in shown, "".join(cell["source"])
