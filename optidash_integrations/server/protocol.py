"""HTTP connections of uvicorn's, whose clients may be neither endlessly slow nor endlessly long
about the head of a request.
"""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING, Any

HEAD_SECONDS = 20.0
MOST_HEAD = 64 * 1024

if TYPE_CHECKING or importlib.util.find_spec("httptools") is not None:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Protocol(HttpToolsProtocol):
        """A connection; one whose client does not get to the end of a head is closed."""

        timer: asyncio.TimerHandle | None = None
        is_in_head = True
        head_bytes = 0

        def connection_made(self, transport: Any) -> None:
            """Expect the first request."""
            super().connection_made(transport)
            self.access_log = False  # addresses may hold keys
            self.expect_head()

        def connection_lost(self, exc: Exception | None) -> None:
            """Expect no more."""
            self.stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            """Take some more bytes."""
            if self.is_in_head:
                self.head_bytes += len(data)
                if self.timer is None:
                    self.expect_head()
            super().data_received(data)
            if self.is_in_head and self.head_bytes > MOST_HEAD and not self.is_closing:
                self.send_400_response("The head of the request is too long.")

        def on_headers_complete(self) -> None:
            """Begin with a request."""
            self.is_in_head = False
            self.stop_timer()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            """Take some of a body. It is handed on as it came where nothing else waits: uvicorn
            would copy it twice.
            """
            cycle: Any = self.cycle
            if not cycle.body:
                cycle.body, body = body, b""
            elif isinstance(cycle.body, bytes):
                cycle.body = bytearray(cycle.body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            """End a request; another may come."""
            super().on_message_complete()
            self.is_in_head, self.head_bytes = True, 0

        def expect_head(self) -> None:
            self.timer = self.loop.call_later(HEAD_SECONDS, self.give_up)

        def give_up(self) -> None:
            self.timer = None
            if self.is_in_head and not self.is_closing:
                self.transport.close()

        def stop_timer(self) -> None:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None

        @property
        def is_closing(self) -> bool:
            return self.transport is None or self.transport.is_closing()

else:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):
        """A connection; one that never gets to its first request is closed. h11 bounds heads."""

        def connection_made(self, transport: Any) -> None:
            """Expect the first request."""
            super().connection_made(transport)
            self.access_log = False
            self.loop.call_later(HEAD_SECONDS, self.give_up)

        def give_up(self) -> None:
            """Close a connection without a request."""
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()
