"""Which files are worked on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from optidash_integrations import formats
from optidash_integrations.formats import Format


@dataclass(frozen=True, slots=True)
class Original:
    """An image to work on: where it lies, and its path below the folder that was named.

    `format` is what its first bytes tell, else its name, else None.
    """

    path: Path
    relative: Path
    format: Format | None = None

    @property
    def name(self) -> str:
        """Its path as it may be printed."""
        return printable(self.path)


@dataclass(slots=True)
class Search:
    """What was found: images, extensions of images that are not read here, what failed."""

    originals: list[Original] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    unreadable: list[OSError] = field(default_factory=list)


def printable(words: Path | str) -> str:
    """Return a path or a text without the characters that would steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(words))


def search(paths: Iterable[Path], reads: frozenset[str], output: Path | None) -> Search:
    """Find images: each file named, and in folders, in order of their names, what is read here.

    Hidden files and folders, and what `output` holds, are left out of folders. A file found twice
    counts once.
    """
    found = Search()
    seen = set()
    for root in paths:
        for each in (
            walk(root, reads, output, found) if root.is_dir() else [original(root, Path(root.name))]
        ):
            # Where originals are replaced, a link to one is the same one.
            where = place(each.path) if output else each.path.resolve()
            if where not in seen:
                seen.add(where)
                found.originals.append(each)
    return found


def original(path: Path, relative: Path) -> Original:
    return Original(path, relative, detected(path))


def place(path: Path) -> Path:
    """Return where a name lies, whatever links lead there; the name itself is not followed."""
    return path.parent.resolve() / path.name


def walk(
    root: Path, reads: frozenset[str], output: Path | None, found: Search
) -> Iterator[Original]:
    outside = output.resolve() if output else None
    for folder, folders, names in os.walk(root, onerror=found.unreadable.append):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (here / name).resolve() != outside
        )
        for name in sorted(name for name in names if not name.startswith(".")):
            path, known = here / name, formats.of_path(name)
            if known is None or not is_file(path):
                continue
            if known.name in reads:
                yield original(path, path.relative_to(root))
            else:
                found.unread[known.extension] += 1


def is_file(path: Path) -> bool:
    """Say whether it is a file or a link that leads nowhere, which is a failure to be told of."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def detected(path: Path) -> Format | None:
    """Return the format that a file's bytes tell, else its extension."""
    head = b""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(formats.HEAD_BYTES)
    return formats.detect(head) or formats.of_path(path.name)
