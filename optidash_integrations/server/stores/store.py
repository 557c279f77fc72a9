"""Results are sent to stores of the callers' own."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from optidash_integrations.addresses import PORTS, without_secrets
from optidash_integrations.errors import OptionError
from optidash_integrations.guard import RefusedAddressError, checked_addresses
from optidash_integrations.server.connectors import Connectors
from optidash_integrations.server.keys import Key
from optidash_integrations.server.refusals import InvalidError, RefusedError
from optidash_integrations.server.stores.targets import Target, read_target

CODE = re.compile(r"[A-Za-z][A-Za-z0-9]{1,63}")
NEEDS = "This server stores nothing with {}: it lacks pip install 'optidash-integrations[store]'"


class StoreRefusedError(InvalidError):
    """The store can be reached, and does not take the result: its bucket, rights, parameters."""


class StoreUnavailableError(RefusedError):
    """The store can't be reached, or fails; later it may not."""

    public_status = 502


@dataclass(frozen=True)
class Facts:
    """What an object gets beside its bytes. `headers` are spelled as HTTP spells them."""

    headers: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)


class Bucket(Protocol):
    """An opened store. `put` raises StoreRefusedError or StoreUnavailableError."""

    def put(self, key: str, file: Path, facts: Facts) -> str:
        """Store a file under this name; return the address that it is read at."""

    def close(self) -> None:
        """Close its connections."""


OPENERS = {"azure": "azure", "rackspace": "rackspace"}
"""Modules that open stores, by provider; all others speak S3."""

MOST_OPEN = 32


class Stores:
    """Stores results. What connectors open stays open; what a request brings is closed again.

    `allowed` are hosts that a request may name although they are not on the public internet.
    Methods may be called in any thread.
    """

    def __init__(
        self, connectors: Connectors | None = None, *, allowed: Collection[str] = ()
    ) -> None:
        self.connectors = connectors or Connectors()
        self.allowed = frozenset(host.lower() for host in allowed)
        self.lock = threading.Lock()
        self.opened: dict[object, Bucket] = {}

    def checked(self, document: object, key: Key) -> Target:
        """Return where a request's `store` leads. Raises OptionError for anything wrong in it.

        No store is opened; the name of one that the request brings is looked up.
        """
        target = read_target(document, self.connectors, key)
        if target.is_foreign:
            check_public(target.endpoint, self.allowed)
        return target

    def put(self, place: object, file: Path, name: str, media_type: str) -> str:
        """Store a file in a place that `checked` gave; return its address, which is for good.

        `name` is the file name that the caller knows it by. It may take as long as the store does.
        Raises StoreRefusedError or StoreUnavailableError, whose messages are fit for the caller.
        """
        if not isinstance(place, Target):
            raise TypeError(place)
        facts = Facts({"Content-Type": media_type, **place.headers}, place.metadata)
        key = place.key_for(name)
        if place.connector is not None:
            return self.kept(place).put(key, file, facts)
        bucket = self.open(place)
        try:
            return bucket.put(key, file, facts)
        finally:
            bucket.close()

    def kept(self, target: Target) -> Bucket:
        name = (target.connector, target.is_foreign, *sorted(target.values.items()))
        with self.lock:
            if name not in self.opened:
                self.make_room()
                self.opened[name] = self.open(target)
            return self.opened[name]

    def make_room(self) -> None:
        if len(self.opened) >= MOST_OPEN:  # its users end what they do; it is closed with them
            del self.opened[next(iter(self.opened))]

    def open(self, target: Target) -> Bucket:
        provider = target.provider.name
        try:
            module: Any = import_module(f"{__package__}.{OPENERS.get(provider, 's3')}")
        except ModuleNotFoundError as error:
            raise StoreUnavailableError(NEEDS.format(provider)) from error
        allowed = self.allowed if target.is_foreign else None
        bucket: Bucket = module.open_bucket(target, allowed)
        return bucket

    def close(self) -> None:
        """Close all connections; the next result opens new ones."""
        with self.lock:
            opened, self.opened = self.opened, {}
        for bucket in opened.values():
            with suppress(OSError):
                bucket.close()


def check_public(endpoint: str, allowed: Collection[str]) -> None:
    """Raise OptionError for a store on this network. What is dialled is checked once more."""
    parts = urlsplit(endpoint)
    try:
        checked_addresses(parts.hostname or "", parts.port or PORTS[parts.scheme], allowed)
    except (OSError, RefusedAddressError):
        takes = "an address on the public internet"
        raise OptionError("store.endpoint", takes, without_secrets(endpoint)) from None


def refused(reason: object) -> StoreRefusedError:
    """Return the error for a store's refusal; of its words only a code is passed on."""
    code = reason if isinstance(reason, str) and CODE.fullmatch(reason) else ""
    return StoreRefusedError(f"The store refused the result{code and f': {code}'}")


def unavailable() -> StoreUnavailableError:
    return StoreUnavailableError("The store could not be reached, or failed")
