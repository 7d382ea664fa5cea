"""The pruned forward against transformers' own and against masking, its loss, and the position table."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import YolosForObjectDetection

from bavit_utils.config import get_profile
from bavit_utils.data.records import class_names
from bavit_utils.inside import PatchHead
from bavit_utils.yolos import PrunedYolos, YolosObjectDetectionOutput, create_yolos

SMALL = replace(get_profile("sample"), detector_img_size=96, detector_depth=3, num_detection_tokens=5)
GRID = SMALL.detector_grid
LABELS = [
    {"class_labels": torch.tensor([1, 2]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.3, 0.4, 0.1, 0.3]])},
    {"class_labels": torch.zeros(0, dtype=torch.long), "boxes": torch.zeros(0, 4)},
    {"class_labels": torch.tensor([0]), "boxes": torch.tensor([[0.6, 0.5, 0.4, 0.2]])},
]


@pytest.fixture
def detector() -> YolosForObjectDetection:
    """Random where transformers starts with zeros, and with weights large enough for attention to matter."""
    torch.manual_seed(0)
    model = create_yolos(class_names(SMALL.detector_data), **SMALL.detector_shape).eval()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.05)
    embeddings = model.vit.embeddings
    for parameter in (embeddings.cls_token, embeddings.detection_tokens, embeddings.position_embeddings):
        nn.init.normal_(parameter, std=0.5)
    return model


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ragged() -> torch.Tensor:
    share = torch.tensor([0.2, 0.5, 0.9]).view(3, 1, 1)
    return torch.rand(3, *GRID, generator=torch.Generator().manual_seed(2)) < share


def distance(one, other) -> float:
    """Largest difference of logits and boxes."""
    return max((one.logits - other.logits).abs().max().item(), (one.pred_boxes - other.pred_boxes).abs().max().item())


def masked(detector: YolosForObjectDetection, pictures: torch.Tensor, keep: torch.Tensor):
    """The reference: every token computed, the pruned ones hidden from all as keys."""
    seen = F.pad(keep.flatten(1), (1, SMALL.num_detection_tokens), value=True)[:, None, None]
    x = detector.vit.embeddings(pictures)
    for layer in detector.vit.encoder.layer:
        normed, attention = layer.layernorm_before(x), layer.attention.attention
        q, k, v = (
            part(normed).unflatten(-1, (3, 64)).transpose(1, 2)
            for part in (attention.query, attention.key, attention.value)
        )
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        x = x + layer.attention.output.dense(context)
        x = layer.output(layer.intermediate(layer.layernorm_after(x)), x)
    queries = detector.vit.layernorm(x)[:, -SMALL.num_detection_tokens :]
    return YolosObjectDetectionOutput(
        logits=detector.class_labels_classifier(queries), pred_boxes=detector.bbox_predictor(queries).sigmoid()
    )


def shuffled(pictures: torch.Tensor) -> torch.Tensor:
    """The same patches in another order."""
    patches = F.unfold(pictures, 16, stride=16)
    order = torch.randperm(patches.shape[-1], generator=torch.Generator().manual_seed(3))
    return F.fold(patches[..., order], pictures.shape[-2:], 16, stride=16)


def shifted(detector: YolosForObjectDetection) -> YolosForObjectDetection:
    """A copy whose patches have their neighbour's position."""
    moved = copy.deepcopy(detector)
    table = moved.vit.embeddings.position_embeddings.data
    table[:, 1 : -SMALL.num_detection_tokens] = table[:, 1 : -SMALL.num_detection_tokens].roll(1, dims=1)
    return moved


@torch.no_grad()
def test_keeping_all_equals_transformers_own_forward(detector, pictures):
    dense, pruned = detector(pictures), PrunedYolos(detector).eval()
    everything = torch.ones(3, *GRID, dtype=torch.bool)
    for output in (pruned(pictures), pruned(pictures, everything), pruned(pictures, everything, after_layers=2)):
        assert distance(output, dense) < 1e-6
        torch.testing.assert_close(output.last_hidden_state, dense.last_hidden_state, atol=1e-5, rtol=0)
    wrong = everything.clone()
    wrong[:, 2, 3] = False
    assert distance(pruned(pictures, wrong), dense) > 1e-4
    assert distance(pruned(shuffled(pictures), everything), dense) > 1e-4
    assert distance(PrunedYolos(shifted(detector)).eval()(pictures, everything), dense) > 1e-4


