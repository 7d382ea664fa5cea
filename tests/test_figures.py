"""figures: files on disk that stay as they are, tables in Markdown and LaTeX, and what is laid over pictures."""

import json
import os

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from bavit_utils import figures
from bavit_utils.config import get_profile
from bavit_utils.figures import save, save_figure
from bavit_utils.pages.tables import save_table, shown_interval

matplotlib.use("Agg")
SAMPLE = get_profile("sample")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BAVIT_FIGURES_DIR", str(tmp_path))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    figures.use_style()
    yield tmp_path
    plt.close("all")


@pytest.fixture
def image():
    return np.full((60, 90, 3), 100, dtype=np.uint8)


def line(height: float = 1.0):
    fig, ax = plt.subplots()
    ax.plot([0, 1], [0, height])
    ax.set(xlabel="x", ylim=(0, 2))
    return fig


def age(path):
    """Make a file old, so that any later write shows; returns its new time."""
    os.utime(path, ns=(10**18, 10**18))
    return path.stat().st_mtime_ns


def test_the_same_figure_gives_the_same_bytes(folder):
    first = save_figure(line(), "one", SAMPLE)
    second = save_figure(line(), "two", SAMPLE)
    assert first.read_bytes() == second.read_bytes()
    vector = first.with_suffix(".svg").read_text()
    assert vector == second.with_suffix(".svg").read_text()
    assert "<dc:date>" not in vector and "Matplotlib v" not in vector
    assert not Image.open(first).text and Image.open(first).mode == "P"  # a third of the size


def test_saving_leaves_the_layout_as_it_was(folder):
    fig = plt.figure(layout="none")
    fig.add_axes((0, 0, 1, 1))
    save_figure(fig, "free", SAMPLE)
    assert fig.get_layout_engine() is None
    constrained = line()
    save_figure(constrained, "constrained", SAMPLE)
    assert constrained.get_layout_engine() is not None


@pytest.mark.parametrize(("height", "written"), [(1.0, False), (1.1, True)])
def test_only_a_figure_that_looks_different_is_written(folder, height, written):
    path = save_figure(line(), "line", SAMPLE)
    pixels = np.array(Image.open(path).convert("RGB"))
    pixels[:5, :5] -= 60  # another processor's rounding
    Image.fromarray(pixels).save(path)
    files = path, path.with_suffix(".svg")
    times = [age(file) for file in files]
    save_figure(line(height), "line", SAMPLE)
    assert [file.stat().st_mtime_ns != then for file, then in zip(files, times, strict=True)] == [written] * 2


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n broken"])
def test_a_damaged_figure_is_written_anew(folder, content):
    path = save_figure(line(), "line", SAMPLE)
    whole = path.read_bytes()
    path.write_bytes(content)
    save_figure(line(), "line", SAMPLE)
    assert path.read_bytes() == whole


def overlays(pictures, keeps):
    fig, axes = plt.subplots(1, len(pictures))
    for ax, picture, keep in zip(axes, pictures, keeps, strict=True):
        figures.overlay(ax, picture, keep, style="grey")
    return fig


def test_one_turned_patch_leaves_a_picture_figure_untouched_and_many_do_not(folder):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (96, 96, 3), dtype=np.uint8) for _ in range(6)]
    keeps = [rng.random((12, 12)) < 0.5 for _ in range(6)]
    path = save_figure(overlays(pictures, keeps), "scenes", SAMPLE, shows_pictures=True)
    age(path)
    keeps[2][5, 5] ^= True
    save_figure(overlays(pictures, keeps), "scenes", SAMPLE, shows_pictures=True)
    assert path.stat().st_mtime_ns == 10**18
    keeps[2] = ~keeps[2]
    save_figure(overlays(pictures, keeps), "scenes", SAMPLE, shows_pictures=True)
    assert path.stat().st_mtime_ns != 10**18


FRAME = pd.DataFrame(
    {
        "model": ["bavit-small", "a|b"],
        "accuracy": [0.75931, None],
        "tokens": [12288, None],
        "ours": [True, False],
        "text": ["not run here", 0.5],
    }
)


