"""A region lies in the frame of the whole picture, also for rows that show a part of it."""

from __future__ import annotations

from typing import Any

import torch
from lab import PACK, apply, conditioning, distance, plan, sample, small_model, text

NEGATIVE = conditioning(text(3))
LEFT = torch.zeros(16, 16)
LEFT[:, :8] = 1
AREAS = {"left": (16, 8, 0, 0), "right": (16, 8, 0, 8)}  # (height, width, y, x) in latent pixels
RUN = {"steps": 4, "shape": (2, 4, 16, 16)}


def distances(wrap: Any = lambda model: model) -> dict[str, float]:
    """How far DCI with a region on the left moves the picture, for a prompt area on the left and on the right."""
    model, pair = small_model(), plan(text(2))
    found = {}
    for name, area in AREAS.items():
        positive = [*conditioning(text(1), pair, area=area), *conditioning(text(4))]
        acting, record = apply(wrap(model), pair, window=0.6, region=LEFT)
        plain = sample(wrap(model), positive, NEGATIVE, **RUN)
        found[name] = distance(sample(acting, positive, NEGATIVE, **RUN), plain)
        assert record.acted
    return found


def test_a_region_beside_a_prompt_area_acts_nowhere() -> None:
    found = distances()
    assert found["right"] < 2e-5 and found["left"] > 1e-3, found


def test_a_region_in_its_prompt_area_acts_as_the_whole_area_would() -> None:
    model, pair = small_model(), plan(text(2))
    positive = [*conditioning(text(1), pair, area=AREAS["left"]), *conditioning(text(4))]
    outs = [
        sample(apply(model, pair, window=0.6, region=region)[0], positive, NEGATIVE, **RUN)
        for region in (LEFT, torch.ones(16, 16), None)
    ]
    assert distance(outs[0], outs[1]) < 1e-6 and distance(outs[1], outs[2]) < 1e-6


def test_a_region_keeps_its_place_beside_a_guest() -> None:
    def guest(model: Any) -> Any:
        clone = model.clone()
        clone.set_model_attn2_output_patch(lambda n, extra: n * 0.9)
        return clone

    found = distances(guest)
    assert found["right"] < 2e-5 and found["left"] > 1e-3, found


def test_parts_at_places_unknown_are_refused_under_a_region_and_taken_without() -> None:
    def halves(apply_model: Any, args: Any) -> Any:
        x, t, c = args["input"], args["timestep"], args["c"]
        return torch.cat([apply_model(part.contiguous(), t, **c) for part in x.chunk(2, dim=-1)], dim=-1)

    def tiled(model: Any) -> Any:
        clone = model.clone()
        clone.set_model_unet_function_wrapper(halves)
        return clone

    model, pair = small_model(), plan(text(2))
    positive = conditioning(text(1), pair)
    errors = PACK["dci_core.errors"]
    patched, _ = apply(tiled(model), pair, window=0.6, region=LEFT)
    try:
        sample(patched, positive, NEGATIVE, **RUN)
    except errors.BadSettings as error:
        assert "parts of 8 x 16" in str(error), error
    else:
        raise AssertionError("no error")
    plain = sample(tiled(model), positive, NEGATIVE, **RUN)
    black, _ = apply(tiled(model), pair, window=0.6, region=torch.zeros(16, 16))
    assert distance(sample(black, positive, NEGATIVE, **RUN), plain) < 2e-5
    acting, record = apply(tiled(model), pair, window=0.6)
    assert distance(sample(acting, positive, NEGATIVE, **RUN), plain) > 1e-3 and record.acted
