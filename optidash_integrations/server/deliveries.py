"""Results are posted to the addresses that requests name: once, and when to try again."""

from __future__ import annotations

import base64
import ipaddress
import logging
import random
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from optidash_integrations import __version__
from optidash_integrations.addresses import has_control, without_secrets
from optidash_integrations.download import Download, Fetched
from optidash_integrations.errors import ApiError, OptionError, Said
from optidash_integrations.guard import RefusedAddressError, is_public
from optidash_integrations.httpx_errors import has_cause
from optidash_integrations.limits import Limits
from optidash_integrations.server.jobs import Claim
from optidash_integrations.server.signatures import plain_headers, secret_of, signed_headers
from optidash_integrations.values import Integer, unknown

logger = logging.getLogger(__name__)

LIMITS = Limits()
USER_AGENT = f"optidash-integrations/{__version__} (webhooks)"
SCHEMES = ("http", "https")
PARAMETERS = ("url", "delay")
LONGEST_URL = 2_048
LONGEST_DELAY = 7 * 24 * 3600
DELAY = Integer(0, LONGEST_DELAY)

SECONDS = 15.0
"""How long one delivery may take, from the look-up of the name to the head of the answer."""

WAITS = (5.0, 60.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0)
"""Seconds before further tries: within 18 hours in all, since results live for a day."""

JITTER = 0.1
LONGEST_WAIT = WAITS[-1]
GONE = 410


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a `webhook` asks for: where the result goes, and how many seconds later."""

    url: str
    delay: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one try. `status` is the receiver's, None without an answer.

    `error` is empty where it was taken; `is_final` says that no other try would do better, `wait`
    how many seconds the receiver asked for.
    """

    status: int | None
    error: str = ""
    is_final: bool = False
    wait: float = 0.0


def read_wanted(document: Mapping[str, Any], allowed: Collection[str] = ()) -> Wanted:
    """Read a request's `webhook`; raises OptionError, which shows none of the address's secrets."""
    for name in document:
        if name not in PARAMETERS:
            raise unknown(OptionError, "webhook", name, PARAMETERS)
    raw = document.get("delay")
    delay = 0 if raw is None else DELAY.read("webhook.delay", raw, LIMITS)
    return Wanted(checked_receiver(document.get("url"), allowed), delay)


def checked_receiver(raw: object, allowed: Collection[str]) -> str:
    takes = f"an http or https address of at most {LONGEST_URL} characters"
    url = raw if isinstance(raw, str) else ""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
        unquote(f"{parts.username}{parts.password}", errors="strict")
    except ValueError:
        is_address = False
    if not is_address or len(url) > LONGEST_URL or has_control(url):
        raise OptionError("webhook.url", takes, without_secrets(url) if url else None)
    host = (parts.hostname or "").lower()
    if is_number(host) and host not in allowed and not is_public(host):
        raise OptionError("webhook.url", "an address on the public internet", Said(host))
    return url


def is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Deliverer:
    """Posts results over the address guard. `allowed` are hosts that need not be public.

    `clock` gives seconds since 1970, `chance` numbers from 0 to 1 to spread further tries with.
    """

    def __init__(
        self,
        *,
        allowed: Collection[str] = (),
        download: Download | None = None,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.download = download or Download(allowed=allowed)
        self.seconds = seconds
        self.clock = clock
        self.chance = chance

    def send(self, claim: Claim, digest: bytes | None) -> Outcome:
        """Post a result once; `digest` is the SHA-256 of the API key that signs, None for none.

        It takes `seconds` at most, and never raises for what the receiver does.
        """
        content = (claim.payload or "").encode()
        url, headers = split(claim.url)
        now = int(self.clock())
        if digest is None:
            headers |= plain_headers(claim.id, now)
        else:
            headers |= signed_headers(claim.id, content, secret_of(digest), now)
        try:
            reply = self.download.post(url, headers, content, seconds=self.seconds)
        except OptionError:
            return Outcome(None, "the address can't be called", is_final=True)
        except ApiError as error:
            # A certificate may be renewed; an address on this network is not what anybody meant.
            return Outcome(None, reason(error), is_final=has_cause(error, RefusedAddressError))
        return outcome_of(reply)

    def wait(self, claim: Claim, outcome: Outcome) -> float | None:
        """Return the seconds until another try; None where there is to be none."""
        if outcome.is_final or claim.attempts > len(WAITS):
            return None
        own = WAITS[max(0, claim.attempts - 1)] * (1 + JITTER * self.chance())
        return min(max(own, outcome.wait), LONGEST_WAIT * (1 + JITTER))


def split(url: str) -> tuple[str, dict[str, str]]:
    """Return the address to call, and the headers; credentials in it become one of them."""
    parts: SplitResult = urlsplit(url)
    headers = {"content-type": "application/json", "user-agent": USER_AGENT}
    if parts.username is not None or parts.password is not None:
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path or "/", parts.query, "")), headers


def outcome_of(reply: Fetched) -> Outcome:
    if 200 <= reply.status < 300:
        return Outcome(reply.status)
    asked = reply.headers.get("retry-after", "").strip()
    wait = float(asked[:6]) if asked.isascii() and asked.isdigit() else 0.0
    error = f"the receiver answered {reply.status}"
    return Outcome(reply.status, error, is_final=reply.status == GONE, wait=wait)


def reason(error: ApiError) -> str:
    """Return what went wrong, in words that tell nothing of the server's own network."""
    if has_cause(error, RefusedAddressError):
        return "the receiver is not on the public internet"
    if has_cause(error, ssl.SSLCertVerificationError):
        return "the receiver's certificate is not valid"
    return "the receiver did not answer, or not in time"
