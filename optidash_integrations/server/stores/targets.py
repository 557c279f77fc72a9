"""Where a result is to go: a request's `store`, read with the connectors that the server has."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from optidash_integrations.errors import OptionError
from optidash_integrations.external_storage import Hidden
from optidash_integrations.limits import Limits
from optidash_integrations.server.connectors import Connector, Connectors
from optidash_integrations.server.keys import Key
from optidash_integrations.server.stores.providers import (
    NEEDS_ENDPOINT,
    SECRETS,
    Provider,
    provider_of,
)
from optidash_integrations.values import unknown

LIMITS = Limits()
SUGGESTIONS = frozenset({"acl", "class"})
"""What a request may say otherwise than its connector does."""


@dataclass(frozen=True)
class Target:
    """A place for results. `values` has the parameters by name, credentials among them.

    `is_foreign` says that the address of the store came with the request, so that it must lie on
    the public internet.
    """

    provider: Provider
    values: Mapping[str, str] = field(repr=False)
    path: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    connector: str | None = None
    is_foreign: bool = False

    @property
    def bucket(self) -> str:
        """The bucket, or what the provider calls container."""
        return self.values.get("bucket") or self.values["container"]

    @property
    def endpoint(self) -> str:
        """The store's own address, without a slash at its end."""
        return self.values.get("endpoint") or self.provider.endpoint.format_map(self.values)

    def key_for(self, name: str) -> str:
        """Return the name that a result of this file name gets; each call may give another."""
        if self.path and not self.path.endswith("/"):
            return self.path
        own = name if self.path else f"{secrets.token_hex(16)}-{name}"
        return f"{self.path}{own}"

    def url_of(self, key: str, endpoint: str | None = None) -> str:
        """Return the address that an object is read at, by those who may."""
        own = self.values.get("public_url")
        if own:
            return f"{own}/{quote(key)}"
        parts = {**self.values, "endpoint": endpoint or self.endpoint, "key": quote(key)}
        # A certificate for *.example.org is none for a.b.example.org.
        is_plain = "." not in self.bucket and "endpoint" not in self.values
        template = self.provider.public if is_plain else "{endpoint}/{bucket}/{key}"
        return template.format_map(parts | {"bucket": self.bucket, "container": quote(self.bucket)})


def read_target(document: object, connectors: Connectors, key: Key) -> Target:
    """Read a request's `store`. Raises OptionError, with names such as `store.region`."""
    if not isinstance(document, Mapping) or not all(isinstance(name, str) for name in document):
        raise OptionError("store", "an object of parameters", Hidden())
    given = {name: value for name, value in document.items() if value is not None}
    if "id" in given:
        return with_connector(given, connectors.get(given["id"], key))
    provider = provider_of("store.provider", given.pop("provider", None))
    values = checked(provider, given)
    is_foreign = "endpoint" in values
    for name in (*provider.credentials, *provider.needed):
        if name not in values:
            raise missing(provider, name)
    return made(provider, values, None, is_foreign=is_foreign)


def with_connector(given: dict[str, Any], connector: Connector) -> Target:
    """Read a `store` whose credentials the server has."""
    provider = connector.provider
    del given["id"]
    if "provider" in given and provider_of("store.provider", given.pop("provider")) != provider:
        raise OptionError("store.provider", "the connector's, or nothing", Hidden())
    for name in provider.credentials:
        if name in SECRETS and name in given:
            raise OptionError(f"store.{name}", "nothing where there is an id", Hidden())
    values = checked(provider, given)
    for name in values.keys() & connector.values.keys() - SUGGESTIONS:
        if name not in ("headers", "metadata") and values[name] != connector.values[name]:
            raise OptionError(f"store.{name}", "the connector's, or nothing", values[name])
    merged = {**connector.values, **values}
    for name in ("headers", "metadata"):
        merged[name] = {**connector.values.get(name, {}), **values.get(name, {})}
    if "path" not in values:
        merged.pop("path", None)
    for name in provider.needed:
        if name not in merged:
            raise missing(provider, name)
    is_foreign = "endpoint" not in connector.values and "endpoint" in merged
    return made(provider, merged, connector.id, is_foreign=is_foreign)


def checked(provider: Provider, given: Mapping[str, object]) -> dict[str, Any]:
    """Return the parameters of a request as they are meant."""
    for name in given:
        if name not in provider.parameters:
            raise unknown(OptionError, "store", name, ("id", "provider", *provider.parameters))
    return {
        name: provider.kind(name).read(f"store.{name}", value, LIMITS)
        for name, value in given.items()
    }


def made(
    provider: Provider, values: Mapping[str, Any], connector: str | None, *, is_foreign: bool
) -> Target:
    if provider.name in NEEDS_ENDPOINT and "endpoint" not in values:
        raise missing(provider, "endpoint")
    plain = {name: value for name, value in values.items() if isinstance(value, str)}
    return Target(
        provider,
        plain,
        plain.pop("path", ""),
        values.get("metadata", {}),
        values.get("headers", {}),
        connector,
        is_foreign,
    )


def missing(provider: Provider, name: str) -> OptionError:
    expected = provider.kind(name).expected(LIMITS)
    if name in provider.credentials:
        expected = f"{expected}, unless there is an id"
    return OptionError(f"store.{name}", expected, None)
