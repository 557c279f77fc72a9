from __future__ import annotations

import io
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from optidash_integrations.compat.optidash import Optidash, base_of, optidash, proxy_for
from optidash_integrations.external_storage import CloudflareStore
from tests.api import faults
from tests.api.server import ApiServer
from tests.sites.photos import photo

KEY = "test-key"
SMALL = {"width": 20}
REFUSED = "Super-resolution 'factor' parameter must be a positive integer"

# What each of the methods that end a chain is given.
ENDINGS = ("toJSON", "toFile", "toBuffer")
BINARY = ("toFile", "toBuffer")

OPERATIONS = (
    "optimize",
    "flip",
    "resize",
    "scale",
    "crop",
    "watermark",
    "mask",
    "text",
    "filter",
    "adjust",
    "auto",
    "border",
    "padding",
    "output",
    "store",
    "webhook",
    "cdn",
    "response",
    "headers",
)


class Patient(optidash):
    """The chain, with waits that take no time."""

    client_options: ClassVar[Mapping[str, Any]] = {"timeout": 10.0, "sleep": lambda seconds: None}


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server
        assert server.wait_closed()


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "harbour.jpg"
    path.write_bytes(photo())
    return str(path)


@pytest.fixture
def ended(tmp_path: Path) -> Callable[[optidash, str], tuple[Any, ...]]:
    """Give a function that ends a chain in the way named."""

    def end(chain: optidash, ending: str) -> tuple[Any, ...]:
        if ending == "toFile":
            return chain.toFile(str(tmp_path / "result"))
        return getattr(chain, ending)()

    return end


def chain(api: ApiServer) -> Patient:
    return Patient(KEY, api.url)


def document(api: ApiServer) -> dict[str, Any]:
    """Return the operations of the last request."""
    seen = api.seen[-1]
    if seen.headers["content-type"] == "application/json":
        return json.loads(seen.body)
    found = re.search(rb'name="data"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', seen.body, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def stored(api: ApiServer, picture: str) -> str:
    """Return an address that the API can fetch."""
    _, meta = chain(api).upload(picture).toJSON()
    assert meta is not None
    return meta["output"]["url"]


# Results


def test_json_is_the_answer_as_it_came(api: ApiServer, picture: str) -> None:
    error, meta = chain(api).upload(picture).resize(SMALL).toJSON()
    assert error is None
    assert type(meta) is dict
    assert (meta["success"], meta["code"], meta["output"]["width"]) == (True, 200, 20)
    assert meta["input"]["name"] == "harbour.jpg"
    json.dumps(meta)


def test_a_buffer_is_the_image_with_its_metadata(api: ApiServer, picture: str) -> None:
    error, meta, data = chain(api).upload(picture).resize(SMALL).toBuffer()
    assert error is None
    assert meta is not None
    assert data is not None
    assert (meta["output"]["bytes"], data[:2]) == (len(data), b"\xff\xd8")
    assert api.seen[-1].headers["x-optidash-binary"] == "1"


def test_a_file_is_the_image_and_nothing_else_is_left_beside_it(
    api: ApiServer, picture: str, tmp_path: Path
) -> None:
    target = tmp_path / "out" / "small.jpg"
    target.parent.mkdir()
    target.write_bytes(b"an older one")
    error, meta = chain(api).upload(picture).resize(SMALL).toFile(str(target))
    assert error is None
    assert meta is not None
    assert target.stat().st_size == meta["output"]["bytes"]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_image_may_be_fetched(
    api: ApiServer, picture: str, ended: Callable[..., tuple[Any, ...]], ending: str
) -> None:
    url = stored(api, picture)
    error, meta, *_ = ended(chain(api).fetch(url).resize(SMALL), ending)
    assert error is None
    assert meta["output"]["width"] == 20
    assert api.seen[-2].path == "/1.0/fetch"  # the last one is that of the API's own download
    assert json.loads(api.seen[-2].body)["url"] == url


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, io.BytesIO])
def test_an_upload_may_be_in_memory(api: ApiServer, wrap: Callable[[bytes], object]) -> None:
    error, meta = chain(api).upload(wrap(photo())).toJSON()
    assert error is None
    assert meta is not None
    assert meta["input"]["bytes"] == len(photo())


def test_the_same_ending_may_come_twice(api: ApiServer, picture: str) -> None:
    asked = chain(api).upload(picture)
    assert [asked.toJSON()[0], asked.toJSON()[0]] == [None, None]
    assert api.calls == 2


# What is sent


def test_each_method_sends_its_operation(api: ApiServer) -> None:
    api.always = faults.status(422)
    asked = chain(api).fetch("https://example.org/a.jpg")
    for name in OPERATIONS:
        assert getattr(asked, name)({"of": name}) is asked
    assert asked.toJSON() == (REFUSED, None)
    sent = document(api)
    assert sent.pop("url") == "https://example.org/a.jpg"
    assert sent == {name: {"of": name} for name in OPERATIONS}


