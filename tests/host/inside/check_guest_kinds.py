"""The table of guests: each kind is noticed by its own row, and what is no guest by none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from check_guests import small_controlnet
from lab import PACK, apply, conditioning, plan, small_model, text

NEGATIVE = conditioning(text(3))


def doing(*args: Any, **kwargs: Any) -> Any:
    """What a guest puts on the model; nobody calls it here."""
    raise AssertionError("nothing is sampled")


def by(method: str, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
    """A guest that calls one of the patcher's own methods."""
    return lambda model: getattr(model, method)(*args, **kwargs)


def by_option(name: str) -> Callable[[Any], None]:
    """A guest that writes into the model's options."""
    return lambda model: model.model_options.update({name: doing})


def overriding(model: Any) -> None:
    """A guest with an attention of its own for every layer."""
    model.model_options["transformer_options"]["optimized_attention_override"] = doing


def injected(model: Any) -> None:
    """A guest that puts parts into the model for the run, as motion models are."""
    from comfy.patcher_extension import PatcherInjection

    model.set_injections("a_guest", [PatcherInjection(inject=doing, eject=doing)])


ON_THE_MODEL: dict[str, Callable[[Any], None]] = {
    "patches of the model's blocks": by("set_model_attn2_output_patch", doing),
    "replaced blocks or attention": by("set_model_attn1_replace", doing, "middle", 0, 0),
    "wrappers around the sampling": by("add_wrapper_with_key", "apply_model", "a_guest", doing),
    "another attention function": overriding,
    "a guidance function": by("set_model_sampler_cfg_function", doing),
    "functions before the guidance": by("set_model_sampler_pre_cfg_function", doing),
    "functions after the guidance": by("set_model_sampler_post_cfg_function", doing),
    "a function that runs the conditionings": by("set_model_sampler_calc_cond_batch_function", doing),
    "a function around the model call": by("set_model_unet_function_wrapper", doing),
    "a function of the inpaint mask": by("set_model_denoise_mask_function", doing),
    "context windows": by_option("context_handler"),
    "exchanged parts of the model": by("add_object_patch", "diffusion_model.out", torch.nn.Identity()),
    "parts put into the model": injected,
}


def foreign_control() -> Any:
    """A ControlNet of a class that is not the host's."""
    control = small_controlnet()
    control.__class__ = type("Control", (type(control),), {"__module__": "custom_nodes.a_pack"})
    return control


def a_hook() -> Any:
    """A group of hooks as Create Hook LoRA makes it."""
    from comfy.hooks import create_hook_lora

    return create_hook_lora({}, 1.0, 0.0)


ON_THE_TEXT: dict[str, Callable[[], dict[str, Any]]] = {
    "a ControlNet of another pack": lambda: {"control": foreign_control()},
    "hooks on a conditioning": lambda: {"hooks": a_hook()},
}


def noticed(model: Any, kind: str = "CFGGuider", module: str = "comfy.samplers", **text_entry: Any) -> tuple[str, ...]:
    """The rows that answer for a run of this model, by a guider of this class, with this in the pair's conditioning."""
    import comfy.model_patcher
    import comfy.sampler_helpers
    import comfy.samplers

    guider = type(kind, (comfy.samplers.CFGGuider,), {"__module__": module})(model)
    guider.set_conds([[text(1), text_entry]], NEGATIVE)
    guider.conds = guider.original_conds
    guider.model_options = comfy.model_patcher.create_model_options_clone(guider.model_options)
    comfy.sampler_helpers.prepare_model_patcher(guider.model_patcher, guider.conds, guider.model_options)
    found: tuple[str, ...] = PACK["nodes.host.dci.guests"].guests_of(guider)
    return found


def ours() -> Any:
    """A model with DCI on it."""
    return apply(small_model(), plan(text(2)), window=0.6)[0]


def test_each_kind_of_guest_is_noticed_by_its_own_row_and_by_no_other() -> None:
    seen = {"another guider": noticed(ours(), "AnotherGuider")}
    for name, put_on in ON_THE_MODEL.items():
        model = ours()
        put_on(model)
        seen[name] = noticed(model)
    for name, entry in ON_THE_TEXT.items():
        seen[name] = noticed(ours(), **entry())
    assert seen == {name: (name,) for name in PACK["nodes.host.dci.guests"].GUESTS}, seen


def test_a_guider_of_the_hosts_name_from_elsewhere_is_a_guest() -> None:
    assert noticed(ours(), module="custom_nodes.a_pack") == ("another guider",)


def test_what_takes_rows_of_any_kind_is_no_guest() -> None:
    assert noticed(ours()) == ()
    for put_on in (
        by("add_object_patch", "model_sampling", torch.nn.Identity()),
        by("add_wrapper_with_key", "apply_model", "torch.compile", doing),
        lambda model: model.add_patches({"diffusion_model.out.2.bias": ("diff", (torch.zeros(4),))}, 1.0),
    ):
        model = ours()
        put_on(model)
        assert noticed(model) == ()
    assert noticed(ours(), control=small_controlnet()) == ()
    outside = small_model()
    outside.add_wrapper_with_key("outer_sample", "a_guest", doing)
    inside = ours()
    inside.add_wrapper_with_key("outer_sample", "a_guest", doing)
    assert noticed(apply(outside, plan(text(2)), window=0.6)[0]) == ()
    assert noticed(inside) == ("wrappers around the sampling",)
