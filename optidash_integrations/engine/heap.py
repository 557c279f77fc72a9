"""How this process deals with memory: what pictures need stays, what they leave goes.

The blocks of a picture are large enough for glibc to fetch each from the kernel anew, page by page,
which takes a twentieth of the time that a photograph does. Told to keep them, it keeps as much
again in a heap for each of libvips' threads; so there is one heap, and now and then what is free of
it goes back to the system. Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Trim = Callable[[int], object]

MIB = 1024 * 1024

# Parameters of glibc's mallopt (malloc.h), with what is said by them and by which variables of the
# environment somebody else may have said it.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8

KEPT = 64 * MIB
"""So much free memory is kept at the end of the heap: what pictures of 10 megapixels need."""

SINGLE = 32 * MIB
"""What is larger is given back at once; glibc takes no larger number."""

WISHES = (
    (MMAP_THRESHOLD, SINGLE, "MALLOC_MMAP_THRESHOLD_"),
    (TRIM_THRESHOLD, KEPT, "MALLOC_TRIM_THRESHOLD_"),
    (ARENA_MAX, 1, "MALLOC_ARENA_MAX"),
)

BETWEEN = 256 * MIB
"""Bytes of pixels after which what is free is given back."""

LEAST = MIB
"""What a picture counts at least: small ones leave holes as well."""


def keep_memory() -> bool:
    """Keep some memory that is freed, instead of giving it back; return whether that can be said.

    What the environment says of it (`MALLOC_ARENA_MAX`, `GLIBC_TUNABLES` …) stays.
    """
    mallopt = function("mallopt")
    if mallopt is None:
        return False
    if "GLIBC_TUNABLES" not in os.environ:
        for parameter, value, variable in WISHES:
            if variable not in os.environ:
                mallopt(parameter, value)
    return True


def function(name: str) -> Callable[..., object] | None:
    """Return a function of the C library; None where it has none of that name."""
    try:
        found: Callable[..., object] = getattr(ctypes.CDLL(None), name)
    except (OSError, TypeError, AttributeError):
        return None
    return found


class Heap:
    """Counts the pixels worked on, and lets `trim` give free memory back now and then."""

    def __init__(self, trim: Trim | None, between: int = BETWEEN) -> None:
        self.trim = trim
        self.between = between
        self.lock = threading.Lock()
        self.since = 0

    def count(self, size: int) -> None:
        """Count a picture of `size` bytes that was worked on."""
        if self.trim is None:
            return
        with self.lock:
            self.since += max(size, LEAST)
            if self.since < self.between:
                return
            self.since = 0
        self.trim(0)


HEAP = Heap(function("malloc_trim"))
