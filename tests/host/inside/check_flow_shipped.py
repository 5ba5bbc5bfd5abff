"""The shipped small flow world and its adapter, as the nodes give them, against the core on the same files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from check_flow_reading import PROMPT, core_run, encoded
from lab import PACK, distance, sample
from torch import Tensor


def nodes() -> tuple[Any, Any, Any, Tensor, Any, Any]:
    """(MODEL, CLIP, VAE, example pictures, CLIP_VISION, adapter) of the loaders."""
    world = PACK["nodes.tiny_nodes"].DCILoadTinyWorld.execute("00-fish", "flow").result
    files, loader = PACK["nodes.host.dynaip.adapter_files"], PACK["nodes.dynaip_nodes"].DynaIPLoadAdapter
    model, clip, vae, pictures, noun, vision = world
    assert noun == "fish" and pictures.shape == (5, 128, 128, 3)
    return model, clip, vae, pictures, vision, loader.execute(files.TINY).result[0]


def test_example_pictures_are_taken_where_they_are_asked_for() -> None:
    load = PACK["nodes.tiny_nodes"].DCILoadTinyWorld.execute
    thing = next(each for each in PACK["dci_core.tiny.world.concepts"].CONCEPTS if each.name == "07-teapot")
    usual, *named = (load("07-teapot", "flow", *where).result[3] for where in ((), ("varied",), ("home",)))
    assert torch.equal(usual, named[0]) and not torch.equal(*named)
    for pictures, kind in zip(named, ("varied", "home"), strict=True):
        own = [np.asarray(each.picture.convert("RGB")) for each in thing.references(kind)]
        assert torch.equal((pictures * 255).round().byte(), torch.from_numpy(np.stack(own)))


def test_ten_steps_with_the_shipped_weights_are_the_cores() -> None:
    model, clip, vae, pictures, vision, adapter = nodes()
    world = PACK["dci_core.tiny.flow.model"].load_flow_world()
    given = {"scale": 1.0, "text_scale": 0.0, "granularity": 0.0, "start": 0.0, "end": 1.0, "blocks": "all"}
    node = PACK["nodes.dynaip_nodes"].DynaIPApply
    reading = node.execute(model, vision, adapter, pictures, where="everywhere", **given).result[0]
    words = [encoded(clip, text) for text in (PROMPT, "")]
    host = {
        name: sample(patched, *words, steps=10, cfg=3.5, shape=(1, 8, 16, 16), scheduler="simple")
        for name, patched in (("plain", model), ("read", reading))
    }
    reference = PACK["dci_core.dynaip.reference"].prepare_reference(
        adapter.core.float(), world.vision.states(pictures.movedim(-1, 1))
    )
    decoupled, subject = PACK["dci_core.dynaip.decoupled"], PACK["dci_core.dynaip.subject"]
    rules = {"plain": None, "read": decoupled.image_prompt_rule([reference.kvs], [subject.Subject()])}
    own = {name: core_run(rule, world=(world.model, model)) for name, rule in rules.items()}
    assert all(distance(host[name], x) < 1e-3 for name, x in own.items())
    assert distance(host["read"], host["plain"]) > 1e-2
    seen = vae.decode(host["read"]).movedim(-1, 1)
    assert distance(seen, world.codec.decode(own["read"]).clamp(0, 1)) < 1e-2
