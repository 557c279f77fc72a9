"""Django's storages as sources of the image endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.utils.functional import LazyObject

from optidash_integrations.errors import BusyError, ImageTooLargeError, SourceNotFoundError
from optidash_integrations.sources import FileSource, Source, is_safe_name
from optidash_integrations.variants import ImageData

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class StorageSource:
    """An image in a storage that is not a local folder."""

    name: str
    storage: Storage
    file: str

    def validator(self) -> str:
        """Return the file's modification time and length."""
        try:
            modified = self.storage.get_modified_time(self.file)
            return f"{modified.timestamp()}-{self.storage.size(self.file)}"
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"{self.name} can't be read: {error}") from error
        except Exception as error:  # every storage has errors of its own
            raise BusyError(f"{self.name} can't be read now: {error}") from error

    def read(self, max_bytes: int) -> ImageData:
        """Return the bytes."""
        try:
            with self.storage.open(self.file) as opened:
                data: bytes = opened.read(max_bytes + 1)
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"{self.name} can't be read: {error}") from error
        except Exception as error:  # every storage has errors of its own
            raise BusyError(f"{self.name} can't be read now: {error}") from error
        if len(data) > max_bytes:
            raise ImageTooLargeError(f"{self.name} has more than {max_bytes} bytes")
        return data


def find(alias: str, name: str) -> Source:
    """Return the image `name` of the storage `alias`; raises `SourceNotFoundError`."""
    try:
        storage = storages[alias]
    except ImproperlyConfigured as error:  # unknown, or one that the project does not use
        raise SourceNotFoundError(f"there is no storage {alias}: {error}") from error
    if not is_safe_name(name):
        raise SourceNotFoundError("the name is not that of an image")
    path = local_path(storage, name)
    label = source_name(alias, name)
    return FileSource(label, path) if path is not None else StorageSource(label, storage, name)


def source_name(alias: str, name: str) -> str:
    """Return what tells a stored image from every other source."""
    return f"storage:{alias}/{name}"


def local_path(storage: Storage, name: str) -> Path | None:
    """Return where a file lies, None where the storage is no local folder.

    Raises `SourceNotFoundError` for a name that leads out of it.
    """
    if not isinstance(unwrapped(storage), FileSystemStorage):
        return None  # Django's storage in memory has a `path` too
    try:
        path = Path(storage.path(name))
        root = Path(storage.path("")).resolve()
    except NotImplementedError:
        return None
    except SuspiciousOperation as error:
        raise SourceNotFoundError(f"{name} leads out of the storage") from error
    except ImproperlyConfigured as error:
        raise SourceNotFoundError(f"{name} lies in a storage without a folder: {error}") from error
    if not path.resolve().is_relative_to(root):
        raise SourceNotFoundError(f"{name} leads out of the storage")
    return path


def alias_of(storage: Storage) -> str | None:
    """Return the alias under which a project knows a storage, or None."""
    wanted = unwrapped(storage)
    for alias in storages.backends:
        try:
            known = unwrapped(storages[alias])
        except ImproperlyConfigured:  # one that the project does not use
            continue
        if known is wanted:
            return str(alias)
    return DEFAULT if wanted == unwrapped(storages[DEFAULT]) else None


def unwrapped(storage: Storage) -> object:
    """Return what stands behind Django's lazy `default_storage`."""
    if isinstance(storage, LazyObject):
        storage.exists  # noqa: B018  makes it
        return storage._wrapped
    return storage
