"""Pictures of every kind become the same square RGB, or one clear sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from dci_core.errors import BadModel, BadPicture, SpanNotFound
from dci_core.ico.data import encode_pictures
from dci_core.pictures import reference as pictures
from dci_core.pictures.reference import load_pictures, make_picture

RAMP = np.linspace(0, 255, 40 * 32).reshape(32, 40).astype(np.uint8)  # brighter to the bottom
COLOUR = np.dstack([RAMP, 255 - RAMP, RAMP // 2])


def centre(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array[:, 4:36].copy()).float() / 255


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, value in (("b.png", 100), ("a.webp", 50), ("c.JPG", 200)):
        Image.new("RGB", (20, 20), (value,) * 3).save(tmp_path / name, lossless=True)
    (tmp_path / "notes.md").write_text("not a picture")
    (tmp_path / "inside").mkdir()
    found = load_pictures(tmp_path, 24)
    assert [p.name for p in found] == ["a.webp", "b.png", "c.JPG"]
    assert [round(p.pixels.mean().item() * 255) for p in found] == [50, 100, 200]
    assert all(p.pixels.shape == (3, 24, 24) and p.mask is None and p.caption is None for p in found)


def test_the_centre_is_cut_out_and_resized() -> None:
    same = make_picture(Image.fromarray(COLOUR), 32)
    assert torch.equal(same.pixels, centre(COLOUR).permute(2, 0, 1))
    half = make_picture(Image.fromarray(COLOUR), 16).pixels
    assert half.shape == (3, 16, 16) and torch.allclose(half.mean(), same.pixels.mean(), atol=2e-3)
    assert make_picture(Image.fromarray(COLOUR), 64).pixels.shape == (3, 64, 64)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    Image.fromarray(COLOUR).convert(mode).save(tmp_path / "x.tif" if mode in ("CMYK", "YCbCr") else tmp_path / "x.png")
    (picture,) = load_pictures(tmp_path, 32)
    grey = centre(COLOUR).mean(-1)
    assert picture.pixels.shape == (3, 32, 32)
    tolerance = 0.6 if mode == "1" else 0.2 if mode in ("L", "LA") else 0.1
    assert (picture.pixels.mean(0) - grey).abs().mean() < tolerance


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_transparency_lies_on_white(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 20, 10))
    if mode == "P":
        image = image.convert("P")
    image.save(tmp_path / "x.png")
    (picture,) = load_pictures(tmp_path, 20)
    assert picture.pixels[:, 15, 10].tolist() == [1, 1, 1]
    assert picture.pixels[:, 5, 10].tolist() == [0, 0, 1]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_their_brightness(suffix: str, tmp_path: Path) -> None:
    deep = (RAMP.astype(np.uint32) * 257).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / f"x.{suffix}")
    (picture,) = load_pictures(tmp_path, 32)
    assert torch.allclose(picture.pixels[0], centre(RAMP), atol=1e-6)
    assert torch.allclose(make_picture(deep, 32).pixels[0], centre(RAMP), atol=1e-6)


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), (value,) * 3) for value in (10, 240)]
    for name in ("x.gif", "x.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
    assert all(abs(p.pixels.mean() * 255 - 10) < 2 for p in load_pictures(tmp_path, 20))


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(COLOUR).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn clockwise to view
    image.save(tmp_path / "x.png", exif=exif)
    (picture,) = load_pictures(tmp_path, 32)
    upright = torch.from_numpy(np.rot90(COLOUR, -1).copy())[4:36].float() / 255
    assert torch.equal(picture.pixels, upright.permute(2, 0, 1))


def test_arrays_and_tensors_of_any_layout_give_the_same_picture() -> None:
    expected = make_picture(Image.fromarray(COLOUR), 32).pixels
    floats = torch.from_numpy(COLOUR).float() / 255
    for source in (COLOUR, COLOUR.transpose(2, 0, 1), floats, floats.permute(2, 0, 1), floats.numpy(), floats.half()):
        assert torch.allclose(make_picture(source, 32).pixels, expected, atol=0.003)
    assert make_picture(RAMP, 32).pixels.shape == (3, 32, 32)
    assert make_picture(RAMP[:, :, None], 32).pixels.shape == (3, 32, 32)


def test_masks_and_captions_lie_beside_their_picture(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "cat.png")
    Image.fromarray(COLOUR).save(tmp_path / "dog.png")
    mask = np.zeros((32, 40), np.uint8)
    mask[:, :20] = 255
    Image.fromarray(mask).save(tmp_path / "cat.mask.png")
    (tmp_path / "dog.txt").write_text("a {concept}\n in snow\n", encoding="utf-8")
    cat, dog = load_pictures(tmp_path, 32)
    assert cat.mask is not None and cat.mask.shape == (1, 32, 32)
    assert cat.mask[0, :, :16].min() == 1 and cat.mask[0, :, 16:].max() == 0
    assert (cat.caption, dog.mask, dog.caption) == (None, None, "a {concept} in snow")
    data = encode_pictures([cat, dog], lambda x: x[:, :, ::8, ::8])
    assert data.latents.shape == (2, 2, 3, 4, 4) and data.masks is not None
    mirrored = cat.pixels.flip(-1)[:, ::8, ::8]
    assert torch.equal(data.latents[:, 1], mirrored.expand(2, -1, -1, -1))
    assert data.masks[0, 0, 0, 0].tolist() == [1, 1, 0, 0] and data.masks[0, 1, 0, 0].tolist() == [0, 0, 1, 1]
    again = encode_pictures([cat, dog], lambda x: x[:, :, ::8, ::8] + 1e-3)  # a codec that rounds otherwise
    assert data.fingerprint() == again.fingerprint() != encode_pictures([dog, cat], lambda x: x).fingerprint()
    assert data.masks[1].min() == 1 and data.captions == (None, "a {concept} in snow")


def test_the_noun_of_a_caption_is_the_place_of_the_concept(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "x.png")
    (tmp_path / "x.txt").write_text("a Dog by dogs", encoding="utf-8")
    assert [picture.caption for picture in load_pictures(tmp_path, 32, "dog")] == ["a {concept} by dogs"]
    with pytest.raises(SpanNotFound, match=r'"a Dog by dogs" holds neither \{concept\} nor the noun "cat"'):
        load_pictures(tmp_path, 32, "cat")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_captions_are_read_in_every_encoding_that_editors_write(tmp_path: Path, encoding: str) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "x.png")
    (tmp_path / "x.txt").write_bytes("a {concept} in a caf\u00e9,\r\nby night\r\n".encode(encoding))
    (picture,) = load_pictures(tmp_path, 32)
    assert picture.caption == "a {concept} in a caf\u00e9, by night"


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JFIF", *([".avif"] if features.check("avif") else [])])
def test_rarer_endings_are_read(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(COLOUR).save(tmp_path / f"x{suffix}", "AVIF" if suffix == ".avif" else "JPEG")
    (picture,) = load_pictures(tmp_path, 32)
    assert torch.allclose(picture.pixels, make_picture(COLOUR, 32).pixels, atol=0.15)


def test_pictures_that_pillow_cannot_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = {suffix: kind for suffix, kind in Image.registered_extensions().items() if suffix not in (".avif", ".heic")}
    monkeypatch.setattr(Image, "registered_extensions", lambda: known)
    for name in ("a.heic", "b.AVIF"):
        (tmp_path / name).write_bytes(b"any")
    with pytest.raises(BadPicture, match=r"only a.heic, b.AVIF"):
        load_pictures(tmp_path, 32)
    Image.fromarray(COLOUR).save(tmp_path / "x.png")
    assert [picture.name for picture in load_pictures(tmp_path, 32)] == ["x.png"]
    assert "left out" in caplog.text and "a.heic, b.AVIF" in caplog.text


def test_bad_masks_and_captions_are_refused(tmp_path: Path) -> None:
    image = Image.fromarray(COLOUR)
    with pytest.raises(BadPicture, match="20x20 px; 40x32 px"):
        make_picture(image, 32, mask=Image.new("L", (20, 20), 255))
    with pytest.raises(BadPicture, match="black inside"):
        make_picture(image, 32, mask=np.zeros((32, 40)))
    with pytest.raises(SpanNotFound):
        make_picture(image, 32, caption="a fish")
    image.save(tmp_path / "x.png")
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\xfa{concept}\xd8\xd8")
    with pytest.raises(BadPicture, match="UTF-8"):
        load_pictures(tmp_path, 32)


def test_bad_folders_and_files_get_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadPicture, match="holds no picture"):
        load_pictures(tmp_path, 32)
    with pytest.raises(BadPicture, match="cannot be read"):
        load_pictures(tmp_path / "nowhere", 32)
    target = tmp_path / "x.png"
    target.write_bytes(b"hello")
    with pytest.raises(BadPicture, match='"x.png" cannot be read as a picture'):
        load_pictures(tmp_path, 32)
    target.write_bytes(b"")
    with pytest.raises(BadPicture, match="cannot be read as a picture"):
        load_pictures(tmp_path, 32)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(target)
    target.write_bytes(target.read_bytes()[:4000])
    with pytest.raises(BadPicture, match="cannot be read as a picture"):
        load_pictures(tmp_path, 32)
    Image.new("RGB", (15, 400)).save(target)
    with pytest.raises(BadPicture, match="15x400 px; at least 16"):
        load_pictures(tmp_path, 32)
    Image.new("L", (600, 500)).save(target)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 250_000)
    with pytest.raises(BadPicture, match="million pixels"):
        load_pictures(tmp_path, 32)
    for limit in (200_000, 100_000):  # Pillow's own limit: a warning, then an error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(BadPicture, match="million pixels"):
            load_pictures(tmp_path, 32)


def test_bad_arrays_are_refused() -> None:
    for shape in ((2, 3, 20, 20), (20,), (20, 20, 2), (0, 20, 3)):
        with pytest.raises(BadPicture, match="shape"):
            make_picture(np.zeros(shape), 32)
    with pytest.raises(BadPicture, match="NaN"):
        make_picture(torch.full((20, 20, 3), torch.nan), 32)
    with pytest.raises(BadPicture, match="no reference picture"):
        encode_pictures([], lambda x: x)


def test_a_codec_that_gives_no_numbers_is_told_with_the_picture() -> None:
    bright = [make_picture(np.full((32, 32, 3), level, np.uint8), 32, name=f"{level}.png") for level in (0, 255)]
    for hole in (torch.nan, torch.inf):
        with pytest.raises(BadModel, match='the VAE gave NaN or infinity for "255.png"'):
            encode_pictures(bright, lambda x, hole=hole: torch.where(x > 0.9, hole, x))
        with pytest.raises(BadModel, match='"255.png"'):
            encode_pictures(bright[:1], lambda x, hole=hole: torch.where(x > 0.9, hole, x), class_pictures=bright[1:])
    assert encode_pictures(bright, lambda x: x).latents.isfinite().all()
