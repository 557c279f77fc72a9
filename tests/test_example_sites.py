"""The example sites run, look right and take uploads; the demonstration tells right from wrong."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from example_sites import catalogue, demo, servers

ROOT = Path(__file__).parents[1]
CHROME = demo.BROWSERS["Chrome"]
CHROMIUM = Path("/usr/bin/chromium")

pytestmark = pytest.mark.xdist_group("example sites")


def photo(width: int, height: int, seed: int = 7, **options: object) -> bytes:
    """Return a JPEG that looks like a photo to an encoder: soft colours with some grain."""
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 215, (8, 12, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grain = random.normal(0, 6, (height, width, 1))
    out = io.BytesIO()
    image = Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8))
    image.save(out, "JPEG", **({"quality": 95} | options))
    return out.getvalue()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "peaks.jpg").write_bytes(photo(1000, 750))
    (folder / "upright.jpg").write_bytes(photo(540, 810, seed=8))
    return folder


@pytest.fixture(scope="module", params=servers.SITES, ids=lambda site: site.name)
def site(
    request: pytest.FixtureRequest, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    data = tmp_path_factory.mktemp("site")
    started = replace(request.param, port=0)
    with servers.running(started, data, sorted(photos.iterdir()), {"DEADLINE": "none"}) as base:
        yield base


@pytest.fixture
def visitor(site: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site, timeout=60, headers={"accept": CHROME}) as client:
        yield client


def image_addresses(page: str) -> set[str]:
    """Return every address that an `<img>` or `<source>` of the page names."""
    values = re.findall(r'\b(src|srcset)="([^"]*)"', page)
    listed = (item for name, value in values for item in unescape(value).split(", "))
    return {item.split()[0] for item in listed if not item.endswith(".js")}


def test_the_gallery_offers_every_photo_in_several_widths(visitor: httpx.Client) -> None:
    page = visitor.get("/").text
    assert page.count("<figure") >= 2
    assert {f"{width}w" for width in (320, 640, 1280, 1600)} & set(re.findall(r"\d+w", page))
    assert "<picture" in page
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", page))


def test_every_address_in_the_gallery_is_an_image(visitor: httpx.Client) -> None:
    addresses = image_addresses(visitor.get("/").text)
    answers = {address: visitor.get(address) for address in addresses}
    assert len(addresses) > 6
    assert {answer.status_code for answer in answers.values()} == {200}
    assert {answer.headers["content-type"] for answer in answers.values()} <= {
        "image/avif",
        "image/webp",
        "image/jpeg",
    }


@pytest.mark.parametrize("browser", demo.BROWSERS)
def test_a_photo_comes_in_a_format_the_browser_accepts(visitor: httpx.Client, browser: str) -> None:
    headers = {"accept": demo.BROWSERS[browser]}
    answer = visitor.get("/media/photos/peaks.jpg?w=640", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] in demo.FORMATS[browser]
    assert "Accept" in answer.headers["vary"]


def test_style_and_script_are_served(visitor: httpx.Client) -> None:
    types = {
        visitor.get(f"/static/{name}").headers["content-type"].partition(";")[0]
        for name in ("gallery.css", "gallery.js")
    }
    assert types <= {"text/css", "text/javascript", "application/javascript"}


def send(visitor: httpx.Client, name: str, content: bytes) -> httpx.Response:
    """Fill in the upload form as a browser does, hidden fields included."""
    page = visitor.get("/").text
    hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]+)"', page))
    files = {"photo": (name, content)}
    return visitor.post("/upload", data=hidden, files=files, follow_redirects=True)


def test_an_upload_shows_up_in_the_gallery_and_is_stored_smaller(visitor: httpx.Client) -> None:
    content = photo(1200, 800, seed=9)
    page = send(visitor, "garden wall.jpg", content)
    assert page.status_code == 200
    assert "garden" in page.text
    (stored,) = set(re.findall(r'href="(/media/uploads/[^"]*garden[^"]*)"', page.text))
    original = visitor.get(unescape(stored), headers={"accept": "image/jpeg"})
    assert original.status_code == 200
    assert len(original.content) < len(content)


def test_an_upload_that_is_no_image_is_refused_with_a_sentence(visitor: httpx.Client) -> None:
    page = send(visitor, "notes.jpg", b"these are notes")
    assert 400 <= page.status_code < 500
    assert re.search(r'role="alert">[A-Z][^<]+\.<', page.text)


def test_an_empty_upload_is_refused_with_a_sentence(visitor: httpx.Client) -> None:
    page = send(visitor, "", b"")
    assert 400 <= page.status_code < 500
    assert 'role="alert"' in page.text


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing")
        pytest.skip("Chromium is missing")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)
        yield browser
        browser.close()


SHOWN = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_in_a_browser_every_picture_shows_and_nothing_overflows(
    site: str, chromium: object, width: int, height: int
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("requestfailed", lambda request: failures.append(request.url))
    page.goto(site)
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
    page.wait_for_function(SHOWN)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert failures == []
    context.close()


def test_in_a_browser_an_upload_shows_up_on_top(
    site: str, chromium: object, tmp_path: Path
) -> None:
    chosen = tmp_path / "lighthouse.jpg"
    chosen.write_bytes(photo(1000, 700, seed=10))
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(site)
    page.set_input_files("input[type=file]", chosen)
    page.click("button")
    first = page.locator(".card").first
    first.scroll_into_view_if_needed()
    assert "lighthouse" in first.inner_text()
    page.wait_for_function("document.querySelector('.card img').naturalWidth > 0")
    context.close()


def test_the_demonstration_prints_a_row_for_every_case_and_ends(photos: Path) -> None:
    run = [sys.executable, "-m", "example_sites.demo", "--once", "--photos", str(photos)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^│ (ASGI|Flask|Django) +│", done.stdout, re.MULTILINE)
    assert len(rows) == len(servers.SITES) * 2 * len(demo.SIZES) * len(demo.BROWSERS)


def test_the_demonstration_says_when_there_are_no_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--once", "--photos", str(tmp_path)]) == 2
    assert "There are no images in" in capsys.readouterr().err


GOOD = demo.Answer(200, b"x" * 10, "image/avif", "Optidash; hit", 1.0)
CAMERA = demo.Original(Path("a.jpg"), 100, from_camera=True)


@pytest.mark.parametrize(
    ("size", "first", "second", "problem"),
    [
        ("same", {}, {}, None),
        ("same", {"status": 404}, {}, "first request got status 404"),
        ("same", {}, {"status": 500}, "second request got status 500"),
        ("same", {"media_type": "image/jpeg"}, {}, "it got image/jpeg"),
        ("same", {}, {"cache_status": "Optidash; fwd=miss; stored"}, "was no hit"),
        ("same", {}, {"cache_status": ""}, "no Cache-Status"),
        ("same", {}, {"body": b"y" * 10}, "other bytes"),
        ("same", {"body": b"x" * 51}, {"body": b"x" * 51}, "it saved 49 %, not 50 %"),
        ("1280", {"body": b"x" * 16}, {"body": b"x" * 16}, "it saved 84 %, not 85 %"),
    ],
)
def test_a_row_tells_what_is_wrong(
    size: str, first: dict[str, object], second: dict[str, object], problem: str | None
) -> None:
    answers = replace(GOOD, **first), replace(GOOD, **second)
    row = demo.Row("ASGI", "a.jpg", size, "Chrome", CAMERA, *answers)
    problems = "; ".join(row.problems())
    assert problem in problems if problem else not problems


@pytest.mark.parametrize("quality", [40, 75, 85, 90, 92, 95])
def test_a_jpegs_quality_is_read_from_its_tables(quality: int) -> None:
    content = photo(16, 16, quality=quality)
    with Image.open(io.BytesIO(content)) as image:
        assert demo.jpeg_quality(image) == pytest.approx(quality, abs=1)


def test_only_large_jpegs_of_high_quality_count_as_a_cameras(tmp_path: Path) -> None:
    cases = {"camera": (2800, 1800, 92), "pressed": (2800, 1800, 85), "small": (640, 480, 95)}
    for name, (width, height, quality) in cases.items():
        Image.new("RGB", (width, height)).save(tmp_path / f"{name}.jpg", quality=quality)
    found = {name: demo.original(tmp_path / f"{name}.jpg").from_camera for name in cases}
    assert found == {"camera": True, "pressed": False, "small": False}


@pytest.mark.parametrize("sample", catalogue.KNOWN.values(), ids=lambda sample: sample.name)
def test_every_sample_photo_is_attributed(sample: catalogue.Photo) -> None:
    attribution = (catalogue.PHOTOS / "ATTRIBUTION.md").read_text()
    facts = (sample.name, sample.title, sample.author, sample.licence, sample.member)
    assert f"| {' | '.join(facts)} |" in attribution


def test_a_picture_that_lies_on_its_side_is_described_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "phone.jpg").write_bytes(photo(60, 40, exif=exif))
    (picture,) = catalogue.pictures(tmp_path)
    assert (picture.width, picture.height) == (40, 60)
