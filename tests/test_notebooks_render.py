"""The notebooks as a repository's page shows them: a title, pictures that are there, nothing it would refuse."""

import json
import re
import sys
from pathlib import Path

import pytest

from bavit_utils.config import REPO
from bavit_utils.pages.reproduce import notebook_paths

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
def test_outputs_are_small_enough_and_no_errors(path):
    for number, cell in enumerate(cells(path)):
        outputs = cell.get("outputs", [])
        assert all(output["output_type"] != "error" for output in outputs), f"cell {number} failed"
        assert len(json.dumps(outputs)) < MOST_OUTPUT, f"cell {number}: save its figure smaller"
    assert path.stat().st_size < MOST_NOTEBOOK


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_figure_is_shown_as_it_is_saved(path):
    for cell in cells(path):
        if "figures.save(fig" in "".join(cell["source"]):  # not in the cell before, without its labels
            assert any("image/png" in output.get("data", {}) for output in cell["outputs"]), cell["id"]


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
