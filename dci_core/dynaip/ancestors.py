"""Public ancestors: the FLUX IP-Adapters of XLabs and InstantX, read by their own key names.

Both turn ONE pooled vector of a vision model into reference tokens: no levels, no router, no dial of granularity.

          encoder and vector                      tokens    blocks              added
XLabs     CLIP ViT-L/14, projected, 768           4 or 16   double, image rows  to the image stream behind the block
InstantX  SigLIP so400m/14 384, pooled, 1152      128       double, image rows; to the attention output before its
                                                            single, all rows    projection

Hosts load SigLIP without the head that pools, so an InstantX file may hold it under `vision_head.`; then the adapter
reads the tower's last states and pools them itself.

Text rows of InstantX's single blocks read the reference as trained: there the text scale 0 (DDS) masks them. Text rows
of double blocks, and of XLabs altogether, never read, so the text scale does nothing for them.
Source: dynaip.md section 2; key names and shapes as public loaders of these files list them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from ..attention.joint import BlockId
from ..errors import BadAdapter, BadModel, BadSettings
from ..families.mmdit import MmditFamily, find_mmdit
from .adapter import AdapterParams, KeyValueMaps, block_maps, module_name
from .decoupled import BlockKV
from .fusion import Fused, States
from .pooling_head import HEAD_PREFIX, PoolingHead, head_of

XLABS_KEY = re.compile(r"double_blocks\.(\d+)\.processor\.ip_adapter_double_stream_([kv])_proj\.(weight|bias)")
XLABS_PROJECT, XLABS_NORM = "ip_adapter_proj_model.proj.", "ip_adapter_proj_model.norm."
INSTANTX_KEY = re.compile(r"ip_adapter\.(\d+)\.to_([kv])_ip\.(weight)")
INSTANTX_PROJECT, INSTANTX_NORM = "image_proj.proj.", "image_proj.norm."


class PooledAdapter(nn.Module):
    """An adapter whose reference tokens come from one pooled vector; same surface as `Adapter`.

    head  pools a SigLIP's last states, where `params.vision_output` is "tokens"; None where a vector comes
    """

    def __init__(self, params: AdapterParams, head: PoolingHead | None = None) -> None:
        super().__init__()
        self.params, self.head = params, head
        family = find_mmdit(params.family)
        self.heads = family.heads
        width, out, is_xlabs = params.vision_width, params.tokens * params.token_width, params.place == "stream"
        deep = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, out))
        self.project: nn.Module = nn.Linear(width, out) if is_xlabs else deep
        self.norm = nn.LayerNorm(params.token_width)
        self.blocks = nn.ModuleDict()
        for block in params.block_ids:
            maps = KeyValueMaps(params.token_width, family.width, bias=is_xlabs)
            self.blocks[module_name(block)] = nn.ModuleDict({"image": maps})

    def fuse(
        self, states: States, weights: Sequence[float] | None = None, bias: Sequence[float] | None = None
    ) -> Fused:
        """Reference tokens [b m c]; raises BadModel for another vector and BadSettings for weights or a bias.

        states  one tensor: the pooled vector [b c] that `params.vision_output` names, or with a head the last states
                [b t c] of the vision model
        """
        if any(weights or ()) or any(bias or ()):
            raise BadSettings(
                "level weights came with an adapter that reads one pooled vector",
                "granularity belongs to adapters with several levels",
                "set it to 0, or load a DynaIP adapter",
            )
        rows = self.project(self._vector(states).to(self.norm.weight))
        return Fused(self.norm(rearrange(rows, "b (m c) -> b m c", m=self.params.tokens)), rows.new_zeros(len(rows), 0))

    def _vector(self, states: States) -> Tensor:
        """The pooled vector [b c] of what a vision model gave; raises BadModel."""
        given, axes = states[0], ("pictures",) if self.head is None else ("pictures", "tokens")
        if len(states) != 1 or given.ndim != len(axes) + 1 or given.shape[-1] != self.params.vision_width:
            shape = f"[{' '.join(axes)} {self.params.vision_width}]"
            raise BadModel(
                f"{len(states)} vision outputs came, the first of shape {tuple(given.shape)}",
                f"one {self.params.reads}, {shape}, was expected",
                "load the vision model that the adapter was made with",
            )
        return given if self.head is None else self.head(given)

    def kv(self, block: BlockId, tokens: Tensor) -> BlockKV:
        """Keys and values of tokens [b m c] in a block; raises BadModel for a block that the adapter lacks."""
        pair = block_maps(self.blocks, block)["image"].pair(tokens, self.heads, self.params.norm)
        return BlockKV(pair, pair if block.stream == "single" else None)


def read_ancestor(tensors: Mapping[str, Tensor], family: MmditFamily | None = None) -> PooledAdapter | None:
    """The adapter that a state dict of XLabs or InstantX holds, on its own tensors; None where it is neither.

    tensors  by flat key name; InstantX's two nested dicts joined by dots, with a pooling head or without
    family   the family it was made for, FLUX where it is None

    Raises BadAdapter where keys are missing or left over, or shapes do not fit the family.
    """
    family = family or find_mmdit("flux")
    if any(XLABS_KEY.fullmatch(key) for key in tensors):
        return _build(tensors, _xlabs_params(tensors, family), _xlabs_names(tensors))
    if any(INSTANTX_KEY.fullmatch(key) for key in tensors):
        return _build(tensors, _instantx_params(tensors, family), _instantx_names(tensors, family))
    return None


def _xlabs_params(tensors: Mapping[str, Tensor], family: MmditFamily) -> AdapterParams:
    count = len({match[1] for match in map(XLABS_KEY.fullmatch, tensors) if match})
    blocks = tuple(BlockId("double", index) for index in range(min(count, family.blocks["double"])))
    return _params(
        tensors, family, blocks, XLABS_PROJECT, XLABS_PROJECT, XLABS_NORM, "projected", norm="none", place="stream"
    )


def _instantx_params(tensors: Mapping[str, Tensor], family: MmditFamily) -> AdapterParams:
    ends = f"{INSTANTX_PROJECT}0.", f"{INSTANTX_PROJECT}2."
    output = "tokens" if any(key.startswith(HEAD_PREFIX) for key in tensors) else "pooled"
    return _params(tensors, family, family.block_ids, *ends, INSTANTX_NORM, output, norm="both", place="attention")


def _params(
    tensors: Mapping[str, Tensor],
    family: MmditFamily,
    blocks: tuple[BlockId, ...],
    first: str,
    last: str,
    norm_key: str,
    output: str,
    *,
    norm: str,
    place: str,
) -> AdapterParams:
    """Sizes as the projection's weights show them."""
    try:
        width, token_width = tensors[f"{first}weight"].shape[1], tensors[f"{norm_key}weight"].shape[0]
        tokens = tensors[f"{last}weight"].shape[0] // token_width
    except (KeyError, IndexError) as error:
        raise _unfit("its image projection is missing or has another form") from error
    return AdapterParams(
        family.name, width, 0, output, (), tokens, token_width, text_kv=False, norm=norm, place=place, blocks=blocks
    )


