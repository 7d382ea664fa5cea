"""Decoding, warping and normalising pictures."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from bavit_utils.data.pictures import DataError, decode_upload, image_size, load_class_mask, load_image
from bavit_utils.images import BAVIT_NORM, IMAGENET_NORM, to_batch, warp


def _noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_load_image_returns_the_pixels_and_may_be_written_to(tmp_path):
    pixels = _noise(20, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    loaded = load_image(tmp_path / "a.png")
    assert np.array_equal(loaded, pixels) and loaded.flags.writeable
    assert image_size(tmp_path / "a.png") == (20, 30)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_load_image_makes_rgb_of_every_mode(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(np.full((8, 9), 51, dtype=np.uint8)).convert("RGB").convert(mode).save(path)
    loaded = load_image(path)
    assert loaded.shape == (8, 9, 3) and np.abs(loaded.astype(int) - 51).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture(tmp_path, orientation):
    pixels = np.zeros((40, 64, 3), dtype=np.uint8)
    pixels[:20, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    turns = {  # what the standard says the stored picture has to undergo
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: np.rot90,
    }
    expected = turns[orientation](pixels)
    loaded = load_image(path)
    assert loaded.shape == expected.shape and image_size(path) == expected.shape[:2]
    assert np.abs(loaded.astype(int) - expected).mean() < 10


def test_every_truncation_of_a_jpeg_raises(tmp_path):
    Image.fromarray(_noise(64, 96)).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    cut = tmp_path / "cut.jpg"
    for length in [*range(0, len(content), 151), len(content) - 100, len(content) - 10, len(content) - 2]:
        cut.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"cut\.jpg is truncated or no picture .*again"):
            load_image(cut)


def test_missing_and_foreign_files_are_named_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg is missing: fetch or generate"):
        load_image(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("no picture")
    for read in (load_image, image_size):
        with pytest.raises(DataError, match=r"text\.jpg is truncated or no picture .*again"):
            read(tmp_path / "text.jpg")
    with pytest.raises(DataError, match="no picture"):
        load_image(tmp_path)


def _file(picture, kind="png", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _sixteen_bits():
    return Image.fromarray(np.full((8, 9), 51 * 257, dtype=np.uint16))


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_of_grey_become_eight(kind):
    decoded = decode_upload(_file(_sixteen_bits(), kind), "grey")
    assert decoded.shape == (8, 9, 3) and decoded.dtype == np.uint8 and (decoded == 51).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(mode):
    clear = Image.new("RGBA", (9, 8), (200, 0, 0, 0))
    options = {"transparency": 0} if mode == "P" else {}
    picture = Image.new("P", (9, 8), 0) if mode == "P" else clear.convert(mode)
    assert (decode_upload(_file(picture, **options), "clear.png") == 255).all()


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (9, 8), colour) for colour in ("red", "blue")]
    content = _file(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert (decode_upload(content, "moving.gif") == (255, 0, 0)).all()


def test_an_upload_is_turned_by_its_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_upload(_file(Image.new("RGB", (64, 40)), "jpeg", exif=exif), "a.jpg").shape == (64, 40, 3)


def test_a_large_upload_is_brought_down():
    assert decode_upload(_file(Image.new("L", (3000, 1500), 51)), "large.png").shape == (1024, 2048, 3)


@pytest.mark.parametrize("side", [7_100, 9_500, 14_000])  # above our limit, above Pillow's warning and its error
def test_a_huge_upload_is_refused_before_it_is_decoded(side, monkeypatch):
    content = _file(Image.new("1", (side, side)))
    monkeypatch.setattr(Image.Image, "convert", None)
    with pytest.raises(DataError, match=r"^huge\.png has more than 50 megapixels: choose a smaller copy"):
        decode_upload(content, "huge.png")


@pytest.mark.parametrize("content", [b"", b"no picture", _file(Image.fromarray(_noise(64, 64)), "jpeg")[:2000]])
def test_an_upload_that_is_no_whole_picture_gets_a_sentence(content):
    with pytest.raises(DataError, match=r"^notes\.txt is truncated or no picture.*: choose a JPEG or PNG") as caught:
        decode_upload(content, "notes.txt")
    assert "0x" not in str(caught.value)  # no object's address


def test_load_class_mask_keeps_palette_indices_and_refuses_colours(tmp_path):
    indices = np.array([[0, 15], [255, 3]], dtype=np.uint8)
    mask = Image.fromarray(indices).convert("P")
    mask.putpalette([7] * 768)
    mask.putdata(indices.ravel().tolist())
    mask.save(tmp_path / "mask.png")
    assert np.array_equal(load_class_mask(tmp_path / "mask.png"), indices)
    Image.fromarray(_noise(4, 4)).save(tmp_path / "colour.png")
    with pytest.raises(DataError, match=r"colour\.png is no class mask"):
        load_class_mask(tmp_path / "colour.png")


def test_warp_gives_the_square_and_averages_what_it_shrinks():
    stripes = np.zeros((128, 192, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    small = warp(stripes, 32)
    assert small.shape == (32, 32, 3) and small.dtype == np.uint8
    assert np.abs(small.astype(int) - 100)[:, 1:-1].max() <= 4  # without antialiasing the stripes would alias
    assert np.array_equal(warp(small, 32), small)


def test_warp_keeps_relative_positions():
    image = np.zeros((60, 200, 3), dtype=np.uint8)
    image[:30, 100:] = 255
    square = warp(image, 64)
    assert square[:30, 34:].min() == 255 and square[34:].max() == 0 and square[:, :30].max() == 0
    wide = warp(image, (32, 96))
    assert wide.shape == (32, 96, 3) and wide[:14, 52:].min() == 255 and wide[18:].max() == 0


@pytest.mark.parametrize(("name", "norm"), [("bavit", BAVIT_NORM), ("imagenet", IMAGENET_NORM)])
def test_to_batch_normalises_pictures_of_any_size(name, norm):
    images = [_noise(40, 50), _noise(90, 30, seed=1)]
    assert to_batch(images, (16, 48), name).shape == (2, 3, 16, 48)
    batch = to_batch(images, 32, name)
    assert batch.shape == (2, 3, 32, 32) and batch.dtype == torch.float32 and batch.is_contiguous()
    for image, tensor in zip(images, batch):
        expected = (warp(image, 32) / 255 - np.array(norm[0])) / np.array(norm[1])
        assert np.allclose(tensor.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_to_batch_leaves_the_pictures_alone_and_checks_its_arguments():
    image = _noise(32, 32)
    before = image.copy()
    to_batch([image], 32)
    assert np.array_equal(image, before)
    with pytest.raises(ValueError, match="unknown normalisation 'hub'"):
        to_batch([image], 32, "hub")
    with pytest.raises(ValueError, match="at least one picture"):
        to_batch([], 32)
