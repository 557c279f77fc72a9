from __future__ import annotations

import multiprocessing
from itertools import count

import pytest

from optidash_integrations import formats
from optidash_integrations.engine.process import process
from optidash_integrations.engine.vips import pyvips
from optidash_integrations.engine.watch import Watch
from optidash_integrations.errors import BrokenImageError, TooSlowError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations

from .pictures import encoded, noise


def test_work_stops_between_pixels_when_its_time_is_up() -> None:
    seconds = count(0, 0.01)
    watch = Watch(0.02, lambda: next(seconds))
    image = watch.over(pyvips.Image.gaussnoise(2000, 2000))
    with pytest.raises(pyvips.Error, match="killed"):
        image.gaussblur(5).copy_memory()
    assert watch.has_rung


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
