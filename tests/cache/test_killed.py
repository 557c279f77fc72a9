"""Writers that are killed at random moments; `python -m tests.soak.killing` does it 200 times."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS = 40


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("seed", [1, 2])
def test_writers_killed_at_random_moments_leave_whole_entries(folder: Path, seed: int) -> None:
    """No half entry is served, and the cache opens within a second, each time."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.killing", folder, f"--kills={KILLS}", f"--seed={seed}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{KILLS} kills")
    assert done.stderr == "", "the log is silent"
