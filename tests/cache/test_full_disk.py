"""A disk that fills up in the middle of a write: images are served all the same.

Files that may not grow stand in for it everywhere; where the kernel lets us mount a small file
system, as root or in a name space of our own, it is really full.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cache.filling import BODY

ROOT = Path(__file__).parents[2]
SMALL = 'mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@"'
SPACES = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])

# A body is cut, or nothing can be written at all, so that the index fails first.
CUT, NOTHING = 100_000, 0


def report_of(command: list[str], folder: Path, how: str, size: int) -> dict[str, Any]:
    program = [sys.executable, "-m", "tests.cache.filling", str(folder), how, str(size)]
    done = subprocess.run([*command, *program], cwd=ROOT, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> list[str]:
    """Return the beginning of a command that has a file system of 3 MiB at `tmp_path`."""
    for space in SPACES:
        command = [*space, "sh", "-c", SMALL, str(tmp_path)]
        if shutil.which("unshare") and not subprocess.run([*command, "true"]).returncode:
            return command
    pytest.skip("this system lets us mount nothing")


def check_it_goes_on(report: dict[str, Any]) -> None:
    """Everything is answered; the log has a line a minute; nothing half stays; it recovers."""
    assert (report["before"], report["quiet"]) == ([BODY] * 3, [])
    assert report["full"] == [BODY] * 30
    assert len(report["lines"]) == 3, "two and a half minutes have passed"
    assert all("nothing can be stored in the cache folder" in line for line in report["lines"])
    assert (report["held"]["left"], report["held"]["half"]) == (0, 0)
    assert report["held"]["variants"] == 3, "what was there is read, by a new process, too"
    assert (report["after"], report["silent"]) == ([BODY] * 3, [])
    last = report["at last"]
    assert (last["left"], last["half"], last["uncounted"]) == (0, 0, 0)
    assert report["index"] == "ok"


@pytest.mark.parametrize("size", [150_000, 10_000])
def test_files_that_cannot_grow_cost_nobody_an_image(tmp_path: Path, size: int) -> None:
    pytest.importorskip("resource")
    report = report_of([], tmp_path, "rlimit", size)
    check_it_goes_on(report)
    assert report["at last"]["variants"] >= 3


@pytest.mark.parametrize("left", [CUT, NOTHING])
def test_a_full_disk_costs_nobody_an_image(
    tmp_path: Path, on_a_small_disk: list[str], left: int
) -> None:
    report = report_of(on_a_small_disk, tmp_path, "filler", left)
    check_it_goes_on(report)
    assert "No space left on device" in report["lines"][0] or "is full" in report["lines"][0]
    assert report["held"]["uncounted"] == 0
    assert report["purged"] >= 3, "what is purged makes room"
    assert report["at last"]["variants"] == 3
