"""Measures bytes at equal quality against sharp, and how near `optimize` comes to its targets.

`python -m benchmarks.quality [FOLDER]` prints both as Markdown. FOLDER holds pictures below
`photos/` and `graphics/`, or nothing but photographs; without it the photos of the example sites
are taken. The ruler is SSIMULACRA2, the package `ssimulacra2`; it takes a second a megapixel.
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pyvips
from ssimulacra2 import compute_ssimulacra2

from benchmarks.sharp import FOLDER as SHARP_FOLDER
from benchmarks.sharp import Sharp, SharpMissing, running
from example_sites.fetch import fetch
from optidash_integrations import formats
from optidash_integrations.engine.encode import ENCODERS, Recipe, encode, write
from optidash_integrations.engine.quality import MEASURED_FROM, TARGETS, kind_of, opaque, settle

KINDS = ("photos", "graphics")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
WIDTH = 800
"""Of photographs, so that one takes half a second to score."""

FEWEST_PIXELS, MOST_PIXELS = 4_000, 1_600_000
SCORES = (65, 75, 85)
TOLERANCE = 4.0


@dataclass(frozen=True)
class Contest:
    """An encoder of ours beside sharp's: settings of both sides, and what ours may take."""

    name: str
    recipe: Recipe
    settings: tuple[int, ...]
    theirs: str
    their_settings: tuple[int, ...]
    at_most: float


CONTESTS = (
    Contest(
        "JPEG",
        Recipe(formats.JPEG, settled=True, progressive=False),
        (25, 48, 66, 80, 92),
        "jpeg",
        (30, 55, 72, 85, 94),
        0.95,
    ),
    Contest(
        "JPEG, patient",
        Recipe(formats.JPEG, settled=True, patient=True),
        (25, 48, 66, 80, 92),
        "jpeg",
        (30, 55, 72, 85, 94),
        0.92,
    ),
    Contest("WebP", Recipe(formats.WEBP), (20, 50, 70, 84, 95), "webp", (20, 50, 70, 84, 95), 1.00),
    Contest(
        "WebP, patient",
        Recipe(formats.WEBP, patient=True),
        (20, 50, 70, 84, 95),
        "webp",
        (20, 50, 70, 84, 95),
        1.00,
    ),
    Contest("AVIF", Recipe(formats.AVIF), (25, 40, 52, 66, 85), "avif", (25, 40, 52, 66, 85), 1.04),
)


def named(folder: Path) -> list[Path]:
    """Return the pictures of a folder, in order."""
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def picture(path: Path, size: float | None) -> pyvips.Image:
    """Return a picture on white: as wide as `size`, or that share of it, or as it is."""
    image = pyvips.Image.new_from_file(str(path)).autorot()
    if image.interpretation not in ("srgb", "b-w"):
        image = image.colourspace("srgb")
    if size is not None:
        image = image.resize(size if size <= 1 else size / image.width)
    elif image.width * image.height > MOST_PIXELS:
        image = image.resize(math.sqrt(MOST_PIXELS / (image.width * image.height)))
    return opaque(image.cast("uchar"))


def score(image: pyvips.Image, content: bytes) -> float:
    """Return the SSIMULACRA2 of an encoded picture against the one that it was made of."""
    made = opaque(pyvips.Image.new_from_buffer(content, ""))
    files = [io.BytesIO(each.pngsave_buffer(compression=1, keep=0)) for each in (image, made)]
    return float(compute_ssimulacra2(*files))


def bytes_at(points: Sequence[tuple[float, int]], wanted: float) -> float | None:
    """Return the bytes for a score, between points of (score, bytes); None beyond them."""
    points = sorted(points)
    for (low, small), (high, large) in pairwise(points):
        if low <= wanted <= high:
            share = (wanted - low) / (high - low) if high > low else 0
            return small * (large / small) ** share
    return None


def ratios(image: pyvips.Image, file: Path, contest: Contest, sharp: Sharp) -> list[float | None]:
    """Return for each of `SCORES` our bytes as a share of sharp's."""
    recipe = replace(contest.recipe, graphic=kind_of(image).graphic)
    ours = [write(image, replace(recipe, quality=setting)) for setting in contest.settings]
    result = file.with_suffix(".result")
    theirs = []
    for setting in contest.their_settings:
        sharp.make(file, contest.theirs, options={"quality": setting}, result=str(result))
        theirs.append(result.read_bytes())
    sides = [[(score(image, made), len(made)) for made in side] for side in (ours, theirs)]
    found = [[bytes_at(side, wanted) for wanted in SCORES] for side in sides]
    return [a / b if a and b else None for a, b in zip(*found, strict=True)]


