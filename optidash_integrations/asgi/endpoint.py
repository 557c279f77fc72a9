"""The image endpoint as an ASGI app."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any

from optidash_integrations.asgi.extension import Optidash
from optidash_integrations.asgi.fast import keep, key_of, send_ready
from optidash_integrations.asgi.messages import (
    SEEN,
    Receive,
    Scope,
    Send,
    request_of,
    seen_scope,
    send_answer,
)
from optidash_integrations.endpoint import Endpoint
from optidash_integrations.errors import SettingsError
from optidash_integrations.service import Service
from optidash_integrations.sources import Directory


class ImageApp:
    """Answer `<mount>/<name>?w=640` with that image of a folder: `Mount("/img", ImageApp(…))`.

    `directory` is the folder; without it that of the settings. Keyword arguments are settings;
    `optidash` shares those of an `Optidash`. Raises `SettingsError` where no folder is named, or a
    setting is wrong or unknown.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        optidash: Optidash | None = None,
        **settings: Any,
    ) -> None:
        if directory is not None:
            settings["directory"] = directory
        self.optidash = optidash or Optidash(**settings)
        root = directory or self.optidash.settings.directory
        if root is None:
            raise SettingsError(["directory takes a folder of images; none is given"])
        self.endpoint = Endpoint(
            self.optidash.service, Directory.of(Path(root), self.optidash.settings).find
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            raise RuntimeError(f"ImageApp answers HTTP only, not {scope['type']}")
        service = self.optidash.service
        key = self.key(service, scope)
        found = service.ready.find(key) if key is not None else None
        if found is not None:
            await send_ready(found, send)
            return
        request = request_of(scope)
        name = request.path.removeprefix(scope.get("root_path", "")).lstrip("/")
        client = (scope.get("client") or ("",))[0]
        keeping = partial(keep, service.ready, key) if key is not None else None
        flow = self.endpoint.answer(request, name, scope, client, keeping)
        await send_answer(await service.run_async(flow), scope, send)

    def key(self, service: Service, scope: Scope) -> Hashable | None:
        """Return the key of an answer that may be ready; None where there can be none."""
        if not self.endpoint.is_simple:
            return None
        seen = seen_scope(scope) if SEEN in scope else scope
        plain = key_of(seen, service.ready)
        return None if plain is None else (self, scope.get("root_path", ""), plain[0])
