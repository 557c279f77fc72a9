"""Sites that only serve what was made ahead."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MakeSite
from tests.sites.inner import Route
from tests.sites.photos import CHROME, photo
from tests.sites.processor import HandProcessor

ROUTES = {"/photo.jpg": Route(photo(), headers=(("ETag", '"app-1"'),))}


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}


def test_what_was_made_ahead_is_served_and_nothing_is_written(
    make_site: MakeSite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "made-ahead"
    maker = make_site(ROUTES, processor=HandProcessor(), cache_dir=cache)
    made = maker.get("/photo.jpg?fm=avif", CHROME)
    maker.finish_work()
    before = contents(cache)

    processor = HandProcessor()
    site = make_site(ROUTES, processor=processor, cache_dir=cache, read_only=True)
    served = site.get("/photo.jpg?fm=avif", CHROME)
    assert (served.body, served.headers["etag"]) == (made.body, made.headers["etag"])
    other = site.get("/photo.jpg?fm=webp", CHROME)
    again = site.get("/photo.jpg?fm=webp", CHROME)
    assert other.body == again.body == photo()
    assert "max-age=60" in other.headers["cache-control"]
    assert "read_only" in other.cache
    assert processor.calls == 0
    assert contents(cache) == before
    assert caplog.text.count("(webp) is not there, and read_only makes none") == 1


def test_without_a_folder_visitors_get_originals(make_site: MakeSite, tmp_path: Path) -> None:
    nowhere = tmp_path / "nothing" / "here"
    site = make_site(ROUTES, cache_dir=nowhere, read_only=True)
    assert site.get("/photo.jpg", CHROME).body == photo()
    assert not nowhere.exists()
