"""Model cards: every committed checkpoint has one, with what was measured on it, and they are up to date."""

from bavit_utils.bavit import create_bavit, save_bavit
from bavit_utils.config import CHECKPOINTS
from bavit_utils.model_cards import CARDS, bundled, model_cards
from bavit_utils.results import load_rows, short_hash


def test_the_cards_are_up_to_date():
    assert (CHECKPOINTS / CARDS).read_text(encoding="utf-8") == model_cards(), "run `bavit readme`"


def test_every_checkpoint_has_a_card_with_its_metrics_and_hash():
    cards = {card.split("`")[1]: card for card in (CHECKPOINTS / CARDS).read_text(encoding="utf-8").split("\n## ")[1:]}
    paths = bundled()
    assert sorted(cards) == [path.name for path in paths] and paths
    for path in paths:
        card = cards[path.name]
        assert short_hash(path) in card and "| limits |" in card and "not measured" not in card
        assert "| made by | `bavit train-" in card or "| made by | `bavit finetune" in card


def test_a_card_quotes_the_stored_row():
    row = load_rows("table1", dataset="sample", model="bavit-small").iloc[0]
    card = model_cards().split("## `bavit-small-sample-mask")[1].split("\n## ")[0]
    assert f"token accuracy {row.accuracy:.1%}" in card and f"on {row.n_images} held-out pictures" in card


def test_a_checkpoint_without_a_stored_row_says_so(tmp_path):
    metadata = {"dataset": "coco", "rule": "box"}
    save_bavit(create_bavit(1, 32), tmp_path / "bavit-large-coco-box.safetensors", metadata)
    card = model_cards(tmp_path)
    assert "BAViT of 1 blocks for 32 px (2x2 patches)" in card and "| metrics | not measured |" in card


def test_checkpoints_of_ones_own_pictures_and_at_half_scale_are_not_the_repositorys(tmp_path):
    for name in ("yolos-own-screws", "bavit-small-voc2007-box-half", "yolos-sample"):
        (tmp_path / f"{name}.safetensors").touch()
    assert [path.stem for path in bundled(tmp_path)] == ["yolos-sample"]
