"""How many different variants strangers may ask for: the `transforms` setting."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence

from cachetools import TTLCache

from optidash_integrations.operations import Operations, Output, Resize

# Width to height of the boxes that pages use, from a phone held upright to a banner.
SHAPES = (
    (9, 16),
    (2, 3),
    (3, 4),
    (4, 5),
    (1, 1),
    (5, 4),
    (4, 3),
    (3, 2),
    (16, 9),
    (2, 1),
    (21, 9),
    (3, 1),
)

DAY = 86_400.0
SOURCES = 10_000
"""Of how many sources the counts are kept at a time."""


class TransformPolicy:
    """Decides which operations an unsigned address gets; a signed one gets its own.

    `transforms` is the setting: `none`, `allowlist`, `bounded` or `any`; `widths` (pixels,
    ascending) are what others snap up to, `per_source` how many different ones `bounded` allows
    before that. What `allowlist` would leave as it is does not count towards them. `max_height` is
    that of a variant in pixels; `clock` gives seconds that only ever grow. Safe to share between
    threads.
    """

    def __init__(
        self,
        transforms: str,
        widths: Sequence[int],
        per_source: int,
        *,
        max_height: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.transforms = transforms
        self.widths = widths
        self.per_source = per_source
        self.max_height = max_height
        self.lock = threading.Lock()
        self.asked: TTLCache[str, set[str]] = TTLCache(SOURCES, DAY, timer=clock)

    def decide(
        self,
        digest: str,
        asked: Operations,
        *,
        signed: bool,
        is_stored: Callable[[Operations], bool],
    ) -> Operations:
        """Return the operations that a request for the source `digest` gets.

        `is_stored` says whether a variant exists already: then it is served exactly. It is asked
        only past the bound.
        """
        if signed or self.transforms == "any":
            return asked
        if self.transforms == "none":
            return Operations()
        snapped = self.snapped(asked)
        if self.transforms == "allowlist" or snapped == asked:
            return snapped
        if self.has_room(digest, asked.fingerprint) or is_stored(asked):
            return asked
        return snapped

    def has_room(self, digest: str, fingerprint: str) -> bool:
        """Count one more of a source's variants; False where it is one too many.

        The day begins with a source's first one. What was counted keeps its room until then.
        """
        with self.lock:
            known = self.asked.get(digest)
            if known is None:
                known = self.asked[digest] = set()
            if fingerprint not in known and len(known) >= self.per_source:
                return False
            known.add(fingerprint)
            return True

    def snapped(self, asked: Operations) -> Operations:
        """Return the nearest of a finite set: widths, shapes, fit, place and format."""
        chosen = asked.output.format if asked.output else None
        output = Output(format=chosen) if chosen else None
        return Operations(resize=self.snapped_box(asked.resize), output=output)

    def snapped_box(self, resize: Resize | None) -> Resize | None:
        if resize is None or not resize.has_effect:
            return None
        width, height = resize.width, resize.height
        if width and height:
            width, height = self.shaped(width, height)
        elif width:
            width = self.next_width(width)
        else:
            height = min(self.next_width(height or 1), self.max_height)
        return Resize(
            mode=resize.mode,
            width=width,
            height=height,
            gravity=resize.gravity,
            upscale=resize.upscale,
        )

    def shaped(self, width: int, height: int) -> tuple[int, int]:
        """Return a box of one of the widths and shapes; a narrower one where it is too high."""
        ratio = width / height
        across, down = min(SHAPES, key=lambda shape: abs(math.log(shape[0] / shape[1] / ratio)))
        wide = min(self.next_width(width), max(1, self.max_height * across // down))
        return wide, min(max(1, half_up(wide * down, across)), self.max_height)

    def next_width(self, pixels: int) -> int:
        return self.widths[min(bisect_left(self.widths, pixels), len(self.widths) - 1)]


def half_up(dividend: int, divisor: int) -> int:
    return (2 * dividend + divisor) // (2 * divisor)
