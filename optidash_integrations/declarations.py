"""How an operation is declared: a frozen dataclass whose fields say what each parameter takes.

Its default and when it counts are said there too. Reading, checking, writing and comparing come
from that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, TypeVar

from optidash_integrations.errors import OptionError
from optidash_integrations.limits import Limits
from optidash_integrations.values import Kind, unknown

T = TypeVar("T")


@dataclass(frozen=True)
class Parameter:
    """How an operation declares one of its parameters; see `parameter`."""

    kind: Kind[Any]
    default: object
    modes: tuple[str, ...]
    instead_of: str


def parameter(
    kind: Kind[T], default: T | None = None, *, modes: tuple[str, ...] = (), instead_of: str = ""
) -> T | None:
    """Declare a parameter as the default of a dataclass field.

    `default` is what its absence means, `modes` the modes in which it counts (all, where empty).
    `instead_of` names a parameter that has no effect where this one (with all others that say the
    same) is given.
    """
    declared = Parameter(kind, default, modes, instead_of)
    return field(default=None, metadata={"parameter": declared})


@dataclass(frozen=True)
class Operation:
    """Base of all operations. A parameter that was not given is None."""

    @classmethod
    def read(cls, name: str, document: object, limits: Limits) -> Self:
        """Return the operation that `document`, an object of parameters, describes.

        Raises OptionError with names that begin with `name`.
        """
        if not isinstance(document, Mapping):
            raise OptionError(name, "an object", document)
        parameters = parameters_of(cls)
        given = {}
        for word, value in document.items():
            if word not in parameters:
                raise unknown(OptionError, name, word, parameters)
            given[word] = parameters[word].kind.read(f"{name}.{word}", value, limits)
        operation = cls(**given)
        operation.check(name, limits)
        return operation

    def check(self, name: str, limits: Limits) -> None:
        """Raise OptionError where a parameter that others make necessary is not given."""
        for word in self.needed():
            if getattr(self, word) is None:
                expected = parameters_of(type(self))[word].kind.expected(limits)
                raise OptionError(f"{name}.{word}", f"{expected} in mode {self.chosen_mode}", None)

    def needed(self) -> tuple[str, ...]:
        """Return the parameters that those given make necessary."""
        return ()

    @property
    def has_effect(self) -> bool:
        """Whether the parameters given are enough to change anything."""
        return True

    @property
    def chosen_mode(self) -> str:
        """The mode given, else the default; empty for an operation that has no modes."""
        mode = parameters_of(type(self)).get("mode")
        return str(getattr(self, "mode", None) or mode.default) if mode else ""

    def given(self) -> dict[str, Any]:
        """Return the values of the parameters that were given."""
        values = {word: getattr(self, word) for word in parameters_of(type(self))}
        return {word: value for word, value in values.items() if value is not None}

    def counting(self) -> dict[str, Parameter]:
        """Return the parameters that have an effect in this mode, beside those given."""
        replaced = self.replaced(self.given())
        return {
            word: declared
            for word, declared in parameters_of(type(self)).items()
            if word not in replaced and (not declared.modes or self.chosen_mode in declared.modes)
        }

    def replaced(self, given: Iterable[str]) -> set[str]:
        """Return the parameters that have no effect because of those given."""
        instead = [(word, p.instead_of) for word, p in parameters_of(type(self)).items()]
        absent = {other for word, other in instead if word not in given}
        return {other for _, other in instead if other} - absent

    def defaults(self) -> dict[str, Any]:
        """Return what the absence of each parameter means, as things stand."""
        counting = self.counting().items()
        return {word: p.default for word, p in counting if p.default is not None}

    def effective(self) -> Self:
        """Return this operation with its defaults spelled out."""
        parameters = parameters_of(type(self))
        defaults = {w: v for w, v in self.defaults().items() if not parameters[w].instead_of}
        return replace(self, **(defaults | self.given()))

    def plain(self, values: Mapping[str, Any]) -> dict[str, object]:
        """Return parameters by name, with values as JSON has them."""
        parameters = parameters_of(type(self))
        return {word: parameters[word].kind.plain(values[word]) for word in sorted(values)}

    def to_dict(self) -> dict[str, object]:
        """Return what was given, by name, with values as JSON has them."""
        return self.plain(self.given())

    def canonical(self) -> dict[str, object]:
        """Return what has an effect and is no default, as `to_dict` does."""
        if not self.has_effect:
            return {}
        counting, defaults = self.counting(), self.defaults()
        return self.plain(
            {w: v for w, v in self.given().items() if w in counting and v != defaults.get(w)}
        )

    def __or__(self, other: Self) -> Self:
        """Return both in one; where both give a parameter, or one instead of it, `other` wins."""
        ours, theirs = self.given(), other.given()
        parameters = parameters_of(type(self))
        kept = {w: v for w, v in ours.items() if parameters[w].instead_of not in theirs}
        return type(self)(**(kept | theirs))


def parameters_of(operation: type[Operation]) -> Mapping[str, Parameter]:
    """Return the parameters that an operation declares, by name."""
    found = DECLARATIONS.get(operation)
    if found is None:
        found = {f.name: f.metadata["parameter"] for f in fields(operation)}
        DECLARATIONS[operation] = found
    return found


DECLARATIONS: dict[type, Mapping[str, Parameter]] = {}


@dataclass(frozen=True)
class Nested(Kind["Operation"]):
    """A parameter that is an object with parameters of its own."""

    of: type[Operation]

    def read(self, name: str, raw: object, limits: Limits) -> Operation:
        """Return the object; raises OptionError, with names that begin with `name`."""
        return self.of.read(name, raw, limits)

    def plain(self, value: Any) -> dict[str, object]:
        """Return the object's parameters, defaults spelled out."""
        found: Operation = value.effective()
        return found.to_dict()
