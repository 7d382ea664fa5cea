"""The commands: what they say of themselves, and that an error is a sentence with a remedy."""

import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from PIL import Image
from workshop import run

from bavit_utils import cli
from bavit_utils.cli import _parser, main
from bavit_utils.config import CHECKPOINTS, REPO, get_profile
from bavit_utils.pages.headlines import as_text, headlines
from bavit_utils.results import load_rows
from bavit_utils.verbs import device, edge, yolos

VERBS = _parser()._subparsers._group_actions[0].choices
MADE_BY = (REPO / "data" / "README.md").read_text(encoding="utf-8").split("## How the checkpoints")[1].split("\n## ")[0]


def test_the_help_lists_every_verb_once_in_a_group_with_what_it_does(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    listed = re.findall(r"^  ([a-z][a-z-]+) +([A-Z].+\.)$", said, re.MULTILINE)
    assert [name for name, _ in listed] == list(VERBS) and max(map(len, said.splitlines())) <= 120
    assert re.findall(r"^[A-Z][a-z ]+$", said, re.MULTILINE) == [
        "Pictures and weights",
        "Training",
        "Measuring",
        "Showing",
        "On the edge",
    ]


@pytest.mark.parametrize("name", VERBS)
def test_every_verbs_help_says_what_it_does_with_an_example_that_is_understood(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    said = capsys.readouterr().out
    assert said.startswith(f"usage: bavit {name} ") and VERBS[name].description in said
    for command in re.findall(r"^  bavit (.+)$", said.split("for example:")[1], re.MULTILINE):
        assert callable(_parser().parse_args(command.split()).run)
    for action in VERBS[name]._actions:
        assert action.help, f"{name}: {action.dest} has no help"


def test_the_documentation_names_the_commands_that_made_the_checkpoints():
    commands = re.findall(r"^bavit (\S+.*?)(?:  #.*)?$", MADE_BY, re.MULTILINE)
    verbs = {command.split()[0] for command in commands}
    assert verbs >= {"train-bavit", "train-yolos", "finetune", "train-selector", "sweep", "compare", "bench"}
    for path in CHECKPOINTS.glob("*-sample*.safetensors"):
        name = path.name.split("-sample")[0].replace("yolos-f", "finetune").replace("yolos-control", "--sparsity 0")
        name = name.replace("heads", "train-inside")
        assert any(name in re.sub("train-yolos", "yolos", command) for command in commands), name


# ---- what people get wrong


def cut(path):
    content = path.read_bytes()
    path.unlink()  # it is a link
    path.write_bytes(content[: len(content) // 2])


def forget_scenes():
    for path in (Path("data") / "cache").rglob("*.json"):
        path.unlink()


SAMPLE = "--profile sample"
# What goes wrong before a command (or a variable that is set for it), the command, and what it says.
MISTAKES = {
    "name": ({"BAVIT_PROFILE": "imagenet"}, "bench",
             "unknown profile 'imagenet': choose one of sample, voc-512"),
    "no pictures": ({"BAVIT_DATA_DIR": "nowhere"}, "train-bavit --profile voc",
                    r"nowhere.*test.txt can't be read \(No such file or directory\): set BAVIT_DATA_DIR"),
    "no own pictures": ({"BAVIT_DATA_DIR": "nowhere"}, "train-bavit --profile own",
                        "no list of your own train pictures is there: set BAVIT_DATA_DIR .*annotations/train.json"),
    "no scenes": (forget_scenes, f"train-bavit {SAMPLE}",
                  "instances_train.json can't be read .*make it with `bavit sample-world`"),
    "no detector": (lambda: get_profile("voc-512").checkpoint("yolos").unlink(), "sweep --profile voc-512",
                    "no checkpoint at .*yolos-voc2007.safetensors: train one, or restore"),
    "no pruner": (lambda: get_profile("sample").checkpoint("bavit-small").unlink(), f"calibrate {SAMPLE}",
                  "no checkpoint at .*bavit-small-sample-mask.safetensors: train one, or restore"),
    "damaged detector": (lambda: cut(get_profile("sample").checkpoint("yolos")), f"sweep {SAMPLE}",
                         "yolos-sample.safetensors is damaged, .*: restore it, or delete it and train anew"),
    "pickled start": (lambda: torch.save({"weight": torch.zeros(2)}, "start.pt"),
                      f"train-yolos {SAMPLE} --start start.pt",
                      "start.pt is damaged, or no checkpoint of ours .*: restore it"),
    "another start": (None, f"train-yolos {SAMPLE} --start data/checkpoints/bavit-small-sample-mask.safetensors",
                      "bavit-small-sample-mask.safetensors holds bavit, not a yolos checkpoint: give the path"),
    "unwritable runs": (lambda: Path("runs").write_text("a file where the folder should be"), f"train-bavit {SAMPLE}",
                        r"runs\S* can't be used \(.*\): see that it can be written there, and call again"),
    "no masks": (None, "train-bavit --profile voc-512 --dataset voc2007 --rule mask",
                 "voc2007 has no masks .*: use the box rule"),
    "no graph": (None, "detect photo.jpg --profile voc --runtime onnxruntime",
                 "no graph at .*edge-voc-256.bavit.onnx: make it with `bavit export --profile voc`"),
    "no picture": (None, "detect nowhere.jpg --profile voc", "nowhere.jpg is missing"),
    "threshold": (None, "detect photo.jpg --profile voc --threshold 35",
                  "the threshold is 35.0: give a number from 0 to 1"),
    "tuned thresholds": (None, f"sweep {SAMPLE} --inside --detector yolos-inside-4-adaptive",
                         "not tuned: give yolos-adaptive or yolos-sparse-adaptive, not yolos-inside-4-adaptive"),
    "sparsity": (None, f"finetune {SAMPLE} --sparsity 35", "the sparsity is a share from 0 up to, without, 1 .*not 35"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_by_one_sentence_with_a_remedy(mistake, workplace, capsys):
    prepare, command, message = MISTAKES[mistake]
    if callable(prepare):
        prepare()
    capsys.readouterr()
    assert run(command, prepare if isinstance(prepare, dict) else None) == 1
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("bavit: ")]
    assert re.search(message, line) and "Traceback" not in said


def test_objects_lost_at_another_seed_or_readout_are_kept_beside_the_plain_ones(workplace):
    for more in ("", " --seed 1", " --readout patches"):
        assert run(f"objects {SAMPLE} --limit 3 --selectors bavit-small random --store{more}") == 0
    assert set(load_rows("objects-sample").run) == {
        "yolos-bavit-small", "yolos-random", "yolos-random-seed1", "yolos-bavit-small-patches", "yolos-random-patches",
    }  # fmt: skip


def test_times_are_stored_with_the_numbers_they_were_measured_in(workplace, monkeypatch):
    row = {"batch": 1, "method": "dense", "sparsity": 0, "median_ms": 1, "speedup": 1, "mac_speedup": 1, "peak_mb": 1}
    monkeypatch.setattr(yolos, "throughput", lambda *args: [row | {"dtype": "bfloat16"}])
    assert run(f"bench {SAMPLE} --store") == 0
    assert load_rows(f"throughput-{device()}").attrs["provenance"]["sample"]["dtype"] == "bfloat16"


def test_accuracy_on_the_edge_asks_for_its_packages_before_it_measures(workplace, monkeypatch, capsys):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(edge.metadata, "version", version)
    monkeypatch.setattr(edge, "accuracy_rows", lambda *args: pytest.fail("it measures"))
    assert run(f"bench-edge ap {SAMPLE} --store") == 1
    assert "onnx is missing: pip install .[edge]" in capsys.readouterr().err


def test_a_picture_is_detected_and_kept_with_its_boxes(workplace, capsys):
    command = "detect photo.jpg --profile voc --threshold 0.5 --min-score 0 --save out.png"
    assert run(command) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == get_profile("voc").num_detection_tokens and last.startswith(f"{len(lines)} objects")
    assert re.fullmatch(r"\w+ 0\.\d\d( -?\d+){4}", lines[0])
    with Image.open("photo.jpg") as before, Image.open("out.png") as after:
        assert before.size == after.size


def test_a_failing_notebook_is_shown_without_our_own_traceback(monkeypatch, capsys):
    def failing(profile, paths, refresh):
        raise ValueError("03_accuracy_tables.ipynb failed on the sample profile:\nKeyError: 'AP'")

    monkeypatch.setattr(cli, "run_notebooks", failing)
    assert main(["notebooks", "--profile", "sample"]) == 1
    assert capsys.readouterr().err == "bavit: 03_accuracy_tables.ipynb failed on the sample profile:\nKeyError: 'AP'\n"


def test_a_run_of_notebooks_ends_with_the_rows_and_says_where_the_rest_is(monkeypatch, tmp_path, capsys):
    ran = []
    monkeypatch.setattr(cli, "run_notebooks", lambda profile, paths, refresh: ran.extend(path.stem for path in paths))
    monkeypatch.setenv("BAVIT_FIGURES_DIR", str(tmp_path))
    assert main(["notebooks", "06", "00", "--profile", "sample"]) == 0
    said = capsys.readouterr().out
    assert ran == ["00_explore", "06_sparsity_sweep"] and (tmp_path / "README.md").exists()
    assert as_text(headlines(get_profile("sample"))) in said and max(map(len, said.splitlines())) <= 100
    assert said.endswith("Figures and tables: figures/sample/\n") and "figures/README.md" in said
    assert (
        main(["notebooks", "77"]) == 1 and "there is no notebook 77: choose some of 00, 01" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such-verb"], "invalid choice: 'no-such-verb' .*train-bavit"),
        (["bench", "--profile", "imagenet"], "invalid choice: 'imagenet' .*voc"),
        (["sweep", "--limit", "0"], "'0' is no whole number of at least 1"),
        (["train-bavit", "--max-steps", "many"], "'many' is no whole number of at least 1"),
        (["train-bavit", "--seed", "-1"], "'-1' is no whole number of at least 0"),
        (["sweep", "--seed", "0.5"], "'0.5' is no whole number of at least 0"),
        (["train-yolos", "--max-minutes", "-1"], "'-1' is no number of at least 0"),
        (["finetune", "--max-minutes", "nan"], "'nan' is no number of at least 0"),
        (["download", "imagenet"], "invalid choice: 'imagenet' .*vit-tiny"),
        ([], "required: verb"),
    ],
)
def test_words_that_are_not_understood_are_named_with_what_would_be(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert re.search(message, capsys.readouterr().err)
