"""Free memory goes back to the system now and then."""

from __future__ import annotations

import sys

import pytest

from optidash_integrations.engine.heap import LEAST, Heap, found


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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_glibcs_function_is_found_and_can_be_called() -> None:
    trim = found()
    if trim is None:
        pytest.skip("this C library has no malloc_trim")
    assert trim(0) in (0, 1)
