"""What the engine takes for a photo: beside Pillow, sharp, and the calls it makes."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import pyvips
from PIL import Image

from benchmarks.material import Material
from benchmarks.measures import MILLISECONDS, Comparison, Effort, in_turns
from benchmarks.quality import named
from benchmarks.servers import ServerError
from benchmarks.sharp import FOLDER, Sharp, SharpMissing, running
from example_sites.fetch import fetch
from optidash_integrations import formats
from optidash_integrations.engine import pillow
from optidash_integrations.engine.quality import is_smooth
from optidash_integrations.formats import Format
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.processors import EngineProcessor

WIDTH, FEWEST_PIXELS = 1280, 2_000_000
QUALITIES = {formats.JPEG: 80, formats.WEBP: 80, formats.AVIF: 50, formats.PNG: None}
"""Of all sides: sharp's defaults, so that none does another's work."""

PILLOW = {formats.JPEG: "JPEG", formats.WEBP: "WEBP", formats.AVIF: "AVIF", formats.PNG: "PNG"}
SHARP = {formats.JPEG: "jpeg", formats.WEBP: "webp", formats.AVIF: "avif", formats.PNG: "png"}
PHOTOS, NODE = "BENCHMARK_PHOTOS", "BENCHMARK_SHARP"
"""Environment: a folder of photos other than the example sites', and where npm has put sharp."""


@dataclass(frozen=True)
class EngineCase:
    """Photos of some megapixels resized to 1280 pixels and written, one after the other."""

    format: Format
    name: str

    def measure(self, material: Material, effort: Effort) -> list[Comparison]:
        """See `Case.measure`."""
        photos = large_photos()
        sides: dict[str, Callable[[Path], float]] = {
            "the engine": partial(timed, partial(by_engine, self.format)),
            "Pillow, resize": partial(timed, partial(by_pillow, self.format)),
            "Pillow, thumbnail": partial(timed, partial(by_thumbnail, self.format)),
            "the same calls": partial(timed, partial(by_calls, self.format)),
        }
        try:
            with running(Path(os.environ.get(NODE, FOLDER))) as sharp:
                sides["sharp"] = partial(by_sharp, sharp, self.format)
                return self.compared(sides, photos, effort.rounds)
        except SharpMissing as reason:
            print(f"No comparison with sharp: {reason}.")
            del sides["sharp"]
            return self.compared(sides, photos, effort.rounds)

    def compared(
        self, sides: dict[str, Callable[[Path], float]], photos: list[Path], rounds: int
    ) -> list[Comparison]:
        """Take each photo on all sides before the next one; a round is the mean of the photos."""
        for side in sides.values():
            side(photos[0])
        takers = [partial(side, photo) for photo in photos for side in sides.values()]
        taken = in_turns(takers, rounds)
        ours, *others = [
            tuple(fmean(figures) for figures in zip(*taken[at :: len(sides)], strict=True))
            for at in range(len(sides))
        ]
        labels = list(sides)
        return [
            Comparison(self.name, labels[0], label, MILLISECONDS, ours, figures)
            for label, figures in zip(labels[1:], others, strict=True)
        ]


def large_photos() -> list[Path]:
    folder = os.environ.get(PHOTOS)
    paths = named(Path(folder)) if folder else fetch()
    found = [path for path in paths if pixels(path) >= FEWEST_PIXELS]
    if not found:
        raise ServerError("no photo of two megapixels or more to measure with")
    return found


def pixels(path: Path) -> int:
    with Image.open(path) as image:
        return image.width * image.height


def timed(work: Callable[[bytes], object], photo: Path) -> float:
    """Return how many milliseconds a photo takes, its bytes being in memory."""
    data = photo.read_bytes()
    begin = time.perf_counter()
    work(data)
    return (time.perf_counter() - begin) * 1000


def by_engine(target: Format, data: bytes) -> bytes:
    wanted: dict[str, dict[str, object]] = {"resize": {"width": WIDTH}}
    if target is formats.JPEG:
        wanted["output"] = {"encoding": "baseline", "quality": QUALITIES[target]}
    elif QUALITIES[target]:
        wanted["output"] = {"quality": QUALITIES[target]}
    else:
        wanted["optimize"] = {"compression": "lossless"}
    operations = Operations.from_dict(wanted)
    return EngineProcessor().process(data, operations, target, Limits()).content


def by_pillow(target: Format, data: bytes) -> bytes:
    """Do it as most code does: `open`, `resize`, `save`."""
    with Image.open(io.BytesIO(data)) as image:
        size = (WIDTH, round(image.height * WIDTH / image.width))
        return saved(target, image.convert("RGB").resize(size, Image.Resampling.LANCZOS))


def by_thumbnail(target: Format, data: bytes) -> bytes:
    """Do it by `thumbnail`, which has libjpeg decode a smaller picture."""
    with Image.open(io.BytesIO(data)) as image:
        image.thumbnail((WIDTH, image.height), Image.Resampling.LANCZOS)
        return saved(target, image.convert("RGB"))


def saved(target: Format, image: Image.Image) -> bytes:
    file = io.BytesIO()
    quality = {"quality": QUALITIES[target]} if QUALITIES[target] else {}
    image.save(file, PILLOW[target], **quality)
    return file.getvalue()


def by_calls(target: Format, data: bytes) -> bytes:
    """Do what the engine asks of libvips and Pillow, and nothing else."""
    head = pyvips.Image.new_from_buffer(data, "")
    turned = head.get_typeof("orientation") and head.get("orientation") >= 5
    width, height = (head.height, head.width) if turned else (head.width, head.height)
    converted = {"export_profile": "srgb"} if head.get_typeof("icc-profile-data") else {}
    image = pyvips.Image.thumbnail_buffer(
        data,
        WIDTH,
        height=round(height * WIDTH / width),
        size="force",
        option_string="fail_on=truncated",
        **converted,
    ).copy_memory()
    return CALLS[target](image)


def by_libavif(image: pyvips.Image) -> bytes:
    smooth = is_smooth(image)
    speed = 6 if smooth else 7
    return pillow.avif(image, QUALITIES[formats.AVIF], speed, halved=smooth)


CALLS: dict[Format, Callable[[pyvips.Image], bytes]] = {
    formats.JPEG: lambda image: image.jpegsave_buffer(Q=80, quant_table=2, keep=0),
    formats.WEBP: lambda image: pillow.webp(image, 80, effort=4),
    formats.AVIF: by_libavif,
    formats.PNG: lambda image: image.pngsave_buffer(compression=6, filter=0xF8, keep=0),
}


def by_sharp(sharp: Sharp, target: Format, photo: Path) -> float:
    return sharp.make(photo, SHARP[target], width=WIDTH)["time"]


ENGINE = tuple(EngineCase(target, f"engine-{target.name}") for target in QUALITIES)
