"""Fine-tuning starts where the detector stands, computes what BAViT keeps, and its control is plain training."""

import csv
from dataclasses import replace

import pytest
import torch

from bavit_utils import bavit, config
from bavit_utils.bavit import create_bavit, save_bavit
from bavit_utils.cli import main
from bavit_utils.config import Recipe, get_profile
from bavit_utils.data.records import class_names
from bavit_utils.pruning import sparsity
from bavit_utils.results import load_rows, short_hash
from bavit_utils.training import detector as detector_training
from bavit_utils.training import finetuning
from bavit_utils.training import loop as training
from bavit_utils.training.detector import detection_loss, detection_records
from bavit_utils.training.finetuning import Pruner, choose_pruner, finetune, finetuned_name
from bavit_utils.training.loop import Schedule
from bavit_utils.training.pictures import DetectionPictures, collate_detection
from bavit_utils.verbs import yolos as yolos_verbs
from bavit_utils.weights import read_weights
from bavit_utils.yolos import PrunedYolos, create_yolos, load_yolos, save_yolos

RECIPE = Recipe(epochs=2, batch_size=6, lr=1e-4, weight_decay=1e-4, warmup_epochs=0.5)
TINY = replace(
    get_profile("sample"),
    bavit_img_size=48,
    detector_img_size=64,
    detector_depth=2,
    num_detection_tokens=8,
    finetune_recipe=RECIPE,
)


def save_start(seed: int) -> None:
    """A detector and a BAViT, both random, with enough spread in their weights that a token more or less tells."""
    torch.manual_seed(seed)
    detector = create_yolos(class_names(TINY.detector_data), **TINY.detector_shape)
    pruner = create_bavit(2, TINY.bavit_img_size)
    embeddings = detector.vit.embeddings
    with torch.no_grad():
        for parameter in (embeddings.cls_token, embeddings.detection_tokens, embeddings.position_embeddings):
            parameter.normal_(std=0.5)
        pruner.head.weight.normal_(std=0.5)
    save_yolos(detector, TINY.checkpoint("yolos"), metadata={"dataset": "sample"})
    save_bavit(pruner, TINY.checkpoint("bavit-small"))


@pytest.fixture(scope="module", autouse=True)
def world(tiny_world):
    """The tiny world, and both checkpoints."""
    patch, cache = tiny_world
    patch.setattr(config, "CHECKPOINTS", cache / "checkpoints")
    save_start(0)


@pytest.fixture(scope="module")
def data(world) -> DetectionPictures:
    return DetectionPictures(detection_records(TINY)[0], TINY.detector_img_size, RECIPE)


@pytest.fixture(scope="module")
def pruner(data) -> Pruner:
    return choose_pruner(bavit.load_bavit(TINY.checkpoint("bavit-small")), data, 0.35, TINY.detector_grid)


@pytest.fixture
def seen(monkeypatch) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """The pictures and keep masks of every training step, as they come to the detector."""
    calls, forward = [], PrunedYolos.forward

    def watched(self, pixels, keep=None, **rest):
        if self.training:
            calls.append((pixels.clone(), keep))
        return forward(self, pixels, keep, **rest)

    monkeypatch.setattr(PrunedYolos, "forward", watched)
    return calls