def test_tables_are_markdown_latex_and_csv(folder):
    shown = save_table(FRAME, "table_1", SAMPLE, "50 % & more: a_b #1.")
    assert (folder / "sample" / "table_1.md").read_text() == (
        "50 % & more: a_b #1.\n\n"
        "| model | accuracy | tokens | ours | text |\n"
        "| :-- | --: | --: | --: | :-- |\n"
        "| bavit-small | 0.759 | 12,288 | yes | not run here |\n"
        "| a\\|b | – | – | no | 0.500 |\n"
    )
    assert shown.iloc[1].tolist() == ["a|b", "–", "–", "no", "0.500"]
    assert pd.read_csv(folder / "sample" / "table_1.csv").accuracy[0] == 0.75931
    text = (folder / "sample" / "table_1.tex").read_text()
    assert r"\caption{50 \% \& more: a\_b \#1.}" in text and r"\label{tab:table_1}" in text
    assert r"\begin{tabular}{lrrrl}" in text
    assert r"bavit-small & 0.759 & 12,288 & yes & not run here \\" in text


def test_what_a_notebook_saves_is_noted(folder, monkeypatch):
    monkeypatch.setenv("BAVIT_PROFILE", "sample")
    monkeypatch.setenv("JPY_SESSION_NAME", "somewhere/01_lines.ipynb")
    save(line(), "line", "Its caption of yesterday.")
    monkeypatch.delenv("JPY_SESSION_NAME")  # where nobody says whose the kernel is
    save(line(), "line", "A line.", paper="Fig. 9", results=["table1"])
    shown = save(FRAME, "table", "A table.")
    save(line(), "scene", "A scene.", shows="sample")
    assert shown.iloc[0].tolist()[0] == "bavit-small"
    index = json.loads((folder / "sample" / "index.json").read_text())
    assert list(index) == ["line (figure)", "scene (figure)", "table (table)"]
    assert index["line (figure)"] == {
        "name": "line",
        "kind": "figure",
        "caption": "A line.",
        "paper": "Fig. 9",
        "results": ["table1"],
        "shows": "",
        "notebook": "01_lines",
    }
    assert index["table (table)"]["notebook"] == ""
    assert sorted(path.name for path in (folder / "sample").iterdir()) == [
        "index.json",
        "line.png",
        "line.svg",
        "scene.png",
        "table.csv",
        "table.md",
        "table.tex",
    ]


def test_pictures_of_others_are_not_stored(folder, monkeypatch):
    monkeypatch.setenv("BAVIT_PROFILE", "voc")
    save(line(), "figure4", "VOC's pictures.", shows="voc2007")
    assert not list(folder.rglob("*.*"))
    save(line(), "figure4", "Bundled photographs.", shows="photos")
    assert [path.name for path in folder.rglob("*.png")] == ["figure4.png"]


def scenes(*heights: int) -> list[Image.Image]:
    """A white bar of each height on black."""
    rows = np.arange(64)[:, None, None]
    return [
        Image.fromarray(np.where(rows < height, np.uint8(255), np.uint8(0)).repeat(96, 1).repeat(3, 2))
        for height in heights
    ]


def test_an_animation_holds_all_frames_and_is_written_when_it_changes(folder, monkeypatch):
    monkeypatch.setenv("BAVIT_PROFILE", "sample")
    path = folder / "sample" / "rising.gif"
    save(scenes(10, 20, 30), "rising", "A bar rises.", shows="photos")
    with Image.open(path) as stored:
        assert (stored.n_frames, stored.size, stored.info["loop"]) == (3, (96, 64), 0)
    assert json.loads((path.parent / "index.json").read_text())["rising (animation)"]["caption"] == "A bar rises."
    age(path)
    save(scenes(10, 20, 30), "rising", "A bar rises.", shows="photos")
    assert path.stat().st_mtime_ns == 10**18
    for others in (scenes(10, 20, 31), scenes(10, 20)):
        age(path)
        save(others, "rising", "A bar rises.", shows="photos")
        assert path.stat().st_mtime_ns != 10**18
    save(scenes(1, 2), "others", "VOC's.", shows="voc2007")
    assert not path.with_name("others.gif").exists()


