"""Weights that the host keeps elsewhere, or pages, are never trained on: loaded whole, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from check_devices import CPU, DEVICE, parts_on, trained
from check_tiny import worlds
from check_training import same
from lab import PACK, small_model
from marks import Absent, slow


class Paging:
    """A patcher that pages weights in and out (dynamic VRAM), and its copy that does not."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.model = fails, object()

    def is_dynamic(self) -> bool:
        return True

    def clone(self, disable_dynamic: bool = False) -> Any:
        assert disable_dynamic
        if self.fails:
            raise RuntimeError("no cached patcher init")
        return SimpleNamespace(is_dynamic=lambda: False, model="whole")


class PagingClip:
    """A CLIP around such a patcher."""

    def __init__(self) -> None:
        self.patcher, self.cond_stage_model = Paging(), "paged"

    def clone(self, disable_dynamic: bool = False) -> Any:
        return SimpleNamespace(patcher=self.patcher.clone(disable_dynamic), cond_stage_model="paged")


def refused(run: Any) -> str:
    """The sentence of the BadModel that this raises."""
    try:
        run()
    except PACK["dci_core.errors"].BadModel as error:
        return str(error)
    raise AssertionError("no error")


def test_weights_that_the_host_pages_are_loaded_whole_in_a_copy() -> None:
    residence = PACK["nodes.host.ico.residence"]
    model, clip = residence.whole(Paging(), PagingClip())
    assert not residence.pages(model) and not residence.pages(clip.patcher)
    assert clip.cond_stage_model == "whole"  # that of the copy, not the paged one
    told = refused(lambda: residence.whole(Paging(fails=True), PagingClip()))
    assert "--disable-dynamic-vram" in told and told.count("; ") >= 2
    plain = worlds()[1], worlds()[2]
    assert residence.whole(*plain) == plain


@contextmanager
def loading(load: Any) -> Any:
    """The host's loader replaced for a while."""
    from comfy import model_management

    kept, model_management.load_models_gpu = model_management.load_models_gpu, load
    try:
        yield
    finally:
        model_management.load_models_gpu = kept


def test_a_full_load_is_asked_for_and_what_stays_elsewhere_is_told() -> None:
    residence, (_, model, clip) = PACK["nodes.host.ico.residence"], worlds()
    asked: list[dict[str, Any]] = []
    with loading(lambda models, **how: asked.append({"models": models, **how})):
        residence.load_whole(model, clip)
        assert asked == [{"models": [model, clip.patcher], "force_full_load": True}]
        for patcher, name in ((model, "MODEL"), (clip.patcher, "CLIP")):
            kept, patcher.load_device = patcher.load_device, torch.device("meta")
            try:
                told = refused(lambda: residence.load_whole(model, clip))
            finally:
                patcher.load_device = kept
            assert f"MiB of the {name} are not on meta" in told and "--novram" in told, told


@contextmanager
def started_with(flag: str) -> Iterator[None]:
    """The host as it is when started with `--lowvram` or `--novram` on a card."""
    from comfy import model_management

    kept = model_management.vram_state
    model_management.vram_state = model_management.VRAMState[{"lowvram": "LOW_VRAM", "novram": "NO_VRAM"}[flag]]
    try:
        yield
    finally:
        model_management.vram_state = kept


def test_the_hosts_own_loader_loads_whole_with_lowvram_and_its_novram_is_refused() -> None:
    residence = PACK["nodes.host.ico.residence"]
    with parts_on(DEVICE, DEVICE) as (model, clip, _), started_with("lowvram"):
        residence.load_whole(model, clip)
        for network in (model.model.diffusion_model, clip.patcher.model):
            assert {weight.device for weight in network.parameters()} == {DEVICE}
    with parts_on(DEVICE, DEVICE) as (model, clip, _), started_with("novram"):
        told = refused(lambda: residence.load_whole(model, clip))
        assert "--novram" in told and f"are not on {DEVICE}" in told, told
    with parts_on(CPU, CPU) as (model, clip, _), started_with("novram"):
        residence.load_whole(model, clip)  # on a CPU nothing is kept elsewhere


@slow
def test_training_started_with_lowvram_is_that_of_the_cpu() -> None:
    own, losses, _ = trained(CPU, CPU)
    with started_with("lowvram"):
        concept, there, _ = trained(DEVICE, DEVICE)
    assert torch.allclose(torch.tensor(there), torch.tensor(losses), rtol=1e-3) and same(concept, own, 2e-2)


def test_the_hosts_own_paging_patcher_gives_a_copy_that_pages_nothing() -> None:
    from comfy import model_patcher

    residence, made = PACK["nodes.host.ico.residence"], small_model()
    paging = getattr(model_patcher, "ModelPatcherDynamic", None)
    if paging is None:
        raise Absent("this host pages no weights")
    buffers = model_patcher.comfy_aimdo.host_buffer
    kept, buffers.HostBuffer = buffers.HostBuffer, lambda *_: None  # its library loads on a card alone
    try:
        patcher = paging(made.model, DEVICE, CPU)
    finally:
        buffers.HostBuffer = kept
    assert residence.pages(patcher)
    told = refused(lambda: residence.whole(patcher, worlds()[2]))
    assert "--disable-dynamic-vram" in told, told
    patcher.cached_patcher_init = (lambda disable_dynamic=False: small_model(seed=1), ())
    model, _ = residence.whole(patcher, worlds()[2])
    assert not residence.pages(model) and model.model is not patcher.model and model.load_device == DEVICE
