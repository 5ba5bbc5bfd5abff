"""Nothing is damaged by kill -9; KILLS=50 in the environment asks for more of them than the usual few."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed trainings are forked")
def test_a_training_that_is_killed_at_any_point_leaves_good_files_and_never_goes_back(tmp_path: Path) -> None:
    script, kills = Path(__file__).with_name("killed_trainings.py"), int(os.environ.get("KILLS", "4"))
    paths = os.pathsep.join([str(script.parents[1]), str(script.parents[3])])
    there = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(script), str(tmp_path), str(kills), "5"]
    ran = subprocess.run(words, env=there, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    print("MEASURED", kills, "kills", found)
    assert found["steps"] == sorted(found["steps"]) and found["steps"][-1] > 0
    assert found["saved"] == sorted(found["saved"]) and len(found["saved"]) > 1
    assert found["left"] == ["stranger.safetensors", "x.safetensors", "x.training"]
