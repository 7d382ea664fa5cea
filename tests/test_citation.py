"""CITATION.cff, by the rules of the Citation File Format 1.2.0 that it uses, and that the README says the same."""

import re

import pytest
import yaml

from bavit_utils.config import REPO

CITATION = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
PAPER = CITATION["preferred-citation"]
# The format's own lists, as far as they are used; it allows no other keys.
KEYS = {"cff-version", "message", "title", "type", "version", "license", "authors", "keywords", "preferred-citation"}
REFERENCE_KEYS = {"type", "title", "authors", "year", "month", "journal", "notes", "url", "identifiers"}


def test_it_has_what_the_format_asks_for_and_nothing_else():
    assert CITATION.keys() == KEYS and PAPER.keys() <= REFERENCE_KEYS
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software" and PAPER["type"] == "article"
    assert isinstance(PAPER["year"], int) and 1 <= PAPER["month"] <= 12 and PAPER["url"].startswith("https://")
    for identifier in PAPER["identifiers"]:
        assert identifier.keys() == {"type", "value", "description"}
        assert identifier["type"] in {"doi", "url", "swh", "other"}
    assert all(isinstance(word, str) for word in CITATION["keywords"])


@pytest.mark.parametrize("source", [CITATION, PAPER], ids=["repository", "paper"])
def test_authors_are_persons_or_named(source):
    assert source["title"] and source["authors"]
    for author in source["authors"]:
        assert author.keys() in ({"name"}, {"family-names", "given-names"}) and all(author.values())


def test_the_readme_and_the_project_say_the_same():
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    project = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    assert PAPER["title"] in readme and PAPER["url"] in readme
    assert all(f"{author['given-names']} {author['family-names']}" in readme for author in PAPER["authors"])
    assert re.search(rf'^version = "{CITATION["version"]}"$', project, re.MULTILINE)
    assert f"{CITATION['license']} License" in (REPO / "LICENSE").read_text(encoding="utf-8")
