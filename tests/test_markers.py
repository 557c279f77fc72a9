from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from optidash_integrations.errors import DeadlyImageError
from optidash_integrations.leases import FILE, LockFile, place_of
from optidash_integrations.markers import FOLDER, Markers

DIGEST, OTHER = "ab" * 32, "cd" * 32


def working(folder: Path, key: str, began: object) -> None:
    """Hold the lease of a key and a marker until somebody ends this process."""
    locks = LockFile(folder / FILE)
    assert locks.take(place_of(key))
    with Markers(locks).set(DIGEST, key):
        began.set()  # type: ignore[attr-defined]
        signal.pause()


def begun(folder: Path, key: str) -> multiprocessing.Process:
    context = multiprocessing.get_context("spawn")
    began = context.Event()
    process = context.Process(target=working, args=(folder, key, began), daemon=True)
    process.start()
    assert began.wait(30)
    return process


def killed(folder: Path, key: str) -> None:
    process = begun(folder, key)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def tried(folder: Path, key: str) -> None:
    """Work on the source here for a moment."""
    locks = LockFile(folder / FILE)
    assert locks.take(place_of(key))
    try:
        with Markers(locks).set(DIGEST, key):
            pass
    finally:
        locks.release(place_of(key))
        locks.close()


def markers_in(folder: Path) -> list[str]:
    return [path.name for path in (folder / FOLDER).iterdir()]


def test_what_ended_two_processes_is_not_tried_again(tmp_path: Path) -> None:
    killed(tmp_path, "one")
    killed(tmp_path, "two")
    with pytest.raises(DeadlyImageError, match="2 processes that worked on it came to their end"):
        tried(tmp_path, "three")


def test_what_ended_one_process_is_tried_once_more_and_then_forgiven(tmp_path: Path) -> None:
    killed(tmp_path, "one")
    tried(tmp_path, "one")
    assert markers_in(tmp_path) == []
    killed(tmp_path, "one")
    tried(tmp_path, "two")


def test_another_source_is_not_to_blame(tmp_path: Path) -> None:
    killed(tmp_path, "one")
    killed(tmp_path, "one")
    locks = LockFile(tmp_path / FILE)
    with Markers(locks).set(OTHER, "two"):
        pass
    locks.close()


def test_work_that_goes_on_tells_nothing(tmp_path: Path) -> None:
    process = begun(tmp_path, "one")
    try:
        for _ in range(3):
            tried(tmp_path, "two")
        assert markers_in(tmp_path) == [f"{DIGEST}.one"]
    finally:
        process.kill()
        process.join()


def test_a_process_that_ends_in_good_order_takes_its_markers_along(tmp_path: Path) -> None:
    locks = LockFile(tmp_path / FILE)
    markers = Markers(locks)
    with markers.set(DIGEST, "one"):
        assert markers_in(tmp_path) == [f"{DIGEST}.one"]
        markers.close()
        assert markers_in(tmp_path) == []
    locks.close()


def test_an_error_takes_its_marker_along(tmp_path: Path) -> None:
    locks = LockFile(tmp_path / FILE)
    with pytest.raises(ValueError, match="wrong"), Markers(locks).set(DIGEST, "one"):
        raise ValueError("wrong")
    assert markers_in(tmp_path) == []
    locks.close()


def test_without_a_folder_there_are_no_markers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with Markers(None).set(DIGEST, "one"):
        pass
    (tmp_path / FOLDER).write_text("a file")
    markers = Markers(LockFile(tmp_path / FILE))
    for _ in range(2):
        with markers.set(DIGEST, "one"):
            pass
    assert caplog.text.count("deadly images are not noticed") == 1
