"""Gate 2: whether the noun's attention map lies on the object."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ...attention.call import AttentionCall
from ...attention.layers import LayerId
from ...attention.spans import attention_probabilities
from ...dci.guidance import denoise_at
from ...model import Model, Text
from ...noise.schedule import sd_schedule
from ...text.captions import pick_text
from ...text.prompts import encode_text
from ...tiny.model import World
from ...tiny.readings import Reading, auc, reading
from ...tiny.world.captions import article, look_in_words
from ...tiny.world.scene import Rendered, Scene, random_thing, render
from ...tiny.world.words import NEVER, NOUNS, PLACES
from .trial import to_tensor

SEED = 424_202


def noun_places(model: Model, prompt: str, noun: str) -> list[int]:
    """Slots of the noun's tokens in a prompt's context."""
    ids, words = model.encoders["clip_l"].tokenize(prompt), model.encoders["clip_l"].tokenize(noun)
    start = next(i for i in range(len(ids)) if ids[i : i + len(words)] == words)
    return [1 + start + i for i in range(len(words))]


@torch.no_grad()
def noun_maps(model: Model, x: Tensor, sigma: float, text: Text, slots: list[int]) -> dict[LayerId, Tensor]:
    """Each layer's attention on the noun's slots among all of the text, mean over heads, [b h w].

    x  [b c h w], latents with noise of that sigma
    """
    maps: dict[LayerId, Tensor] = {}

    def rule(call: AttentionCall) -> Tensor:
        odds = attention_probabilities(call.image_queries, call.text_keys)  # [b heads n t]
        mean = odds[..., slots].sum(-1).mean(1)  # [b n]
        maps[call.layer] = rearrange(mean, "b (h w) -> b h w", h=call.grid[0])
        return call.plain()

    denoise_at(model, x, sigma, pick_text(text, [0] * len(x)), rule)
    return maps


def attention_gate(world: World, timestep: int = 500, pictures_each: int = 4) -> Iterator[Reading]:
    """Gate 2: the noun's attention map finds the object; per resolution the mean of its layers' maps."""
    rng = np.random.default_rng(SEED)
    found: dict[int, list[float]] = {}
    by_layer: dict[LayerId, list[float]] = {}
    for noun in NOUNS:
        for place in rng.choice([p for p in PLACES if p not in NEVER.get(noun, ())], 3, replace=False):
            thing = random_thing(rng, noun)
            rendered = [render(Scene(thing, str(place)), rng) for _ in range(pictures_each)]
            prompt = f"{article(look_in_words(thing))} {PLACES[str(place)]}"
            with torch.no_grad():
                latents = world.codec.encode(to_tensor(rendered))
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(timestep))
            sigma, text = sd_schedule().sigma(timestep), encode_text(world.model, prompt)
            maps = noun_maps(world.model, latents + sigma * noise, sigma, text, noun_places(world.model, prompt, noun))
            collect(maps, rendered, found, by_layer)
    scores = {side: float(np.mean(values)) for side, values in found.items()}
    for side, score in sorted(scores.items(), reverse=True):
        yield reading("2", f"noun's map against the object's mask at {side} x {side}, area under ROC", score)
    yield reading("2", "second best resolution, area under ROC", sorted(scores.values())[-2], 0.85)
    for layer, values in by_layer.items():
        yield reading("2", f"  layer {layer.stage}{layer.block}", float(np.mean(values)))


def collect(
    maps: dict[LayerId, Tensor],
    rendered: list[Rendered],
    found: dict[int, list[float]],
    by_layer: dict[LayerId, list[float]],
) -> None:
    """Adds each picture's area under ROC, by resolution (mean map) and by layer."""
    masks = torch.from_numpy(np.stack([np.asarray(p.mask) for p in rendered])).float()[:, None] / 255
    sides = {layer: planes.shape[-1] for layer, planes in maps.items()}
    for side in set(sides.values()):
        inside = avg_pool2d(masks, masks.shape[-1] // side)[:, 0] > 0.5
        groups = {layer: planes for layer, planes in maps.items() if sides[layer] == side}
        mean = torch.stack([p / p.mean(dim=(1, 2), keepdim=True) for p in groups.values()]).mean(0)
        for i in range(len(rendered)):
            found.setdefault(side, []).append(auc(mean[i][inside[i]], mean[i][~inside[i]]))
            for layer, planes in groups.items():
                by_layer.setdefault(layer, []).append(auc(planes[i][inside[i]], planes[i][~inside[i]]))
