"""Lets gradients pass through the host's own models for a while, and leaves them as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..attention.projections import projections_seen
from ..families.blocks import blocks_in, joint_blocks

NORMS = ("img_norm1", "img_norm2", "txt_norm1", "txt_norm2", "pre_norm")  # of Flux's blocks, before a stream changes
STREAMS = ("img", "txt", "x")
ROTARY = "rms_rope_split_half"


@contextmanager
def open_to_gradients(*networks: nn.Module, recomputes: bool = False) -> Iterator[None]:
    """Inside, gradients can be taken through the networks, which stay frozen; after it, nothing is left on them.

    recomputes  keep each block's input alone and compute the block again in the backward pass: a third slower, and the
                memory of one block (its weights in the precision that it computes in, too) instead of all
    """
    from comfy import model_management

    before = getattr(model_management, "in_training", None)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for network in networks:
            stack.enter_context(ordinary_tensors(network))
            stack.enter_context(frozen(network))
            stack.enter_context(out_of_place(network))
            stack.enter_context(kept_by_us(network))
            stack.enter_context(projections_seen(network))
            stack.enter_context(recomputing(network) if recomputes else nullcontext())
        stack.enter_context(rotary_with_gradients())
        try:
            if before is not None:
                model_management.in_training = True
            yield
        finally:
            if before is not None:
                model_management.in_training = before


@contextmanager
def ordinary_tensors(network: nn.Module) -> Iterator[None]:
    """Weights that the host made in inference mode cannot be kept for a backward pass: ordinary ones stand in."""
    kept: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for module in network.modules():
            for store in (module._parameters, module._buffers):
                for name, value in store.items():
                    if value is not None and value.is_inference():
                        kept.append((store, name, value))
        for store, name, value in kept:
            plain = same_memory(value)
            is_parameter = isinstance(value, nn.Parameter)
            store[name] = nn.Parameter(plain, requires_grad=False) if is_parameter else plain
        yield
    finally:
        for store, name, value in kept:
            store[name] = value


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Weights that ask for gradients make every layer keep what it was given; none of them learns."""
    asking = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        for weight in asking:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in asking:
            weight.requires_grad_(True)


def same_memory(value: Tensor) -> Tensor:
    """An ordinary tensor over the memory of an inference tensor; a copy where that cannot be had."""
    try:
        return torch.from_dlpack(value.detach())
    except (RuntimeError, BufferError, TypeError, ValueError):
        return value.clone()


@contextmanager
def rotary_with_gradients() -> Iterator[None]:
    """The host's fused norm and rotary embedding of Anima's blocks has no backward pass: its plain form stands in."""
    try:
        from comfy import quant_ops
        from comfy_kitchen.backends.eager import rope

        kernels, plain = quant_ops.ck, getattr(rope, ROTARY, None)
    except (ImportError, AttributeError):
        kernels, plain = None, None
    before = getattr(kernels, ROTARY, None)
    if before is None or plain is None:
        yield
        return
    try:
        setattr(kernels, ROTARY, plain)
        yield
    finally:
        setattr(kernels, ROTARY, before)


@contextmanager
def out_of_place(network: nn.Module) -> Iterator[None]:
    """The host's layers of CLIP and of language models and Flux's blocks write in place, which a backward pass does not
    survive.
    """
    forwards = plain_forwards()
    layers = [(module, forwards[kind]) for module in network.modules() for kind in forwards if isinstance(module, kind)]
    blocks = [block for block in joint_blocks(network).values() if any(hasattr(block, name) for name in NORMS)]
    norms = [getattr(block, name) for block in blocks for name in NORMS if hasattr(block, name)]
    try:
        for layer, forward in layers:
            layer.forward = MethodType(forward, layer)  # type: ignore[method-assign]
        for module in (*blocks, *norms):
            module.forward = on_copies(module.forward)
        yield
    finally:
        for module in (*(layer for layer, _ in layers), *blocks, *norms):
            module.__dict__.pop("forward", None)


