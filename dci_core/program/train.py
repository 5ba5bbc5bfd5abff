"""The command `train`: a folder of pictures to a concept file."""

from __future__ import annotations

import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

from ..concept.learned import Concept
from ..errors import BadSettings
from ..ico.settings import check_settings
from ..pictures.reference import load_pictures
from ..tiny.defaults import DEFAULTS, FLOW
from ..tiny.photographs import WARNING, are_photographs
from .choices import chosen
from .console import Console
from .places import check_out
from .tiny_world import FAMILY, TinyWorld, free_trigger, known_noun
from .training import Course, Stopped, check_unfinished, encode, learn, start

INTERRUPTED = 130  # what shells give for Ctrl-C


def train(options: Namespace, console: Console) -> int:
    """Trains and saves; everything that can be wrong is found out before the first step."""
    course = read_course(options)
    check_unfinished(course.kept, resumes=options.resume, restarts=options.restart)
    tiny_world = TinyWorld(options.weights, options.world)
    size = tiny_world.family.picture_size
    pictures = load_pictures(options.images, size, course.noun)
    class_pictures = load_pictures(options.class_pictures, size) if options.class_pictures else []
    if are_photographs([picture.pixels for picture in pictures]):
        console.say(f"warning: {WARNING}")
    data = encode(tiny_world, pictures, class_pictures)
    state = start(tiny_world, data, course, resumes=options.resume)
    try:
        concept = learn(tiny_world, data, state, course, console)
    except Stopped as stopped:
        return report_stop(stopped, options, console)
    console.result(facts(course, concept, len(pictures)), describe(course, concept, len(pictures)))
    return 0


def read_course(options: Namespace) -> Course:
    """The options as a training; raises BadSettings, NotSaved."""
    noun = known_noun(options.noun)
    trigger = free_trigger(options.trigger or f"my{noun}")
    prior = {"prior": "pictures"} if options.class_pictures and options.prior is None else {}
    settings = chosen(DEFAULTS[options.world].ico, options, **prior)
    check_settings(settings)
    if options.save_every < 1:
        raise BadSettings(f"save every is {options.save_every}", "1 or more was expected", "change --save-every")
    out = check_out(options.out, (".safetensors",))
    return Course(settings, noun, trigger, out, read_rank(options.file_rank), options.save_every)


def read_rank(text: str) -> int | None:
    """Factors to keep: a number, or None for `full`."""
    if text == "full":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise BadSettings(f"the rank is {text}", "1 or more, or full, was expected", "use 16, or full")
    return int(text)


def report_stop(stopped: Stopped, options: Namespace, console: Console) -> int:
    """One sentence on how to go on; the exit code."""
    again = options.command_line if "--resume" in options.command_line else [*options.command_line, "--resume"]
    command = shlex.join(["python", "-m", "dci_core", *(word for word in again if word != "--restart")])
    state = stopped.state
    console.say(f'{stopped}; all of it is kept in "{stopped.kept.name}", and this goes on from there: {command}')
    if console.is_json:
        kept = {"interrupted": True, "step": state.step, "steps": state.settings.steps, "kept": str(stopped.kept)}
        console.result({**kept, "resume": command}, "")
    return INTERRUPTED


def facts(course: Course, concept: Concept, num_pictures: int) -> dict[str, Any]:
    """The result for machines."""
    return {
        "concept": str(course.out),
        "trigger": concept.trigger,
        "noun": concept.noun,
        "pictures": num_pictures,
        "steps": course.settings.steps,
        "loss": dict(concept.about.loss),
        "rank": concept.about.rank,
        "compression_error": concept.about.error,
    }


def describe(course: Course, concept: Concept, num_pictures: int) -> str:
    """The result for people."""
    loss = concept.about.loss
    size = Path(course.out).stat().st_size / 1e6
    world = f" --world {FLOW}" if concept.family == FAMILY[FLOW] else ""
    return (
        f"{course.out}: {concept.phrase!r} from {num_pictures} pictures in {course.settings.steps} steps, "
        f"loss {loss['first']:.3f} -> {loss['mean_of_last']:.3f}, {size:.1f} MB\n"
        f"draw it: python -m dci_core sample{world} --concept {shlex.quote(str(course.out))} "
        f'--prompt "a {{concept}} in snow" --out grid.png'
    )
