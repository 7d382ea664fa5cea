"""`bavit <verb>`: the long runs that don't belong in a notebook, and what the make targets call."""

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from .checks import check_number
from .config import DEPTHS, EVAL_SPLIT, PROFILE_NAMES, get_profile
from .data.download import fetch
from .data.sample_world import ensure_train_split
from .data.sources import SOURCES
from .experiments.ablations import ABLATIONS
from .pages.headlines import REST, as_text, headlines, update_readme
from .pages.reproduce import notebook_paths, run_notebooks, write_figures_page
from .selectors.heads import SELECTORS
from .selectors.runs import COMPARED
from .training.detector import VARIANTS
from .verbs import bavit, edge, inside, selectors, yolos


def sample_world(args: argparse.Namespace) -> None:
    """Draw the sample world's training pictures from their seeds."""
    path = ensure_train_split(args.limit)
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


def _at_least(low: int, kind: type = int) -> Callable[[str], float]:
    """argparse's `type` of a number of at least `low`."""

    def read(text: str) -> float:
        try:
            return check_number("it", kind(text), low)
        except ValueError:
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is no {what} of at least {low}") from None

    return read


_HEAD = """The long runs of the BAViT reproduction. Each goes on where it was stopped, and what comes out is
kept in data/checkpoints and data/results only with --store. `bavit <verb> --help` has examples.

Profiles: sample, drawn scenes, and voc, VOC's photographs, both at 256 px; own, your own pictures in
BAVIT_DATA_DIR; voc-512 and coco, the paper's sizes. Which one: --profile, or BAVIT_PROFILE, or sample.
"""


def _one_of(names: Iterable[str], metavar: str, text: str = "", **options) -> dict:
    """An argument with a choice of `names`; its help lists them."""
    any_of = "any of" if "nargs" in options else "one of"
    return {"choices": tuple(names), "metavar": metavar, "help": f"{any_of} {', '.join(names)}{text}", **options}


# What verbs can be given; behind a colon stands which of two of a name.
_ARGUMENTS = {
    "names": _one_of(SOURCES, "NAME", nargs="+"),
    "numbers": {"nargs": "*", "metavar": "NN", "help": "notebooks by number; default: all"},
    "name": _one_of(SELECTORS, "WHOSE"),
    "what": _one_of(ABLATIONS, "WHAT", nargs="+"),
    "what:edge": _one_of(("ap", "time"), "WHAT"),
    "picture": {"type": Path, "metavar": "PICTURE", "help": "a JPEG, PNG, WebP, BMP, TIFF or GIF file"},
    "--profile": _one_of(PROFILE_NAMES, "NAME", "; default: BAVIT_PROFILE, or sample"),
    "--seed": {"type": _at_least(0), "default": 0, "metavar": "N", "help": "default: 0"},
    "--limit": {"type": _at_least(1), "metavar": "N", "help": "use only the first N pictures of each list"},
    "--max-steps": {"type": _at_least(1), "metavar": "N", "help": "stop after N steps, with the state saved"},
    "--max-minutes": {
        "type": _at_least(0, float), "metavar": "N", "help": "stop after N minutes of training, with the state saved",
    },
    "--epochs": {"type": _at_least(1), "metavar": "N", "help": "of the whole schedule; default: the profile's"},
    "--dataset": {"choices": tuple(EVAL_SPLIT), "help": "default: the profile's"},
    "--rule": {"choices": ("mask", "box"), "help": "what the labels come from; default: the profile's"},
    "--store": {"action": "store_true", "help": "keep what comes out in data/checkpoints and data/results"},
    "--refresh": {"action": "store_true", "help": "keep the outputs in the notebooks"},
    "--model": {"choices": tuple(DEPTHS), "default": "bavit-small", "help": "default: bavit-small"},
    "--recipe": {"choices": ("best", "paper"), "default": "best", "help": "default: best"},
    "--start": {"type": Path, "metavar": "FILE", "help": "go on from another detector's checkpoint"},
    "--variant": _one_of(VARIANTS, "NAME", "; its checkpoint is then yolos-NAME"),
    "--sparsity": {
        "type": float, "default": 0.35, "metavar": "SHARE", "help": "0 is the control; default: 0.35, the paper's",
    },
    "--way": _one_of(("frozen", "inside", "random", "resolution"), "WAY", "; default: frozen", default="frozen"),
    "--at": {
        "type": _at_least(1), "default": 4, "metavar": "N",
        "help": "the layers before it prunes, or the side in pixels; default: 4",
    },
    "--sparsities": {
        "nargs": "+", "type": float, "metavar": "SHARE",
        "help": "the wanted ones; default: Table 2's, and on to 0.70",
    },
    "--inside": {"action": "store_true", "help": "pruning inside the detector, and what it is compared with"},
    "--inside:bench": {"action": "store_true", "help": "what `sweep --inside` measured, at its size and twice it"},
    "--inside:edge": {"action": "store_true", "help": "prune inside the detector, after four layers, by a head"},
    "--variants": {"action": "store_true", "help": "also with the fill, other resizings, partial pruning"},
    "--selectors": _one_of(
        yolos.TABLE2_SELECTORS, "NAME", "; default: bavit-small, random, oracle-exact", nargs="+",
    ),
    "--selectors:all": _one_of(
        COMPARED, "NAME", "; default: all that can be had; bavit-small is always among them", nargs="+",
    ),
    "--detector": {
        "default": "yolos", "metavar": "NAME",
        "help": "yolos as trained, yolos-sparse of that variant, yolos-f trained on with pruned pictures, yolos-control "
        "with whole ones, or what train-inside left, as yolos-inside-4; default: yolos",
    },
    "--readout": {
        "choices": ("tokens", "patches"), "default": "tokens",
        "help": "tokens, the detector's own, or patches, its heads on the patch tokens; default: tokens",
    },
    "--profile:voc": _one_of(
        PROFILE_NAMES, "NAME", "; default: BAVIT_PROFILE, or voc", default=os.environ.get("BAVIT_PROFILE") or "voc"
    ),
    "--threshold": {
        "type": float, "default": 0.9, "metavar": "T", "help": "patches surer to be background go; default: 0.9",
    },
    "--min-score": {"type": float, "default": 0.5, "metavar": "S", "help": "of a box that is shown; default: 0.5"},
    "--save": {"type": Path, "metavar": "FILE", "help": "the picture with its boxes"},
    "--runtime": {
        "choices": ("torch", "onnxruntime"), "default": "torch", "help": "torch (default), or onnxruntime after export",
    },
    "--int8": {"action": "store_true", "help": "the graphs in 8 bits, too; `detect` runs these"},
    "--threads": {"nargs": "+", "type": _at_least(1), "default": [1, 2], "metavar": "N", "help": "default: 1 2"},
    "--repeats": {"type": _at_least(1), "default": 20, "metavar": "N", "help": "timed rounds; default: 20"},
    "--ranked": {"action": "store_true", "help": "with --inside: not timed again, ranked anew by the stored times"},
}  # fmt: skip

