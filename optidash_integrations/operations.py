"""What to do to an image: read, checked, in one canonical form, with a short fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, TypeVar

from optidash_integrations import query as image_query
from optidash_integrations.colours import BLACK, WHITE, Colour
from optidash_integrations.declarations import Nested, Operation, parameter
from optidash_integrations.errors import OptionError
from optidash_integrations.limits import Limits
from optidash_integrations.query import ALIASES as ALIASES
from optidash_integrations.query import OPTION_NAMES as OPTION_NAMES
from optidash_integrations.values import (
    COLOUR,
    FAMILY,
    FORMAT,
    GRAVITY,
    HEIGHT,
    MARK,
    PLACE,
    QUALITY,
    WIDTH,
    Boolean,
    Choice,
    Encoded,
    Factor,
    Integer,
    Number,
    Point,
    Ratio,
    Turn,
    WebAddress,
    Within,
    unknown,
)

Kindred = TypeVar("Kindred", bound="Operation")

LIMITS = Limits()


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
    """A part of the image: a rectangle in its own pixels, the largest part of a ratio, a face with
    what lies around it, or the most interesting part of a size.
    """

    mode: str | None = parameter(Choice(("rect", "ratio", "face", "smart")), "rect")
    x: int | None = parameter(Integer(0), modes=("rect",), instead_of="gravity")
    y: int | None = parameter(Integer(0), modes=("rect",), instead_of="gravity")
    width: int | None = parameter(Integer(1), modes=("rect", "smart"))
    height: int | None = parameter(Integer(1), modes=("rect", "smart"))
    ratio: tuple[int, int] | None = parameter(Ratio(), modes=("ratio",))
    gravity: str | None = parameter(GRAVITY, "center", modes=("rect", "ratio"))
    padding: float | None = parameter(Within(0, 10), 0.5, modes=("face",))

    def needed(self) -> tuple[str, ...]:
        if self.chosen_mode == "ratio":
            return ("ratio",)
        return ("width", "height") if self.given() and self.chosen_mode != "face" else ()

    @property
    def has_effect(self) -> bool:
        return bool(self.given())

    @property
    def is_placed_by_gravity(self) -> bool:
        """Whether neither `x` nor `y` says where the part lies."""
        return self.x is None and self.y is None


@dataclass(frozen=True)
class SuperResolution(Operation):
    """So many times larger, with details where a model knows any."""

    factor: int | None = parameter(Factor("Super-resolution", 4))

    def needed(self) -> tuple[str, ...]:
        return ("factor",) if not self.given() else ()


@dataclass(frozen=True)
class Rotate(Operation):
    """A turn clockwise; the image grows to hold all of it."""

    angle: float | None = parameter(Turn(), 0.0)
    background: Colour | None = parameter(COLOUR)

    @property
    def has_effect(self) -> bool:
        return bool(self.angle)


@dataclass(frozen=True)
class Flip(Operation):
    """A mirror image: left and right changed for `horizontal`, top and bottom for `vertical`."""

    horizontal: bool | None = parameter(Boolean(), default=False)
    vertical: bool | None = parameter(Boolean(), default=False)


@dataclass(frozen=True)
class Auto(Operation):
    """What is done without being told how much."""

    enhance: bool | None = parameter(Boolean(), default=False)


@dataclass(frozen=True)
class Adjust(Operation):
    """Light and colours, each in hundredths both ways; `hue` in degrees."""

    unsharp: float | None = parameter(Within(0, 100), 0.0)
    brightness: float | None = parameter(Within(-100, 100), 0.0)
    contrast: float | None = parameter(Within(-100, 100), 0.0)
    saturation: float | None = parameter(Within(-100, 100), 0.0)
    hue: float | None = parameter(Within(-180, 180), 0.0)
    gamma: float | None = parameter(Within(0.1, 10), 1.0)


@dataclass(frozen=True)
class Blur(Operation):
    """A blur; `value` is its sigma in pixels."""

    mode: str | None = parameter(Choice(("gaussian",)), "gaussian")
    value: float | None = parameter(Within(0.3, 250))

    def needed(self) -> tuple[str, ...]:
        return ("value",)


@dataclass(frozen=True)
class Duotone(Operation):
    """Two colours that shadows and lights become."""

    dark: Colour | None = parameter(COLOUR)
    light: Colour | None = parameter(COLOUR)

    def needed(self) -> tuple[str, ...]:
        return ("dark", "light")


@dataclass(frozen=True)
class Filter(Operation):
    """Effects, in this order; `pixelate` is a block's size in pixels."""

    blur: Blur | None = parameter(Nested(Blur))  # type: ignore[assignment]
    pixelate: int | None = parameter(Integer(1, 100), 1)
    grayscale: bool | None = parameter(Boolean(), default=False)
    sepia: bool | None = parameter(Boolean(), default=False)
    invert: bool | None = parameter(Boolean(), default=False)
    duotone: Duotone | None = parameter(Nested(Duotone))  # type: ignore[assignment]
    tint: Colour | None = parameter(COLOUR)
    vignette: float | None = parameter(Within(0, 100), 0.0)


