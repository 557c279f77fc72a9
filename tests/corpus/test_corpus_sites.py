"""Files of the folder of test images, served by a small site and asked for as by Chrome.

Those to refuse, and every third of the others; with OPTIDASH_CORPUS_WHOLE=1 all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import ExifTags, Image

from tests.corpus.corpus import WHOLE, Row, is_present, rows
from tests.sites import FRAMEWORKS, site_class
from tests.sites.base import Plan, Reply, Site
from tests.sites.inner import Route
from tests.sites.photos import CHROME

pytestmark = [
    pytest.mark.skipif(not is_present(), reason="no folder of test images"),
    pytest.mark.xdist_group("corpus on sites"),
]

SIDE = 64
"""Variants are scaled down to fit, so that thousands are made in a short time."""

# An AVIF that names a part of itself as the picture, which Pillow does not know of.
CUT_BY_ITS_HEADER = "formats/avif/linku-kimono.mirror-vertical.rotate270.crop.avif"

ORIENTATION = ExifTags.Base.Orientation

TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "APNG": "image/apng",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "ICO": "image/vnd.microsoft.icon",
    "HEIC": "image/heic",
    "HEIF": "image/heif",
    "JXL": "image/jxl",
    "JPEG2000": "image/jp2",
    "SVG": "image/svg+xml",
}


def sample() -> list[Row]:
    """Return some forty files, those that are to be refused among them."""
    every = [row for row in rows() if row.path.stat().st_size < 2_000_000]
    refused = [row for row in every if row.expected == "reject"]
    others = [row for row in every if row.expected != "reject"]
    return refused[:: max(1, len(refused) // 10)] + others[:: max(1, len(others) // 25)]


def served() -> list[Row]:
    """Return the files that go through the site on ASGI."""
    return [
        row
        for place, row in enumerate(rows())
        if WHOLE or row.expected == "reject" or place % 3 == 0
    ]


def cases(found: list[Row]) -> list[object]:
    return [pytest.param(row, id=row.name) for row in found]


@pytest.fixture(scope="module")
def asgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    pytest.importorskip(FRAMEWORKS["asgi"])
    yield from site_of("asgi", tmp_path_factory.mktemp("asgi"))


@pytest.fixture(scope="module", params=["django", "django_async", "flask"])
def other(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    pytest.importorskip(FRAMEWORKS[request.param])
    yield from site_of(request.param, tmp_path_factory.mktemp(request.param))


def site_of(kind: str, folder: Path) -> Iterator[Site]:
    settings = {
        "cache_dir": folder / "cache",
        "max_width": SIDE,
        "max_height": SIDE,
        "deadline": 100,
        "workers": 2,
    }
    with closing(site_class(kind)(Plan({}, folder / "media", settings))) as site:
        yield site


def assert_right(site: Site, row: Row) -> None:
    """Check that a file comes out as the same picture, or as it is."""
    content = row.path.read_bytes()
    name = row.path.suffix.lower()
    target = f"/picture{name}"
    site.inner.routes = {target: Route(content, TYPES.get(row.format, "image/jpeg"))}
    reply = site.get(target, CHROME)
    assert reply.status == 200
    if reply.body == content:
        return
    assert row.expected != "reject", "a file to refuse was changed"
    assert reply.type in ("image/avif", "image/webp")
    assert_picture(reply, row)


def assert_picture(reply: Reply, row: Row) -> None:
    assert max(reply.size) <= SIDE
    if row.expected != "decode" or not row.width or row.name == CUT_BY_ITS_HEADER:
        return
    upright = upright_size(row.path) or (row.width, row.height)
    factor = min(1.0, SIDE / max(upright))
    for side, whole in zip(reply.size, upright, strict=True):
        assert abs(side - max(1, whole * factor)) <= 1, f"{reply.size} of {upright}"


def upright_size(path: Path) -> tuple[int, int] | None:
    """Return the size of the picture as Pillow would turn it upright, None where it reads none."""
    try:
        with Image.open(path) as image:
            turned = image.format != "TIFF" and image.getexif().get(ORIENTATION) in range(5, 9)
            return image.size[::-1] if turned else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("row", cases(served()))
def test_a_file_comes_out_right_or_as_it_is(row: Row, asgi: Site) -> None:
    assert_right(asgi, row)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("row", cases(sample()))
def test_other_frameworks_do_the_same(row: Row, other: Site) -> None:
    assert_right(other, row)


@pytest.mark.parametrize("row", cases([row for row in rows() if row.expected == "reject"]))
def test_the_endpoint_refuses_what_is_to_be_refused(row: Row, asgi: Site) -> None:
    """Ask for a bad file under each name that the endpoint would take it by."""
    for extension in {row.path.suffix.lower().removeprefix("."), "jpg", "png"}:
        name = f"{row.path.stem}.{extension}"
        asgi.keep(name, row.path.read_bytes())
        reply = asgi.get(f"{asgi.mount}{quote(name)}?w=64", CHROME)
        assert reply.status in (404, 413, 415, 422)
        assert reply.type.startswith("text/plain")
        assert reply.headers["cache-control"] == "no-store"
