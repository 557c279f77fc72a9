"""The options in an image address's query, and the document that they stand for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote

from optidash_integrations.errors import OptionError, QueryError
from optidash_integrations.limits import Limits
from optidash_integrations.values import (
    COLOUR,
    FORMAT,
    HEIGHT,
    PLACES,
    QUALITY,
    SEARCHES,
    WIDTH,
    Choice,
    Kind,
    Within,
    unknown,
    whole,
)

OPTION_NAMES = frozenset({"w", "h", "fit", "crop", "fp-x", "fp-y", "rect", "q", "fm", "dpr", "bg"})
"""The canonical names of options that change the image."""

OTHER_NAMES = frozenset({"v", "nbf", "exp", "kid", "s", "dl"})
"""The canonical names of what else an image address may carry."""

ALIASES = {
    "width": "w",
    "height": "h",
    "gravity": "crop",
    "g": "crop",
    "position": "crop",
    "quality": "q",
    "format": "fm",
    "f": "fm",
    "background": "bg",
    "b": "bg",
    "cb": "v",
    "starts": "nbf",
    "expires": "exp",
    "sig": "s",
}

FITS = {
    "clip": "clip",
    "scale-down": "clip",
    "inside": "clip",
    "contain": "contain",
    "crop": "crop",
    "cover": "crop",
    "pad": "pad",
    "fill": "fill",
    "scale": "fill",
    "squeeze": "fill",
}
MODES = {"crop": "fit", "pad": "pad", "fill": "exact"}
FIT_OF_MODE = {mode: fit for fit, mode in MODES.items()}
HIGHEST_DPR = 3
IN_A_QUERY = "only what has an option in a query"
CORNER = re.compile(r"\s*[,\s-]\s*")


class Place(Kind[str]):
    """A place in any spelling: `top-left`, `left,top`, `TOP LEFT`."""

    known: ClassVar = {frozenset(place.split("-")): place for place in (*PLACES, *SEARCHES)}

    def expected(self, limits: Limits) -> str:
        return f"one of {', '.join((*PLACES, *SEARCHES))}"

    def parse(self, raw: Any, limits: Limits) -> str:
        words = frozenset(CORNER.split(str(raw).strip().lower()))
        if words not in self.known:
            raise ValueError(raw)
        return str(self.known[words])


class Rectangle(Kind[dict[str, int]]):
    """A part of the image, in its own pixels."""

    def expected(self, limits: Limits) -> str:
        return "x,y,w,h in pixels"

    def parse(self, raw: Any, limits: Limits) -> dict[str, int]:
        x, y, width, height = (whole(each) for each in str(raw).split(","))
        if min(x, y) < 0 or min(width, height) < 1:
            raise ValueError(raw)
        return {"x": x, "y": y, "width": width, "height": height}


KINDS: dict[str, Kind[Any]] = {
    "w": WIDTH,
    "h": HEIGHT,
    "fit": Choice(tuple(dict.fromkeys(FITS.values())), FITS),
    "crop": Place(),
    "fp-x": Within(0, 1),
    "fp-y": Within(0, 1),
    "rect": Rectangle(),
    "q": QUALITY,
    "fm": FORMAT,
    "dpr": Within(1, HIGHEST_DPR),
    "bg": COLOUR,
}


def pairs_of(query: str | Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return a query's names and values, decoded."""
    if isinstance(query, str):
        return parse_qsl(query.removeprefix("?"), keep_blank_values=True)
    return list(query)


def options_of(
    query: str | Iterable[tuple[str, str]], *, aliases: bool = True
) -> dict[str, tuple[str, str]]:
    """Return the options under their canonical names, each as the name that came and its value.

    Raises QueryError for a repeated name and, with `aliases`, for an unknown one.
    """
    found: dict[str, tuple[str, str]] = {}
    for name, value in pairs_of(query):
        canonical = ALIASES.get(name, name) if aliases else name
        if canonical in found:
            raise QueryError(name, "one value", [found[canonical][1], value])
        if canonical in OPTION_NAMES:
            found[canonical] = (name, value)
        elif aliases and canonical not in OTHER_NAMES:
            raise unknown(QueryError, "the address", name, OPTION_NAMES)
    return found


def document(
    query: str | Iterable[tuple[str, str]], limits: Limits, *, aliases: bool = True
) -> dict[str, Any]:
    """Return the document that a query's options stand for. Raises QueryError."""
    options: dict[str, Any] = {}
    for canonical, (name, raw) in options_of(query, aliases=aliases).items():
        try:
            options[canonical] = KINDS[canonical].read(name, raw, limits)
        except OptionError as error:
            raise QueryError(error.name, error.expected, error.got) from None
    return meaning(options, limits)


