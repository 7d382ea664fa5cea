"""What the fine-tuning's rows are told to mean: gains, the control's share, and nothing where nothing is stored."""

import numpy as np
import pandas as pd
import pytest
import torch

from bavit_utils import finetuning_tables as tables
from bavit_utils.config import get_profile
from bavit_utils.data.records import class_names, load_records
from bavit_utils.results import NOT_RUN, save_rows
from bavit_utils.yolos import PrunedYolos, create_yolos

SAMPLE = get_profile("sample")


def stored(**ap: tuple[float, float]) -> pd.DataFrame:
    """Rows as the sweep stores them: AP of each detector at 0 and 35 %."""
    return pd.DataFrame(
        {"detector": name.replace("_", "-"), "bavit": "bavit-small", "sparsity": s, "sparsity_reached": s, "AP": value,
         "AP_low": value - 0.02, "AP_high": value + 0.02, "fill_steps": 0, "resize": "nearest", "spared": 0.0}
        for name, values in ap.items() for s, value in zip((0.0, 0.35), values, strict=True))


ROWS = stored(yolos=(0.40, 0.36), yolos_f=(0.395, 0.40), yolos_control=(0.41, 0.37))


def test_the_control_explains_its_share():
    told = " ".join(tables.gain_sentences(ROWS))
    assert "as trained 36.0 AP, YOLOS-F 40.0 (+4.0), control 37.0 (+1.0)" in told
    assert "explains 25% of" in told
    assert "+0.0 from the dense detector" in told and "as long, -1.0" in told
    assert "YOLOS-F has 39.5 AP, the control 41.0" in told


@pytest.mark.parametrize("tuned, control, said", [
    (0.37, 0.38, "explains all of"), (0.37, 0.35, "explains none of"), (0.35, 0.38, "no gain for the control")])
def test_a_share_is_told_only_where_there_is_one(tuned, control, said):
    rows = stored(yolos=(0.40, 0.36), yolos_f=(0.39, tuned), yolos_control=(0.4, control))
    assert said in " ".join(tables.gain_sentences(rows))


@pytest.mark.parametrize("rows", [pd.DataFrame(), ROWS[ROWS["detector"] != "yolos-control"]])
def test_without_all_three_nothing_is_said(rows):
    (told,) = tables.gain_sentences(rows)
    assert NOT_RUN in told


def test_the_table_has_the_papers_numbers_beside_ours():
    table = tables.ap_table(ROWS).set_index("sparsity")
    assert table.loc["35%"].tolist() == pytest.approx([24.4, 26.6, 36.0, 40.0, 37.0])
    assert np.isnan(table.loc["0%", "paper, YOLOS-F"]) and table.loc["0%", "paper, as trained"] == pytest.approx(28.8)
    assert table.loc["46%", ["as trained", "YOLOS-F", "control"]].isna().all()
    assert (tables.ap_table(pd.DataFrame())[["as trained", "YOLOS-F", "control"]] == NOT_RUN).all(axis=None)


def test_rows_are_the_plain_ones(monkeypatch, tmp_path):
    variants = pd.concat([ROWS, ROWS.assign(spared=0.25), ROWS.assign(resize="any"), ROWS.assign(bavit="random")])
    save_rows("table2-sample", "run", variants.to_dict("records"), {}, tmp_path)
    load = tables.load_rows
    monkeypatch.setattr(tables, "load_rows", lambda name, **where: load(name, tmp_path, **where))
    assert len(tables.finetuning_rows(SAMPLE)) == len(ROWS)
    monkeypatch.setattr(tables, "load_rows", lambda name, **where: load("none", tmp_path, **where))
    assert tables.finetuning_rows(SAMPLE).empty


def test_a_sparsity_stored_twice_is_refused():
    with pytest.raises(ValueError, match="several stored rows"):
        tables.gain_sentences(pd.concat([ROWS, ROWS]))


def test_the_figure_draws_the_three_and_the_papers_row():
    left, right = tables.finetuning_figure(ROWS).axes
    labels = ["as trained", "YOLOS-F", "control"]
    assert left.get_legend_handles_labels()[1] == labels and right.get_legend_handles_labels()[1] == labels[:2]
    assert left.lines[1].get_ydata() == pytest.approx([39.5, 40.0])
    assert right.lines[1].get_ydata() == pytest.approx([26.6])


def test_live_rows_and_paired_differences():
    torch.manual_seed(0)
    records = load_records(*SAMPLE.detector_eval, limit=3)
    shape = class_names("sample"), *SAMPLE.detector_shape.values()
    detectors = {name: PrunedYolos(create_yolos(*shape)).eval() for name in tables.DETECTORS}
    detectors["yolos-control"] = detectors["yolos"]
    maps = torch.rand(3, *SAMPLE.bavit_grid)
    rows, table = tables.compare_live(SAMPLE, records, [record.image() for record in records], maps, detectors)
    assert [(row["detector"], row["sparsity"]) for row in rows] == [(n, s) for s in (0.0, 0.35) for n in tables.DETECTORS]
    same = table[(table["detector"] == "control") & (table["against"] == "as trained")]
    assert list(same["the interval of the difference"]) == ["holds zero"] * 2 and len(table) == 6