def test_an_operation_without_parameters_is_sent_empty(api: ApiServer, picture: str) -> None:
    api.always = faults.status(422)
    chain(api).upload(picture).resize().optimize({}).toJSON()
    assert document(api) == {"resize": {}, "optimize": {}}


@pytest.mark.parametrize("parameters", [None, 3, "width=9", [("width", 9)], CloudflareStore])
def test_parameters_that_are_no_dict_are_ignored(
    api: ApiServer, picture: str, parameters: Any
) -> None:
    assert chain(api).upload(picture).resize(parameters).toJSON()[0] is None
    assert document(api) == {}


def test_a_store_may_be_one_of_our_helpers(api: ApiServer, picture: str) -> None:
    store = CloudflareStore(key="open", secret="s3same", bucket="photos")
    error, meta = chain(api).upload(picture).store(store).toJSON()
    assert error is None
    assert document(api) == {"store": store.to_dict()}
    assert meta is not None
    assert meta["output"]["url"].startswith("https://bucket.test/")


def test_a_webhook_is_accepted_with_an_id(api: ApiServer, picture: str) -> None:
    error, meta = chain(api).upload(picture).webhook({"url": "https://example.org/w"}).toJSON()
    assert error is None
    assert meta is not None
    assert (meta["code"], meta["id"] != "") == (202, True)


@pytest.mark.parametrize("ending", BINARY)
def test_a_binary_ending_sets_the_mode_beside_what_else_the_response_has(
    api: ApiServer, picture: str, ended: Callable[..., tuple[Any, ...]], ending: str
) -> None:
    assert ended(chain(api).upload(picture).response({"x": 1}), ending)[0] is None
    assert document(api)["response"] == {"x": 1, "mode": "binary"}


@pytest.mark.parametrize("end", ["", "/", "/upload", "/fetch", "/upload/"])
def test_an_endpoint_may_end_in_one_of_the_two_ways_in(
    api: ApiServer, picture: str, end: str
) -> None:
    assert Patient(KEY, api.url + end).upload(picture).toJSON()[0] is None
    assert api.seen[-1].path == "/1.0/upload"


def test_the_base_of_an_endpoint() -> None:
    assert base_of("https://img.example.org/upload") == "https://img.example.org"
    assert base_of(" https://img.example.org/2.0/ ") == "https://img.example.org/2.0"
    assert base_of("https://img.example.org/reupload") == "https://img.example.org/reupload"
    assert base_of("") == ""


@pytest.mark.parametrize(
    ("proxies", "proxy"),
    [
        ({}, None),
        ({"http": "http://a"}, None),
        ({"https": "http://a", "all": "http://b"}, "http://a"),
        ({"https": "10.0.0.1:3128"}, "http://10.0.0.1:3128"),
        ({"all": "socks5://b"}, "socks5://b"),
        ({"https": "http://a", "https://api.optidash.ai": "http://c"}, "http://c"),
        ({"https": None}, None),
    ],
)
def test_the_proxy_is_chosen_by_the_scheme_and_the_host(
    proxies: dict[str, object], proxy: str | None
) -> None:
    assert proxy_for("https://api.optidash.ai/1.0", proxies) == proxy


