"""The API over real sockets: section 0 and the checklist 8.5 of the contract, line by line."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image

from optidash_integrations import OptidashClient
from optidash_integrations.errors import (
    AuthenticationError,
    InvalidOperationsError,
    QuotaExceededError,
    RejectedImageError,
)
from optidash_integrations.server.database import Database
from optidash_integrations.server.keys import Keys
from tests.origin import Origin
from tests.server.clocks import Clock
from tests.server.live import FORM, Live, configured, data, image, multipart, running, wait_until
from tests.sites.photos import photo

FACTOR = "Super-resolution 'factor' parameter must be a positive integer"
BINARY = {"X-Optidash-Binary": "1"}
RATE_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(configured(tmp_path_factory.mktemp("server"))) as found:
        yield found


@pytest.fixture
def client(live: Live) -> Iterator[OptidashClient]:
    with OptidashClient(live.secret, live.url) as found:
        yield found


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as found:
        found.routes["/photo.jpg"] = lambda headers: (200, {}, photo())
        yield found


def address(origin: Origin, path: str = "/photo.jpg") -> str:
    return f"http://127.0.0.1:{origin.port}{path}"


def size_of(content: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(content)).size


# The package's own client


def test_the_client_uploads_and_is_told_of_both_images(client: OptidashClient) -> None:
    found = client.upload(photo(), {"resize": {"width": 60}})
    assert (found.input.width, found.input.height, found.input.bytes) == (120, 80, len(photo()))
    assert (found.output.width, found.output.height, found.output.format) == (60, 40, "JPEG")
    assert UUID(found.id).version == 4


def test_the_client_receives_images(client: OptidashClient, tmp_path: Path) -> None:
    variant = client.upload_to_bytes(photo(), {"output": {"format": "webp"}})
    assert (variant.content_type, variant.width) == ("image/webp", 120)
    client.upload_to_file(photo(), {"resize": {"width": 30}}, tmp_path / "small.jpg")
    assert size_of((tmp_path / "small.jpg").read_bytes()) == (30, 20)


def test_the_client_lets_images_be_fetched(client: OptidashClient, origin: Origin) -> None:
    found = client.fetch(address(origin), {"resize": {"width": 60}})
    assert (found.input.name, found.output.name) == ("photo.jpg", "photo.jpg")
    assert size_of(client.fetch_to_bytes(address(origin), None).content) == (120, 80)


def test_the_client_downloads_a_result_again(client: OptidashClient, tmp_path: Path) -> None:
    variant = client.upload_to_bytes(photo(), {"resize": {"width": 60}})
    client.download(variant, tmp_path / "again.jpg")
    assert (tmp_path / "again.jpg").read_bytes() == variant.content


def test_the_client_sees_its_account_and_limits(client: OptidashClient) -> None:
    before = client.account()
    client.upload(photo(), {})
    after = client.account()
    assert after.name == "shop"
    assert after.used == (before.used or 0) + 1
    assert client.rate_limit is not None
    assert client.rate_limit.limit == 100_000


def test_the_client_is_told_what_was_wrong(client: OptidashClient) -> None:
    with pytest.raises(InvalidOperationsError, match=re.escape(FACTOR)):
        client.upload(photo(), {"super_resolution": {"factor": -1}})
    with pytest.raises(RejectedImageError):
        client.upload(b"no image at all", {})


def test_the_client_makes_and_renames_keys(client: OptidashClient, live: Live) -> None:
    made = client.create_key("customer")
    assert client.rename_key(made.key, "client").name == "client"
    with OptidashClient(made.key, live.url) as other:
        assert other.account().name == "shop"
        with pytest.raises(AuthenticationError, match="Only a primary key may manage keys"):
            other.create_key("more")


def test_the_client_sees_no_webhooks_where_there_are_none(client: OptidashClient) -> None:
    assert client.webhooks() == []


# 8.5, 1: authentication


def test_basic_and_bearer_lead_everywhere(live: Live) -> None:
    for headers in (live.basic, live.bearer):
        assert live.ask("GET", "/1.0/account", headers=headers, key=False).status == 200
        answer = live.ask(
            "POST",
            "/1.0/upload",
            multipart(image()),
            {"Content-Type": FORM, **headers},
            key=False,
        )
        assert answer.status == 200


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic d3Jvbmc6"}]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/1.0/account"), ("POST", "/1.0/upload"), ("POST", "/1.0/fetch"), ("GET", "/1.0/x")],
)
def test_nobody_gets_in_without_a_key(
    live: Live, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = live.ask(method, path, headers=headers, key=False)
    assert answer.status == 401
    assert answer.json["message"].startswith("Authentication failed: ")
    assert {**answer.json, "id": "", "message": ""} == {
        "success": False,
        "code": 401,
        "id": "",
        "message": "",
    }


def test_a_revoked_key_is_out_at_once(live: Live) -> None:
    with closing(Database(live.configuration.database)) as database:
        keys = Keys(database)
        key, secret = keys.create("leaver")
        headers = {"Authorization": f"Bearer {secret}"}
        assert live.ask("GET", "/1.0/account", headers=headers, key=False).status == 200
        keys.revoke(key)
        assert live.ask("GET", "/1.0/account", headers=headers, key=False).status == 401


# 8.5, 5 to 10: answers


@pytest.mark.parametrize("name", ["filter", "stylize"])
def test_filters_go_by_both_names(live: Live, name: str) -> None:
    assert live.upload(image(), data({name: {"grayscale": True}})).status == 200


@pytest.mark.parametrize("value", ["1", "true"])
def test_the_binary_header_alone_gives_an_image(live: Live, value: str) -> None:
    headers = {"X-Optidash-Binary": value, "Accept": "application/json"}
    answer = live.upload(image(), data({"resize": {"width": 30}}), headers=headers)
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    assert size_of(answer.body) == (30, 20)
    assert answer.metadata["output"]["bytes"] == len(answer.body)


def test_the_document_alone_asks_for_an_image_too(live: Live) -> None:
    answer = live.upload(image(), data({"response": {"mode": "binary"}}))
    assert size_of(answer.body) == (120, 80)
    assert answer.metadata["success"] is True


def test_a_binary_result_is_kept_as_well(live: Live) -> None:
    answer = live.upload(image(), headers=BINARY)
    path = answer.metadata["output"]["url"].partition("/temp/")[2]
    assert live.ask("GET", f"/temp/{path}", key=False).body == answer.body


@pytest.mark.parametrize(
    ("document", "status"),
    [({"super_resolution": {"factor": 0}}, 422), ({"nonsense": {}}, 422), ("{", 400)],
)
def test_a_binary_failure_has_an_empty_body(live: Live, document: object, status: int) -> None:
    answer = live.upload(image(), data(document), headers=BINARY)
    assert (answer.status, answer.body) == (status, b"")
    assert (answer.metadata["success"], answer.metadata["code"]) == (False, status)
    assert answer.metadata["message"]


def test_a_failed_authentication_is_an_empty_body_in_binary_mode_too(live: Live) -> None:
    answer = live.ask("POST", "/1.0/upload", headers=BINARY, key=False)
    assert (answer.status, answer.body, answer.metadata["code"]) == (401, b"", 401)


def test_success_has_no_message_and_failure_has_one(live: Live) -> None:
    good, bad = live.upload(image()), live.upload(image(), data({"resize": {"width": 0}}))
    assert (good.json["success"], good.json["code"], "message" in good.json) == (True, 200, False)
    assert (bad.json["success"], bad.json["code"], bad.status) == (False, 422, 422)
    assert bad.json["message"]
    assert good.json["id"] != bad.json["id"]
    assert good.headers["x-request-id"] == good.json["id"]


def test_both_images_have_all_fields(live: Live) -> None:
    found = live.upload(image(), data({"optimize": {"compression": "medium"}})).json
    names = {
        "name",
        "format",
        "width",
        "height",
        "colorspace",
        "interlaced",
        "sampling",
        "depth",
        "quality",
        "bytes",
        "sha1",
    }
    assert found["input"].keys() == names
    assert found["output"].keys() == names | {"url"}
    shape = rf"http://127\.0\.0\.1:{live.port}/temp/[0-9a-f-]{{36}}/harbour\.jpg"
    assert re.fullmatch(shape, found["output"]["url"])
    assert found["id"] not in found["output"]["url"]


def test_metadata_headers_stay_short_and_leave_out_what_is_long(live: Live) -> None:
    document = {"detect": {"palette": 16, "placeholder": "thumbhash"}}
    name = "\u6e2f" * 300 + ".jpg"
    answer = live.upload(image(name=name), data(document), headers=BINARY)
    assert answer.status == 200
    assert sum(len(n) + len(v) + 4 for n, v in answer.headers.items()) < 4_096
    assert answer.metadata["output"]["url"]
    assert len(live.upload(image(), data(document)).json["palette"]) > 1


@pytest.mark.parametrize("more", ["store", "webhook"])
def test_an_image_can_not_be_the_answer_where_it_goes_elsewhere(live: Live, more: str) -> None:
    document = {more: {"url": "https://example.org/", "provider": "aws"}}
    answer = live.upload(image(), data(document), headers=BINARY)
    assert answer.status == 422
    assert answer.metadata["message"] == f"Binary responses can't be combined with '{more}'"


@pytest.mark.parametrize("name", ["store", "webhook"])
def test_what_the_server_lacks_is_said(live: Live, name: str) -> None:
    answer = live.upload(image(), data({name: {"url": "https://example.org/"}}))
    assert (answer.status, answer.json["message"]) == (
        422,
        f"'{name}' is not available on this server",
    )


def test_the_documented_failure_is_word_for_word(live: Live) -> None:
    answer = live.upload(image(), data({"super_resolution": {"factor": "x"}}))
    assert (answer.status, answer.json["message"]) == (422, FACTOR)


@pytest.mark.parametrize("path", ["/1.0/account/", "/1.0/webhooks", "/1.0/webhooks/"])
def test_addresses_work_with_and_without_a_slash(live: Live, path: str) -> None:
    assert live.ask("GET", path).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/1.0/nothing", 404),
        ("GET", "/1.0/webhooks/unknown", 404),
        ("GET", "/1.0/upload", 405),
        ("DELETE", "/1.0/account", 405),
        ("GET", "/elsewhere", 404),
    ],
)
def test_other_addresses_are_refused_in_json(
    live: Live, method: str, path: str, status: int
) -> None:
    answer = live.ask(method, path)
    assert (answer.status, answer.json["code"], answer.json["success"]) == (status, status, False)


# Section 0: rate limits and quotas


def test_every_answer_tells_the_rate_limit(live: Live) -> None:
    answers = [
        live.upload(image()),
        live.upload(image(), headers=BINARY),
        live.upload(),
        live.ask("GET", "/1.0/account"),
        live.ask("GET", "/1.0/account", key=False),
        live.ask("GET", "/1.0/nothing"),
        live.ask("DELETE", "/1.0/account"),
    ]
    for answer in answers:
        assert all(answer.headers[name].isdigit() for name in RATE_HEADERS)


def test_too_many_requests_are_refused_as_documented(tmp_path: Path) -> None:
    clock = Clock()
    with running(configured(tmp_path, rate_limit="2/15 minutes"), clock=clock) as live:
        clock.seconds += 122
        assert [live.ask("GET", "/1.0/account").status for _ in range(2)] == [200, 200]
        clock.seconds += 122
        answer = live.ask("GET", "/1.0/account")
        assert answer.status == 429
        seconds = answer.headers["retry-after"]
        assert seconds == answer.headers["x-ratelimit-reset"] == "778"
        assert answer.headers["x-ratelimit-remaining"] == "0"
        assert answer.json == {
            "success": False,
            "code": 429,
            "id": answer.json["id"],
            "message": "Rate limit exceeded. Retry in 778 seconds.",
        }
        assert live.upload(image(), headers=BINARY).metadata["code"] == 429


def test_a_used_up_quota_ends_service_and_failures_of_ours_cost_nothing(tmp_path: Path) -> None:
    with running(configured(tmp_path)) as live:
        with closing(Database(live.configuration.database)) as database:
            secret = Keys(database).create("small", monthly_quota=2)[1]
        with OptidashClient(secret, live.url) as client:
            client.upload(photo(), {})
            with pytest.raises(InvalidOperationsError):
                client.upload(photo(), {"nonsense": {}})
            assert client.account().remaining == 1
            client.upload(photo(), {})
            with pytest.raises(QuotaExceededError, match="monthly quota of 2 calls"):
                client.upload(photo(), {})


# Who may speak to it, and how


def test_plain_http_from_elsewhere_is_refused_and_https_by_a_proxy_is_not(tmp_path: Path) -> None:
    elsewhere = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}
    with running(configured(tmp_path), proxy="127.0.0.1") as live:
        refused = live.ask("GET", "/1.0/account", headers=elsewhere)
        assert (refused.status, refused.json["message"]) == (
            403,
            "The API is served over HTTPS only",
        )
        secure = elsewhere | {"X-Forwarded-Proto": "https"}
        assert live.ask("GET", "/1.0/account", headers=secure).status == 200
        own = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
        url = live.upload(image(), headers=own).json["output"]["url"]
        assert url.startswith("https://")
        assert live.ask("GET", "/metrics", headers=elsewhere, key=False).status == 401
        assert live.ask("GET", "/metrics", headers=elsewhere).status == 200


def test_nobody_else_is_believed_about_where_a_request_comes_from(live: Live) -> None:
    lie = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    assert live.upload(image(), headers=lie).json["output"]["url"].startswith("http://127.0.0.1")


def test_without_keys_only_this_machine_is_served_by_its_own_name(tmp_path: Path) -> None:
    with running(configured(tmp_path, insecure=True), proxy="127.0.0.1") as live:
        assert live.ask("GET", "/1.0/account", key=False).status == 200
        for headers in ({"Host": "rebound.example"}, {"X-Forwarded-For": "203.0.113.9"}):
            assert live.ask("GET", "/1.0/account", headers=headers, key=False).status == 403


def test_a_host_that_is_none_does_not_get_into_addresses(live: Live) -> None:
    answer = live.upload(image(), headers={"Host": 'x"/><script>'})
    assert answer.json["output"]["url"].startswith("http://localhost/temp/")


# Fetching


def test_headers_for_the_origin_are_sent_but_for_those_of_the_connection(
    live: Live, origin: Origin
) -> None:
    headers = {
        "x-origin-token": "s3same",
        "Range": "bytes=0-9",
        "Connection": "close",
        "Accept-Encoding": "br",
        "X-Forwarded-For": "10.0.0.1",
    }
    url = address(origin).replace("://", "://user:pass@")
    assert live.fetch({"url": url, "headers": headers}).status == 200
    _, seen = origin.seen[-1]
    assert seen["x-origin-token"] == "s3same"
    assert seen["authorization"] == "Basic dXNlcjpwYXNz"
    assert seen["user-agent"].startswith("optidash-integrations/")
    assert seen["accept-encoding"] == "identity"
    assert "range" not in seen
    assert "x-forwarded-for" not in seen


def test_redirects_are_followed_three_times_and_take_no_secrets_elsewhere(
    live: Live, origin: Origin
) -> None:
    with Origin() as other:
        other.routes["/photo.jpg"] = lambda headers: (200, {}, photo())
        origin.routes["/away"] = lambda headers: (302, {"Location": address(other)}, b"")
        document = {"url": address(origin, "/away"), "headers": {"x-token": "s3same"}}
        assert live.fetch(document).status == 200
        assert "x-token" in origin.seen[-1][1]
        assert "x-token" not in other.seen[-1][1]
    origin.routes["/round"] = lambda headers: (302, {"Location": "/round"}, b"")
    answer = live.fetch({"url": address(origin, "/round")})
    assert (answer.status, "redirects more than 3 times" in answer.json["message"]) == (422, True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://10.0.0.1/x.jpg", "not on the public internet"),
        ("http://[::ffff:10.0.0.1]/x.jpg", "not on the public internet"),
        ("http://169.254.169.254/latest/meta-data/", "not on the public internet"),
        ("http://100.64.0.1/x.jpg", "not on the public internet"),
        ("http://[64:ff9b::a00:1]/x.jpg", "not on the public internet"),
        ("http://[::1]/x.jpg", "not on the public internet"),
        ("http://localhost/x.jpg", "not on the public internet"),
        ("file:///etc/passwd", "url takes an address that begins with"),
        ("gopher://example.org/", "url takes an address that begins with"),
        ("http://", "url takes an address that begins with"),
        ("nonsense", "url takes an address that begins with"),
        (17, "url takes an address that begins with"),
        (None, "url takes an address that begins with"),
    ],
)
def test_addresses_that_are_not_for_us_are_refused(live: Live, url: object, said: str) -> None:
    answer = live.fetch({"url": url})
    assert answer.status == 422
    assert said in answer.json["message"]


def test_a_redirect_to_a_private_address_is_refused(live: Live, origin: Origin) -> None:
    origin.routes["/in"] = lambda headers: (302, {"Location": "http://10.0.0.1/"}, b"")
    answer = live.fetch({"url": address(origin, "/in")})
    assert (answer.status, "not on the public" in answer.json["message"]) == (422, True)


@pytest.mark.parametrize(
    ("reply", "status", "said"),
    [
        ((404, {}, b""), 422, "it answers 404"),
        ((200, {}, b"<html>no image</html>"), 422, "it does not send an image"),
        ((200, {}, b""), 422, "it sends nothing"),
        ((200, {"Content-Encoding": "gzip"}, b"xx"), 422, "an encoded body"),
        ((200, {}, b"\xff\xd8\xff" + bytes(2_000_000)), 413, "at most 1048576 bytes"),
        ((302, {}, b""), 422, "it redirects"),
    ],
)
def test_what_an_origin_does_wrong_is_said(
    live: Live, origin: Origin, reply: tuple, status: int, said: str
) -> None:
    origin.routes["/bad"] = lambda headers: reply
    answer = live.fetch({"url": address(origin, "/bad")})
    assert (answer.status, said in answer.json["message"]) == (status, True)


@pytest.mark.parametrize(
    "headers", ["text", [1], {"a b": "c"}, {"x": 1}, {"x": "a\r\nb"}, {"x": "\u6e2f"}]
)
def test_headers_that_are_none_are_refused(live: Live, origin: Origin, headers: object) -> None:
    answer = live.fetch({"url": address(origin), "headers": headers})
    assert (answer.status, answer.json["message"].startswith("headers")) == (422, True)


def test_a_fetch_needs_an_address(live: Live) -> None:
    assert live.fetch({}).json["message"] == "'url' parameter is missing"


# Operations


def test_it_says_whether_it_lives_and_is_ready(live: Live) -> None:
    assert live.ask("GET", "/healthz", key=False).body == b"ok\n"
    assert live.ask("GET", "/readyz", key=False).body == b"ok\n"


def test_it_counts_for_prometheus(live: Live) -> None:
    live.upload(image(), data({"resize": {"width": 30}}))
    text = live.ask("GET", "/metrics", key=False).body.decode()
    line = 'optidash_server_requests_total{route="/1.0/upload",status="200"}'
    assert float(text.partition(line)[2].split()[0]) >= 1
    for name in ("bytes_in", "bytes_out", "bytes_saved"):
        assert float(text.partition(f"\noptidash_server_{name}_total ")[2].split()[0]) > 0
    assert "optidash_server_waiting" in text


def test_logs_name_requests_and_hold_no_secrets(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        answer = live.upload(image(), data({"text": {"text": "private words"}}))
        live.ask("PUT", f"/1.0/keys/{live.secret}", json.dumps({"name": "x"}).encode())
        live.fetch({"url": "http://user:pass@10.0.0.1/secret", "headers": {"x": "token"}})
    facts = [record.optidash for record in caplog.records if hasattr(record, "optidash")]
    assert answer.headers["x-request-id"] in [each["id"] for each in facts]
    everything = caplog.text + repr(facts)
    for secret in (live.secret, "private words", "pass@", "/secret", "token"):
        assert secret not in everything


def test_a_request_without_a_key_is_logged_without_one(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        answers = [
            live.ask("GET", "/healthz", key=False),
            live.ask("GET", "/1.0/account", key=False),
            live.ask("GET", "/1.0/account"),
        ]
        ids = [answer.headers["x-request-id"] for answer in answers]
        # A line is written after its answer, so that those of earlier requests may come late.
        wait_until(lambda: {*ids} <= {each["id"] for each in facts_in(caplog)})
    keys = {each["id"]: each.get("key") for each in facts_in(caplog)}
    assert [keys[each] for each in ids] == [None, None, live.key.id]


def facts_in(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [record.optidash for record in caplog.records if hasattr(record, "optidash")]


def test_its_openapi_document_names_all_addresses(live: Live) -> None:
    paths = live.ask("GET", "/1.0/openapi.json").json["paths"]
    expected = {"/upload", "/fetch", "/account", "/keys", "/keys/{key}", "/webhooks/"}
    assert expected <= paths.keys()


# Load


def test_where_too_many_wait_the_answer_comes_at_once_and_before_the_body(tmp_path: Path) -> None:
    with running(configured(tmp_path, queue=0)) as live, Origin() as origin:
        asked, allowed = threading.Event(), threading.Event()

        def held(headers: object) -> tuple[int, dict[str, str], bytes]:
            asked.set()
            allowed.wait(30)
            return 200, {}, photo()

        origin.routes["/held.jpg"] = held
        live.server.studio.most_rooms = 1
        caller = threading.Thread(target=live.fetch, args=({"url": address(origin, "/held.jpg")},))
        caller.start()
        assert asked.wait(30)
        head = (
            f"POST /1.0/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live.secret}\r\n"
            f"Content-Type: {FORM}\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n"
        )
        refused = live.raw(head.encode())
        allowed.set()
        caller.join(30)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in refused
        assert live.upload(image()).status == 200


def test_work_for_a_client_that_has_gone_is_dropped(tmp_path: Path) -> None:
    with running(configured(tmp_path)) as live:
        engines = live.server.engines
        live.server.engines.idle.clear()  # nobody is free until the test says so
        (child,) = engines.children
        body = multipart(image())
        head = (
            f"POST /1.0/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live.secret}\r\n"
            f"Content-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", live.port), 10) as connection:
            connection.sendall(head.encode() + body)
            wait_until(lambda: engines.waiting == 1)
        wait_until(lambda: engines.waiting == 0)
        assert live.left_behind() == []
        engines.idle.append(child)
        assert live.upload(image()).status == 200
        assert live.results() == 1
