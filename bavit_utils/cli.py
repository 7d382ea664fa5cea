"""`bavit <verb>`: the long runs that don't belong in a notebook, and what the make targets call."""

import argparse
import csv
import sys
from pathlib import Path

import torch

from .annotations import labels_for
from .bavit import foreground_maps, load_bavit, save_bavit
from .benchmark import throughput
from .config import DEPTHS, EVAL_SPLIT, PAPER_RECIPE, RUNS, Profile, get_profile
from .datasets import fingerprint, load_records
from .metrics import token_metrics
from .notebook_runner import run_notebooks
from .postprocessing import postprocessing_rows
from .report import paper_beside_ours, update_readme
from .results import device_name, provenance, save_rows, short_hash
from .sample_world import ensure_train_split, ensure_val_split
from .sweep import detections, sweep
from .token_selectors import SCORERS
from .training import split_records, train_bavit, train_yolos
from .yolos import PrunedYolos, load_yolos, save_yolos


def _stacked_labels(records, grid, rule) -> torch.Tensor:
    return torch.stack([torch.from_numpy(labels_for(record, grid, rule)) for record in records])


def _curve(folder: Path, model: str) -> list[dict]:
    """A training's log as rows: numbers where there are some."""
    with (folder / "log.csv").open(newline="") as file:
        return [
            {"model": model} | {key: float(value) if value else None for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def _store_curve(folder: Path, model: str, source: dict) -> None:
    save_rows("curves", folder.name, _curve(folder, model), source)


def sample_world(args: argparse.Namespace) -> None:
    """Draw the sample world's training pictures into the cache, and the bundled ones where they are missing."""
    for path in (ensure_val_split(), ensure_train_split(args.limit)):
        print(path.relative_to(path.parents[2]))


def train_bavit_verb(args: argparse.Namespace) -> None:
    """Train BAViT on a data set's training split; --store keeps accuracy and curve, and seed 0's best checkpoint."""
    profile = get_profile(args.profile)
    dataset, rule = args.dataset or profile.bavit_data, args.rule or profile.bavit_rule
    recipe = {"best": profile.bavit_recipe, "paper": PAPER_RECIPE}[args.recipe]
    folder = RUNS / f"{args.model}-{dataset}-{rule}-{args.recipe}-seed{args.seed}"
    model, _ = train_bavit(
        profile, args.model, dataset, rule, args.seed, recipe, folder, limit=args.limit, max_steps=args.max_steps
    )
    keep = args.store and args.recipe == "best" and args.seed == 0
    target = profile.checkpoint(args.model, dataset, rule) if keep else folder / "model.safetensors"
    save_bavit(model, target, {"dataset": dataset, "rule": rule, "recipe": args.recipe, "seed": args.seed})
    _evaluate_bavit(profile, args, target, dataset, rule, folder)


def _evaluate_bavit(profile: Profile, args, checkpoint: Path, dataset: str, rule: str, folder: Path) -> None:
    records = load_records(dataset, EVAL_SPLIT[dataset], args.limit)
    train, _ = split_records(load_records(dataset, "train", args.limit))
    maps = foreground_maps(load_bavit(checkpoint), [record.image() for record in records])
    row = {
        "model": args.model,
        "depth": DEPTHS[args.model],
        "dataset": dataset,
        "rule": rule,
        "recipe": args.recipe,
        "seed": args.seed,
        **token_metrics(maps, _stacked_labels(records, profile.bavit_grid, rule)),
        "n_train": len(train),
        "n_images": len(records),
        "train_s": _curve(folder, args.model)[-1]["seconds"],
        "device": device_name("cuda" if torch.cuda.is_available() else "cpu"),
    }
    print(
        f"token accuracy {row['accuracy']:.4f} (always one class: {row['majority']:.4f}), "
        f"balanced {row['balanced_accuracy']:.4f}, on {len(records)} pictures"
    )
    if args.store:
        source = provenance({f"{dataset}/{EVAL_SPLIT[dataset]}": fingerprint(records)}, len(records), [checkpoint])
        save_rows("table1", folder.name, [row], source)
        _store_curve(folder, args.model, source)


def train_yolos_verb(args: argparse.Namespace) -> None:
    """Train the profile's YOLOS; --store keeps checkpoint and curve in data/."""
    profile = get_profile(args.profile)
    detector, folder = train_yolos(profile, args.seed, limit=args.limit, max_steps=args.max_steps)
    target = profile.checkpoint("yolos") if args.store else folder / "model.safetensors"
    save_yolos(detector, target, metadata={"dataset": profile.detector_data, "seed": args.seed})
    print(f"the detector is in {target.name}")
    if args.store:
        seen = {"/".join(part): fingerprint(load_records(*part, args.limit)) for part in profile.detector_train}
        _store_curve(folder, "yolos", provenance(seen, checkpoints=[target]))


def sweep_verb(args: argparse.Namespace) -> None:
    """Fill Table 2 for a profile, with random and oracle choice beside BAViT; goes on where it was stopped."""
    profile = get_profile(args.profile)
    records = load_records(*profile.detector_eval, args.limit)
    images = [record.image() for record in records]
    checkpoint = profile.checkpoint("yolos")
    detector = PrunedYolos(load_yolos(checkpoint))
    labels = _stacked_labels(records, profile.detector_grid, profile.pruner_rule)
    marks = fingerprint(records)
    folder = RUNS / f"sweep-{profile.name}-{short_hash(checkpoint)}-{marks}"
    dense = detections(detector, images, folder=folder)
    for selector in args.selectors:
        used = [checkpoint]
        if selector in DEPTHS:
            pruner = profile.checkpoint(selector)
            used.append(pruner)
            maps = foreground_maps(load_bavit(pruner), images)
        else:
            maps = SCORERS[selector](records, profile.bavit_grid, args.seed)
        # Another pruner, or another seed of random scores, must not find these detections.
        kept = folder / f"{selector}-{short_hash(used[1]) if selector in DEPTHS else args.seed}"
        rows = sweep(profile, records, images, maps, detector, labels=labels, folder=kept, bavit=selector, dense=dense)
        rows = [{"detector": "yolos", "seed": args.seed} | row for row in rows]
        for row in rows:
            print(f"{selector}: sparsity {row['sparsity']:.2f}, AP {row['AP']:.4f}, {row['delta_AP']:+.4f}")
        if args.store:
            source = provenance({"/".join(profile.detector_eval): marks}, len(records), used)
            save_rows(f"table2-{profile.name}", f"yolos-{selector}", rows, source)


def postprocess_verb(args: argparse.Namespace) -> None:
    """Measure the appendix's neighbour fill, 0 to 5 steps, beside moving the threshold alone."""
    profile = get_profile(args.profile)
    dataset, rule = profile.bavit_data, profile.bavit_rule
    records = load_records(dataset, EVAL_SPLIT[dataset], args.limit)
    checkpoint = profile.checkpoint("bavit-small", dataset, rule)
    maps = foreground_maps(load_bavit(checkpoint), [record.image() for record in records])
    labels = _stacked_labels(records, profile.bavit_grid, rule)
    rows = [
        row
        for neighbours, more_than in ((8, 2), (4, 2), (8, 1), (8, 3), (8, 4))
        for row in postprocessing_rows(maps, labels, more_than=more_than, neighbours=neighbours)
    ]
    for row in rows:
        print(
            f"{row['neighbours']} neighbours, more than {row['more_than']}, {row['step']} steps: "
            f"accuracy {row['accuracy']:.4f}, recall {row['fg_recall']:.4f}, {row['fg_recall_alone']:.4f} by threshold"
        )
    if args.store:
        source = provenance({f"{dataset}/{EVAL_SPLIT[dataset]}": fingerprint(records)}, len(records), [checkpoint])
        save_rows(f"postprocessing-{profile.name}", f"bavit-small-{dataset}-{rule}", rows, source)


def bench_verb(args: argparse.Namespace) -> None:
    """Measure dense and pruned detector in turn, BAViT included, with the token counts of real pictures."""
    profile, sample = get_profile(args.profile), get_profile("sample")
    records = load_records(*sample.detector_eval)
    checkpoint = sample.checkpoint("bavit-small")
    maps = foreground_maps(load_bavit(checkpoint), [record.image() for record in records])
    rows = throughput(profile, maps, args.batch, args.repeats)
    for row in rows:
        print(
            f"batch {row['batch']}, {row['method']}, sparsity {row['sparsity']:.2f}: {row['median_ms']:.1f} ms, "
            f"{row['speedup']:.2f}x of {row['mac_speedup']:.2f}x, {row['peak_mb']:.0f} MB"
        )
    if args.store:
        save_rows(
            "throughput-cpu",
            profile.name,
            rows,
            provenance({"sample/val": fingerprint(records)}, len(records), [checkpoint]),
        )


def notebooks_verb(args: argparse.Namespace) -> None:
    """Run every notebook top to bottom; --refresh writes their outputs back."""
    profile = get_profile(args.profile)
    run_notebooks(profile, refresh=args.refresh)
    print(paper_beside_ours(profile).to_string(index=False))
    print(f"\nfigures and tables are in figures/{profile.name}/")


def readme_verb(args: argparse.Namespace) -> None:
    """Write the paper-beside-ours table into README.md."""
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
            "profile": dict(choices=("sample", "voc", "coco"), help="default: BAVIT_PROFILE, or sample"),
            "seed": dict(type=int, default=0, help="default: 0"),
            "limit": dict(type=int, help="use only the first LIMIT pictures"),
            "max-steps": dict(type=int, help="stop after so many steps, with the state saved"),
            "store": dict(action="store_true", help="write what came out into data/checkpoints and data/results"),
        }
        for option in options:
            sub.add_argument(f"--{option}", **shared[option])
        return sub

    verb("sample-world", sample_world, "limit")
    train = verb("train-bavit", train_bavit_verb, "profile", "seed", "limit", "max-steps", "store")
    train.add_argument("--model", choices=tuple(DEPTHS), default="bavit-small", help="default: bavit-small")
    train.add_argument("--dataset", choices=tuple(EVAL_SPLIT), help="default: the profile's")
    train.add_argument("--rule", choices=("mask", "box"), help="label rule; default: the profile's")
    train.add_argument("--recipe", choices=("best", "paper"), default="best", help="default: best")
    verb("train-yolos", train_yolos_verb, "profile", "seed", "limit", "max-steps", "store")
    swept = verb("sweep", sweep_verb, "profile", "seed", "limit", "store")
    swept.add_argument(
        "--selectors",
        nargs="+",
        choices=(*DEPTHS, *SCORERS),
        default=["bavit-small", "random", "oracle-mask"],
        help="who chooses the tokens; default: bavit-small random oracle-mask",
    )
    verb("postprocess", postprocess_verb, "profile", "limit", "store")
    bench = verb("bench", bench_verb, "profile", "store")
    bench.add_argument("--batch", nargs="+", type=int, default=[1, 8], help="batch sizes; default: 1 8")
    bench.add_argument("--repeats", type=int, default=20, help="timed rounds; default: 20")
    verb("notebooks", notebooks_verb, "profile").add_argument(
        "--refresh", action="store_true", help="keep the outputs in the notebooks"
    )
    verb("readme", readme_verb)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb; an error that has a remedy is told in a sentence, without a traceback."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except (FileNotFoundError, ValueError, FloatingPointError) as error:
        print(f"bavit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
