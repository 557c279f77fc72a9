"""Which pages may show images of the endpoint: the `referers` setting.

It keeps honest sites from using this one's traffic, and nobody else: a page can leave the Referer
away, and a script can write what it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from optidash_integrations.credentials import ForbiddenError
from optidash_integrations.errors import shown
from optidash_integrations.exchange import Request


class RefererError(ForbiddenError):
    """The page that shows the image is of a host that may not."""

    public = "This image is not for other sites."


class Referers:
    """The hosts whose pages may show images; none: all may. A host with `*.` in front stands for
    those below it.
    """

    def __init__(self, hosts: Sequence[str]) -> None:
        self.exact = frozenset(host for host in hosts if not host.startswith("*."))
        self.wide = tuple(host.removeprefix("*") for host in hosts if host.startswith("*."))

    def __bool__(self) -> bool:
        """Whether there is a guard."""
        return bool(self.exact or self.wide)

    def check(self, request: Request) -> None:
        """Raise `RefererError` where another site's page shows the image.

        The host that was asked may itself, and whoever does not say where they come from.
        """
        referer = request.headers.get("referer", "").strip()
        if not self or not referer:
            return
        host = host_of(referer)
        if not host or not (self.has(host) or host == host_of(f"//{own_host(request)}")):
            raise RefererError(f"{request.path} is shown by a page at {shown(host)}")

    def has(self, host: str) -> bool:
        """Say whether a host, in lower case, is among them."""
        return host in self.exact or host.endswith(self.wide)


def own_host(request: Request) -> str:
    return request.headers.get("host", "")


def host_of(address: str) -> str:
    """Return the host of an address in lower case, without its port; nothing where it has none."""
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return ""
    host = host.rstrip(".")
    return f"[{host}]" if ":" in host else host
