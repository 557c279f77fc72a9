"""Memory that is used again and again stays with the process."""

from __future__ import annotations

import ctypes

MIB = 1024 * 1024

# Parameters of glibc's mallopt (malloc.h).
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3

KEPT = 64 * MIB
"""So much free memory is kept at the most; it is what pictures of 10 megapixels need."""

SINGLE = 32 * MIB
"""What is larger is given back at once; glibc takes no larger number."""


def keep_memory() -> bool:
    """Keep some memory that is freed, instead of giving it back; return whether that can be said.

    The blocks of uploads and pictures are large enough for glibc to fetch each from the kernel
    anew, page by page, which takes a tenth of the time that a picture of 3 megapixels does. Other
    C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(MMAP_THRESHOLD, SINGLE)) and bool(mallopt(TRIM_THRESHOLD, KEPT))
