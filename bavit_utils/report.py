"""The paper beside ours, in one table: what `make reproduce` ends with, and what the README shows."""

import pandas as pd

from . import config
from .accuracy import table1
from .config import Profile, get_profile
from .cost import bavit_multiply_adds, bavit_parameters, token_table
from .figures import markdown_table
from .finetuning_tables import TRAINED_AT, paper_ap
from .model_cards import CARDS, model_cards
from .paper import PAPER
from .results import NOT_RUN, load_rows
from .speed_plots import break_even
from .sweep import PLAIN

_BEGIN, _END = "<!-- results:begin -->", "<!-- results:end -->"
# What the README shows before all rows: how a quantity and what it was measured on begin.
_HEADLINES = (
    ("token accuracy, bavit-small", "voc2012, mask"),
    ("token accuracy, bavit-small", "coco, mask"),
    ("dense detector", "sample"),
    ("change in AP at 35% sparsity", "sample"),
    ("dense detector", "voc2007/test, 256 px"),
    ("change in AP at 35% sparsity", "voc2007/test, 256 px"),
    ("AP by who chooses the tokens", "sample"),
    ("gain in AP by fine-tuning", "sample"),
    ("speed, BAViT included", "CPU, 2 threads, 512 px"),
)

_CHOOSERS = ("bavit-small", "sparse-detr", "focus-detr", "tome")


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def paper_beside_ours(profile: Profile) -> pd.DataFrame:
    """What the paper says, what we measured, on what: columns `quantity`, `paper`, `ours`, `measured on`, `status`.

    Ours are the stored rows of the profile's data; a row that wasn't run says so.
    """
    rows = [*_accuracy(profile), *_cost(profile), *_drop_in_ap(profile), *_choosers(profile), *_finetuned(profile)]
    rows += _speed(profile)
    rows = [(*row, _status(*row[2:])) for row in rows]
    return pd.DataFrame(rows, columns=["quantity", "paper", "ours", "measured on", "status"])


def _status(ours: str, where: str) -> str:
    """How far the row can stand for the paper's."""
    if ours == NOT_RUN:
        return NOT_RUN
    if where.startswith(("voc", "coco")):
        half = "256 px" in where or "192 px" in where
        return "measured on part of the data" + (", at half scale" if half else "")
    if where.startswith("CPU"):
        return "measured on a CPU" + (", at half scale" if "256 px" in where else "")
    return "measured on other pictures" if where.startswith(("sample", "own")) else "computed"


def _accuracy(profile: Profile):
    """Table 1 by the best recipe: all data sets on the sample profile, else those of the profile."""
    table = table1()
    table = table[table["recipe"] == "best"]
    if profile.name != "sample":
        table = table[table["data set"].str.startswith(profile.name)]
    for _, row in table.iterrows():
        claim = _percent(row["paper (%)"] / 100) if row["paper (%)"] > 0 else "–"
        ours, where = row["ours (%)"], f"{row['data set']}, {row['labels']} labels"
        if ours != NOT_RUN:
            spread = f" ± {row['± seeds']:.1f} over {row['seeds']:.0f} seeds" if row["seeds"] > 1 else ""
            ours = f"{ours} %{spread} (always one class {row['always one class (%)']:.1f} %)"
            where += f", {row['pictures']:.0f} pictures"
        yield f"token accuracy, {row['model']}", claim, ours, where
    yield from _half_accuracy() if profile.name == "sample" else ()


def _half_accuracy():
    """Of the BAViTs on photographs at half scale, which stand before the detector there."""
    half = get_profile("voc")
    stored = load_rows("table1", recipe=f"best{half.suffix}")
    for row in stored.sort_values("depth").itertuples() if len(stored) else ():
        paper = [one["accuracy"] for one in PAPER.table1 if (one["model"], one["dataset"]) == (row.model, "voc")]
        ours = f"{100 * row.accuracy:.1f} % (always one class {100 * row.majority:.1f} %)"
        where = f"{row.dataset}, {row.rule} labels, {half.bavit_img_size} px, {row.n_images} pictures"
        yield f"token accuracy, {row.model}", _percent(paper[0]), ours, where


