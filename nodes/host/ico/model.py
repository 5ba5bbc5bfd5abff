"""The host's MODEL and CLIP as the core's `Model`: what training needs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ....dci_core.attention.call import AttentionRule
from ....dci_core.attention.layers import LayerId
from ....dci_core.devices import moved, sent
from ....dci_core.errors import PromptTooLong
from ....dci_core.families.family import Family
from ....dci_core.model import Text
from ....dci_core.noise.process import RectifiedFlow
from ..attention.joint_rule import with_attention_rule
from ..attention.projections import projections_seen
from ..concept.triggers import encoder_names, words_of


@dataclass(frozen=True)
class HostTokens:
    """One text encoder's vocabulary and tables (the core's `TokenEncoder`).

    words    the host's tokenizer of this encoder
    network  the host's text encoder
    """

    words: Any
    network: Any

    @property
    def width(self) -> int:
        """Channels of a token vector."""
        return int(self.words.embedding_size)

    @property
    def length(self) -> int:
        """Slots of one pass."""
        return int(self.words.max_length)

    def tokenize(self, text: str) -> list[int]:
        """Ids of the words; a trigger has none."""
        return [int(i) for i in words_of(getattr(self.words.tokenizer, "plain", self.words.tokenizer), text)]

    def embed(self, ids: Tensor) -> Tensor:
        """Rows of the token table, [...] -> [... c]."""
        table = self.network.transformer.get_input_embeddings()
        return table(sent(ids, device_of(self.network)), out_dtype=torch.float32)

    def frame(self, ids: Sequence[int]) -> Tensor:
        """[length] ids with marks and padding as the host sets them; raises PromptTooLong."""
        room = self.length - 2
        if len(ids) > room:
            raise PromptTooLong(f"the text has {len(ids)} tokens", f"at most {room} fit", "shorten the captions")
        framed = [self.words.start_token, *ids, self.words.end_token]
        return torch.tensor(framed + [self.words.pad_token] * (self.length - len(framed)))

    def positions(self) -> Tensor:
        """The position table, [length c]."""
        return self.network.transformer.text_model.embeddings.position_embedding.weight.float()


@dataclass(frozen=True)
class HostModel:
    """The host's loaded MODEL and CLIP (the core's `Model`); both must be on their devices already."""

    model: Any
    clip: Any
    kind: Family

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.kind.name

    @property
    def layers(self) -> Sequence[LayerId]:
        """Every layer that reads text, in the order of the forward pass."""
        return self.kind.layers

    @cached_property
    def encoders(self) -> Mapping[str, HostTokens]:
        """Per text encoder its vocabulary."""
        networks = self.clip.cond_stage_model
        return {name: HostTokens(getattr(self.clip.tokenizer, name), getattr(networks, name)) for name in self.names}

    @property
    def names(self) -> list[str]:
        """Text encoders, in the order in which the U-Net reads them."""
        return encoder_names(self.clip)

    def sigmas(self) -> Tensor:
        """[n] noise levels of the model's own sampling object, rising: 1000 as a rule, 50 in lcm's; of a flow, drawn as
        flows are trained, with the object's shift.
        """
        if self.kind.is_flow:
            return RectifiedFlow.shifted(float(self.sampling.shift)).sigmas
        return self.sampling.sigmas.float().clone()

    @property
    def data_std(self) -> float:
        """Spread of the latents that the model was made for."""
        return float(getattr(self.sampling, "sigma_data", 1.0))

    @property
    def sampling(self) -> Any:
        """The model's own sampling object."""
        return self.model.get_model_object("model_sampling")

    def kv_shapes(self) -> dict[LayerId, tuple[int, int]]:
        """Per learned layer (inner width, width of the text there)."""
        return {layer: (self.kind.width(layer), self.kind.context_width) for layer in self.kind.learned_layers}

    def encode(self, embeds: Mapping[str, Tensor], ends: Mapping[str, Tensor]) -> Text:
        """Text from framed token rows, as the host's own encoders give it; the pooled vector is the last one's."""
        found = [self.encode_with(name, embeds[name], ends[name]) for name in self.names]
        return Text(torch.cat([hidden for hidden, _ in found], dim=-1), found[-1][1])

    def encode_with(self, name: str, embeds: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """(hidden [rows t c], pooled [rows p]) of one encoder, at the layer that the CLIP is set to."""
        network = getattr(self.clip.cond_stage_model, name)
        embeds = moved(embeds, device_of(network)).float()
        last, inner, projected, *raw = network.transformer(
            None,
            None,
            embeds=embeds,
            num_tokens=[int(end) + 1 for end in ends],
            intermediate_output=network.layer_idx,
            final_layer_norm_intermediate=network.layer_norm_hidden_state,
            dtype=torch.float32,
        )
        pooled = projected if network.return_projected_pooled or not raw else raw[0]
        return (last if network.layer == "last" else inner).float(), pooled.float()

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        """x0 [rows c h w] by the host's model call, its weights as the patches on MODEL leave them."""
        options: dict[str, Any] = {"optimized_attention_override": plain_attention}
        vector = self.model.model.encode_adm(
            pooled_output=text.pooled, device=x.device, noise=x, width=x.shape[-1] * 8, height=x.shape[-2] * 8
        )
        extra = {} if vector is None else {"y": moved(vector, x.device)}
        model = self.model.model
        with projections_seen(model.diffusion_model) if self.kind.is_flow else nullcontext():
            if rule is not None:
                size = (int(x.shape[-2]), int(x.shape[-1]))
                options = with_attention_rule(options, self.kind.learned_layers, rule, model, size)
            return model.apply_model(
                x, sigma, c_crossattn=moved(text.hidden, x.device), transformer_options=options, **extra
            )


def plain_attention(function: Any, *args: Any, **kwargs: Any) -> Tensor:
    """PyTorch's own attention in the place of any other: the fast ones have no backward pass."""
    from comfy.ldm.modules.attention import attention_pytorch

    return attention_pytorch(*args, **kwargs)


def device_of(network: Any) -> torch.device:
    """Where a text encoder's token table is."""
    return network.transformer.get_input_embeddings().weight.device
