"""HTML for responsive images: candidate widths, `srcset`, `<img>` and `<picture>`.

Nothing here knows settings: a callable gives the address for some options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from optidash_integrations.formats import BY_NAME

Options = Mapping[str, object]
AddressOf = Callable[[Options], str]

DEFAULT_SIZES = "100vw"


@dataclass(frozen=True, slots=True)
class Picture:
    """An image in markup: its address for some options, and its upright size where it is known.

    `extension` is the fallback's format in a `<picture>`: `jpg` or `png`.
    """

    address: AddressOf
    width: int | None = None
    height: int | None = None
    fallback: str = "jpg"


def candidate_widths(widths: Sequence[int], widest: int | None) -> list[int]:
    """Return the widths to offer of an image: never one above `widest`, where it is known."""
    if widest is None:
        return sorted(set(widths))
    narrower = sorted({width for width in widths if width < widest})
    return [*narrower, widest]


def box_of(picture: Picture, options: Options) -> tuple[int | None, int | None]:
    """Return the displayed size for some options: the asked box, else the image's own shape."""
    width, height = number(options.get("w")), number(options.get("h"))
    if width and height and options.get("fit") in ("crop", "cover", "pad", "fill"):
        return width, height
    if picture.width is None or picture.height is None:
        return width if height else None, height if width else None
    return inside(picture.width, picture.height, width, height, grows=is_growing(options))


def is_growing(options: Options) -> bool:
    return options.get("fit") == "contain"


def inside(
    own_width: int, own_height: int, width: int | None, height: int | None, *, grows: bool
) -> tuple[int, int]:
    factors = [asked / own for asked, own in ((width, own_width), (height, own_height)) if asked]
    factor = min(factors, default=1.0)
    if not grows:
        factor = min(factor, 1.0)
    return max(1, round(own_width * factor)), max(1, round(own_height * factor))


def number(value: object) -> int | None:
    return int(str(value)) if value is not None and str(value).isdigit() else None


def candidates(
    picture: Picture, widths: Sequence[int], options: Options
) -> list[tuple[int, Options]]:
    """Return each width to offer, with the options that give it; a box keeps its shape."""
    box_width, box_height = number(options.get("w")), number(options.get("h"))
    rest = {name: value for name, value in options.items() if name not in ("w", "h")}
    if not (box_width and box_height):
        widest = limit_of(picture, box_width, box_height)
        return [(width, {**rest, "w": width}) for width in candidate_widths(widths, widest)]
    shape = box_height / box_width
    widest = widest_in_shape(picture, shape)
    return [
        (width, {**rest, "w": width, "h": max(1, round(width * shape))})
        for width in candidate_widths(widths, widest)
    ]


def limit_of(picture: Picture, width: int | None, height: int | None) -> int | None:
    """Return the widest candidate: twice what is asked for, and never above the source."""
    own = picture.width
    if height and picture.width and picture.height:
        width = round(picture.width * height / picture.height)
    if width is None:
        return own
    return min(width * 2, own) if own else width * 2


def widest_in_shape(picture: Picture, shape: float) -> int | None:
    if picture.width is None or picture.height is None:
        return None
    return max(1, min(picture.width, round(picture.height / shape)))


def srcset(picture: Picture, widths: Sequence[int], options: Options | None = None) -> str:
    """Return the value of a `srcset` attribute, with width descriptors."""
    offered = candidates(picture, widths, options or {})
    return ", ".join(f"{picture.address(each)} {width}w" for width, each in offered)


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

    `alt` describes the image, and is empty for decoration; `priority` loads it at once and first.
    `attributes` are further ones (`class_` for `class`). Raises ValueError without `alt`.
    """
    if alt is None:
        raise ValueError('alt takes a description of the image, "" for decoration; none was given')
    asked = options or {}
    width, height = box_of(picture, asked)
    offered = candidates(picture, widths, asked)
    fields: dict[str, object] = {
        "src": picture.address(default_of(offered, asked)),
        "srcset": ", ".join(f"{picture.address(each)} {w}w" for w, each in offered),
        "sizes": sizes or default_sizes(width, asked),
        "width": width,
        "height": height,
        "alt": alt,
    }
    fields |= loading(priority=priority)
    return element("img", fields | named(attributes))


def default_of(offered: Sequence[tuple[int, Options]], asked: Options) -> Options:
    """Return the options of `src`: what was asked, else about the middle of what is offered."""
    if asked.get("w") or asked.get("h"):
        return asked
    return offered[len(offered) // 2][1]


def default_sizes(width: int | None, asked: Options) -> str:
    """Return `sizes` where none is given: as wide as the page, or as what was asked for."""
    if width and (asked.get("w") or asked.get("h")):
        return f"(max-width: {width}px) 100vw, {width}px"
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
    as for `img`.
    """
    asked = options or {}
    width, _ = box_of(picture, asked)
    shown = sizes or default_sizes(width, asked)
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
    given = attributes or {}
    return {name.rstrip("_").replace("_", "-"): value for name, value in given.items()}


def element(name: str, attributes: Mapping[str, object]) -> str:
    """Return a void element; attributes that are None or False are left out, True stands alone."""
    parts = [name]
    for key, value in attributes.items():
        if value is True:
            parts.append(key)
        elif value is not None and value is not False:
            parts.append(f'{key}="{escape(str(value))}"')
    return f"<{' '.join(parts)}>"
