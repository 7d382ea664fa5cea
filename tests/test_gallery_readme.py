"""figures/README.md: up to date, every file in it there, and the status, commands and data from the stored results."""

import re

from bavit_utils.config import REPO, get_profile
from bavit_utils.gallery import ENTRIES
from bavit_utils.gallery.entry import Entry
from bavit_utils.gallery.readme import PAPERS, figures_readme, papers_beside_ours
from bavit_utils.results import NOT_RUN, load_rows

SAMPLE = get_profile("sample")


def test_it_is_up_to_date():
    stored = (REPO / "figures" / "README.md").read_text(encoding="utf-8")
    assert stored == figures_readme(), "run `make figures`"


def test_every_link_leads_somewhere_and_every_entry_is_listed():
    text = figures_readme()
    links = re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", text)
    for link in filter(None, (link for pair in links for link in pair)):
        assert (REPO / "figures" / link).exists(), link
    for entry in ENTRIES:
        assert (f"(sample/{entry.files()[0]})" in text) == entry.measured(SAMPLE)


def test_an_entry_answers_a_figure_or_table_of_the_paper_or_none():
    assert {entry.paper for entry in ENTRIES} <= {"", *PAPERS}


def test_provenance_is_that_of_the_stored_rows():
    row = papers_beside_ours(SAMPLE, ENTRIES).set_index("the paper's").filter(like="Table 2", axis=0).iloc[0]
    run = load_rows("table2-sample").attrs["provenance"]["yolos-bavit-small"]
    assert f"({run['commit']})" in row["commands that measured it"]
    assert f"sample/val, {run['n_images']} pictures" in row["data"]
    assert row["status"].startswith("measured") and NOT_RUN in row["status"]  # not on the paper's own data


def test_commands_are_told_once_without_seeds():
    row = papers_beside_ours(SAMPLE, ENTRIES).set_index("the paper's").filter(like="Table 1", axis=0).iloc[0]
    commands = re.findall(r"`([^`]+)`", row["commands that measured it"])
    assert len(commands) == len(set(commands)) and not any("--seed" in one or "--store" in one for one in commands)


def test_what_nothing_answers_was_not_run():
    table = papers_beside_ours(SAMPLE, [Entry("figure", "figure5", lambda profile: None, "04", "A caption.", "Fig. 5")])
    status = dict(zip(PAPERS, table["status"], strict=True))
    assert status["Fig. 5"] == "drawn by code"
    assert {status[paper] for paper in PAPERS if paper != "Fig. 5"} == {NOT_RUN}
