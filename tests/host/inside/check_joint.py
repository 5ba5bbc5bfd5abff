"""The hooks into the host's MM-DiT blocks: every block fires, with its own queries before rotary, in each family."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from lab import PACK, distance, sample
from mmdit_lab import SIZES, all_blocks, block, installed, noting, thin_model, words
from torch import Tensor

FAMILIES = ("flux", "sd3", "qwen")


def run(name: str, model: Any, *, reference: Tensor | None = None, **options: Any) -> Tensor:
    """Two steps of the host's sampler."""
    more = {} if reference is None else {"reference_latents": [reference]}
    positive = [[rows, {**entry, **more}] for rows, entry in words(1)]
    args = {"steps": 2, "cfg": 1.0, "shape": SIZES[name][0], "scheduler": "simple", **options}
    return sample(model, positive, words(2), **args)


def module_of(name: str, key: Any) -> Any:
    """A block of a thin model."""
    network = thin_model(name).model.diffusion_model
    lists = {"flux": f"{key.stream}_blocks", "sd3": "joint_blocks", "qwen": "transformer_blocks"}
    return getattr(network, lists[name])[key.index]


def norms_of(name: str, key: Any, which: int = 0) -> list[tuple[Any, Callable[[Any], Tensor]]]:
    """(module whose output holds normed queries (0) or keys (1), what takes them out as [b heads n d]), text first."""
    module = module_of(name, key)
    if name == "sd3":
        turned = lambda out: out.transpose(1, 2)  # noqa: E731
        return [(getattr(part.attn, f"ln_{'qk'[which]}"), turned) for part in (module.context_block, module.x_block)]
    if name == "qwen":
        turned = lambda out: out if out.shape[1] == 2 else out.transpose(1, 2)  # noqa: E731
        return [(getattr(module.attn, f"norm_{part}{'qk'[which]}"), turned) for part in ("added_", "")]
    parts = [module] if key.stream == "single" else [module.txt_attn, module.img_attn]
    return [(part.norm, lambda out: out[which]) for part in parts]


def outlets_of(name: str, key: Any) -> dict[str, Any]:
    """The projections behind the attention: for text rows, for image rows, or for both."""
    module = module_of(name, key)
    if name == "sd3":
        text = {} if module.context_block.pre_only else {"text": module.context_block.attn.proj}
        return {**text, "image": module.x_block.attn.proj}
    if name == "qwen":
        return {"text": module.attn.to_add_out, "image": module.attn.to_out[0]}
    if key.stream == "single":
        return {"both": module.linear2}
    return {"text": module.txt_attn.proj, "image": module.img_attn.proj}


def test_every_block_fires_once_in_a_model_call_and_looking_changes_no_bit() -> None:
    for name in FAMILIES:
        calls: list[Any] = []
        model = installed(thin_model(name), {str(b): noting(calls) for b in all_blocks(name)})
        seen = run(name, model)
        assert [call.block for call in calls] == all_blocks(name) * 2, (name, [str(c.block) for c in calls])
        for call in calls:
            assert call.q.shape[2] == 6 + 64 and call.grid == (8, 8), (name, call.q.shape)
            assert (call.rows.text, call.rows.image) == (slice(0, 6), slice(6, 70)), name
        assert torch.equal(seen, run(name, thin_model(name)))


def normed(name: str, key: Any, which: int, do: Callable[[], Any]) -> Tensor:
    """What the norms of a block give for queries (0) or keys (1) [b heads n d] meanwhile, text rows first."""
    truth: dict[int, Tensor] = {}  # whichever stream the block computes first
    with ExitStack() as stack:
        for part, (norm, take) in enumerate(norms_of(name, key, which)):
            keep = lambda m, args, out, at=part, take=take: truth.update({at: take(out).clone()})  # noqa: E731
            stack.callback(norm.register_forward_hook(keep).remove)
        do()
    return torch.cat([truth[part] for part in sorted(truth)], dim=2)


