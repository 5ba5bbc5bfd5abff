"""What the host's CLIP vision models see: every layer, and a subject alone where a mask says which it is."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lab import PACK, distance

CONFIG = {
    "model_type": "clip_vision_model", "hidden_act": "quick_gelu", "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 4, "num_attention_heads": 2, "num_channels": 3, "image_size": 32, "patch_size": 8,
    "projection_dim": 24,
}  # fmt: skip


@cache
def small_vision(seed: int = 0, **changes: Any) -> Any:
    """A random CLIP vision model of the host's own class."""
    from comfy.clip_vision import ClipVisionModel

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
        path = Path(folder) / "config.json"
        path.write_text(json.dumps({**CONFIG, **changes}), encoding="utf-8")
        vision = ClipVisionModel(str(path))
    source = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        for name, parameter in vision.model.named_parameters():
            is_norm = "norm" in name or "layrnorm" in name
            kept = torch.randn(parameter.shape, generator=source) * 0.1
            parameter.copy_(torch.ones_like(parameter) if is_norm and name.endswith("weight") else kept)
    return vision


def pictures(count: int = 2, height: int = 40, width: int = 56) -> torch.Tensor:
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(3))


def test_every_layer_is_seen_as_the_host_itself_sees_it() -> None:
    vision = small_vision()
    seen, told = PACK["nodes.host.dynaip.vision"].look(vision, pictures()), vision.encode_image(pictures())
    assert len(seen.states) == 5 and all(state.shape == (2, 17, 32) for state in seen.states)
    assert torch.equal(seen.states[3], told["penultimate_hidden_states"])
    assert torch.equal(seen.states[4], told["last_hidden_state"])
    assert torch.equal(seen.projected, told["image_embeds"])
    layer = vision.model.vision_model.encoder.layers[0]
    again = layer(seen.states[0].clone(), None, plain_attention)
    assert distance(again, seen.states[1]) < 1e-5


def plain_attention(q: Any, k: Any, v: Any, heads: int, mask: Any) -> Any:
    from comfy.ldm.modules.attention import attention_pytorch

    return attention_pytorch(q, k, v, heads, mask)


def test_sizes_of_a_vision_model_are_told() -> None:
    assert PACK["nodes.host.dynaip.vision"].sizes_of(small_vision()) == (32, 4)


def test_other_image_encoders_are_refused() -> None:
    class Odd:
        model = torch.nn.Linear(1, 1)

    refused("Linear", lambda: PACK["nodes.host.dynaip.vision"].look(Odd(), pictures()))


def refused(words: str, do: Callable[[], Any]) -> None:
    """Asserts that this is refused with a sentence that holds these words."""
    try:
        do()
    except PACK["dci_core.errors"].PackError as error:
        assert words in str(error), error
    else:
        raise AssertionError("no error")


def test_a_mask_leaves_the_subject_alone_on_grey_in_a_square() -> None:
    vision = PACK["nodes.host.dynaip.vision"]
    grey = (0.5, 0.25, 0.75)
    shown, mask = pictures(1), torch.zeros(1, 40, 56)
    mask[:, 10:20, 4:34] = 1
    cut = vision.cut_out(shown, mask, grey)
    assert cut.shape == (1, 33, 33, 3)
    assert torch.allclose(cut[0, 12:22, 2:32], shown[0, 10:20, 4:34], atol=1e-5)
    assert torch.allclose(cut[0, 0], torch.tensor(grey).expand(33, 3))
    assert not torch.allclose(cut[0, 16, 16], torch.tensor(grey))


def test_a_mask_may_have_any_size_and_may_touch_the_edge() -> None:
    vision = PACK["nodes.host.dynaip.vision"]
    for mask in (torch.ones(7, 9), torch.ones(1, 400, 300), torch.ones(2, 40, 56)):
        cut = vision.cut_out(pictures(), mask, (0.5, 0.5, 0.5))
        assert cut.shape[0] == 2 and cut.shape[1] == cut.shape[2] and cut.isfinite().all()


def test_a_mask_changes_what_is_seen() -> None:
    vision, model = PACK["nodes.host.dynaip.vision"], small_vision()
    mask = torch.zeros(40, 56)
    mask[:, :28] = 1
    cut = vision.cut_out(pictures(), mask, tuple(model.image_mean))
    assert distance(vision.look(model, cut).projected, vision.look(model, pictures()).projected) > 1e-3
    changed = pictures()
    changed[:, :, 30:] = 0
    assert torch.equal(cut, vision.cut_out(changed, mask, tuple(model.image_mean)))


def test_bad_masks_get_one_sentence() -> None:
    vision = PACK["nodes.host.dynaip.vision"]
    refused("shows nothing", lambda: vision.cut_out(pictures(), torch.zeros(40, 56), (0.5, 0.5, 0.5)))
    refused("3 subject masks", lambda: vision.cut_out(pictures(), torch.ones(3, 40, 56), (0.5, 0.5, 0.5)))