def rows_of(folder) -> list[dict]:
    with (folder / "log.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "waiting")} for row in csv.DictReader(file)]


def batch(data: DetectionPictures):
    return collate_detection([data[index, index] for index in range(4)])


def normalised(pictures: list) -> torch.Tensor:
    return torch.stack([torch.from_numpy(picture.copy()).permute(2, 0, 1) / 127.5 - 1 for picture in pictures])


# ---- where it starts, and what it computes


@pytest.mark.parametrize("share", [0.35, 0.0])
def test_it_starts_from_the_checkpoint(share, seen, tmp_path, monkeypatch):
    targets_seen = []

    def watched(output, targets, config):
        targets_seen.append(targets)
        return detection_loss(output, targets, config)

    monkeypatch.setattr(detector_training, "detection_loss", watched)
    _, folder, made_from = finetune(TINY, sparsity=share, folder=tmp_path, schedule=Schedule(max_steps=1))
    (pixels, keep), (targets,) = seen[0], targets_seen
    start = PrunedYolos(load_yolos(TINY.checkpoint("yolos")))
    loss = detection_loss(start(pixels, keep), targets, start.detector.config)
    assert float(rows_of(folder)[0]["loss"]) == pytest.approx(loss.item(), abs=1e-4)
    assert made_from["start"] == short_hash(TINY.checkpoint("yolos")) and made_from["sparsity"] == share
    assert (made_from["pruner"] is None) == (made_from["threshold"] is None) == (share == 0)


def test_pruned_tokens_are_not_computed(data, seen, tmp_path, monkeypatch):
    computed, embed = [], PrunedYolos._embed

    def watched(self, pixels, keep):
        embedded = embed(self, pixels, keep)
        if self.training:
            computed.append(len(embedded[0]))
        return embedded

    monkeypatch.setattr(PrunedYolos, "_embed", watched)
    finetune(TINY, folder=tmp_path, schedule=Schedule(max_steps=3))
    prefix = RECIPE.batch_size * (1 + TINY.num_detection_tokens)
    assert computed == [keep.sum().item() + prefix for _, keep in seen] and len(seen) == 3
    assert all(0.1 < sparsity(keep).mean() < 0.6 for _, keep in seen)


def test_a_pruned_patch_has_no_part_in_loss_and_gradient(data, pruner):
    pixels, targets = batch(data)
    keep = pruner(pixels)
    hidden = (~keep).repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]
    model = PrunedYolos(load_yolos(TINY.checkpoint("yolos"))).train()

    def gradients(pixels):
        model.zero_grad()
        loss = detection_loss(model(pixels, keep), targets, model.detector.config)
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    plain = gradients(pixels)
    assert all(map(torch.equal, plain, gradients(torch.where(hidden, torch.rand_like(pixels), pixels))))
    assert not torch.equal(plain[0], gradients(torch.where(hidden, pixels, torch.rand_like(pixels)))[0])


# ---- the control


def test_the_control_is_dense_training_gone_on_with(data, seen, tmp_path):
    """Two steps of it, by the loop, equal two by hand on the same pictures without a keep mask."""
    control, _, _ = finetune(TINY, sparsity=0.0, folder=tmp_path, schedule=Schedule(max_steps=2))
    assert [keep for _, keep in seen] == [None, None]
    model = PrunedYolos(load_yolos(TINY.checkpoint("yolos"))).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=RECIPE.weight_decay)
    visits = iter(training.Visits(len(data), RECIPE.batch_size, 0))
    for step in range(2):
        pixels, targets = collate_detection([data[visit] for visit in next(visits)])
        assert torch.equal(pixels, seen[step][0])
        optimizer.param_groups[0]["lr"] = training.learning_rate(RECIPE, step, 3)
        optimizer.zero_grad()
        detection_loss(model(pixels), targets, model.detector.config).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    others = model.detector.state_dict()
    assert [name for name, value in control.state_dict().items() if not torch.equal(value, others[name])] == []


def test_both_see_the_same_pictures_in_the_same_order(seen, tmp_path):
    for share in (0.35, 0.0):
        finetune(TINY, sparsity=share, folder=tmp_path / str(share))
    pruned, control = seen[:6], seen[6:]
    assert len(control) == 6 and all(torch.equal(a, b) for (a, _), (b, _) in zip(pruned, control, strict=True))
    assert not torch.equal(control[0][0], control[3][0])
    metrics = [[row["step"] for row in rows_of(tmp_path / str(share)) if row["metric"]] for share in (0.35, 0.0)]
    assert metrics == [["3", "6"]] * 2


def test_their_names():
    assert (finetuned_name(0.35), finetuned_name(0.0)) == ("yolos-f", "yolos-control")
    names = [TINY.checkpoint(finetuned_name(share)).name for share in (0.35, 0.0)]
    assert names == ["yolos-f-sample.safetensors", "yolos-control-sample.safetensors"]


# ---- the threshold


def test_the_threshold_is_chosen_on_training_pictures_as_they_are(data, pruner, monkeypatch):
    maps = []
    monkeypatch.setattr(
        finetuning, "foreground_maps", lambda model, images: maps.append(images) or torch.rand(18, 3, 3)
    )
    choose_pruner(pruner.bavit, data, 0.35, TINY.detector_grid)
    assert len(maps) == 1 and all((a == b).all() for a, b in zip(maps[0], data.kept, strict=True))
    monkeypatch.setattr(finetuning, "THRESHOLD_PICTURES", 5)
    choose_pruner(pruner.bavit, data, 0.35, TINY.detector_grid)
    assert all((a == data.kept[index]).all() for a, index in zip(maps[1], (0, 4, 8, 12, 17), strict=True))


