"""The threshold explorer's pictures and its HTML."""

import io
from dataclasses import replace

import numpy as np
import torch
from PIL import Image, ImageColor

from bavit_utils.explorer import drawing
from bavit_utils.explorer.compute import Found, Numbers
from bavit_utils.figures import BLUE, FG_COLOUR, MISSED_COLOUR, ORANGE

GREY = np.full((400, 400, 3), 100, dtype=np.uint8)
LEFT = np.zeros((4, 4), dtype=bool)
LEFT[:, :2] = True


def pixels(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def near(colour, pixel, slack=12):
    return np.abs(np.array(ImageColor.getrgb(colour)) - pixel).max() <= slack


def test_a_canvas_keeps_the_aspect_within_reason():
    for size, expected in (((50, 100), (200, 400)), ((300, 300), (400, 400)), ((2, 900), (133, 400))):
        assert drawing.canvas(np.zeros((*size, 3), dtype=np.uint8)).shape == (*expected, 3)


def test_the_map_goes_from_dark_to_bright_and_outlines_what_is_above():
    view = pixels(drawing.map_view(GREY, np.where(LEFT, 1.0, 0.0), LEFT))
    assert view[200, 100].sum() > view[200, 300].sum() + 200
    assert near(FG_COLOUR, view[200, 199], 60) and near(FG_COLOUR, view[1, 100], 60)


def test_pruned_is_faded_and_lost_foreground_is_marked():
    truth = np.zeros((4, 4), dtype=int)
    truth[1, 3] = truth[1, 0] = 1
    view = pixels(drawing.keep_view(GREY, LEFT, truth))
    assert np.abs(view[250, 100] - 100).max() < 4 and view[250, 350].min() > 215
    assert view[150, 350][0] > view[150, 350][2] + 80 and np.abs(view[150, 50] - 100).max() < 4
    assert pixels(drawing.keep_view(GREY, LEFT, None))[150, 350].min() > 215


def test_boxes_are_blue_in_both_runs_and_orange_in_one():
    found = Found(torch.tensor([[0.1, 0.3, 0.4, 0.6], [0.5, 0.3, 1.2, 0.6]]), ["cat", "a long name"], 1.0)
    view = pixels(drawing.boxes_view(GREY, None, found, [True, False]))
    assert near(BLUE, view[180, 41], 40) and near(ORANGE, view[180, 201], 40) and near(ORANGE, view[180, 398], 60)
    assert np.abs(view[180, 100] - 100).max() < 10
    nothing = Found(torch.zeros(0, 4), [], 1.0)
    assert pixels(drawing.boxes_view(GREY, LEFT, nothing, []))[180, 350].min() > 215


def test_names_are_whole_and_apart_where_boxes_lie_on_each_other_or_at_the_edge():
    boxes = [(120, 120, 280, 280), (124, 124, 284, 284), (120, 128, 280, 288), (360, 0, 399, 399), (0, 380, 30, 399)]
    taken = []
    for box in boxes:
        taken.append(drawing._free_place(box, (90, 20), (400, 400), taken))
    assert taken[0] == (120, 100, 210, 120)  # above its box's left corner, where there is room
    for i, (left, top, right, bottom) in enumerate(taken):
        assert left >= 0 and top >= 0 and right <= 400 and bottom <= 400 and (right - left, bottom - top) == (90, 20)
        assert not any(left < r and x < right and top < b and y < bottom for x, y, r, b in taken[:i])
    first = drawing._free_place(boxes[0], (90, 20), (400, 400), [])  # where there is no room, too
    assert drawing._free_place(boxes[0], (90, 20), (400, 400), [(0, 0, 400, 400)]) == first


def test_bar_and_legends_name_every_colour_and_the_truth_only_where_it_is_known():
    assert "left: 10.00%" in drawing.bar(0.9) and "left: 100.00%" in drawing.bar(0.0)
    assert drawing.bar(0.5).count("#") > 10
    assert MISSED_COLOUR in drawing.keep_legend(True) and MISSED_COLOUR not in drawing.keep_legend(False)
    assert all(text in drawing.boxes_legend("lost") for text in (BLUE, ORANGE, "lost"))


def test_tiles_show_dots_for_what_is_still_to_come_and_nothing_of_a_missing_detector():
    numbers = Numbers(192, 256, 0.5, 1440, 1536, 0.8, 1.0, 40.0)
    waiting, done = drawing.tiles(numbers), drawing.tiles(numbers, 25.0, 3, 4)
    assert waiting.count("…") == 3 and "…" not in done
    for text in (
        "25%",
        "192 of 256 kept",
        "50%",
        "1,440",
        "0.80 G",
        "32 ms",
        "25 ms",
        "1.60×",
        "<b>3</b>",
        "pruned: 4<",
    ):
        assert text in done
    assert "no object here" in drawing.tiles(replace(numbers, fg_recall=float("nan")))
    without = drawing.tiles(replace(numbers, fg_recall=None, dense_ms=None))
    assert "ms" not in without and "Boxes" not in without and "truth not known" in without


def test_what_is_said_is_escaped():
    assert drawing.sentences(["<b>", "two"]).endswith(">&lt;b&gt;<br>two</div>") and "&lt;" in drawing.caption("<")
