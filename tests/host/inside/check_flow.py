"""The tiny flow model in the host's own classes: same weights, same velocities, same pictures, same vision states."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from lab import PACK
from torch import Tensor

STEPS, SEEDS, WORDS = 10, [3, 4], "a red fish in the snow"


@cache
def core_model() -> Any:
    """The core's random flow model; norms' scales differ from one, so that they show."""
    model = PACK["dci_core.tiny.flow.model"].FlowModel.random(0)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.mmdit.named_parameters():
        if name.endswith("_norm.scale"):
            parameter.copy_(1 + 0.3 * torch.rand(parameter.shape, generator=generator))
    return model


@cache
def host_flux() -> Any:
    """The host's Flux class of the same sizes with the same weights, loaded strictly."""
    import comfy.ldm.flux.model
    import comfy.ops

    params = core_model().mmdit.params
    sizes = {
        "in_channels": params.channels,
        "out_channels": params.channels,
        "vec_in_dim": params.vector_width,
        "context_in_dim": params.text_width,
        "hidden_size": params.width,
        "mlp_ratio": float(params.mlp_ratio),
        "num_heads": params.heads,
        "depth": params.double_blocks,
        "depth_single_blocks": params.single_blocks,
        "axes_dim": list(params.axes),
        "theta": params.theta,
        "patch_size": params.patch,
        "qkv_bias": True,
        "guidance_embed": False,
        "txt_ids_dims": [],
    }
    known = inspect.signature(comfy.ldm.flux.model.FluxParams).parameters
    sizes = {name: value for name, value in sizes.items() if name in known}
    flux = comfy.ldm.flux.model.Flux(**sizes, dtype=torch.float32, operations=comfy.ops.disable_weight_init)
    weights = core_model().mmdit.state_dict()
    if "double_blocks.0.img_attn.norm.query_norm.weight" in flux.state_dict():  # hosts after 0.3.64 name it so
        weights = {name.replace("_norm.scale", "_norm.weight"): value for name, value in weights.items()}
    flux.load_state_dict(weights, strict=True)
    return flux.eval()


def text() -> Any:
    """The prompt's and the empty prompt's rows, for both seeds."""
    return core_model().encode([WORDS, WORDS, "", ""])


def host_velocity(x: Tensor, t: Tensor, rows: Any) -> Tensor:
    """The velocity by the host's class."""
    return host_flux()(x, t, rows.hidden, rows.pooled)


def test_the_hosts_flux_gives_the_same_velocity() -> None:
    x, t = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([0.1, 0.4, 0.7, 1.0])
    own, host = core_model().velocity(x, t, text()), host_velocity(x, t, text())
    assert (own - host).abs().max() < 1e-4, float((own - host).abs().max())
    swapped = host_velocity(x, t.flip(0), text())
    assert (own - swapped).abs().max() > 1e-2


def test_a_latent_of_another_shape_has_the_same_velocity() -> None:
    x, t = torch.randn(4, 8, 12, 20, generator=torch.Generator().manual_seed(1)), torch.full((4,), 0.5)
    own, host = core_model().velocity(x, t, text()), host_velocity(x, t, text())
    assert (own - host).abs().max() < 1e-4, float((own - host).abs().max())


def test_ten_steps_end_in_the_same_latents() -> None:
    sampling = PACK["dci_core.tiny.flow.sampling"]
    settings = sampling.FlowSettings(num_steps=STEPS, cfg=3.0)
    own = sampling.sample_flow(core_model(), [WORDS], seeds=SEEDS, settings=settings)
    x, times = sampling.seeded_noise(SEEDS), sampling.flow_times(settings)
    for t, following in zip(times[:-1], times[1:], strict=True):
        asked, refused = host_velocity(torch.cat((x, x)), torch.full((4,), t), text()).chunk(2)
        x = x + (following - t) * (refused + settings.cfg * (asked - refused))
    assert (own - x).abs().max() < 1e-3, float((own - x).abs().max())
    other = sampling.sample_flow(core_model(), ["a cat at night"], seeds=SEEDS, settings=settings)
    assert (other - x).abs().max() > 1e-2


def test_the_hosts_vision_class_gives_the_same_states_and_vectors() -> None:
    import comfy.clip_vision

    vision = PACK["dci_core.tiny.flow.vision"]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(6)
        tower = vision.VisionTower().eval()
    host = comfy.clip_vision.ClipVisionModel(str(vision.CONFIG_FILE))
    missing, unexpected = host.load_sd({name: value.clone() for name, value in tower.state_dict().items()})
    assert not missing and not unexpected, (missing, unexpected)
    pictures = torch.rand(2, 3, 128, 96, generator=torch.Generator().manual_seed(1))
    found, states = host.encode_image(pictures.movedim(1, -1)), tower.states(pictures)
    limit = 1e-3 if host.dtype == torch.float32 else 3e-2
    assert (found["last_hidden_state"] - states[-1]).abs().max() < limit
    assert (found["penultimate_hidden_states"] - states[-2]).abs().max() < limit
    assert (found["image_embeds"] - tower.project(states)).abs().max() < limit
    assert (found["last_hidden_state"] - states[-2]).abs().max() > 3e-2
