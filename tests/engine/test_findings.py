"""What damaged files and operations chosen at random have brought to light."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image

from optidash_integrations import formats
from optidash_integrations.engine.process import process
from optidash_integrations.errors import OptionError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations

from .pictures import encoded, noise, quarters


def made(data: bytes, document: dict[str, object], **limits: object) -> Image.Image:
    kept = Limits(**limits)
    variant = process(data, Operations.from_dict(document, limits=kept), formats.PNG, kept)
    return Image.open(io.BytesIO(variant.content))


def test_a_source_that_browsers_refuse_is_not_given_back_as_it_is() -> None:
    png = bytearray(encoded(Image.new("L", (4, 4))))
    png[29] ^= 1  # the checksum of its header, which libvips does not look at
    image = made(bytes(png), {})
    image.load()
    assert image.size == (4, 4)


def test_the_first_frame_is_all_that_is_packed_without_loss() -> None:
    apng = encoded(quarters(), save_all=True, append_images=[noise(80, 40)], duration=50)
    document = {"output": {"animated": False}, "optimize": {"compression": "lossless"}}
    assert getattr(made(apng, document), "n_frames", 1) == 1


def test_text_longer_than_can_be_drawn_is_refused() -> None:
    text = {"text": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4" * 6, "size": 258, "width": 4}
    with pytest.raises(OptionError, match=r"text\.size"):
        made(encoded(quarters()), {"text": text})


def cost(effects: dict[str, object]) -> float:
    """Return the seconds of work, in all threads, that effects take."""
    began = time.process_time()
    picture = encoded(noise(100, 100).convert("RGBA"))
    made(picture, {"scale": {"size": 6}, "filter": effects}, max_seconds=60)
    return time.process_time() - began


def test_a_blur_is_made_once_whatever_looks_at_it() -> None:
    blur = {"blur": {"value": 250}}
    assert cost({**blur, "pixelate": 100, "sepia": True}) < 1.5 * cost(blur)
