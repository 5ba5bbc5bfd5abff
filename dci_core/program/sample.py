"""The command `sample`: a concept and prompts to a grid of pictures."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..attention.layers import LayerMask
from ..concept.learned import Concept
from ..dci.branches import DciSettings
from ..dci.run import SampleSettings, check_eta
from ..errors import BadSettings
from ..families.family import Family
from ..noise.samplers import find_sampler, refuse_eta
from ..pictures.paper import grid
from ..pictures.saving import save_image
from ..text.stand_ins import stand_in_for
from ..tiny.defaults import DEFAULTS
from ..tiny.world.words import unknown_words
from .choices import chosen
from .console import Console
from .places import PICTURES, check_out
from .sampling import draw, pair_prompts, plain_prompts, with_concept
from .tiny_world import TinyWorld, known_noun

MOST_SEED = 2**63 - 1


def sample(options: Namespace, console: Console) -> int:
    """Draws and saves the grid: a row a prompt, a column a seed."""
    out = check_out(options.out, PICTURES)
    tiny_world = TinyWorld(options.weights, options.world)
    family, seeds = tiny_world.family, read_seeds(options)
    settings, dci = read_settings(options, family), read_dci(options, family)
    concept = tiny_world.load_concept(options.concept)
    model = with_concept(tiny_world, concept, options.concept_strength)
    auxiliary = ""
    if dci is None:
        prompts = [plain_prompts(model, concept, template) for template in options.prompt]
    else:
        auxiliary = known_noun(chosen_noun(options, concept), "auxiliary noun")
        prompts = [pair_prompts(model, concept, template, auxiliary) for template in options.prompt]
    warn_of_words(options.prompt, console)
    steps = len(family.schedule.spaced(settings.spacing, settings.num_steps)) - 1
    rows: list[Tensor] = []
    with console.bar(steps * len(seeds) * len(prompts), "sampling") as bar:
        for one in prompts:
            rows.append(draw(tiny_world, model, one, seeds=seeds, settings=settings, dci=dci, bar=bar).pictures)
    save_image(grid(rows), out)
    console.result(facts(options, seeds, dci, auxiliary), f"{out}: {len(rows)} x {len(seeds)} pictures")
    return 0


def chosen_noun(options: Namespace, concept: Concept) -> str:
    """What stands in for the concept in every prompt; raises BadSettings."""
    return stand_in_for(options.auxiliary, concept.noun, " ".join(options.prompt), family=concept.family)


def read_settings(options: Namespace, family: Family) -> SampleSettings:
    """How to step; raises BadSettings."""
    settings = chosen(DEFAULTS[options.world].sample, options)
    family.schedule.spaced(settings.spacing, settings.num_steps)
    check_eta(settings, family)
    find_sampler(settings.sampler)
    for name, value in (("CFG", settings.cfg), ("concept strength", options.concept_strength)):
        if not math.isfinite(value):
            raise BadSettings(f"the {name} is {value}", "a number was expected", "change it")
    if settings.eta != 0 and settings.sampler != "ddim":
        refuse_eta(settings.sampler, settings.eta)
    return settings


def read_dci(options: Namespace, family: Family) -> DciSettings | None:
    """How DCI acts, or None for plain sampling; raises BadSettings, BadLayers."""
    if options.plain:
        return None
    layers = {"layers": LayerMask(options.layer_text)} if options.layer_text is not None else {}
    settings = chosen(DEFAULTS[options.world].dci, options, **layers)
    settings.dbim(family)
    family.schedule.threshold(settings.window)
    return settings


def read_seeds(options: Namespace) -> list[int]:
    """One seed a picture: those named, or so many from the first; raises BadSettings."""
    seeds: Sequence[int] = options.seeds or range(options.seed, options.seed + options.count)
    if not seeds:
        raise BadSettings(f"{options.count} pictures were asked for", "1 or more was expected", "change --count")
    if min(seeds) < 0 or max(seeds) > MOST_SEED:
        raise BadSettings(f"the seeds are {list(seeds)}", "numbers from 0 to 2^63-1 were expected", "choose others")
    return list(seeds)


def warn_of_words(prompts: Sequence[str], console: Console) -> None:
    """A sentence about words that the small world has never seen."""
    words = unknown_words(prompts)
    if words:
        console.say(f"warning: the small world has never seen {', '.join(words)}; expect nothing of them")


def facts(options: Namespace, seeds: Sequence[int], dci: DciSettings | None, auxiliary: str) -> dict[str, Any]:
    """The result for machines."""
    return {
        "picture": str(options.out),
        "prompts": list(options.prompt),
        "seeds": list(seeds),
        "dci": None
        if dci is None
        else {"auxiliary": auxiliary, "window": dci.window, "strength": dci.strength, "guidance": dci.guidance},
    }
