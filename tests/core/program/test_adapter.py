"""`adapter-train`: trains the tiny flow world's adapter, stops, goes on, shows a sheet, and refuses in one sentence."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dci_core.dynaip.adapter import Adapter, default_params
from dci_core.dynaip.adapter_file import load_adapter, read_training
from dci_core.dynaip.subject import Subject
from dci_core.dynaip.training import sheet
from dci_core.dynaip.training.settings import AdapterSettings
from dci_core.dynaip.training.sheet import check_pairs, draw_check, draw_pairs, measure
from dci_core.dynaip.training.state import new_adapter
from dci_core.program import adapter_course
from dci_core.program.bases import open_tiny
from dci_core.program.interrupt import Stop
from dci_core.program.main import main
from dci_core.tiny.flow.model import FlowModel
from dci_core.tiny.flow.vision import VisionTower
from dci_core.tiny.model import WEIGHTS
from dci_core.tiny.pairs import TinyPairs

from ..program_calls import sentence

pytestmark = pytest.mark.usefixtures("fresh_accelerate")

SMALL = ["--token-width", "16", "--expert-width", "16", "--expert-heads", "2", "--tokens", "2", "--router-width", "8"]


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights as the shipped one, transformer and vision tower random."""
    folder = tmp_path_factory.mktemp("flow")
    for name in ("codec", "text"):
        shutil.copy(WEIGHTS / f"{name}.safetensors", folder)
    save_file(FlowModel.random(3).mmdit.state_dict(), folder / "mmdit.safetensors")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(4)
        save_file(VisionTower().state_dict(), folder / "vision.safetensors")
    return folder