@dataclass(frozen=True)
class Watermark(Operation):
    """A picture laid over the image: a registered one, or one from an address.

    `padding` is its distance from the edges in pixels, `size` its width as part of the image's.
    """

    id: str | None = parameter(MARK)
    url: str | None = parameter(WebAddress(), instead_of="id")
    gravity: str | None = parameter(GRAVITY, "center")
    padding: int | None = parameter(Integer(0, 4096), 0)
    opacity: float | None = parameter(Within(0, 1), 1.0)
    size: float | None = parameter(Within(0, 1))
    tile: bool | None = parameter(Boolean(), default=False)

    def needed(self) -> tuple[str, ...]:
        return ("id",) if self.given() and self.url is None else ()

    @property
    def has_effect(self) -> bool:
        return self.id is not None or self.url is not None


@dataclass(frozen=True)
class Text(Operation):
    """Words laid over the image; `size`, `padding` and `width` (to wrap at) are in pixels."""

    text: str | None = parameter(Encoded(2_000))
    size: int | None = parameter(Integer(1, 1_000), 20)
    weight: str | None = parameter(
        Choice(("ultralight", "light", "normal", "bold", "ultrabold", "heavy")), "normal"
    )
    style: str | None = parameter(Choice(("normal", "italic")), "normal")
    font: str | None = parameter(FAMILY, "DejaVu Sans")
    color: Colour | None = parameter(COLOUR, BLACK)
    gravity: str | None = parameter(GRAVITY, "center")
    padding: int | None = parameter(Integer(0, 4096), 0)
    width: int | None = parameter(WIDTH)
    opacity: float | None = parameter(Within(0, 1), 1.0)

    def needed(self) -> tuple[str, ...]:
        return ("text",) if self.given() else ()

    @property
    def has_effect(self) -> bool:
        return self.text is not None


@dataclass(frozen=True)
class Mask(Operation):
    """A shape outside of which there is only `background`; `radius` in pixels is of corners."""

    shape: str | None = parameter(Choice(("ellipse", "rounded")), "ellipse")
    radius: int | None = parameter(Integer(0, 8192), modes=("rounded",))
    background: Colour | None = parameter(COLOUR)

    @property
    def chosen_mode(self) -> str:
        return self.shape or "ellipse"

    @property
    def has_effect(self) -> bool:
        return self.shape is not None

    def needed(self) -> tuple[str, ...]:
        if self.chosen_mode == "rounded":
            return ("radius",)
        return ("shape",) if self.given() else ()

    def canonical(self) -> dict[str, object]:
        if not self.has_effect:
            return {}
        return {**super().canonical(), "shape": self.chosen_mode}


@dataclass(frozen=True)
class Border(Operation):
    """A frame of `size` pixels around the image, its corners rounded by `radius` pixels."""

    size: int | None = parameter(Integer(0, 1_024), 0)
    color: Colour | None = parameter(COLOUR, BLACK)
    radius: int | None = parameter(Integer(0, 8_192), 0)
    background: Colour | None = parameter(COLOUR)

    @property
    def has_effect(self) -> bool:
        return bool(self.size or self.radius)


