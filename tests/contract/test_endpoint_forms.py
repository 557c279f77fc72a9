"""The JSON form of the endpoint's answers, and the picture it sends in place of one that failed."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from optidash_integrations.errors import ProcessorError
from optidash_integrations.inline import MOST_BYTES, InlineTooLargeError, data_uri
from optidash_integrations.variants import Variant
from tests.conftest import MakeSite
from tests.sites.base import Clock, Site
from tests.sites.photos import CHROME, WEBP_ONLY, photo
from tests.sites.processor import HandProcessor

JSON = {"accept": "application/json"}


def ask(site: Site, name: str = "photo.jpg", browser: dict[str, str] = WEBP_ONLY):
    return site.get(site.mount + name, browser)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.fixture
def open_site(make_site: MakeSite) -> Site:
    site = make_site(access="public")
    site.keep("photo.jpg", photo())
    return site


# SRV-59 … 61


@pytest.mark.srv("SRV-59")
def test_json_holds_the_image_and_its_size(open_site: Site) -> None:
    reply = ask(open_site, "photo.jpg?w=60", JSON)
    assert (reply.status, reply.type) == (200, "application/json")
    told = json.loads(reply.body)
    assert (told["content_type"], told["width"], told["height"]) == ("image/jpeg", 60, 40)
    picture = opened(base64.b64decode(told["data"]))
    assert (picture.format, picture.size) == ("JPEG", (60, 40))
    assert reply.headers["content-length"] == str(len(reply.body))
    assert reply.vary == {"accept"}


@pytest.mark.srv("SRV-59", "SRV-61")
def test_a_data_address_holds_the_image() -> None:
    for address in (
        data_uri(photo(), "image/jpeg"),
        data_uri(Variant(photo(), "image/jpeg", 120, 80)),
    ):
        head, _, data = address.partition(",")
        assert head == "data:image/jpeg;base64"
        assert base64.b64decode(data, validate=True) == photo()
    data_uri(bytes(MOST_BYTES), "image/png")
    with pytest.raises(InlineTooLargeError):
        data_uri(bytes(MOST_BYTES + 1), "image/png")


@pytest.mark.srv("SRV-59")
def test_the_format_inside_is_the_one_that_is_named_beside_json(open_site: Site) -> None:
    accept = {"accept": "application/json, image/webp;q=0.5"}
    assert json.loads(ask(open_site, browser=accept).body)["content_type"] == "image/webp"
    explicit = ask(open_site, "photo.jpg?fm=png", JSON)
    assert json.loads(explicit.body)["content_type"] == "image/png"
    assert explicit.headers["cache-control"] == "no-store"  # its image does not vary by Accept


def test_json_and_the_image_have_tags_of_their_own(open_site: Site) -> None:
    text = ask(open_site, browser=JSON)
    image = ask(open_site, browser={"accept": "image/jpeg"})
    assert text.headers["etag"] != image.headers["etag"]
    conditional = JSON | {"if-none-match": text.headers["etag"]}
    assert ask(open_site, browser=conditional).status == 304
    assert ask(open_site, browser=JSON | {"if-none-match": image.headers["etag"]}).status == 200
    assert ask(open_site, browser=JSON | {"range": "bytes=0-9"}).headers["etag"].endswith('json"')
    head = open_site.head(f"{open_site.mount}photo.jpg", JSON)
    assert (head.status, head.type) == (200, "application/json")


@pytest.mark.srv("SRV-60")
@pytest.mark.parametrize(
    "accept", ["*/*", "application/json, text/plain, */*", "image/*, application/json;q=0.9", ""]
)
def test_an_image_is_the_default(open_site: Site, accept: str) -> None:
    assert ask(open_site, browser={"accept": accept}).type == "image/jpeg"


@pytest.mark.srv("SRV-61")
def test_a_large_image_is_refused_in_json(make_site: MakeSite) -> None:
    processor = HandProcessor()
    processor.bytes = 100 * 1024 + 1
    site = make_site(access="public", processor=processor)
    site.keep("photo.jpg", photo(900, 900))
    site.keep("large.bmp.jpg", photo())
    reply = ask(site, "photo.jpg?w=50", JSON)
    assert (reply.status, reply.type) == (413, "application/json")
    assert json.loads(reply.body)["error"]["code"] == "request_entity_too_large"


@pytest.mark.srv("SRV-02")
def test_errors_are_json_for_whoever_asks_for_json(open_site: Site) -> None:
    for name, status, code in (
        ("none.jpg", 404, "not_found"),
        ("photo.jpg?w=wide", 400, "bad_request"),
    ):
        reply = ask(open_site, name, JSON)
        assert (reply.status, reply.type) == (status, "application/json")
        assert json.loads(reply.body)["error"]["code"] == code


# SRV-62, SRV-63


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    path = tmp_path / "stand-in.png"
    Image.new("RGB", (90, 90), "green").save(path)
    return path


@pytest.mark.srv("SRV-62")
def test_a_failure_answers_a_picture_that_says_so(make_site: MakeSite, stand_in: Path) -> None:
    site = make_site(access="public", fallback_image=stand_in)
    site.keep("text.jpg", b"no image")
    site.keep("cut.jpg", photo()[:150])
    for name, status in (("none.jpg", "404"), ("text.jpg", "415"), ("cut.jpg", "422")):
        reply = ask(site, name)
        assert (reply.status, reply.type) == (200, "image/webp")
        assert reply.headers["x-optidash-fallback"] == status
        assert "fallback image" in reply.cache
        assert reply.headers["cache-control"] == "public, max-age=60"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.picture.convert("RGB").getpixel((5, 5))[1] > 100


@pytest.mark.srv("SRV-63")
@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("w=30&h=20", (30, 20)),
        ("w=30&h=20&fit=crop", (30, 20)),
        ("w=200", (200, 200)),
        ("", (90, 90)),
    ],
)
def test_the_picture_has_the_asked_size(
    make_site: MakeSite, stand_in: Path, query: str, size: tuple[int, int]
) -> None:
    site = make_site(access="public", fallback_image=stand_in)
    assert ask(site, f"none.jpg?{query}").size == size


def test_the_picture_is_never_taken_for_the_image(make_site: MakeSite, stand_in: Path) -> None:
    clock = Clock()
    site = make_site(access="public", fallback_image=stand_in, clock=clock)
    before = ask(site)
    assert before.headers["x-optidash-fallback"] == "404"
    os.utime(site.keep("photo.jpg", photo()), (1, 1))
    after = ask(site, browser=WEBP_ONLY | {"if-none-match": before.headers["etag"]})
    assert (after.status, after.size) == (200, (120, 80))
    assert "x-optidash-fallback" not in after.headers


@pytest.mark.srv("SRV-62")
def test_its_status_is_a_setting(make_site: MakeSite, stand_in: Path) -> None:
    site = make_site(access="public", fallback_image=stand_in, fallback_status=404)
    first = ask(site, "none.jpg")
    assert (first.status, first.type) == (404, "image/webp")
    again = ask(site, "none.jpg", WEBP_ONLY | {"if-none-match": first.headers["etag"]})
    assert (again.status, again.body) == (404, first.body)


def test_wrong_options_and_refusals_stay_errors(make_site: MakeSite, stand_in: Path) -> None:
    site = make_site(access=lambda visitor, name: "secret" not in name, fallback_image=stand_in)
    assert ask(site, "none.jpg?w=wide").status == 400
    assert ask(site, "secret.jpg").status == 403
    assert ask(site, "none.jpg").headers["cache-control"] == "private, max-age=60"


def test_a_processor_that_failed_gives_the_original_all_the_same(
    make_site: MakeSite, stand_in: Path
) -> None:
    processor = HandProcessor(error=ProcessorError("out of order"))
    site = make_site(access="public", processor=processor, fallback_image=stand_in)
    site.keep("photo.jpg", photo())
    assert ask(site).body == photo()
    assert ask(site, "none.jpg").body == stand_in.read_bytes()


def test_a_picture_that_is_not_there_leaves_the_error(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(access="public", fallback_image=tmp_path / "none.png")
    assert ask(site, "none.jpg").status == 404


def test_the_picture_has_a_json_form_too(make_site: MakeSite, stand_in: Path) -> None:
    site = make_site(access="public", fallback_image=stand_in)
    reply = ask(site, "none.jpg?w=30&h=20", JSON)
    told = json.loads(reply.body)
    assert (told["width"], told["height"]) == (30, 20)
    assert reply.headers["x-optidash-fallback"] == "404"


def test_head_of_a_missing_image_tells_of_the_picture(make_site: MakeSite, stand_in: Path) -> None:
    site = make_site(access="public", fallback_image=stand_in)
    for _ in range(2):
        head = site.head(f"{site.mount}none.jpg?w=30", CHROME)
        assert (head.status, head.headers["x-optidash-fallback"]) == (200, "404")
        ask(site, "none.jpg?w=30", CHROME)
