"""The image endpoint without any framework, where files change and processors fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from optidash_integrations.endpoint import Endpoint
from optidash_integrations.errors import ProcessorError
from optidash_integrations.exchange import FileBody, Request
from optidash_integrations.sources import Directory
from tests.test_service import CHROME, PHOTO, Site, said


class Folder(Site):
    """A folder of images behind an endpoint."""

    def __init__(self, root: Path, **settings):
        super().__init__(**settings)
        self.path = root / "a.jpg"
        self.path.write_bytes(PHOTO)
        self.endpoint = Endpoint(self.service, Directory(root).find)

    def ask(self, query="", method="GET"):
        request = Request(method, "/img/a.jpg", query, {"accept": CHROME})
        return self.service.run(self.endpoint.answer(request, "a.jpg"))


def sent(answer) -> bytes:
    """Return the bytes of an answer's body."""
    if isinstance(answer.body, FileBody):
        with answer.body.file as file:
            file.seek(answer.body.offset)
            return file.read(answer.body.length)
    return answer.body


@pytest.mark.parametrize("size", [10, 5000])
def test_a_kept_file_that_changed_is_sent_as_what_it_is_now(tmp_path, size):
    site = Folder(tmp_path)
    site.processor.size = 10_000
    assert sent(site.ask()) == PHOTO
    changed = PHOTO[:3] + bytes(size)
    site.path.write_bytes(changed)
    answer = site.ask()
    assert sent(answer) == changed
    assert said(answer, "content-length") == str(len(changed))


def test_a_file_that_went_away_is_not_found(tmp_path):
    site = Folder(tmp_path)
    site.processor.size = 10_000
    assert sent(site.ask()) == PHOTO
    site.path.unlink()
    assert site.ask().status in (404, 503)
    assert site.ask().status == 404


@pytest.mark.parametrize("known", [False, True])
def test_a_processor_that_does_not_start_gives_the_original(tmp_path, known):
    site = Folder(tmp_path)
    if known:
        sent(site.ask())
        site.service.choices.clear()

    class Dead(type(site.processor)):
        @property
        def formats(self):
            raise ProcessorError("libvips is not there")

        @property
        def revision(self):
            raise ProcessorError("libvips is not there")

    site.processor.__class__ = Dead
    answer = site.ask("w=20")
    assert (answer.status, sent(answer)) == (200, PHOTO)
    assert said(answer, "content-type") == "image/jpeg"
    assert said(answer, "cache-control") == "public, max-age=60"


def test_head_of_an_unknown_image_reads_nothing_and_promises_no_length(tmp_path):
    site = Folder(tmp_path)
    answer = site.ask(method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert said(answer, "content-length") is None
    assert site.processor.calls == 0


def test_within_fresh_for_the_file_is_not_asked_again(tmp_path):
    site = Folder(tmp_path)
    first = site.ask()
    site.path.write_bytes(PHOTO + b"more")
    assert said(site.ask(), "etag") == said(first, "etag")
    site.clock.now += 61
    assert said(site.ask(), "etag") != said(first, "etag")
