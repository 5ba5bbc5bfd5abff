"""The commands `world gates` and `world pictures`: is the small world a fair ground, and pictures to train on."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ..errors import BadSettings
from ..studies.gates.concepts import concept_gate
from ..studies.gates.run import base_gates
from ..tiny.readings import Reading
from ..tiny.world.concepts import CONCEPTS, HeldOut
from .console import Console
from .places import check_folder, save_image
from .tiny_world import TinyWorld


def gates(options: Namespace, console: Console) -> int:
    """Measures every gate and tells each number as it comes."""
    if not 0 <= options.concepts <= len(CONCEPTS):
        raise BadSettings(
            f"{options.concepts} concepts were asked for", f"0..{len(CONCEPTS)} were expected", "change --concepts"
        )
    if options.workers < 1:
        raise BadSettings(f"{options.workers} workers were asked for", "1 or more was expected", "change --workers")
    tiny_world = TinyWorld(options.weights)
    steps = base_gates(tiny_world.world, tiny_world.judge)
    if options.concepts:
        steps.append(
            lambda: concept_gate(tiny_world.world, tiny_world.judge, CONCEPTS[: options.concepts], options.workers)
        )
    readings: list[Reading] = []
    with console.bar(len(steps), "gates") as bar:
        for gate in steps:
            for found in gate():
                readings.append(found)
                console.say(row(found))
            bar.update()
    console.result({"gates": [found.row() for found in readings]}, table(readings))
    return 0


def row(found: Reading) -> str:
    """One number as a row of a Markdown table."""
    word = {None: "", True: "passed", False: "**failed**"}[found.passed]
    return f"| {found.gate} | {found.what} | {found.value:.3f} | {found.asked} | {word} |"


def table(readings: list[Reading]) -> str:
    """All numbers as a Markdown table, for docs/notes.md."""
    return "\n".join(("| gate | what | value | asked | |", "|---|---|---|---|---|", *map(row, readings)))


def pictures(options: Namespace, console: Console) -> int:
    """Writes the reference pictures of a held-out object, so that there is a folder to train on."""
    if not 0 <= options.concept < len(CONCEPTS):
        raise BadSettings(
            f"the concept is {options.concept}", f"a number in 0..{len(CONCEPTS) - 1} was expected", "change --concept"
        )
    thing = CONCEPTS[options.concept]
    written = write_references(thing, options.kind, options.out)
    found = {"folder": str(options.out), "noun": thing.thing.noun, "pictures": [path.name for path in written]}
    console.result(found, f"{options.out}: {len(written)} pictures; train with --noun {thing.thing.noun}")
    return 0


def write_references(thing: HeldOut, kind: str, folder: Path) -> list[Path]:
    """The object's reference pictures as PNG files in the folder; raises NotSaved."""
    check_folder(folder)
    written = []
    for i, rendered in enumerate(thing.references(kind)):
        written.append(folder / f"{thing.name}-{kind}-{i}.png")
        save_image(rendered.picture, written[-1])
    return written