class Forwarder(BaseHTTPRequestHandler):
    """A proxy that answers itself, and notes what it was asked for."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        body = b'{"success": true, "code": 200, "id": "by-proxy"}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Unencrypted(Patient):
    """The chain, allowed to speak plain HTTP to other machines."""

    client_options: ClassVar[Mapping[str, Any]] = {**Patient.client_options, "allow_http": True}


def test_the_key_goes_unencrypted_to_no_other_machine_unless_that_is_allowed(picture: str) -> None:
    error, meta = Patient(KEY, "http://api.test/1.0").upload(picture).toJSON()
    assert "https://" in str(error)
    assert "allow_http" in str(error)
    assert meta is None


def test_a_proxy_is_asked_in_place_of_the_api() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Forwarder) as proxy:
        proxy.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            asked = Unencrypted(KEY, "http://api.test/1.0").fetch("https://example.org/a.jpg")
            address = f"http://127.0.0.1:{proxy.server_port}"
            error, meta = asked.setProxy({"http": address}).toJSON()
        finally:
            proxy.shutdown()
            thread.join()
        assert error is None
        assert meta is not None
        assert meta["id"] == "by-proxy"
        assert proxy.asked == ["http://api.test/1.0/fetch"]  # type: ignore[attr-defined]


# Errors of the API


def test_an_error_is_the_message_of_the_api_and_in_binary_mode_its_document(
    api: ApiServer, picture: str, tmp_path: Path
) -> None:
    api.always = faults.status(422)
    target = tmp_path / "result.jpg"
    asked = [chain(api).upload(picture).resize({"factor": 0}) for _ in ENDINGS]
    assert asked[0].toJSON() == (REFUSED, None)
    error, meta = asked[1].toFile(str(target))
    assert (error, meta and meta["message"], meta and meta["code"]) == (REFUSED, REFUSED, 422)
    error, meta, data = asked[2].toBuffer()
    assert (error, meta and meta["success"], data) == (REFUSED, False, None)
    assert not target.exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_success_decides_and_not_the_status(
    api: ApiServer, picture: str, ended: Callable[..., tuple[Any, ...]], ending: str
) -> None:
    api.always = faults.success_false_200()
    error, meta, *_ = ended(chain(api).upload(picture), ending)
    assert error == REFUSED
    assert (meta is None) is (ending == "toJSON")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "fault",
    [faults.html(), faults.html(502), faults.invalid_json(), faults.garbage(), faults.cut()],
    ids=str,
)
def test_what_can_not_be_understood_is_returned_as_an_error(
    api: ApiServer,
    picture: str,
    tmp_path: Path,
    ended: Callable[..., tuple[Any, ...]],
    fault: faults.Fault,
    ending: str,
) -> None:
    api.always = fault
    api.always_download = faults.cut()
    error, *rest = ended(chain(api).upload(picture), ending)
    assert isinstance(error, str)
    assert error
    assert rest == [None] * len(rest)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["harbour.jpg"]


@pytest.mark.parametrize("fault", [faults.no_metadata(), faults.bad_metadata()], ids=str)
@pytest.mark.parametrize("ending", BINARY)
def test_an_image_without_metadata_is_an_error_and_leaves_the_file_as_it_was(
    api: ApiServer,
    picture: str,
    tmp_path: Path,
    ended: Callable[..., tuple[Any, ...]],
    fault: faults.Fault,
    ending: str,
) -> None:
    (tmp_path / "result").write_bytes(b"an older one")
    api.always = fault
    error, *rest = ended(chain(api).upload(picture), ending)
    assert "metadata" in error
    assert rest == [None] * len(rest)
    assert (tmp_path / "result").read_bytes() == b"an older one"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/html"])
def test_an_image_may_be_called_anything_where_its_metadata_are_right(
    api: ApiServer, picture: str, content_type: str
) -> None:
    api.always = faults.wrong_type(content_type)
    error, meta, data = chain(api).upload(picture).toBuffer()
    assert error is None
    assert meta is not None
    assert data is not None
    assert meta["output"]["bytes"] == len(data)


@pytest.mark.parametrize("ending", BINARY)
def test_the_older_metadata_header_does(
    api: ApiServer, picture: str, ended: Callable[..., tuple[Any, ...]], ending: str
) -> None:
    api.always = faults.meta_only_old()
    error, meta, *_ = ended(chain(api).upload(picture), ending)
    assert (error, meta["success"]) == (None, True)


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_connection_is_an_error_and_not_an_exception(
    picture: str, ended: Callable[..., tuple[Any, ...]], ending: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    asked = Patient(KEY, f"http://127.0.0.1:{port}/1.0").upload(picture)
    error, *rest = ended(asked, ending)
    assert isinstance(error, str)
    assert rest == [None] * len(rest)


def test_silence_ends_after_the_timeout(api: ApiServer, picture: str) -> None:
    class Impatient(optidash):
        client_options: ClassVar[Mapping[str, Any]] = {"timeout": 0.2, "retries": 0}

    api.always = faults.stall_before_head()
    error, meta = Impatient(KEY, api.url).upload(picture).toJSON()
    assert isinstance(error, str)
    assert meta is None


def test_a_call_that_fails_for_now_is_tried_again(api: ApiServer, picture: str) -> None:
    api.fail(faults.status(503), faults.close_before_head())
    assert chain(api).upload(picture).toJSON()[0] is None
    assert (len(api.seen), api.calls) == (3, 1)


def test_a_wrong_key_is_an_error_that_does_not_show_it(api: ApiServer, picture: str) -> None:
    error, meta = Patient("wr0ng", api.url).upload(picture).toJSON()
    assert (error, meta) == ("Authentication failed", None)
    error, _ = Patient("wr0ng\n", api.url).upload(picture).toJSON()
    assert isinstance(error, str)
    assert "wr0ng" not in error
    assert "wr0ng" not in repr(Patient("wr0ng"))


# Mistakes


def mistaken(api: ApiServer, asked: optidash, end: Callable[[optidash], tuple[Any, ...]]) -> str:
    """End a chain with a mistake in it; return what it says of that."""
    error, *rest = end(asked)
    assert rest == [None] * len(rest)
    assert isinstance(error, str)
    assert api.seen == []
    return error


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (lambda url: optidash().upload(b"x"), "The API key is missing"),
        (lambda url: optidash("", url).upload(b"x"), "The API key is missing"),
        (lambda url: optidash(b"key", url).upload(b"x"), "The API key is missing"),
        (lambda url: optidash(KEY, 7).upload(b"x"), "The endpoint is not a string"),
        (lambda url: optidash(KEY, url), "There is no image"),
        (lambda url: optidash(KEY, url).upload(b"x").fetch(url), "exclude each other"),
        (lambda url: optidash(KEY, url).fetch(url).upload(b"x"), "exclude each other"),
        (lambda url: optidash(KEY, url).fetch(b"https://a"), "not bytes"),
        (lambda url: optidash(KEY, url).fetch(None), "not NoneType"),
        (lambda url: optidash(KEY, url).fetch("a.jpg"), "http"),
        (lambda url: optidash(KEY, url).upload(7), "not int"),
        (lambda url: optidash(KEY, url).upload(Path("a.jpg")), "path as a string"),
        (lambda url: optidash(KEY, url).upload("nowhere.jpg"), "There is no file nowhere.jpg"),
        (lambda url: optidash(KEY, url).upload("zero\0byte"), "There is no file"),
        (lambda url: optidash(KEY, url).upload(io.StringIO("x")), "getvalue() gives bytes"),
        (lambda url: optidash(KEY, url).upload(b"x").headers({"a": "b"}), "goes with fetch()"),
        (lambda url: optidash(KEY, url).upload(b"x").resize({"width": {1}}), "JSON"),
        (lambda url: optidash(KEY, "ftp://a/1.0").upload(b"x"), "https://"),
    ],
)
def test_a_mistake_is_returned_and_nothing_is_sent(
    api: ApiServer,
    ended: Callable[..., tuple[Any, ...]],
    begin: Callable[[str], optidash],
    words: str,
    ending: str,
) -> None:
    assert words in mistaken(api, begin(api.url), lambda asked: ended(asked, ending))


def test_a_closed_buffer_is_a_mistake(api: ApiServer) -> None:
    buffer = io.BytesIO(b"x")
    buffer.close()
    assert "closed" in mistaken(api, chain(api).upload(buffer), optidash.toJSON)


@pytest.mark.parametrize("name", ["webhook", "store"])
@pytest.mark.parametrize("ending", BINARY)
def test_a_binary_ending_goes_with_neither_webhook_nor_store(
    api: ApiServer, ended: Callable[..., tuple[Any, ...]], ending: str, name: str
) -> None:
    asked = getattr(chain(api).upload(b"x"), name)({"secret": "s3same"})
    error = mistaken(api, asked, lambda asked: ended(asked, ending))
    assert f"{name}()" in error
    assert "s3same" not in error


def test_json_does_not_go_with_mode_binary(api: ApiServer) -> None:
    asked = chain(api).upload(b"x").response({"mode": "binary"})
    assert "toBuffer()" in mistaken(api, asked, optidash.toJSON)


@pytest.mark.parametrize("path", [None, "", 7, Path("a.jpg"), b"a.jpg"])
def test_the_path_of_a_result_is_a_string(api: ApiServer, path: Any) -> None:
    asked = chain(api).upload(b"x")
    assert "as a string" in mistaken(api, asked, lambda asked: asked.toFile(path))


@pytest.mark.parametrize("path", ["no/such/folder/a.jpg", ".", "/", "zero\0byte", "a" * 300])
def test_a_result_that_can_not_be_written_is_an_error(
    api: ApiServer, picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    error, meta = chain(api).upload(picture).toFile(path)
    assert isinstance(error, str)
    assert meta is None
    assert not list(tmp_path.glob(".*"))


def test_another_ending_is_refused(api: ApiServer, picture: str) -> None:
    asked = chain(api).upload(picture)
    assert asked.toJSON()[0] is None
    error, meta, data = asked.toBuffer()
    assert "toJSON() already" in str(error)
    assert (meta, data, len(api.seen)) == (None, None, 1)


def test_of_several_mistakes_the_last_one_is_told_and_none_is_forgotten(
    api: ApiServer, picture: str
) -> None:
    asked = optidash(None, api.url).fetch(3)
    assert "fetch()" in mistaken(api, asked, lambda asked: asked.fetch("https://a").toJSON())
    asked = chain(api).upload(picture)
    assert "as a string" in mistaken(api, asked, lambda asked: asked.toFile(None))
    assert "as a string" in mistaken(api, asked, lambda asked: asked.toFile("a.jpg"))


def test_the_class_has_a_name_in_capitals_too() -> None:
    assert Optidash is optidash
