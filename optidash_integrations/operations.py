"""What to do to an image: read, checked, in one canonical form, with a short fingerprint.

An operation is declared: a frozen dataclass whose fields say what kind of value each parameter
takes, its default, and when it counts. Reading, checking, writing and comparing come from that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self, TypeVar

from optidash_integrations import query as image_query
from optidash_integrations.colours import WHITE, Colour
from optidash_integrations.errors import OptionError
from optidash_integrations.limits import Limits
from optidash_integrations.query import ALIASES as ALIASES
from optidash_integrations.query import OPTION_NAMES as OPTION_NAMES
from optidash_integrations.values import (
    COLOUR,
    FORMAT,
    GRAVITY,
    HEIGHT,
    PLACE,
    QUALITY,
    WIDTH,
    Boolean,
    Choice,
    Integer,
    Kind,
    Number,
    Point,
    Ratio,
    unknown,
)

T = TypeVar("T")
Kindred = TypeVar("Kindred", bound="Operation")

LIMITS = Limits()


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
class Resize(Operation):
    """Another size in pixels. `auto` and `pad` keep all of the image, `fit` covers the box."""

    mode: str | None = parameter(Choice(("auto", "fit", "exact", "pad")), "auto")
    width: int | None = parameter(WIDTH)
    height: int | None = parameter(HEIGHT)
    gravity: str | None = parameter(PLACE, "center", modes=("fit",))
    focus: tuple[float, float] | None = parameter(
        Point(), (0.5, 0.5), modes=("fit",), instead_of="gravity"
    )
    upscale: bool | None = parameter(Boolean())
    background: Colour | None = parameter(COLOUR, modes=("pad",))

    def needed(self) -> tuple[str, ...]:
        return () if self.chosen_mode == "auto" else ("width", "height")

    def defaults(self) -> dict[str, Any]:
        return super().defaults() | {"upscale": self.chosen_mode in ("fit", "exact")}

    @property
    def has_effect(self) -> bool:
        return self.width is not None or self.height is not None

    @property
    def upscales(self) -> bool:
        """Whether a small image may grow: as given, else as the mode has it."""
        return bool(self.effective().upscale)


@dataclass(frozen=True)
class Scale(Operation):
    """A factor `size` on both sides; `ratio` is one more on the height."""

    size: float | None = parameter(Number(), 1.0)
    ratio: float | None = parameter(Number(), 1.0)


@dataclass(frozen=True)
class Crop(Operation):
    """A part of the image: a rectangle in its own pixels, or the largest part of a ratio."""

    mode: str | None = parameter(Choice(("rect", "ratio")), "rect")
    x: int | None = parameter(Integer(0), modes=("rect",), instead_of="gravity")
    y: int | None = parameter(Integer(0), modes=("rect",), instead_of="gravity")
    width: int | None = parameter(Integer(1), modes=("rect",))
    height: int | None = parameter(Integer(1), modes=("rect",))
    ratio: tuple[int, int] | None = parameter(Ratio(), modes=("ratio",))
    gravity: str | None = parameter(GRAVITY, "center")

    def needed(self) -> tuple[str, ...]:
        if self.chosen_mode == "ratio":
            return ("ratio",)
        return ("width", "height") if self.given() else ()

    @property
    def is_placed_by_gravity(self) -> bool:
        """Whether neither `x` nor `y` says where the part lies."""
        return self.x is None and self.y is None


@dataclass(frozen=True)
class Optimize(Operation):
    """How hard to recompress."""

    compression: str | None = parameter(Choice(("lossless", "low", "medium", "high")), "medium")


@dataclass(frozen=True)
class Output(Operation):
    """The format, and how it is written. `background` is for formats without alpha."""

    format: str | None = parameter(FORMAT, "auto")
    quality: int | None = parameter(QUALITY)
    lossless: bool | None = parameter(Boolean(), default=False)
    encoding: str | None = parameter(Choice(("baseline", "progressive")), "progressive")
    background: Colour | None = parameter(COLOUR, WHITE)


def operation(kind: type[Kindred]) -> Kindred | None:
    """Declare an operation as the default of a field of `Operations`."""
    return field(default=None, metadata={"operation": kind})


@dataclass(frozen=True, eq=False, repr=False)
class Operations:
    """Everything asked of one image. Immutable; equal where the meaning is, not the spelling."""

    resize: Resize | None = operation(Resize)
    scale: Scale | None = operation(Scale)
    crop: Crop | None = operation(Crop)
    optimize: Optimize | None = operation(Optimize)
    output: Output | None = operation(Output)

    @classmethod
    def from_dict(cls, document: Mapping[str, object], *, limits: Limits = LIMITS) -> Operations:
        """Read the API's JSON document; raise OptionError for anything wrong in it."""
        if not isinstance(document, Mapping):
            raise OptionError("operations", "an object", document)
        for name in document:
            if name not in DECLARED:
                raise unknown(OptionError, "operations", name, sorted(DECLARED))
        read = {name: DECLARED[name].read(name, document[name], limits) for name in document}
        return cls(**read)  # type: ignore[arg-type]

    @classmethod
    def from_query(
        cls,
        query: str | Iterable[tuple[str, str]],
        *,
        limits: Limits = LIMITS,
        aliases: bool = True,
    ) -> Operations:
        """Read the query of an image's address, as text or as decoded pairs.

        With `aliases=False` only canonical names count, and all others are ignored. Raises
        QueryError, with names as in the query, for anything wrong in it.
        """
        return cls.from_dict(image_query.document(query, limits, aliases=aliases), limits=limits)

    def given(self) -> dict[str, Operation]:
        """Return the operations that were given, by name, sorted."""
        values = {name: getattr(self, name) for name in sorted(DECLARED)}
        return {name: value for name, value in values.items() if value is not None}

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Return what was given, also where it is a default, in canonical names and values."""
        return {name: found.to_dict() for name, found in self.given().items()}

    def canonical(self) -> dict[str, dict[str, object]]:
        """Return what these operations mean: sorted, without defaults and what has no effect."""
        found = {name: found.canonical() for name, found in self.given().items()}
        return {name: parameters for name, parameters in found.items() if parameters}

    def to_query(self) -> str:
        """Return the canonical query of an image's address; it means the same.

        Raises OptionError for what no query says.
        """
        return image_query.text(self.canonical())

    @cached_property
    def canonical_json(self) -> str:
        """The canonical form as text: equal exactly where the meaning is."""
        return json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that are equal where the meaning is, in every process."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()[:16]

    def __or__(self, other: Operations) -> Operations:
        """Return both in one; where both give a parameter, `other` wins."""
        if not isinstance(other, Operations):
            return NotImplemented
        ours, theirs = self.given(), other.given()
        both = {name: ours[name] | theirs[name] for name in ours.keys() & theirs.keys()}
        return Operations(**(ours | theirs | both))  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Operations):
            return NotImplemented
        return self.canonical_json == other.canonical_json

    def __hash__(self) -> int:
        return hash(self.canonical_json)

    def __repr__(self) -> str:
        return f"Operations({self.to_dict()})"


DECLARED: Mapping[str, type[Operation]] = {
    f.name: f.metadata["operation"] for f in fields(Operations)
}
