"""Random and oracle scores."""

import pytest
import torch

from bavit_utils.annotations import labels_for
from bavit_utils.datasets import load_records
from bavit_utils.pruning import detector_keep, threshold_for_sparsity
from bavit_utils.token_selectors import SCORERS

GRID = (12, 12)


@pytest.fixture(scope="module")
def records():
    return load_records("sample", "val", 6)


@pytest.mark.parametrize("name", SCORERS)
def test_scores_are_shares_and_follow_the_seed(records, name):
    scores = SCORERS[name](records, GRID, 0)
    assert scores.shape == (6, *GRID) and scores.dtype == torch.float32
    assert 0 <= scores.min() and scores.max() < 1
    assert torch.equal(scores, SCORERS[name](records, GRID, 0))
    assert not torch.equal(scores, SCORERS[name](records, GRID, 1))


@pytest.mark.parametrize("rule", ["mask", "box"])
def test_the_oracle_drops_no_foreground_while_background_is_left(records, rule):
    scores = SCORERS[f"oracle-{rule}"](records, GRID, 0)
    truth = torch.stack([torch.from_numpy(labels_for(record, GRID, rule) == 1) for record in records])
    background = 1 - truth.float().mean().item()
    keep = detector_keep(scores, threshold_for_sparsity(scores, 0.9 * background, GRID), GRID)
    assert keep[truth].all() and not keep.all()
    random = SCORERS["random"](records, GRID, 0)
    assert not detector_keep(random, threshold_for_sparsity(random, 0.9 * background, GRID), GRID)[truth].all()