def _cost(profile: Profile):
    patches = PAPER.bavit_tokens
    yield (
        "parameters of BAViT-small",
        f"{PAPER.bavit_parameters / 1e6:.2f} M",
        f"{bavit_parameters(2, patches) / 1e6:.2f} M",
        "384 px, by formula",
    )
    macs = bavit_multiply_adds(2, patches) / 1e9
    yield (
        "cost of BAViT-small",
        f"{PAPER.bavit_flops / 1e9:.2f} GFLOPS",
        f"{macs:.2f} GMAC = {2 * macs:.2f} GFLOP",
        "384 px, by formula",
    )
    paper = next(row for row in PAPER.table2 if row["sparsity"] == 0.35)
    ours = token_table(0.35, profile)["reduction"].iloc[0]
    yield (
        "fewer tokens at 35 % sparsity",
        _percent(paper["reduction"]),
        _percent(ours),
        f"{profile.detector_img_size} px, by Eq. 4 as meant",
    )


def _drop_in_ap(profile: Profile):
    """Of the profile's detector; on the sample profile those of photographs, at half and full scale, stand below."""
    names = ("sample", "voc", "voc-512") if profile.name == "sample" else (profile.name,)
    for each in map(get_profile, names):
        stored = load_rows(f"table2-{each.name}", detector="yolos", **PLAIN)
        dense = stored[(stored.bavit == "bavit-small") & (stored.sparsity == 0)] if len(stored) else stored
        where = f"{'/'.join(each.detector_eval)}, {each.detector_img_size} px"
        where += f", {dense.iloc[0].n_images} pictures" if len(dense) else ""
        ours = f"{100 * dense.iloc[0].AP:.1f} AP, {100 * dense.iloc[0].AP50:.1f} AP50" if len(dense) else NOT_RUN
        yield "dense detector", f"{100 * PAPER.base_AP:.1f} AP", ours, where
        for sparsity in (0.29, 0.35, 0.46):
            yield f"change in AP at {sparsity:.0%} sparsity", *_change(stored, each, sparsity), where


def _change(stored: pd.DataFrame, profile: Profile, sparsity: float) -> tuple[str, str]:
    """The paper's change in AP at a sparsity, and ours by each choice of tokens."""
    paper = {row["sparsity"]: row["AP"] for row in PAPER.table2 if row["detector"] == "yolos"}
    parts = []
    for selector in ("bavit-small", "random", f"oracle-{profile.pruner_rule}"):
        found = stored[(stored.bavit == selector) & (stored.sparsity == sparsity)] if len(stored) else stored
        for row in found[:1].itertuples():
            parts.append(f"{selector} {_points(row.delta_AP)} [{_points(row.delta_low)}, {_points(row.delta_high)}]")
    return _points(paper[sparsity] - PAPER.base_AP), "; ".join(parts) or NOT_RUN


def _choosers(profile: Profile):
    """BAViT beside the others that prune as much, or cost as much, with their share of the dense multiply-adds."""
    for each in map(get_profile, ("sample", "voc") if profile.name == "sample" else (profile.name,)):
        stored = load_rows(f"selectors-{each.name}", seed=0)
        where = f"{'/'.join(each.detector_eval)}, {each.detector_img_size} px"
        parts = []
        if len(stored):
            where += f", {stored.iloc[0].n_images} pictures"
            at_35 = stored[stored.budget == 0.35].set_index("selector")
            smaller = stored[stored.selector.str.startswith("resolution-")].set_index("selector")
            smaller = smaller.rename(lambda name: name.replace("resolution-", "no pruning, but ") + " px")
            rows = pd.concat([at_35.loc[at_35.index.intersection(_CHOOSERS)], smaller.nlargest(1, "share")])
            parts = [f"{name} {100 * row.AP:.1f} (cost {row.share:.2f})" for name, row in rows.iterrows()]
        yield (
            "AP by who chooses the tokens, at 35% sparsity (cost: share of the dense multiply-adds)",
            "by eye (Fig. 1)",
            "; ".join(parts) or NOT_RUN,
            where,
        )


