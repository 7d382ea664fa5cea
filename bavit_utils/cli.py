"""`bavit <verb>`: the long runs that don't belong in a notebook, and what the make targets call."""

import argparse
import sys
from pathlib import Path

from . import cli_bavit, cli_selectors, cli_yolos
from .ablations import ABLATIONS
from .config import DEPTHS, EVAL_SPLIT, PROFILE_NAMES, get_profile
from .download import SOURCES, fetch
from .notebook_runner import run_notebooks
from .packing import PART_MB, pack_pictures
from .report import paper_beside_ours, update_readme
from .sample_world import ensure_train_split, ensure_val_split
from .selector_heads import SELECTORS
from .selector_runs import COMPARED


def sample_world(args: argparse.Namespace) -> None:
    """Draw the sample world's training pictures into the cache, and the bundled ones where they are missing."""
    for path in (ensure_val_split(), ensure_train_split(args.limit)):
        print(path.relative_to(path.parents[2]))


def download(args: argparse.Namespace) -> None:
    """Fetch data sets and weights into BAVIT_DATA_DIR (or data/); goes on where it was stopped."""
    for name in args.names:
        print(fetch(name))


def pack(args: argparse.Namespace) -> None:
    """Pack what the profile's detector is trained and tested on into tars, to be carried to another machine.

    There: for part in FOLDER/*.tar; do tar -xf $part -C data; done; then BAVIT_DATA_DIR=data bavit train-yolos ...
    """
    profile = get_profile(args.profile)
    img_size = profile.detector_img_size if args.img_size is None else args.img_size
    for path in pack_pictures(profile, img_size, args.folder, args.part_mb, args.limit):
        print(f"{path.name} {path.stat().st_size / 1e6:.1f} MB")


def notebooks(args: argparse.Namespace) -> None:
    """Run every notebook top to bottom; --refresh writes their outputs back."""
    profile = get_profile(args.profile)
    run_notebooks(profile, refresh=args.refresh)
    print(paper_beside_ours(profile).to_string(index=False))
    print(f"\nfigures and tables are in figures/{profile.name}/")


def readme(args: argparse.Namespace) -> None:
    """Write the paper-beside-ours table into README.md, and the model cards into data/checkpoints/README.md."""
    update_readme()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bavit", description="The long runs of the BAViT reproduction. Results are kept only with --store."
    )
    verbs = parser.add_subparsers(required=True, metavar="verb")

    def verb(name: str, run, *options: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=run.__doc__.splitlines()[0], description=run.__doc__)
        sub.set_defaults(run=run)
        shared = {
            "profile": dict(choices=PROFILE_NAMES, help="default: BAVIT_PROFILE, or sample"),
            "seed": dict(type=int, default=0, help="default: 0"),
            "limit": dict(type=int, help="use only the first LIMIT pictures"),
            "max-steps": dict(type=int, help="stop after so many steps, with the state saved"),
            "max-minutes": dict(type=float, help="stop after so many minutes of training, with the state saved"),
            "store": dict(action="store_true", help="write what came out into data/checkpoints and data/results"),
        }
        for option in options:
            sub.add_argument(f"--{option}", **shared[option])
        return sub

    verb("sample-world", sample_world, "limit")
    train = verb("train-bavit", cli_bavit.train, "profile", "seed", "limit", "max-steps", "store")
    train.add_argument("--model", choices=tuple(DEPTHS), default="bavit-small", help="default: bavit-small")
    train.add_argument("--dataset", choices=tuple(EVAL_SPLIT), help="default: the profile's")
    train.add_argument("--rule", choices=("mask", "box"), help="label rule; default: the profile's")
    train.add_argument("--recipe", choices=("best", "paper"), default="best", help="default: best")
    verb("download", download).add_argument(
        "names", nargs="+", choices=tuple(SOURCES), metavar="NAME", help=", ".join(SOURCES)
    )
    packed = verb("pack-pictures", pack, "profile", "limit")
    packed.add_argument("--folder", type=Path, required=True, help="where the tars go; new or empty")
    packed.add_argument("--img-size", type=int, help="longest side in pixels; default: the detector's")
    packed.add_argument("--part-mb", type=float, default=PART_MB, help=f"largest tar in MB; default: {PART_MB}")
    ablate = verb("ablate", cli_bavit.ablate, "profile", "seed", "limit", "store")
    ablate.add_argument("what", nargs="+", choices=tuple(ABLATIONS), help="what is varied")
    train = verb("train-yolos", cli_yolos.train, "profile", "seed", "limit", "max-steps", "max-minutes", "store")
    train.add_argument("--start", type=Path, help="go on from this checkpoint, yolos-sample's, say")
    train.add_argument("--epochs", type=int, help="of the whole schedule; default: the profile's")
    tune = verb("finetune", cli_yolos.tune, "profile", "seed", "limit", "max-steps", "max-minutes", "store")
    tune.add_argument("--sparsity", type=float, default=0.35, help="0 is the control; default: 0.35, the paper's")
    tune.add_argument("--epochs", type=int, help="default: the profile's; the paper has 30")
    scoring = verb("train-selector", cli_selectors.train, "profile", "seed", "limit", "max-steps", "store")
    scoring.add_argument("name", choices=tuple(SELECTORS), help="whose scoring")
    swept = verb("sweep", cli_yolos.fill_table2, "profile", "seed", "limit", "store")
    swept.add_argument(
        "--selectors",
        nargs="+",
        choices=cli_yolos.TABLE2_SELECTORS,
        default=["bavit-small", "random", "oracle-mask"],
        help="who chooses the tokens; default: bavit-small random oracle-mask",
    )
    swept.add_argument(
        "--detector", choices=("yolos", "yolos-f", "yolos-control"), default="yolos", help="default: yolos"
    )
    swept.add_argument("--keep-aspect", action="store_true", help="shorter side at the detector's size, no warping")
    swept.add_argument("--variants", action="store_true", help="also with the fill, other resizings, partial pruning")
    compared = verb("compare", cli_selectors.compare, "profile", "limit", "store")
    compared.add_argument(
        "--selectors", nargs="+", choices=COMPARED, help="default: all whose weights there are; bavit-small always"
    )
    compared.add_argument("--repeats", type=int, default=15, help="timed rounds; default: 15")
    for name, run in (("calibrate", cli_bavit.calibrate), ("postprocess", cli_bavit.postprocess)):
        measured = verb(name, run, "profile", "limit", "store")
        measured.add_argument("--dataset", choices=tuple(EVAL_SPLIT), help="default: the profile's")
        measured.add_argument("--rule", choices=("mask", "box"), help="label rule; default: the profile's")
    bench = verb("bench", cli_yolos.bench, "profile", "store")
    bench.add_argument("--batch", nargs="+", type=int, default=[1, 8], help="batch sizes; default: 1 8")
    bench.add_argument("--repeats", type=int, default=20, help="timed rounds; default: 20")
    verb("notebooks", notebooks, "profile").add_argument(
        "--refresh", action="store_true", help="keep the outputs in the notebooks"
    )
    verb("readme", readme)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb; an error that has a remedy is told in a sentence, without a traceback."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"bavit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
