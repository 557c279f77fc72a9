"""Kinds of values: how a parameter is read from JSON or text, and how it is written again."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from optidash_integrations.addresses import checked_url
from optidash_integrations.colours import Colour, colour_text, parse_colour
from optidash_integrations.errors import OptionError, remade
from optidash_integrations.limits import Limits

T = TypeVar("T")
E = TypeVar("E", bound=OptionError)

PLACES = (
    "center",
    "top-left",
    "top",
    "top-right",
    "right",
    "bottom-right",
    "bottom",
    "bottom-left",
    "left",
)
SEARCHES = ("face", "faces", "smart", "entropy")
FORMATS = ("auto", "jpg", "png", "gif", "webp", "avif", "jp2")

WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
SHAPE = re.compile(r"([0-9]{1,5}):([0-9]{1,5})")
TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Kind(Generic[T]):
    """What a parameter takes. `parse` raises ValueError for anything else."""

    def expected(self, limits: Limits) -> str:
        """Return in words what is accepted."""
        raise NotImplementedError

    def parse(self, raw: Any, limits: Limits) -> T:
        """Return the value."""
        raise NotImplementedError

    def plain(self, value: Any) -> object:
        """Return a value as JSON has it."""
        return value

    def read(self, name: str, raw: object, limits: Limits) -> T:
        """Return the value; raises OptionError under the name given."""
        try:
            return self.parse(raw, limits)
        except (ValueError, TypeError, OverflowError):
            raise OptionError(name, self.expected(limits), raw) from None


def whole(raw: Any) -> int:
    """Read a whole number, or its text."""
    if isinstance(raw, str) and WHOLE.fullmatch(raw.strip()):
        return int(raw)
    if isinstance(raw, float) and raw.is_integer():
        return int(raw)
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise ValueError(raw)
    return raw


def real(raw: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Read a finite number within bounds, or its text."""
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError(raw)
    if isinstance(raw, str) and not REAL.fullmatch(raw.strip()):
        raise ValueError(raw)
    value = float(raw) + 0.0  # minus zero is zero
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError(raw)
    return value


@dataclass(frozen=True)
class Integer(Kind[int]):
    """A whole number within bounds."""

    low: int
    high: int | None = None

    def expected(self, limits: Limits) -> str:
        if self.high is None:
            return "a positive integer" if self.low == 1 else f"an integer, {self.low} or more"
        return f"an integer from {self.low} to {self.high}"

    def parse(self, raw: Any, limits: Limits) -> int:
        value = whole(raw)
        if value < self.low or (self.high is not None and value > self.high):
            raise ValueError(raw)
        return value


@dataclass(frozen=True)
class Side(Kind[int]):
    """A side in pixels, up to the limit of this name."""

    limit: str

    def expected(self, limits: Limits) -> str:
        return f"a positive integer up to {getattr(limits, self.limit)}"

    def parse(self, raw: Any, limits: Limits) -> int:
        value = whole(raw)
        if not 1 <= value <= getattr(limits, self.limit):
            raise ValueError(raw)
        return value


@dataclass(frozen=True)
class Number(Kind[float]):
    """A number above 0."""

    def expected(self, limits: Limits) -> str:
        return "a number above 0"

    def parse(self, raw: Any, limits: Limits) -> float:
        value = real(raw, 0)
        if value == 0:
            raise ValueError(raw)
        return value


@dataclass(frozen=True)
class Within(Kind[float]):
    """A number within bounds."""

    low: float
    high: float

    def expected(self, limits: Limits) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    def parse(self, raw: Any, limits: Limits) -> float:
        return real(raw, self.low, self.high)


@dataclass(frozen=True)
class Turn(Kind[float]):
    """An angle in degrees; it comes out from 0 to below 360."""

    def expected(self, limits: Limits) -> str:
        return "an angle in degrees"

    def parse(self, raw: Any, limits: Limits) -> float:
        return real(raw) % 360


@dataclass(frozen=True)
class Factor(Kind[int]):
    """How many times larger; what is no positive integer is refused in the API's own words."""

    called: str
    high: int

    def expected(self, limits: Limits) -> str:
        return f"an integer from 2 to {self.high}"

    def parse(self, raw: Any, limits: Limits) -> int:
        value = whole(raw)
        if not 2 <= value <= self.high:
            raise ValueError(raw)
        return value

    def read(self, name: str, raw: object, limits: Limits) -> int:
        try:
            is_positive = whole(raw) > 0
        except (ValueError, TypeError):
            is_positive = False
        if not is_positive:
            sentence = f"{self.called} 'factor' parameter must be a positive integer"
            raise remade(OptionError, name, self.expected(limits), sentence)
        return super().read(name, raw, limits)


