"""The pictures and pages that the servers send, made anew for each run."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyvips

from optidash_integrations.formats import WEBP
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.processors import EngineProcessor

FOLDER = "BENCHMARK_FOLDER"
"""The environment variable that tells a server where the material lies."""

SOURCE, SENT = "photo.jpg", "photo.webp"
SIZE, LARGE_SIZE = (840, 630), (2560, 1920)
PAGE = b"<!doctype html><title>A page</title>" + b"<p>Some words of a page.</p>" * 350

# Dates and tags of the sources have to be settled before they count as validators.
SETTLED = 1_700_000_000

# What a present browser sends with a request for an image.
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36",
    "Accept": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9",
    "Referer": "http://127.0.0.1/",
    "Sec-Fetch-Dest": "image",
    "Sec-Fetch-Mode": "no-cors",
    "Sec-Fetch-Site": "same-origin",
}


@dataclass(frozen=True)
class Material:
    """A folder with `sources/photo.jpg`, and the variant made of it as `sent/photo.webp`."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Material:
        """Make the photo and its variant, about 60 kB, in an empty folder."""
        material = cls(folder)
        for path in (material.sources, material.sent):
            path.mkdir()
        photo = picture(*SIZE).jpegsave_buffer(Q=92)
        material.put(material.sources / SOURCE, photo)
        material.put(material.sent / SENT, variant_of(photo))
        return material

    @classmethod
    def here(cls) -> Material:
        """Return the material that this server was told of."""
        return cls(Path(os.environ[FOLDER]))

    @property
    def sources(self) -> Path:
        """The folder of the originals."""
        return self.folder / "sources"

    @property
    def sent(self) -> Path:
        """The folder of what browsers get."""
        return self.folder / "sent"

    @property
    def variant(self) -> bytes:
        """The bytes that every server has to send for the photo."""
        return (self.sent / SENT).read_bytes()

    def put(self, path: Path, data: bytes) -> None:
        """Write a file that looks as if it had lain there for long."""
        path.write_bytes(data)
        os.utime(path, (SETTLED, SETTLED))

    def large_photos(self, count: int) -> list[Path]:
        """Make camera-sized photos of the same pixels, no two with the same bytes."""
        photo = picture(*LARGE_SIZE).jpegsave_buffer(Q=92)
        paths = [self.sources / f"large-{number}.jpg" for number in range(count)]
        for number, path in enumerate(paths):
            self.put(path, with_comment(photo, f"copy {number}"))
        return paths

    def settings(self, **further: Any) -> dict[str, Any]:
        """Return the settings of a server of ours: a cache of its own, and no hurry."""
        cache = Path(tempfile.mkdtemp(prefix="cache-", dir=self.folder))
        ours: dict[str, Any] = {
            "processor": "engine",
            "formats": ("webp",),
            "deadline": None,
            "cache_dir": cache,
        }
        return ours | further


def picture(width: int, height: int) -> pyvips.Image:
    """Return soft shapes with grain on them, which compress about as a photo does."""

    def band(seed: int) -> pyvips.Image:
        shapes = pyvips.Image.perlin(width, height, cell_size=192, seed=seed) * 90
        return shapes + pyvips.Image.perlin(width, height, cell_size=12, seed=seed + 7) * 40 + 128

    grain = pyvips.Image.gaussnoise(width, height, mean=0, sigma=9, seed=1).gaussblur(0.8)
    coloured = band(1).bandjoin(band(2)).bandjoin(band(3)) + grain
    return coloured.cast("uchar").copy(interpretation="srgb").copy_memory()


def variant_of(photo: bytes) -> bytes:
    operations = Operations.from_dict({"optimize": {"compression": "medium"}})
    return EngineProcessor().process(photo, operations, WEBP, Limits()).content


def with_comment(jpeg: bytes, text: str) -> bytes:
    """Return a JPEG with a comment segment: other bytes, the same picture."""
    comment = text.encode()
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    return jpeg[:2] + segment + jpeg[2:]
