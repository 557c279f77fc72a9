"""What a site's settings lend the embedded engine: folders, models, and downloads of watermarks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cachetools import TTLCache

from optidash_integrations.engine.tools import Tools
from optidash_integrations.errors import OptionError, QueryError
from optidash_integrations.places import checked_source
from optidash_integrations.remote import Remote

if TYPE_CHECKING:
    from optidash_integrations.settings import Settings

KEPT, KEPT_SECONDS = 32, 300.0
"""So many downloaded watermarks are kept, for so long."""


class Fetcher:
    """Downloads pictures that operations name, from `remote_hosts` alone, over the guard."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.kept: TTLCache[str, bytes] = TTLCache(KEPT, KEPT_SECONDS, timer=remote.clock)
        self.lock = threading.Lock()

    def __call__(self, url: str) -> bytes:
        """Return the bytes at an address.

        Raises OptionError where its host may not be asked, else as `Remote.fetch` does.
        """
        try:
            checked = checked_source(url, self.remote.places)
        except QueryError as error:
            raise OptionError("watermark.url", error.expected, error.got) from None
        with self.lock:
            found = self.kept.get(checked)
        if found is None:
            found = self.remote.fetch(checked, {}).content
            with self.lock:
                self.kept[checked] = found
        return found


def tools_of(settings: Settings) -> Tools:
    """Return what these settings lend the engine, which serves images and tells nobody of them."""
    return Tools(
        describes=False,
        watermarks=settings.watermarks,
        fonts=settings.fonts,
        face_model=settings.face_model,
        super_resolution_model=settings.super_resolution_model,
        svg=settings.svg,
        fetch=Fetcher(Remote(settings)) if settings.remote_hosts else None,
    )
