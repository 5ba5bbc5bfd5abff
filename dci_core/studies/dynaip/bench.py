"""One worker's tools: the flow world, the adapters, and references ready to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...attention.joint import JointRule
from ...dynaip.adapter import Adapter
from ...dynaip.adapter_file import check_vision, load_adapter
from ...dynaip.decoupled import image_prompt_rule
from ...dynaip.fusion import granularity_bias
from ...dynaip.reference import Reference, prepare_reference
from ...dynaip.subject import Subject
from ...dynaip.training.pairs import cut, to_pixels
from ...tiny.flow.model import FlowWorld, load_flow_world
from ...tiny.flow.sampling import FlowSettings, sample_flow, seeded_noise
from ...tiny.flow.vision import VisionParams
from ...tiny.flow_base import on_device
from ...tiny.world.concepts import CONCEPTS
from ...tiny.world.scene import Rendered
from ..dci.cells import ROWS_ON_CPU, ROWS_ON_GPU
from ..dci.judge_scores import JudgeScores
from ..dci.judging import stranger_of
from .pose import Templates, templates_of
from .ways import Way

FAMILY = "tiny_flow"
KEPT_TEMPLATES = 2  # of 17 MB each


@dataclass
class FlowBench(JudgeScores):
    """Each part is read when it is first needed.

    adapters  files by fingerprint
    device    where pictures are drawn; the judge stays on the CPU
    """

    adapters: Mapping[str, Path]
    device: str = "cpu"
    read: dict[str, Adapter] = field(default_factory=dict, init=False)
    templates: dict[int, Templates] = field(default_factory=dict, init=False)

    @cached_property
    def world(self) -> FlowWorld:
        """Model, vision tower and codec, on the device."""
        return on_device(load_flow_world(self.weights), torch.device(self.device))

    def adapter(self, fingerprint: str) -> Adapter:
        """The adapter of that fingerprint, in fp32 on the device; raises BadAdapter."""
        if fingerprint not in self.read:
            self.read[fingerprint] = open_adapter(self.adapters[fingerprint]).float().to(self.device)
        return self.read[fingerprint]

    def reference(self, pictures: Sequence[Rendered], way: Way) -> Reference:
        """Pictures of one subject as this way reads them."""
        adapter = self.adapter(way.adapter)
        shown = [shown_as(picture, way.cut_out) for picture in pictures]
        states = self.world.vision.states(to_pixels(shown, torch.device(self.device)))
        levels = len(adapter.params.levels)
        weights = (0.0,) * (levels - 1) + (1.0,) if way.last_level else None
        bias = granularity_bias(way.granularity, levels) if way.granularity else None
        return prepare_reference(adapter, states, weights, bias)

    def own_reference(self, concept: int, way: Way) -> Reference:
        """The concept's varied references that the way names, or those of its stranger."""
        thing = CONCEPTS[stranger_of(concept) if way.stranger else concept]
        pictures = thing.references("varied")
        return self.reference([pictures[i] for i in way.references], way)

    def rule(self, references: Sequence[Reference], way: Way, regions: Sequence[Tensor | None] = (None,)) -> JointRule:
        """The way's rule for subjects, each in its region."""
        subjects = [Subject(way.scale, way.text_scale, region) for region in regions]
        return image_prompt_rule([reference.kvs for reference in references], subjects)

    def templates_for(self, concept: int) -> Templates:
        """What the concept's pose is read with."""
        if concept not in self.templates:
            while len(self.templates) >= KEPT_TEMPLATES:
                self.templates.pop(next(iter(self.templates)))
            self.templates[concept] = templates_of(CONCEPTS[concept].thing)
        return self.templates[concept]

    @torch.no_grad()
    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], sample: FlowSettings, rule: JointRule | None, place: str
    ) -> Tensor:
        """[(prompts seeds) 3 128 128] in 0..1, on the CPU; every prompt gets the same noise."""
        most = ROWS_ON_CPU if self.device == "cpu" else ROWS_ON_GPU
        rows, pictures = [(words, seed) for words in prompts for seed in seeds], []
        for first in range(0, len(rows), most):
            words, chosen = zip(*rows[first : first + most], strict=True)
            noise = seeded_noise(chosen).to(self.device)
            latents = sample_flow(
                self.world.model, words, seeds=chosen, settings=sample, rule=rule, place=place, start=noise
            )
            pictures.append(self.world.codec.decode(latents).cpu())
        return torch.cat(pictures)


def shown_as(rendered: Rendered, cut_out: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The picture's pixels [h w 3], on white where the subject is cut out."""
    picture = np.asarray(rendered.picture)
    return cut(picture, np.asarray(rendered.mask)) if cut_out else picture


def open_adapter(path: Path) -> Adapter:
    """An adapter for the small flow world and its vision tower; raises BadAdapter."""
    adapter, tower = load_adapter(path, family=FAMILY), VisionParams()
    check_vision(adapter.params, tower.width, tower.layers)
    assert isinstance(adapter, Adapter)  # the public ancestors are of another family
    return adapter
