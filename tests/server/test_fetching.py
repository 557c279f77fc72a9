"""What is fetched comes in as uploads do: small images in memory, large ones onto the disk."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from optidash_integrations.server.fetching import FetchError, Fetching, wanted_of
from optidash_integrations.server.reception import TooMuchError, Upload
from tests.origin import Origin
from tests.server.live import configured, running
from tests.sites.photos import photo

MIB = 1024 * 1024
LARGE = 48 * MIB
UNTOLD = {"Content-Length": ""}
"""An answer that ends with its connection."""


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as found:
        yield found


def fetched(
    origin: Origin, content: bytes, path: Path, memory: int = 0, most: int = LARGE, **more: str
) -> Upload:
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    origin.routes["/harbour.jpg"] = lambda asked: (200, headers, content)
    fetching = Fetching((), 30.0, most, download=origin.download)
    return fetching.fetch(wanted_of(origin.url("/harbour.jpg"), None), path, memory)


def test_a_large_image_is_never_in_memory(origin: Origin, tmp_path: Path) -> None:
    content = photo() + bytes(LARGE - len(photo()))
    tracemalloc.start()
    try:
        upload = fetched(origin, content, tmp_path / "file", memory=MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (upload.source, upload.size, upload.name) == (tmp_path / "file", LARGE, "harbour.jpg")
    assert (tmp_path / "file").read_bytes() == content
    assert peak < 8 * MIB


@pytest.mark.parametrize("spare", [-1, 0])
def test_only_what_is_too_large_for_memory_goes_to_a_file(
    origin: Origin, tmp_path: Path, spare: int
) -> None:
    upload = fetched(origin, photo(), tmp_path / "file", memory=len(photo()) + spare)
    assert (upload.source == photo()) is (spare == 0)
    assert (tmp_path / "file").exists() is (spare < 0)
    assert upload.size == len(photo())


@pytest.mark.parametrize("headers", [{}, UNTOLD])
def test_what_is_too_long_is_given_up(origin: Origin, tmp_path: Path, headers: dict) -> None:
    most = len(photo())
    assert fetched(origin, photo(), tmp_path / "one", most=most, **headers).size == most
    with pytest.raises(TooMuchError, match=f"at most {most} bytes"):
        fetched(origin, photo() + b"x", tmp_path / "two", most=most, **headers)


def test_what_is_no_image_is_not_read_to_its_end(origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="it does not send an image"):
        fetched(origin, b"<html>" + bytes(LARGE), tmp_path / "file", most=2 * LARGE)
    assert not (tmp_path / "file").exists()


def test_a_broken_off_answer_is_no_image(origin: Origin, tmp_path: Path) -> None:
    length = {"Content-Length": str(len(photo()) + 1)}
    with pytest.raises(FetchError, match="there is no connection"):
        fetched(origin, photo(), tmp_path / "file", **length)


def test_a_picture_that_operations_name_is_bounded_too(origin: Origin) -> None:
    origin.routes["/mark.png"] = lambda asked: (200, UNTOLD, photo())
    assert Fetching((), 30.0, MIB, download=origin.download).mark(origin.url("/mark.png"))


def test_a_fetch_leaves_nothing_behind(origin: Origin, tmp_path: Path) -> None:
    large = photo() + bytes(5 * MIB)
    with running(configured(tmp_path, max_input_bytes=8 * MIB)) as live:
        for content in (photo(), large, photo() + bytes(9 * MIB), b"none"):
            origin.routes["/it.jpg"] = lambda asked, content=content: (200, UNTOLD, content)
            answer = live.fetch({"url": f"http://127.0.0.1:{origin.port}/it.jpg"})
            assert answer.status in (200, 413, 422)
            if answer.status == 200:
                assert answer.json["input"]["bytes"] == len(content)
        assert live.left_behind() == []
        assert live.results() == 2
