"""The paper beside ours in ten rows: what `make reproduce` ends with, and what README.md holds between two marks.

Every number is looked up in data/results/ or is the paper's own; what was not measured says so.
"""

import textwrap

import numpy as np
import pandas as pd

from .. import config
from ..config import Profile, get_profile
from ..cost import multiply_adds
from ..experiments.frontier import fair
from ..paper import PAPER, TRAINED_AT
from ..results import NOT_RUN, load_rows
from ..sweep import PLAIN
from .tables import markdown_table, shown_interval

AT = TRAINED_AT  # the sparsity that rows are about
_DATA = {
    "sample": "sample world", "voc2007": "VOC2007 re-split", "voc2012": "VOC2012 subset", "coco": "COCO subset",
    "own": "your images", "photos": "bundled photographs",
}  # fmt: skip
_WIDTHS = {"claim": 24, "paper": 13, "ours": 29, "data": 16, "status": 10}  # 100 columns with two blanks between them
_BEGIN, _END = "<!-- results:begin -->", "<!-- results:end -->"
REST = "All stored rows: data/results/. All figures and tables: figures/README.md. All claims: notebook 11."


def data_name(data: str) -> str:
    """What a data set and split ("voc2007/test") is called wherever a number is shown."""
    return _DATA.get(data.split("/")[0], data)


def headlines(profile: Profile) -> pd.DataFrame:
    """The claims that matter, each with the paper's number, ours, the data and how far ours can stand for it.

    Columns `claim, paper, ours, data, status`, all text. They are of the sample world and of photographs (profile
    `voc`); another profile's rows join them.
    """
    profiles = [get_profile(name) for name in dict.fromkeys(("sample", "voc", profile.name))]
    rows = [_accuracy("voc", "voc2012"), _accuracy("coco", "coco"), _dense(profiles)]
    rows += [_change(each) for each in profiles] + [_inside(each) for each in profiles]
    rows += [_finetuned(profiles), _speed(), _memory()]
    return pd.DataFrame(rows, columns=list(_WIDTHS))


def _row(claim: str, paper: str, ours: list[str], data: list[str], status: str) -> tuple[str, ...]:
    """A row of the table; `status` is that of what was measured of `ours`."""
    absent = sum(text.endswith(NOT_RUN) for text in ours)
    status = NOT_RUN if absent == len(ours) else status + (f"; rest {NOT_RUN}" if absent else "")
    return claim, paper, NOT_RUN if absent == len(ours) else "; ".join(ours), "; ".join(dict.fromkeys(data)), status


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _accuracy(paper_data: str, dataset: str) -> tuple[str, ...]:
    """Table 1 at the paper's size, by masks, over our seeds."""
    ours, data = [], data_name(dataset)
    for model in ("bavit-small", "bavit-large"):
        rows = load_rows("table1", model=model, dataset=dataset, rule="mask", recipe="best")
        if len(rows):
            spread = f" ± {100 * rows.accuracy.std():.1f}" if len(rows) > 1 else ""
            ours.append(
                f"{model[6:]} {100 * rows.accuracy.mean():.1f}{spread} % (majority {100 * rows.majority.mean():.1f} %)"
            )
            data = f"{data_name(dataset)}, {rows.n_images[0]} images"
        else:
            ours.append(f"{model[6:]} {NOT_RUN}")
    paper = " / ".join(f"{100 * row['accuracy']:.1f}" for row in PAPER.table1 if row["dataset"] == paper_data)
    claim = f"token accuracy on {paper_data.upper()}, BAViT-small / large (Table 1)"
    return _row(claim, f"{paper} %", ours, [data], "subset")


def _table2(profile: Profile, selector: str = "bavit-small", detector: str = "yolos", sparsity: float = AT):
    """Stored rows of Table 2 as the paper most likely has it: one, or one a seed."""
    stored = {"bavit": selector, "detector": detector, "sparsity": sparsity}
    return load_rows(f"table2-{profile.name}", **stored, **PLAIN)


def _status(*profiles: Profile) -> str:
    """How far rows of these profiles can stand for the paper's, whose images are COCO's."""
    kinds = {"sample": "drawn images", "voc2007": "re-split", "coco": "subset", "own": "other images"}
    (kind, *others) = {kinds[profile.detector_data] for profile in profiles}
    return "other images" if others else kind


