"""What both clients do while all is well, or nearly so."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import inspect
import io
import json
import logging
import pickle
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from optidash_integrations.client import AsyncOptidashClient, OptidashClient
from optidash_integrations.errors import (
    AuthenticationError,
    ConnectionFailedError,
    InvalidOperationsError,
    OptionError,
    ProtocolError,
    RequestRefusedError,
    ServerError,
    SettingsError,
)
from optidash_integrations.external_storage import AwsStore
from optidash_integrations.operations import Operations
from optidash_integrations.payload import FileSink
from tests.api import faults
from tests.api.conftest import MakeSpeaker
from tests.api.lies import changed
from tests.api.server import ApiServer, certificate
from tests.api.speakers import KEY, Speaker
from tests.sites.photos import photo

IMAGE = b"\xff\xd8\xff" + bytes(5_000)
ECHO = {"echo": True}


def public(kind: type) -> dict[str, Any]:
    return {
        name: found
        for name, found in inspect.getmembers(kind)
        if not name.startswith("_") and inspect.isfunction(found)
    }


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    sync, other = public(OptidashClient), public(AsyncOptidashClient)
    assert sync.keys() == other.keys()
    for name in sync.keys() - {"act", "close_state", "run"}:
        ours, theirs = inspect.signature(sync[name]), inspect.signature(other[name])
        assert list(ours.parameters.values()) == list(theirs.parameters.values()), name
        if name != "optimize_many":
            assert ours.return_annotation == theirs.return_annotation, name
            assert inspect.iscoroutinefunction(other[name]), name


def parts_of(server: ApiServer) -> str:
    return server.seen[-1].body.decode("latin-1")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "harbour.jpg"
    path.write_bytes(IMAGE)
    return path


class Once(io.RawIOBase):
    """A stream that can't be rewound, such as a pipe's end."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.data.read(size)


@pytest.mark.parametrize("way", ["bytes", "path", "text", "file", "memory", "gzip", "stream"])
def test_a_source_goes_up_whole(
    way: str, speaker: Speaker, server: ApiServer, source: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(IMAGE))
    with source.open("rb") as file, gzip.open(packed) as unpacked:
        file.seek(100)  # wherever it stands: it is sent from its beginning
        given = {
            "bytes": IMAGE,
            "path": source,
            "text": str(source),
            "file": file,
            "memory": io.BytesIO(IMAGE),
            "gzip": unpacked,
            "stream": Once(IMAGE),
        }[way]
        metadata = speaker.upload(given, ECHO)
    assert metadata.input.bytes == len(IMAGE)
    assert metadata.input.sha1 == hashlib.sha1(IMAGE).hexdigest()
    named = 'filename="harbour.jpg"' in parts_of(server)
    assert named is (way in ("path", "text", "file"))


def test_a_stream_that_can_not_be_rewound_gets_one_try(speaker: Speaker, server: ApiServer) -> None:
    server.always = faults.status(503)
    with pytest.raises(Exception, match="Out of service"):
        speaker.upload(Once(IMAGE), ECHO)
    assert len(server.seen) == 1


@pytest.mark.parametrize("wrong", [None, 3, io.StringIO("text"), ["a"]])
def test_what_is_no_source_is_refused_in_a_sentence(wrong: Any, speaker: Speaker) -> None:
    with pytest.raises(OptionError, match="source takes a path, bytes or a file open for reading"):
        speaker.upload(wrong)


