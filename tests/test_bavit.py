"""BAViT: its size, its ImageNet start, its loss (Eq. 3) and its files."""

import errno

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from bavit_utils.bavit import accumulative_cross_entropy, create_bavit, foreground_probability, load_bavit, save_bavit
from bavit_utils.config import data_dir
from bavit_utils.data.pretrained import imagenet_blocks
from bavit_utils.data.sources import IMAGENET_NAME
from bavit_utils.weights import save_weights

needs_imagenet = pytest.mark.skipif(
    not list((data_dir() / "weights").glob("vit_tiny*")),
    reason="no ImageNet weights in BAVIT_DATA_DIR's weights folder",
)


@pytest.mark.parametrize("depth, parameters", [(2, 1_148_738), (10, 4_707_650)])
def test_parameters_at_384_pixels(depth, parameters):
    model = create_bavit(depth, 384)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_every_patch_gets_a_background_and_a_foreground_logit():
    model = create_bavit(2, 64).eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        logits = model(images)
    assert logits.shape == (3, 16, 2)
    fg_prob = foreground_probability(model, images)
    assert fg_prob.shape == (3, 4, 4) and not fg_prob.requires_grad
    torch.testing.assert_close(fg_prob.flatten(1), logits.softmax(-1)[..., 1])


def test_the_grid_is_read_row_by_row():
    """Without positions and blocks a patch decides alone, so one bright patch is found where it lies."""
    model = create_bavit(2, 64).eval()
    model.blocks = torch.nn.Identity()
    torch.nn.init.zeros_(model.pos_embed)
    images = torch.zeros(1, 3, 64, 64)
    images[:, :, 16:32, 48:64] = 1  # row 1, column 3
    fg_prob = foreground_probability(model, images)[0]
    different = (fg_prob - fg_prob[0, 0]).abs() > 1e-6
    assert different.nonzero().tolist() == [[1, 3]]


@needs_imagenet
def test_the_imagenet_start_computes_timms_blocks():
    """At ImageNet's own size, with the class token left out of timm's ViT too."""
    weights = imagenet_blocks()
    vit = timm.create_model("vit_tiny_patch16_224", depth=3, num_classes=0, class_token=False, global_pool="")
    wanted = {name: weights[name] for name in vit.state_dict()}
    vit.load_state_dict({**wanted, "pos_embed": weights["pos_embed"][:, 1:]})
    model, images = create_bavit(3, 224, weights), torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(model.eval().forward_features(images), vit.eval().forward_features(images))


@needs_imagenet
def test_the_position_table_is_resized_without_the_class_row():
    blocks = imagenet_blocks()
    table = blocks["pos_embed"][0, 1:].reshape(1, 14, 14, 192).permute(0, 3, 1, 2)
    resized = create_bavit(2, 384, blocks).pos_embed[0].reshape(1, 24, 24, 192).permute(0, 3, 1, 2)
    back = F.interpolate(resized, (14, 14), mode="bicubic", antialias=True)
    assert F.cosine_similarity(back.flatten(), table.flatten(), dim=0) > 0.98
    assert F.cosine_similarity(back.transpose(2, 3).flatten(), table.flatten(), dim=0) < 0.9


def test_without_weights_the_blocks_are_random_and_a_sentence_says_so(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("offline")

    monkeypatch.setenv("BAVIT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("pooch.retrieve", offline)
    with pytest.warns(UserWarning, match="random values"):
        model = create_bavit(2, 64, imagenet_blocks())
    assert model.blocks[0].attn.qkv.weight.std() > 0.01
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / f"{IMAGENET_NAME}.safetensors").write_bytes(b"cut short")
    with pytest.raises(ValueError, match=f"{IMAGENET_NAME}.*damaged.*fetch it again"):
        imagenet_blocks()


def test_equation_3_is_the_mean_cross_entropy_over_all_tokens():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 12, 2, generator=generator, dtype=torch.float64)
    labels = torch.randint(2, (3, 12), generator=generator)
    loss = accumulative_cross_entropy(logits, labels)
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), labels.flatten()))
    probability, one_hot = logits.softmax(-1), F.one_hot(labels, 2)
    total = 0.0
    for i in range(3):  # the equation's three sums
        for j in range(12):
            for c in range(2):
                total += one_hot[i, j, c] * probability[i, j, c].log()
    torch.testing.assert_close(loss, -total / (3 * 12))
    torch.testing.assert_close(loss, accumulative_cross_entropy(logits, labels.view(3, 3, 4).to(torch.int8)))
    assert accumulative_cross_entropy(logits, 1 - labels) != loss


def test_ignored_patches_count_for_nothing():
    logits = torch.randn(2, 6, 2, requires_grad=True)
    labels = torch.tensor([[0, 1, -100, 1, -100, 0], [-100, 1, 1, 0, 0, 1]])
    valid = labels != -100
    loss = accumulative_cross_entropy(logits, labels)
    torch.testing.assert_close(loss, F.cross_entropy(logits[valid], labels[valid]))
    loss.backward()
    assert torch.equal(logits.grad.abs().sum(-1) > 0, valid)


def test_a_batch_of_ignored_patches_gives_zero_and_a_gradient():
    logits = torch.randn(2, 4, 2, requires_grad=True)
    loss = accumulative_cross_entropy(logits, torch.full((2, 2, 2), -100))
    loss.backward()
    assert loss.item() == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_saved_and_loaded_is_the_same_model(tmp_path):
    model, images = create_bavit(2, 64).eval(), torch.randn(2, 3, 64, 64)
    path = save_bavit(model, tmp_path / "new" / "bavit.safetensors", {"dataset": "sample", "epoch": 3}, bits=32)
    loaded = load_bavit(path)
    assert not loaded.training
    assert torch.equal(foreground_probability(loaded, images), foreground_probability(model, images))
    halved = save_bavit(model, tmp_path / "half.safetensors")
    assert halved.stat().st_size < 0.55 * path.stat().st_size
    loaded = load_bavit(halved)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(
        foreground_probability(loaded, images), foreground_probability(model, images), atol=1e-3, rtol=0
    )
    assert [file.name for file in path.parent.iterdir()] == ["bavit.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_weights(tmp_path / "w.safetensors", {"x": torch.ones(2)}, {"model": "bavit"})
    before = path.read_bytes()

    def cut_short(file, content):
        file.write_text("half a file")
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(type(path), "write_bytes", cut_short)
    with pytest.raises(OSError, match=r"w\.safetensors can't be written \(disk full\): make room"):
        save_weights(path, {"x": torch.zeros(2)}, {"model": "bavit"})
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_unusable_checkpoints_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.safetensors.*train one"):
        load_bavit(tmp_path / "gone.safetensors")
    model = create_bavit(2, 64)
    path = save_bavit(model, tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match="cut.safetensors is damaged"):
        load_bavit(path)
    wrong = {"model": "bavit", "depth": 2, "img_size": 96}
    other = save_weights(tmp_path / "other.safetensors", model.state_dict(), wrong)
    with pytest.raises(ValueError, match="other.safetensors.*pos_embed"):
        load_bavit(other)
    with pytest.raises(ValueError, match="yolos.safetensors holds yolos"):
        load_bavit(save_weights(tmp_path / "yolos.safetensors", {}, {"model": "yolos"}))
    save_file({"x": torch.ones(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="foreign.safetensors holds unnamed weights"):
        load_bavit(tmp_path / "foreign.safetensors")
