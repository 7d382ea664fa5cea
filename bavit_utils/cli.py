"""`bavit <verb>`: the long runs that don't belong in a notebook, and what the make targets call."""

import argparse
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path

from .checks import check_number
from .config import DEPTHS, EVAL_SPLIT, PROFILE_NAMES, get_profile
from .data.download import fetch
from .data.sample_world import ensure_train_split, ensure_val_split
from .data.sources import SOURCES
from .experiments.ablations import ABLATIONS
from .headlines import REST, as_text, headlines, update_readme
from .reproduce import notebook_paths, run_notebooks, write_figures_page
from .selectors.heads import SELECTORS
from .selectors.runs import COMPARED
from .verbs import bavit, edge, inside, selectors, yolos


def sample_world(args: argparse.Namespace) -> None:
    """Draw the sample world's training pictures from their seeds."""
    for path in (ensure_val_split(), ensure_train_split(args.limit)):
        print(path.relative_to(path.parents[2]))


def download(args: argparse.Namespace) -> None:
    """Fetch data sets and weights into BAVIT_DATA_DIR (or data/)."""
    for name in args.names:
        print(fetch(name))


def notebooks(args: argparse.Namespace) -> None:
    """Run the notebooks, all or those of some numbers, and set our numbers beside the paper's.

    Figures and tables go to figures/<profile>/ and are listed in figures/README.md (of other profiles than the sample
    world in figures/<profile>/README.md); --refresh writes the outputs back into the notebooks.
    """
    profile = get_profile(args.profile)
    run_notebooks(profile, notebook_paths(args.numbers), refresh=args.refresh)
    write_figures_page(profile)
    print(f"\n{as_text(headlines(profile))}\n{REST}")
    print(f"Figures and tables: figures/{profile.name}/")


def readme(args: argparse.Namespace) -> None:
    """Write README.md's rows of results and figures/README.md anew."""
    update_readme()
    write_figures_page(get_profile("sample"))


def _positive(text: str) -> int:
    """A whole number above 0, as argparse's `type`."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _seed(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)


def _minutes(text: str) -> float:
    """A number, 0 or more."""
    try:
        return check_number("the number of minutes", float(text), 0)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


_HEAD = """The long runs of the BAViT reproduction. Each goes on where it was stopped, and what comes out is
kept in data/checkpoints and data/results only with --store. `bavit <verb> --help` has examples.

