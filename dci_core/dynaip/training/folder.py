"""Pairs from a folder: one folder inside it for each subject, with two pictures or more and a caption for each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from ...errors import BadPicture
from ...fingerprint import short_hash
from ...pictures.reference import MASK_SUFFIX, make_picture, open_image, picture_files, read_caption_file
from .pairs import Bytes, Pair, cut

LAYOUT = "one folder for each subject with 2 pictures or more, and cat.txt beside cat.png"
FEWEST = 2  # pictures of a subject: one to read, one to draw


@dataclass(frozen=True)
class Member:
    """One picture of a subject.

    caption  what is in it, in plain words
    mask     a picture that is white on the subject, or None
    """

    path: Path
    caption: str
    mask: Path | None


@dataclass(frozen=True)
class FolderPairs:
    """Every picture once an epoch as the target, in an order of the epoch's own, with a random other one to read.

    subjects  per subject its pictures
    size      pixels a side of what comes out: the largest centred square, resized
    """

    subjects: tuple[tuple[Member, ...], ...]
    size: int

    @cached_property
    def members(self) -> list[tuple[int, int]]:
        """(subject, picture) of every picture."""
        return [(s, i) for s, subject in enumerate(self.subjects) for i in range(len(subject))]

    @property
    def name(self) -> str:
        """How many subjects and pictures there are."""
        return f"{len(self.subjects)} subjects, {len(self.members)} pictures"

    def fingerprint(self) -> str:
        """Of file names, file sizes, captions and which masks there are."""
        facts = (
            (f"{m.path.parent.name}/{m.path.name}", m.path.stat().st_size, m.mask is not None, m.caption)
            for subject in self.subjects
            for m in subject
        )
        return short_hash([str(self.size).encode(), *(f"{each}\n".encode() for each in facts)])

    def pair(self, place: int, seed: int, cut_out: float) -> Pair:
        """Raises BadPicture for a file that cannot be read."""
        members = self.members
        epoch, at = divmod(place, len(members))
        subject, target = members[shuffled(len(members), seed, epoch)[at]]
        rng = np.random.default_rng((seed, place))
        others = [i for i in range(len(self.subjects[subject])) if i != target]
        shown = self.subjects[subject][target]
        read = self.subjects[subject][others[rng.integers(len(others))]] if others else shown
        is_cut = read.mask is not None and rng.random() < cut_out
        return Pair(self._load(shown, False), shown.caption, self._load(read, is_cut))

    def _load(self, member: Member, is_cut: bool) -> Bytes:
        mask = None if member.mask is None or not is_cut else open_image(member.mask)
        picture = make_picture(open_image(member.path), self.size, mask, name=member.path.name)
        pixels = (picture.pixels * 255).round().byte().permute(1, 2, 0).numpy()
        if picture.mask is None:
            return pixels
        return cut(pixels, (picture.mask[0] * 255).round().byte().numpy())


@lru_cache(maxsize=2)
def shuffled(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    """The order of the epoch's targets."""
    order = np.random.default_rng((seed, 1_000_003, epoch)).permutation(count)
    return tuple(order.tolist())


def read_folder(folder: Path, size: int, fewest: int = FEWEST) -> FolderPairs:
    """The folder's subjects; raises BadPicture where it does not hold pairs with captions."""
    try:
        places = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise BadPicture(
            f'the folder "{folder.name}" cannot be read ({error.strerror or error})',
            f"{LAYOUT} was expected",
            "check the path",
        ) from error
    if not places:
        raise BadPicture(f'the folder "{folder.name}" holds no folder', f"{LAYOUT} was expected", "sort the pictures")
    return FolderPairs(tuple(_subject(place, fewest) for place in places), size)


def _subject(folder: Path, fewest: int) -> tuple[Member, ...]:
    found = picture_files(folder, "put 2 pictures or more of one subject into it")
    if len(found) < fewest:
        raise BadPicture(
            f'the subject "{folder.name}" has 1 picture',
            "2 or more were expected: one to read, one to draw",
            "add pictures of the same subject, take the folder away, or train with --same-picture 1",
        )
    return tuple(_member(path) for path in found)


def _member(path: Path) -> Member:
    words, mask = path.with_suffix(".txt"), path.with_name(path.stem + MASK_SUFFIX)
    caption = read_caption_file(words) if words.exists() else ""
    if not caption:
        raise BadPicture(
            f'the picture "{path.parent.name}/{path.name}" has no caption',
            f'words in "{words.name}" beside it were expected',
            "describe the picture in one plain sentence",
        )
    return Member(path, caption, mask if mask.exists() else None)