@pytest.mark.parametrize("share", [0.2, 0.35, 0.6])
def test_the_threshold_gives_the_wanted_sparsity(data, pruner, share):
    chosen = choose_pruner(pruner.bavit, data, share, TINY.detector_grid)
    assert sparsity(chosen(normalised(data.kept))).mean().item() == pytest.approx(share, abs=0.03)


def test_bavit_looks_without_gradients_and_in_single_precision(data, pruner):
    pixels, _ = batch(data)
    pixels.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = pruner(pixels)
    assert torch.equal(mixed, pruner(pixels)) and not mixed.requires_grad
    assert mixed.dtype == torch.bool and mixed.shape == (4, *TINY.detector_grid)


@pytest.mark.parametrize("share", [-0.1, 1.0, 35])
def test_a_sparsity_is_a_share(share, tmp_path):
    with pytest.raises(ValueError, match="share from 0"):
        finetune(TINY, sparsity=share, folder=tmp_path)


# ---- it goes on, from its own start only


@pytest.mark.parametrize("share", [0.35, 0.0])
def test_a_resumed_fine_tuning_is_the_uninterrupted_one(share, tmp_path):
    whole, _, _ = finetune(TINY, sparsity=share, folder=tmp_path / "whole", schedule=Schedule(max_steps=5))
    for steps in (2, 5):
        parts, _, _ = finetune(TINY, sparsity=share, folder=tmp_path / "parts", schedule=Schedule(max_steps=steps))
    others = parts.state_dict()
    assert [name for name, value in whole.state_dict().items() if not torch.equal(value, others[name])] == []
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "parts")


def test_another_start_sparsity_or_pruner_is_refused(tmp_path, monkeypatch):
    finetune(TINY, folder=tmp_path / "run", schedule=Schedule(max_steps=1))
    with pytest.raises(ValueError, match="another training"):
        finetune(TINY, sparsity=0.3, folder=tmp_path / "run", schedule=Schedule(max_steps=2))
    first = config.CHECKPOINTS
    monkeypatch.setattr(config, "CHECKPOINTS", tmp_path / "others")
    save_start(1)
    for name in ("yolos", "bavit-small"):  # one of the two is the old one
        other = TINY.checkpoint(name).read_bytes()
        TINY.checkpoint(name).write_bytes((first / TINY.checkpoint(name).name).read_bytes())
        with pytest.raises(ValueError, match="another training"):
            finetune(TINY, folder=tmp_path / "run", schedule=Schedule(max_steps=2))
        TINY.checkpoint(name).write_bytes(other)


def test_without_a_trained_detector_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CHECKPOINTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*yolos-sample"):
        finetune(TINY, folder=tmp_path / "run")


# ---- the verb


@pytest.mark.parametrize("options, name", [((), "yolos-f"), (("--sparsity", "0"), "yolos-control")])
def test_the_verb_stores_checkpoint_and_curve(options, name, tmp_path, monkeypatch):
    monkeypatch.setattr(yolos_verbs, "get_profile", lambda profile: TINY)
    monkeypatch.setattr(config, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(config, "RESULTS", tmp_path)
    assert main(["finetune", *options, "--epochs", "1", "--seed", "3", "--store"]) == 0
    _, metadata = read_weights(TINY.checkpoint(name), "yolos")
    assert metadata["dataset"] == "sample" and metadata["seed"] == 3
    assert metadata["start"] == short_hash(TINY.checkpoint("yolos"))
    assert load_yolos(TINY.checkpoint(name)).config.num_detection_tokens == TINY.num_detection_tokens
    rows = load_rows("curves", tmp_path, model=name)
    assert set(rows["run"]) == {f"{name}-sample-seed3"} and rows["step"].max() == 3
    (source,) = rows.attrs["provenance"].values()
    assert list(source["checkpoints"]) == [f"{name}-sample.safetensors"] and source["start"] == metadata["start"]
