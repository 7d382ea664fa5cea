"""Paper beside ours: from stored rows, absent ones said so; and the README's copy of it."""

import pytest

from bavit_utils import accuracy, report
from bavit_utils.config import REPO, get_profile
from bavit_utils.paper import PAPER
from bavit_utils.report import paper_beside_ours, readme_with_results
from bavit_utils.results import NOT_RUN
from bavit_utils.sweep import PLAIN


def test_rows_that_were_not_run_say_so(monkeypatch):
    load = report.load_rows
    for module in (report, accuracy):
        monkeypatch.setattr(module, "load_rows", lambda name, **where: load("nothing", **where))
    table = paper_beside_ours(get_profile("voc-512")).set_index("quantity")
    assert set(table.ours["token accuracy, bavit-small"]) == {NOT_RUN}
    assert table.ours["dense detector"] == NOT_RUN
    assert set(table.paper["token accuracy, bavit-small"]) == {"75.9 %"}
    assert table.ours["parameters of BAViT-small"] == "1.15 M"
    assert table.status["dense detector"] == NOT_RUN and table.status["parameters of BAViT-small"] == "computed"


def test_what_was_run_comes_from_the_stored_rows():
    table = paper_beside_ours(get_profile("sample"))
    rows = report.load_rows("table2-sample", detector="yolos", bavit="bavit-small", sparsity=0.35, **PLAIN)
    changes = table[table.quantity == "change in AP at 35% sparsity"]
    ours = changes.ours.iloc[0]
    assert len(changes) == 3 and len(rows) == 1  # the sample's, and those of photographs at half and full scale
    assert f"bavit-small {100 * rows.iloc[0].delta_AP:+.1f} [" in ours and "oracle-mask" in ours and "random" in ours
    drop = next(row["AP"] for row in PAPER.table2 if row["sparsity"] == 0.35) - PAPER.base_AP
    assert set(changes.paper) == {f"{100 * drop:+.1f}"}


def test_who_chooses_stands_beside_bavit_with_what_it_costs():
    table = paper_beside_ours(get_profile("sample"))
    (ours,) = table.ours[table.quantity.str.startswith("AP by who") & table["measured on"].str.startswith("sample")]
    rows = report.load_rows("selectors-sample", seed=0)
    for name, shown in (("bavit-small", "bavit-small"), ("tome", "tome"), ("resolution-224", "no pruning, but 224 px")):
        row = rows[(rows.selector == name) & ((rows.budget == 0.35) | rows.budget.isna())].iloc[0]
        assert f"{shown} {100 * row.AP:.1f} (cost {row.share:.2f})" in ours


def test_the_readmes_table_is_up_to_date():
    text = (REPO / "README.md").read_text(encoding="utf-8")
    assert text == readme_with_results(text), "run `bavit readme`"


def test_every_headline_of_the_readme_is_a_row_that_was_run():
    table = paper_beside_ours(get_profile("sample"))
    for quantity, where in report._HEADLINES:
        rows = table[table.quantity.str.startswith(quantity) & table["measured on"].str.startswith(where)]
        assert len(rows) and NOT_RUN not in set(rows.status), (quantity, where)


def test_a_readme_without_marks_is_refused():
    with pytest.raises(ValueError, match="results:begin"):
        readme_with_results("# no marks")


def test_speed_is_that_of_the_sparsity_nearest_to_the_papers():
    table = paper_beside_ours(get_profile("sample"))
    speeds = table[table.quantity == "speed, BAViT included"]
    stored = report.load_rows("throughput-cpu", profile=["sample", "voc"])
    assert len(speeds) == len(stored.groupby(["profile", "batch"]))
    for sparsity in speeds["measured on"].str.extract(r"([\d.]+) % sparsity")[0]:
        assert 32 < float(sparsity) < 38
