"""A storage that optimises the images saved through it."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage
from django.utils.deconstruct import deconstructible

from optidash_integrations.django import conf
from optidash_integrations.django.storages import alias_of, find, source_name
from optidash_integrations.errors import ImageError, ImageTooLargeError
from optidash_integrations.flows import run
from optidash_integrations.formats import HEAD_BYTES, Format, detect, extension_of
from optidash_integrations.operations import Operations
from optidash_integrations.records import identify
from optidash_integrations.uploads import Upload, as_it_came, optimised

logger = logging.getLogger(__name__)


class OptimisedImages:
    """Mix in above any storage class to optimise the images saved through it.

    `max_width` and `max_height` (pixels) shrink larger uploads to fit; `operations` is a document
    of further operations. What is not an image, or past the limits, is saved as it comes, and so is
    everything when the processor fails.
    """

    def __init__(
        self,
        *args: Any,
        max_width: int | None = None,
        max_height: int | None = None,
        operations: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        box = {"width": max_width, "height": max_height}
        resize = {side: pixels for side, pixels in box.items() if pixels is not None}
        fitted = Operations.from_dict({"resize": resize} if resize else {})
        self.operations = fitted | Operations.from_dict(operations or {})

    def save(self, name: str | None, content: Any, max_length: int | None = None) -> str:
        """Save a file, an image optimised, and return the name it was saved under.

        The name's extension fits the bytes that are stored.
        """
        file = content if isinstance(content, File) else File(content, name)
        name = name or file.name or ""
        upload = self.optimised(file, name) if is_image(file) else None
        if upload is None:
            return self.store(name, file, max_length)
        fitting = with_extension(name, upload.format)
        stored = self.store(fitting, ContentFile(upload.content, fitting), max_length)
        self.remember(stored, upload)
        take_in(file, upload.content)
        return stored

    def store(self, name: str, file: File[Any], max_length: int | None) -> str:
        """Save bytes as they are."""
        stored: str = super().save(name, file, max_length)  # type: ignore[misc]
        return stored

    def optimised(self, file: File[Any], name: str) -> Upload | None:
        """Return the image to store, or None where the file is to be stored as it comes."""
        service = conf.service()
        if file.size > service.settings.max_input_bytes:
            logger.warning("%s is stored as it came: it has %d bytes", name, file.size)
            return None
        data = file.read()
        file.seek(0)
        try:
            upload: Upload = run(optimised(service, data, self.operations, name=name))
        except ImageTooLargeError as error:
            logger.warning("%s is not optimised: %s", name, error)
            return as_it_came(data, name)
        except ImageError as error:
            logger.warning("%s is stored as it came: %s", name, error)
            return None
        except Exception:  # an upload is never lost
            logger.exception("%s is stored as it came", name)
            return None
        return upload

    def remember(self, name: str, upload: Upload) -> None:
        """Keep size and digest, so that pages need not open the file for them."""
        service = conf.service()
        try:
            alias = alias_of(self)  # type: ignore[arg-type]
            if alias is None:
                return
            validator = find(alias, name).validator()
            limits = service.settings.limits
            record = identify(upload.content, service.processor, limits, validator)
        except Exception as error:  # noqa: BLE001  the upload is stored, whatever comes after
            logger.warning("%s: its size is not kept: %s", name, error)
            return
        service.store.remember(source_name(alias, name), record, newest=True)


@deconstructible(path="optidash_integrations.django.storage.OptidashStorage")
class OptidashStorage(OptimisedImages, FileSystemStorage):
    """Django's file system storage with optimised images."""


def is_image(file: File[Any]) -> bool:
    """Say whether a file that can be read again begins as an image does."""
    try:
        file.seek(0)
        head = file.read(HEAD_BYTES)
        file.seek(0)
    except (OSError, ValueError, AttributeError):  # a pipe; what was not read is still in it
        return False
    return isinstance(head, bytes) and detect(head) is not None


def take_in(file: File[Any], content: bytes) -> None:
    """Put the bytes that are stored in the place of those that came.

    Django measures the picture in an image field by the file that it gave to the storage.
    """
    file.file = BytesIO(content)
    file.__dict__.pop("_dimensions_cache", None)
    file.size = len(content)


def with_extension(name: str, stored: Format) -> str:
    """Return a name whose extension fits a format; one that fits already stays."""
    if extension_of(name) in stored.extensions:
        return name
    return str(PurePosixPath(name).with_suffix(f".{stored.extension}"))