# In groups, in the order of use: a verb, what it does, what it can be given, and examples, separated by semicolons.
_VERBS = {
    "Pictures and weights": (
        ("sample-world", sample_world, "--limit", ""),
        ("download", download, "names", "voc2007 vit-tiny"),
    ),
    "Training": (
        ("train-bavit", bavit.train, "--profile --dataset --rule --seed --limit --max-steps --store --model --recipe",
         "--profile sample --store; --profile voc-512 --dataset voc2007 --rule box --store"),
        ("train-yolos", yolos.train, "--profile --epochs --seed --limit --max-steps --max-minutes --store --start --variant",
         "--profile voc --start data/checkpoints/yolos-sample.safetensors --store"),
        ("finetune", yolos.tune, "--profile --epochs --seed --limit --max-steps --max-minutes --store --sparsity",
         "--profile sample --store; --profile sample --sparsity 0 --store"),
        ("train-inside", inside.train, "--profile --seed --limit --max-steps --max-minutes --store --detector --way --at",
         "--profile sample --store; --profile sample --way inside --at 3 --store"),
        ("train-selector", selectors.train, "name --profile --seed --limit --max-steps --store",
         f"{next(iter(SELECTORS))} --profile sample --store"),
    ),
    "Measuring": (
        ("ablate", bavit.ablate, "what --profile --limit --store", "depth init --profile voc-512 --store"),
        ("ablate-yolos", yolos.ablate, "--profile --seed --max-minutes --store", "--profile voc --max-minutes 15 --store"),
        ("calibrate", bavit.calibrate, "--profile --limit --store --dataset --rule", "--profile sample --store"),
        ("postprocess", bavit.postprocess, "--profile --limit --store --dataset --rule", "--profile sample --store"),
        ("sweep", yolos.fill_table2,
         "--profile --limit --store --seed --sparsities --inside --variants --selectors --detector --readout",
         "--profile sample --store; --profile sample --detector yolos-f --selectors bavit-small --store"),
        ("objects", yolos.lost_objects, "--profile --limit --store --seed --selectors --detector --readout",
         "--profile sample --store"),
        ("compare", selectors.compare, "--profile --limit --store --selectors:all", "--profile sample --store"),
        ("bench", yolos.bench, "--profile --store --inside:bench --ranked --repeats", "--profile voc-512 --store"),
    ),
    "Showing": (
        ("notebooks", notebooks, "numbers --profile --refresh", "06 08 --profile sample --refresh"),
        ("readme", readme, "", ""),
    ),
    "On the edge": (
        ("detect", edge.detect, "picture --profile:voc --threshold --min-score --save --runtime --int8 --inside:edge",
         "photo.jpg --save out.jpg; photo.jpg --threshold 0.9 --runtime onnxruntime"),
        ("export", edge.export, "--profile --int8 --inside:edge", "--profile voc --int8"),
        ("bench-edge", edge.bench_edge, "what:edge --profile --limit --store --threads --repeats",
         "ap --profile voc --store; time --profile voc --store"),
    ),
}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser("bavit", "bavit <verb> [options]", add_help=False, **layout)
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(required=True, metavar="verb", help=argparse.SUPPRESS)
    parser.description = _HEAD
    for title, group in _VERBS.items():
        parser.description += f"\n{title}\n"
        for name, run, arguments, examples in group:
            parser.description += f"  {name:<16}{run.__doc__.splitlines()[0]}\n"
            lines = "".join(f"\n  bavit {name} {line.strip()}".rstrip() for line in examples.split(";"))
            verb = verbs.add_parser(
                name, description=inspect.cleandoc(run.__doc__), epilog=f"for example:{lines}", **layout
            )
            words = [verb.add_argument(key.split(":")[0], **_ARGUMENTS[key]) for key in arguments.split()]
            forms = {None: "{}", "+": "{} ...", "*": "[{} ...]"}
            words = [forms[word.nargs].format(word.metavar) for word in words if not word.option_strings]
            verb.usage = " ".join(["bavit", name, *words, "[options]"])
            verb.set_defaults(run=run)
    return parser


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
