"""A host that remote images lie on: a real HTTP server on loopback that answers as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from optidash_integrations.download import Download

HOST = "pictures.test"

Reply = tuple[int, Mapping[str, str], bytes]
Route = Callable[[Mapping[str, str]], Reply]


class Origin:
    """Routes by path; `seen` holds each request's path and header fields."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.looked_up: list[str] = []
        origin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                origin.seen.append((self.path, headers))
                route = origin.routes.get(self.path.partition("?")[0], missing)
                status, more, body = route(headers)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **more}.items():
                    if value:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    @property
    def place(self) -> str:
        """What `remote_hosts` names it by."""
        return f"{HOST}:{self.port}"

    def url(self, path: str) -> str:
        return f"http://{self.place}{path}"

    def resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        return ["127.0.0.1"]

    @property
    def download(self) -> Download:
        """What may fetch from it, although it is not on the public internet."""
        return Download(allowed={HOST}, resolve=self.resolve)

    def image(self, path: str, body: bytes, **headers: str) -> None:
        """Serve an image that may be asked for on the condition of its ETag."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}

        def route(asked: Mapping[str, str]) -> Reply:
            if told.get("etag") and asked.get("if-none-match") == told["etag"]:
                return 304, {"Content-Length": ""}, b""
            return 200, {"Content-Type": "image/jpeg", **told}, body

        self.routes[path] = route

    def redirect(self, path: str, location: str) -> None:
        self.routes[path] = lambda asked: (302, {"Location": location}, b"")

    def __enter__(self) -> Origin:
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def missing(asked: Mapping[str, str]) -> Reply:
    return 404, {}, b"no"
