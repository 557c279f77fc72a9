"""Asks three example sites for the same photos as three browsers would, and says what they got.

python -m example_sites.demo [--once] [--photos FOLDER]
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image
from rich.console import Console
from rich.table import Table

from example_sites.catalogue import IMAGES
from example_sites.fetch import NotFetched, fetch
from example_sites.servers import SITES, NotStarted, running

BROWSERS = {
    "Chrome": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
    "WebP only": "image/webp,image/*,*/*;q=0.8",
    "old": "image/png,image/*;q=0.8,*/*;q=0.5",
}
FORMATS = {
    "Chrome": {"image/avif", "image/webp"},
    "WebP only": {"image/webp"},
    "old": {"image/jpeg", "image/png", "image/gif"},
}

SIZES = {"same": "", "1280": "?w=1280"}

LEAST_SAVED = {"same": 50.0, "1280": 85.0}
"""Per cent that Chrome has to be saved on a camera's JPEG, by size."""

CAMERA_PIXELS = 5_000_000
CAMERA_QUALITY = 90

# Encoders run as long as they need: what is measured is the first variant, not the original that
# a visitor would get past the deadline.
SETTINGS = {"DEADLINE": "none", "AVIF_BUDGET": "none"}
PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Original:
    """A photo as the sites have it; `from_camera` says that savings are promised on it."""

    path: Path
    size: int
    from_camera: bool


@dataclass(frozen=True)
class Answer:
    """What came for one request; `milliseconds` counts to the last byte."""

    status: int
    body: bytes
    media_type: str
    cache_status: str
    milliseconds: float


