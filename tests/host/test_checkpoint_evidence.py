"""`checkpoint-evidence` from end to end: a real server, a random SD 1.5, random encoders, two subjects."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dci_core.program.main import main
from dci_core.studies.served.study import SETTINGS
from tests.core.encoder_folders import clip_folder, dino_folder

sys.path.insert(0, str(Path(__file__).parent))
from hosts import INSIDE, Host, find_hosts
from serving import serving

sys.path.pop(0)

LISTING = """subject_name,class
dog,dog
sofa2,sofa

Prompts

Object Prompts
'a {0} {1} in the snow'.format(unique_token, class_token),

Live Subject Prompts
'a {0} {1} on the sofa'.format(unique_token, class_token),
"""
WRITE = """
import sys
from pathlib import Path
_, inside, host, place = sys.argv
sys.path.insert(0, inside)
import run
run.start_host(host)
sys.path.append(inside)
import fullsize
fullsize.write_checkpoint(fullsize.KINDS["sd15"], Path(place))
"""

pytestmark = [pytest.mark.host, pytest.mark.slow]


@pytest.mark.parametrize("host", find_hosts(), ids=lambda host: host.name)
def test_two_subjects_on_a_random_sd15(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if reason := host.absence():
        pytest.skip(reason)
    base, out = tmp_path / "served", tmp_path / "out"
    clip_folder(tmp_path / "clip")
    dino_folder(tmp_path / "dino")
    for seed, name in enumerate(("dog", "sofa2")):
        draw(tmp_path / "set" / name, seed)
    (tmp_path / "set" / "prompts_and_classes.txt").write_text(LISTING, encoding="utf-8")
    with serving(host, base) as server:
        checkpoints = base / "models" / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        write_sd15(host, checkpoints / "random.safetensors")
        words = ["checkpoint-evidence", "--server", server.address, "--checkpoint", "random.safetensors", "--json"]
        words += ["--data", str(tmp_path / "set"), "--clip", str(tmp_path / "clip"), "--dino", str(tmp_path / "dino")]
        words += ["--out", str(out), "--device", "cpu", "--size", "128", "--steps", "4", "--num-steps", "2"]
        assert main(words) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["subjects"] == ["dog", "sofa2"] and set(summary["settings"]) == {one.name for one in SETTINGS}
    pictures = [np.asarray(Image.open(path)) for path in sorted((out / "pictures" / "dog").rglob("*.png"))]
    assert len(pictures) == len(SETTINGS) and all(picture.shape == (128, 128, 3) for picture in pictures)
    # Of two steps a window covers one, so four windows are alike, and four swaps; 63% and 81% of four steps are three.
    assert len({picture.tobytes() for picture in pictures}) == len(SETTINGS) - 3 - 3 - 1
    names = {path.name for path in (base / "models" / "ico_concepts" / "ico_study").iterdir()}
    assert {f"{name}-{steps}.safetensors" for name in ("dog", "sofa2") for steps in (1, 2, 3, 4)} == names


def write_sd15(host: Host, path: Path) -> None:
    """A checkpoint of SD 1.5's shape, written by the host's own classes."""
    command = [str(host.python), "-c", WRITE, str(INSIDE), str(host.folder), str(path)]
    subprocess.run(command, cwd=host.folder, check=True, capture_output=True)


def draw(folder: Path, seed: int) -> None:
    """Two flat pictures with a square in them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for name in ("1.png", "2.png"):
        pixels = np.full((160, 160, 3), rng.integers(0, 255, 3), dtype=np.uint8)
        pixels[40:120, 40:120] = rng.integers(0, 255, 3)
        Image.fromarray(pixels).save(folder / name)
