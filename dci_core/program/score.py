"""The command `score`: CLIP-T, CLIP-I and DINO of a folder of pictures, or of several, one for each setting."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import BadPicture, BadSettings
from ..pictures.reference import open_rgb, picture_files, readable_suffixes
from ..score.encoders import load_clip, load_dino
from ..score.folders import CLIP, DINO, class_name
from ..score.frontier import frontier
from ..score.prompts import by_number, plain_prompts, read_prompts
from ..score.scores import Judges, References, Scores, look_at_references, refuse_few, score_pictures
from ..score.tables import table
from .console import Console


@dataclass(frozen=True)
class Setting:
    """Pictures that were drawn in one way, each with its prompt."""

    name: str
    files: Sequence[Path]
    prompts: Sequence[str]


def add_score(parser: ArgumentParser) -> None:
    """Options of `score`."""
    parser.set_defaults(run=score)
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="DIR",
        help="pictures to score, or folders of them: one for each setting to compare",
    )
    parser.add_argument(
        "--refs", type=Path, required=True, metavar="DIR", help="real pictures of the concept, 2 or more"
    )
    parser.add_argument(
        "--prompts",
        type=Path,
        required=True,
        metavar="FILE",
        help=".txt: a line for each picture in the order of their names (1, 2, 10), or one line for all; "
        ".csv: columns name, prompt; .json: names to prompts",
    )
    parser.add_argument("--clip", type=Path, metavar="DIR", help="a CLIP model's folder, for CLIP-T and CLIP-I")
    parser.add_argument("--dino", type=Path, metavar="DIR", help="a DINO or DINOv2 model's folder, for DINO")
    parser.add_argument("--trigger", default="", metavar="WORD", help="left out of the prompts, as CLIP cannot know it")
    parser.add_argument("--noun", default="", help="the concept's class, put where the trigger or {concept} stands")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, mps; default: cuda where there is one")


def score(options: Namespace, console: Console) -> int:
    """Tells every setting's scores and which settings are on the frontier."""
    if options.clip is None and options.dino is None:
        raise BadSettings("no encoder was named", "--clip or --dino is expected", "name one or both")
    for folder, kind in ((options.clip, CLIP), (options.dino, DINO)):
        if folder is not None:
            class_name(folder, kind)  # a wrong folder is told before any picture is read
    device = read_device(options.device)
    references = picture_files(options.refs, "put two or more real pictures of the concept into it")
    refuse_few(len(references))
    settings = read_settings(options)
    judges = load_judges(options, device)
    looks = judges.passes * (len(references) + sum(len(setting.files) for setting in settings))
    with console.bar(looks, "scoring") as bar:
        real = look_at_references(judges, [open_rgb(path) for path in references], bar.update)
        scores = {
            one.name: score_pictures(judges, real, [open_rgb(path) for path in one.files], one.prompts, bar.update)
            for one in settings
        }
    best = frontier(scores) if len(scores) > 1 else []
    console.result(facts(options, settings, scores, real, len(references), best), table(scores, real, best))
    return 0


def read_settings(options: Namespace) -> list[Setting]:
    """What is to be scored: the folder's own pictures, or else its folders'; raises BadPicture, BadSettings."""
    found = []
    for folder in setting_folders(options.images):
        files = sorted(
            picture_files(folder, "name the folder with the pictures"), key=lambda path: by_number(path.name)
        )
        prompts = read_prompts(options.prompts, [path.name for path in files])
        found.append(Setting(folder.name, files, plain_prompts(prompts, options.trigger, options.noun)))
    return found


def setting_folders(folder: Path) -> list[Path]:
    """The folder itself where it holds pictures, else the folders in it, in the order of their names."""
    try:
        entries = sorted(folder.iterdir(), key=lambda path: by_number(path.name))
    except OSError as error:
        raise BadPicture(
            f'the folder "{folder.name}" cannot be read ({error.strerror or error})',
            "a folder with pictures was expected",
            "check the path",
        ) from error
    inside = [path for path in entries if path.is_dir() and not path.name.startswith(".")]
    readable = readable_suffixes()
    has_pictures = any(path.suffix.lower() in readable for path in entries if path.is_file())
    return [folder.resolve()] if has_pictures or not inside else inside


def read_device(name: str | None) -> torch.device:
    """Where the encoders run; raises BadSettings for a device that is not there."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadSettings(
            f'the device is "{name}"', "one that PyTorch finds on this machine is expected", "leave out --device"
        ) from error


def load_judges(options: Namespace, device: torch.device) -> Judges:
    """The encoders that were named; raises BadModel, BadSettings."""
    judges = Judges(
        None if options.clip is None else load_clip(options.clip),
        None if options.dino is None else load_dino(options.dino),
    )
    for judge in (judges.clip, judges.dino):
        if judge is not None:
            judge.model.to(device)
    return judges


def facts(
    options: Namespace,
    settings: Sequence[Setting],
    scores: Mapping[str, Scores],
    real: References,
    count: int,
    best: Sequence[str],
) -> dict[str, Any]:
    """The result for machines."""
    return {
        "clip": None if options.clip is None else options.clip.name,
        "dino": None if options.dino is None else options.dino.name,
        "references": {"pictures": count, **real.ceiling()},
        "settings": {one.name: setting_facts(one, scores[one.name]) for one in settings},
        "frontier": list(best),
    }


def setting_facts(setting: Setting, scores: Scores) -> dict[str, Any]:
    """Means with intervals, then each picture's own."""
    pictures = [
        {"name": path.name, "prompt": prompt, **{name: found.values[i] for name, found in scores.items()}}
        for i, (path, prompt) in enumerate(zip(setting.files, setting.prompts, strict=True))
    ]
    return {**{name: found.facts() for name, found in scores.items()}, "pictures": pictures}
