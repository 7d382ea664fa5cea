"""The gallery's entries of notebook 06: Table 2 and Eq. 4, AP against sparsity and time, and the threshold."""

from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from .. import cost
from ..annotations import stacked_labels
from ..config import Profile, get_profile
from ..data.records import Record, class_names
from ..paper import PAPER
from ..plots import (
    pruned_detections,
    selector_name,
    sparsity_histogram,
    sweep_figure,
    threshold_figure,
    token_arithmetic,
)
from ..pruning import detector_keep, sparsity, threshold_for_sparsity
from ..results import NOT_RUN, load_rows
from ..speed_plots import ap_speed_figure, drop_speed_figure
from ..sweep import PLAIN
from ..sweep_tables import measured_table, ways_table
from ..yolos import PrunedYolos, load_yolos, predict
from .entry import Entry, split_maps, split_records


def stored_curves(profile: Profile) -> dict[str, pd.DataFrame]:
    """The stored sweeps of the profile's detector by who chooses: BAViT-small, random, and the true labels."""
    selectors = ("bavit-small", "random", f"oracle-{profile.pruner_rule}")
    curves = {s: load_rows(f"table2-{profile.name}", bavit=s, detector="yolos", **PLAIN) for s in selectors}
    return {selector: rows for selector, rows in curves.items() if len(rows)}


def _curves(name: str, profile: Profile) -> Figure | None:
    """Table 2 as curves, of the profile called `name`."""
    profile = get_profile(name.format(p=profile))
    curves = stored_curves(profile)
    if "bavit-small" not in curves:
        return None
    dense = curves["bavit-small"].set_index("sparsity").loc[0.0]
    macs = cost.multiply_adds(int(np.prod(profile.detector_grid)), profile, bavit=None)
    return sweep_figure(curves, macs / 1e9, dense.AP - dense.delta_AP)


def _measured(name: str, profile: Profile) -> pd.DataFrame | None:
    curves = stored_curves(get_profile(name.format(p=profile)))
    at_this_scale = "sample" if name == "voc" else profile.name  # both are half scale: one bench for the two
    speed = load_rows("throughput-cpu", profile=at_this_scale)
    return measured_table(curves["bavit-small"], speed).round(3) if "bavit-small" in curves else None


def _tokens(profile: Profile) -> pd.DataFrame:
    """Table 2's token columns, recomputed: with class and detection tokens too."""
    printed = pd.DataFrame(PAPER.table2)
    sparsities = printed["sparsity"].tolist()
    ours = cost.token_table(sparsities)
    table = ours[["sparsity", "tokens_pruned", "tokens_total"]].copy()
    table["paper, %"], table["computed, %"] = 100 * printed["reduction"], (100 * ours["reduction"]).round(2)
    with_prefix = cost.token_table(sparsities, with_prefix=True)
    table["with class and detection tokens, %"] = (100 * with_prefix["reduction"]).round(2)
    table["agrees"] = np.where((table["paper, %"] - table["computed, %"]).abs() < 0.005, "yes", "rounding slip")
    return table


def _equation4(profile: Profile) -> pd.DataFrame:
    yolos, bavit = (PAPER.table2[0][f"tokens_{model}"] for model in ("yolos", "bavit"))
    table = pd.DataFrame({"sparsity": [0.46, 0.35, 0.05, 0.0]})
    table["as printed, tokens"] = [cost.token_reduction(yolos, bavit, s, as_printed=True) for s in table["sparsity"]]
    table["as meant, %"] = [100 * cost.token_reduction(yolos, bavit, s) for s in table["sparsity"]]
    return table.round(2)


def _claims(profile: Profile) -> pd.DataFrame:
    tuned = next(row["AP"] for row in PAPER.table2 if row["detector"] == "yolos-f")
    quadratic = 2 * 1125**2 * PAPER.embed_dim / cost.block_multiply_adds(1125)
    at_34 = f"{cost.token_reduction(12288, 1152, 0.34):.1%}"
    claims = {
        "34 % sparsity reduces tokens by 24 % (section 4.2)":
            f"{at_34}, and Table 2 has no such row; its neighbours drop 3.8 and 4.4 AP, not 2.6",
        "25 % fewer tokens with a drop of 3 AP (conclusion)":
            "the 25.63 % row drops 4.4; 2.9 is the 29 % row, 19.6 % fewer tokens",
        "less than 2 AP after fine-tuning": f"{100 * (PAPER.base_AP - tuned):.1f}",
        "quadratic impact": f"{quadratic:.0%} of a block's multiply-adds are quadratic in the tokens, at 1,125 of them",
    }  # fmt: skip
    return pd.DataFrame({"the paper says": claims.keys(), "computed": claims.values()})