@torch.no_grad()
def test_gathering_equals_masking(detector, pictures, ragged):
    reference, pruned = masked(detector, pictures, ragged), PrunedYolos(detector).eval()
    assert distance(pruned(pictures, ragged), reference) < 1e-5
    assert distance(pruned(pictures, ragged.roll(1, dims=2)), reference) > 1e-3
    assert distance(pruned(shuffled(pictures), ragged), reference) > 1e-3
    assert distance(PrunedYolos(shifted(detector)).eval()(pictures, ragged), reference) > 1e-3


@torch.no_grad()
def test_gathering_equals_masking_at_another_picture_size(detector, ragged):
    pictures = torch.randn(3, 3, 64, 112)  # the table is resized to 4 x 7
    keep = torch.rand(3, 4, 7) < 0.5
    assert distance(PrunedYolos(detector).eval()(pictures, keep), masked(detector, pictures, keep)) < 1e-5


@torch.no_grad()
def test_a_ragged_batch_equals_its_images_one_by_one(detector, pictures, ragged):
    pruned = PrunedYolos(detector).eval()
    together = pruned(pictures, ragged)
    for i in range(3):
        alone = pruned(pictures[i : i + 1], ragged[i : i + 1])
        torch.testing.assert_close(together.logits[i : i + 1], alone.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.pred_boxes[i : i + 1], alone.pred_boxes, atol=1e-5, rtol=0)
    assert (together.logits[0] - pruned(pictures[1:2], ragged[1:2]).logits).abs().max() > 1e-3


@torch.no_grad()
def test_keeping_none_runs_and_sees_no_picture(detector, pictures):
    nothing = torch.zeros(3, *GRID, dtype=torch.bool)
    output = PrunedYolos(detector).eval()(pictures, nothing)
    assert output.logits.isfinite().all() and output.logits.shape == (3, 5, detector.config.num_labels + 1)
    torch.testing.assert_close(output.logits[0], output.logits[2])
    one_empty = torch.stack([nothing[0], ~nothing[0], nothing[0]])
    torch.testing.assert_close(PrunedYolos(detector).eval()(pictures, one_empty).logits[2], output.logits[2])


@torch.no_grad()
def test_pruned_patches_are_not_read_and_their_outputs_are_zero(detector, pictures, ragged):
    pruned = PrunedYolos(detector).eval()
    output = pruned(pictures, ragged)
    patches = output.last_hidden_state[:, 1 : -SMALL.num_detection_tokens]
    assert torch.equal(patches.abs().sum(-1) > 0, ragged.flatten(1))
    gone = ~ragged.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)[:, None]
    assert torch.equal(pruned(pictures.masked_fill(gone, torch.nan), ragged).logits, output.logits)


@torch.no_grad()
def test_pruning_after_some_layers_differs_from_dense_and_from_pruned(detector, pictures, ragged):
    pruned = PrunedYolos(detector).eval()
    at_once, later = pruned(pictures, ragged), pruned(pictures, ragged, after_layers=2)
    assert distance(later, at_once) > 1e-3 and distance(later, detector(pictures)) > 1e-3
    last = pruned(pictures, ragged, after_layers=3)
    assert distance(last, detector(pictures)) < 1e-6
    assert torch.equal(last.last_hidden_state[:, 1:-5].abs().sum(-1) > 0, ragged.flatten(1))


