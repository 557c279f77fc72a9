"""Handing large bodies to the web server in front, which sends files better than Python does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from optidash_integrations.exchange import Answer, FileBody

ACCEL, SENDFILE = "x-accel-redirect", "x-sendfile"

# The server counts, and answers ranges by itself.
SERVERS_OWN = frozenset({"content-length", "accept-ranges"})


@dataclass(frozen=True, slots=True)
class SendFile:
    """How a file is handed over: the header, and for nginx where the cache folder lies inside."""

    header: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> SendFile:
        """Read `x-sendfile` or `x-accel-redirect:/internal/`; raises ValueError."""
        header, _, prefix = text.strip().partition(":")
        header = header.lower()
        if header == SENDFILE and not prefix:
            return cls(header)
        if header == ACCEL and prefix.startswith("/") and prefix.endswith("/"):
            return cls(header, prefix)
        raise ValueError(text)

    def handed_over(self, answer: Answer, folder: Path) -> Answer:
        """Return the answer that lets the server send a whole file below `folder`.

        Any other answer comes back as it is.
        """
        body = answer.body
        if answer.status != 200 or not isinstance(body, FileBody) or body.length != body.total:
            return answer
        if not body.path.is_relative_to(folder):
            return answer
        kept = [(name, value) for name, value in answer.headers if name not in SERVERS_OWN]
        return Answer(200, [*kept, (self.header, self.address(body.path, folder))])

    def address(self, path: Path, folder: Path) -> str:
        if self.header == SENDFILE:
            return str(path)
        return self.prefix + quote(path.relative_to(folder).as_posix())
