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
from ....dci_core.families.family import Family
from ....dci_core.model import Text
from ....dci_core.noise.process import RectifiedFlow
from ..attention.joint_rule import with_attention_rule
from ..attention.projections import projections_seen
from ..concept.triggers import around_prompts, encoder_names, tokenizer_of
from ..families.sampling import shift_of
from .tokens import HostTokens, device_of

TRAINING_GUIDANCE = 1.0  # what a distilled model is told: its own answer, which is what the pictures are compared with


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
        """Per text encoder its vocabulary, and that of ids which the model reads itself."""
        clip, around = self.clip, around_prompts(self.clip.tokenizer)
        networks = {name: getattr(clip.cond_stage_model, name) for name in self.names}
        known = {name: HostTokens(tokenizer_of(clip, name), each, (), around) for name, each in networks.items()}
        reserved = self.kind.reserved.items()
        return known | {name: HostTokens(tokenizer_of(clip, name), None, ids) for name, ids in reserved}

    @property
    def names(self) -> list[str]:
        """Text encoders, in the order in which the U-Net reads them."""
        return encoder_names(self.clip)

    def sigmas(self) -> Tensor:
        """[n] noise levels of the model's own sampling object, rising: 1000 as a rule, 50 in lcm's; of a flow, drawn as
        flows are trained, with the object's shift.
        """
        if self.kind.is_flow:
            return RectifiedFlow.shifted(shift_of(self.sampling)).sigmas
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
        """Text from framed token rows, as the host's own encoders give it; the pooled vector is the last one's, that of
        the encoder beside the one whose rows are read, or, of rows behind the others', all the others' in a row.
        """
        found = {name: self.encode_with(name, embeds[name], ends[name]) for name in self.names}
        if stream := found.pop(self.kind.text_stream, None):
            beside = next((pooled for _, pooled in found.values()), None)
            return Text(stream[0], beside) if self.kind.is_padded else self.cut(stream[0], ends[self.kind.text_stream])
        last = found.pop(self.kind.behind, None)
        hidden = torch.cat([hidden for hidden, _ in found.values()], dim=-1)
        if last is not None:
            return behind_each_other(hidden, last[0], [vector for _, vector in found.values()])
        pooled = found[self.names[-1]][1]
        if self.kind.reserved:
            (stream,) = self.kind.reserved
            hidden = self.adapted(hidden, ends[self.names[-1]], embeds[stream], ends[stream])
        return Text(hidden, pooled)

    def cut(self, hidden: Tensor, ends: Tensor) -> Text:
        """A language model's rows [rows t c] without padding and, where the model does not read it, without what its
        tokenizer writes before a prompt.
        """
        words = self.encoders[self.kind.text_stream]
        first = 0 if self.kind.keeps_template else words.begin
        lengths = tuple(max(1, int(end) + words.behind - first) for end in ends)
        hidden = hidden[:, first:]
        rows = torch.stack([torch.arange(hidden.shape[1]) < length for length in lengths]).to(hidden.device)
        missing = hidden.new_zeros(hidden.shape[0], words.length - hidden.shape[1], hidden.shape[2])
        return Text(torch.cat((hidden * rows[..., None], missing), dim=1), None, lengths)

    def encode_with(self, name: str, embeds: Tensor, ends: Tensor) -> tuple[Tensor, Tensor | None]:
        """(hidden [rows t c], pooled [rows p] or None) of one encoder, at the layer that the CLIP is set to."""
        network = getattr(self.clip.cond_stage_model, name)
        embeds = moved(embeds, device_of(network)).float()
        count = [int(end) + self.encoders[name].behind for end in ends]
        if self.kind.reserved or not self.kind.is_padded:
            embeds = embeds[:, : max(1, *count)]  # a language model: no row looks at those behind it
        layers = network.layer if isinstance(network.layer, list) else network.layer_idx
        last, inner, *vectors = network.transformer(
            None,
            first_ones(count, embeds) if network.enable_attention_masks else None,
            embeds=embeds,
            num_tokens=[int(end) + 1 for end in ends],
            intermediate_output=layers,
            final_layer_norm_intermediate=network.layer_norm_hidden_state,
            dtype=torch.float32,
        )
        pooled = vectors[-1] if vectors and not network.return_projected_pooled else (vectors or [None])[0]
        hidden = last if network.layer == "last" else inner
        if isinstance(network.layer, list):  # [rows layers t c], side by side in each row
            hidden = hidden.movedim(1, 2).flatten(2)
        return hidden.float(), None if pooled is None else pooled.float()

    def adapted(self, hidden: Tensor, ends: Tensor, ids: Tensor, id_ends: Tensor) -> Tensor:
        """[rows 512 c]: what the model's own adapter makes of each text, by ids that it reads beside it.

        hidden   [rows t c] of the text encoder; ends [rows], one behind its last word
        ids      [rows t 1] of the other tokenizer; id_ends [rows], its end marks
        """
        network, dtype = self.model.model.diffusion_model, self.model.model.get_dtype_inference()
        hidden = moved(hidden, self.model.load_device).to(dtype)
        ids = sent(ids[..., 0].round().int(), hidden.device)
        lengths = zip(ends.tolist(), id_ends.tolist(), strict=True)
        rows = [
            network.preprocess_text_embeds(hidden[i : i + 1, : max(1, end)], ids[i : i + 1, : id_end + 1])
            for i, (end, id_end) in enumerate(lengths)
        ]
        return torch.cat(rows)

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        """x0 [rows c h w] by the host's model call, its weights as the patches on MODEL leave them."""
        if text.lengths is not None and len(set(text.lengths)) > 1:
            return self.denoise_by_length(x, sigma, text, rule)
        options: dict[str, Any] = {"optimized_attention_override": plain_attention}
        model, size = self.model.model, (int(x.shape[-2]), int(x.shape[-1]))
        if self.kind.has_time:
            x = x[:, :, None]
        with projections_seen(model.diffusion_model) if self.kind.is_flow else nullcontext():
            if rule is not None:
                options = with_attention_rule(options, self.kind.learned_layers, rule, model, size)
            x0 = model.apply_model(x, sigma, transformer_options=options, **self.conds_of(x, text))
        return x0[:, :, 0] if self.kind.has_time else x0

    def denoise_by_length(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None) -> Tensor:
        """`denoise`, texts of one length at a time: no padding stands behind them, and the model hides none."""
        lengths = text.lengths or ()
        groups = [[row for row, own in enumerate(lengths) if own == length] for length in dict.fromkeys(lengths)]
        found = [self.denoise(x[rows], sigma[rows], text.chosen(rows, lambda v, r=rows: v[r]), rule) for rows in groups]
        place = {row: index for index, row in enumerate(row for rows in groups for row in rows)}
        return torch.cat(found)[[place[row] for row in range(len(lengths))]]

    def conds_of(self, x: Tensor, text: Text) -> dict[str, Any]:
        """What the network reads beside x, as the host makes it of a conditioning."""
        model, hidden = self.model.model, moved(text.hidden, x.device)
        if text.lengths is not None:
            hidden = hidden[:, : text.lengths[0]]
        given: dict[str, Any] = {"pooled_output": text.pooled, "device": x.device, "noise": x}
        if not self.kind.is_flow:
            vector = model.encode_adm(**given, width=x.shape[-1] * 8, height=x.shape[-2] * 8)
            return {"c_crossattn": hidden, **({} if vector is None else {"y": moved(vector, x.device)})}
        params = getattr(model.diffusion_model, "params", None)
        told = {"guidance": TRAINING_GUIDANCE} if getattr(params, "guidance_embed", False) else {}
        found = model.extra_conds(**given, cross_attn=hidden, **told)
        each = {name: cond.process_cond(batch_size=x.shape[0], area=None).cond for name, cond in found.items()}
        return {name: moved(value, x.device) if torch.is_tensor(value) else value for name, value in each.items()}


def behind_each_other(hidden: Tensor, last: Tensor, pooled: Sequence[Tensor | None]) -> Text:
    """SD 3's text: CLIP's rows [rows t c], filled up to the width of T5's [rows t' c'], which stand behind them; the
    pooled vectors side by side.
    """
    wide = torch.nn.functional.pad(hidden, (0, last.shape[-1] - hidden.shape[-1]))
    vectors = [vector for vector in pooled if vector is not None]
    return Text(torch.cat((wide, moved(last, wide.device)), dim=1), torch.cat(vectors, dim=-1))


def first_ones(counts: Sequence[int], rows: Tensor) -> Tensor:
    """[rows t], 1 for the first `count` slots of each row, at least for one, and 0 for the padding behind them."""
    slots = torch.arange(rows.shape[1], device=rows.device)
    return torch.stack([slots < max(1, count) for count in counts]).long()


def plain_attention(function: Any, *args: Any, **kwargs: Any) -> Tensor:
    """PyTorch's own attention in the place of any other: the fast ones have no backward pass."""
    from comfy.ldm.modules.attention import attention_pytorch

    return attention_pytorch(*args, **kwargs)
