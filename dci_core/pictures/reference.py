"""Reference pictures as training wants them: upright, square, RGB, 0..1, with an optional mask and caption."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image, ImageOps, features
from torch import Tensor

from ..errors import BadPicture
from ..files import read_words
from ..text.captions import own_caption, read_caption

log = logging.getLogger(__name__)
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
NEWER_SUFFIXES = frozenset({".avif", ".heic", ".heif", ".jxl"})  # read where Pillow can, else told
MASK_SUFFIX = ".mask.png"
MIN_SIDE_PX = 16
MAX_PIXELS = 89_478_485  # a quarter GiB of RGB; also where Pillow starts to suspect a decompression bomb
WHITE = (255, 255, 255, 255)

Source = Image.Image | NDArray[np.generic] | Tensor


@dataclass(frozen=True)
class Picture:
    """One reference picture, ready for the codec.

    pixels   [3 size size], 0..1
    mask     [1 size size], 0..1, white where the loss counts; None: everywhere
    caption  text with `{concept}` once, or None
    name     for messages only; never saved
    """

    pixels: Tensor
    mask: Tensor | None = None
    caption: str | None = None
    name: str = "picture"


def load_pictures(folder: Path, size: int, noun: str = "") -> list[Picture]:
    """All pictures of a folder, sorted by name; `cat.png` may have `cat.mask.png` and `cat.txt` beside it.

    noun  becomes `{concept}` in captions that have none
    Raises BadPicture for an empty folder and for the first picture that cannot be used; SpanNotFound for a caption
    without `{concept}`. Files that are no pictures are left alone.
    """
    return [_load(path, size, noun) for path in picture_files(folder, "put 4 to 20 pictures of one thing into it")]


def picture_files(folder: Path, do: str) -> list[Path]:
    """The folder's pictures, sorted by name, masks left out; raises BadPicture, which says what to `do`, for none."""
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise BadPicture(
            f'the folder "{folder.name}" cannot be read ({error.strerror or error})',
            "a folder with pictures was expected",
            "check the path",
        ) from error
    readable = readable_suffixes()
    found = [path for path in files if path.suffix.lower() in readable and not path.name.lower().endswith(MASK_SUFFIX)]
    left = [path.name for path in files if path.suffix.lower() in NEWER_SUFFIXES - readable]
    if not found:
        instead = f" that can be read here, only {', '.join(left)}" if left else ""
        raise BadPicture(
            f'the folder "{folder.name}" holds no picture{instead}',
            "PNG, JPG, WebP, BMP, GIF or TIFF files were expected",
            do,
        )
    if left:
        log.warning("left out, since this Pillow cannot read them: %s; save them as PNG or JPG", ", ".join(left))
    return found


def readable_suffixes() -> frozenset[str]:
    """Endings of pictures that can be read here: the usual ones, and of the newer ones those that Pillow knows."""
    known = Image.registered_extensions()
    newer = {suffix for suffix in NEWER_SUFFIXES if known.get(suffix) in Image.OPEN}
    return SUFFIXES | {suffix for suffix in newer if suffix != ".avif" or features.check("avif")}


def open_rgb(path: Path) -> Image.Image:
    """The file's picture, whatever its shape, as `as_rgb` gives it; raises BadPicture."""
    return as_rgb(open_image(path), path.name)


def as_rgb(image: Source, name: str = "picture") -> Image.Image:
    """The picture upright and whole, transparency laid on white; raises BadPicture."""
    return _to_rgb(_upright(image, name), name)


def make_picture(
    image: Source, size: int, mask: Source | None = None, caption: str | None = None, name: str = "picture"
) -> Picture:
    """A picture from PIL, an array or a tensor ([h w], [h w c] or [c h w]; integers or floats in 0..1).

    EXIF orientation is applied, the largest centred square cut out and resized bicubically, transparency laid on
    white. Raises BadPicture.
    """
    if caption is not None:
        read_caption(caption)
    upright = _upright(image, name)
    pixels = _square(_to_rgb(upright, name), size, Image.Resampling.BICUBIC)
    shape = None if mask is None else _mask(mask, size, upright.size, name)
    return Picture(rearrange(pixels, "h w c -> c h w"), shape, caption, name)