def test_the_queries_are_the_blocks_own_normed_ones_before_rotary() -> None:
    for name in FAMILIES:
        for key in all_blocks(name):
            calls: list[Any] = []
            model = installed(thin_model(name), {str(key): noting(calls)})
            expected = normed(name, key, 0, lambda model=model, name=name: run(name, model, steps=1))
            assert distance(calls[0].q, expected) < 1e-5, (name, str(key))
            assert calls[0].text_keys is None


def test_the_text_rows_keys_come_along_where_they_are_asked_for() -> None:
    for name in FAMILIES:
        for key in all_blocks(name):
            calls: list[Any] = []
            model = installed(thin_model(name), {str(key): noting(calls)}, wants_keys=True)
            expected = normed(name, key, 1, lambda model=model, name=name: run(name, model, steps=1))
            assert distance(calls[0].text_keys, expected[:, :, :6]) < 1e-5, (name, str(key))


def bump(call: Any) -> Tensor:
    """A rule that adds a fixed random thing to every row."""
    b, heads, n, d = call.q.shape
    rows = torch.randn(1, n, heads * d, generator=torch.Generator().manual_seed(4))
    return (rows + 0.5).expand(b, n, heads * d)


def by_hand(call_rows: Any, width: int) -> Callable[[str], Callable[[Any, Any], Any]]:
    """What makes hooks that add the same in front of a projection."""
    rows = torch.randn(1, call_rows.image.stop, width, generator=torch.Generator().manual_seed(4)) + 0.5
    parts = {"text": rows[:, call_rows.text], "image": rows[:, call_rows.image], "both": rows}

    def hook(part: str) -> Callable[[Any, Any], Any]:
        def before(module: Any, args: Any) -> Any:
            x = args[0].clone()
            x[..., :width] += parts[part]
            return (x, *args[1:])

        return before

    return hook


def test_what_a_rule_gives_is_added_in_front_of_the_projection_of_its_rows() -> None:
    for name in FAMILIES:
        for key in all_blocks(name):
            calls: list[Any] = []
            plain = run(name, installed(thin_model(name), {str(key): noting(calls)}), steps=1)
            width = calls[0].q.shape[1] * calls[0].q.shape[3]
            ours = run(name, installed(thin_model(name), {str(key): bump}), steps=1)
            hook = by_hand(calls[0].rows, width)
            with ExitStack() as stack:
                for part, outlet in outlets_of(name, key).items():
                    stack.callback(outlet.register_forward_pre_hook(hook(part)).remove)
                expected = run(name, thin_model(name), steps=1)
            assert distance(ours, expected) < 1e-5, (name, str(key))
            assert distance(ours, plain) > 1e-3, (name, str(key))


def test_a_stream_rule_adds_to_the_image_stream_behind_the_block() -> None:
    for name in FAMILIES:
        for key in all_blocks(name):
            image_at = {"flux": 0, "sd3": 1, "qwen": 1}[name]

            def behind(module: Any, args: Any, out: Any, key: Any = key, at: int = image_at) -> Any:
                stream = (out if key.stream == "single" else out[at]).clone()
                rows = torch.randn(1, 70, stream.shape[2], generator=torch.Generator().manual_seed(4)) + 0.5
                stream[:, 6 if key.stream == "single" else 0 :] += rows[:, 6:]
                return stream if key.stream == "single" else tuple(stream if i == at else x for i, x in enumerate(out))

            ours = run(name, installed(thin_model(name), {str(key): bump}, "stream"), steps=1)
            handle = module_of(name, key).register_forward_hook(behind)
            expected = run(name, thin_model(name), steps=1)
            handle.remove()
            assert distance(ours, expected) < 1e-5, (name, str(key))
            assert distance(ours, run(name, thin_model(name), steps=1)) > 1e-3


