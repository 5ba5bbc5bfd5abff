"""The gates of the small flow world as cells: where its nouns' maps lie, when a place is decided, what it can draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...attention.layers import LayerId
from ...dci.run import sample_latents
from ...noise.samplers import Step
from ...text.prompts import Prompts, encode_text
from ...tiny.judge import QUESTIONS, verdict
from ...tiny.world.captions import article, look_in_words
from ...tiny.world.concepts import CONCEPTS
from ...tiny.world.scene import Rendered, Scene, random_thing, render
from ...tiny.world.words import COMPANIONS, HOMES, NEVER, NEVER_BESIDE, NOUNS, PLACES
from ..dci.cells import Bench, draw_prompts
from ..dci.dials import Way
from ..dci.ground import Lesson
from ..dci.judge_scores import Numbers
from ..gates.maps import collect, noun_maps, noun_places
from ..gates.trial import to_tensor

SEED = 424_203
MAP_TIMES = (0.9, 0.7, 0.5)  # of the flow: early, where DCI acts by default, later


@dataclass(frozen=True)
class NoLesson:
    """A cell that needs no concept."""

    @property
    def lesson(self) -> Lesson | None:
        """Nothing."""
        return None


@dataclass(frozen=True)
class MapCell(NoLesson):
    """Gate 2: the noun's attention, block by block, against the object's mask, in pictures noised to one time."""

    time: float
    pictures_each: int = 2

    @property
    def cost(self) -> int:
        """A row a picture."""
        return len(NOUNS) * 2 * self.pictures_each

    def play(self, bench: Bench) -> Numbers:
        """Per block the mean area under ROC, and that of the mean of all blocks' maps under `all`."""
        rng = np.random.default_rng(SEED)
        model, codec = bench.world.model, bench.world.codec
        found: dict[int, list[float]] = {}
        by_layer: dict[LayerId, list[float]] = {}
        for noun in NOUNS:
            for place in rng.choice([p for p in PLACES if p not in NEVER.get(noun, ())], 2, replace=False):
                thing = random_thing(rng, noun)
                rendered: list[Rendered] = [render(Scene(thing, str(place)), rng) for _ in range(self.pictures_each)]
                prompt = f"{article(look_in_words(thing))} {PLACES[str(place)]}"
                with torch.no_grad():
                    clean = codec.encode(to_tensor(rendered)).to(bench.device)
                noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(SEED)).to(clean)
                x = torch.lerp(clean, noise, self.time)
                text, slots = encode_text(model, prompt), noun_places(model, prompt, noun)
                maps = noun_maps(model, x, self.time, text, slots)
                collect({layer: plane.cpu() for layer, plane in maps.items()}, rendered, found, by_layer)
        blocks = {f"{layer.stage}{layer.block}": float(np.mean(values)) for layer, values in by_layer.items()}
        return {**blocks, "all": float(np.mean([value for values in found.values() for value in values]))}


@dataclass(frozen=True)
class PlaceCell(NoLesson):
    """Gate 4: how early the predicted picture of an ordinary noun shows the asked place."""

    way: Way
    seeds: tuple[int, ...]

    @property
    def cost(self) -> int:
        """A prompt for every place."""
        return len(PLACES) * len(self.seeds) * self.way.sample.num_steps * 2

    def play(self, bench: Bench) -> Numbers:
        """`times` of the steps, falling, and the share of `right` places at each."""
        right: dict[float, list[float]] = {}
        for place, words in PLACES.items():
            answer = QUESTIONS["place"].index(place)

            def watch(step: Step, answer: int = answer) -> None:
                places = bench.judge(bench.decoder.decode(step.x0).cpu())[0]["place"].argmax(dim=1)
                right.setdefault(step.sigma, []).append(float((places == answer).float().mean()))

            prompts = Prompts.from_text(bench.world.model, f"a star {words}")
            sample_latents(bench.world.model, prompts, seeds=self.seeds, settings=self.way.sample, on_step=watch)
        times = sorted(right, reverse=True)
        return {"times": times, "right": [float(np.mean(right[time])) for time in times]}


@dataclass(frozen=True)
class ToldCell(NoLesson):
    """The cheap half of gate 0: the base told an object's look in words, alone and beside something."""

    way: Way
    seeds: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Two prompts for every object."""
        return 2 * len(CONCEPTS) * len(self.seeds) * self.way.sample.num_steps * 2

    def play(self, bench: Bench) -> Numbers:
        """Mean `likeness`, and the share of pictures with the asked `companion`."""
        likeness, beside = list[float](), list[float]()
        for thing in CONCEPTS:
            companion = next(c for c in COMPANIONS if c != NEVER_BESIDE[thing.thing.noun])
            words = f"{article(look_in_words(thing.thing))} {PLACES[str(HOMES[thing.thing.noun])]}"
            asked = (words, f"{words} next to a {companion}")
            texts = [Prompts.from_text(bench.world.model, each) for each in asked]
            alone, joined = draw_prompts(bench, bench.world.model, texts, self.seeds, self.way).chunk(2)
            scale = bench.scale(thing.number)
            likeness += verdict(bench.judge, alone, scale, {}).likeness.tolist()
            found = verdict(bench.judge, joined, scale, {"companion": companion})
            beside += found.asked["companion"].float().tolist()
        return {"likeness": float(np.mean(likeness)), "companion": float(np.mean(beside))}
