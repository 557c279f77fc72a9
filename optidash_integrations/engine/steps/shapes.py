"""Shapes with smooth edges: how much of each pixel lies inside, 0 to 1 in one band."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.engine.vips import pyvips as vips

if TYPE_CHECKING:
    import pyvips


def ellipse(width: int, height: int) -> pyvips.Image:
    """Return the ellipse that touches all four edges."""
    across, down = from_middle(width, height)
    x, y = across * (2 / width), down * (2 / height)
    outside = x * x + y * y - 1
    # Divided by its slope, the ellipse's equation is about the distance from it in pixels.
    slope = ((x * (4 / width)) ** 2 + (y * (4 / height)) ** 2) ** 0.5
    return covered(outside / (slope + 1e-6))


def rounded(width: int, height: int, radius: float) -> pyvips.Image:
    """Return the whole box with round corners of `radius` pixels, at most half of a side."""
    radius = min(radius, width / 2, height / 2)
    across, down = from_middle(width, height)
    x = positive(across.abs() - (width / 2 - radius))
    y = positive(down.abs() - (height / 2 - radius))
    return covered((x * x + y * y) ** 0.5 - radius)


def from_middle(width: int, height: int) -> tuple[pyvips.Image, pyvips.Image]:
    place = vips.Image.xyz(width, height).cast("float")
    return place[0] - (width - 1) / 2, place[1] - (height - 1) / 2


def covered(distance: pyvips.Image) -> pyvips.Image:
    """Return what lies inside where the distance from the edge, in pixels, is negative."""
    part = distance * -1 + 0.5
    return (part > 1).ifthenelse(1, positive(part)).cast("float")


def positive(image: pyvips.Image) -> pyvips.Image:
    return (image > 0).ifthenelse(image, 0).cast("float")
