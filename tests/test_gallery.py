"""The catalogue of figures and tables: complete, shown by notebooks, drawn from what is stored, honest elsewhere."""

import json
import os
import re
import shutil
import subprocess

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest

from bavit_utils import accuracy, figures, finetuning_tables, gallery
from bavit_utils.cli import main
from bavit_utils.config import PROFILE_NAMES, REPO, get_profile
from bavit_utils.data.pictures import DataError
from bavit_utils.figures import markdown_table
from bavit_utils.gallery import bavit, detector, finetuning, selectors, sweep, threshold
from bavit_utils.gallery.entry import Entry
from bavit_utils.reproduce import notebook_paths
from bavit_utils.results import NOT_RUN, load_rows

matplotlib.use("Agg")
SAMPLE, STORED = get_profile("sample"), REPO / "figures" / "sample"
FROM_RESULTS = [e for e in gallery.ENTRIES if e.results and e.name not in ("padding", "claims")]
BY_FORMULA = ("cost", "cost-claims", "equation4", "finetuning-claims", "scale", "table2-tokens")
QUICK_TABLES = [
    e
    for e in gallery.ENTRIES
    if e.kind == "table" and (e in FROM_RESULTS or e.name in BY_FORMULA) and e.measured(SAMPLE)
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BAVIT_FIGURES_DIR", str(tmp_path))
    figures.use_style()
    yield tmp_path
    plt.close("all")


def label(entry):
    return f"{entry.kind}-{entry.name}"


def test_every_stored_file_is_in_the_and_the_other_way_round():
    named = [file for entry in gallery.ENTRIES for file in entry.files()]
    assert len(named) == len(set(named))
    stored = {path.name for path in STORED.iterdir()}
    assert stored <= set(named)
    assert {file for entry in gallery.ENTRIES if entry.measured(SAMPLE) for file in entry.files()} <= stored


@pytest.mark.parametrize("entry", gallery.ENTRIES, ids=label)
def test_an_entry_has_a_caption_and_its_notebook_shows_it(entry):
    for name in PROFILE_NAMES:
        caption = entry.caption.format(p=get_profile(name))
        assert caption.endswith(".") and caption.count("{") == 0
    notebook = next(path for path in notebook_paths() if path.name.startswith(f"{entry.notebook}_"))
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    source = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert f'"{entry.name}"' in source or (entry.name.startswith("ablation-") and 'f"ablation-{what}"' in source)


@pytest.mark.parametrize("entry", QUICK_TABLES, ids=label)
def test_tables_come_out_as_they_are_stored(entry):
    stored = (STORED / f"{entry.name}.md").read_text(encoding="utf-8")
    assert stored == f"{entry.caption.format(p=SAMPLE)}\n\n{markdown_table(entry.draw(SAMPLE))}", "run `make figures`"


@pytest.mark.parametrize("entry", FROM_RESULTS, ids=label)
def test_what_is_not_stored_is_not_drawn(entry, monkeypatch, tmp_path):
    modules = (accuracy, finetuning_tables, bavit, detector, finetuning, sweep)
    for module in (*modules, selectors, threshold):
        monkeypatch.setattr(module, "load_rows", lambda name, **where: load_rows("nothing", **where))
    drawn = entry.draw(SAMPLE)
    assert drawn is None or NOT_RUN in (str(drawn) if entry.kind == "table" else _texts(drawn))


def _texts(fig) -> str:
    return " ".join(text.get_text() for ax in fig.axes for text in ax.texts)


def test_a_figure_that_was_not_run_says_so_in_a_notebook(monkeypatch, capsys):
    entry = Entry("figure", "later", lambda profile: None, "01", "A caption.")
    monkeypatch.setattr(gallery, "_BY_NAME", {("figure", "later"): entry, ("table", "later"): entry})
    gallery.show_figure("later", SAMPLE)
    assert capsys.readouterr().out == f"later: {NOT_RUN}\n"
    assert gallery.show_table("later", SAMPLE).to_numpy().tolist() == [[NOT_RUN]]


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match="no figure 'tabel2': choose one of .*table2-time"):
        gallery.show_figure("tabel2", SAMPLE)


