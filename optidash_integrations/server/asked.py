"""What a request asks for: its document, read and checked, apart from the image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from optidash_integrations.errors import OptionError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.server.reception import BadRequestError
from optidash_integrations.server.refusals import InvalidError

BINARY_VALUES = frozenset({"1", "true"})
NOT_OPERATIONS = ("url", "headers", "response", "store", "webhook", "cdn")
MODES = ("binary", "json")
DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's document: operations, and what else it may hold (None where it does not)."""

    operations: Operations
    document: Mapping[str, Any] = field(repr=False)

    def get(self, name: str) -> Mapping[str, Any] | None:
        """Return one of the objects beside the operations; an empty one is as none."""
        return self.document.get(name) or None

    @property
    def is_binary(self) -> bool:
        """Whether the document asks for the image itself as the answer."""
        return mode_of(self.document) == "binary"


def read(document: Mapping[str, Any], limits: Limits) -> Asked:
    """Check a document. Raises OptionError or InvalidError for what is wrong in it."""
    for name in ("response", "store", "webhook", "cdn", "headers"):
        found = document.get(name)
        if found is not None and found != [] and not isinstance(found, Mapping):
            raise OptionError(name, "an object", found)
    mode = mode_of(document)
    if mode is not None and mode not in MODES:
        raise OptionError("response.mode", f"one of {', '.join(MODES)}", mode)
    rest = {name: value for name, value in document.items() if name not in NOT_OPERATIONS}
    return Asked(Operations.from_dict(rest, limits=limits), document)


def check_combination(asked: Asked, *, binary: bool) -> None:
    """Raise InvalidError where the answer can't be an image."""
    for name in ("webhook", "store"):
        if binary and asked.get(name):
            raise InvalidError(f"Binary responses can't be combined with '{name}'")


def mode_of(document: Mapping[str, Any]) -> object:
    response = document.get("response")
    return response.get("mode") if isinstance(response, Mapping) else None


def is_binary_header(value: str | None) -> bool:
    """Say whether a value of `X-Optidash-Binary` asks for the image itself."""
    return (value or "").strip().lower() in BINARY_VALUES


def operations_document(text: bytes) -> dict[str, Any]:
    """Read an operations document; none at all, and an empty list, are an empty one.

    Raises BadRequestError for what is not JSON, InvalidError for what is no object.
    """
    if not text.strip():
        return {}
    found = parsed(text)
    if found == [] or found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidError("The operations must be a JSON object")
    return found


def parsed(text: bytes) -> Any:
    """Read JSON. Raises BadRequestError for anything else, numbers that JSON lacks included."""
    try:
        found = json.loads(text, parse_constant=refused)
    except (ValueError, RecursionError) as error:
        raise BadRequestError("The body can't be read: it must be valid JSON") from error
    check_depth(found)
    return found


def check_depth(found: Any) -> None:
    """Raise BadRequestError for what nobody can mean, and repr and others would stumble over."""
    level, depth = [found], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise BadRequestError(f"The body is nested more than {DEEPEST} levels deep")
        level = [below for each in level for below in within(each)]


def within(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def refused(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")
