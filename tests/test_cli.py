"""The commands: what they say, and that every one in the README exists."""

import re

import pytest

from bavit_utils.cli import _parser, main
from bavit_utils.config import REPO

README = (REPO / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^\s*bavit ([^#\n]+?)\s*(?:#.*)?$", README, re.M)))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readmes_commands_are_understood(command):
    assert callable(_parser().parse_args(command.split()).run)


def test_the_readme_names_the_commands_that_made_the_checkpoints():
    assert {command.split()[0] for command in COMMANDS} >= {"train-bavit", "train-yolos", "sweep", "bench"}


def test_every_target_in_the_readme_is_in_the_makefile():
    targets = set(re.findall(r"^([\w-]+):", (REPO / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`?make ([a-z][\w-]*)", README)) - {"sure"} <= targets


def test_an_error_is_a_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path))
    assert main(["train-bavit", "--profile", "voc", "--max-steps", "1"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("bavit: ") and "BAVIT_DATA_DIR" in said and "Traceback" not in said


def test_an_unknown_verb_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["no-such-verb"])
    assert "no-such-verb" in capsys.readouterr().err