def test_a_file_that_is_not_there_is_the_callers_error(speaker: Speaker, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        speaker.upload(tmp_path / "nothing.jpg")


def test_a_source_without_bytes_costs_no_call(
    speaker: Speaker, server: ApiServer, tmp_path: Path
) -> None:
    (tmp_path / "empty.jpg").touch()
    for empty in (b"", tmp_path / "empty.jpg", io.BytesIO()):
        with pytest.raises(OptionError, match="no bytes"):
            speaker.upload(empty, ECHO)
    assert server.seen == []


def test_operations_go_as_they_are_and_unknown_ones_too(
    speaker: Speaker, server: ApiServer
) -> None:
    document = {**ECHO, "resize": {"width": "640", "sparkle": 3}, "unheard-of": {"of": None}}
    speaker.upload(IMAGE, document, cdn={"push": False})
    body = parts_of(server)
    sent = json.loads(body[body.index('name="data"') :].split("\r\n")[2])
    assert sent == {**document, "cdn": {"push": False}}


def test_a_fetch_carries_the_address_and_headers(speaker: Speaker, server: ApiServer) -> None:
    address = speaker.upload(IMAGE, ECHO).output.url
    metadata = speaker.fetch(address, ECHO, headers={"x-origin-token": "s3same"})
    assert metadata.output.bytes == len(IMAGE)
    asked = next(seen for seen in server.seen if seen.path == "/1.0/fetch")
    assert json.loads(asked.body) == {
        **ECHO,
        "url": address,
        "headers": {"x-origin-token": "s3same"},
    }
    assert asked.headers["content-type"] == "application/json"


def test_a_store_is_sent_as_the_api_has_it(speaker: Speaker, server: ApiServer) -> None:
    store = AwsStore(key="AKIA", secret="hush", bucket="photos", region="eu-central-1")
    speaker.upload(IMAGE, ECHO, store=store)
    body = parts_of(server)
    sent = json.loads(body[body.index('name="data"') :].split("\r\n")[2])
    assert sent["store"] == store.to_dict()


@pytest.mark.parametrize("name", ["store", "webhook"])
def test_an_image_as_the_answer_excludes_stores_and_webhooks(
    name: str, speaker: Speaker, server: ApiServer
) -> None:
    with pytest.raises(OptionError, match=name) as caught:
        speaker.upload_to_bytes(IMAGE, {name: {"secret": "hush", "url": "https://example.invalid"}})
    assert "hush" not in str(caught.value) + repr(caught.value.got)
    assert server.seen == []


def test_a_webhook_is_answered_at_once_with_its_id(speaker: Speaker) -> None:
    metadata = speaker.upload(IMAGE, ECHO, webhook={"url": "https://example.invalid/", "delay": 5})
    assert metadata.id
    assert metadata.output.url is None
    assert speaker.webhook(metadata.id).id == metadata.id
    [listed] = speaker.webhooks(status=["created", "scheduled", "dispatched"], limit=10)
    assert (listed.id, listed.created_at.tzinfo is not None) == (metadata.id, True)


def test_binary_mode_is_asked_for_in_both_ways(speaker: Speaker, server: ApiServer) -> None:
    variant = speaker.upload_to_bytes(IMAGE, {**ECHO, "response": {"more": 1}})
    assert variant.content == IMAGE
    assert (variant.content_type, variant.width) == ("image/jpeg", 1)
    assert variant.metadata.output.sha1 == hashlib.sha1(IMAGE).hexdigest()
    assert server.seen[-1].headers["x-optidash-binary"] == "1"
    assert '"response": {"more": 1, "mode": "binary"}' in parts_of(server)


def test_a_real_picture_is_resized(speaker: Speaker, tmp_path: Path) -> None:
    data = photo()
    resized = Operations.from_dict({"resize": {"width": 40}, "output": {"format": "webp"}})
    variant = speaker.upload_to_bytes(data, resized)
    assert (variant.content_type, variant.width) == ("image/webp", 40)
    metadata = speaker.upload_to_file(data, resized, tmp_path / "small.webp")
    assert (tmp_path / "small.webp").read_bytes() == variant.content
    assert metadata.input.bytes == len(data)


def test_a_result_replaces_an_older_one_only_when_it_is_whole(
    speaker: Speaker, server: ApiServer, tmp_path: Path
) -> None:
    target = tmp_path / "old.jpg"
    target.write_bytes(b"old")
    server.always, server.always_download = faults.cut(), faults.cut()
    with pytest.raises(Exception, match="broke off"):
        speaker.upload_to_file(IMAGE, ECHO, target)
    assert target.read_bytes() == b"old"
    server.always = server.always_download = None
    speaker.upload_to_file(IMAGE, ECHO, target)
    assert target.read_bytes() == IMAGE
    assert list(tmp_path.iterdir()) == [target]


def test_a_result_that_can_not_be_written_leaves_nothing(speaker: Speaker, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        speaker.upload_to_file(IMAGE, ECHO, tmp_path / "nowhere" / "a.jpg")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        speaker.upload_to_file(IMAGE, ECHO, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_result_can_be_downloaded_later_without_the_key(
    speaker: Speaker, server: ApiServer, tmp_path: Path
) -> None:
    metadata = speaker.upload(IMAGE, ECHO)
    assert speaker.download(metadata, tmp_path / "a.jpg").read_bytes() == IMAGE
    assert speaker.download(metadata.output.url, tmp_path / "b.jpg").read_bytes() == IMAGE
    assert "authorization" not in server.seen[-1].headers
    with pytest.raises(OptionError, match="address of a result"):
        speaker.download(speaker.upload(IMAGE, ECHO, webhook={"url": "https://a.invalid"}), "c")


def test_a_fallback_image_stands_in_after_the_last_failure(
    make_speaker: MakeSpeaker, server: ApiServer, tmp_path: Path
) -> None:
    (tmp_path / "sorry.jpg").write_bytes(photo(8, 6))
    speaker = make_speaker(fallback_image=tmp_path / "sorry.jpg")
    assert not speaker.upload_to_bytes(IMAGE, ECHO).is_fallback
    server.always = faults.status(500)
    variant = speaker.upload_to_bytes(IMAGE, ECHO)
    assert variant.is_fallback
    assert (variant.content, variant.content_type) == (photo(8, 6), "image/jpeg")
    assert speaker.waits == [1.0, 2.0, 4.0]
    with pytest.raises(ServerError):
        speaker.upload_to_file(IMAGE, ECHO, tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()


def test_accounts_and_keys(speaker: Speaker, server: ApiServer) -> None:
    account = speaker.account()
    assert (account.name, account.total) == ("Team", 20_000)
    made = speaker.create_key("shop")
    assert len(made.key) == 40
    assert made.key not in repr(made)
    assert speaker.rename_key(made.key, "store").name == "store"
    assert server.seen[-1].path == f"/1.0/keys/{made.key}"


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ("basic", "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()),
        ("bearer", f"Bearer {KEY}"),
    ],
)
def test_the_key_goes_as_the_setting_says(
    auth: str, expected: str, make_speaker: MakeSpeaker, server: ApiServer
) -> None:
    make_speaker(auth=auth).account()
    assert server.seen[-1].headers["authorization"] == expected


def test_a_wrong_key_is_an_authentication_error_with_the_apis_words(
    make_speaker: MakeSpeaker,
) -> None:
    with pytest.raises(AuthenticationError) as caught:
        make_speaker(api_key="wrong-key").account()
    assert caught.value.status == 401
    assert caught.value.request_id
    assert "wrong-key" not in str(caught.value)


def test_no_log_and_no_repr_has_a_key(
    speaker: Speaker, server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    speaker.upload_to_bytes(IMAGE, ECHO)
    made = speaker.create_key("shop")
    speaker.rename_key(made.key, "store")
    server.always = faults.status(401, f"There is no key {KEY}.")
    with pytest.raises(AuthenticationError) as caught:
        speaker.account()
    said = caplog.text + repr(speaker.client) + repr(speaker.client.config) + str(caught.value)
    for secret in (KEY, made.key, base64.b64encode(f"{KEY}:".encode()).decode()):
        assert secret not in said


def signed(document: dict[str, Any]) -> None:
    document["output"]["url"] += "?X-Amz-Signature=s3cret"


def test_no_log_has_the_signature_of_an_address(
    speaker: Speaker, server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fail(changed("signed", signed), changed("signed", signed))
    metadata = speaker.upload_to_bytes(IMAGE, ECHO).metadata
    assert "s3cret" in metadata.output.url
    speaker.download(speaker.upload(IMAGE, ECHO), tmp_path / "a.jpg")
    server.fail_downloads(faults.redirect(metadata.output.url), faults.cut())
    speaker.download(metadata, tmp_path / "b.jpg")
    broken = b"HTTP/1.1 307 Moved\r\nLocation https://a.example/?X-Amz-Signature=s3cret\r\n\r\n"
    server.fail_downloads(faults.garbage(broken))
    with pytest.raises(ProtocolError, match="illegal header line") as caught:
        speaker.download(metadata, tmp_path / "c.jpg")
    assert "s3cret" not in caplog.text + "".join(traceback.format_exception(caught.value))
    steps = [record.message for record in caplog.records if record.name == "httpcore.http11"]
    assert "receive_response_headers.complete status=307" in steps
    assert "receive_response_headers.failed exception=RemoteProtocolError" in steps
    assert any(record.name == "httpcore.connection" for record in caplog.records)


def test_what_others_log_of_their_own_requests_stays_whole(
    speaker: Speaker, server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    speaker.account()
    server.always = faults.redirect("https://a.example/?X-Amz-Signature=s3cret")
    with httpx.Client() as other:
        other.get(server.url)
    assert "s3cret" in caplog.text


@pytest.mark.parametrize("url", ["ftp://cache.example", "redis://cache.example/0?colour=red", "x"])
def test_a_wrong_shared_url_is_refused_by_its_own_name(url: str, kind: str) -> None:
    with pytest.raises(SettingsError, match=r"^shared_url ") as caught:
        Speaker(kind, "https://api.example/1.0", shared_url=url)
    assert "cache_url" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://api.example/1.0", "ftp://api.example", "api.example/1.0"])
def test_an_address_without_tls_is_refused(url: str, kind: str) -> None:
    with pytest.raises(OptionError, match="https://"):
        Speaker(kind, url)


def test_plain_http_can_be_allowed(kind: str) -> None:
    Speaker(kind, "http://api.example/1.0", allow_http=True).end()


@pytest.fixture
def tls(kind: str) -> Iterator[Any]:
    """Give a function that gives a client of a server whose certificate has this name."""
    servers: list[ApiServer] = []

    def make(name: str) -> tuple[Speaker, ApiServer]:
        context, authority = certificate(name)
        server = ApiServer(tls=context).__enter__()
        servers.append(server)
        return Speaker(kind, server.url, verify=str(authority)), server

    yield make
    for server in servers:
        server.close()


def test_tls_with_the_right_name(tls: Any) -> None:
    speaker, _ = tls("localhost")
    assert speaker.account().name == "Team"
    speaker.end()


def test_tls_with_a_wrong_name_is_refused_at_once(tls: Any) -> None:
    speaker, server = tls("elsewhere.example")
    with pytest.raises(ConnectionFailedError, match="certificate") as caught:
        speaker.account()
    assert not caught.value.is_retryable
    assert (speaker.waits, server.seen) == ([], [])
    speaker.end()


def test_nobody_there_is_tried_again_and_told(kind: str) -> None:
    speaker = Speaker(kind, "http://127.0.0.1:1/1.0")
    with pytest.raises(ConnectionFailedError) as caught:
        speaker.create_key("even this: it was not sent")
    assert speaker.waits == [1.0, 2.0, 4.0]
    assert not caught.value.sent
    speaker.end()


def test_a_redirect_on_the_same_host_is_followed_with_the_key(
    speaker: Speaker, server: ApiServer
) -> None:
    server.fail(faults.redirect(f"{server.url}/account"))
    assert speaker.account().name == "Team"
    server.fail(faults.redirect(f"{server.url}/upload", 308))
    assert speaker.upload(IMAGE, ECHO).output.bytes == len(IMAGE)
    server.fail(faults.redirect(f"{server.url}/upload", 302))
    with pytest.raises(ProtocolError, match="302 Found to a POST"):
        speaker.upload(IMAGE, ECHO)


def test_redirects_without_end_are_an_error(speaker: Speaker, server: ApiServer) -> None:
    server.always = faults.redirect(f"{server.url}/account")
    with pytest.raises(ProtocolError, match="more than 3 redirects"):
        speaker.account()


def test_the_key_goes_to_no_other_host(speaker: Speaker, server: ApiServer) -> None:
    with ApiServer() as other:
        server.always = faults.redirect(f"{other.url}/account")
        with pytest.raises(ProtocolError, match="another host"):
            speaker.account()
        assert other.seen == []


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost"])
def test_a_result_is_downloaded_from_no_private_host_unless_it_is_named(
    host: str, server: ApiServer, make_speaker: MakeSpeaker, tmp_path: Path
) -> None:
    with ApiServer(host="127.0.0.2") as other:
        address = make_speaker(other.url).upload(IMAGE, ECHO).output.url
        address = address.replace("127.0.0.2", host)
        with pytest.raises(ConnectionFailedError, match="not on the public internet") as caught:
            make_speaker().download(address, tmp_path / "a.jpg")
        assert not caught.value.is_retryable
        assert not (tmp_path / "a.jpg").exists()
        if host == "127.0.0.2":
            allowed = make_speaker(download_hosts=[host])
            assert allowed.download(address, tmp_path / "a.jpg").read_bytes() == IMAGE


def test_a_download_that_is_led_to_a_private_host_is_refused(
    server: ApiServer, speaker: Speaker, tmp_path: Path
) -> None:
    address = speaker.upload(IMAGE, ECHO).output.url
    server.fail_downloads(faults.redirect("http://localhost:1/a.jpg"))
    with pytest.raises(ConnectionFailedError, match="not on the public internet"):
        speaker.download(address, tmp_path / "a.jpg")


def test_a_result_that_is_gone_is_told(speaker: Speaker, server: ApiServer, tmp_path: Path) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        speaker.download(f"{server.origin}/temp/0/gone.jpg", tmp_path / "a.jpg")
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("name", "value"),
    [("auth", "digest"), ("timeout", 0), ("retries", -1), ("api_key", "two\nlines")],
)
def test_wrong_keywords_are_refused(name: str, value: Any, kind: str) -> None:
    with pytest.raises(OptionError, match=name):
        Speaker(kind, "https://api.example/1.0", **{name: value})


def test_a_connection_is_used_again(speaker: Speaker, server: ApiServer) -> None:
    for _ in range(5):
        speaker.upload_to_bytes(IMAGE, ECHO)
    assert server.open_connections == 1


def test_a_connection_that_went_stale_is_replaced(speaker: Speaker, server: ApiServer) -> None:
    server.fail(faults.close_after_answer())
    speaker.account()
    assert speaker.account().name == "Team"


def test_no_more_requests_are_in_flight_than_set(
    make_speaker: MakeSpeaker, server: ApiServer
) -> None:
    speaker = make_speaker(concurrency=3)
    items = speaker.many([IMAGE] * 30, ECHO, concurrency=20, delay=0)
    assert sum(item.ok for item in items) == 30
    assert server.open_connections <= 3


def test_a_cancelled_call_closes_its_connection_and_leaves_no_file(
    server: ApiServer, tmp_path: Path
) -> None:
    async def give_up() -> None:
        client = AsyncOptidashClient(KEY, server.url)
        async with asyncio.timeout(0.5):
            await client.upload_to_file(IMAGE, ECHO, tmp_path / "a.jpg")

    server.always = faults.stall_mid_body()
    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert list(tmp_path.iterdir()) == []
    assert server.wait_closed()


def test_threads_share_a_client(server: ApiServer) -> None:
    with OptidashClient(KEY, server.url) as client:
        found: list[str] = []
        work = [
            threading.Thread(target=lambda: found.append(client.account().name)) for _ in range(8)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert found == ["Team"] * 8


def test_one_async_client_serves_several_loops_one_after_the_other(server: ApiServer) -> None:
    client = AsyncOptidashClient(KEY, server.url)

    async def call() -> str:
        name = (await client.account()).name
        await client.close()
        return name

    assert [asyncio.run(call()) for _ in range(4)] == ["Team"] * 4
    assert server.wait_closed()


def test_a_variant_s_repr_is_short(speaker: Speaker) -> None:
    assert len(repr(speaker.upload_to_bytes(bytes(IMAGE) * 50, ECHO))) < 2_000


def test_results_and_errors_go_to_other_processes(speaker: Speaker, server: ApiServer) -> None:
    variant = speaker.upload_to_bytes(IMAGE, ECHO)
    assert pickle.loads(pickle.dumps(variant)) == variant
    json.dumps(variant.metadata.raw)
    server.fail(faults.status(422))
    with pytest.raises(InvalidOperationsError) as caught:
        speaker.upload(IMAGE)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.status) == (str(caught.value), 422)
    with pytest.raises(OptionError) as caught_option:
        speaker.upload(None)
    option = pickle.loads(pickle.dumps(caught_option.value))
    assert (str(option), option.name) == (str(caught_option.value), "source")


def test_a_link_stays_and_what_it_leads_to_is_written(speaker: Speaker, tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(tmp_path / "real.jpg")
    speaker.upload_to_file(IMAGE, ECHO, tmp_path / "link.jpg")
    assert (tmp_path / "link.jpg").is_symlink()
    assert (tmp_path / "real.jpg").read_bytes() == IMAGE


def test_a_variant_can_be_downloaded_again(speaker: Speaker, tmp_path: Path) -> None:
    variant = speaker.upload_to_bytes(IMAGE, ECHO)
    assert speaker.download(variant, tmp_path / "a.jpg").read_bytes() == IMAGE
    with pytest.raises(OptionError, match="metadata of a result"):
        speaker.download(None, tmp_path / "b.jpg")


def test_the_address_counts_as_one_however_it_is_written(kind: str) -> None:
    speaker = Speaker(kind, "HTTPS://API.example/1.0/")
    assert speaker.client.config.api_url == "https://api.example/1.0"
    speaker.end()


def test_a_cancelled_call_waits_for_its_threads(server: ApiServer, tmp_path: Path) -> None:
    """What a thread begins just as its caller leaves would never be undone."""

    class Slow(FileSink):
        def begin(self) -> None:
            time.sleep(0.2)
            super().begin()

    async def give_up() -> None:
        client = AsyncOptidashClient(KEY, server.url)
        flow = client.api.upload_image(IMAGE, ECHO, Slow(tmp_path / "a.jpg"))
        try:
            async with asyncio.timeout(0.1):
                await client.run(flow)
        finally:
            await client.close()

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retries", 1.5),
        ("timeout", float("inf")),
        ("timeout", True),
        ("concurrency", 0.5),
        ("max_bytes", float("inf")),
        ("allow_http", "no"),
        ("download_hosts", "example.org"),
        ("monthly_budget", "100"),
        ("monthly_budget", -1),
        ("api_key", ""),
        ("api_key", "a b"),
        ("api_key", "a:b"),
        ("api_key", "schlüssel"),
        ("download_hosts", None),
    ],
)
def test_what_can_not_work_is_refused_when_the_client_is_made(
    name: str, value: Any, kind: str
) -> None:
    with pytest.raises(OptionError, match=f"^{name} takes "):
        Speaker(kind, "https://api.example/1.0", **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("proxy", 5),
        ("proxy", "user:hush@proxy.example:3128"),
        ("proxy", "ftp://user:hush@proxy.example:3128"),
        ("verify", "/nowhere/authorities.pem"),
        ("verify", None),
    ],
)
def test_a_way_there_that_can_not_be_is_refused_by_its_name(
    name: str, value: Any, kind: str
) -> None:
    speaker = Speaker(kind, "https://api.example/1.0", **{name: value})
    with pytest.raises(OptionError, match=f"^{name} takes ") as caught:
        speaker.account()
    assert "hush" not in "".join(traceback.format_exception(caught.value))
    speaker.end()


def test_an_image_is_not_asked_for_where_only_its_metadata_are_read(
    speaker: Speaker, server: ApiServer
) -> None:
    binary = {"response": {"mode": "binary"}}
    for call in (speaker.upload, speaker.fetch):
        with pytest.raises(OptionError, match="upload_to_bytes"):
            call("https://example.org/a.jpg", binary)
    assert server.seen == []


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(depth):
        found = {"more": found}
    return found


@pytest.mark.parametrize("wrong", [nested(100_000), {"store": AwsStore}], ids=["deep", "class"])
def test_operations_that_can_not_be_json_are_refused(wrong: Any, speaker: Speaker) -> None:
    with pytest.raises(OptionError, match="what JSON knows"):
        speaker.upload(IMAGE, wrong)


def test_webhooks_are_asked_for_in_utc_and_by_any_collection_of_states(
    speaker: Speaker, server: ApiServer
) -> None:
    east = timezone(timedelta(hours=2))
    speaker.webhooks(status={"failed"}, start=datetime(2026, 3, 4, 1, tzinfo=east))
    query = parse_qs(urlsplit(server.seen[-1].path).query)
    assert query == {"status": ["failed"], "start": ["2026-03-03T23:00:00+00:00"]}


@pytest.mark.parametrize("name", ["budget_file", "validators_file"])
@pytest.mark.parametrize("value", [5, "", b"bytes"])
def test_a_file_of_its_own_is_told_by_its_path(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"{name} takes the path of a file, not"):
        OptidashClient("key", monthly_budget=1, **{name: value})