@pytest.mark.parametrize(
    ("column", "value", "written"),
    [("accuracy", 0.75931 + 1e-8, False), ("accuracy", 0.7594, True), ("model", "bavit-large", True)],
)
def test_a_table_is_written_when_its_content_changes(folder, column, value, written):
    save_table(FRAME, "table", SAMPLE, "Caption.")
    paths = [folder / "sample" / f"table.{suffix}" for suffix in ("md", "csv", "tex")]
    times = [age(path) for path in paths]
    save_table(FRAME.assign(**{column: [value, FRAME[column][1]]}), "table", SAMPLE, "Caption.")
    assert [path.stat().st_mtime_ns != then for path, then in zip(paths, times, strict=True)] == [written] * 3


def test_a_new_caption_or_a_lost_file_is_written(folder):
    save_table(FRAME, "table", SAMPLE, "200 pictures.")
    save_table(FRAME, "table", SAMPLE, "206 pictures.")
    assert (folder / "sample" / "table.md").read_text().startswith("206 pictures.")
    assert r"\caption{206 pictures.}" in (folder / "sample" / "table.tex").read_text()
    for suffix in ("csv", "tex"):
        (folder / "sample" / f"table.{suffix}").unlink()
        save_table(FRAME, "table", SAMPLE, "206 pictures.")
        assert (folder / "sample" / f"table.{suffix}").exists()


def painted(ax, row: int, col: int):
    """The colour RGBA that the grid laid last over a picture has in one cell."""
    return ax.images[-1].get_array()[row, col]


def test_overlay_stretches_the_grid_over_the_picture(image):
    keep = np.array([[1, 0, -100], [0, 1, 0]])
    _, axes = plt.subplots(1, 3)
    for ax, style in zip(axes, ("red", "grey", "white"), strict=True):
        figures.overlay(ax, image, keep, style)
        assert ax.images[-1].get_extent() == [0, 90, 60, 0]
        assert painted(ax, 0, 2)[3] == 0  # nothing is known about it
        assert painted(ax, 0, 1)[3] > 0.5
    np.testing.assert_allclose(painted(axes[0], 1, 1)[:3], to_rgb(figures.FG_COLOUR))
    np.testing.assert_allclose(painted(axes[2], 0, 1), 1)
    assert painted(axes[1], 0, 0)[3] == painted(axes[2], 0, 0)[3] == 0
    corners = [path.get_extents() for path in axes[0].collections[-1].get_paths()]  # outlines of the foreground
    assert [(c.x0, c.y0, c.x1, c.y1) for c in corners] == [(0, 0, 30, 30), (30, 30, 60, 60)]
    with pytest.raises(ValueError, match="blue"):
        figures.overlay(axes[0], image, keep, "blue")


def test_an_interval_is_shown_in_per_cent_and_a_difference_in_points():
    assert shown_interval(0.98, 0.9744, 0.9851) == "98.0 [97.4, 98.5]"
    assert shown_interval(-0.028, -0.0371, 0.004, "+") == "-2.8 [-3.7, +0.4]"
    assert shown_interval(-0.0001, -0.003, 0.003, "+") == "+0.0 [-0.3, +0.3]"


def test_of_overlapping_boxes_of_a_class_the_best_is_drawn_and_names_that_would_cover_each_other_are_left_out(image):
    boxes = torch.tensor([[0, 0, 20, 20], [1, 0, 21, 20], [0, 1, 20, 21], [60, 40, 80, 50]]).float()
    found = {"boxes": boxes, "scores": torch.tensor([0.8, 0.9, 0.7, 0.4]), "labels": torch.tensor([0, 0, 1, 0])}
    assert figures.to_draw(found, 0.5).tolist() == [1, 2] and figures.to_draw(found, 0.3).tolist() == [1, 2, 3]
    _, ax = plt.subplots()
    figures.show_picture(ax, image)
    figures.draw_boxes(ax, boxes[[1, 2, 3]], ["cat", "dog", "cow"])
    assert [text.get_text() for text in ax.texts] == ["cat", "cow"] and len(ax.patches) == 3
