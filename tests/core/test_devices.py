"""On an accelerator: all tensors where they belong, and the CPU waits once a sampling step, twice a training step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dci_core.concept.apply import apply_concept
from dci_core.concept.learned import Concept
from dci_core.dci.branches import DciSettings
from dci_core.dci.run import SampleSettings, sample_latents
from dci_core.devices import moved
from dci_core.dynaip.adapter_file import load_adapter
from dci_core.dynaip.decoupled import image_prompt_rule
from dci_core.dynaip.reference import prepare_reference
from dci_core.dynaip.subject import Subject
from dci_core.ico.checkpoint import load_state, save_state
from dci_core.ico.data import TrainingData
from dci_core.ico.result import make_concept
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import TrainState, begin_training, parameters_by_name
from dci_core.ico.train import train_steps
from dci_core.text.prompts import Prompts
from dci_core.text.tokens import PromptPair
from dci_core.tiny.flow.model import FlowModel, FlowWorld, load_flow_world
from dci_core.tiny.flow.sampling import FlowSettings, sample_flow
from dci_core.tiny.model import WEIGHTS, TinyModel, load_tiny_world
from dci_core.tiny.world.words import RARE_WORDS

from .accelerator import CPU, DEVICE, Accelerator, OnDevice, numbers

SETTINGS = IcoSettings(steps=2, batch=2, learning_rate=1e-3)
LATENTS = torch.randn(3, 2, 8, 16, 16, generator=torch.Generator().manual_seed(1))
WAITS_A_TRAINING_STEP, WAITS_A_SAMPLING_STEP = 2, 1


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    with Accelerator() as device:
        yield device


@cache
def tiny() -> TinyModel:
    return load_tiny_world().model


@cache
def flow() -> FlowWorld:
    return load_flow_world()


def on(device: torch.device, part: nn.Module) -> nn.Module:
    return part if device == CPU else copy.deepcopy(part).to(device)


def split(text: torch.device, unet: torch.device) -> TinyModel:
    """The tiny world with its parts on these devices."""
    return TinyModel(on(text, tiny().text), on(unet, tiny().unet))


def rare(model: TinyModel) -> dict[str, list[int]]:
    return {name: [words.tokenize(word)[0] for word in RARE_WORDS] for name, words in model.encoders.items()}


def begin(model: TinyModel, settings: IcoSettings = SETTINGS, device: torch.device = DEVICE) -> TrainState:
    return begin_training(model, data_on(device), settings, noun="fish", rare_tokens=rare(model), device=device)


def data_on(device: torch.device) -> TrainingData:
    return TrainingData(LATENTS.to(device), masks=torch.rand(3, 2, 1, 16, 16).to(device), pixels_hash="pictures")


def difference(one: TrainState, other: TrainState) -> float:
    """The largest relative difference of their parameters."""
    pairs = zip(parameters_by_name(one).values(), parameters_by_name(other).values(), strict=True)
    return max(float((numbers(a) - numbers(b)).norm() / numbers(b).norm().clamp(min=1e-9)) for a, b in pairs)


def settings_of(**changes: object) -> IcoSettings:
    return replace(SETTINGS, **changes)


CASES = {
    "everything on the device": (DEVICE, DEVICE, {}),
    "text encoder on the CPU": (CPU, DEVICE, {}),
    "U-Net on the CPU": (DEVICE, CPU, {}),
    "several passes, clipped": (CPU, DEVICE, {"accumulation": 2, "clip_norm": 0.05}),
    "low rank, no prior": (DEVICE, DEVICE, {"rank": 4, "prior": "none"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_training_is_that_of_the_cpu_and_waits_twice_a_step(case: str, accelerator: Accelerator) -> None:
    text, unet, changes = CASES[case]
    settings, masks = settings_of(**changes), torch.rand(3, 2, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    here, there = (TrainingData(LATENTS.to(d), masks.to(d), pixels_hash="pictures") for d in (CPU, unet))
    model = split(text, unet)
    own = begin_training(tiny(), here, settings, noun="fish", rare_tokens=rare(tiny()))
    state = begin_training(model, there, settings, noun="fish", rare_tokens=rare(model), device=unet)
    list(train_steps(tiny(), here, own))
    steps = train_steps(model, there, state)
    next(steps)  # also encodes the prior's captions, and copies tables
    accelerator.taken()
    for _ in steps:
        told = accelerator.told()
        waits, launches = accelerator.taken()
        reads_pooled = unet == CPU  # hidden states and pooled vector are copied to it one after the other
        assert waits <= WAITS_A_TRAINING_STEP + settings.accumulation - 1 + reads_pooled, told
        assert launches > 100
    assert state.losses == pytest.approx(own.losses, rel=1e-3)
    assert difference(state, own) < 2e-3
    assert {p.device.type for p in state.learned.deltas.parameters()} == {unet.type}
    assert {p.device.type for p in state.learned.text.parameters()} == {text.type}


@pytest.mark.slow
def test_the_first_gradients_are_those_of_the_cpu(accelerator: Accelerator) -> None:
    found = []
    for device in (CPU, DEVICE):
        state = begin(split(device, device), settings_of(learning_rate=1e-30, context_factor=1.0), device)
        next(train_steps(split(device, device), replace(data_on(device), masks=None), state))
        moments = [state.optimiser.state[p]["exp_avg"] for p in state.learned.parameters()]
        found.append(torch.cat([numbers(m).flatten() for m in moments]))
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 1e-5


@pytest.mark.slow
def test_a_training_goes_from_one_device_to_the_other_through_its_file(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    data, model = replace(data_on(DEVICE), masks=None), split(DEVICE, DEVICE)
    straight = begin(model)
    list(train_steps(model, data, straight))
    state = begin(model)
    next(train_steps(model, data, state))
    save_state(state, tmp_path / "training")
    for device in (DEVICE, CPU):
        there = split(device, device)
        again = load_state(
            tmp_path / "training", there, data, SETTINGS, noun="fish", rare_tokens=rare(there), device=device
        )
        list(train_steps(there, replace(data, latents=LATENTS.to(device)), again))
        assert difference(again, straight) < (1e-6 if device == DEVICE else 2e-3)
    concept = make_concept(straight, trigger="zorp")
    assert not any(isinstance(x, OnDevice) for delta in concept.deltas.values() for part in delta for x in part)


@cache
def concept() -> Concept:
    data = TrainingData(LATENTS)
    state = begin_training(tiny(), data, SETTINGS, noun="fish", rare_tokens=rare(tiny()))
    list(train_steps(tiny(), data, state))
    return make_concept(state, trigger="zorp")


def prompts_of(model: TinyModel) -> Prompts:
    words = model.encoders["clip_l"]
    pair = PromptPair.from_template(
        "a {concept} in the snow", trigger="zorp", noun="fish", auxiliary="house", encoder=words
    )
    return Prompts.from_pair(model, pair)


RUNS: dict[str, tuple[DciSettings | None, SampleSettings, bool]] = {
    "plain": (None, SampleSettings(5), False),
    "plain, fresh noise": (None, SampleSettings(5, eta=1.0), False),
    "shared": (DciSettings(window=0.6), SampleSettings(5), False),
    "separate, fresh noise": (DciSettings(window=0.6, guidance="separate"), SampleSettings(5, eta=0.5), False),
    "one auxiliary": (DciSettings(window=0.6, guidance="separate", one_auxiliary=True), SampleSettings(5), False),
    "maps recorded": (DciSettings(window=0.6, guidance="aligned"), SampleSettings(5, sampler="dpmpp_2m"), True),
    "region": (DciSettings(window=0.6, region=torch.ones(16, 16).tril()), SampleSettings(5), False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_that_of_the_cpu_and_waits_once_a_step(name: str, accelerator: Accelerator) -> None:
    dci, settings, records = RUNS[name]

    def sample(device: torch.device, on_step: Callable[..., None] | None = None) -> Tensor:
        model = apply_concept(split(device, device), concept())
        with torch.no_grad():
            return sample_latents(
                model, prompts_of(model), seeds=[1, 2], settings=settings, dci=dci, records_weights=records,
                on_step=on_step,
            ).concept  # fmt: skip

    waits: list[tuple[int, str]] = []

    def count(step: object) -> None:
        told = accelerator.told()
        waits.append((accelerator.taken()[0], told))

    mine, theirs = sample(CPU), sample(DEVICE, count)
    assert isinstance(theirs, OnDevice)
    assert float((numbers(theirs) - mine).norm() / mine.norm()) < 1e-3
    after_first = (
        waits[1:] if dci is None else waits[1:3] + waits[4:]
    )  # before step 3 the window closes: other rows begin
    assert all(count <= WAITS_A_SAMPLING_STEP for count, _ in after_first), waits


@pytest.mark.slow
def test_an_image_prompt_runs_there_and_waits_once_a_step(accelerator: Accelerator) -> None:
    picture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(3))
    waits: list[tuple[int, str]] = []

    def count(step: object) -> None:
        told = accelerator.told()
        waits.append((accelerator.taken()[0], told))

    def sample(device: torch.device, on_step: Callable[..., None] | None = None) -> Tensor:
        model = FlowModel(on(device, flow().model.text), on(device, flow().model.mmdit))
        with torch.no_grad():
            states = on(device, flow().vision).states(picture.to(device))
            reference = prepare_reference(on(device, adapter), states)
        rule = image_prompt_rule([reference.kvs], [Subject(region=torch.ones(16, 16).tril())])
        return sample_flow(model, ["a fish in the snow"], seeds=[1, 2], settings=FlowSettings(3), rule=rule,
                           on_step=on_step)  # fmt: skip

    accelerator.__exit__(None, None, None)  # the file is read over `meta`, as torch means it
    adapter = load_adapter(WEIGHTS / "adapter.safetensors", family="tiny_flow").float()
    accelerator.__enter__()
    mine, theirs = sample(CPU), sample(DEVICE, count)
    assert float((numbers(theirs) - mine).norm() / mine.norm()) < 1e-3
    assert all(count <= WAITS_A_SAMPLING_STEP for count, _ in waits[1:]), waits


def test_a_mixture_of_devices_is_refused_and_waits_are_counted(accelerator: Accelerator) -> None:
    x, here = torch.ones(2, 2, device=DEVICE), torch.ones(2, 2)
    for mix in (
        lambda: x + here,
        lambda: x @ here,
        lambda: torch.cat([x, here]),
        lambda: x.copy_(here).addcmul_(x, here),
    ):
        with pytest.raises(RuntimeError, match="same device"):
            mix()
    accelerator.taken()
    assert x.mul(torch.tensor(2.0)).sum().item() == 8.0  # one number of the CPU is welcome
    assert accelerator.taken()[0] == 1
    assert torch.tensor([1, 2], device=DEVICE).tolist() == [1, 2]
    assert accelerator.taken()[0] == 2
    x[torch.tensor([0])], x[x > 0], x.nonzero(), x.cpu(), x.to(CPU, non_blocking=True)
    assert accelerator.taken()[0] == 5
    here.to(DEVICE, non_blocking=True), x.view(4), x.T
    assert accelerator.taken()[0] == 0


def test_a_moved_tensor_takes_its_gradient_back(accelerator: Accelerator) -> None:
    for start, end in ((CPU, DEVICE), (DEVICE, CPU)):
        x = torch.ones(3, device=start, requires_grad=True)
        accelerator.taken()
        (gradient,) = torch.autograd.grad((moved(x, end) * 2).sum(), [x])
        assert gradient.device == start and numbers(gradient).tolist() == [2.0] * 3
        assert accelerator.taken()[0] == 1
    assert moved(x, DEVICE) is x
