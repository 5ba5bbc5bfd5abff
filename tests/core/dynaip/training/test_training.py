"""Adapter training: what learns, exact resume, processes, drops, refusals."""

from __future__ import annotations

import itertools
import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dci_core.attention.joint import BlockId, JointCall
from dci_core.attention.rows import TokenRows
from dci_core.dynaip.training.base import read_by
from dci_core.dynaip.training.checkpoint import load_training, save_training
from dci_core.dynaip.training.crew import Crew, make_crew
from dci_core.dynaip.training.drops import draw_chances
from dci_core.dynaip.training.lesson import Lesson, make_batch
from dci_core.dynaip.training.pairs import make, to_pixels
from dci_core.dynaip.training.settings import AdapterSettings, check_settings
from dci_core.dynaip.training.state import AdapterTraining, averaged, begin_training
from dci_core.dynaip.training.steps import AdapterReport, train_adapter
from dci_core.errors import BadConcept, BadSettings, PackError, TrainingDiverged

from .toy_flow import QUICK, ToyFlow, ToyPairs, steady, toy_adapter

BASE, PAIRS = ToyFlow(), ToyPairs()


@pytest.fixture
def crew() -> Iterator[Crew]:
    yield crew_of(QUICK)


def crew_of(settings: AdapterSettings) -> Crew:
    """A crew of its own: accelerate keeps one state for the whole process."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    return make_crew(bf16=settings.bf16, accumulation=settings.accumulation, is_cpu=True)


def begin(crew: Crew, settings: AdapterSettings = QUICK) -> AdapterTraining:
    return begin_training(BASE, toy_adapter(), PAIRS, settings, crew)


def run(training: AdapterTraining, crew: Crew, count: int | None = None) -> list[AdapterReport]:
    steps = train_adapter(BASE, PAIRS, training, crew)
    return list(steps if count is None else itertools.islice(steps, count))


def everything(training: AdapterTraining) -> dict[str, Tensor]:
    """All numbers of a training: parameters, average, moments."""
    found = {f"average.{name}": x for name, x in training.average.items()}
    for name, parameter in training.learned.items():
        found[name] = parameter.detach()
        found |= {f"{name}.{key}": x for key, x in training.optimiser.state[parameter].items()}
    return {name: x.clone() for name, x in found.items()}


def differences(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, x in one.items() if not torch.equal(x, other[name])]


def test_training_lowers_the_loss(crew: Crew) -> None:
    losses = [report.loss for report in run(begin(crew, replace(QUICK, steps=120)), crew)]
    assert sum(losses[-30:]) < 0.9 * sum(losses[:30])


def test_every_parameter_of_the_adapter_learns_and_nothing_else_has_a_gradient(crew: Crew) -> None:
    before = {name: x.clone() for name, x in BASE.weights.items()}
    training = begin(crew)
    start = {name: x.detach().clone() for name, x in training.learned.items()}
    run(training, crew)
    assert all(not torch.equal(start[name], x) for name, x in training.learned.items())
    assert all(torch.equal(before[name], x) and x.grad is None for name, x in BASE.weights.items())
    trained = {id(p) for group in training.optimiser.param_groups for p in group["params"]}
    assert trained == {id(p) for p in training.learned.values()} == {id(p) for p in training.lesson.parameters()}


def test_reports_count_and_tell_shares_that_sum_to_one(crew: Crew) -> None:
    reports = run(begin(crew), crew)
    assert [(report.step, report.steps) for report in reports] == [(i, 6) for i in range(1, 7)]
    assert all(sum(report.shares) == pytest.approx(1, abs=1e-5) and len(report.shares) == 2 for report in reports)


def test_two_runs_are_one_run_bit_for_bit(crew: Crew, tmp_path: Path) -> None:
    straight, half, resumed = begin(crew), begin(crew), begin(crew)
    run(straight, crew)
    run(half, crew, count=2)
    save_training(half, tmp_path / "kept.safetensors", crew)
    load_training(tmp_path / "kept.safetensors", resumed)
    assert resumed.step == 2 and list(resumed.losses) == list(half.losses)
    assert differences(everything(half), everything(resumed)) == []
    run(resumed, crew)
    assert resumed.step == 6 and list(resumed.losses) == list(straight.losses)
    assert differences(everything(straight), everything(resumed)) == []
    assert differences(everything(straight), everything(half)) != []


def test_a_training_that_is_left_goes_on_in_memory(crew: Crew) -> None:
    straight, left = begin(crew), begin(crew)
    run(straight, crew)
    for _ in range(3):
        run(left, crew, count=2)
    assert differences(everything(straight), everything(left)) == []


def test_passes_that_add_up_are_one_larger_pass() -> None:
    whole = replace(QUICK, batch=8, steps=3)
    parts = replace(QUICK, batch=2, accumulation=4, steps=3)
    found = []
    for settings in (whole, parts):
        crew = crew_of(settings)
        training = steady(begin(crew, settings))
        run(training, crew)
        found.append({name: x.detach().clone() for name, x in training.learned.items()})
    assert all(torch.allclose(found[0][name], x, atol=1e-5) for name, x in found[1].items())


def test_bfloat16_passes_change_the_numbers_and_leave_what_is_learned_in_float32(crew: Crew) -> None:
    plain = begin(crew)
    run(plain, crew)
    settings = replace(QUICK, bf16=True)
    halves = crew_of(settings)
    training = begin(halves, settings)
    losses = [report.loss for report in run(training, halves)]
    assert {x.dtype for x in everything(training).values()} == {torch.float32}
    assert losses == pytest.approx(list(plain.losses), rel=0.05) and losses != list(plain.losses)


def test_the_average_lags_behind_and_is_what_is_kept(crew: Crew) -> None:
    training = begin(crew, replace(QUICK, ema=0.9))
    naive = {name: x.detach().clone() for name, x in training.learned.items()}
    for report in train_adapter(BASE, PAIRS, training, crew):
        keep = min(0.9, (1 + report.step) / (10 + report.step))
        for name, x in training.learned.items():
            naive[name] = keep * naive[name] + (1 - keep) * x.detach()
    kept = dict(averaged(training).named_parameters())
    for name, x in training.learned.items():
        assert torch.allclose(kept[name], naive[name], atol=1e-6) and not torch.equal(kept[name], x)


def test_a_batch_without_readers_gives_zero_gradients_and_one_with_readers_others(crew: Crew) -> None:
    adapter = toy_adapter()
    lesson = Lesson(adapter, BASE)
    for share, has_gradient in ((1.0, False), (0.0, True)):
        settings = replace(QUICK, drop_image=share)
        batch = make_batch(BASE, make(PAIRS, range(4), 1, 0.0), range(4), settings, crew.device)
        lesson.zero_grad()
        lesson(batch)[0].backward()
        assert all(p.grad is not None for p in adapter.parameters())
        assert any(bool(p.grad.any()) for p in adapter.parameters()) is has_gradient


def test_an_untrained_adapter_gives_the_base_s_own_loss(crew: Crew) -> None:
    settings = replace(QUICK, drop_image=0.0)
    batch = make_batch(BASE, make(PAIRS, range(4), 1, 0.0), range(4), settings, crew.device)
    plain = (BASE.velocity(batch.x, batch.t, batch.text) - batch.target).square().mean()
    adapter = toy_adapter()
    assert torch.equal(Lesson(adapter, BASE)(batch)[0], plain)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(Lesson(adapter, BASE)(batch)[0], plain)


def test_noise_and_clean_latents_are_mixed_by_the_time(crew: Crew) -> None:
    batch = make_batch(BASE, make(PAIRS, range(4), 1, 0.0), range(4), QUICK, crew.device)
    clean = BASE.latents(to_pixels([pair.target for pair in make(PAIRS, range(4), 1, 0.0)]))
    at = batch.t[:, None, None, None]
    noise = batch.target + clean
    assert torch.allclose(batch.x, (1 - at) * clean + at * noise, atol=1e-6)
    assert noise.std() == pytest.approx(1, abs=0.2)


def test_rows_that_drop_the_image_do_not_read() -> None:
    reads, seen = torch.tensor([1.0, 0.0]), list[Tensor]()
    call = JointCall(torch.zeros(2, 1, 1, 1), TokenRows.image_only(1), BlockId("double", 0), (1, 1), torch.ones(2))
    read_by(lambda call: seen.append(call.reads), reads)(call)
    assert torch.equal(seen[0], reads)


def test_drops_come_at_their_rates_apart_and_independently_of_all_else() -> None:
    settings = AdapterSettings(drop_image=0.05, drop_text=0.1, drop_both=0.15)
    rows = [draw_chances(place, (1,), settings) for place in range(20_000)]
    counts = {(reads, words): 0 for reads in (True, False) for words in (True, False)}
    for row in rows:
        counts[row.reads, row.has_words] += 1
    for key, share in {(False, True): 0.05, (True, False): 0.1, (False, False): 0.15, (True, True): 0.7}.items():
        spread = math.sqrt(share * (1 - share) / len(rows))
        assert abs(counts[key] / len(rows) - share) < 4 * spread
    dropped = torch.tensor([float(not row.reads) for row in rows])
    for other in ([row.uniform for row in rows], [float(row.noise) for row in rows], dropped.roll(1).tolist()):
        assert abs(float(torch.corrcoef(torch.stack([dropped, torch.tensor(other)]))[0, 1])) < 4 / math.sqrt(len(rows))


def test_rows_read_the_picture_that_they_draw_at_the_asked_rate_and_nothing_else_changes(crew: Crew) -> None:
    share, rows = 0.3, range(5_000)
    plain, own = ([draw_chances(i, (1,), s) for i in rows] for s in (QUICK, replace(QUICK, same_picture=share)))
    assert not any(row.reads_own for row in plain)
    assert [replace(row, reads_own=False, noise=0) for row in own] == [replace(row, noise=0) for row in plain]
    rate = sum(row.reads_own for row in own) / len(rows)
    assert abs(rate - share) < 4 * math.sqrt(share * (1 - share) / len(rows))
    pairs = make(PAIRS, range(4), 1, 0.0)
    for settings, name in ((QUICK, "reference"), (replace(QUICK, same_picture=1.0), "target")):
        batch = make_batch(BASE, pairs, range(4), settings, crew.device)
        expected = BASE.states(to_pixels([getattr(pair, name) for pair in pairs]))
        assert all(torch.equal(x, y) for x, y in zip(batch.states, expected, strict=True))


def test_the_chance_of_a_row_is_the_same_however_often_it_is_drawn() -> None:
    first, again, other = (draw_chances(place, (2, 2), QUICK) for place in (5, 5, 6))
    assert torch.equal(first.noise, again.noise) and first.uniform == again.uniform
    assert not torch.equal(first.noise, other.noise) and first.uniform != other.uniform


def test_times_are_shifted_towards_noise_where_that_is_asked_for() -> None:
    places = QUICK.places(0, 0)
    pairs = [PAIRS.pair(place, 1, 0.0) for place in places]
    settings = [replace(QUICK, noise_shift=shift) for shift in (1.0, 3.0)]
    usual, late = (make_batch(BASE, pairs, places, one, torch.device("cpu")).t for one in settings)
    assert torch.allclose(late, 3 * usual / (1 + 2 * usual)) and bool((late > usual).all())


def test_a_diverged_training_keeps_the_state_before_the_bad_step(crew: Crew) -> None:
    training = begin(crew)
    run(training, crew, count=1)
    before = everything(training)
    broken = ToyFlow(weights={**BASE.weights, "out": BASE.weights["out"] * math.inf})
    with pytest.raises(TrainingDiverged, match="step 2"):
        next(train_adapter(broken, PAIRS, _on(training, broken), crew))
    assert training.step == 1 and differences(before, everything(training)) == []


def _on(training: AdapterTraining, base: ToyFlow) -> AdapterTraining:
    training.lesson = Lesson(training.adapter, base)
    return training


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"batch": 8}, "batch is 8; 4 was expected"),
        ({"learning_rate": 1e-3}, "learning rate is 0.001"),
        ({"drop_text": 0.3}, "drop text is 0.3"),
        ({"seed": 1}, "seed is 1"),
    ],
)
def test_other_settings_cannot_resume(change: dict[str, float], expected: str, crew: Crew, tmp_path: Path) -> None:
    save_training(begin(crew), tmp_path / "kept.safetensors", crew)
    with pytest.raises(BadSettings, match=expected):
        load_training(tmp_path / "kept.safetensors", begin(crew, replace(QUICK, **change)))  # type: ignore[arg-type]


def test_more_steps_may_follow_a_constant_schedule_but_not_a_cosine(crew: Crew, tmp_path: Path) -> None:
    kept = tmp_path / "kept.safetensors"
    save_training(begin(crew), kept, crew)
    load_training(kept, begin(crew, replace(QUICK, steps=9)))
    save_training(begin(crew, replace(QUICK, schedule="cosine")), kept, crew)
    with pytest.raises(BadSettings, match="steps is 9"):
        load_training(kept, begin(crew, replace(QUICK, schedule="cosine", steps=9)))


def test_another_base_other_pictures_and_a_damaged_file_cannot_resume(crew: Crew, tmp_path: Path) -> None:
    kept = tmp_path / "kept.safetensors"
    training = begin(crew)
    run(training, crew, count=1)
    save_training(training, kept, crew)
    other = ToyFlow(weights={**BASE.weights, "in": BASE.weights["in"] + 1})
    with pytest.raises(BadSettings, match="base has other weights"):
        load_training(kept, begin_training(other, toy_adapter(), PAIRS, QUICK, crew))
    with pytest.raises(BadSettings, match="pictures or captions differ"):
        load_training(kept, begin_training(BASE, toy_adapter(), ToyPairs("others"), QUICK, crew))
    with pytest.raises(BadSettings, match="other pictures came"):
        next(train_adapter(BASE, ToyPairs("others"), training, crew))
    kept.write_bytes(kept.read_bytes()[:-10])
    with pytest.raises(BadConcept, match="cut short"):
        load_training(kept, begin(crew))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": math.nan}, "learning rate is nan"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"drop_image": 1.2}, "drop image is 1.2"),
        ({"drop_image": 0.5, "drop_both": 0.6}, "add up to 1.15"),
        ({"same_picture": 1.5}, "same picture is 1.5"),
        ({"schedule": "linear"}, "schedule is linear"),
    ],
)
def test_a_bad_setting_gets_one_sentence(change: dict[str, float], expected: str) -> None:
    with pytest.raises(PackError, match=expected):
        check_settings(replace(AdapterSettings(), **change))  # type: ignore[arg-type]


def test_a_batch_that_processes_cannot_share_evenly_is_refused() -> None:
    check_settings(AdapterSettings(batch=6), processes=3)
    with pytest.raises(BadSettings, match="use a multiple of 4"):
        check_settings(AdapterSettings(batch=6), processes=4)


def run_processes(count: int, out: Path, *words: str) -> None:
    """Runs adapter_workers.py as so many processes, the way a launcher does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    script = str(Path(__file__).with_name("adapter_workers.py"))
    paths = os.pathsep.join([str(Path(__file__).parents[4]), *filter(None, sys.path)])
    there = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    there |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    running = [
        subprocess.Popen([sys.executable, script, str(out), *words], env={**there, "RANK": rank, "LOCAL_RANK": rank})
        for rank in map(str, range(count))
    ]
    assert [process.wait(timeout=240) for process in running] == [0] * count


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_two_processes_with_half_the_batch_each_equal_one(kind: str, crew: Crew, tmp_path: Path) -> None:
    run_processes(2, tmp_path / "two.safetensors", kind)
    alone = steady(begin(crew))
    run(alone, crew)
    save_training(alone, tmp_path / "one.safetensors", crew)
    one, two = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.allclose(x, two[name], atol=2e-5) for name, x in one.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_a_training_of_two_processes_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    run_processes(2, tmp_path / "straight.safetensors", kind)
    run_processes(2, tmp_path / "halves.safetensors", kind, "3")
    run_processes(2, tmp_path / "halves.safetensors", kind, "resume")
    one, two = (load_file(tmp_path / f"{name}.safetensors") for name in ("straight", "halves"))
    assert all(torch.equal(x, two[name]) for name, x in one.items())
