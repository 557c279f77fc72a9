"""Where results go, and how they get there: whole or not at all, never on another original."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from optidash_integrations import formats
from optidash_integrations.cli.files import Original, place
from optidash_integrations.formats import Format


class WouldOverwriteError(Exception):
    """A result would go where an original lies, which nobody has asked for."""

    def __init__(self, original: Original) -> None:
        super().__init__(original.name)
        self.original = original


class StoppedError(Exception):
    """Nothing is written any more."""


class Targets:
    """Where each result goes, no two in one place.

    `folder` mirrors the folders of the originals; without it a result lies beside its original,
    or replaces it where the format is the same. `expected` holds the formats that results will
    probably have. Raises WouldOverwriteError where a result in `folder` meets an original.
    """

    def __init__(self, folder: Path | None, expected: Mapping[Original, Format]) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self.originals = {place(each.path): each for each in expected}
        self.taken: set[Path] = set()
        self.results = dict(expected)
        self.chosen: dict[Original, Path] = {}
        self.assign(expected)

    def of(self, original: Original, result: Format | None = None) -> Path:
        """Return where a result goes: of the format expected, or of the one that it has got."""
        with self.lock:
            if result not in (None, self.results[original]):
                self.results[original] = result
                self.choose(original, result)
            return self.chosen[original]

    def replaces(self, original: Original, target: Path) -> bool:
        """Say whether a target is the original itself."""
        return self.folder is None and target == original.path.resolve()

    def assign(self, expected: Mapping[Original, Format]) -> None:
        """Choose all targets: who keeps a name comes first, rivals for a new name all lose it."""
        first = {each: self.wanted(each, result) for each, result in expected.items()}
        rivals = Counter(place(path) for path in first.values())
        for each, path in first.items():
            if self.folder and (met := self.originals.get(place(path))):
                raise WouldOverwriteError(met)
            if path.name == each.path.name:
                self.claim(each, path)
        for each, path in first.items():
            if each not in self.chosen and rivals[place(path)] == 1:
                self.claim(each, path)
        for each, result in expected.items():
            if each not in self.chosen:
                self.choose(each, result, among_rivals=True)

    def choose(self, original: Original, result: Format, *, among_rivals: bool = False) -> None:
        first = self.wanted(original, result)
        names = itertools.chain(() if among_rivals else (first,), others(first, original, result))
        next(path for path in names if self.claim(original, path))

    def wanted(self, original: Original, result: Format) -> Path:
        if self.folder:
            return fitting(self.folder / original.relative, result)
        if result is original.format:
            return original.path.resolve()
        return fitting(original.path, result)

    def claim(self, original: Original, path: Path) -> bool:
        """Give a place to an original, if it is free or its own."""
        where = place(path)
        owner = self.originals.get(where)
        if where in self.taken or (owner is not None and owner != original):
            return False
        self.taken.add(where)
        self.chosen[original] = path
        return True


def fitting(path: Path, result: Format) -> Path:
    """Return the path with an extension that fits; one that fits already is kept."""
    known = formats.of_path(path.name)
    if known is result:
        return path
    return path.with_name(f"{path.stem if known else path.name}.{result.extension}")


def others(first: Path, original: Original, result: Format) -> Iterator[Path]:
    """Yield further names: `a.png.webp` where `a.webp` is not to be had, then `a-2.webp`."""
    if first.name != original.path.name:
        yield first.with_name(f"{original.path.name}.{result.extension}")
    for number in itertools.count(2):
        yield first.with_name(f"{first.stem}-{number}{first.suffix}")


class Writer:
    """Writes whole files or none, until it is closed. With `durable` they outlast a power cut."""

    def __init__(self, *, durable: bool) -> None:
        self.durable = durable
        self.lock = threading.Lock()
        self.closed = False

    def write(self, target: Path, content: bytes | Path) -> None:
        """Write bytes, or a copy of a file. Raises OSError, and StoppedError after `close`."""
        with self.lock:
            if self.closed:
                raise StoppedError
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                self.put(target, content)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(target)) from error

    def put(self, target: Path, content: bytes | Path) -> None:
        temporary = target.with_name(f".{secrets.token_hex(8)}.part")
        try:
            self.fill(temporary, content)
            if target.exists():
                shutil.copymode(target, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def fill(self, path: Path, content: bytes | Path) -> None:
        with path.open("xb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                with content.open("rb") as original:
                    shutil.copyfileobj(original, file)
            if self.durable:
                file.flush()
                os.fsync(file.fileno())

    def close(self) -> None:
        """Write nothing more; what is being written is finished first."""
        with self.lock:
            self.closed = True