def _xlabs_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Our parameter names of an XLabs file's keys."""
    names = {}
    for key in tensors:
        if match := XLABS_KEY.fullmatch(key):
            names[key] = f"blocks.double_{int(match[1])}.image.to_{match[2]}.{match[3]}"
        elif key.startswith((XLABS_PROJECT, XLABS_NORM)):
            names[key] = key.removeprefix("ip_adapter_proj_model.").replace("proj.", "project.", 1)
    return names


def _instantx_names(tensors: Mapping[str, Tensor], family: MmditFamily) -> dict[str, str]:
    """Our parameter names of an InstantX file's keys; it numbers double and single blocks in one row."""
    blocks, names = family.block_ids, {}
    for key in tensors:
        if (match := INSTANTX_KEY.fullmatch(key)) and int(match[1]) < len(blocks):
            names[key] = f"blocks.{module_name(blocks[int(match[1])])}.image.to_{match[2]}.{match[3]}"
        elif key.startswith((INSTANTX_PROJECT, INSTANTX_NORM)):
            names[key] = key.removeprefix("image_proj.").replace("proj.", "project.", 1)
        elif key.startswith(HEAD_PREFIX):
            names[key] = key.replace(HEAD_PREFIX, "head.", 1)
    return names


def _build(tensors: Mapping[str, Tensor], params: AdapterParams, names: Mapping[str, str]) -> PooledAdapter:
    unknown = sorted(set(tensors) - set(names))
    if unknown:
        raise _unfit(f"it holds {len(unknown)} unknown keys, as {unknown[0]}")
    head = _head(tensors, params.vision_width) if params.vision_output == "tokens" else None
    with torch.device("meta"):
        adapter = PooledAdapter(params, head)
    try:
        adapter.load_state_dict({name: tensors[key] for key, name in names.items()}, strict=True, assign=True)
    except RuntimeError as error:
        raise _unfit("keys are missing or have other shapes") from error
    return adapter.eval().requires_grad_(False)


def _head(tensors: Mapping[str, Tensor], width: int) -> PoolingHead:
    """The pooling head that an adapter's file holds; raises BadAdapter where it is of another width or incomplete."""
    try:
        head = head_of({key.removeprefix(HEAD_PREFIX): x for key, x in tensors.items() if key.startswith(HEAD_PREFIX)})
    except ValueError as error:
        raise _unfit("its pooling head lacks parts or has another form") from error
    if head.probe.shape[-1] != width:
        raise _unfit(f"its pooling head is {head.probe.shape[-1]} wide and its projection {width}")
    return head


def _unfit(what: str) -> BadAdapter:
    return BadAdapter(
        f"an IP-Adapter for FLUX came, but {what}",
        "the key names and shapes that XLabs or InstantX published were expected",
        "download the file again",
    )
