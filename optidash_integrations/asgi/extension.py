"""What an ASGI application calls by itself: addresses, markup, uploads."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from optidash_integrations.errors import ImageTooLargeError, SettingsError
from optidash_integrations.images import DirectoryImages
from optidash_integrations.operations import Operations
from optidash_integrations.processors import choose
from optidash_integrations.service import Service, service_for
from optidash_integrations.settings import Settings, read
from optidash_integrations.uploads import Saved, save


class AsyncFile(Protocol):
    """An upload such as Starlette's `UploadFile`."""

    @property
    def filename(self) -> str | None:
        """The name that the visitor's browser sent."""

    async def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes."""


class Optidash(DirectoryImages):
    """Settings and helpers that a middleware, an endpoint and templates share.

    Keyword arguments are settings. Raises `SettingsError` with all that are wrong or unknown, and
    `ProcessorMissingError` where the processor is not installed.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings: Settings = read(settings)
        choose(self.settings)  # a wrong one is an error now, not at the first request

    @cached_property
    def service(self) -> Service:
        """The service behind it, made at its first use."""
        return service_for(self.settings)

    async def save(
        self, upload: AsyncFile, folder: str = "", operations: Operations | None = None
    ) -> Saved:
        """Store an upload, optimised, in `folder` under the `directory` setting.

        Raises `ImageError` where it is not an image within the limits: then nothing is stored.
        """
        root = self.settings.directory
        if root is None:
            raise SettingsError(["directory takes the folder that uploads are saved in"])
        limit = self.settings.max_input_bytes
        data = await upload.read(limit + 1)
        if len(data) > limit:
            raise ImageTooLargeError(f"{upload.filename} has more than {limit} bytes")
        flow = save(self.service, Path(root), data, upload.filename, folder, operations)
        saved: Saved = await self.service.run_async(flow)
        return saved
