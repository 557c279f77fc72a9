"""Which other origins' scripts may read images: the `cors_origins` setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from optidash_integrations.exchange import Answer, Headers, Request
from optidash_integrations.headers import cache_status, merged_vary

EVERYBODY = "*"
METHODS = "GET, HEAD, OPTIONS"
SENT = "Authorization, If-None-Match, If-Range, Range, X-Api-Key"
SHOWN = (
    "Cache-Status, Content-Range, ETag, Retry-After, X-Optidash-Fallback, X-RateLimit-Limit, "
    "X-RateLimit-Remaining, X-RateLimit-Reset"
)
PREFLIGHT_SECONDS = 86_400


class Cors:
    """The origins that may read answers; none: nothing is said at all, and an asterisk: all."""

    def __init__(self, origins: Sequence[str]) -> None:
        self.origins = frozenset(origins)

    def __bool__(self) -> bool:
        """Whether any origin may."""
        return bool(self.origins)

    def added(self, answer: Answer, request: Request) -> Answer:
        """Return an answer that also says who may read it.

        With a list of origins it differs by Origin, whether or not this request had one.
        """
        if not self:
            return answer
        said = [("cross-origin-resource-policy", "cross-origin")]
        origin = self.allowed(request)
        if origin is not None:
            said += [
                ("access-control-allow-origin", origin),
                ("access-control-expose-headers", SHOWN),
            ]
        return replace(answer, headers=self.varied(answer.headers) + said)

    def allowed(self, request: Request) -> str | None:
        """Return the value for Access-Control-Allow-Origin, or None where this origin may not."""
        if EVERYBODY in self.origins:
            return EVERYBODY
        origin = request.headers.get("origin", "")
        return origin if origin.lower() in self.origins else None

    def varied(self, headers: Headers) -> Headers:
        if EVERYBODY in self.origins:
            return headers
        present = ", ".join(value for name, value in headers if name == "vary")
        rest = [header for header in headers if header[0] != "vary"]
        return [*rest, ("vary", merged_vary(present or None, "Origin"))]

    def preflight(self, request: Request) -> Answer:
        """Return the answer to an OPTIONS request."""
        headers: Headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", "0"),
            ("allow", METHODS),
            ("cache-control", "no-store"),
            ("cache-status", cache_status("fwd=bypass")),
        ]
        if self.allowed(request) is not None:
            headers += [
                ("access-control-allow-methods", METHODS),
                ("access-control-allow-headers", SENT),
                ("access-control-max-age", str(PREFLIGHT_SECONDS)),
            ]
        return self.added(Answer(200, headers), request)
