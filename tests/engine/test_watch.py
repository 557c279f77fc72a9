from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable

import pytest

from optidash_integrations import formats
from optidash_integrations.engine.process import process
from optidash_integrations.engine.vips import pyvips
from optidash_integrations.engine.watch import AGAIN, Watch
from optidash_integrations.errors import BrokenImageError, TooSlowError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations

from .pictures import encoded, noise


class Hand:
    """Alarms that ring when the test says so."""

    def __init__(self) -> None:
        self.visits: list[tuple[Callable[[], float | None], float]] = []

    def add(self, visit: Callable[[], float | None], seconds: float) -> None:
        self.visits.append((visit, seconds))


def test_work_stops_between_pixels_when_its_time_is_up() -> None:
    watch = Watch(0.02)
    image = watch.over(pyvips.Image.gaussnoise(4000, 4000))
    with pytest.raises(pyvips.Error, match="killed"):
        image.gaussblur(5).copy_memory()
    assert watch.has_rung


def test_what_is_begun_after_the_end_stops_at_once() -> None:
    hand = Hand()
    watch = Watch(30, lambda: 0.0, hand)
    watch.over(pyvips.Image.gaussnoise(300, 300)).copy_memory()
    [(ring, seconds)] = hand.visits
    assert seconds == 30
    assert ring() == AGAIN
    with pytest.raises(TooSlowError), watch.limit():
        watch.over(pyvips.Image.gaussnoise(300, 300))
    assert ring() is None


def test_work_that_has_ended_is_left_alone_and_let_go() -> None:
    hand = Hand()
    watch = Watch(30, lambda: 0.0, hand)
    with watch.limit():
        image = watch.over(pyvips.Image.gaussnoise(300, 300))
    assert hand.visits[0][0]() is None
    assert not watch.has_rung
    assert watch.image is None
    assert image.copy_memory().width == 300


def test_without_a_limit_no_alarm_is_set() -> None:
    hand = Hand()
    Watch(math.inf, alarms=hand).over(pyvips.Image.black(3, 3))
    assert hand.visits == []


def test_an_image_that_takes_too_long_is_to_blame() -> None:
    blur = Operations.from_dict({"filter": {"blur": {"value": 200}}, "scale": {"size": 4}})
    with pytest.raises(TooSlowError, match=r"more than 0.001 seconds"):
        process(encoded(noise(600, 600)), blur, formats.PNG, Limits(max_seconds=0.001))


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(BrokenImageError), Watch(60).limit():
        raise BrokenImageError("damaged")


def test_every_frame_of_an_animation_counts() -> None:
    source = encoded(noise(200, 200), "gif", save_all=True, append_images=[noise(200, 200)] * 20)
    with pytest.raises(TooSlowError):
        process(source, Operations(), formats.WEBP, Limits(max_seconds=0.005))


def look_over_many() -> None:
    """Watch pictures that pyvips lets go of while libvips still works on what was made of them."""
    watch = Watch(60)
    for number in range(200):
        image = watch.over(pyvips.Image.black(300, 300) + number)
        blurred = image.gaussblur(2)
        del image
        others = [object() for _ in range(10_000)]
        blurred.avg()
        watch.over(blurred.copy_memory()).pngsave_buffer()
        del others


def test_a_watched_picture_may_go_before_what_was_made_of_it() -> None:
    child = multiprocessing.get_context("spawn").Process(target=look_over_many, daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0
