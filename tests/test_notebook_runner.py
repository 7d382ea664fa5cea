"""Running notebooks, and the form in which their outputs are stored."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from bavit_utils import notebook_runner
from bavit_utils.config import REPO, get_profile
from bavit_utils.notebook_runner import notebook_paths, run_notebooks

STORED = notebook_paths()


@pytest.fixture
def one_notebook(tmp_path, monkeypatch):
    def write(*cells: str):
        path = tmp_path / "01_one.ipynb"
        nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
        monkeypatch.setattr(notebook_runner, "notebook_paths", lambda: [path])
        return path

    return write


@pytest.mark.slow
def test_refresh_keeps_outputs_without_what_changes_from_run_to_run(one_notebook):
    path = one_notebook(
        "import sys, ipywidgets; print('seen'); print('bar', file=sys.stderr)", "ipywidgets.IntSlider()"
    )
    before = path.read_text()
    run_notebooks(get_profile("sample"))
    assert path.read_text() == before
    run_notebooks(get_profile("sample"), refresh=True)
    stored = nbformat.read(path, as_version=4)
    assert [output.text for output in stored.cells[0].outputs] == ["seen\n"]
    assert "application/vnd.jupyter.widget-view+json" not in stored.cells[1].outputs[0].data
    assert "IntSlider" in stored.cells[1].outputs[0].data["text/plain"]
    assert set(stored.metadata) == {"kernelspec", "language_info"}


@pytest.mark.slow
def test_a_failing_cell_names_its_notebook(one_notebook):
    one_notebook("raise ValueError('on purpose')")
    with pytest.raises(RuntimeError, match="01_one.ipynb failed on the sample profile(.|\n)*on purpose"):
        run_notebooks(get_profile("sample"))


def test_there_are_notebooks_in_order():
    assert [path.name[:2] for path in STORED] == [f"{i:02d}" for i in range(len(STORED))] and len(STORED) >= 6


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.name)
def test_stored_notebooks_are_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    text = json.dumps(
        [
            {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
            | {"text": output.get("text")}
            for output in outputs
        ]
    )
    assert str(REPO) not in text and "/home/" not in text and "/tmp/" not in text
    for cell in code:
        assert cell.source.count("\n") < 30
        assert set(cell.metadata.get("tags", [])) <= {"nbval-ignore-output"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["voc", "coco"])
def test_the_notebooks_run_on_real_pictures(name, real_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BAVIT_FIGURES_DIR", str(tmp_path))
    stored = {path: path.read_bytes() for path in STORED}
    run_notebooks(get_profile(name))
    said = capsys.readouterr().out
    assert all(f"{path.name} ... " in said for path in STORED)
    assert stored == {path: path.read_bytes() for path in STORED}
    assert list((tmp_path / name).glob("*.md")) and not list((tmp_path / name).glob("*.jpg"))
