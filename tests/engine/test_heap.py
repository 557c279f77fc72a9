"""Memory that is needed again stays; what is free goes back to the system now and then."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from optidash_integrations.engine.heap import LEAST, Heap, function

FAULTS = """
import resource, sys
from optidash_integrations.engine.heap import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
def work():
    blocks = [bytes(256 * 1024) for _ in range(40)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
GLIBC = pytest.mark.skipif(function("mallopt") is None, reason="glibc's functions are not here")


def test_memory_is_given_back_after_so_many_bytes_of_pixels() -> None:
    calls: list[int] = []
    heap = Heap(calls.append, between=10 * LEAST)
    for _ in range(4):
        heap.count(3 * LEAST)
    assert calls == [0]
    heap.count(10 * LEAST)
    assert calls == [0, 0]


def test_small_pictures_count_too() -> None:
    calls: list[int] = []
    heap = Heap(calls.append, between=10 * LEAST)
    for _ in range(10):
        heap.count(1)
    assert calls == [0]


def test_where_memory_is_not_ours_to_give_back_nothing_happens() -> None:
    Heap(None, between=1).count(LEAST)


@GLIBC
def test_glibcs_function_can_be_called() -> None:
    trim = function("malloc_trim")
    assert trim is not None
    assert trim(0) in (0, 1)


def test_a_function_that_is_not_there_is_none() -> None:
    assert function("no_such_function_anywhere") is None


def faults(how: str, environment: dict[str, str]) -> int:
    """Return how many pages were fetched from the kernel for blocks that were there before."""
    found = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        env=os.environ | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return int(found.stdout)


@GLIBC
def test_blocks_of_images_are_fetched_from_the_kernel_once() -> None:
    assert faults("kept", {}) * 10 < faults("as ever", {})


@GLIBC
def test_what_the_environment_says_stays() -> None:
    said = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    assert faults("kept", said) * 2 > faults("as ever", said)
