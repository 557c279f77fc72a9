"""What tests run beside them: servers in threads, and processes that may crash."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any


@contextmanager
def in_thread(server: ThreadingHTTPServer) -> Iterator[None]:
    """Serve until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


class Background:
    """A spawned process that runs `serve` with its end of a pipe, and with `arguments`."""

    def __init__(self, serve: Callable[..., None], *arguments: object) -> None:
        self.serve = serve
        self.arguments = arguments
        self.process: Any = None
        self.pipe: Any = None

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=self.serve, args=(theirs, *self.arguments), daemon=True
        )
        self.process.start()
        theirs.close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None
