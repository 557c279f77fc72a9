"""Where the image endpoint finds originals. A path never leaves its folder."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from optidash_integrations.errors import SourceNotFoundError
from optidash_integrations.formats import BY_EXTENSION, extension_of
from optidash_integrations.variants import ImageData

if TYPE_CHECKING:
    from optidash_integrations.settings import Settings

LONGEST_NAME = 1024


class Source(Protocol):
    """An original image. `name` tells it from every other source of this site."""

    @property
    def name(self) -> str:
        """What tells it from every other source."""

    def validator(self) -> str:
        """Return what changes when the bytes change; raises `SourceNotFoundError`. Cheap I/O."""

    def read(self, max_bytes: int) -> ImageData:
        """Return the bytes, or the local file that holds them.

        Raises `SourceNotFoundError`, or `ImageTooLargeError` past `max_bytes`.
        """


@dataclass(frozen=True, slots=True)
class FileSource:
    """An image in a local file."""

    name: str
    path: Path

    def validator(self) -> str:
        """Return the file's modification time and length."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise SourceNotFoundError(f"{self.name} can't be read: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            raise SourceNotFoundError(f"{self.name} is not a file")
        return f"{found.st_mtime_ns:x}-{found.st_size:x}"

    def read(self, max_bytes: int) -> ImageData:
        """Return the path; whoever opens it checks the length."""
        return self.path


class Directory:
    """A folder of images. Links that lead out of it are refused unless `follow_links`."""

    def __init__(self, root: Path, *, follow_links: bool = False) -> None:
        self.root = root.absolute()
        self.follow_links = follow_links

    @classmethod
    def of(cls, root: Path, settings: Settings) -> Directory:
        """Return a folder that follows links as the settings say."""
        return cls(root, follow_links=settings.follow_links)

    def find(self, name: str) -> FileSource:
        """Return the image of this name, with `/` between folders.

        Raises `SourceNotFoundError` for a name that is hidden, not an image's, or leads out of the
        folder. The file itself is looked at by `FileSource.validator`.
        """
        if not is_safe_name(name):
            raise SourceNotFoundError("the name is not that of an image in this folder")
        path = self.root / name
        if not self.follow_links and not path.resolve().is_relative_to(self.root.resolve()):
            raise SourceNotFoundError(f"{name} leads out of the folder")
        return FileSource(f"file:{path}", path)


def is_safe_name(name: str) -> bool:
    """Say whether a name, decoded, can only lie inside a folder, and is that of an image."""
    if not name or len(name) > LONGEST_NAME or "\\" in name or not name.isprintable():
        return False
    if any(part.startswith(".") or not part or ":" in part for part in name.split("/")):
        return False
    return extension_of(name) in BY_EXTENSION


def path_of_open(file: object) -> Path | None:
    """Return the path of a file that is open at its beginning; None for anything else."""
    name = getattr(file, "name", None)
    if not isinstance(name, str | os.PathLike):
        return None
    try:
        if file.tell() != 0:  # type: ignore[attr-defined]
            return None
        opened, named = os.fstat(file.fileno()), Path(name).stat()  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return None
    return Path(name) if os.path.samestat(opened, named) and stat.S_ISREG(named.st_mode) else None
