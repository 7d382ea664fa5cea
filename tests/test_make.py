"""The make targets: that they exist, and that a set-up is made once."""

import re
import subprocess

import pytest

from bavit_utils.cli import _parser
from bavit_utils.config import REPO

TARGETS = ("reproduce", "test", "test-slow", "notebooks", "lab")


def dry_run(*words: str) -> str:
    return subprocess.run(["make", "--dry-run", *words], cwd=REPO, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_sets_up_first(target, tmp_path):
    commands = dry_run(target, f"VENV={tmp_path / 'venv'}")
    assert "-m venv" in commands and "--require-hashes -r requirements.lock" in commands
    assert commands.index("-m venv") < commands.rindex(str(tmp_path / "venv"))


def test_a_second_call_installs_nothing(tmp_path):
    (tmp_path / ".ready").touch()
    commands = dry_run("reproduce", f"VENV={tmp_path}", "--old-file=requirements.lock", "--old-file=pyproject.toml")
    assert "pip" not in commands and "bavit notebooks  --profile sample" in commands


def test_profile_and_notebooks_are_passed_on():
    assert "bavit notebooks  --profile voc\n" in dry_run("reproduce", "PROFILE=voc")
    assert "bavit notebooks 06 08 --profile sample\n" in dry_run("reproduce", "NOTEBOOKS=06 08")
    assert "bavit notebooks 00 --profile sample --refresh\n" in dry_run("notebooks", "NOTEBOOKS=00")


def test_the_help_names_every_target_and_profile():
    said = subprocess.run(["make", "help"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    rules = re.findall(r"^([a-z][a-z-]*):", (REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {*TARGETS} == {*rules} - {"help", "setup", "clean"}
    assert all(re.search(rf"^make {target}\b", said, re.MULTILINE) for target in {*rules} - {"help", "setup"})


def test_the_verbs_that_make_calls_exist():
    called = re.findall(r"\$\(BIN\)/bavit ([a-z-]+)", (REPO / "Makefile").read_text(encoding="utf-8"))
    assert called and {*called} <= _parser()._subparsers._group_actions[0].choices.keys()
