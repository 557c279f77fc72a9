"""The colours that a picture is mostly made of.

The pixels of a small copy are gathered in bins; the bins are split into groups where CIELAB, in
which distances are what eyes see, says that they differ most.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from optidash_integrations.engine import vips

if TYPE_CHECKING:
    import pyvips

SMALL_SIDE = 48
"""Of the copy whose pixels are counted."""
COARSE_BITS = 3
"""Lowest bits of a value that make no colour of its own."""
LIKE = 3.0
"""Root of the variance, in CIELAB, up to which a group is not split."""
NEAR = 8.0
"""Distance in CIELAB up to which two groups are one; beyond that the nearest two go together."""
SPARE = 6
"""How many groups more than asked for there are before the nearest are put together."""
OPAQUE = 128
"""From this alpha on a pixel is seen."""
MOST = 0.4
"""From this part of a group on a single bin's colour stands for all of it, unmixed."""
FEW = 6
"""How many groups the dominant colour is the largest of."""
NOTHING = "#ffffff"


@dataclass(frozen=True, slots=True)
class Bin:
    """Pixels of about one colour: how many, their mean in sRGB and that in CIELAB."""

    count: int
    rgb: tuple[float, float, float]
    lab: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Group:
    """Bins of one colour of the palette."""

    bins: tuple[Bin, ...]
    count: int
    mean: tuple[float, ...]
    variances: tuple[float, ...]

    @classmethod
    def of(cls, bins: tuple[Bin, ...]) -> Group:
        count = sum(each.count for each in bins)
        mean = tuple(sum(each.lab[axis] * each.count for each in bins) / count for axis in AXES)
        variances = tuple(
            sum((each.lab[axis] - mean[axis]) ** 2 * each.count for each in bins) / count
            for axis in AXES
        )
        return cls(bins, count, mean, variances)

    @property
    def spread(self) -> float:
        """How much is gained by splitting this group; nothing where it is one colour."""
        variance = sum(self.variances)
        return variance * self.count if len(self.bins) > 1 and variance > LIKE**2 else 0.0

    def halves(self) -> tuple[Group, Group]:
        """Return the group split at the mean of the axis along which it differs most."""
        axis = max(AXES, key=lambda each: self.variances[each])
        low = tuple(each for each in self.bins if each.lab[axis] <= self.mean[axis])
        high = tuple(each for each in self.bins if each.lab[axis] > self.mean[axis])
        return Group.of(low), Group.of(high)

    @property
    def colour(self) -> str:
        """The colour of most of its pixels, else their mean, as `#rrggbb`."""
        most = max(self.bins, key=lambda each: each.count)
        bins = (most,) if most.count >= MOST * self.count else self.bins
        count = sum(each.count for each in bins)
        means = [sum(each.rgb[axis] * each.count for each in bins) / count for axis in AXES]
        return "#" + bytes(round(mean) for mean in means).hex()


AXES = range(3)


def palette(image: pyvips.Image, count: int) -> list[tuple[str, float]]:
    """Return up to `count` colours of a picture, as `#rrggbb`, with the share of its pixels.

    The most common come first; what is transparent has no share. There are fewer where the
    picture has no more, and none where nothing is seen.
    """
    bins = binned(image)
    if not bins:
        return []
    groups = joined(split(Group.of(bins), count + SPARE), count)
    total = sum(group.count for group in groups)
    shares = [(group.colour, round(group.count / total, 4)) for group in groups]
    return sorted(shares, key=lambda each: (-each[1], each[0]))


def dominant(image: pyvips.Image) -> str:
    """Return the colour that most of a picture is like, as `#rrggbb`; white where none is seen."""
    colours = palette(image, FEW)
    return colours[0][0] if colours else NOTHING


def split(group: Group, count: int) -> list[Group]:
    """Return at most `count` groups."""
    groups = [group]
    while len(groups) < count:
        widest = max(groups, key=lambda each: each.spread)
        if not widest.spread:
            break
        groups.remove(widest)
        groups.extend(widest.halves())
    return groups


def joined(groups: list[Group], count: int) -> list[Group]:
    """Return at most `count` groups, none of them near another."""
    groups = list(groups)
    while len(groups) > 1:
        apart, one, other = min(
            (
                (math.dist(one.mean, other.mean), one, other)
                for one, other in combinations(groups, 2)
            ),
            key=lambda pair: pair[0],
        )
        if apart > NEAR and len(groups) <= count:
            break
        groups.remove(one)
        groups.remove(other)
        groups.append(Group.of(one.bins + other.bins))
    return groups


def binned(image: pyvips.Image) -> tuple[Bin, ...]:
    """Return the colours of the pixels that are seen, by their place in the picture."""
    bins: dict[tuple[int, int, int], list[int]] = {}
    for (red, green, blue), count in counted(image).items():
        key = red >> COARSE_BITS, green >> COARSE_BITS, blue >> COARSE_BITS
        sums = bins.setdefault(key, [0, 0, 0, 0])
        sums[0] += count
        sums[1] += red * count
        sums[2] += green * count
        sums[3] += blue * count
    colours = [(n, (r / n, g / n, b / n)) for n, r, g, b in bins.values()]
    labs = in_lab([rgb for _, rgb in colours])
    return tuple(Bin(count, rgb, lab) for (count, rgb), lab in zip(colours, labs, strict=True))


def counted(image: pyvips.Image) -> Counter[tuple[int, int, int]]:
    """Return how often each colour is seen in a small copy."""
    small = image.thumbnail_image(SMALL_SIDE, height=SMALL_SIDE, size="down", no_rotate=True)
    small = small.colourspace("srgb").cast("uchar")
    if not small.hasalpha():
        small = small.addalpha()
    values = bytes(small.write_to_memory())
    colours = zip(values[0::4], values[1::4], values[2::4], strict=True)
    seen = zip(colours, values[3::4], strict=True)
    return Counter(colour for colour, alpha in seen if alpha >= OPAQUE)


def in_lab(colours: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Return colours of sRGB in CIELAB."""
    if not colours:
        return []
    data = bytes(round(value) for colour in colours for value in colour)
    row = vips.pyvips.Image.new_from_memory(data, len(colours), 1, 3, "uchar")
    converted = row.copy(interpretation="srgb").colourspace("lab").cast("float")
    values = memoryview(bytes(converted.write_to_memory())).cast("f").tolist()
    return list(zip(values[0::3], values[1::3], values[2::3], strict=True))
