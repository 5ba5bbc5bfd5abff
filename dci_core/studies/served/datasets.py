"""Published sets of subjects, read from the folders that they are downloaded to; none of their files is ours.

DreamBooth        Ruiz et al., CVPR 2023, arXiv 2208.12242: 30 subjects, 25 prompts each
CustomConcept101  Kumari et al., CVPR 2023, arXiv 2212.04488: 101 concepts, 20 prompts each
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import BadPicture, BadSettings
from ...pictures.reference import picture_files
from ...text.tokens import PLACEHOLDER

LIVE = ("cat", "dog")  # DreamBooth's classes that get the prompts of living things
DREAMBOOTH, CUSTOM = "prompts_and_classes.txt", "dataset.json"
TEMPLATE = re.compile(r"'(.*\{0\} \{1\}.*)'\.format\(")


@dataclass(frozen=True)
class Subject:
    """One thing to learn.

    noun      its class, one word or several
    pictures  of it, two or more
    prompts   each with {concept} where the thing stands
    """

    name: str
    noun: str
    pictures: tuple[Path, ...]
    prompts: tuple[str, ...]


def read_subjects(folder: Path) -> list[Subject]:
    """The subjects of a published set whose pictures are there, in its order; raises BadSettings, BadPicture."""
    readers: Mapping[str, Callable[[Path], list[Subject]]] = {DREAMBOOTH: read_dreambooth, CUSTOM: read_custom}
    for name, read in readers.items():
        for place in (folder, folder / "dataset", folder / "customconcept101"):
            if (place / name).is_file():
                try:
                    found = read(place / name)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise BadSettings(
                        f'"{name}" cannot be read ({error})', "the published file was expected", "download it again"
                    ) from error
                if found:
                    return found
                raise BadPicture(
                    f'the folders that "{name}" names hold no pictures',
                    "the set's pictures were expected beside it",
                    "download them as the set's own page tells",
                )
    raise BadSettings(
        f'"{folder.name}" holds neither {DREAMBOOTH} (DreamBooth) nor {CUSTOM} (CustomConcept101)',
        "the folder of one of the two sets was expected",
        "change --data",
    )


def read_dreambooth(path: Path) -> list[Subject]:
    """Subjects in folders of their names beside the file."""
    text = path.read_text(encoding="utf-8")
    classes, things, living = re.split(r"\n(?:Prompts\n\nObject|Live Subject) Prompts\n", text)
    pairs = [line.split(",") for line in classes.splitlines() if "," in line][1:]
    prompts = {True: templates_in(living), False: templates_in(things)}
    return [
        Subject(name.strip(), noun.strip(), pictures, prompts[noun.strip() in LIVE])
        for name, noun in pairs
        if (pictures := pictures_in(path.parent / name.strip()))
    ]


def templates_in(code: str) -> tuple[str, ...]:
    """The prompts of a listing in Python, their two fields as one place for the concept."""
    return tuple(found.replace("{0} {1}", PLACEHOLDER) for found in TEMPLATE.findall(code))


def read_custom(path: Path) -> list[Subject]:
    """Concepts in the folders that the file names; every prompt file holds a prompt a line, `{}` for the concept."""
    found = []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        place, listing = path.parent / entry["instance_data_dir"], path.parent / entry["prompt_filename"]
        pictures = pictures_in(place)
        if pictures and listing.is_file():
            lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines()]
            prompts = tuple(line.replace("{}", PLACEHOLDER) for line in lines if "{}" in line)
            found.append(Subject(place.name, entry["class_prompt"], pictures, prompts))
    return found


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """The folder's pictures, sorted; none where it is missing."""
    return tuple(picture_files(folder, "put its pictures there")) if folder.is_dir() else ()
