"""README.md, data/README.md and CONTRIBUTING.md: every command in them runs, every link leads somewhere."""

import json
import re
import shlex
import subprocess
import tarfile

import pytest
from download_server import make_tar, make_zip, offer, put_file
from workshop import few, run

from bavit_utils import cli
from bavit_utils.cli import _parser
from bavit_utils.config import REPO
from bavit_utils.data.sources import Source
from bavit_utils.edge.detector import edge_folder
from bavit_utils.edge.export import export_pair
from bavit_utils.edge.on_torch import load_pair
from bavit_utils.pages.reproduce import notebook_paths

PAGES = ("README.md", "data/README.md", "CONTRIBUTING.md")
TEXTS = {page: (REPO / page).read_text(encoding="utf-8") for page in PAGES}
VERBS = _parser()._subparsers._group_actions[0].choices
WHOLE = "\n".join(TEXTS.values())


def lines_of_code(text: str) -> list[str]:
    """What stands in fenced blocks, without comments; `export` goes before what follows it in its block."""
    lines = []
    for block in re.findall(r"^```(?:bash|python)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exported = ""
        for line in block.splitlines():
            line = line.split(" #")[0].strip()
            if line.startswith("export "):
                exported = line.removeprefix("export ") + " "
            elif line:
                lines.append(exported + line)
    return lines


def commands(text: str) -> set[tuple[str, tuple[str, ...]]]:
    """Each `bavit` command of the fenced blocks, with the variables that are set for it."""
    found = set()
    for line in lines_of_code(text):
        match = re.fullmatch(r"((?:[A-Z_]+=\S+ )*)bavit (.+)", line)
        if match:
            found.add((match[2], tuple(match[1].split())))
    return found


COMMANDS = sorted(commands(WHOLE))
EXAMPLES = sorted(set(re.findall(r"^  bavit (.+)$", "".join(
    verb.format_help().split("for example:")[1] for verb in VERBS.values()
), re.MULTILINE)) - {command for command, _ in COMMANDS})  # fmt: skip


def heavy(command: str, env: tuple[str, ...] = ()):
    """`make test` runs each verb on one profile and leaves what repeats it to `make test-slow`."""
    slow = not command.startswith(("download", "readme")) and "sample" not in command and "own" not in "".join(env)
    return pytest.param(command, env, id=command, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("command", "env"), [heavy(*each) for each in COMMANDS] + [heavy(each) for each in EXAMPLES])
def test_every_command_runs(command, env, workplace, monkeypatch, capsys):
    monkeypatch.setattr(cli, "fetch", lambda name: name)  # `test_every_download_is_fetched`
    monkeypatch.setattr(cli, "run_notebooks", lambda profile, paths, refresh: None)  # `make reproduce` and nbval do
    monkeypatch.setattr(cli, "notebook_paths", lambda numbers: [])  # the workplace has none
    if "onnxruntime" in command or "bench-edge ap" in command:  # `bavit export` goes before these
        export_pair(*load_pair("voc"), edge_folder("voc"), int8=True)
    if command.startswith("bench") and "--inside" in command:  # nor is there anything to time without the sweep
        timed = command.replace(" --ranked", "")
        assert cli.main(timed.replace("bench", "sweep").split()) == 0, capsys.readouterr().err
        assert timed == command or run(timed) == 0, capsys.readouterr().err
    assert run(command, dict(pair.split("=", 1) for pair in env)) == 0, capsys.readouterr().err


def test_commands_are_found_and_kept_short():
    verbs = {command.split()[0] for command, _ in COMMANDS}
    assert verbs == VERBS.keys() - {"notebooks"}  # which `make` calls
    assert ("train-bavit --store", ("BAVIT_DATA_DIR=my/pictures", "BAVIT_PROFILE=own")) in COMMANDS
    assert few(["sweep"]) == ["sweep", "--limit", "3"]


def test_the_verbs_named_in_the_text_exist():
    named = set(re.findall(r"`(?:\w+=\S+ )*bavit ([a-z][a-z-]*)", WHOLE))
    assert named and named <= VERBS.keys()


def test_every_download_is_fetched(server, monkeypatch, capsys):
    for year, kind, splits in (("2007", "Main", ("train", "test")), ("2012", "Segmentation", ("train", "val"))):
        there = tuple(f"VOCdevkit/VOC{year}/ImageSets/{kind}/{split}.txt" for split in splits)
        file = put_file(server, f"{year}.tar", make_tar(**{name: tarfile.TarInfo(name) for name in there}))
        offer(monkeypatch, f"voc{year}", Source("", f"VOCdevkit/VOC{year}", (file,), there))
    for split in ("train", "val"):
        pictures = put_file(server, f"{split}2017.zip", make_zip({f"{split}2017/1.jpg": b"jpg"}))
        source = Source("coco", f"{split}2017", (pictures,), (f"{split}2017/*.jpg",))
        offer(monkeypatch, f"coco-{split}2017", source)
    for name in ("yolos-tiny", "vit-tiny"):
        file = put_file(server, f"{name}.safetensors", b"weights")
        offer(monkeypatch, name, Source("weights", f"{name}.safetensors", (file,), (f"{name}*",)))
    (command,) = {command for command, _ in COMMANDS if command.startswith("download")}
    assert cli.main(command.split()) == 0, capsys.readouterr().err
    assert len(capsys.readouterr().out.splitlines()) == len(command.split()) - 1


@pytest.mark.parametrize(
    "line", sorted({line for line in lines_of_code(WHOLE) if re.match(r"([A-Z_]+=\S+ )*make\b", line)})
)
def test_every_make_target_is_known(line, tmp_path):
    words = [word for word in shlex.split(line) if not word.startswith("BAVIT_")]
    done = subprocess.run(
        [*words, "--dry-run", f"VENV={tmp_path}"], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert not done.returncode and done.stdout, done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    folder = (REPO / page).parent
    links = re.findall(r"\]\((?!https:)([^)\s]+)\)", TEXTS[page])
    for link in links:
        path, _, part = link.partition("#")
        assert not path or (folder / path).exists(), link
        if part:
            text = ((folder / path) if path else REPO / page).read_text(encoding="utf-8")
            titles = [
                re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
                for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            ]
            assert part in titles, link
    assert links


def test_every_notebook_is_in_the_table():
    rows = re.findall(r"^\| \[(\d\d_\w+)\]\(notebooks/\1\.ipynb\) \| .+ \|$", TEXTS["README.md"], re.MULTILINE)
    assert rows == [path.stem for path in notebook_paths()]


# ---- a sentence with a result is the paper's, or is made from the stored rows

RESULT = re.compile(r"(?<![\w.])\d[\d.,]*\s?(?:%|AP\b|AP50|x\b(?! ?\d)|×|points?\b|ms\b|MB\b|times\b)")


def unproven(text: str) -> list[str]:
    """The sentences of a page's prose that hold a result of ours: not made by code, and not the paper's."""
    text = re.sub(r"<!-- results:begin -->.*?<!-- results:end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`]*`|95 % intervals?", "", text)
    sentences = re.split(r"(?<=[.;:!?])\s+(?!\d)|\n", text)
    return [one for one in sentences if RESULT.search(one) and not re.search(r"\bpaper|\bpublished", one)]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_no_result_is_typed_into_a_page(page):
    assert unproven(TEXTS[page]) == []


def test_no_result_is_typed_into_the_first_notebook():
    cells = json.loads(notebook_paths(["00"])[0].read_text(encoding="utf-8"))["cells"]
    assert unproven("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")) == []


@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: path.stem)
def test_no_measured_result_is_typed_into_a_notebook(path):
    """Whole numbers in its prose are settings; what was measured has decimals, and is printed by a cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    prose = re.sub(r"[Ss]ections? [\d.]+|\d+ × \d+", "", prose)
    assert [sentence for sentence in unproven(prose) if re.search(r"\d[.,]\d|[+±]\s?\d", sentence)] == []


@pytest.mark.parametrize("result", ["3.1 AP", "97 %", "1.48x", "2 points", "34 MB", "120 ms", "1.5 times"])
def test_a_typed_result_is_seen_unless_it_is_the_papers(result):
    told = f"Pruning costs {result}. The rest is as before."
    assert unproven(told) == [f"Pruning costs {result}."] and unproven(f"The paper says {result}; ours is below.") == []
    assert unproven(f"{told} Every 16 x 16 patch, 5.5 GB, 256 pixels, 95 % intervals.") == [f"Pruning costs {result}."]


def test_the_files_that_the_texts_name_exist():
    places = [REPO, REPO / "bavit_utils", REPO / "data", REPO / "tests", REPO / "figures"]
    for name in set(re.findall(r"`([\w/]+\.(?:py|yml|md|lock|cff))`", WHOLE)):
        assert any((place / name).exists() for place in places), name