def test_a_table_is_stored_with_its_caption_and_shown(folder):
    shown = gallery.show_table("cost", get_profile("voc-512"))
    assert shown.iloc[0, 0] == "profile voc"
    stored = (folder / "voc" / "cost.md").read_text(encoding="utf-8")
    assert stored.startswith("Parameters and multiply-adds, by formula.\n\n")


def missing(profile):
    raise DataError("voc2007 is not there: run `bavit download voc2007`")


def test_missing_pictures_stop_nothing_else(monkeypatch, folder):
    entries = (
        Entry("table", "one", missing, "01", "A caption."),
        Entry("figure", "other", missing, "01", "A caption."),
        Entry("figure", "later", lambda profile: None, "01", "A caption."),
        Entry("figure", "ours", missing, "01", "Pictures are the sample profile's alone.", pictures=True),
        Entry("table", "numbers", lambda profile: pd.DataFrame({"n": [1]}), "01", "Numbers of {p.name}."),
    )
    monkeypatch.setattr(gallery, "ENTRIES", entries)
    assert gallery.draw_all(get_profile("voc-512")) == [
        "not drawn: one, other: pictures are missing. voc2007 is not there: run `bavit download voc2007`",
        f"not drawn: later: {NOT_RUN}",
    ]
    assert (folder / "voc" / "numbers.md").read_text().startswith("Numbers of voc.")


def test_stored_latex_is_balanced_and_reads_as_ascii():
    paths = sorted(STORED.glob("*.tex"))
    assert len(paths) >= sum(entry.kind == "table" for entry in gallery.ENTRIES if entry.measured(SAMPLE))
    for path in paths:
        text = path.read_text(encoding="utf-8")
        bare = re.sub(r"\\[&%$#_{}\\]|\$[^$]*\$", "", text)  # without what is escaped, and mathematics
        assert text.isascii() and bare.count("{") == bare.count("}"), path.name
        assert not re.search(r"[$%#~^_]", re.sub(r"\\label{.*}", "", bare)), path.name
        columns = re.search(r"\\begin{tabular}{(.*)}", text).group(1)
        wide = len(re.sub(r"p{[^}]*}", "p", columns))
        rows = [line for line in re.sub(r"\\&", "", text).splitlines() if line.endswith(r"\\")]
        assert {line.count("&") for line in rows} == {wide - 1}, path.name


def test_make_figures_draws_with_the_profile():
    dry = ["make", "--dry-run", "figures", "PROFILE=voc"]
    said = subprocess.run(dry, cwd=REPO, capture_output=True, text=True, check=True).stdout
    assert "bavit figures --profile voc" in said


@pytest.mark.slow
def test_drawing_all_anew_changes_no_stored_file(folder, capsys):
    """Over a copy of the stored files, by the tolerances of `figures`; the vectors are taken away and come back."""
    shutil.copytree(STORED, folder / "sample")
    kept = [path for path in (folder / "sample").iterdir() if path.suffix != ".svg"]
    for path in (folder / "sample").glob("*.svg"):
        path.unlink()
    for path in kept:
        os.utime(path, ns=(10**18, 10**18))
    assert main(["figures", "--profile", "sample"]) == 0
    unmeasured = {entry.name for entry in gallery.ENTRIES if not entry.measured(SAMPLE)}
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not drawn")]
    assert all(set(line.split(": ")[1].split(", ")) <= unmeasured for line in told), told
    assert [path.name for path in kept if path.stat().st_mtime_ns != 10**18] == []
    assert {path.name for path in (folder / "sample").iterdir()} == {path.name for path in STORED.iterdir()}
    one, other = ((path / "README.md").read_text(encoding="utf-8") for path in (folder, REPO / "figures"))
    assert one == other