def test_the_loss_and_its_gradients_equal_transformers_when_all_is_kept(detector, pictures):
    pruned = PrunedYolos(detector).train()
    gradients = []
    for output in (detector(pictures, labels=LABELS), pruned(pictures, torch.ones(3, *GRID, dtype=torch.bool), LABELS)):
        detector.zero_grad()
        output.loss.backward()
        gradients.append((output.loss.detach(), *(p.grad.clone() for p in detector.parameters())))
    for ours, theirs in zip(*reversed(gradients), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    assert {"loss_ce", "loss_bbox", "loss_giou"} <= set(output.loss_dict)


def test_training_gives_the_kept_patches_positions_their_gradient(detector, pictures, ragged):
    pruned = PrunedYolos(detector).train()
    with torch.no_grad():
        pruned.eval()(pictures, ragged)
    for mode in (True, False):
        pruned.train(mode)
        detector.zero_grad()
        pruned(pictures[:1], ragged[:1], LABELS[:1]).loss.backward()
        moved = detector.vit.embeddings.position_embeddings.grad[0].abs().sum(-1) > 0
        assert torch.equal(moved[1:-5], ragged[0].flatten()) and moved[0] and moved[-5:].all()


def test_the_position_table_is_resized_for_pictures_of_another_size_alone(detector, pictures, monkeypatch):
    pruned, calls = PrunedYolos(detector).eval(), []
    resize = detector.vit.embeddings.interpolation.forward
    monkeypatch.setattr(
        detector.vit.embeddings.interpolation, "forward", lambda table, size: calls.append(size) or resize(table, size)
    )
    with torch.no_grad():
        for side in (96, 64):
            pruned(pictures[:, :, :side, :side])
    assert calls == [(64, 64)]


@pytest.mark.parametrize("change", ["load_state_dict", "optimizer", "double", "assign", "data"])
def test_the_position_table_follows_its_weights(detector, pictures, ragged, change):
    pruned = PrunedYolos(detector).eval()
    with torch.no_grad():
        before = pruned(pictures, ragged)
    table = detector.vit.embeddings.position_embeddings
    if change == "load_state_dict":
        detector.load_state_dict(shifted(detector).state_dict())
    elif change == "optimizer":
        table.grad = torch.randn_like(table)
        torch.optim.AdamW([table], lr=0.1).step()
    elif change == "data":  # as weight averaging does: no version counter moves
        table.data.copy_(shifted(detector).vit.embeddings.position_embeddings.data)
    elif change == "double":
        detector.double()
        pictures = pictures.double()
    else:
        detector.load_state_dict(shifted(detector).state_dict(), assign=True)
    with torch.no_grad():
        after, fresh = pruned(pictures, ragged), PrunedYolos(detector).eval()(pictures, ragged)
    assert after.logits.dtype == pictures.dtype and distance(after, fresh) == 0
    assert change == "double" or distance(after, before) > 1e-3


def test_wrapping_copies_nothing(detector):
    pruned = PrunedYolos(detector)
    assert {id(p) for p in pruned.parameters()} == {id(p) for p in detector.parameters()}


def test_bad_masks_layers_and_detectors_are_refused(detector, pictures):
    pruned = PrunedYolos(detector)
    with pytest.raises(ValueError, match="resize_grid"):
        pruned(pictures, torch.ones(3, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="boolean"):
        pruned(pictures, torch.ones(3, *GRID))
    with pytest.raises(ValueError, match="0 to 3"):
        pruned(pictures, after_layers=4)
    detector.config.use_mid_position_embeddings = True
    with pytest.raises(ValueError, match="between its layers"):
        PrunedYolos(detector)


def heads_of(thresholds: dict[int, float]) -> list[PatchHead]:
    """Heads with weights that tell patches apart, by the layers they come after."""
    torch.manual_seed(5)
    heads = [PatchHead(layers, threshold) for layers, threshold in thresholds.items()]
    for head in heads:
        torch.nn.init.normal_(head.score.weight, std=0.1)
    return heads


@torch.no_grad()
def test_a_head_inside_prunes_what_its_probability_says(detector, pictures):
    (head,) = heads_of({2: 0.5})
    inside = PrunedYolos(detector, [head]).eval()
    tokens = []
    PrunedYolos(detector, [Seen(2, tokens)]).eval()(pictures)
    kept = head(tokens[0]).softmax(-1)[..., 1] >= 0.5
    assert 0.1 < kept.float().mean() < 0.9
    output = inside(pictures)
    assert distance(output, PrunedYolos(detector).eval()(pictures, kept, after_layers=2)) < 1e-6
    head.threshold = 1.0
    assert distance(inside(pictures), detector(pictures)) < 1e-6


class Seen(PatchHead):
    """Prunes nothing, and keeps the tokens it was shown."""

    def __init__(self, after_layers: int, tokens: list):
        super().__init__(after_layers)
        self.tokens = tokens

    def keep(self, tokens, given):
        self.tokens.append(tokens)
        return given


@torch.no_grad()
def test_what_one_head_prunes_is_gone_for_the_next(detector, pictures):
    first, second = heads_of({1: 0.5, 2: 0.5})
    seen: list[torch.Tensor] = []
    both = PrunedYolos(detector, [first, second, Seen(3, seen)]).eval()
    both(pictures)
    alone: list[torch.Tensor] = []
    PrunedYolos(detector, [first, Seen(3, alone)]).eval()(pictures)
    left, before = (x[0].abs().sum(-1) > 0 for x in (seen, alone))
    assert (left & ~before).sum() == 0 and 0 < left.sum() < before.sum()


@torch.no_grad()
def test_coarse_background_is_one_token_of_two_by_two_patches(detector, pictures):
    coarse, plain = PrunedYolos(detector, coarse=True).eval(), PrunedYolos(detector).eval()
    everything = torch.ones(3, *GRID, dtype=torch.bool)
    assert distance(coarse(pictures, everything), plain(pictures)) < 1e-6
    keep = everything.clone()
    keep[:, 2:4, 0:2] = False  # a whole block
    keep[:, 0, 2] = False  # part of one
    output = coarse(pictures, keep)
    computed = output.last_hidden_state[:, 1:-5].abs().sum(-1) > 0
    wanted = keep.clone()
    wanted[:, 2, 0] = True
    assert torch.equal(computed, wanted.flatten(1))
    assert distance(output, plain(pictures, keep)) > 1e-4
    flat = pictures.clone()  # a block of one colour looks the same at half the size
    flat[..., 32:64, 0:32] = 0.3
    moved = flat.clone()
    moved[..., 32:64, 0:32] += 0.5
    assert distance(coarse(flat, keep), coarse(moved, keep)) > 1e-4
    fine = 0.5 * torch.ones(2, 2).repeat(16, 16).mul(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16))
    same = flat.clone()
    same[..., 32:64, 0:32] += fine  # what only a fine patch would see
    assert distance(coarse(flat, keep), coarse(same, keep)) < 1e-5
    assert distance(coarse(flat, everything), coarse(same, everything)) > 1e-4


@torch.no_grad()
def test_coarse_background_inside_is_the_mean_of_four_tokens(detector, pictures):
    keep = torch.ones(3, *GRID, dtype=torch.bool)
    keep[:, 2:4, 0:2] = False
    before: list[torch.Tensor] = []
    after: list[torch.Tensor] = []

    class Cut(PatchHead):
        def keep(self, tokens, given):
            before.append(tokens)
            return given & keep

    class Layerless(PrunedYolos):
        def _prune(self, tokens, given, choose):
            x, lengths, restore, chosen = super()._prune(tokens, given, choose)
            after.append(restore(x)[:, 1:-5].unflatten(1, GRID))
            return x, lengths, restore, chosen

    Layerless(detector, [Cut(1)], coarse=True).eval()(pictures)
    torch.testing.assert_close(after[0][:, 2, 0], before[0][:, 2:4, 0:2].flatten(1, 2).mean(1))
    assert (after[0][:, 2:4, 0:2].flatten(1, 2).abs().sum(-1) > 0).sum(1).tolist() == [1, 1, 1]
    torch.testing.assert_close(after[0][:, :2], before[0][:, :2])
