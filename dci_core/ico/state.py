"""What training changes: the learned parameters, the optimiser, the number of finished steps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..concept.deltas import KVDeltas, Widths
from ..errors import BadSettings
from ..families.table import find_family
from ..model import Model
from ..noise.process import NoiseProcess, process_of
from ..text.captions import Caption, read_caption
from ..text.tokens import PLACEHOLDER
from .contexts import RARE_TOKENS, Layout, LearnedText, lay_out
from .data import TrainingData
from .precision import LossScale
from .settings import IcoSettings, check_settings

FUSED_DEVICES = ("cpu", "cuda")  # where every torch from 2.4 has AdamW as one kernel


class Learned(nn.Module):
    """All trained parameters: `text` (modifier tokens, contexts) and `deltas` (keys and values)."""

    def __init__(self, text: LearnedText, deltas: KVDeltas) -> None:
        super().__init__()
        self.text, self.deltas = text, deltas


@dataclass
class TrainState:
    """A training between two steps; `checkpoint.save_state` writes it, `checkpoint.load_state` restores it.

    losses     the loss of every finished step (the concept's part)
    scale      of the loss, for fp16
    skipped    passes so far that gave no finite number and were thrown away
    bad_draws  draws of the next step that gave none, and are not tried again
    """

    settings: IcoSettings
    noun: str
    family: str
    data: str  # fingerprint of the training data
    learned: Learned
    optimiser: torch.optim.AdamW
    step: int = 0
    losses: list[float] = field(default_factory=list)
    scale: LossScale = field(default_factory=LossScale)
    skipped: int = 0
    bad_draws: int = 0

    @property
    def prediction(self) -> str:
        """What the model was trained to predict."""
        return find_family(self.family).prediction

    def noise_process(self, sigmas: Tensor | None = None, data_std: float = 1.0) -> NoiseProcess:
        """How its pictures are noised; sigmas [n], of each training timestep, or None for the family's own.

        data_std  spread of the latents that the model was made for
        """
        family = find_family(self.family)
        return process_of(family.prediction, sigmas, family.shift, data_std)


def begin_training(
    model: Model,
    data: TrainingData,
    settings: IcoSettings,
    *,
    noun: str,
    widths: Widths | None = None,
    rare_tokens: Mapping[str, Sequence[int]] | None = None,
    device: torch.device | None = None,
) -> TrainState:
    """A state at step 0; raises BadSettings, SpanNotFound or PromptTooLong before any work is done.

    noun         ordinary word for the kind of thing
    widths       of every cross-attention; None: as the family's table has them
    rare_tokens  per encoder, vocabulary entries that modifier tokens start from; None: CLIP's, for SD and SDXL
    device       of the denoising model; None: that of the text encoders
    """
    check_settings(settings)
    _check_data(data, settings)
    rare = dict.fromkeys(model.encoders, RARE_TOKENS) if rare_tokens is None else rare_tokens
    with torch.inference_mode(False), torch.no_grad():
        layouts = [lay_out_all(model, c, noun, settings) for c in start_captions(data, settings)]
        source = generator_for(settings.seed, "start")
        text = LearnedText(model.encoders, layouts, rare, settings.modifier_tokens, settings.words, source)
        deltas = KVDeltas(widths or family_widths(model.family), settings.rank, source, device or text.device)
        learned = Learned(text, deltas)
    optimiser, scale = make_optimiser(learned, settings), LossScale.of(settings.precision)
    return TrainState(settings, noun, model.family, data.fingerprint(), learned, optimiser, scale=scale)


def family_widths(name: str) -> Widths:
    """Per learned layer (inner, context) of the family's key and value weights; raises BadModel."""
    family = find_family(name)
    return {layer: (family.width(layer), family.context_width) for layer in family.learned_layers}


def make_optimiser(learned: Learned, settings: IcoSettings) -> torch.optim.AdamW:
    """AdamW in groups: contexts train `context_factor` times faster than all else, factors `rank_rate` times.

    Nothing but the learned parameters is in it: the model's own weights have no gradient and no moments.
    """
    contexts = [*learned.text.prefix.values(), *learned.text.suffix.values()]
    tokens, changes = [*learned.text.tokens.values()], [*learned.deltas.parameters()]
    groups = [{"params": tokens + changes, "factor": 1.0}]
    if settings.rank is not None and settings.rank_rate != 1:
        groups = [{"params": tokens, "factor": 1.0}, {"params": changes, "factor": settings.rank_rate}]
    if contexts:
        groups.append({"params": contexts, "factor": settings.context_factor})
    is_fused = all(p.device.type in FUSED_DEVICES for p in learned.parameters())
    return torch.optim.AdamW(groups, lr=settings.rate, weight_decay=settings.weight_decay, fused=is_fused or None)


def generator_for(seed: int, *place: object) -> torch.Generator:
    """A CPU generator that depends on the seed and on the place of use alone, so there is no random state to keep."""
    text = " ".join(str(part) for part in (seed, *place))
    return torch.Generator().manual_seed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big"))


def lay_out_all(model: Model, caption: Caption, noun: str, settings: IcoSettings) -> dict[str, Layout]:
    """The caption's layout in every text encoder."""
    return {
        name: lay_out(encoder, caption, noun, settings.modifier_tokens, settings.words)
        for name, encoder in model.encoders.items()
    }


def possible_captions(data: TrainingData, settings: IcoSettings) -> list[tuple[Caption, ...]]:
    """Per picture, the captions that a step may draw: its own, or the bare concept, or the templates."""
    common = (PLACEHOLDER,) if settings.contexts else settings.templates
    own = data.captions or [None] * len(data.latents)
    return [tuple(map(read_caption, common if text is None else (text,))) for text in own]


def start_captions(data: TrainingData, settings: IcoSettings) -> list[Caption]:
    """Per picture, the caption its contexts start in."""
    return [captions[0] for captions in possible_captions(data, settings)]


def parameters_by_name(state: TrainState) -> dict[str, Tensor]:
    """Every trained tensor under its name."""
    return dict(state.learned.named_parameters())


def _check_data(data: TrainingData, settings: IcoSettings) -> None:
    if data.captions and len(data.captions) != len(data.latents):
        raise BadSettings(
            f"{len(data.captions)} captions came", f"{len(data.latents)} were expected", "give one for each picture"
        )
    if settings.prior == "pictures" and data.class_latents is None:
        raise BadSettings("no class picture came", 'the prior "pictures" needs some', 'use the prior "teacher"')
    known = 0 if data.class_latents is None else len(data.class_latents)
    if data.class_captions and len(data.class_captions) != known:
        raise BadSettings(
            f"{len(data.class_captions)} class captions came",
            f"{known} were expected",
            "give one for each class picture",
        )
