"""The claims as a whole: numbered, settled without an exception; whose statuses move with stored rows, and whose can't."""

import re
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
import torch

from bavit_utils.claims import CLAIMS, KINDS, MATTER_MOST, PARTS, Status, base, bavit, claims_table
from bavit_utils.claims.base import Claim, Interval, NotRun, ap_verdict, on_each, together, verdict
from bavit_utils.config import get_profile
from bavit_utils.paper import PAPER
from bavit_utils.results import load_rows

N_ERRATA = 39
NEEDS_COCO = {27, 39}
# What rows are picked and ordered by, and what a number of theirs is of: shaking that would ask for other rows.
KEYS = {
    "sparsity", "depth", "step", "batch", "seed", "tau", "n_train", "neighbours", "more_than", "fill_steps", "spared",
    "budget", "threads", "img_size", "threshold",
}  # fmt: skip
stored_rows = lru_cache(maxsize=None)(lambda name, where: load_rows(name, **dict(where)))


class Rows:
    """Stands in for `load_rows`: the stored rows, shaken if wanted; says which were asked for."""

    def __init__(self, coco: bool = False):
        self.coco, self.asked, self.draw = coco, [], None

    def __call__(self, name: str, **where) -> pd.DataFrame:
        self.asked.append(name)
        if self.coco and name == "table2-coco":  # no rows of COCO are stored: the sample world's take their place
            rows = self(name.replace("coco", "sample"), **where)
            return rows if self.draw else rows.assign(n_images=PAPER.n_val_images)
        rows = stored_rows(
            name, tuple((key, tuple(v) if isinstance(v, list) else v) for key, v in where.items())
        ).copy()
        if self.draw:
            keys = KEYS - {"sparsity"} if name.startswith(("calibration", "postprocessing")) else KEYS
            strength, by_row = 10 ** self.draw.uniform(-2, 0.5), self.draw.standard_normal(len(rows))
            together = self.draw.random() < 0.5  # a row's numbers move as one, so that its intervals stay intervals
            for column in rows.select_dtypes("number").columns.difference(list(keys)):
                scale = strength * max(rows[column].abs().max(), 0.05)
                rows[column] = rows[column] + scale * (by_row if together else self.draw.standard_normal(len(rows)))
        return rows


@pytest.fixture
def rows(monkeypatch):
    stand_in = Rows()
    monkeypatch.setattr(base, "load_rows", stand_in)
    return stand_in


@pytest.fixture(scope="module")
def table():
    return claims_table()


def test_errata_and_positive_claims_are_numbered_in_order():
    numbers = [claim.number for claim in CLAIMS]
    assert numbers == list(range(1, len(CLAIMS) + 1)) and len(CLAIMS) > N_ERRATA + 10
    assert len({claim.check for claim in CLAIMS}) == len({claim.says for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.check.__module__ for claim in CLAIMS} == set(PARTS)
    assert len(MATTER_MOST) == len(set(MATTER_MOST)) == 10 and set(MATTER_MOST) <= set(numbers)


def test_every_check_gives_a_status_and_a_sentence(table):
    assert set(table["status"]) <= set(Status) and set(table["kind"]) == set(KINDS)
    for column in ("part", "where", "the paper says", "check", "what came out"):
        assert table[column].str.len().between(3, 480).all(), table[column].str.len().max()
    finished = table["what came out"].str.endswith(".")
    assert finished.all(), table[~finished]


def test_no_path_of_a_machine_and_no_undefined_number_is_shown(table):
    shown = "\n".join(table.astype(str).agg(" ".join, axis=1))
    assert not re.search(r"(?:^|[\s('\"])(?:~|[A-Za-z]:)?[/\\]\w+", shown)
    assert not re.search(r"\bnan\b|\binf\b|None", shown)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: str(claim.number))