def _dense(profiles: list[Profile]) -> tuple[str, ...]:
    ours, data = [], []
    for profile in profiles:
        rows, name = _table2(profile, sparsity=0.0), data_name(profile.detector_data)
        found = f"{100 * rows.AP[0]:.1f} (AP50 {100 * rows.AP50[0]:.1f})" if len(rows) else NOT_RUN
        ours.append(f"{name} {found}")
        data.append(f"{name}, {rows.n_images[0]} images" if len(rows) else name)
    return _row("AP of the dense detector", f"{100 * PAPER.base_AP:.1f}", ours, data, _status(*profiles))


def _change(profile: Profile) -> tuple[str, ...]:
    """In points with the interval over images, and as a share of the dense detector's AP; random choice beside it."""
    paper = next(row["AP"] for row in PAPER.table2 if row["detector"] == "yolos" and row["sparsity"] == AT)
    dense, rows, random = _table2(profile, sparsity=0.0), _table2(profile), _table2(profile, "random")
    ours = [NOT_RUN]
    if len(rows) and len(dense):
        delta, low, high = (_points(rows[key][0]) for key in ("delta_AP", "delta_low", "delta_high"))
        ours = [f"{delta} [{low}, {high}], {100 * rows.delta_AP[0] / dense.AP[0]:+.0f} % of dense"]
        ours += [f"random {_points(random.delta_AP.mean())}"] if len(random) else []
    drop = paper - PAPER.base_AP
    claim = f"change in AP with {AT:.0%} of the patches pruned (Table 2)"
    told = f"{_points(drop)}, {100 * drop / PAPER.base_AP:+.0f} % of dense"
    return _row(claim, told, ours, [_images(profile, rows)], _status(profile))


def _images(profile: Profile, rows: pd.DataFrame) -> str:
    return data_name(profile.detector_data) + (f", {rows.n_images[0]} images" if len(rows) else "")


def _smaller(profile: Profile) -> tuple[str, ...]:
    """BAViT beside the dense detector on the largest smaller image that costs no more."""
    stored = load_rows(f"selectors-{profile.name}", seed=0)
    rows, ours = stored, [NOT_RUN]
    if len(stored):
        rows = stored[(stored.selector == "bavit-small") & (stored.sparsity == AT)].reset_index()
        whole = multiply_adds(int(np.prod(profile.detector_grid)), profile, bavit=None) / 1e9
        smaller = stored[stored.selector.str.startswith("resolution-") & (stored.gmacs <= rows.gmacs[0])]
        pairs = [("pruned", rows.iloc[0])] + [
            (row.selector.replace("resolution-", "") + " px", row) for _, row in smaller.nlargest(1, "gmacs").iterrows()
        ]
        ours = [
            f"{name} {100 * row.AP:.1f} [{100 * row.AP_low:.1f}, {100 * row.AP_high:.1f}] at cost {row.gmacs / whole:.2f}"
            for name, row in pairs
        ]
    claim = f"AP with {AT:.0%} pruned, beside a smaller image (cost: share of multiply-adds)"
    return _row(claim, "–", ours, [_images(profile, rows)], _status(profile))


def _ranked(profile: Profile) -> pd.DataFrame:
    """Who is best at each speed, for one image at the paper's size; no speed where only ours was trained on for it."""
    rows = load_rows(f"inside-{profile.name}", run="frontier", part="all", time="latency_512_ms_b1")
    return fair(rows) if len(rows) else rows


def _inside(profile: Profile) -> tuple[str, ...]:
    """The best pruning inside against the best smaller image, at equal measured speed; else `_smaller`."""
    rows = _ranked(profile)
    if not len(rows):
        return _smaller(profile)
    ours = []
    for speed in (1.3, 1.6):
        at = rows[rows.speed == speed].set_index("family")
        if not {"inside", "resolution"} <= set(at.index):  # nothing of one of the two is as fast
            continue
        best, other = at.loc["inside"], at.loc["resolution"]
        gap = shown_interval(best.delta_AP, best.delta_low, best.delta_high, "+")
        coarse, side = "coarse-" in best.method, other.method.removeprefix("resolution-")
        way = best.method.removeprefix("coarse-").replace("inside-", "after layer ")
        ours.append(f"{speed}x: {way}, {best.sparsity:.0%} {'merged' if coarse else 'pruned'}, {gap} against {side} px")
    claim = "AP of pruning inside against a lower resolution, as fast when measured (chosen on other images)"
    return _row(claim, "–", ours, [_images(profile, rows)], _status(profile))


