"""Starting libvips, once a process, and turning its errors into ours.

Importing this module sets libvips up for pictures from strangers: no operation cache, and no
loader but those of the formats that we read. That holds for the whole process, so for other users
of pyvips in it too; as does what `heap` asks of the C library.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from optidash_integrations.engine.heap import keep_memory
from optidash_integrations.errors import (
    BrokenImageError,
    ForkedTooLateError,
    ProcessorError,
    ProcessorMissingError,
    UnsupportedImageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VERSION", "claim", "has_saver", "pyvips", "reading", "writing"]

MISSING = (
    'the embedded engine needs pyvips with libvips: pip install "optidash-integrations[engine]"'
)

# libvips' warnings of damaged files go nowhere; what matters comes as an error.
os.environ.setdefault("VIPS_WARNING", "0")

# At DEBUG pyvips logs every call, and again for each attribute that the text of an image is made
# of: within a handler, which holds its lock. Two threads and two handlers wait for each other for
# ever.
logger = logging.getLogger("pyvips")
if logger.level == logging.NOTSET:
    logger.setLevel(logging.INFO)

try:
    import pyvips
except (ImportError, OSError) as error:
    raise ProcessorMissingError(MISSING) from error

LOADERS = ("Jpeg", "Png", "Webp", "Nsgif", "Heif", "Tiff")

# pyvips takes libvips' log messages in Python. There a garbage collection may begin, let go of
# another picture, and so make libvips log again: GLib ends the process where logging recurses.
getattr(pyvips, "_remove_log_handler", bool)()

keep_memory()
pyvips.cache_set_max(0)
pyvips.operation_block_set("VipsForeignLoad", True)
for loader in LOADERS:
    pyvips.operation_block_set(f"VipsForeignLoad{loader}", False)

VERSION = ".".join(str(pyvips.version(part)) for part in range(3))

owner: int | None = None
"""The process in which libvips first worked on pixels; its threads exist in no other."""


def claim() -> None:
    """Say that this process works on pixels from here on.

    Raises ForkedTooLateError in a child that was forked after its parent had done so: libvips'
    threads are not there, and the first pixel would wait for them for ever.
    """
    global owner
    here = os.getpid()
    if owner is None:
        owner = here
    if owner != here:
        raise ForkedTooLateError(
            f"the engine was used in process {owner} before process {here} was forked from it; "
            "use it after the fork only, or spawn workers instead of forking them"
        )


def has_saver(name: str) -> bool:
    """Say whether this libvips has an operation that saves, such as `webpsave_buffer`."""
    return bool(pyvips.type_find("VipsForeignSave", name))


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise what libvips says against a source as UnsupportedImageError or BrokenImageError."""
    # Work that went well leaves complaints behind, which the next error would repeat.
    pyvips.vips_lib.vips_error_clear()
    try:
        yield
    except pyvips.Error as error:
        said = detail(error)
        if "unsupported" in said.lower() or "not a known file format" in said:
            raise UnsupportedImageError(f"this {what} is of a kind not read: {said}") from error
        raise BrokenImageError(f"this {what} is damaged: {said}") from error


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Raise what libvips says about its own work as ProcessorError."""
    pyvips.vips_lib.vips_error_clear()
    try:
        yield
    except pyvips.Error as error:
        raise ProcessorError(f"libvips could not make a {what}: {detail(error)}") from error


def detail(error: pyvips.Error) -> str:
    """Return what libvips said, on one line of bounded length."""
    said = " ".join(str(error).split())
    return said if len(said) <= 300 else said[:299] + "~"
