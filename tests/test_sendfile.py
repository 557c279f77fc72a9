from __future__ import annotations

from pathlib import Path

import pytest

from optidash_integrations.exchange import Answer, FileBody
from optidash_integrations.sendfile import SendFile
from optidash_integrations.settings import Settings, problems
from tests.conftest import MakeSite
from tests.sites.inner import Route
from tests.sites.photos import photo
from tests.sites.processor import HandProcessor

FOLDER = Path("/var/cache/images")
HEAD = [("content-type", "image/webp"), ("content-length", "9"), ("accept-ranges", "bytes")]


def answer(path: Path = FOLDER / "v1/aa/b c", status: int = 200, length: int = 9) -> Answer:
    return Answer(status, list(HEAD), FileBody(path, 0, length, 9))


def test_nginx_gets_an_address_below_its_prefix() -> None:
    handed = SendFile.parse("X-Accel-Redirect:/internal/").handed_over(answer(), FOLDER)
    assert handed.headers == [
        ("content-type", "image/webp"),
        ("x-accel-redirect", "/internal/v1/aa/b%20c"),
    ]
    assert handed.body == b""


def test_apache_gets_a_path() -> None:
    handed = SendFile.parse("x-sendfile").handed_over(answer(), FOLDER)
    assert ("x-sendfile", "/var/cache/images/v1/aa/b c") in handed.headers


@pytest.mark.parametrize(
    "other",
    [
        answer(Path("/etc/passwd")),
        answer(status=206),
        answer(length=3),
        Answer(200, list(HEAD), b"nine bytes"),
        Answer(304, []),
    ],
)
def test_nothing_else_is_handed_over(other: Answer) -> None:
    assert SendFile.parse("x-sendfile").handed_over(other, FOLDER) is other


@pytest.mark.parametrize(
    "wrong", ["nginx", "x-accel-redirect", "x-accel-redirect:internal", "x-sendfile:/a/", "", 3]
)
def test_a_wrong_setting_is_told(wrong: object) -> None:
    [sentence] = problems({"send_file": wrong}, environ={})
    assert sentence.startswith("send_file takes x-sendfile, or x-accel-redirect:/internal/")


def test_it_is_read_from_a_text_once() -> None:
    settings = Settings(send_file="x-sendfile")
    assert settings.send_file == SendFile("x-sendfile")
    assert Settings(send_file=settings.send_file) == settings


def test_a_site_hands_large_variants_over(make_site: MakeSite) -> None:
    processor = HandProcessor()
    processor.bytes = 400_000  # above what is kept in memory
    big = Route(photo(600, 800, quality=100), headers=(("ETag", '"1"'),))
    site = make_site({"/photo.jpg": big}, processor=processor, send_file="x-sendfile")
    chrome = {"accept": "image/avif,*/*;q=0.5"}
    site.get("/photo.jpg?fm=avif", chrome)
    site.service.store.memory.clear()
    reply = site.get("/photo.jpg?fm=avif", chrome)
    assert (reply.status, reply.type, reply.body) == (200, "image/avif", b"")
    assert Path(reply.headers["x-sendfile"]).stat().st_size == 400_000
    assert reply.headers["etag"].startswith('"od-')
    part = site.get("/photo.jpg?fm=avif", chrome | {"range": "bytes=0-99"})
    assert (part.status, len(part.body)) == (206, 100)
    cache = site.service.settings.cache_dir
    assert cache is not None
    assert (cache / "v1").stat().st_mode & 0o777 == 0o750
