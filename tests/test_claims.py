"""The claims as a whole: numbered, settled without an exception, shown; and what they say where nothing is stored."""

import re
import shutil

import pytest
import torch

from bavit_utils import config
from bavit_utils.claims import CLAIMS, GROUPS, about_bavit, base, claims_table, filter_claims
from bavit_utils.claims.base import STATUSES, Claim, NotRun, Outcome, measured_status, of_each_data
from bavit_utils.claims.view import ClaimsBrowser, claims_html, counts, counts_figure
from bavit_utils.config import RESULTS, get_profile
from bavit_utils.results import NOT_RUN

SAMPLE = get_profile("sample")
N_ERRATA = 39
ALSO_WITHOUT_ROWS = {25}  # arithmetic decides it; the stored rows only stand beside it


@pytest.fixture(scope="module")
def table():
    return claims_table(SAMPLE)


def test_errata_and_positive_claims_are_numbered_in_order():
    assert [claim.number for claim in CLAIMS] == list(range(1, len(CLAIMS) + 1))
    errata = [name for name in GROUPS if not name.startswith("What ")]
    assert sum(len(GROUPS[name]) for name in errata) == N_ERRATA and len(CLAIMS) > N_ERRATA + 10
    assert len({claim.check for claim in CLAIMS}) == len({claim.says for claim in CLAIMS}) == len(CLAIMS)


def test_every_check_gives_a_status_and_a_sentence(table):
    assert list(table.columns) == ["no.", "where", "the paper says", "check", "what came out", "status"]
    assert set(table["status"]) <= set(STATUSES)
    for column in ("where", "the paper says", "check", "what came out"):
        assert table[column].str.len().between(3, 420).all(), column
    finished = table["what came out"].str.endswith(".")
    assert finished.all(), table[~finished]


def test_no_path_of_a_machine_and_no_undefined_number_is_shown(table):
    shown = "\n".join(table.astype(str).agg(" ".join, axis=1))
    assert not re.search(r"(?:^|[\s('\"])(?:~|[A-Za-z]:)?[/\\]\w+", shown)
    assert not re.search(r"\bnan\b|\binf\b|None", shown)


def test_without_stored_rows_measured_claims_are_not_run_and_the_others_stay(table, tmp_path, monkeypatch):
    monkeypatch.setattr(
        about_bavit, "foreground_maps", lambda bavit, images: torch.zeros(len(images), *SAMPLE.bavit_grid)
    )
    monkeypatch.setattr(config, "RESULTS", tmp_path / "nowhere")
    empty = claims_table(SAMPLE)
    measured = table["check"].str.contains("stored") & ~table["no."].isin(ALSO_WITHOUT_ROWS)
    assert measured.sum() > 20 and (empty[measured]["status"] == NOT_RUN).all()
    assert (empty[~measured]["status"] == table[~measured]["status"]).all()
    assert empty["what came out"].str.len().gt(0).all()


@pytest.mark.parametrize("name", ["voc", "coco"])
def test_profiles_without_rows_of_their_own_say_so(name, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "RESULTS", tmp_path)
    shutil.copy(RESULTS / "table2-sample.json", tmp_path)
    assert CLAIMS[52].outcome(SAMPLE).status != NOT_RUN
    settled = {
        claim.number: claim.outcome(get_profile(name)).status for claim in CLAIMS if claim.number in (29, 53, 57)
    }
    assert set(settled.values()) == {NOT_RUN}


def test_a_missing_measurement_becomes_a_status_and_names_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "RESULTS", tmp_path)

    def check(profile):
        """Reads
        rows."""
        return Outcome("reproduced", str(base.stored("table9", model="bavit-small")))

    claim = Claim(1, "nowhere", "something", check)
    assert claim.outcome(SAMPLE) == Outcome(NOT_RUN, "Not here: rows of table9.json (bavit-small).")
    assert claim.how == "Reads rows."
    with pytest.raises(NotRun, match=r"table9-sample\.json, .*table9-voc\.json"):
        of_each_data(SAMPLE, lambda name: base.stored(f"table9-{name}"))


@pytest.mark.parametrize(
    ("holds", "status"),
    [
        ({"coco": True}, "reproduced"),
        ({"sample": True, "voc": True}, "partly"),
        ({"sample": True, "coco": False}, "partly"),
        ({"coco": False}, "not reproducible as stated"),
    ],
)
def test_a_claim_about_ap_is_reproduced_on_coco_alone(holds, status):
    assert measured_status(holds) == status


def test_filter_by_status_and_text(table):
    for status in STATUSES:
        assert set(filter_claims(table, status)["status"]) <= {status}
    assert sum(len(filter_claims(table, status)) for status in STATUSES) == len(table)
    found = filter_claims(table, text="eq. 4")
    assert {21, 23} <= set(found["no."]) and len(found) < len(table)
    assert not len(filter_claims(table, text="no claim holds this"))
    assert len(filter_claims(table, text="(")) < len(table)  # a plain text, not a pattern


def test_html_has_a_row_a_claim_under_the_groups_and_escapes(table):
    html = claims_html(table)
    assert html.count("<tr>") == 1 + len(table) + len(GROUPS)
    assert all(f">{name}<" in html for name in GROUPS)
    odd = table.iloc[:1].assign(**{"what came out": "a < b & <script>"})
    assert "a &lt; b &amp; &lt;script&gt;" in claims_html(odd) and claims_html(odd).count("<tr>") == 3
    assert "no claim" in claims_html(table.iloc[:0])


def test_counts_add_up_and_are_drawn(table):
    found = counts(table)
    assert found.loc["all", "all"] == len(table) and list(found.index) == [*GROUPS, "all"]
    assert (found[list(STATUSES)].sum(axis=1) == found["all"]).all()
    (ax,) = counts_figure(table).axes
    assert sum(bar.get_width() for bar in ax.patches) == len(table)


def test_the_browser_follows_its_controls(table):
    browser = ClaimsBrowser(table)
    assert browser.label.value == f"{len(table)} of {len(table)} claims"
    browser.status.value = NOT_RUN
    assert set(browser.shown["status"]) == {NOT_RUN} and "reproduced</td>" not in browser.rows.value
    browser.status.value, browser.text.value = None, "Memory"
    assert 55 in set(browser.shown["no."]) and len(browser.shown) < len(table)
    browser.text.value = "no claim holds this"
    assert browser.label.value.startswith("0 of") and "no claim" in browser.rows.value