def _finetuned(profiles: list[Profile]) -> tuple[str, ...]:
    paper = {row["detector"]: row["AP"] for row in PAPER.table2 if row["sparsity"] == AT}
    ours = []
    for profile in profiles:
        ap = {name: _table2(profile, detector=name) for name in ("yolos", "yolos-f", "yolos-control")}
        gains = [
            _points(ap[name].AP[0] - ap["yolos"].AP[0])
            for name in ("yolos-f", "yolos-control")
            if all(map(len, ap.values()))
        ]
        ours.append(f"{data_name(profile.detector_data)} " + ("{}, control {}".format(*gains) if gains else NOT_RUN))
    claim, data = f"gain in AP by fine-tuning at {AT:.0%} (YOLOS-F)", [data_name(p.detector_data) for p in profiles]
    told = f"{_points(paper['yolos-f'] - paper['yolos'])}, no control"
    return _row(claim, told, ours, data, _status(*profiles))


def _times(sparsity: float = AT) -> list[tuple[pd.Series, pd.Series, pd.Series]]:
    """At the paper's sizes on a CPU, a batch size each: dense, transformers' dense and, nearest to `sparsity`, pruned."""
    rows, pairs = load_rows("throughput-cpu", profile=["voc-512", "coco"]), []
    rows = rows[rows.profile == rows.profile.max()] if len(rows) else rows  # one of the two, which have these sizes
    for _, part in rows.groupby("batch") if len(rows) else ():
        pruned, dense = part[part.method == "gather"], [part[part.method == one] for one in ("dense", "transformers")]
        pairs.append((*(one.iloc[0] for one in dense), pruned.loc[(pruned.sparsity - sparsity).abs().idxmin()]))
    return pairs


def _at_the_drop() -> float:
    """The sparsity at which Table 2 has the abstract's drop in AP: the one that its 30 to 40 % belong to."""
    rows = [row for row in PAPER.table2 if row["detector"] == "yolos"]
    return min(rows, key=lambda row: abs(PAPER.base_AP - row["AP"] - PAPER.drop))["sparsity"]


def _speed() -> tuple[str, ...]:
    at = _at_the_drop()
    paper = " to ".join(f"{1 + gain:.1f}x" for gain in PAPER.throughput_gain)
    ours = [f"{row.speedup:.2f}x of {row.mac_speedup:.2f}x (batch {row.batch})" for *_, row in _times(at)] or [NOT_RUN]
    ours += _speed_in_8_bits()
    claim = (
        f"speed at {at:.0%} (the abstract's {100 * PAPER.drop:.0f} AP), BAViT included, of what multiply-adds predict"
    )
    return _row(claim, paper, ours, [_device()], "a CPU")


def _speed_in_8_bits() -> list[str]:
    """At the paper's size, over torch in float32 with every patch."""
    where = {"img_size": PAPER.detector_img_size, "threads": 1, "round_to": 0, "batch": 1}
    dense = load_rows("edge-cpu", runtime="torch", dtype="fp32", keep=1.0, **where)
    pruned = load_rows("edge-cpu", runtime="onnxruntime", dtype="int8", keep=round(1 - AT, 2), **where)
    found = len(dense) and len(pruned)
    gain = dense.median_ms[0] / pruned.median_ms[0] if found else None
    return [f"int8 at {AT:.0%} against dense float32, one thread: {gain:.2f}x"] if found else []


def _memory() -> tuple[str, ...]:
    ours = []
    for dense, other, row in _times():  # two forwards that compute the same: what lies between them is no difference
        low, high = sorted((dense.peak_mb, other.peak_mb))
        ours.append(f"{row.peak_mb:.0f} MB, dense {low:.0f} to {high:.0f} (batch {row.batch})")
    return _row(f"peak memory at {AT:.0%}, BAViT included", "less", ours or [NOT_RUN], [_device()], "a CPU")


def _device() -> str:
    times = _times()
    return "512 px, CPU" + (f", {times[0][-1].threads} threads" if times else "")