Profiles: sample, drawn scenes, and voc, VOC's photographs, both at 256 px; own, your own pictures in
BAVIT_DATA_DIR; voc-512 and coco, the paper's sizes. Which one: --profile, or BAVIT_PROFILE, or sample.
"""
_PROFILE = f"{', '.join(PROFILE_NAMES[:-1])} or {PROFILE_NAMES[-1]}; default: BAVIT_PROFILE, or sample"
_OPTIONS = {
    "profile": {"choices": PROFILE_NAMES, "metavar": "NAME", "help": _PROFILE},
    "seed": {"type": _seed, "default": 0, "metavar": "N", "help": "default: 0"},
    "limit": {"type": _positive, "metavar": "N", "help": "use only the first N pictures of each list"},
    "max-steps": {"type": _positive, "metavar": "N", "help": "stop after N steps, with the state saved"},
    "max-minutes": {"type": _minutes, "metavar": "N", "help": "stop after N minutes of training, with the state saved"},
    "epochs": {"type": _positive, "metavar": "N", "help": "of the whole schedule; default: the profile's"},
    "dataset": {"choices": tuple(EVAL_SPLIT), "help": "default: the profile's"},
    "rule": {"choices": ("mask", "box"), "help": "what the labels come from; default: the profile's"},
    "store": {"action": "store_true", "help": "keep what comes out in data/checkpoints and data/results"},
}
_STOPS = ("limit", "max-steps")


class _Verbs:
    """The verbs in groups, in the order of use, as `bavit --help` lists them."""

    def __init__(self):
        layout = argparse.RawDescriptionHelpFormatter
        self.parser = argparse.ArgumentParser("bavit", "bavit <verb> [options]", formatter_class=layout, add_help=False)
        self.parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
        self.parser.description = _HEAD
        self._verbs = self.parser.add_subparsers(required=True, metavar="verb", help=argparse.SUPPRESS)

    def group(self, title: str) -> None:
        """What is added from here on is listed under this title."""
        self.parser.description += f"\n{title}\n"

    def add(self, name: str, run: Callable, *options: str, words="", example: str = "") -> argparse.ArgumentParser:
        """A verb with some of `_OPTIONS`, and `words` before them; its help is the docstring of `run`, and examples.

        These are separated by semicolons.
        """
        self.parser.description += f"  {name:<16}{run.__doc__.splitlines()[0]}\n"
        lines = "".join(f"\n  bavit {name} {line.strip()}".rstrip() for line in example.split(";"))
        sub = self._verbs.add_parser(
            name,
            usage=f"bavit {name} {words}[options]",
            description=inspect.cleandoc(run.__doc__),
            epilog=f"for example:{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        for option in options:
            sub.add_argument(f"--{option}", **_OPTIONS[option])
        return sub


def _parser() -> argparse.ArgumentParser:
    verbs = _Verbs()
    verbs.group("Pictures and weights")
    verbs.add("sample-world", sample_world, "limit")
    verbs.add("download", download, words="NAME ... ", example="voc2007 vit-tiny").add_argument(
        "names", nargs="+", choices=tuple(SOURCES), metavar="NAME", help="any of " + ", ".join(SOURCES)
    )
    verbs.group("Training")
    _add_trainings(verbs)
    verbs.group("Measuring")
    _add_measurements(verbs)
    verbs.group("Showing")
    shown = verbs.add("notebooks", notebooks, "profile", words="[NN ...] ", example="06 08 --profile sample --refresh")
    shown.add_argument("numbers", nargs="*", metavar="NN", help="notebooks by number; default: all")
    shown.add_argument("--refresh", action="store_true", help="keep the outputs in the notebooks")
    verbs.add("readme", readme)
    verbs.group("On the edge")
    _add_edge(verbs)
    return verbs.parser


def _add_trainings(verbs: _Verbs) -> None:
    example = "--profile sample --store; --profile voc-512 --dataset voc2007 --rule box --store"
    options = "profile", "dataset", "rule", "seed", *_STOPS, "store"
    model = verbs.add("train-bavit", bavit.train, *options, example=example)
    model.add_argument("--model", choices=tuple(DEPTHS), default="bavit-small", help="default: bavit-small")
    model.add_argument("--recipe", choices=("best", "paper"), default="best", help="default: best")
    options = "profile", "epochs", "seed", *_STOPS, "max-minutes", "store"
    start = "--profile voc --start data/checkpoints/yolos-sample.safetensors --store"
    detector = verbs.add("train-yolos", yolos.train, *options, example=start)
    detector.add_argument("--start", type=Path, metavar="FILE", help="go on from another detector's checkpoint")
    example = "--profile sample --store; --profile sample --sparsity 0 --store"
    tune = verbs.add("finetune", yolos.tune, *options, example=example)
    tune.add_argument(
        "--sparsity", type=float, default=0.35, metavar="SHARE", help="0 is the control; default: 0.35, the paper's"
    )
    options = "profile", "seed", *_STOPS, "max-minutes", "store"
    example = "--profile sample --store; --profile sample --way inside --at 4 --store"
    within = verbs.add("train-inside", inside.train, *options, example=example)
    ways = "frozen", "inside", "random", "resolution"
    within.add_argument("--way", choices=ways, default="frozen", help=f"{', '.join(ways)}; default: frozen")
    within.add_argument(
        "--at", type=_positive, default=4, metavar="N", help="the layers before it prunes, or the side in pixels; default: 4"
    )
    options = "profile", "seed", *_STOPS, "store"
    scoring = verbs.add(
        "train-selector",
        selectors.train,
        *options,
        words="WHOSE ",
        example=f"{next(iter(SELECTORS))} --profile sample --store",
    )
    scoring.add_argument("name", choices=tuple(SELECTORS), metavar="WHOSE", help=" or ".join(SELECTORS))


def _add_measurements(verbs: _Verbs) -> None:
    common = "profile", "limit", "store"
    ablate = verbs.add(
        "ablate", bavit.ablate, *common, words="WHAT ... ", example="depth init --profile voc-512 --store"
    )
    ablate.add_argument(
        "what", nargs="+", choices=tuple(ABLATIONS), metavar="WHAT", help="any of " + ", ".join(ABLATIONS)
    )
    for name, run in (("calibrate", bavit.calibrate), ("postprocess", bavit.postprocess)):
        verbs.add(name, run, *common, "dataset", "rule", example="--profile sample --store")
    example = "--profile sample --store; --profile sample --detector yolos-f --selectors bavit-small --store"
    swept = verbs.add("sweep", yolos.fill_table2, *common, "seed", example=example)
    swept.add_argument(
        "--sparsities", nargs="+", type=float, metavar="SHARE", help="the wanted ones; default: Table 2's, and on to 0.70"
    )
    swept.add_argument("--inside", action="store_true", help="pruning inside the detector, and what it is compared with")
    swept.add_argument("--variants", action="store_true", help="also with the fill, other resizings, partial pruning")
    lost = verbs.add("objects", yolos.lost_objects, *common, "seed", example="--profile sample --store")
    for verb in (swept, lost):
        verb.add_argument(
            "--selectors",
            nargs="+",
            choices=yolos.TABLE2_SELECTORS,
            metavar="NAME",
            help=f"any of {', '.join(yolos.TABLE2_SELECTORS)}; default: bavit-small, random, oracle-exact",
        )
        verb.add_argument(
            "--detector",
            default="yolos",
            metavar="NAME",
            help="yolos as trained, yolos-f trained on with pruned pictures, yolos-control with whole ones, or what "
            "train-inside left, as yolos-inside-4; default: yolos",
        )
        verb.add_argument(
            "--readout",
            choices=("tokens", "patches"),
            default="tokens",
            help="tokens, the detector's own, or patches, its heads on the patch tokens; default: tokens",
        )
    compared = verbs.add("compare", selectors.compare, *common, example="--profile sample --store")
    compared.add_argument(
        "--selectors",
        nargs="+",
        choices=COMPARED,
        metavar="NAME",
        help=f"any of {', '.join(COMPARED)}; default: all that can be had; bavit-small is always among them",
    )
    compared.add_argument("--repeats", type=_positive, default=15, metavar="N", help="timed rounds; default: 15")
    bench = verbs.add("bench", yolos.bench, "profile", "store", example="--profile voc-512 --batch 1 8 --store")
    bench.add_argument(
        "--batch", nargs="+", type=_positive, default=[1, 8], metavar="N", help="batch sizes; default: 1 8"
    )
    bench.add_argument("--inside", action="store_true", help="what `sweep --inside` measured, at its size and twice it")
    bench.add_argument("--repeats", type=_positive, default=20, metavar="N", help="timed rounds; default: 20")


def _add_edge(verbs: _Verbs) -> None:
    example = "photo.jpg --save out.jpg; photo.jpg --threshold 0.9 --runtime onnxruntime"
    found = verbs.add("detect", edge.detect, words="PICTURE ", example=example)
    found.add_argument("picture", type=Path, metavar="PICTURE", help="a JPEG, PNG, WebP, BMP, TIFF or GIF file")
    usual = os.environ.get("BAVIT_PROFILE") or "voc"
    found.add_argument("--profile", **_OPTIONS["profile"] | {"default": usual, "help": _PROFILE.replace("sample", "voc")})
    found.add_argument(
        "--threshold", type=float, default=0.9, metavar="T", help="patches surer to be background go; default: 0.9"
    )
    found.add_argument("--min-score", type=float, default=0.5, metavar="S", help="of a box that is shown; default: 0.5")
    found.add_argument("--save", type=Path, metavar="FILE", help="the picture with its boxes")
    runtimes = ("torch", "onnxruntime")
    found.add_argument("--runtime", choices=runtimes, default="torch", help="torch (default), or onnxruntime after export")
    exported = verbs.add("export", edge.export, "profile", example="--profile voc --int8")
    for verb in (found, exported):
        verb.add_argument("--int8", action="store_true", help="the graphs in 8 bits, too; `detect` runs these")
    example = "ap --profile voc --store; time --profile voc --store"
    bench = verbs.add("bench-edge", edge.bench_edge, "profile", "limit", "store", words="WHAT ", example=example)
    bench.add_argument("what", choices=("ap", "time"), metavar="WHAT", help="ap or time")
    bench.add_argument("--threads", nargs="+", type=_positive, default=[1, 2], metavar="N", help="default: 1 2")
    bench.add_argument("--repeats", type=_positive, default=20, metavar="N", help="timed rounds; default: 20")


def main(argv: list[str] | None = None) -> int:
    """Run one verb; an error that has a remedy is told in a sentence, without a traceback."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except (OSError, ValueError, FloatingPointError, ImportError) as error:
        print(f"bavit: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _sentence(error: Exception) -> str:
    """Our own errors say what to do; those of the system only what is wrong."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"{error.filename} can't be used ({error.strerror}): see that it can be written there, and call again"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
