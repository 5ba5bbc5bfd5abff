"""Models of random weights that other packs want: a VAE, a ControlNet, an image adapter with its vision tower."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
from lab import SMALL_UNET
from torch import Tensor
from torch.nn import functional

SD15_INPUTS, SD15_OUTPUTS = (
    (1, 2, 4, 5, 7, 8),
    (3, 4, 5, 6, 7, 8, 9, 10, 11),
)  # blocks with attention, as adapters count


def ramp(size: int = 16) -> Tensor:
    """A mask [1 size size] that grows to the right."""
    return torch.linspace(0.05, 0.95, size).repeat(1, size, 1)


def an_image(count: int) -> Tensor:
    """Random smooth pictures [count 128 128 3]."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    return functional.interpolate(coarse, size=(128, 128), mode="bilinear").movedim(1, -1).contiguous()


class FlatVae:
    """Latents of four channels as pictures of eight times the size: three channels of colour and their mean.

    decoded  latents as they came, before anyone rounds a picture to eight bits
    """

    def __init__(self) -> None:
        self.decoded: list[Tensor] = []

    def encode(self, pixels: Tensor) -> Tensor:
        """[b h w 3] in 0 to 1 to [b 4 h/8 w/8]."""
        small = functional.avg_pool2d(pixels[..., :3].movedim(-1, 1) * 2 - 1, 8)
        return torch.cat([small, small.mean(1, keepdim=True)], 1)

    def decode(self, latents: Tensor) -> Tensor:
        """[b 4 h w] to [b 8h 8w 3] in 0 to 1."""
        self.decoded.append(latents.clone())
        large = functional.interpolate(latents[:, :3], scale_factor=8, mode="nearest").movedim(1, -1)
        return torch.sigmoid(large)

    def spacial_compression_decode(self) -> int:
        """Pixels in a latent pixel."""
        return 8


@cache
def a_control() -> Any:
    """The host's ControlNet of the lab's U-Net's layout."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    sizes = {key: value for key, value in SMALL_UNET.items() if key not in ("out_channels", "transformer_depth_output")}
    with torch.inference_mode(False), torch.no_grad():
        net = comfy.cldm.cldm.ControlNet(
            hint_channels=3, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init, **sizes
        )
        source = torch.Generator().manual_seed(6)
        for parameter in net.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.copy_(torch.randn(parameter.shape, generator=source) * fan**-0.5)
    cpu = torch.device("cpu")
    return comfy.controlnet.ControlNet(net, load_device=cpu, manual_cast_dtype=None)


@cache
def a_vision() -> Any:
    """The host's CLIP vision of random weights, two small layers."""
    from comfy.clip_vision import ClipVisionModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    shape = {"num_channels": 3, "patch_size": 32, "projection_dim": 24, "hidden_act": "quick_gelu"}
    with torch.inference_mode(False), torch.no_grad():
        config = {"image_size": 224, "model_type": "clip_vision_model", **sizes, **shape}
        with NamedTemporaryFile("w", suffix=".json", delete=False) as file:
            json.dump(config, file)  # older hosts read their sizes from a file
        vision = ClipVisionModel(file.name)
        Path(file.name).unlink()
        source = torch.Generator().manual_seed(8)
        for parameter in vision.model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source) * parameter.shape[-1] ** -0.5)
    return vision


@cache
def an_ipadapter(model: Any) -> tuple[dict[str, Any], Any]:
    """An adapter in SD 1.5's counting of layers, as wide at each as the model's own; missing layers are never asked."""
    network, source = model.model.diffusion_model, torch.Generator().manual_seed(7)

    def width(blocks: Any, index: int) -> int:
        found = dict(blocks.named_modules()).get(f"{index}.1.transformer_blocks.0.attn2.to_k") if index < 99 else None
        return 64 if found is None else int(found.weight.shape[0])

    widths = [
        *(width(network.input_blocks, index) for index in SD15_INPUTS),
        *(width(network.output_blocks, index) for index in SD15_OUTPUTS),
        int(network.middle_block[1].transformer_blocks[0].attn2.to_k.weight.shape[0]),
    ]

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source) * shape[-1] ** -0.5

    layers = {
        f"{2 * number + 1}.to_{part}_ip.weight": random(size, 128)
        for number, size in enumerate(widths)
        for part in "kv"
    }
    context = 4 * 128
    head = {"proj.weight": random(context, 24), "proj.bias": torch.zeros(context)}
    norm = {"norm.weight": torch.ones(128), "norm.bias": torch.zeros(128)}
    return {"image_proj": {**head, **norm}, "ip_adapter": layers}, a_vision()