def _finetuned(profile: Profile):
    """YOLOS-F and its control against the detector as trained, all pruned alike."""
    stored = load_rows(f"table2-{profile.name}", sparsity=TRAINED_AT, bavit="bavit-small", **PLAIN)
    ap = dict(zip(stored.detector, stored.AP, strict=True)) if len(stored) else {}
    tuned = [name for name in ("yolos-f", "yolos-control") if {name, "yolos"} <= set(ap)]
    gain = [f"{name} {_points(ap[name] - ap['yolos'])}" for name in tuned]
    claim = f"{paper_ap('yolos-f', TRAINED_AT) - paper_ap('yolos', TRAINED_AT):+.1f}, no control"
    where = f"{'/'.join(profile.detector_eval)}, {profile.finetune_recipe.epochs} epochs"
    yield f"gain in AP by fine-tuning, at {TRAINED_AT:.0%} sparsity", claim, "; ".join(gain) or NOT_RUN, where


def _speed(profile: Profile):
    """At about 35 % sparsity; on the sample profile the paper's own sizes stand beside its half scale."""
    claim = " to ".join(f"{1 + gain:.1f}x" for gain in PAPER.throughput_gain)
    for name in dict.fromkeys((profile.name, "voc")):
        size = f"{get_profile(name).detector_img_size} px"
        stored = load_rows("throughput-cpu", profile=name)
        if not len(stored):
            yield "speed, BAViT included", claim, NOT_RUN, f"CPU, {size}"
        for batch, rows in stored.groupby("batch") if len(stored) else ():
            gathered, dense = rows[rows.method == "gather"], rows[rows.method == "dense"].iloc[0]
            row = gathered.loc[(gathered.sparsity - 0.35).abs().idxmin()]
            where = f"CPU, {row.threads} threads, {size}, batch {batch}"
            at = f"{where}, {_percent(row.sparsity)} sparsity"
            ours = f"{row.speedup:.2f}x (multiply-adds allow {row.mac_speedup:.2f}x)"
            yield "speed, BAViT included", claim, ours, at
            yield "sparsity above which it is faster", "–", f"{break_even(rows, batch):.0%}", where
            yield "peak memory", "less", f"{row.peak_mb:.0f} MB, dense {dense.peak_mb:.0f} MB", at


def update_readme() -> None:
    """Write the sample profile's table between the README's marks, and the model cards.

    Raises ValueError where the marks are missing.
    """
    (config.CHECKPOINTS / CARDS).write_text(model_cards(), encoding="utf-8")
    path = config.REPO / "README.md"
    path.write_text(readme_with_results(path.read_text(encoding="utf-8")), encoding="utf-8")


def readme_with_results(text: str) -> str:
    """The README with the table as it should stand now."""
    if text.count(_BEGIN) != 1 or text.count(_END) != 1:
        raise ValueError(f"README.md needs the marks {_BEGIN} and {_END}, once each, around its table of results")
    before, rest = text.split(_BEGIN)
    return f"{before}{_BEGIN}\n{_results()}{_END}{rest.split(_END)[1]}"


def _results() -> str:
    """The rows that matter, and all of them to be unfolded."""
    table = paper_beside_ours(get_profile("sample"))
    pairs = zip(table["quantity"], table["measured on"], strict=True)
    matters = [any(q.startswith(of) and w.startswith(where) for of, where in _HEADLINES) for q, w in pairs]
    summary = f"All {len(table)} rows, and which of them were not run"
    return (
        f"{markdown_table(table[matters])}\n"
        f"<details><summary>{summary}</summary>\n\n{markdown_table(table)}\n</details>\n"
    )
