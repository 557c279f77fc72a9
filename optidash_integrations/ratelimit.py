"""How often one visitor may ask: the `rate_limit` setting, counted in memory or in Redis.

The limits library counts. Where Redis can't be asked, each process counts for itself for a while.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from limits import parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter

from optidash_integrations.cache.entry import Complaints
from optidash_integrations.counting import Counts
from optidash_integrations.exchange import Headers

logger = logging.getLogger(__name__)

MOST_CLIENTS = 100_000
"""How many visitors a process counts at a time; those seen longest ago are forgotten first."""

REST_SECONDS = 10.0
"""For so long Redis is left alone after it failed."""

SOCKET_SECONDS = 0.5
PREFIX = "optidash:"
NAMESPACE = "images"
IPV6_NETWORK = 64


@dataclass(frozen=True, slots=True)
class Tally:
    """Where a visitor stands: `limit` requests a window, `remaining`, and seconds to the next."""

    limit: int
    remaining: int
    reset: int
    is_over: bool

    def headers(self) -> Headers:
        """Return the header fields that tell it."""
        return [
            ("x-ratelimit-limit", str(self.limit)),
            ("x-ratelimit-remaining", str(self.remaining)),
            ("x-ratelimit-reset", str(self.reset)),
        ]


class RateLimit:
    """Counts requests in windows of `rate`, such as `600/minute`; processes share a Redis one.

    `clock` gives seconds since the epoch.
    """

    def __init__(
        self, rate: str, cache_url: str | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.clock = clock
        self.item = parse(rate)
        self.own = FixedWindowRateLimiter(Counts(clock, MOST_CLIENTS))
        self.shared = redis_counts(cache_url)
        self.resting_until = -math.inf
        self.complaints = Complaints(logger, clock)

    @property
    def is_shared(self) -> bool:
        """Whether counting asks a server."""
        return self.shared is not None

    def hit(self, client: str) -> Tally:
        """Count one request of a visitor. Where Redis is to be asked, this is I/O."""
        key = client_key(client)
        if self.shared is not None and self.clock() >= self.resting_until:
            try:
                return self.counted(self.shared, key)
            except Exception as error:  # noqa: BLE001  a limit must not end the service
                self.resting_until = self.clock() + REST_SECONDS
                self.complaints.add("rate limits are counted by each process alone", error)
        return self.counted(self.own, key)

    def close(self) -> None:
        """End the connections to Redis; the next request opens new ones."""
        if self.shared is not None:
            self.shared.storage.storage.close()  # type: ignore[attr-defined]

    def counted(self, limiter: FixedWindowRateLimiter, key: str) -> Tally:
        allowed = limiter.hit(self.item, NAMESPACE, key)
        stats = limiter.get_window_stats(self.item, NAMESPACE, key)
        left = max(0, math.ceil(stats.reset_time - self.clock()))
        return Tally(self.item.amount, max(0, stats.remaining), left, not allowed)


def redis_counts(cache_url: str | None) -> FixedWindowRateLimiter | None:
    """Return what counts in Redis where `cache_url` names one, else None."""
    parts = urlsplit(cache_url or "")
    if parts.scheme not in ("redis", "rediss"):
        return None
    options = dict(parse_qsl(parts.query))
    prefix = options.pop("prefix", PREFIX) + "limits"
    url = urlunsplit(parts._replace(query=urlencode(options)))
    seconds = {"socket_timeout": SOCKET_SECONDS, "socket_connect_timeout": SOCKET_SECONDS}
    return FixedWindowRateLimiter(storage_from_string(url, key_prefix=prefix, **seconds))


def client_key(client: str) -> str:
    """Return whom to count an address for: an IPv6 visitor has a whole /64 to ask from."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if address.version == 4:
        return str(address)
    mapped = getattr(address, "ipv4_mapped", None)
    network = ipaddress.ip_network((address, IPV6_NETWORK), strict=False)
    return str(mapped or network.network_address)
