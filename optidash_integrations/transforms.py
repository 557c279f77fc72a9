"""How many different variants strangers may ask for: the `transforms` setting."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence

from cachetools import TTLCache

from optidash_integrations.operations import Operations, Output, Resize

# Width to height of the boxes that pages use.
SHAPES = (9 / 21, 9 / 16, 2 / 3, 5 / 7, 3 / 4, 4 / 5, 1, 5 / 4, 4 / 3, 7 / 5, 3 / 2, 16 / 9, 21 / 9)

DAY = 86_400.0
SOURCES = 10_000


class TransformPolicy:
    """Decides which operations an unsigned address gets; a signed one gets its own.

    `transforms` is the setting: `none`, `allowlist`, `bounded` or `any`; `widths` (pixels,
    ascending) are what others snap up to, `per_source` how many different ones `bounded` allows
    before that. `clock` gives seconds that only ever grow.
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

        `is_stored` says whether a variant exists already: then it is served exactly.
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
        with self.lock:
            known = self.asked.get(digest)
            if known is None:
                known = self.asked[digest] = set()
            if fingerprint in known:
                return True
            if len(known) >= self.per_source:
                return False
            known.add(fingerprint)
            return True

    def snapped(self, asked: Operations) -> Operations:
        """Return the nearest of a finite set: widths, shapes, fit, place and format."""
        output = Output(format=asked.output.format) if asked.output else None
        if output is not None and output.format is None:
            output = None
        return Operations(resize=self.snapped_box(asked.resize), output=output)

    def snapped_box(self, resize: Resize | None) -> Resize | None:
        if resize is None or not (resize.width or resize.height):
            return None
        width, height = resize.width, resize.height
        if width is None:
            return Resize(height=self.snapped_side(height or 1))
        snapped = self.snapped_side(width)
        if height is None:
            return Resize(width=snapped, upscale=resize.upscale)
        shape = min(SHAPES, key=lambda each: abs(each - width / height))
        return Resize(
            mode=resize.mode,
            width=snapped,
            height=max(1, min(round(snapped / shape), self.max_height)),
            gravity=resize.gravity,
            upscale=resize.upscale,
        )

    def snapped_side(self, pixels: int) -> int:
        return self.widths[min(bisect_left(self.widths, pixels), len(self.widths) - 1)]