@dataclass(frozen=True)
class Row:
    """One line of the table: a photo at one size, asked for twice by one browser."""

    site: str
    photo: str
    size: str
    browser: str
    original: Original
    first: Answer
    second: Answer

    @property
    def saved(self) -> float:
        """Per cent of the original's bytes that were not sent."""
        return 100 - 100 * len(self.first.body) / self.original.size

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each thing that is not as it should be."""
        for which, answer in (("first", self.first), ("second", self.second)):
            if answer.status != 200:
                yield f"the {which} request got status {answer.status}"
                return
        if self.first.media_type not in FORMATS[self.browser]:
            yield f"it got {self.first.media_type}"
        if not re.search(r";\s*hit\b", self.second.cache_status):
            yield f"the second request was no hit ({self.second.cache_status or 'no Cache-Status'})"
        if self.first.body != self.second.body:
            yield "the second request got other bytes than the first"
        least = LEAST_SAVED[self.size]
        if self.browser == "Chrome" and self.original.from_camera and self.saved < least:
            yield f"it saved {self.saved:.0f} %, not {least:.0f} %"


def jpeg_quality(image: Image.Image) -> int | None:
    """Return about which quality (1 to 100, libjpeg's scale) a JPEG was saved at, else None.

    Judged by how far its luminance table stands from the standard's (ITU-T T.81, table K.1),
    whose values add up to 3,689.
    """
    tables = getattr(image, "quantization", None)
    if not tables:
        return None
    scale = 100 * float(sum(tables[0])) / 3689
    return round((200 - scale) / 2 if scale <= 100 else 5000 / scale)


def original(path: Path) -> Original:
    """Read what has to be known of a photo from its head."""
    with Image.open(path) as image:
        quality = jpeg_quality(image)
        large = image.width * image.height >= CAMERA_PIXELS
    from_camera = large and quality is not None and quality >= CAMERA_QUALITY
    return Original(path, path.stat().st_size, from_camera)


def ask(client: httpx.Client, address: str, accept: str) -> Answer:
    """Ask once, as a browser would for an `<img>`."""
    start = time.perf_counter()
    response = client.get(address, headers={"accept": accept})
    milliseconds = 1000 * (time.perf_counter() - start)
    return Answer(
        response.status_code,
        response.content,
        response.headers.get("content-type", "nothing").partition(";")[0],
        response.headers.get("cache-status", ""),
        milliseconds,
    )


def measure(site: str, base: str, originals: Sequence[Original], console: Console) -> Iterator[Row]:
    """Ask a site for every photo, at both sizes, as every browser, twice."""
    with (
        httpx.Client(base_url=base, timeout=PATIENCE_SECONDS, trust_env=False) as client,
        console.status("") as status,
    ):
        for photo in originals:
            for size, query in SIZES.items():
                for browser, accept in BROWSERS.items():
                    status.update(f"{site}: {photo.path.name}, {size}, {browser}")
                    address = f"/media/photos/{photo.path.name}{query}"
                    first, second = (ask(client, address, accept) for _ in range(2))
                    yield Row(site, photo.path.name, size, browser, photo, first, second)


def table_of(rows: Sequence[Row]) -> Table:
    """Lay out the rows, a block for each site."""
    table = Table(title="The same photos, three sites, three browsers", title_justify="left")
    for name in ("site", "photo", "px wide", "browser"):
        table.add_column(name, no_wrap=True)
    for name in ("original", "served", "saved", "format"):
        table.add_column(name, no_wrap=True, justify="right" if name != "format" else "left")
    table.add_column("Cache-Status (second)", overflow="fold")
    table.add_column("1st ms", justify="right", no_wrap=True)
    table.add_column("2nd ms", justify="right", no_wrap=True)
    for before, row in zip((None, *rows), rows, strict=False):
        if before and before.site != row.site:
            table.add_section()
        wrong = any(row.problems())
        table.add_row(
            row.site,
            row.photo,
            row.size,
            row.browser,
            f"{row.original.size:,}",
            f"{len(row.first.body):,}",
            f"{row.saved:.0f} %",
            row.first.media_type.removeprefix("image/"),
            row.second.cache_status,
            f"{row.first.milliseconds:,.0f}",
            f"{row.second.milliseconds:,.1f}",
            style="bold red" if wrong else None,
        )
    return table


def report(rows: Sequence[Row], originals: Sequence[Original], console: Console) -> int:
    """Print the table and what is wrong in it; return how many rows are wrong."""
    console.print(table_of(rows))
    cameras = sum(photo.from_camera for photo in originals)
    console.print(
        f"{cameras} of {len(originals)} photos are JPEGs of 5 megapixels or more at quality 90 or "
        "more, most of them saved anew from larger ones (example_sites/photos/ATTRIBUTION.md). "
        "Bytes are of the body. Sites wait for each first variant here (no deadline, no AVIF "
        "budget); without these settings, a visitor gets the original after 5 s.",
        soft_wrap=True,
    )
    wrong = [(row, list(row.problems())) for row in rows]
    wrong = [(row, problems) for row, problems in wrong if problems]
    for row, problems in wrong:
        where = f"{row.site}, {row.photo}, {row.size}, {row.browser}"
        console.print(f"Wrong: {where}: {'; '.join(problems)}", style="red", soft_wrap=True)
    return len(wrong)


def photos_in(folder: Path) -> list[Path]:
    """Return the images in a folder of the user's own."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGES)
    if not found:
        raise NotFetched(f"There are no images in {folder}")
    return found


def demonstrate(photos: Sequence[Path], *, once: bool, console: Console) -> int:
    """Run the three sites and measure them; unless `once`, serve until Ctrl-C.

    Returns an exit code: 1 when something came out wrong.
    """
    originals = [original(path) for path in photos]
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optidash-demo-")))
        bases = {
            site.name: stack.enter_context(running(site, data / site.name, photos, SETTINGS))
            for site in SITES
        }
        rows = [
            row for name, base in bases.items() for row in measure(name, base, originals, console)
        ]
        wrong = report(rows, originals, console)
        if not once:
            for name, base in bases.items():
                console.print(f"{name:7} {base}/")
            console.print("Serving until Ctrl-C.")
            signal.pause()
    return 1 if wrong else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; return 0, 1 when something is wrong, 2 when nothing could run."""
    parser = argparse.ArgumentParser(prog="python -m example_sites.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the table")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="photos of your own")
    options = parser.parse_args(arguments)
    # SIGTERM has to leave by the same way as Ctrl-C, or the sites would stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console()
    if not console.is_terminal:
        console.width = 150
    try:
        photos = photos_in(options.photos) if options.photos else fetch()
        return demonstrate(photos, once=options.once, console=console)
    except (NotFetched, NotStarted) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
