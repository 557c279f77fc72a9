"""HTML for responsive images: candidate widths, `srcset`, `<img>` and `<picture>`.

Nothing here knows settings: a callable gives the address for some options, which have their
canonical names in a query (`w`, `h`, `fit` …).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from optidash_integrations.errors import OptionError
from optidash_integrations.formats import BY_NAME
from optidash_integrations.query import FITS

Options = Mapping[str, object]
AddressOf = Callable[[Options], str]
Candidate = tuple[int, Options]
"""A width in pixels, and the options that give it."""

# `auto, 100vw` would be allowed for lazy images, but with `auto` a browser lays an image out
# without its own size: a page whose CSS gives it none would show it 300 pixels wide (HTML, 4.8.3).
DEFAULT_SIZES = "100vw"

DENSEST = 2
"""The widest candidate is so many times as wide as what is asked for."""

BOXES = frozenset({"crop", "pad", "fill"})
"""The fits that give exactly the box asked for."""

ATTRIBUTE = re.compile(r"[^\s\"'<>/=\x00-\x1f\x7f]+")
RECT = re.compile(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", re.ASCII)
WHITESPACE = re.compile(r"[\t\n\f\r ]")
OUTER_COMMA = re.compile(r"^,|,$")


@dataclass(frozen=True, slots=True)
class Picture:
    """An image in markup: its address for some options, and its size where it is known.

    `width` and `height` are those of the upright image in pixels, `max_width` and `max_height` the
    largest that a variant may have; `fallback` names the format of the `<img>` in a `<picture>`.
    """

    address: AddressOf
    width: int | None = None
    height: int | None = None
    fallback: str = "jpg"
    max_width: int | None = None
    max_height: int | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """What some options show of a picture, in pixels; None is unknown.

    `part` is what there is of the image: all of it, or its `rect`. `box` is the box asked for where
    candidates have to keep its shape, `width` what is shown at the most, `size` what exactly.
    """

    part: tuple[int, int] | None
    box: tuple[int, int] | None
    width: int | None
    size: tuple[int, int] | None

    @classmethod
    def of(cls, picture: Picture, options: Options) -> Frame:
        """Return the frame that options make of a picture."""
        part = part_of(picture, options.get("rect"))
        width, height = pixels(options.get("w")), pixels(options.get("h"))
        fit = FITS.get(str(options.get("fit", "clip")))
        if width and height and fit in BOXES:
            return cls(part, (width, height), width, (width, height))
        if part is None:
            return cls(None, (width, height) if width and height else None, width, None)
        size = inside(*part, width, height, grows=fit == "contain")
        return cls(part, None, size[0] if width or height else None, size)

    def widest(self, picture: Picture) -> int | None:
        """Return how wide a candidate may be: not above the source, nor far above what is shown."""
        bounds = [picture.max_width]
        if self.width:
            bounds.append(self.width * DENSEST)
        if self.part:
            bounds.append(self.part[0])
        shape = self.box or self.part
        if shape:
            heights = (picture.max_height, self.part[1] if self.part and self.box else None)
            bounds += [max(1, height * shape[0] // shape[1]) for height in heights if height]
        return min((bound for bound in bounds if bound), default=None)


def part_of(picture: Picture, rect: object) -> tuple[int, int] | None:
    """Return the size of the picture, or of the part that `rect` cuts out of it."""
    if picture.width is None or picture.height is None:
        return None
    found = RECT.fullmatch(str(rect))
    if not found:
        return picture.width, picture.height
    x, y, width, height = (int(each) for each in found.groups())
    return max(1, min(width, picture.width - x)), max(1, min(height, picture.height - y))


def pixels(value: object) -> int | None:
    """Return a side that was asked for, or None."""
    text = str(value)
    return int(text) or None if text.isascii() and text.isdigit() else None


def inside(
    own_width: int, own_height: int, width: int | None, height: int | None, *, grows: bool
) -> tuple[int, int]:
    """Return the size of an image that keeps its ratio within a box; a side may be missing."""
    factor = min(
        width / own_width if width else math.inf, height / own_height if height else math.inf
    )
    if math.isinf(factor) or (factor > 1 and not grows):
        factor = 1.0
    return half_up(own_width * factor), half_up(own_height * factor)


def half_up(side: float) -> int:
    return max(1, math.floor(side + 0.5))


def candidate_widths(widths: Sequence[int], widest: int | None) -> list[int]:
    """Return the widths to offer of an image, ascending, each once.

    None is above `widest`, where it is known; `widest` itself is one of them unless it is above all
    of `widths`.
    """
    known = sorted(set(widths))
    if widest is None or widest > known[-1]:
        return known
    return [*(width for width in known if width < widest), widest]


def candidates(picture: Picture, widths: Sequence[int], options: Options) -> list[Candidate]:
    """Return each width to offer, with the options that give it; a box keeps its shape.

    What is shown is among them, so that a screen of plain density gets it exactly.
    """
    frame = Frame.of(picture, options)
    widest = frame.widest(picture)
    shown = [frame.width] if frame.width and frame.width <= (widest or 0) else []
    # The density is the browser's to choose among candidates.
    rest = {name: value for name, value in options.items() if name not in ("w", "h", "dpr")}
    offered: list[Candidate] = []
    for width in candidate_widths([*widths, *shown], widest):
        sides = {"w": width}
        if frame.box:
            sides["h"] = half_up(width * frame.box[1] / frame.box[0])
        offered.append((width, {**rest, **sides}))
    return offered


def srcset(picture: Picture, widths: Sequence[int], options: Options | None = None) -> str:
    """Return the value of a `srcset` attribute, with width descriptors; it is not escaped yet."""
    return srcset_of(picture, candidates(picture, widths, options or {}))


def srcset_of(picture: Picture, offered: Sequence[Candidate]) -> str:
    return ", ".join(f"{written(picture.address(each))} {width}w" for width, each in offered)


def written(address: str) -> str:
    """Return an address as a list of candidates can hold it (HTML, 4.8.4.2.1)."""
    address = WHITESPACE.sub(lambda found: f"%{ord(found[0]):02X}", address)
    return OUTER_COMMA.sub("%2C", address)


def img(
    picture: Picture,
    widths: Sequence[int],
    *,
    alt: str | None = None,
    sizes: str | None = None,
    options: Options | None = None,
    priority: bool = False,
    attributes: Mapping[str, object] | None = None,
) -> str:
    """Return an `<img>` element with `srcset`, `sizes`, `width` and `height`.

    Without `widths` it has neither `srcset` nor `sizes`: there is nothing to choose from.

    `alt` describes the image, and is empty for decoration; `priority` loads it at once and first.
    `attributes` are further ones (`class_` for `class`), or others in place of these. Raises
    OptionError without `alt`, or for an attribute's name that HTML does not have.
    """
    if alt is None:
        raise OptionError("alt", 'a description of the image, or "" for decoration', alt)
    asked = options or {}
    frame = Frame.of(picture, asked)
    offered = candidates(picture, widths, asked) if widths else []
    given = named(attributes)
    fields: dict[str, object] = {
        "src": written(picture.address(default_of(offered, asked))),
        "srcset": srcset_of(picture, offered) if offered else None,
        "sizes": (sizes or default_sizes(frame)) if offered else None,
        "alt": alt,
    }
    if frame.size and given.keys().isdisjoint(("width", "height")):
        fields |= {"width": frame.size[0], "height": frame.size[1]}
    return element("img", fields | loading(priority=priority) | given)


def default_of(offered: Sequence[Candidate], asked: Options) -> Options:
    """Return the options of `src`: what was asked, else about the middle of what is offered."""
    if asked.get("w") or asked.get("h") or not offered:
        return asked
    return offered[len(offered) // 2][1]


def default_sizes(frame: Frame) -> str:
    """Return `sizes` where none is given: as wide as the page, or as what was asked for."""
    if frame.width:
        return f"(max-width: {frame.width}px) 100vw, {frame.width}px"
    return DEFAULT_SIZES


def loading(*, priority: bool) -> dict[str, object]:
    if priority:
        return {"loading": "eager", "fetchpriority": "high", "decoding": "async"}
    return {"loading": "lazy", "decoding": "async"}


def picture_element(
    picture: Picture,
    widths: Sequence[int],
    formats: Sequence[str],
    *,
    alt: str | None = None,
    sizes: str | None = None,
    options: Options | None = None,
    priority: bool = False,
    attributes: Mapping[str, object] | None = None,
) -> str:
    """Return a `<picture>` element: a `<source>` for each format, best first, then an `<img>`.

    Every address in it names its format, so that no cache has to tell browsers apart. The rest is
    as for `img`; `attributes` are those of the `<img>`.
    """
    asked = options or {}
    shown = sizes or default_sizes(Frame.of(picture, asked))
    sources = [
        element(
            "source",
            {
                "type": BY_NAME[name].media_type,
                "srcset": srcset(picture, widths, {**asked, "fm": name}),
                "sizes": shown,
            },
        )
        for name in formats
    ]
    fallback = img(
        picture,
        widths,
        alt=alt,
        sizes=shown,
        options={**asked, "fm": picture.fallback},
        priority=priority,
        attributes=attributes,
    )
    return f"<picture>{''.join(sources)}{fallback}</picture>"


def named(attributes: Mapping[str, object] | None) -> dict[str, object]:
    """Return attributes under their names in HTML: `class_` is `class`, `data_id` is `data-id`."""
    found = {name.rstrip("_").replace("_", "-"): v for name, v in (attributes or {}).items()}
    for name in found:
        if not ATTRIBUTE.fullmatch(name):
            raise OptionError("attributes", "names without spaces, quotes and signs", name)
    return found


def element(name: str, attributes: Mapping[str, object]) -> str:
    """Return a void element; attributes that are None or False are left out, True stands alone."""
    parts = [name]
    for key, value in attributes.items():
        if value is True:
            parts.append(key)
        elif value is not None and value is not False:
            parts.append(f'{key}="{escape(str(value))}"')
    return f"<{' '.join(parts)}>"
