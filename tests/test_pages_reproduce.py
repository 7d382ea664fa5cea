"""Running notebooks, the form in which their outputs are stored, and the page of what they saved."""

import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from bavit_utils import config
from bavit_utils.config import REPO, get_profile
from bavit_utils.pages import reproduce
from bavit_utils.pages.reproduce import figures_page, notebook_paths, run_notebooks
from bavit_utils.results import NOT_RUN, save_rows

SAMPLE = get_profile("sample")
STORED = notebook_paths()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a notebook of some cells into a repository of its own."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(config, "REPO", tmp_path)
    monkeypatch.setenv("BAVIT_FIGURES_DIR", str(tmp_path / "figures"))

    def write(name, *cells):
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
        return path

    return write


@pytest.mark.slow
def test_refresh_keeps_outputs_without_what_changes_from_run_to_run(write):
    path = write(
        "01_one", "import sys, ipywidgets; print('seen'); print('bar', file=sys.stderr)", "ipywidgets.IntSlider()"
    )
    before = path.read_text()
    run_notebooks(SAMPLE, [path])
    assert path.read_text() == before
    run_notebooks(SAMPLE, [path], refresh=True)
    stored = nbformat.read(path, as_version=4)
    assert [output.text for output in stored.cells[0].outputs] == ["seen\n"]
    assert "IntSlider" in stored.cells[1].outputs[0].data["text/plain"]


@pytest.mark.slow
def test_a_failing_cell_names_its_notebook(write):
    with pytest.raises(ValueError, match="01_one.ipynb failed on the sample profile(.|\n)*on purpose"):
        run_notebooks(SAMPLE, [write("01_one", "raise ValueError('on purpose')")])


def test_notebooks_are_chosen_by_number_and_run_in_order():
    numbers = [path.name[:2] for path in STORED]
    assert numbers == sorted(set(numbers)) and numbers[:9] == [f"{i:02d}" for i in range(9)]
    assert [path.name[:2] for path in notebook_paths(["06", "00"])] == ["00", "06"]
    with pytest.raises(ValueError, match="no notebook 6, 77: choose some of 00, 01"):
        notebook_paths(["6", "00", "77"])


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.name)
def test_stored_notebooks_are_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    kinds = {kind for output in outputs for kind in output.get("data", ())}
    assert kinds <= {"text/plain", "text/html", "text/markdown", "image/png", "image/jpeg", "image/svg+xml"}
    for cell in code:
        assert cell.source.count("\n") < 20  # it fits the eye
        assert set(cell.metadata.get("tags", [])) <= {"nbval-ignore-output"}


# ---- the page of figures and tables


def a_page(tmp_path, monkeypatch, entries, rows=None):
    """The sample world's page of index entries, whose files are there."""
    folder = tmp_path / "figures" / "sample"
    folder.mkdir(parents=True, exist_ok=True)
    blank = {"caption": "A caption.", "paper": "", "results": [], "shows": "", "kind": "figure", "notebook": "01_one"}
    entries = [blank | entry for entry in entries]
    for entry in entries:
        (folder / (entry["name"] + reproduce._SUFFIX[entry["kind"]])).touch()
    (folder / "index.json").write_text(json.dumps({str(i): entry for i, entry in enumerate(entries)}))
    load = reproduce.load_rows
    monkeypatch.setattr(reproduce, "load_rows", lambda name: load(name, tmp_path))
    for name, source in (rows or {}).items():
        for run, one in source.items():
            save_rows(name, run, [{"AP": 1}], one, tmp_path)
    return figures_page(SAMPLE)