@contextmanager
def kept_by_us(network: nn.Module) -> Iterator[None]:
    """The host computes a block of SD 3 that is replaced again in each backward pass: here `recomputes` says so."""
    blocks = [block for block in joint_blocks(network).values() if hasattr(block, "context_block")]
    try:
        for block in blocks:
            block.forward = partial(block.forward, use_checkpoint=False)
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


def recomputing(network: nn.Module) -> AbstractContextManager[None]:
    """Inside, the blocks that hold nearly all weights are computed again where the backward pass needs them."""
    return blocks_replaced(network, lambda block: checkpointed(block.forward))


@contextmanager
def blocks_replaced(network: nn.Module, forward_of: Callable[[nn.Module], Callable[..., Any]]) -> Iterator[None]:
    """Inside, the blocks that hold nearly all weights run the forwards that are made of them."""
    from comfy.clip_model import CLIPLayer
    from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
    from comfy.text_encoders.llama import TransformerBlock
    from comfy.text_encoders.t5 import T5Block

    kinds = (ResBlock, CLIPLayer, TransformerBlock, T5Block)
    others = [module for module in network.modules() if isinstance(module, kinds)]
    blocks = [*(module for _, module in blocks_in(network)), *others]
    before = [vars(block).get("forward") for block in blocks]
    try:
        for block in blocks:
            block.forward = forward_of(block)
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            vars(block).pop("forward", None)
            if forward is not None:
                block.forward = forward


def checkpointed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A block's forward that keeps its inputs alone. The host writes on the options that it passes on: each call keeps
    them as it found them.
    """

    def run(*args: Any, **kwargs: Any) -> Tensor:
        args = tuple(dict(arg) if isinstance(arg, dict) else arg for arg in args)
        kwargs = {name: dict(arg) if isinstance(arg, dict) else arg for name, arg in kwargs.items()}
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run


def on_copies(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward that writes on copies of its streams: what came in stays as the backward pass needs it."""

    def run(*args: Any, **kwargs: Any) -> Any:
        args = tuple(arg.clone() if torch.is_tensor(arg) else arg for arg in args)
        return forward(*args, **{k: v.clone() if k in STREAMS and torch.is_tensor(v) else v for k, v in kwargs.items()})

    return run


def plain_forwards() -> dict[type, Callable[..., Any]]:
    """Forwards that stand in for those of the host's layers that write in place."""
    from comfy.clip_model import CLIPLayer
    from comfy.text_encoders.llama import TransformerBlock
    from comfy.text_encoders.t5 import T5LayerFF, T5LayerSelfAttention

    return {
        CLIPLayer: residual_forward,
        TransformerBlock: language_forward,
        T5LayerSelfAttention: t5_attention_forward,
        T5LayerFF: t5_mlp_forward,
    }


def t5_attention_forward(layer: Any, x: Tensor, *how: Any, **named: Any) -> tuple[Tensor, Any]:
    """A T5 layer's attention after its norm, beside a straight path; and its bias for the layers behind it."""
    found, bias = layer.SelfAttention(layer.layer_norm(x), *how, **named)
    return x + found, bias


def t5_mlp_forward(layer: Any, x: Tensor) -> Tensor:
    """A T5 layer's MLP after its norm, beside a straight path."""
    out: Tensor = x + layer.DenseReluDense(layer.layer_norm(x))
    return out


def language_forward(layer: Any, x: Tensor, **how: Any) -> Any:
    """A language model's layer: attention and MLP, each after a norm and beside a straight path; and, on newer hosts,
    what it cached.
    """
    found = layer.self_attn(hidden_states=layer.input_layernorm(x), **how)
    attended, *cache = found if isinstance(found, tuple) else (found,)
    x = x + attended
    out = x + layer.mlp(layer.post_attention_layernorm(x))
    return (out, *cache) if cache else out


def residual_forward(layer: Any, x: Tensor, mask: Tensor | None = None, optimized_attention: Any = None) -> Tensor:
    """A CLIP layer: attention and MLP, each after a norm and beside a straight path."""
    x = x + layer.self_attn(layer.layer_norm1(x), mask, optimized_attention)
    return x + layer.mlp(layer.layer_norm2(x))