@dataclass(frozen=True)
class Named(Kind[str]):
    """A name made of a few harmless characters, so that it is no path and no markup."""

    what: str
    pattern: re.Pattern[str]

    def expected(self, limits: Limits) -> str:
        return self.what

    def parse(self, raw: Any, limits: Limits) -> str:
        if not isinstance(raw, str) or not self.pattern.fullmatch(raw.strip()):
            raise ValueError(raw)
        return raw.strip()


@dataclass(frozen=True)
class Encoded(Kind[str]):
    """Text in base64; it comes out decoded, without trailing newlines."""

    longest: int

    def expected(self, limits: Limits) -> str:
        return f"text in UTF-8 of 1 to {self.longest} characters, as base64"

    def parse(self, raw: Any, limits: Limits) -> str:
        if not isinstance(raw, str) or len(raw) > self.longest * 8:
            raise ValueError(raw)
        packed = "".join(raw.split())
        text = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True).decode()
        text = text.replace("\r\n", "\n").rstrip("\n")
        if not 1 <= len(text) <= self.longest or "\0" in text:
            raise ValueError(raw)
        return text

    def plain(self, value: Any) -> str:
        return base64.b64encode(value.encode()).decode()


@dataclass(frozen=True)
class WebAddress(Kind[str]):
    """The address of a picture; whether it may be fetched is asked when it is."""

    def expected(self, limits: Limits) -> str:
        return "an http or https address"

    def parse(self, raw: Any, limits: Limits) -> str:
        if not isinstance(raw, str) or len(raw) > 2048:
            raise ValueError(raw)
        checked_url(raw, "an address", allow_http=True)
        return raw


@dataclass(frozen=True)
class Choice(Kind[str]):
    """One of a few words; `aliases` are other spellings of them."""

    words: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def expected(self, limits: Limits) -> str:
        return f"one of {', '.join(self.words)}"

    def parse(self, raw: Any, limits: Limits) -> str:
        if not isinstance(raw, str):
            raise ValueError(raw)
        word = raw.strip().lower()
        word = self.aliases.get(word, word)
        if word not in self.words:
            raise ValueError(raw)
        return word


@dataclass(frozen=True)
class Boolean(Kind[bool]):
    """True or false, or their text."""

    def expected(self, limits: Limits) -> str:
        return "true or false"

    def parse(self, raw: Any, limits: Limits) -> bool:
        if isinstance(raw, bool):
            return raw
        if not isinstance(raw, str) or raw.strip().lower() not in TRUTH:
            raise ValueError(raw)
        return TRUTH[raw.strip().lower()]


@dataclass(frozen=True)
class ColourKind(Kind[Colour]):
    """A colour."""

    def expected(self, limits: Limits) -> str:
        return "a colour as RGB, RRGGBB or RRGGBBAA in hex, or a CSS name"

    def parse(self, raw: Any, limits: Limits) -> Colour:
        if not isinstance(raw, str):
            raise ValueError(raw)
        return parse_colour(raw)

    def plain(self, value: Any) -> str:
        return colour_text(value)


@dataclass(frozen=True)
class Point(Kind[tuple[float, float]]):
    """A point, each coordinate a part of the side."""

    def expected(self, limits: Limits) -> str:
        return "two numbers from 0 to 1, right and down"

    def parse(self, raw: Any, limits: Limits) -> tuple[float, float]:
        if not isinstance(raw, list | tuple):
            raise ValueError(raw)
        x, y = raw
        return real(x, 0, 1), real(y, 0, 1)

    def plain(self, value: Any) -> list[float]:
        return list(value)


@dataclass(frozen=True)
class Ratio(Kind[tuple[int, int]]):
    """A ratio of sides; it comes out in lowest terms."""

    def expected(self, limits: Limits) -> str:
        return 'a ratio such as "16:9"'

    def parse(self, raw: Any, limits: Limits) -> tuple[int, int]:
        match = SHAPE.fullmatch(raw.strip()) if isinstance(raw, str) else None
        if match is None or not int(match[1]) or not int(match[2]):
            raise ValueError(raw)
        width, height = int(match[1]), int(match[2])
        common = math.gcd(width, height)
        return width // common, height // common

    def plain(self, value: Any) -> str:
        return f"{value[0]}:{value[1]}"


COLOUR = ColourKind()
WIDTH = Side("max_width")
HEIGHT = Side("max_height")
QUALITY = Integer(1, 100)
FORMAT = Choice(FORMATS, {"jpeg": "jpg"})
FAMILY = Named("the name of a registered family", re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,63}"))
MARK = Named("the id of a registered watermark", re.compile(r"[A-Za-z0-9_-]{1,64}"))
GRAVITY = Choice(PLACES)
PLACE = Choice((*PLACES, *SEARCHES))


def unknown(error: type[E], place: str, name: object, known: Iterable[str]) -> E:
    """Return the error for a name that is not known in a place."""
    return error(place, f"only {', '.join(sorted(known))}", name)