def _table2(profile: Profile) -> pd.DataFrame:
    """Table 2's AP, the paper's on COCO beside ours on the profile's data, and its change by each choice of tokens."""
    table = pd.DataFrame({"sparsity": [row["sparsity"] for row in PAPER.table2 if row["detector"] == "yolos"]})
    table["paper, AP"] = [100 * row["AP"] for row in PAPER.table2 if row["detector"] == "yolos"]
    table["paper, change"] = table["paper, AP"] - 100 * PAPER.base_AP
    curves = stored_curves(profile)
    for selector, rows in curves.items():
        rows = rows.set_index("sparsity").reindex(table["sparsity"]).reset_index()
        if selector == "bavit-small":
            table["ours, AP"], table["FG kept, %"] = 100 * rows["AP"], 100 * rows["fg_recall"]
            table["multiply-adds, G"] = rows["gmacs"]
        table[f"{selector}, change"] = 100 * rows["delta_AP"]
    if not curves:
        table["ours, AP"] = NOT_RUN
    return table


def _timed_curves(profile: Profile) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """The stored sweeps under the names of legends, and the stored times; empty where there are none."""
    named = {selector_name(selector): rows for selector, rows in stored_curves(profile).items()}
    return named, load_rows("throughput-cpu", profile=profile.name)


def _drop_by_speed(profile: Profile) -> Figure | None:
    curves, speed = _timed_curves(profile)
    at_paper_sizes = load_rows("throughput-cpu", profile="voc")
    return drop_speed_figure(curves, speed, at_paper_sizes) if curves and len(speed) else None


def _ap_by_speed(profile: Profile) -> Figure | None:
    curves, speed = _timed_curves(profile)
    if not (curves and len(speed)):
        return None
    tuned = load_rows(f"table2-{profile.name}", bavit="bavit-small", detector="yolos-f", **PLAIN)
    return ap_speed_figure(curves | ({"YOLOS-F, BAViT-small": tuned} if len(tuned) else {}), speed)


def _scale(profile: Profile) -> pd.DataFrame:
    """What the profile's scale allows, beside the paper's: tokens and multiply-adds at 35 % sparsity."""
    sizes = {f"profile {profile.name}": profile, "the paper's": get_profile("coco")}
    tokens = [cost.token_table([0.0, 0.35], one) for one in sizes.values()]
    dense, pruned = (
        [cost.multiply_adds(share * np.prod(one.detector_grid), one, bavit) for one in sizes.values()]
        for share, bavit in ((1, None), (0.65, "bavit-small"))
    )
    table = pd.DataFrame({"sizes": sizes.keys()})
    table["BAViT's tokens, % of YOLOS's"] = [100 * (t["tokens_bavit"] / t["tokens_yolos"])[0] for t in tokens]
    table["fewer tokens at 35 %, %"] = [100 * t["reduction"][1] for t in tokens]
    table["speed-up allowed at 35 %"] = np.divide(dense, pruned)
    return table.round(2)


def _maps(profile: Profile) -> torch.Tensor | None:
    return split_maps(profile.checkpoint("bavit-small"), *profile.detector_eval)


def threshold_shares(profile: Profile) -> pd.DataFrame | None:
    """Sparsity and foreground recall on the detector's grid at 49 thresholds, evenly spread by their logit."""
    maps, grid = _maps(profile), profile.detector_grid
    if maps is None:
        return None
    records = split_records(*profile.detector_eval)
    foreground = torch.from_numpy(stacked_labels(records, grid, profile.pruner_rule)) == 1
    thresholds = 1 / (1 + np.exp(-np.linspace(-4, 8, 49)))
    keeps = [detector_keep(maps, threshold, grid) for threshold in thresholds]
    shares = [(sparsity(keep).mean().item(), keep[foreground].float().mean().item()) for keep in keeps]
    return pd.DataFrame(shares, columns=["sparsity", "fg_recall"]).assign(threshold=thresholds)


def _threshold(profile: Profile) -> Figure | None:
    shares = threshold_shares(profile)
    return None if shares is None else threshold_figure(shares)


def sparsity_spread(profile: Profile) -> dict[str, np.ndarray] | None:
    """The sparsity of each picture [N] at threshold 0.5 and at those set for 35 % and 46 % on average."""
    maps, grid = _maps(profile), profile.detector_grid
    if maps is None:
        return None
    at = {"threshold 0.5": 0.5} | {f"set for {s:.0%}": threshold_for_sparsity(maps, s, grid) for s in (0.35, 0.46)}
    return {name: sparsity(detector_keep(maps, threshold, grid)).numpy() for name, threshold in at.items()}


