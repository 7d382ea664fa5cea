"""Table 2 as measured holds what is stored, and says what isn't."""

import pandas as pd
import pytest
from test_speed_plots import ROWS

from bavit_utils.results import NOT_RUN
from bavit_utils.sweep_tables import measured_table, ways_table


@pytest.fixture
def rows() -> pd.DataFrame:
    row = {
        "AP": 0.4, "AP50": 0.7, "APs": 0.1, "APm": 0.2, "APl": None, "delta_AP": -0.02, "delta_low": -0.03,
        "delta_high": -0.01, "fg_recall": 0.9, "tokens": 1000.0, "tokens_with_prefix": 1156.0, "gmacs": 0.5,
        "threshold": 0.9, "bavit": "bavit-small", "resize": "nearest", "fill_steps": 0, "spared": 0.0,
    }  # fmt: skip
    return pd.DataFrame([row | {"sparsity": s, "sparsity_reached": s + 0.01} for s in (0.29, 0.35, 0.46)])


def test_every_column_stands_beside_the_measured_times(rows):
    table = measured_table(rows, ROWS)
    assert table["sparsity, %"].tolist() == pytest.approx([47, 36, 30])
    assert table["change in AP"][0] == "-2.0 [-3.0, -1.0]"
    assert table["x dense, batch 8"][0] == pytest.approx(100 / (100 / 1.1 + (50 - 100 / 1.1) * 0.37 / 0.4))
    assert table["APl"].isna().all() and "with class and detection tokens" in table


def test_without_times_the_column_says_so(rows):
    assert set(measured_table(rows, ROWS[:0])["x dense"]) == {NOT_RUN}


def test_the_ways_stand_at_equal_sparsity_and_absent_ones_say_so(rows):
    other = rows.assign(resize="any", delta_AP=-0.05)
    table = ways_table(pd.concat([rows, other])).set_index(["BAViT", "way"])
    small = table.loc["bavit-small"]
    assert small["change at 35%"].tolist() == ["-2.0", NOT_RUN, "-5.0", NOT_RUN, NOT_RUN]
    assert small["FG kept at 46%, %"].iloc[0] == "90.0"
    assert (table.loc["bavit-large"] == NOT_RUN).all(axis=None) and len(ways_table(rows[:0])) == 6
