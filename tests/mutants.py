"""Single changes to the package, one at a time, and whether a test notices: `python tests/mutants.py [module ...]`.

pytest doesn't collect this file. Each change is made in a copy of the repository, and the tests named beside its module
run there until the first that fails, in a fork of one process that has imported the libraries. Every change that passes
unnoticed is listed, and the share of those that were caught: 95 % of them is what CONTRIBUTING.md asks for. A change
whose text is no longer there, or there twice, is listed as gone: mend the table below.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
LONGEST = 900  # seconds of processor time for one change, after which it counts as caught

# The module, the tests that have to notice, and the changes: old text (once in the file), new text.
MUTANTS = [
    ("annotations", "test_annotations.py", [
        ("inside >= tau * whole", "inside > tau * whole"),
        ("foreground > tau * area", "foreground >= tau * area"),
        ('"mask": 0.1,', '"mask": 0.15,'),
        ('"box": 0.5}', '"box": 0.4}'),
        ("(mask != 0) ^ void", "mask != 0"),
        ("mask.size - _patch_sums(void, grid) if void.any() else mask.size", "mask.size"),
        ("whole).any(axis=0)", "whole).all(axis=0)"),
        ("[:, None, None] - inside", "[:, None, None]"),
        ("boxes = boxes[~crowd]", "pass"),
        ("area == 0, IGNORE_INDEX", "area < 0, IGNORE_INDEX"),
        ("tau = TAU[rule] if tau is None else tau", "tau = tau or TAU[rule]"),
        ("tau=tau, crowd=record.crowd", "tau=tau"),
    ]),
    ("pruning", "test_pruning.py", [
        ("return fg_prob >= 1 - threshold", "return fg_prob > 1 - threshold"),
        ("[:, 0] > more_than", "[:, 0] >= more_than"),
        ("kernel[..., ::2, ::2] = 0", "kernel[..., ::2, ::2] = 1"),
        ('mode="nearest-exact"', 'mode="nearest"'),
        ("adaptive_max_pool2d", "adaptive_avg_pool2d"),
        ("keep = keep | (", "keep = ("),
        ("return 1 - keep.flatten(1)", "return keep.flatten(1)"),
        ("mean_sparsity(middle) > target", "mean_sparsity(middle) < target"),
        ("masked_fill(drawn.to(fg_prob.device) < share, 1.0)", "masked_fill(drawn.to(fg_prob.device) < share, 0.0)"),
        ("keep_mask(resize_grid(fg_prob, grid, mode), threshold)",
         'resize_grid(keep_mask(fg_prob, threshold), grid, "nearest")'),
    ]),
    ("packed", "test_yolos.py", [
        ("attention.scaling, dropout", "1.0, dropout"),
        ("layer.intermediate(layer.layernorm_after(x))", "layer.intermediate(x)"),
        ("if len(set(lengths)) == 1:", "if True:"),
        ("key.split(lengths)", "query.split(lengths)"),
    ]),
    ("yolos", "test_yolos.py test_yolos_files.py", [
        ("num_detection_tokens), value=True)", "num_detection_tokens), value=False)"),
        ("+ 1 + image * (1 + count)", "+ image * (1 + count)"),
        ("if index in stages:", "if index + 1 in stages:"),
        ("given & wanted), everything", "given & wanted), keep"),
        ("if tuple(size) != tuple(self.detector.config.image_size):", "if False:"),
        ("restore(self.detector.vit.layernorm(x))", "restore(x)"),
        ("bbox_predictor(queries).sigmoid()", "bbox_predictor(queries)"),
        ("threshold=-1.0", "threshold=0.3"),
        ("to_batch(images[part], square, config.normalise)", "to_batch(images[part], square)"),
        ("sizes = sizes or [image.shape[:2] for image in images]", "sizes = [image.shape[:2] for image in images]"),
        ("keep[part].to(weight.device)", "keep[: len(images[part])].to(weight.device)"),
    ]),
    ("cost", "test_cost.py", [
        ("1 - table.tokens_total / table.tokens_yolos", "table.tokens_total / table.tokens_yolos"),
        ("np.floor(patches", "np.ceil(patches"),
        ("(4 + 2 * MLP_RATIO)", "(3 + 2 * MLP_RATIO)"),
        ("2 * tokens**2 * EMBED_DIM", "tokens**2 * EMBED_DIM"),
        ("_PATCH_VALUES = 3 * PATCH_SIZE**2", "_PATCH_VALUES = PATCH_SIZE**2"),
        ("return pruner + yolos_multiply_adds(", "return yolos_multiply_adds("),
        ("(depth - after_layers) * block", "depth * block"),
        ("patches if after_layers else kept", "kept"),
        ("t[warmup:]", "t[:repeats]"),
        ("quartiles[names[0]][1] / median", "median / quartiles[names[0]][1]"),
        ("append(1000 *", "append(1 *"),
    ]),
    ("metrics", "test_metrics.py", [
        ("(fg_prob >= 0.5) == is_fg", "(fg_prob > 0.5) == is_fg"),
        ("np.percentile(defined, [2.5, 97.5])", "np.percentile(defined, [16, 84])"),
        ("round(sparsity * labels.shape[1])", "int(sparsity * labels.shape[1])"),
        ('gt["iscrowd"] or gt["difficult"]', 'gt["iscrowd"]'),
        ("max(fg_share, 1 - fg_share)", "min(fg_share, 1 - fg_share)"),
        (", area=_array(record.areas, np.float64)", ""),
        ("np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]", "precision"),
        ("> 0) & ~ignored", "> 0)"),
        ('np.asarray(m["gtIgnore"]) == 0', 'np.asarray(m["gtIgnore"]) >= 0'),
        ("present += n_objects > 0", "present += 1"),
        ("- reference.resampled(n_boot)", "- reference.resampled(n_boot)[::-1]"),
        ("if evaluation.image_ids != reference.image_ids:", "if False:"),
        ("(2 * ap - np.array(resampled)).clip(0, 1)", "np.array(resampled)"),
    ]),
    ("sweep", "test_sweep.py", [
        ("if sparsity else 1.0", "if sparsity else 0.0"),
        ("1 - (kept / patches)", "(kept / patches)"),
        ("DEPTHS.get(bavit, 0)", "DEPTHS.get(bavit, 2)"),
        ("depth * (1 + profile.num_detection_tokens)", "depth * profile.num_detection_tokens"),
        ("bavit if bavit in DEPTHS else None", "None"),
        ("keep[setting.labels == 1]", "keep[setting.labels == 0]"),
        ("paired_difference(evaluation, setting.dense)", "paired_difference(setting.dense, evaluation)"),
        ('name += "-" + hashlib', 'name + "-" + hashlib'),
        (", sizes=self.sizes", ""),
        ("way.fill_steps, way.resize) if sparsity", "0, way.resize) if sparsity"),
    ]),
    ("results", "test_results.py", [
        ("abs(now - then) <= most", "abs(now - then) <= 10 * most"),
        ("len(same) != 1", "len(same) < 1"),
        ("assert count and not wrong", "assert not wrong"),
        ('wrong.append(f"{label}: {column}', 'list(f"{label}: {column}'),
        ('":(exclude)data",', '":(exclude)data", ":(exclude)bavit_utils",'),
        ('if row["run"] != run]', "]"),
        ("if not math.isfinite(value):", "if False:"),
        ("{value:.6g}", "{value:.3g}"),
        ("isinstance(value, str) and _PATH.search(value)", "False"),
        ('with FileLock(config.CACHE / f"{name}.lock")', "with open(os.devnull)"),
        ("if all(_matches(", "if any(_matches("),
    ]),
    ("training/loop", "test_training_split.py test_bad_input.py::test_a_training_knows_its_data", [
        ("(records[:-dev], records[-dev:])", "(records, records[-dev:])"),
        ("(records[:-dev], records[-dev:])", "(records[:-dev], records[:dev])"),
        (', "data": fingerprint(data.records)}', "}"),
    ]),
    ("training/bavit", "test_training_split.py", [
        ("return sum(others, train), dev", "return sum(others, first), dev"),
        ("warp(record.image(), data.img_size) for record in dev", "record for record in dev[:0]"),
    ]),
    ("training/detector", "test_training_split.py", [("train + parts[0]", "train + records")]),
    ("training/finetuning", "test_training_split.py", [("train, dev = detection_records(profile, schedule.limit)",
     "train, dev = detection_records(profile, schedule.limit); train = train + dev")]),
    ("selectors/training", "test_training_split.py", [("DetectionPictures(train,", "DetectionPictures(train + dev,")]),
    ("verbs/bavit", "test_training_split.py", [
        ('load_records(dataset, "train"))[1]', 'load_records(dataset, "train"))[0]'),
    ]),
    ("inside", "test_yolos.py test_training_inside.py", [
        ("given & keep_mask(", "keep_mask("),
        ("[..., 1], self.threshold)", "[..., 0], self.threshold)"),
        ('if metadata.get("detector") != detector:', "if False:"),
    ]),
    ("experiments/inside", "test_experiments_inside.py", [
        ("maps[: len(self.dev)], point.sparsity", "maps, point.sparsity"),
        ('"dev_AP": dev.', '"dev_AP": held_out.'),
    ]),
    ("experiments/frontier", "test_experiments_inside.py", [
        ("detector_keep(foreground_probability(bavit, small), 0.5, grid)", "pass"),
        ('some["dev_AP"].idxmax()', 'some["AP"].idxmax()'),
        ("super().keep(tokens, given)", "pass"),
        ('"(?!truth)"', '""'),
    ]),
    ("selectors/merging", "test_selectors_merging.py", [
        ("self.metric = key.mean(dim=2)", "self.metric = key[:, :, 0]"),
        ("bias = self.sizes.log()", "bias = 0 * self.sizes.log()"),
        ("return x / self.sizes", "return x"),
    ]),
    ("data/masks", "test_bad_input.py test_data_records.py", [
        (" or runs.sum() != pixels", ""),
        ("(runs < 0) | (runs > pixels)", "runs > pixels"),
        ("code & 16 > 0", "code & 16 > 99"),
        ("np.lexsort((-record.areas, ~record.crowd))", "np.lexsort((record.areas, ~record.crowd))"),
        ("if record.crowd[j] else", "if False else"),
    ]),
    ("data/readers", "test_data_records.py test_bad_input.py", [
        ("- [1, 1, 0, 0]", "- [0, 0, 0, 0]"),
        ('float(a.get("area", width * height))', "float(width * height)"),
        ('"crowd": np.array(crowd, dtype=bool)', '"crowd": np.zeros(len(crowd), dtype=bool)'),
        ("_SLACK = 2.0", "_SLACK = 200.0"),
        ('"difficult": np.array(difficult, dtype=bool)', '"difficult": np.zeros(len(boxes), dtype=bool)'),
    ]),
    ("data/records", "test_data_records.py", [("digest.update(r.image_path.read_bytes())", "pass")]),
    ("weights", "test_yolos_files.py test_bad_input.py", [
        ("sort_keys=True", "sort_keys=False"),
        ("not tensor.isfinite().all()", "False"),
        ("groups.abs().amax(dim=-1)", "groups.abs().amax()"),
        ("bits < 32", "bits < 64"),
    ]),
    ("experiments/calibration", "test_experiments_calibration.py", [
        ("interval(2 * ece[0] - ece[1:])", "interval(ece[1:])"),
        ('most_lost * lost[-1], side="right"', 'most_lost * lost[-1] * 2, side="right"'),
        ("(keep == is_fg) & valid", "(keep == is_fg)"),
    ]),
    ("experiments/benchmark", "test_experiments_benchmark.py", [
        ("detector_keep(foreground_probability(self.bavit, self.small), 0.5, self.profile.detector_grid)", "pass"),
        ("self.detector(self.large, keep)", "self.detector(self.small, None)"),
        ("dense_macs / multiply_adds(kept, profile)", "dense_macs / multiply_adds(kept, profile, bavit=None)"),
    ]),
]  # fmt: skip


def copied() -> Path:
    """The repository in a temporary folder: package and tests as copies, all else as links."""
    root = Path(tempfile.mkdtemp(prefix="mutants-"))
    for path in HERE.iterdir():
        if path.name in ("bavit_utils", "tests"):
            shutil.copytree(path, root / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.name != ".git":
            (root / path.name).symlink_to(path)
    return root


def prepare(root: Path) -> None:
    """Import what takes long, and nothing of the package."""
    import accelerate.utils  # noqa: F401
    import hypothesis  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import pandas  # noqa: F401
    import pooch  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import timm.models  # noqa: F401
    import torch
    import torchvision.models.detection  # noqa: F401
    import transformers.loss.loss_for_object_detection
    import transformers.models.yolos.modeling_yolos  # noqa: F401

    torch.set_num_threads(1)
    sys.dont_write_bytecode = True  # of a file changed within a second, an old one would be taken
    sys.path[:0] = [str(root), str(root / "tests")]
    os.environ |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    os.chdir(root)


def passes(tests: str) -> bool:
    """Whether these tests, in a process of their own, notice nothing."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    import resource

    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))
    silent = os.open("pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os._exit(pytest.main(["-x", "-q", "--tb=line", *(f"tests/{name}" for name in tests.split())]))


def main(modules: list[str]) -> int:
    """Run the changes of these modules, or all; returns 1 where fewer than 95 % of them were caught."""
    root = copied()
    prepare(root)
    caught, unnoticed, gone = 0, [], []
    for module, tests, changes in MUTANTS:
        if modules and module not in modules:
            continue
        start, path = time.perf_counter(), root / "bavit_utils" / f"{module}.py"
        if not passes(tests):
            print(f"{module}: {tests} fail without any change, see {root / 'pytest.log'}", flush=True)
            gone += [module]
            continue
        text = path.read_text()
        for old, new in changes:
            if text.count(old) != 1:
                gone.append(f"{module}: {old}")
                continue
            path.write_text(text.replace(old, new))
            if passes(tests):
                unnoticed.append(f"{module}: {old}  ->  {new}")
                print(f"unnoticed  {unnoticed[-1]}", flush=True)
            else:
                caught += 1
        path.write_text(text)
        print(f"{module}: {caught} caught, {len(unnoticed)} not, {time.perf_counter() - start:.0f} s", flush=True)
    shutil.rmtree(root)
    print("\n".join(f"gone       {one}" for one in gone))
    total = caught + len(unnoticed)
    print(f"{caught} of {total} changes were caught" + (f", {len(gone)} are gone" if gone else ""))
    return int(caught < 0.95 * total or bool(gone))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