SIDES = ("top", "right", "bottom", "left")


@dataclass(frozen=True)
class Padding(Operation):
    """Room around the image, in pixels: `size` on all sides, or as much as each side says."""

    size: int | None = parameter(Integer(0, 4096), 0)
    top: int | None = parameter(Integer(0, 4096))
    right: int | None = parameter(Integer(0, 4096))
    bottom: int | None = parameter(Integer(0, 4096))
    left: int | None = parameter(Integer(0, 4096))
    color: Colour | None = parameter(COLOUR)

    def defaults(self) -> dict[str, Any]:
        size = self.size or 0
        return super().defaults() | dict.fromkeys(SIDES, size)

    def canonical(self) -> dict[str, object]:
        """Return the four sides, by name, where there is any."""
        if not self.has_effect:
            return {}
        sides = {side: width for side, width in zip(SIDES, self.sides, strict=True) if width}
        colour = {"color": COLOUR.plain(self.color)} if self.color else {}
        return {**sides, **colour}

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Pixels at the top, right, bottom and left."""
        given = self.given()
        size = self.size or 0
        top, right, bottom, left = (int(given.get(side, size)) for side in SIDES)
        return top, right, bottom, left

    @property
    def has_effect(self) -> bool:
        return any(self.sides)


@dataclass(frozen=True)
class Detect(Operation):
    """What the metadata tells of the result: faces, so many main colours, a placeholder."""

    faces: bool | None = parameter(Boolean(), default=False)
    palette: int | None = parameter(Integer(0, 16), 0)
    placeholder: str | None = parameter(Choice(("thumbhash", "blurhash", "color")))


@dataclass(frozen=True)
class Optimize(Operation):
    """How hard to recompress."""

    compression: str | None = parameter(Choice(("lossless", "low", "medium", "high")), "medium")


@dataclass(frozen=True)
class Output(Operation):
    """The format, and how it is written. `background` is for formats without alpha; with `animated`
    false an animation becomes its first frame.
    """

    format: str | None = parameter(FORMAT, "auto")
    quality: int | None = parameter(QUALITY)
    lossless: bool | None = parameter(Boolean(), default=False)
    encoding: str | None = parameter(Choice(("baseline", "progressive")), "progressive")
    metadata: str | None = parameter(Choice(("none", "copyright", "all")), "none")
    profile: str | None = parameter(Choice(("srgb", "keep")), "srgb")
    animated: bool | None = parameter(Boolean(), default=True)
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
    super_resolution: SuperResolution | None = operation(SuperResolution)
    rotate: Rotate | None = operation(Rotate)
    flip: Flip | None = operation(Flip)
    auto: Auto | None = operation(Auto)
    adjust: Adjust | None = operation(Adjust)
    filter: Filter | None = operation(Filter)
    watermark: Watermark | None = operation(Watermark)
    text: Text | None = operation(Text)
    mask: Mask | None = operation(Mask)
    border: Border | None = operation(Border)
    padding: Padding | None = operation(Padding)
    detect: Detect | None = operation(Detect)
    optimize: Optimize | None = operation(Optimize)
    output: Output | None = operation(Output)

    @classmethod
    def from_dict(cls, document: Mapping[str, object], *, limits: Limits = LIMITS) -> Operations:
        """Read the API's JSON document; raise OptionError for anything wrong in it."""
        if not isinstance(document, Mapping):
            raise OptionError("operations", "an object", document)
        document = with_own_names(document)
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


def with_own_names(document: Mapping[str, object]) -> Mapping[str, object]:
    """Return the document with `stylize`, the former name of `filter`, replaced."""
    if "stylize" not in document:
        return document
    if "filter" in document:
        raise OptionError("operations", "either filter or stylize, its former name", ["both"])
    return {"filter" if name == "stylize" else name: value for name, value in document.items()}
