"""Watermarks: pictures registered in a folder by their names, and laying one over a picture."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optidash_integrations.engine import vips
from optidash_integrations.engine.plan import PLACES
from optidash_integrations.engine.probe import probe_bytes
from optidash_integrations.errors import ImageTooLargeError, OptionError, SourceNotFoundError
from optidash_integrations.limits import Limits

if TYPE_CHECKING:
    import pyvips

NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
FAIL_ON = "fail_on=truncated"
SUFFIXES = (".png", ".webp", ".avif", ".gif", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class Watermarks:
    """The pictures in a folder (None: there is none), by their file names without extension."""

    folder: Path | None = None
    limits: Limits = field(default_factory=Limits)

    def load(self, name: str) -> pyvips.Image:
        """Return a watermark in sRGB with alpha, in memory.

        Raises OptionError where none is registered by that name, ImageError where it is damaged
        or past the limits.
        """
        path = self.path(name)
        if path is None:
            raise OptionError("watermark.id", "the name of a registered watermark", name)
        try:
            with path.open("rb") as file:
                data = file.read(self.limits.max_input_bytes + 1)
        except OSError as error:
            raise SourceNotFoundError(f"{path}: {error.strerror or error}") from error
        if len(data) > self.limits.max_input_bytes:
            raise ImageTooLargeError(f"{path} has more bytes than max_input_bytes allows")
        return opened(data, self.limits)

    def path(self, name: str) -> Path | None:
        """Return the file of a name, None where there is none in the folder."""
        if self.folder is None or not NAME.fullmatch(name):
            return None
        home = self.folder.resolve()
        paths = ((home / f"{name}{suffix}").resolve() for suffix in SUFFIXES)
        # A link in the folder may lead out of it.
        return next((path for path in paths if path.parent == home and path.is_file()), None)


def opened(data: bytes, limits: Limits) -> pyvips.Image:
    """Return the picture in a file, of an animation its first frame: sRGB with alpha, in memory.

    Raises ImageError where it can't be read or is past the limits.
    """
    found = probe_bytes(data, limits)
    colours: dict[str, Any] = {"export_profile": "srgb"} if found.has_profile else {}
    with vips.reading(found.format.label):
        image = vips.pyvips.Image.thumbnail_buffer(
            data,
            found.upright_width,
            height=found.upright_height,
            size="force",
            option_string=FAIL_ON,
            **colours,
        )
        image = image.colourspace("srgb").cast("uchar")
        return (image if image.hasalpha() else image.addalpha()).copy_memory()


def laid(
    image: pyvips.Image,
    mark: pyvips.Image,
    *,
    gravity: str = "center",
    padding: int = 0,
    opacity: float = 1.0,
    size: float | None = None,
    tile: bool = False,
) -> pyvips.Image:
    """Return a picture of 8 bits, sRGB or grey, with a mark of sRGB and alpha over it.

    `padding` is the distance from the edges in pixels, and the one between the marks of a `tile`;
    `size` is a part of the picture's width, of which the mark is made as wide, unless it would be
    higher than the picture. What of a mark lies outside the picture is cut off. Grey stays grey
    under a grey mark.
    """
    mark = shown(resized(mark, image, size), opacity)
    left, top = corner(image, mark, gravity, padding)
    if tile:
        return over(image, repeated(mark, left, top, padding, image), 0, 0)
    return over(image, mark, left, top)


def resized(mark: pyvips.Image, image: pyvips.Image, size: float | None) -> pyvips.Image:
    """Return a mark as wide as a part of the picture, inside the picture's height."""
    if not size:
        return mark
    factor = min(image.width * size / mark.width, image.height / mark.height)
    width, height = (max(1, round(side * factor)) for side in (mark.width, mark.height))
    return mark.thumbnail_image(width, height=height, size="force", no_rotate=True)


def shown(mark: pyvips.Image, opacity: float) -> pyvips.Image:
    """Return a mark that lets through as much as asked."""
    if opacity >= 1:
        return mark
    alpha = (mark[3] * opacity).rint().cast("uchar")
    return mark[:3].bandjoin(alpha).copy(interpretation="srgb")


def corner(image: pyvips.Image, mark: pyvips.Image, gravity: str, padding: int) -> tuple[int, int]:
    """Return where a mark's left top corner lies, which may be outside the picture."""
    x, y = PLACES[gravity]
    left = padding + (image.width - mark.width - 2 * padding) * x
    top = padding + (image.height - mark.height - 2 * padding) * y
    return round(left), round(top)


def repeated(
    mark: pyvips.Image, left: int, top: int, padding: int, image: pyvips.Image
) -> pyvips.Image:
    """Return a sheet of the picture's size full of marks, one of them at the place given."""
    wide, high = mark.width + padding, mark.height + padding
    cell = mark.embed(0, 0, wide, high)
    across, down = -(-image.width // wide) + 1, -(-image.height // high) + 1
    sheet = cell.copy_memory().replicate(across, down)
    return sheet.crop(-left % wide, -top % high, image.width, image.height)


def over(image: pyvips.Image, mark: pyvips.Image, left: int, top: int) -> pyvips.Image:
    """Return a picture with a mark over it; pixels beside the mark stay as they are."""
    x, y = max(left, 0), max(top, 0)
    width = min(left + mark.width, image.width) - x
    height = min(top + mark.height, image.height) - y
    if width <= 0 or height <= 0:
        return image
    part = mark.crop(x - left, y - top, width, height)
    if image.interpretation == "b-w":
        if is_grey(part):
            part = part[1].bandjoin(part[3]).copy(interpretation="b-w")
        else:
            image = image.colourspace("srgb")
    under = image.crop(x, y, width, height)
    space = "b-w" if image.interpretation == "b-w" else "srgb"
    mixed = under.composite2(part, "over", compositing_space=space)
    mixed = mixed[: image.bands].rint().cast("uchar").copy(interpretation=image.interpretation)
    return image.insert(mixed, x, y)


def is_grey(mark: pyvips.Image) -> bool:
    """Say whether a mark has no hue, where anything of it is seen."""
    seen = mark[3] > 0
    apart = (mark[0] - mark[1]).abs() + (mark[1] - mark[2]).abs()
    return bool((seen & (apart > 0)).max() == 0)
