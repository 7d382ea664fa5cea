"""Paper beside ours: from stored rows, absent ones said so; and the README's copy of it."""

import pytest

from bavit_utils import accuracy, report
from bavit_utils.config import REPO, get_profile
from bavit_utils.report import paper_beside_ours, readme_with_results
from bavit_utils.results import NOT_RUN, PAPER


def test_rows_that_were_not_run_say_so(monkeypatch):
    load = report.load_rows
    for module in (report, accuracy):
        monkeypatch.setattr(module, "load_rows", lambda name, **where: load("nothing", **where))
    table = paper_beside_ours(get_profile("voc")).set_index("quantity")
    assert set(table.ours["token accuracy, bavit-small"]) == {NOT_RUN}
    assert table.ours["dense detector"] == NOT_RUN
    assert set(table.paper["token accuracy, bavit-small"]) == {"75.9 %"}
    assert table.ours["parameters of BAViT-small"] == "1.15 M"


def test_what_was_run_comes_from_the_stored_rows():
    table = paper_beside_ours(get_profile("sample"))
    rows = report.load_rows("table2-sample", bavit="bavit-small", sparsity=0.35, fill_steps=0, resize="nearest")
    ours = table.set_index("quantity").ours["change in AP at 35% sparsity"]
    assert f"bavit-small {100 * rows.iloc[0].delta_AP:+.1f} [" in ours and "oracle-mask" in ours and "random" in ours
    drop = next(row["AP"] for row in PAPER.table2 if row["sparsity"] == 0.35) - PAPER.base_AP
    assert f"{100 * drop:+.1f}" == table.set_index("quantity").paper["change in AP at 35% sparsity"]


def test_the_readmes_table_is_up_to_date():
    text = (REPO / "README.md").read_text(encoding="utf-8")
    assert text == readme_with_results(text), "run `bavit readme`"


def test_a_readme_without_marks_is_refused():
    with pytest.raises(ValueError, match="results:begin"):
        readme_with_results("# no marks")
