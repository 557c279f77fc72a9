"""A time limit on the work on one image.

libvips asks between pieces of pixels whether to go on. A decoder or encoder that works on a whole
picture at once is not interrupted; the limits on pixels keep those short.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from optidash_integrations.errors import OptidashError, TooSlowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyvips


class Watch:
    """Stops the work on the images that it is set over, `seconds` from now on.

    `clock` gives seconds that only ever grow.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.clock = clock
        self.ends = clock() + seconds
        self.has_rung = False
        self.handles: list[Any] = []

    def over(self, image: pyvips.Image) -> pyvips.Image:
        """Return the image; work on it, and on what is made of it, stops when time is up."""
        image.set_progress(True)
        image.signal_connect("eval", self.tick)
        # What libvips calls belongs to pyvips' object, which may go long before libvips' image
        # does: the process would end there.
        self.handles.extend(getattr(image, "_handles", ()))
        return image

    def tick(self, image: pyvips.Image, progress: Any) -> None:
        if self.clock() > self.ends:
            self.has_rung = True
            image.set_kill(True)

    def check(self) -> None:
        """Raise TooSlowError where time is up."""
        if self.has_rung or self.clock() > self.ends:
            raise TooSlowError(f"the work took more than {self.seconds:g} seconds")

    @contextmanager
    def limit(self) -> Iterator[None]:
        """Raise TooSlowError for the error with which stopped work ends."""
        try:
            yield
        except OptidashError as error:
            if self.has_rung:
                raise TooSlowError(f"the work took more than {self.seconds:g} seconds") from error
            raise