def test_rows_of_reference_latents_belong_to_nobody() -> None:
    reference = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(8))
    calls: list[Any] = []
    model = installed(thin_model("flux"), {str(b): noting(calls) for b in all_blocks("flux")})
    run("flux", model, reference=reference)
    for call in calls:
        assert call.q.shape[2] == 6 + 64 + 96 and call.grid == (8, 8)
        assert (call.rows.text, call.rows.image) == (slice(0, 6), slice(6, 70))


def test_odd_latents_are_padded_to_whole_tokens_as_the_host_pads_them() -> None:
    for name in FAMILIES:
        shape = (*SIZES[name][0][:-2], 10, 13)
        calls: list[Any] = []
        run(name, installed(thin_model(name), {"double.0": noting(calls)}), shape=shape)
        assert calls[0].grid == (5, 7) and calls[0].q.shape[2] == 6 + 35


def test_blocks_that_put_the_picture_first_are_told_apart() -> None:
    """A switch of older hosts' Flux blocks; newer hosts have none, so their blocks are all text first."""
    from comfy.ldm.flux.layers import DoubleStreamBlock

    mmdit, model = PACK["nodes.host.families.mmdit"], thin_model("flux")
    assert mmdit.image_first_blocks(model.model) == frozenset()
    module = module_of("flux", block("double.1"))
    module.flipped_img_txt = True
    try:
        assert mmdit.image_first_blocks(model.model) == {block("double.1")}
        if "flipped_img_txt" in DoubleStreamBlock.__init__.__code__.co_varnames:
            check_image_first(module)
    finally:
        module.flipped_img_txt = False


def check_image_first(module: Any) -> None:
    """The rows of a block that puts the picture first, against its norms' own outputs."""
    truth: list[Tensor] = []
    handles = [
        part.norm.register_forward_hook(lambda m, a, out: truth.append(out[0].clone()))
        for part in (module.img_attn, module.txt_attn)
    ]
    calls: list[Any] = []
    run("flux", installed(thin_model("flux"), {"double.1": noting(calls)}, image_first=("double.1",)), steps=1)
    for handle in handles:
        handle.remove()
    call, (image, text) = calls[0], truth
    assert distance(call.q[:, :, call.rows.image], image) < 1e-5
    assert distance(call.q[:, :, call.rows.text], text) < 1e-5


def foreign_block(model: Any, key: tuple[str, int]) -> Any:
    """The model with another pack's block replacement, which halves what its block changes."""

    def replace(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        before = args["img"].clone()
        out = extra["original_block"](args)
        return {**out, "img": before + (out["img"] - before) * 0.5}

    clone = model.clone()
    clone.set_model_patch_replace(replace, "dit", *key)
    return clone


def foreign_attention(model: Any, seen: list[Any]) -> Any:
    """The model with another pack's attention override, which halves all outputs."""

    def override(attend: Any, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(args[0].shape)
        return attend(*args, **kwargs) * 0.5

    clone = model.clone()
    clone.model_options["transformer_options"]["optimized_attention_override"] = override
    return clone


def test_a_foreign_block_replacement_and_ours_both_act_whichever_came_first() -> None:
    for name in FAMILIES:
        model, rules = thin_model(name), {str(b): bump for b in all_blocks(name)}
        under = installed(foreign_block(model, ("double_block", 1)), rules)
        over = foreign_block(installed(model, rules), ("double_block", 1))
        first, second = run(name, under), run(name, over)
        assert torch.equal(first, second)
        assert distance(first, run(name, installed(model, rules))) > 1e-4
        assert distance(first, run(name, foreign_block(model, ("double_block", 1)))) > 1e-4


def test_a_foreign_attention_override_and_ours_both_act_whichever_came_first() -> None:
    for name in FAMILIES:
        seen: list[Any] = []
        model, rules = thin_model(name), {str(b): bump for b in all_blocks(name)}
        first = run(name, installed(foreign_attention(model, seen), rules))
        second = run(name, foreign_attention(installed(model, rules), seen))
        assert torch.equal(first, second) and seen
        assert distance(first, run(name, installed(model, rules))) > 1e-4
        assert distance(first, run(name, foreign_attention(model, seen))) > 1e-4