def meaning(options: dict[str, Any], limits: Limits) -> dict[str, Any]:
    found: dict[str, Any] = {}
    resize = resize_of(options, limits)
    if resize:
        found["resize"] = resize
    if "rect" in options:
        found["crop"] = options["rect"]
    output = {"quality": options.get("q"), "format": options.get("fm")}
    if output["format"] == "auto":
        del output["format"]
    if "bg" in options and resize.get("mode") != "pad":
        output["background"] = COLOUR.plain(options["bg"])
    output = {name: value for name, value in output.items() if value is not None}
    if output:
        found["output"] = output
    return found


def resize_of(options: dict[str, Any], limits: Limits) -> dict[str, Any]:
    sides = dense_sides(options, limits)
    if not sides:
        return {}
    resize: dict[str, Any] = dict(sides)
    fit = options.get("fit")
    if fit is not None:
        resize["mode"] = MODES.get(fit, "auto") if len(sides) == 2 else "auto"
    if fit == "contain":
        resize["upscale"] = True
    if resize.get("mode") == "fit":
        resize |= place_of(options)
    if resize.get("mode") == "pad" and "bg" in options:
        resize["background"] = COLOUR.plain(options["bg"])
    return resize


def place_of(options: dict[str, Any]) -> dict[str, Any]:
    if "fp-x" in options or "fp-y" in options:
        return {"focus": [options.get("fp-x", 0.5), options.get("fp-y", 0.5)]}
    return {"gravity": options["crop"]} if "crop" in options else {}


def dense_sides(options: dict[str, Any], limits: Limits) -> dict[str, int]:
    """Return width and height times the density; one above a limit lowers the density."""
    names = {"width": "w", "height": "h"}
    sides: dict[str, int] = {n: options[o] for n, o in names.items() if o in options}
    highest = {"width": limits.max_width, "height": limits.max_height}
    asked = Fraction(str(options.get("dpr", 1)))
    density = min([asked, *(Fraction(highest[n], v) for n, v in sides.items())])
    return {n: math.floor(v * density + Fraction(1, 2)) for n, v in sides.items()}


def text(operations: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the query that stands for operations: sorted by name, percent-encoded.

    Raises OptionError where a parameter has no name there.
    """
    padded = operations.get("resize", {}).get("mode") == "pad"
    if padded and "background" in operations.get("output", {}):
        # With bars, `bg` is their colour.
        raise OptionError("an address", IN_A_QUERY, "output.background")
    options: dict[str, str] = {}
    for key, parameters in operations.items():
        for name, value in OPTIONS_OF.get(key, nameless(key))(parameters).items():
            options[name] = text_of(value)
    return "&".join(f"{name}={quote(options[name], safe='')}" for name in sorted(options))


def text_of(value: Any) -> str:
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)


def nameless(key: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def refuse(parameters: Mapping[str, Any]) -> dict[str, Any]:
        raise OptionError("an address", IN_A_QUERY, key)

    return refuse


def resize_options(resize: Mapping[str, Any]) -> dict[str, Any]:
    left = dict(resize)
    options = {"w": left.pop("width", None), "h": left.pop("height", None)}
    mode, upscale = left.pop("mode", "auto"), left.pop("upscale", None)
    if mode == "auto":
        options["fit"] = "contain" if upscale else None
    else:
        options["fit"] = FIT_OF_MODE[mode]
        if upscale is not None and upscale != (mode != "pad"):
            raise OptionError("an address", IN_A_QUERY, "resize.upscale")
    options["crop"] = left.pop("gravity", None)
    options["bg"] = left.pop("background", None)
    focus = left.pop("focus", None)
    if focus is not None:
        options["fp-x"], options["fp-y"] = focus
    return {name: value for name, value in options.items() if value is not None}


def crop_options(crop: Mapping[str, Any]) -> dict[str, Any]:
    left = {name: value for name, value in crop.items() if (name, value) != ("mode", "rect")}
    if not {"x", "y"} <= left.keys() or not left.keys() <= {"x", "y", "width", "height"}:
        raise OptionError("an address", "of crop only a rectangle with x and y", crop)
    return {"rect": ",".join(str(left[name]) for name in ("x", "y", "width", "height"))}


def output_options(output: Mapping[str, Any]) -> dict[str, Any]:
    names = {"quality": "q", "format": "fm", "background": "bg"}
    unnamed = sorted(output.keys() - names.keys())
    if unnamed:
        raise OptionError("an address", IN_A_QUERY, f"output.{unnamed[0]}")
    return {names[name]: value for name, value in output.items()}


OPTIONS_OF = {"resize": resize_options, "crop": crop_options, "output": output_options}
