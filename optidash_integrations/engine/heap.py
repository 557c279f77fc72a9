"""Giving memory back to the system.

libvips takes and frees large blocks in many threads. glibc keeps what was freed, in a heap for
each thread, and after thousands of pictures of many sizes that is as much as is in use.
"""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Trim = Callable[[int], object]

BETWEEN = 256 * 1024 * 1024
"""Bytes of pixels after which what is free is given back."""

LEAST = 1024 * 1024
"""What a picture counts at least: small ones leave holes as well."""


def found() -> Trim | None:
    """Return glibc's `malloc_trim`; None where the C library has no such function."""
    try:
        trim: Trim = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):
        return None
    return trim


class Heap:
    """Counts the pixels worked on, and lets `trim` give free memory back now and then."""

    def __init__(self, trim: Trim | None, between: int = BETWEEN) -> None:
        self.trim = trim
        self.between = between
        self.lock = threading.Lock()
        self.since = 0

    def count(self, size: int) -> None:
        """Count a picture of `size` bytes that is about to be worked on."""
        if self.trim is None:
            return
        with self.lock:
            self.since += max(size, LEAST)
            if self.since < self.between:
                return
            self.since = 0
        self.trim(0)


HEAP = Heap(found())
