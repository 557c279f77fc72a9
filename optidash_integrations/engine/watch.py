"""A time limit on the work on one image.

libvips asks between pieces of pixels whether to go on. A decoder or encoder that works on a whole
picture at once is not interrupted; the limits on pixels keep those short.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from optidash_integrations.errors import OptidashError, TooSlowError
from optidash_integrations.pool import Rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyvips


class Alarms(Protocol):
    """What calls back later."""

    def add(self, visit: Callable[[], float | None], seconds: float) -> None:
        """Call `visit` in so many seconds. Raises RuntimeError where no thread can be started."""


ALARMS = Rounds()

AGAIN = 0.05
"""Seconds between two attempts to stop work whose time is up."""


class Watch:
    """Stops the work on the images that it is set over, `seconds` from now on.

    An alarm tells libvips to stop: being called back by it for every piece of pixels would cost
    more than the limit is worth. `clock` gives seconds that only ever grow.
    """

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        alarms: Alarms = ALARMS,
    ) -> None:
        self.seconds = seconds
        self.clock = clock
        self.ends = clock() + seconds
        self.alarms = alarms
        self.lock = threading.Lock()
        self.image: pyvips.Image | None = None
        self.is_set = False
        self.has_rung = False
        self.has_ended = False

    def over(self, image: pyvips.Image) -> pyvips.Image:
        """Return the image; work on it, and on what is made of it, stops when time is up.

        What is watched already is in memory by then, and is let go. Raises TooSlowError.
        """
        self.check()
        image.set_progress(True)
        with self.lock:
            self.image = image
            if not self.is_set and self.seconds < math.inf:
                self.is_set = True
                with suppress(RuntimeError):  # no thread is left: `check` still looks
                    self.alarms.add(self.ring, max(0.0, self.ends - self.clock()))
        return image

    def ring(self) -> float | None:
        """Stop the work that is going on; return when to try again, as libvips forgets it where
        nothing had begun.
        """
        with self.lock:
            if self.has_ended:
                return None
            self.has_rung = True
            if self.image is not None:
                self.image.set_kill(True)
            return AGAIN

    def check(self) -> None:
        """Raise TooSlowError where time is up."""
        if self.has_rung or self.clock() > self.ends:
            raise TooSlowError(f"the work took more than {self.seconds:g} seconds")

    @contextmanager
    def limit(self) -> Iterator[None]:
        """Raise TooSlowError for the error with which stopped work ends; nothing rings later."""
        try:
            yield
        except OptidashError as error:
            if self.has_rung:
                raise TooSlowError(f"the work took more than {self.seconds:g} seconds") from error
            raise
        finally:
            with self.lock:
                self.image = None
                self.has_ended = True
