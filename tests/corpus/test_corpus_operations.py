"""Every good file of the folder of test images, through operations of all kinds.

Each goes through one of ten documents; OPTIDASH_CORPUS_WHOLE=1 takes each through all of them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from optidash_integrations import formats
from optidash_integrations.engine.process import process
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from tests.fuzz.samples import is_read

from .corpus import WHOLE, is_present, rows

pytestmark = pytest.mark.skipif(not is_present(), reason="no folder of test images")

LIMITS = Limits(svg=True)
PART = 10
"""One of so many documents is done to a file."""

STILL = {"animated": False}


def fit(width: int, height: int, **more: object) -> dict[str, object]:
    return {"mode": "fit", "width": width, "height": height, **more}


@dataclass(frozen=True)
class Work:
    """Operations and an output, and the size that comes out whatever the source's is."""

    document: dict[str, Any]
    output: str
    size: tuple[int, int]


WORKS = (
    Work({"resize": fit(64, 48, gravity="smart"), "output": STILL}, "jpg", (64, 48)),
    Work({"resize": {"mode": "exact", "width": 50, "height": 70}}, "webp", (50, 70)),
    Work(
        {
            "resize": {"mode": "pad", "width": 60, "height": 40, "background": "red"},
            "adjust": {"unsharp": 40, "contrast": 20, "saturation": -30, "hue": 40, "gamma": 1.4},
        },
        "gif",
        (60, 40),
    ),
    Work(
        {
            "crop": {"mode": "ratio", "ratio": "1:1", "gravity": "bottom-right"},
            "resize": fit(40, 40),
            "optimize": {"compression": "high"},
            "output": STILL,
        },
        "avif",
        (40, 40),
    ),
    Work(
        {"resize": fit(64, 48), "rotate": {"angle": 90}, "flip": {"vertical": True}},
        "webp",
        (48, 64),
    ),
    Work(
        {
            "resize": fit(40, 30, gravity="entropy"),
            "filter": {"blur": {"value": 3}, "grayscale": True, "vignette": 60},
            "output": STILL,
        },
        "png",
        (40, 30),
    ),
    Work(
        {
            "resize": fit(50, 40),
            "auto": {"enhance": True},
            "text": {"text": "V29yZHM=", "size": 12, "color": "white", "gravity": "bottom"},
            "mask": {"shape": "ellipse"},
            "border": {"size": 3, "color": "blue", "radius": 6},
            "padding": {"size": 5},
        },
        "webp",
        (66, 56),
    ),
    Work(
        {
            "crop": {"mode": "smart", "width": 8, "height": 8},
            "resize": {"mode": "exact", "width": 10, "height": 10},
            "super_resolution": {"factor": 2},
            "filter": {"pixelate": 4, "sepia": True, "invert": True},
            "output": STILL,
        },
        "png",
        (20, 20),
    ),
    Work(
        {
            "resize": {"mode": "exact", "width": 40, "height": 40},
            "detect": {"faces": True, "palette": 3, "placeholder": "thumbhash"},
            "filter": {"duotone": {"dark": "navy", "light": "gold"}},
        },
        "gif",
        (40, 40),
    ),
    Work(
        {
            "resize": fit(48, 32, focus=[0.2, 0.9]),
            "output": {"lossless": True, "profile": "keep", "metadata": "all", **STILL},
        },
        "webp",
        (48, 32),
    ),
)


def cases() -> list[object]:
    good = [row for row in rows() if is_read(row)]
    return [
        pytest.param(row, work, id=f"{row.name}-{number}")
        for place, row in enumerate(good)
        for number, work in enumerate(WORKS)
        if WHOLE or (place - number) % PART == 0
    ]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("row", "work"), cases())
def test_operations_are_done_to_every_file_that_is_read(row: Any, work: Work) -> None:
    operations = Operations.from_dict(work.document)
    output = formats.BY_NAME[work.output]
    variant = process(row.path.read_bytes(), operations, output, LIMITS)
    assert (variant.width, variant.height, variant.content_type) == (*work.size, output.media_type)
    with Image.open(io.BytesIO(variant.content)) as image:
        assert image.size == work.size
        image.load()