def _at_equal_cost(profile: Profile) -> pd.Series:
    """The row of the largest smaller image, which is compared with BAViT-small at its multiply-adds; empty without one."""
    rows = load_rows(f"selectors-{profile.name}")
    rows = (
        rows[rows.selector.str.startswith("resolution-")].dropna(subset="delta_at_paper_share") if len(rows) else rows
    )
    return rows.loc[rows.gmacs.idxmax()] if len(rows) else pd.Series()


def _apart(low: float, high: float) -> str:
    """What the ends of a difference's interval say of it."""
    return "better than" if low > 0 else "worse than" if high < 0 else "not distinguishable from"


def in_short() -> list[str]:
    """What came out, in sentences whose words follow from the stored numbers; without rows there is none."""
    profiles, lines = [get_profile(name) for name in ("sample", "voc")], []
    paper = next(row["AP"] for row in PAPER.table2 if row["detector"] == "yolos" and row["sparsity"] == AT)
    for profile in profiles:
        dense, ours, drawn = _table2(profile, sparsity=0.0), _table2(profile), _table2(profile, "random")
        if len(dense) and len(ours) and len(drawn):
            word = _apart(ours.delta_low[0] - drawn.delta_high.mean(), ours.delta_high[0] - drawn.delta_low.mean())
            lines.append(
                f"**On the {data_name(profile.detector_data)} pruning {AT:.0%} of the patches costs "
                f"{-ours.delta_AP[0] / dense.AP[0]:.0%} of the AP** (the paper: {1 - paper / PAPER.base_AP:.0%}), "
                f"and BAViT's choice is **{word} random choice**."
            )
        if len(smaller := _at_equal_cost(profile)):
            word = _apart(smaller.at_paper_share_low, smaller.at_paper_share_high)
            gap = shown_interval(*smaller[["delta_at_paper_share", "at_paper_share_low", "at_paper_share_high"]], "+")
            lines.append(
                f"There **a smaller image of {smaller.selector.removeprefix('resolution-')} px is {word} BAViT in front** of "
                f"the detector for as many multiply-adds at the paper's sizes: {gap} AP."
            )
    if gains := {row.batch: round(row.speedup, 2) for *_, row in _times(_at_the_drop())}:
        word = "holds" if min(gains.values()) >= 1 + min(PAPER.throughput_gain) else "doesn't hold everywhere"
        told = ", ".join(f"{gain:.2f}x at batch {batch}" for batch, gain in gains.items())
        lines.append(f"**The abstract's 30 to 40 % more throughput {word} on our CPU**: {told}.")
    for profile in profiles:
        rows = _ranked(profile)
        if len(rows):
            rows = rows[rows.family == "inside"]
            lines.append(
                "**Pruning inside the detector, which needs no second network, against a lower resolution** of the same "
                f"measured speed ({data_name(profile.detector_data)}): clearly ahead at {(rows.delta_low > 0).sum()}, "
                f"clearly behind at {(rows.delta_high < 0).sum()} of {len(rows)} speeds."
            )
    return [f"- {line}" for line in lines]


def as_text(table: pd.DataFrame) -> str:
    """The rows for a terminal of 100 columns: cells are wrapped, a line between rows."""
    lines = []
    for cells in [tuple(_WIDTHS), *table.itertuples(index=False)]:
        wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, _WIDTHS.values(), strict=True)]
        for i in range(max(map(len, wrapped))):
            parts = (cell[i] if i < len(cell) else "" for cell in wrapped)
            lines.append("  ".join(f"{part:<{width}}" for part, width in zip(parts, _WIDTHS.values())).rstrip())
        lines.append("-" * 100)
    return "\n".join(lines)


def update_readme() -> None:
    """Write the rows between the README's marks anew. Raises ValueError where the marks are missing."""
    path = config.REPO / "README.md"
    path.write_text(with_headlines(path.read_text(encoding="utf-8")), encoding="utf-8")


def with_headlines(text: str) -> str:
    """The README's text with the rows as they should stand now."""
    if text.count(_BEGIN) != 1 or text.count(_END) != 1:
        raise ValueError(f"README.md needs the marks {_BEGIN} and {_END}, once each, around its rows of results")
    before, rest = text.split(_BEGIN)
    rows = "\n".join([*in_short(), "", markdown_table(headlines(get_profile("sample")))])
    return f"{before}{_BEGIN}\n{rows}{_END}{rest.split(_END)[1]}"