def png_ratio(image: pyvips.Image, file: Path, sharp: Sharp) -> float:
    """Return our lossless PNG's bytes as a share of sharp's."""
    theirs = sharp.make(file, "png")["bytes"]
    return len(encode(image, Recipe(formats.PNG, lossless=True))) / theirs


def contests(pictures: Sequence[tuple[str, Path, pyvips.Image]], folder: Path) -> Iterator[str]:
    """Yield the table of bytes at equal quality, line by line."""
    with tempfile.TemporaryDirectory(prefix="quality-") as temporary, running(folder) as sharp:
        yield f"| picture | {' | '.join(each.name for each in CONTESTS)} | PNG |"
        yield f"| --- |{' --- |' * (len(CONTESTS) + 1)}"
        columns: dict[tuple[str, str], list[float]] = {}
        for kind, path, image in pictures:
            file = Path(temporary) / "source.png"
            image.pngsave(str(file), compression=1, keep=0)
            cells = []
            for contest in CONTESTS:
                found = ratios(image, file, contest, sharp)
                columns.setdefault((kind, contest.name), []).extend(each for each in found if each)
                cells.append(" ".join(f"{each:.2f}" if each else "-" for each in found))
            columns.setdefault((kind, "PNG"), []).append(png_ratio(image, file, sharp))
            cells.append(f"{columns[kind, 'PNG'][-1]:.2f}")
            yield f"| {path.stem} | {' | '.join(cells)} |"
        for kind in KINDS:
            means = [columns.get((kind, name)) for name in (*(c.name for c in CONTESTS), "PNG")]
            if any(means):
                cells = [
                    f"{statistics.geometric_mean(each):.3f}" if each else "-" for each in means
                ]
                yield f"| **{kind}, mean** | {' | '.join(cells)} |"


def aims(pictures: Sequence[tuple[str, Path, pyvips.Image]]) -> Iterator[str]:
    """Yield the table of how near `low`, `medium` and `high` come, line by line."""
    yield "| kind, pixels | format | target | pictures | below | above | lossless | time |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for image_format in (formats.JPEG, formats.WEBP, formats.AVIF):
        for compression, target in TARGETS.items():
            rows: dict[tuple[str, bool], list[tuple[float, bool, float]]] = {}
            for kind, _, image in pictures:
                large = image.width * image.height >= MEASURED_FROM
                rows.setdefault((kind, large), []).append(
                    aimed(image, image_format, compression, target)
                )
            for (kind, large), found in sorted(rows.items()):
                below = sum(off < -TOLERANCE for off, _, _ in found)
                above = sum(off > TOLERANCE and not exact for off, exact, _ in found)
                times = statistics.median(took for _, _, took in found)
                size = "from 0.5 MP" if large else "below 0.5 MP"
                yield (
                    f"| {kind}, {size} | {image_format.name} | {target} | {len(found)} | {below} "
                    f"| {above} | {sum(exact for _, exact, _ in found)} | {times:.2f} |"
                )


def aimed(
    image: pyvips.Image, image_format: formats.Format, compression: str, target: int
) -> tuple[float, bool, float]:
    """Return how far off the target a picture is, whether losslessly, and its time in encodes."""
    begin = time.perf_counter()
    recipe = settle(image, Recipe(image_format, compression=compression, progressive=False), write)
    settled = time.perf_counter()
    content = ENCODERS[image_format](image, recipe)
    end = time.perf_counter()
    return score(image, content) - target, recipe.lossless, (end - begin) / (end - settled)


def gathered(folder: Path | None) -> list[tuple[str, Path, pyvips.Image]]:
    """Return kind, path and pixels of the pictures to measure."""
    if folder is None:
        return [("photos", path, picture(path, WIDTH)) for path in fetch()]
    if not any((folder / kind).is_dir() for kind in KINDS):
        return [("photos", path, picture(path, WIDTH)) for path in named(folder)]
    found = []
    for kind in KINDS:
        for path in named(folder / kind):
            image = picture(path, WIDTH if kind == "photos" else None)
            if image.width * image.height >= FEWEST_PIXELS:
                found.append((kind, path, image))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take each Nth picture")
    parser.add_argument("--sharp", type=Path, default=SHARP_FOLDER, help="where npm has put sharp")
    parser.add_argument("--only", choices=("bytes", "aims"))
    options = parser.parse_args(arguments)
    pictures = gathered(options.folder)[:: options.every]
    tables: dict[str, Callable[[], Iterator[str]]] = {
        "bytes": lambda: contests(pictures, options.sharp),
        "aims": lambda: aims(pictures),
    }
    try:
        for name, table in tables.items():
            if options.only in (None, name):
                for line in table():
                    print(line, flush=True)
                print()
    except SharpMissing as reason:
        print(f"No comparison with sharp: {reason}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