def paper_row(page, paper):
    (line,) = [line for line in page.splitlines() if line.startswith(f"| **{paper}**")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_status_commands_and_data_of_the_stored_runs(write, tmp_path, monkeypatch):
    write("06_sweep")
    source = {"command": "bavit sweep --profile voc --seed 3 --store", "commit": "abc", "n_images": 800}
    runs = {"one": source | {"data": {"voc2007/test": "1", "voc2007/train, end": "2"}}}
    runs["two"] = runs["one"] | {"command": "bavit sweep --profile voc --seed 4 --store", "commit": "def"}
    entry = {"name": "table2", "paper": "Table 2", "results": ["table2-voc", "table2-coco"], "kind": "table"}
    entry["notebook"] = "06_sweep"
    page = a_page(tmp_path, monkeypatch, [entry], {"table2-voc": runs})
    assert paper_row(page, "Table 2")[1:] == [
        "[table2](sample/table2.md)", f"measured; table2-coco: {NOT_RUN}", "`bavit sweep --profile voc` (abc, def)",
        "VOC2007 re-split, 800 images",
    ]  # fmt: skip
    assert "- [table2](sample/table2.md): A caption.\n" in page and "## [06_sweep](../notebooks/06_sweep.ipynb)" in page


def test_what_was_drawn_shown_or_not_run_is_told_apart(write, tmp_path, monkeypatch):
    write("01_one")
    entries = [{"name": "figure5", "paper": "Fig. 5"}, {"name": "figure2", "paper": "Fig. 2", "shows": "photos"}]
    page = a_page(tmp_path, monkeypatch, entries)
    status = {paper: paper_row(page, paper)[2] for paper in reproduce.PAPERS}
    assert status.pop("Fig. 5") == "drawn or computed by code" and status.pop("Fig. 2") == "shown on bundled images"
    assert set(status.values()) == {NOT_RUN}


def test_what_no_notebook_here_saves_is_left_out_and_each_kind_has_its_file(write, tmp_path, monkeypatch):
    write("01_one"), write("06_sweep")
    entries = [{"name": "old", "notebook": "05_gone"}, {"name": "older", "notebook": ""}, {"name": "dial"}]
    entries += [{"name": "dial", "kind": "animation", "notebook": "06_sweep"}]
    page = a_page(tmp_path, monkeypatch, entries)
    assert re.findall(r"^## \[(\w+)\]|^- \[\w+\]\((.+)\)", page, re.MULTILINE) == [
        ("01_one", ""), ("", "sample/dial.png"), ("06_sweep", ""), ("", "sample/dial.gif"),
    ]  # fmt: skip
    index = tmp_path / "figures" / "sample" / "index.json"
    index.write_text(
        json.dumps(
            {key: {k: v for k, v in e.items() if k != "notebook"} for key, e in json.loads(index.read_text()).items()}
        )
    )
    assert "dial" not in figures_page(SAMPLE)  # as it was noted before notebooks were


@pytest.mark.slow
def test_a_run_forgets_what_its_notebook_saved_before_and_nothing_else(write, tmp_path, monkeypatch):
    write("06_sweep")
    path = write("01_one", "import matplotlib.pyplot as plt; from bavit_utils.figures import save",
                 "save(plt.figure(), 'new', 'A caption.')")  # fmt: skip
    a_page(tmp_path, monkeypatch, [{"name": "old"}, {"name": "other", "notebook": "06_sweep"}])
    run_notebooks(SAMPLE, [path])
    page = figures_page(SAMPLE)
    assert re.findall(r"^- \[(\w+)\]", page, re.MULTILINE) == ["new", "other"]


def test_another_profiles_page_lies_in_its_folder(write, tmp_path):
    path = reproduce.write_figures_page(get_profile("voc"))
    assert path == tmp_path / "figures" / "voc" / "README.md" and NOT_RUN in path.read_text()
    assert reproduce.write_figures_page(SAMPLE) == tmp_path / "figures" / "README.md"


def test_the_stored_page_is_up_to_date_and_its_links_lead_somewhere():
    text = (REPO / "figures" / "README.md").read_text(encoding="utf-8")
    assert text == figures_page(SAMPLE), "run `bavit readme`"
    links = [link for pair in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", text) for link in pair if link]
    assert all((REPO / "figures" / link).exists() for link in links)


def test_every_stored_figure_is_one_that_a_notebook_saves():
    folder = REPO / "figures" / "sample"
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    listed = {entry["name"] for entry in index.values()}
    assert {path.stem for path in folder.iterdir()} == listed | {"index"}
    shown = (REPO / "figures" / "README.md").read_text(encoding="utf-8")
    assert all(f"- [{name}](sample/" in shown for name in listed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["voc", "coco"])
def test_the_notebooks_run_on_real_pictures(name, real_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BAVIT_FIGURES_DIR", str(tmp_path))
    stored = {path: path.read_bytes() for path in STORED}
    run_notebooks(get_profile(name), STORED)
    said = capsys.readouterr().out
    assert all(f"{path.name} ... " in said for path in STORED)
    assert stored == {path: path.read_bytes() for path in STORED}
    assert list((tmp_path / name).glob("*.md")) and not list((tmp_path / name).glob("*.jpg"))
