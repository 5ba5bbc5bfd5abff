"""A region lies in the frame of the whole picture, also for rows that show a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from check_joint import run
from graphs import heard
from lab import PACK, apply, conditioning, distance, plan, sample, small_model, text
from mmdit_lab import prompted

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


@contextmanager
def node_at_work(kind: str, prompt: str = "prompt") -> Iterator[None]:
    """As if the host's queue ran a node of that kind in that prompt."""
    from comfy_execution.utils import CurrentNodeContext

    events = PACK["nodes.host.page.events"]
    item = (0, prompt, {"7": {"class_type": kind}}, {}, [])
    kept = events.server
    events.server = lambda: SimpleNamespace(
        prompt_queue=SimpleNamespace(currently_running={0: item}), send_sync=lambda *_: None
    )
    try:
        with CurrentNodeContext(prompt, "7"):
            yield
    finally:
        events.server = kept


def said_of(region: Any, shape: tuple[int, ...]) -> list[str]:
    """What DCI with a region warns of in a run of that shape."""
    pair = plan(text(2))
    acting, record = apply(small_model(), pair, window=0.6, region=region)
    sample(acting, conditioning(text(1), pair), NEGATIVE, steps=2, shape=shape)
    return [sentence for sentence in record.warnings if "region" in sentence]


def test_a_region_of_another_shape_than_the_picture_is_told_and_one_of_its_shape_is_not() -> None:
    for rows, columns in ((128, 128), (64, 64), (16, 16), (1000, 1024), (2, 2)):
        region = torch.zeros(rows, columns)
        region[:, : columns // 2] = 1
        assert said_of(region, (1, 4, 16, 16)) == [], (rows, columns)
        assert said_of(region, (1, 4, 24, 16)), (rows, columns)
    wide = torch.zeros(1, 128, 192)
    wide[:, :64] = 1
    assert said_of(wide, (1, 4, 16, 24)) == said_of(wide, (1, 4, 15, 23)) == []
    told = said_of(wide, (1, 4, 16, 16))
    assert len(told) == 1 and "192 x 128" in told[0] and "16 x 16" in told[0], told
    for plain in (torch.ones(128, 192), None):
        assert said_of(plain, (1, 4, 16, 16)) == []


def test_a_region_in_a_node_that_samples_parts_is_told_whatever_its_shape() -> None:
    square = torch.zeros(128, 128)
    square[:, :64] = 1
    for kind in ("FaceDetailer", "DetailerForEach", "UltimateSDUpscale", "UltimateSDUpscaleNoUpscale"):
        with node_at_work(kind):
            told = said_of(square, (1, 4, 16, 16))
            assert len(told) == 1 and kind in told[0], told
            assert said_of(torch.ones(128, 128), (1, 4, 16, 16)) == []
    for kind in ("KSampler", "SamplerCustomAdvanced", "DCIDualBranchSampler", "IterativeImageUpscale"):
        with node_at_work(kind):
            assert said_of(square, (1, 4, 16, 16)) == [], kind


def test_a_node_that_samples_many_parts_fills_the_log_once_and_tells_each_run() -> None:
    pair = plan(text(2))
    dci, seen = apply(small_model(), pair, window=0.6, region=LEFT)
    subject, read = prompted("flux", region=LEFT)

    def lines(parts: int) -> list[int]:
        """How often the log tells of the region while so many parts are drawn, by DCI and beside a subject."""
        found = []
        for record, draw in (
            (seen, lambda: sample(dci, conditioning(text(1), pair), NEGATIVE, steps=1)),
            (read, lambda: run("flux", subject, steps=1)),
        ):
            with heard() as said:
                for _ in range(parts):
                    draw()
                    assert sum("lies over each part" in each for each in record.warnings) <= 1
            found.append(sum("lies over each part" in each for each in said))
        return found

    for prompt in ("first", "second"):
        with node_at_work("UltimateSDUpscale", prompt):
            assert lines(3) == [1, 1]
            assert any("lies over each part" in each for each in seen.warnings + read.warnings)
    assert lines(2) == [0, 0]


def test_a_subject_with_a_region_is_told_likewise() -> None:
    def told(region: Any) -> list[str]:
        model, record = prompted("flux", region=region)
        run("flux", model)
        return [sentence for sentence in record.warnings if "region" in sentence]

    square, wide = torch.zeros(128, 128), torch.zeros(128, 192)
    square[:, :64] = wide[:, :64] = 1
    assert told(square) == told(torch.ones(128, 192)) == told(None) == []
    assert len(told(wide)) == 1 and "192 x 128" in told(wide)[0]
    with node_at_work("FaceDetailer"):
        assert len(told(square)) == 1 and "FaceDetailer" in told(square)[0]