def _spread(profile: Profile) -> Figure | None:
    spread = sparsity_spread(profile)
    return None if spread is None else sparsity_histogram(spread)


def _stand_apart(record: Record) -> bool:
    """Whether a picture has two to four large objects whose boxes don't touch: their names are then legible."""
    boxes = record.boxes
    if not 2 <= len(boxes) <= 4 or (boxes[:, 2:] - boxes[:, :2]).min() < 0.4 * max(record.size):
        return False
    apart = (boxes[:, None, :2] > boxes[None, :, 2:] + 8).any(-1)
    return bool((apart | apart.T | np.eye(len(boxes), dtype=bool)).all())


def _strip(profile: Profile) -> Figure | None:
    maps, detector = _maps(profile), profile.checkpoint("yolos")
    if maps is None or not detector.exists():
        return None
    records = split_records(*profile.detector_eval)
    index = next((i for i, record in enumerate(records) if _stand_apart(record)), 0)
    image, at = records[index].image(), (1.0, 0.9, 0.5, 0.2)
    keep = torch.cat([detector_keep(maps[index : index + 1], threshold, profile.detector_grid) for threshold in at])
    found = predict(PrunedYolos(load_yolos(detector)).eval(), [image] * len(at), keep)
    titles = [f"threshold {t:.1f}\n{share:.0%} pruned" for t, share in zip(at, sparsity(keep).tolist(), strict=True)]
    return pruned_detections(image, keep.numpy(), found, class_names(profile.detector_data), titles, 0.8)


_STORED, _HALF, _TIMED = ("table2-{p.name}",), ("table2-voc",), ("table2-{p.name}", "throughput-cpu")
ENTRIES = (
    Entry("table", "table2-tokens", _tokens, "06", "Table 2's token columns, recomputed.", "Table 2"),
    Entry(
        "figure", "table2-tokens", lambda profile: token_arithmetic(), "06",
        "Table 2's tokens: below some 9 % sparsity BAViT costs more of them than it saves.", "Table 2",
    ),
    Entry("table", "equation4", _equation4, "06", "Eq. 4 at four of Table 2's sparsities."),
    Entry("table", "table2-claims", _claims, "06", "What the text says of Table 2, and what the table says."),
    Entry(
        "table", "table2", _table2, "06",
        "Table 2: AP in points, the paper's on COCO and ours on the profile's data.", "Table 2", _STORED,
    ),
    Entry(
        "figure", "table2", partial(_curves, "{p.name}"), "06",
        "The change in AP against sparsity and against the multiply-adds saved: the paper's, BAViT's with its 95 % "
        "band, random choice and the true labels.", "Table 2", _STORED,
    ),
    Entry(
        "table", "table2-measured", partial(_measured, "{p.name}"), "06",
        "Table 2 as measured, BAViT-small.", "Table 2", _TIMED,
    ),
    Entry(
        "figure", "table2-time", _drop_by_speed, "06",
        "The change in AP against how many times as fast as dense it was, BAViT's time counted; the paper's rows at "
        "the speeds that we measured at its sizes.", results=_TIMED,
    ),
    Entry(
        "figure", "ap-speed", _ap_by_speed, "06",
        "AP against measured pictures a second; the star is the dense detector without BAViT.", results=_TIMED,
    ),
    Entry(
        "table", "table2-ways", lambda profile: ways_table(load_rows(f"table2-{profile.name}", detector="yolos")), "06",
        "Change in AP (points) and foreground kept, at equal sparsity.", results=_STORED,
    ),
    Entry(
        "figure", "table2-voc", partial(_curves, "voc"), "06",
        "Table 2 on photographs at half scale: there BAViT does no better than random choice, while the true boxes "
        "cost next to nothing.", "Table 2", _HALF,
    ),
    Entry(
        "table", "table2-voc", partial(_measured, "voc"), "06",
        "VOC2007 test pictures at half scale.", "Table 2", _HALF,
    ),
    Entry("table", "scale", _scale, "06", "What the profile's scale allows, beside the paper's."),
    Entry(
        "figure", "threshold", _threshold, "06",
        "Patches pruned and foreground kept on the detector's grid, by threshold.",
    ),
    Entry(
        "figure", "sparsity-of-pictures", _spread, "06",
        "How sparsity is spread over pictures, at three thresholds.",
    ),
    Entry(
        "figure", "threshold-strip", _strip, "06",
        "One picture at four thresholds: pruned patches white, and the boxes of a score above 0.8 that the detector "
        "still finds.", pictures=True,
    ),
)  # fmt: skip
