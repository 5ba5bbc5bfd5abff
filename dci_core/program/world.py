"""The commands `world gates`, `scenes` and `pictures`: is the small world a fair ground, what does the first workflow's
prompt show, and pictures to train on.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ..concept.file import load_concept, save_concept
from ..concept.learned import Concept
from ..errors import BadSettings
from ..pictures.saving import save_image
from ..studies.gates.concepts import concept_gate, learn
from ..studies.gates.run import base_gates
from ..studies.gates.scenes import PLAIN, WORKFLOW_ICO, SceneReading, read_scenes
from ..tiny.readings import Reading
from ..tiny.world.concepts import CONCEPTS, HeldOut
from .console import Console
from .places import check_folder
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


def scenes(options: Namespace, console: Console) -> int:
    """Draws development objects in every place but their home, as workflow 1 does, and counts picture by picture."""
    things = [thing for thing in CONCEPTS if thing.is_development]
    if unknown := sorted(set(options.objects) - {thing.number for thing in things}):
        raise BadSettings(
            f"the objects {unknown} were asked for", f"0..{len(things) - 1} are for choices", "change --objects"
        )
    tiny_world = TinyWorld(options.weights)
    chosen = [(things[number], kind) for number in options.objects for kind in options.kinds]
    found: list[SceneReading] = []
    with console.bar(len(chosen), "scenes") as bar:
        for thing, kind in chosen:
            concept = learned(tiny_world, thing, kind, check_folder(options.out))
            for reading in read_scenes(tiny_world.world, tiny_world.judge, thing, kind, concept, options.windows):
                found.append(reading)
                console.say(scene_row(reading))
            bar.update()
    facts = [{**vars(reading), "good": reading.good} for reading in found]
    console.result({"scenes": facts}, scene_table(found))
    return 0


def learned(tiny_world: TinyWorld, thing: HeldOut, kind: str, folder: Path) -> Concept:
    """The concept of these pictures: from the folder where it was learned before, else learned and kept there."""
    path = folder / f"{thing.name}-{kind}.safetensors"
    if not path.is_file():
        concept, _ = learn(tiny_world.world, thing, kind, WORKFLOW_ICO)
        save_concept(concept, path)
    return load_concept(path, family="tiny")


def scene_row(found: SceneReading) -> str:
    """One prompt drawn one way as a row of a Markdown table."""
    way = PLAIN if found.way == PLAIN else f"window {found.way}"
    likeness = " ".join(f"{value:.2f}" for value in found.likeness)
    count = len(found.right)
    return (
        f"| {found.concept} | {found.kind} | {found.place} | {way} | {sum(found.right)} of {count} | {likeness} | "
        f"{sum(found.good)} of {count} |"
    )


def scene_table(found: list[SceneReading]) -> str:
    """All readings as a Markdown table, for docs/notes.md."""
    heads = ("object", "pictures", "place", "drawn", "place right", "likeness", "both")
    return "\n".join((f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *map(scene_row, found)))


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
