"""Secure Storage Connectors: stores that the server's own file names, so that no secret travels.

[connectors.photos]
provider = "aws"
key = { env = "PHOTOS_KEY" }            # or the key itself
secret = { file = "/run/secrets/photos" }
bucket = "photos"                       # what stands here, a request does not change
region = "eu-central-1"
public_url = "https://img.example.org"  # where results are read, if not at the store
keys = ["shop"]                         # who may use it, by the names of keys; without: all
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optidash_integrations.errors import OptionError, SettingsError, shown
from optidash_integrations.limits import Limits
from optidash_integrations.server.keys import Key
from optidash_integrations.server.stores.providers import PROVIDERS, SECRETS, Provider

LIMITS = Limits()
SECTION = "connectors"
REFERENCES = frozenset({"env", "file"})


@dataclass(frozen=True)
class Connector:
    """A store that requests name by `id`; `keys` are names of keys, None lets all use it."""

    id: str
    provider: Provider
    values: Mapping[str, Any] = field(repr=False)
    keys: Collection[str] | None = None

    def is_for(self, key: Key) -> bool:
        """Say whether a key, or the one that made it, may use it."""
        return self.keys is None or key.path in self.keys or key.account_name in self.keys


class Connectors:
    """All connectors of a server. `values` maps ids to what a file says of each.

    Raises SettingsError with a sentence for each that is wrong, and no secret in any.
    """

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        self.all: dict[str, Connector] = {}
        problems: list[str] = []
        for identity, value in (values or {}).items():
            try:
                self.all[identity] = connector_of(identity, value)
            except SettingsError as error:
                problems += error.problems
        if problems:
            raise SettingsError(problems)

    def get(self, identity: object, key: Key) -> Connector:
        """Return the one that a request names; raises OptionError, also where it is not for it."""
        found = self.all.get(identity) if isinstance(identity, str) else None
        if found is None or not found.is_for(key):
            raise OptionError("store.id", "the id of a connector that this key may use", identity)
        return found


def connector_of(identity: str, value: object) -> Connector:
    """Read one connector; raises SettingsError."""
    place = f"{SECTION}.{identity}"
    if not isinstance(value, Mapping):
        raise SettingsError([f"{place} takes a table"])
    given = dict(value)
    provider = PROVIDERS.get(str(given.pop("provider", "")))
    if provider is None:
        raise SettingsError([f"{place}.provider takes one of {', '.join(PROVIDERS)}"])
    keys = given.pop("keys", None)
    problems = [f"{place}.{name} is missing" for name in provider.credentials if name not in given]
    if keys is not None and not is_texts(keys):
        problems.append(f"{place}.keys takes a list of names of keys")
    known = {*provider.parameters, *provider.fixed, "public_url"} - {"path"}
    values: dict[str, Any] = {}
    for name, raw in given.items():
        if name not in known:
            problems.append(f"{place} takes no {name}, only {', '.join(sorted(known))}")
            continue
        try:
            values[name] = provider.kind(name).read(f"{place}.{name}", looked_up(raw), LIMITS)
        except OptionError as error:
            is_secret = name in SECRETS
            problems.append(f"{error.name} takes {error.expected}" if is_secret else str(error))
        except (OSError, UnicodeError) as error:
            problems.append(f"{place}.{name} can't be looked up: {error}")
    if problems:
        raise SettingsError(problems)
    return Connector(identity, provider, values, None if keys is None else frozenset(keys))


def read(path: Path) -> Connectors:
    """Read a TOML file. Raises SettingsError where it can't be read, or something in it is wrong.

    Other tables than `connectors` are left to others.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError([f"the file {path} can't be read: {error.strerror}"]) from None
    except ValueError as error:  # its words name a line, and no value
        raise SettingsError([f"the file {path} is not TOML: {shown(str(error))}"]) from None
    section = document.get(SECTION, {})
    if not isinstance(section, Mapping):
        raise SettingsError([f"{SECTION} takes a table for each connector"])
    return Connectors(section)


def is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def looked_up(raw: object) -> object:
    """Return a value, or what `{env = …}` or `{file = …}` stands for.

    Raises OSError where that is nothing.
    """
    if not isinstance(raw, Mapping) or len(raw) != 1 or not raw.keys() <= REFERENCES:
        return raw
    [(kind, name)] = raw.items()
    if kind == "file":
        return Path(str(name)).read_text("utf-8").strip()
    try:
        return os.environ[str(name)]
    except KeyError:
        raise OSError(f"there is no variable {name} in the environment") from None