def open_image(path: Path) -> Image.Image:
    """The file's first frame, fully read; raises BadPicture for unreadable and for huge files."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                _check_size(image.size, path.name)
                return ImageOps.exif_transpose(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _huge(path.name) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadPicture(
            f'"{path.name}" cannot be read as a picture', "a whole PNG, JPG or WebP file was expected", "replace it"
        ) from error


def _load(path: Path, size: int, noun: str) -> Picture:
    mask, caption = companions(path)
    placed = own_caption(caption, noun) if caption and noun else caption
    return make_picture(open_image(path), size, mask, placed, path.name)


def companions(path: Path) -> tuple[Image.Image | None, str | None]:
    """(mask, caption) that lie beside a picture: `cat.mask.png` and `cat.txt` of `cat.png`; raises BadPicture."""
    beside, words = path.with_name(path.stem + MASK_SUFFIX), path.with_suffix(".txt")
    return (
        open_image(beside) if beside.exists() else None,
        read_caption_file(words) if words.exists() else None,
    )


def read_caption_file(path: Path) -> str:
    """A caption file's words, blanks and line ends made single blanks; raises BadPicture."""
    try:
        return " ".join(read_words(path.read_bytes()).split())
    except (OSError, UnicodeDecodeError) as error:
        raise BadPicture(
            f'the caption "{path.name}" cannot be read', "text was expected", "save it again as UTF-8"
        ) from error


def _upright(image: Source, name: str) -> Image.Image:
    picture = ImageOps.exif_transpose(image) if isinstance(image, Image.Image) else _from_array(image, name)
    _check_size(picture.size, name)
    return picture


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if min(size) < MIN_SIDE_PX:
        raise BadPicture(
            f'"{name}" is {width}x{height} px', f"at least {MIN_SIDE_PX} px a side was expected", "use a larger picture"
        )
    if width * height > MAX_PIXELS:
        raise _huge(name)


def _huge(name: str) -> BadPicture:
    return BadPicture(
        f'"{name}" has more than {MAX_PIXELS // 1_000_000} million pixels',
        "a picture of ordinary size was expected",
        "scale it down before training",
    )


def _from_array(image: NDArray[np.generic] | Tensor, name: str) -> Image.Image:
    array = image.detach().cpu().float().numpy() if isinstance(image, Tensor) and image.is_floating_point() else image
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = rearrange(array, "c h w -> h w c")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise BadPicture(
            f"{name} has the shape {tuple(array.shape)}", "[h w], [h w c] or [c h w] was expected", "pass one picture"
        )
    return Image.fromarray(_to_bytes(array, name))


def _to_bytes(array: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    """Eight bits a channel, from booleans, 8- or 16-bit integers, or floats in 0..1."""
    if array.dtype == np.uint8:
        return array.astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise BadPicture(
                f"{name} holds NaN or infinity", "numbers in 0..1 were expected", "check where it came from"
            )
        return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    scale = 1 if array.dtype == np.bool_ else 255 if array.max() < 256 else 65535
    return np.rint(np.clip(array.astype(np.float64) / scale, 0, 1) * 255).astype(np.uint8)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image, name).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")
    return image.convert("RGB")


def _deep_grey(image: Image.Image, name: str) -> Image.Image:
    """16-bit files and 32-bit ones that hold 16-bit values become eight bits; Pillow alone would clip them to white."""
    array = np.asarray(image).astype(np.float64)
    if not np.isfinite(array).all():
        raise BadPicture(f'"{name}" holds NaN or infinity', "a picture was expected", "replace it")
    sixteen = image.mode.startswith("I;16") or array.max() > 255
    top = 65535 if sixteen else 255 if image.mode == "I" or array.max() > 1 else 1
    return Image.fromarray(_to_bytes(array / top, name))


def _square(image: Image.Image, size: int, how: Image.Resampling) -> Tensor:
    """[size size c] or [size size], the largest centred square, resized."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cut = image.resize((size, size), how, box=(left, top, left + side, top + side))
    return torch.from_numpy(np.array(cut)).float() / 255


def _mask(mask: Source, size: int, expected: tuple[int, int], name: str) -> Tensor:
    upright = _upright(mask, f"mask of {name}")
    if upright.size != expected:
        raise BadPicture(
            f'the mask of "{name}" is {upright.width}x{upright.height} px',
            f"{expected[0]}x{expected[1]} px like the picture was expected",
            "draw it on the picture itself",
        )
    shape = _square(_to_rgb(upright, name).convert("L"), size, Image.Resampling.BOX)
    if shape.max() == 0:
        raise BadPicture(
            f'the mask of "{name}" is black inside the centre square', "white on the thing was expected", "redraw it"
        )
    return rearrange(shape, "h w -> 1 h w")