@pytest.fixture(autouse=True)
def short_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row, two steps."""
    monkeypatch.setattr(adapter_course, "SHEET_ROWS", 1)
    monkeypatch.setattr(sheet, "NUM_STEPS", 2)


def words(flow: Path, out: Path, *more: str, data: str = "tiny-world") -> list[str]:
    base = ["adapter-train", "--weights", str(flow), "--data", data, "--out", str(out), "--cpu", *SMALL]
    return [*base, "--steps", "4", "--batch", "2", "--sheet-every", "0", *more]


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def test_it_trains_saves_and_says_so(flow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.safetensors"
    assert main(words(flow, out, "--sheet-every", "2")) == 0
    assert "from tiny-world in 4 steps" in capsys.readouterr().out
    adapter = load_adapter(out, family="tiny_flow")
    assert isinstance(adapter, Adapter) and adapter.params.tokens == 2
    told = read_training(out)
    assert told["steps"] == 4 and told["batch"] == 2 and not any(str(tmp_path) in str(x) for x in told.values())
    sheets = sorted(tmp_path.glob("*.png"))
    assert [path.name for path in sheets] == ["a-step000002.png", "a-step000004.png"]
    with Image.open(sheets[0]) as drawn:
        assert drawn.width > 600 and len(drawn.getcolors(drawn.width * drawn.height)) > 1000
    assert not (tmp_path / "a.training.safetensors").exists()


def test_it_trains_on_from_an_adapter_and_takes_its_shape(
    flow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, more = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert main(words(flow, first, "--precision", "fp32")) == 0
    shaped = words(flow, more)
    at = shaped.index(SMALL[0])
    onward = [*shaped[:at], *shaped[at + len(SMALL) :], "--begin-from", str(first), "--precision", "fp32"]
    assert main([*onward, "--steps", "1", "--learning-rate", "1e-9"]) == 0
    begun, kept = weights_of(more), weights_of(first)
    assert begun.keys() == kept.keys()
    assert all(torch.allclose(x, kept[name], atol=1e-6) for name, x in begun.items())
    assert any(bool((x != kept[name]).any()) for name, x in begun.items())
    assert main([*shaped, "--begin-from", str(first), "--steps", "1"]) == 0  # the same shape, said again
    capsys.readouterr()
    assert main([*onward, "--tokens", "3", "--restart"]) == 2
    assert "a shape of its own" in sentence(capsys)


def test_stop_and_go_on_is_one_run_bit_for_bit(
    flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, halves = tmp_path / "straight.safetensors", tmp_path / "halves.safetensors"
    assert main(words(flow, straight)) == 0

    class StopAfterTwo(Stop):
        asks = 0

        @property
        def asked(self) -> bool:
            StopAfterTwo.asks += 1
            return StopAfterTwo.asks == 2

        @asked.setter
        def asked(self, value: bool) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(adapter_course, "gentle_stop", lambda: nullcontext(StopAfterTwo()))
        assert main(words(flow, halves)) == 130
    said = capsys.readouterr().err
    assert "stopped after step 2 of 4" in said and "--resume" in said
    assert not halves.exists() and (tmp_path / "halves.training.safetensors").exists()
    assert main(words(flow, halves)) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main(words(flow, halves, "--resume")) == 0
    one, two = weights_of(straight), weights_of(halves)
    assert one.keys() == two.keys() and all(torch.equal(x, two[name]) for name, x in one.items())


def test_a_folder_of_pairs_trains_too(flow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for pair in range(2):
        (tmp_path / "data" / "fish").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (90 * pair, 40, 0)).save(tmp_path / "data" / "fish" / f"{pair}.png")
        (tmp_path / "data" / "fish" / f"{pair}.txt").write_text("a fish in water")
    assert main(words(flow, tmp_path / "a.safetensors", data=str(tmp_path / "data"))) == 0
    assert "1 subjects, 2 pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--steps", "0"], "steps is 0"),
        (["--drop-text", "2"], "drop text is 2.0"),
        (["--save-every", "0"], "save every is 0"),
        (["--resume"], "no unfinished training"),
        (["--out", "a.png"], ".safetensors"),
        (["--base", "flux1-dev.safetensors"], "tiny or flux was expected"),
        (["--base", "flux"], "--vision (a CLIP model)"),
        (["--size", "512"], "the base tiny has no such choice"),
        (["--levels", "2", "9"], "rising levels"),
        (["--tokens", "0"], "1 or more each"),
        (["--data", "nowhere"], "cannot be read"),
        (["--weights", "nowhere"], "cannot be used"),
    ],
)
def test_bad_input_gets_one_sentence_and_nothing_is_written(
    more: list[str],
    expected: str,
    flow: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words(flow, tmp_path / "a.safetensors", *more)) == 2
    assert expected in sentence(capsys)
    assert list(tmp_path.iterdir()) == []


def test_other_settings_cannot_resume(flow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter_course, "finish_adapter", lambda *args: 0.0)  # the unfinished training stays
        assert main(words(flow, out)) == 0
    capsys.readouterr()
    for more, expected in ((["--ema", "0.5"], "ema is 0.5"), (["--tokens", "3"], "adapter's tokens is 3")):
        assert main(words(flow, out, "--resume", *more)) == 2
        assert expected in capsys.readouterr().err


def test_the_help_says_the_folder_s_layout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["adapter-train", "--help"])
    assert "one folder for each subject with 2 pictures or more" in capsys.readouterr().out


def test_the_sheet_shows_what_the_adapter_changes(flow: Path) -> None:
    base, pairs = open_tiny(flow, torch.device("cpu")), check_pairs(TinyPairs(), 1)
    adapter = new_adapter(default_params("tiny_flow"), 0)
    check = measure(base, adapter, pairs, AdapterSettings())
    assert check.losses[1.0] == check.losses[0.0] and check.entropy == pytest.approx(1, abs=1e-5)
    plain = draw_pairs(base, adapter, pairs, None)
    assert torch.equal(draw_pairs(base, adapter, pairs, Subject(text_scale=1.0)), plain)
    for name, parameter in adapter.named_parameters():
        if "to_v" in name:
            torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(draw_pairs(base, adapter, pairs, Subject(text_scale=1.0)), plain)
    changed = measure(base, adapter, pairs, AdapterSettings())
    assert changed.losses[1.0] != changed.losses[0.0]
    assert draw_check(base, adapter, pairs, "title", changed).size[0] > 600
