"""Who else acts in a run: one table. Each row is a kind of guest and how it is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..dynaip.readings import KEY as SUBJECTS
from .plan import KEY

OWN_KEYS = (KEY, "ico_dci_progress", SUBJECTS, "torch.compile")  # of wrappers that take rows of any kind
PLAIN_GUIDERS = ("CFGGuider", "Guider_Basic")  # of the host; they weigh each row by itself
PLAIN_OBJECTS = (
    "model_sampling",
    "latent_format",
    "manual_cast_dtype",
)  # that a model's patches may replace without touching rows
HOST = ("comfy.", "comfy_extras.")  # where the host's own classes live

# Functions around the model call that cannot be right beside us, by the end of their module's name, and what to do.
TROUBLED = {
    "fbcache_nodes": (
        "First Block Cache counts the model calls of a step, and DCI adds some while its window is open: where the "
        "window closes one call is taken for another, which moves the picture a little; use EasyCache in its place"
    ),
}

Guider = Any


def put_innermost(clone: Any, kind: str, key: str) -> None:
    """What reads subjects row by row must see the rows of both branches, in whatever order the nodes stand."""
    inner = list(clone.get_wrappers(kind, key))
    clone.remove_wrappers_with_key(kind, key)
    for wrapper in inner:
        clone.add_wrapper_with_key(kind, key, wrapper)


def guests_of(guider: Guider) -> tuple[str, ...]:
    """The kinds of guest in a run that is about to start; nothing where the host alone acts."""
    return tuple(name for name, is_there in GUESTS.items() if is_there(guider))


def troubles_of(guider: Guider) -> tuple[str, ...]:
    """A sentence for each guest that DCI disturbs."""
    module = getattr(guider.model_options.get("model_function_wrapper"), "__module__", None) or ""
    return tuple(sentence for name, sentence in TROUBLED.items() if module.rpartition(".")[2] == name)


def transformer_options(guider: Guider) -> dict[str, Any]:
    """What patches and wrappers hang on."""
    found: dict[str, Any] = guider.model_options.get("transformer_options", {})
    return found


def has_option(name: str) -> Callable[[Guider], bool]:
    """Whether the model's options hold something under that name."""
    return lambda guider: bool(guider.model_options.get(name))


def has_patches(guider: Guider) -> bool:
    """Functions that the model's blocks call."""
    return any(transformer_options(guider).get("patches", {}).values())


def has_replacements(guider: Guider) -> bool:
    """Functions in the place of a block or its attention."""
    return any(transformer_options(guider).get("patches_replace", {}).values())


def has_wrappers(guider: Guider) -> bool:
    """Functions around the run, a step, or the model call; not those around the run that stand outside of ours."""
    kinds = dict(transformer_options(guider).get("wrappers", {}))
    around = list(kinds.pop("outer_sample", {}).items())
    inside = around[[key for key, _ in around].index(KEY) + 1 :] if KEY in dict(around) else around
    found = [*inside, *(pair for keys in kinds.values() for pair in keys.items())]
    return any(functions for key, functions in found if key not in OWN_KEYS)


def has_own_attention(guider: Guider) -> bool:
    """Another attention for every layer."""
    return transformer_options(guider).get("optimized_attention_override") is not None


def is_other_guider(guider: Guider) -> bool:
    """A guider that may weigh rows by one another."""
    kind = type(guider)
    return kind.__name__ not in PLAIN_GUIDERS or not kind.__module__.startswith(HOST)


def has_foreign_control(guider: Guider) -> bool:
    """A ControlNet of a class that is not the host's."""
    return any(not type(control).__module__.startswith(HOST) for control in controls_of(entries_of(guider)))


def has_hooks(guider: Guider) -> bool:
    """Weights or patches that come and go with a conditioning."""
    return any(entry.get("hooks") is not None for entry in entries_of(guider))


def has_replaced_objects(guider: Guider) -> bool:
    """Parts of the model that were exchanged."""
    names = getattr(guider.model_patcher, "object_patches", {})
    return any(not name.startswith(PLAIN_OBJECTS) for name in names)


def has_injections(guider: Guider) -> bool:
    """Parts that are put into the model for the run."""
    return any(getattr(guider.model_patcher, "injections", {}).values())


def entries_of(guider: Guider) -> Iterable[dict[str, Any]]:
    """All conditionings of the run."""
    return (entry for entries in guider.conds.values() for entry in entries)


def controls_of(entries: Iterable[dict[str, Any]]) -> Iterable[Any]:
    """Their ControlNets, those before them included."""
    for entry in entries:
        control = entry.get("control")
        while control is not None:
            yield control
            control = getattr(control, "previous_controlnet", None)


GUESTS: dict[str, Callable[[Guider], bool]] = {
    "patches of the model's blocks": has_patches,
    "replaced blocks or attention": has_replacements,
    "wrappers around the sampling": has_wrappers,
    "another attention function": has_own_attention,
    "a guidance function": has_option("sampler_cfg_function"),
    "functions before the guidance": has_option("sampler_pre_cfg_function"),
    "functions after the guidance": has_option("sampler_post_cfg_function"),
    "a function that runs the conditionings": has_option("sampler_calc_cond_batch_function"),
    "a function around the model call": has_option("model_function_wrapper"),
    "a function of the inpaint mask": has_option("denoise_mask_function"),
    "context windows": has_option("context_handler"),
    "another guider": is_other_guider,
    "a ControlNet of another pack": has_foreign_control,
    "hooks on a conditioning": has_hooks,
    "exchanged parts of the model": has_replaced_objects,
    "parts put into the model": has_injections,
}
