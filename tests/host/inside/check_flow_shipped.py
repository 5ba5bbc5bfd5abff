"""The shipped small flow world and its adapter, as the nodes give them, against the core on the same files."""

from __future__ import annotations

from typing import Any

import torch
from lab import PACK, distance, sample
from torch import Tensor

PROMPT, STEPS, SEED, CFG = "a photo of a fish in the snow", 10, 5, 3.5


def nodes() -> tuple[Any, Any, Any, Tensor, Any, Any]:
    """(MODEL, CLIP, VAE, example pictures, CLIP_VISION, adapter) of the loaders."""
    world = PACK["nodes.tiny_nodes"].DCILoadTinyWorld.execute("00-fish", "flow").result
    files, loader = PACK["nodes.host.adapter_files"], PACK["nodes.dynaip_nodes"].DynaIPLoadAdapter
    model, clip, vae, pictures, noun, vision = world
    assert noun == "fish" and pictures.shape == (5, 128, 128, 3)
    return model, clip, vae, pictures, vision, loader.execute(files.TINY).result[0]


def core_run(model: Any, core: Any, rule: Any) -> Tensor:
    """The core's run from the host's noise, by the host's noise levels."""
    import comfy.sample
    import comfy.samplers

    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS).tolist()
    x, text = comfy.sample.prepare_noise(torch.zeros(1, 8, 16, 16), SEED) * sigmas[0], core.encode([PROMPT, ""])
    for t, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        both = core.velocity(x.repeat(2, 1, 1, 1), torch.full((2,), t), text, rule, reads=torch.tensor([1.0, 0.0]))
        asked, refused = both.chunk(2)
        x = x + (following - t) * (refused + CFG * (asked - refused))
    return x


def test_ten_steps_with_the_shipped_weights_are_the_cores() -> None:
    model, clip, vae, pictures, vision, adapter = nodes()
    world = PACK["dci_core.tiny.flow.model"].load_flow_world()
    given = {"scale": 1.0, "text_scale": 0.0, "granularity": 0.0, "start": 0.0, "end": 1.0, "blocks": "all"}
    node = PACK["nodes.dynaip_nodes"].DynaIPApply
    reading = node.execute(model, vision, adapter, pictures, where="everywhere", **given).result[0]
    words = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (PROMPT, "")]
    host = {
        name: sample(patched, *words, steps=STEPS, cfg=CFG, shape=(1, 8, 16, 16), scheduler="simple", seed=SEED)
        for name, patched in (("plain", model), ("read", reading))
    }
    reference = PACK["dci_core.image_prompt.reference"].prepare_reference(
        adapter.core.float(), world.vision.states(pictures.movedim(-1, 1))
    )
    decoupled, subject = PACK["dci_core.image_prompt.decoupled"], PACK["dci_core.image_prompt.subject"]
    rules = {"plain": None, "read": decoupled.image_prompt_rule([reference.kvs], [subject.Subject()])}
    for name, rule in rules.items():
        assert distance(host[name], core_run(model, world.model, rule)) < 1e-3, name
    assert distance(host["read"], host["plain"]) > 1e-2
    seen, own = vae.decode(host["read"]).movedim(-1, 1), world.codec.decode(core_run(model, world.model, rules["read"]))
    assert distance(seen, own.clamp(0, 1)) < 1e-2