def test_a_measured_status_moves_with_its_rows_and_others_read_none(claim: Claim, rows, monkeypatch):
    monkeypatch.setattr(bavit, "foreground_maps", lambda _, images: torch.zeros(len(images), 12, 12))
    rows.coco = claim.number in NEEDS_COCO
    before, _ = claim.outcome()
    assert bool(rows.asked) == (claim.kind == "measured"), f"a claim that is {claim.kind} reads {rows.asked}"
    if claim.kind != "measured":
        return
    assert before != Status.NOT_RUN
    seen = {before}
    for seed in range(200):
        rows.draw = np.random.default_rng(seed)
        seen.add(claim.outcome()[0])
        if len(seen) > 1 and seed > 12:
            break
    assert len(seen) > 1, f"{claim.number} is {before} whatever the rows are"
    if not rows.coco:  # other data than the paper's neither reproduce nor contradict
        assert not seen & {Status.REPRODUCED, Status.CONTRADICTED}


def test_without_stored_rows_measured_claims_are_not_run_and_the_others_stay(table, monkeypatch):
    monkeypatch.setattr(base, "load_rows", lambda name, **where: pd.DataFrame())
    empty = claims_table()
    measured = table["kind"] == "measured"
    assert (empty[measured]["status"] == Status.NOT_RUN).all() and empty["what came out"].str.len().gt(0).all()
    assert (empty[~measured]["status"] == table[~measured]["status"]).all()


def test_a_missing_measurement_becomes_a_status_and_names_its_file(monkeypatch):
    monkeypatch.setattr(base, "load_rows", lambda name, **where: pd.DataFrame({"model": ["bavit-small"]}))

    def check():
        """Reads
        rows."""
        return Status.PARTLY, str(base.stored("table9", "accuracy", model="bavit-small"))

    claim = Claim(1, "nowhere", "something", "measured", check)
    assert claim.outcome() == (Status.NOT_RUN, "Not here: rows of table9.json (bavit-small).")
    assert claim.how == "Reads rows."
    with pytest.raises(NotRun, match=r"table9-coco\.json.*table9-sample\.json"):
        on_each(lambda name: base.stored(f"table9-{name}", "accuracy"))


def of_data(**holds: bool) -> tuple[Status, str]:
    """`ap_verdict` of a claim that holds, or doesn't, on these data sets; of the others there are no rows."""

    def read(name: str) -> tuple[bool, str]:
        if name not in holds:
            raise NotRun(name)
        return holds[name], str(holds[name])

    return ap_verdict(read)


def test_a_verdict_is_as_strict_against_as_it_is_for():
    assert verdict(True, np.True_) == Status.REPRODUCED and verdict(False, np.False_) == Status.CONTRADICTED
    assert verdict(True, own=False) == Status.DIRECTION and verdict(False, own=False) == Status.NOT_CONFIRMED
    for own in (True, False):
        for holds in ((True, False), (True, None), (False, None), (None,)):
            assert verdict(*holds, own=own) == Status.PARTLY, holds
    assert verdict(False, otherwise=Status.SLIP) == Status.SLIP
    assert verdict(True, otherwise=Status.SLIP) == Status.REPRODUCED
    assert of_data(coco=True, sample=False)[0] == Status.REPRODUCED  # COCO alone decides
    assert of_data(coco=False, sample=True)[0] == Status.CONTRADICTED
    assert of_data(voc=True, sample=False) == (Status.PARTLY, "on the VOC2007 re-split True; on the sample world False")
    assert [together(True, True), together(True, None), together(None, False)] == [True, None, False]


def test_an_interval_says_where_it_lies():
    of = Interval.of(pd.Series({"AP": 0.3, "AP_low": 0.28, "AP_high": 0.33}), "AP")
    assert (of.above(0.27), of.above(0.29), of.above(0.34)) == (True, None, False)
    assert (of.below(0.27), of.below(0.29), of.below(0.34)) == (False, None, True)
    assert (of.within(0.33), of.within(0.3), of.within(0.2)) == (True, None, False)
    negative = Interval(-0.3, -0.33, -0.28)
    assert (negative.within(0.33), negative.within(0.3), negative.within(0.2)) == (True, None, False)
    difference = Interval(0.5, 0.46, 0.53) - Interval(0.3, 0.27, 0.34)
    assert difference == pytest.approx((0.2, 0.2 - 0.0566, 0.2 + 0.0424), abs=1e-4)
    assert str(negative) == "-30.0 [-33.0, -28.0]" and negative / 2 == (-0.15, -0.165, -0.14)


def test_the_profiles_that_claims_look_in_are_profiles():
    assert all(get_profile(name).name == name for name in base.DATA)
