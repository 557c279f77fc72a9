from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import httpx
import pytest

from optidash_integrations.engine.describe import describe
from optidash_integrations.errors import ProcessorError
from tests.api import faults
from tests.api.server import ApiServer, certificate
from tests.api.talk import BASIC, ECHO, GET, JPEG, raw, sha1, told, upload
from tests.api.wire import chunk
from tests.sites.photos import animation, photo
from tests.sites.processor import HandProcessor


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as running:
        yield running


@pytest.fixture
def client(server: ApiServer) -> Iterator[httpx.Client]:
    with httpx.Client(auth=BASIC, timeout=10, trust_env=False) as made:
        yield made


# Health


def test_a_json_answer_tells_of_both_images_and_where_the_result_is(server, client):
    data = photo()
    answer = upload(server, client, {"resize": {"width": 60}}, data)
    document = answer.json()
    result = client.get(document["output"]["url"])
    assert (answer.status_code, document["success"], document["code"]) == (200, True, 200)
    assert document["input"] == {**describe(data).fields(), "name": "cat.jpg"}
    assert (
        document["output"].items()
        >= {**describe(result.content).fields(), "name": "cat.jpg"}.items()
    )
    assert (document["output"]["width"], result.headers["content-type"]) == (60, "image/jpeg")
    assert re.fullmatch(rf"{server.origin}/temp/[\w-]+/cat\.jpg", document["output"]["url"])


@pytest.mark.parametrize("value", ["1", "true", None])
def test_a_binary_answer_is_the_image_with_its_metadata_in_two_headers(server, client, value):
    operations = {"output": {"format": "webp"}, "response": {"mode": "binary"}}
    headers = {"X-Optidash-Binary": value} if value else {}
    files = {"file": ("", photo()), "data": (None, json.dumps(operations))}
    answer = client.post(f"{server.url}/upload", files=files, headers=headers)
    document = told(answer)
    assert answer.headers["x-optidash-meta"] == answer.headers["x-optidash-metadata"]
    assert (document["output"]["sha1"], document["output"]["format"]) == (
        sha1(answer.content),
        "WEBP",
    )
    assert answer.headers["content-type"] == "image/webp"
    assert client.get(document["output"]["url"]).content == answer.content


def test_parts_come_in_any_order_with_any_name_under_any_multipart_type(server, client):
    file = b'Content-Disposition: form-data; name="file"; filename=""\r\n\r\n' + JPEG
    data = b'Content-Disposition: form-data; name="data"\r\n\r\n{"echo": true}\n'
    for parts in ((file, data), (data, file)):
        body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"
        headers = {"Content-Type": "multipart/mixed; boundary=x"}
        answer = client.post(f"{server.url}/upload", content=body, headers=headers)
        assert answer.json()["output"]["sha1"] == sha1(JPEG)


def test_no_operations_are_an_empty_object(server, client):
    data = photo()
    assert upload(server, client, [], data).json()["output"]["width"] == 120
    answer = client.post(f"{server.url}/upload", files={"file": ("", data)})
    assert answer.json()["output"]["width"] == 120


@pytest.mark.parametrize(
    ("operations", "data", "status", "message"),
    [
        ({"resize": {"width": 0}}, photo(), 422, "resize.width takes"),
        ({}, b"no image", 415, ""),
        ({"output": {"format": "png"}}, animation(), 415, "2 frames"),
        ({}, photo()[:1000], 422, ""),
        ({"webhook": {}}, JPEG, 422, "webhook"),
        (3, JPEG, 400, "no JSON object"),
    ],
)
def test_a_failure_is_told_in_the_body_or_in_binary_mode_beside_an_empty_one(
    server, client, operations, data, status, message
):
    plain = upload(server, client, operations, data)
    binary = upload(server, client, operations, data, binary=True)
    assert binary.content == b""
    for answer, document in ((plain, plain.json()), (binary, told(binary))):
        assert (answer.status_code, document["code"]) == (status, status)
        assert document["success"] is False
        assert message in document["message"]
    assert server.calls == 0


def test_a_processor_that_fails_is_a_500():
    processor = HandProcessor(error=ProcessorError("no memory"))
    with ApiServer(processor=processor) as server, httpx.Client(auth=BASIC) as client:
        answer = upload(server, client, {})
    assert (answer.status_code, answer.json()["message"]) == (500, "no memory")


@pytest.mark.parametrize("body", [b"{", b'{"url": "https://example.org/a.jpg"}', b"{}"])
def test_a_fetch_that_can_not_be_is_refused(server, client, body):
    headers = {"Content-Type": "application/json"}
    assert client.post(f"{server.url}/fetch", content=body, headers=headers).is_client_error


def test_fetch_downloads_from_this_machine_with_the_given_headers(server, client):
    there = upload(server, client, name="a cat.jpg").json()["output"]["url"]
    document = {"url": there.replace("//", "//me:pass@"), "headers": {"X-Origin": "7"}, **ECHO}
    answer = client.post(f"{server.url}/fetch", json=document).json()
    seen = server.seen[-1]
    assert (answer["input"]["name"], answer["output"]["sha1"]) == ("a cat.jpg", sha1(JPEG))
    assert (seen.headers["x-origin"], seen.headers["user-agent"]) == ("7", "Optidash/1.0")
    assert seen.headers["authorization"] == "Basic bWU6cGFzcw=="


def test_a_download_that_fails_is_the_requests_fault(server, client):
    document = {"url": f"{server.origin}/temp/none/cat.jpg"}
    answer = client.post(f"{server.url}/fetch", json=document)
    assert (answer.status_code, "404" in answer.json()["message"]) == (422, True)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Basic dGVzdC1rZXk6", 200),
        ("Bearer test-key", 200),
        ("Bearer other", 401),
        ("Basic dGVzdC1rZXk6eA==", 401),
        ("", 401),
    ],
)
def test_a_key_is_needed(server, authorization, status):
    with httpx.Client(headers={"Authorization": authorization}) as client:
        answer = client.get(f"{server.url}/account")
    assert (answer.status_code, answer.json()["success"]) == (status, status == 200)


def test_every_api_answer_tells_the_rate(server, client):
    server.rate = (100, 7, 60)
    server.fail(faults.status(500), faults.retry_after(5))
    answers = [client.get(f"{server.url}/account") for _ in range(3)]
    assert [a.headers["x-ratelimit-remaining"] for a in answers] == ["7", "0", "7"]
    assert answers[1].headers["x-ratelimit-reset"] == answers[1].headers["retry-after"] == "5"
    assert answers[1].json()["message"] == "Rate limit exceeded. Retry in 5 seconds."


def test_webhooks_and_keys_and_storage(server, client):
    sent = upload(server, client, {**ECHO, "webhook": {"url": "https://example.org/done"}})
    identity = sent.json()["id"]
    listed = client.get(f"{server.url}/webhooks/", params={"status": "created,failed", "limit": 1})
    one = client.get(f"{server.url}/webhooks/{identity}").json()
    assert sent.status_code == sent.json()["code"] == 202
    assert [webhook["id"] for webhook in listed.json()["webhooks"]] == [identity]
    assert listed.json()["query"] == {"status": "created,failed", "limit": "1"}
    assert one["webhook"].keys() == {"id", "status", "created_at"}
    assert client.get(f"{server.url}/webhooks/none").status_code == 404

    key = client.post(f"{server.url}/keys", json={"name": "shop"}).json()["key"]
    again = client.post(f"{server.url}/keys", json={"name": "shop"})
    renamed = client.put(f"{server.url}/keys/{key}", json={"name": "Laden"}).json()
    assert (len(key), again.status_code, renamed["name"]) == (40, 409, "Laden")

    stored = upload(server, client, {**ECHO, "store": {"provider": "aws"}}).json()
    assert not stored["output"]["url"].startswith(server.origin)


def test_unknown_addresses_and_methods_are_refused(server, client):
    assert client.get(f"{server.url}/nothing").status_code == 404
    assert client.get(f"{server.url}/upload").status_code == 405


def test_every_request_is_seen(server, client):
    upload(server, client)
    client.get(f"{server.url}/account?a=1")
    first, second = server.seen
    assert (first.method, first.path, first.length) == ("POST", "/1.0/upload", len(first.body))
    assert JPEG in first.body
    assert first.headers["authorization"].startswith("Basic ")
    assert (second.path, second.body) == ("/1.0/account?a=1", b"")


def test_a_large_upload_comes_back_without_being_kept_in_memory(server, client):
    data = bytes(range(256)) * (12 * 4096)
    answer = upload(server, client, data=data, binary=True)
    document = told(answer)["output"]
    assert answer.content == client.get(document["url"]).content == data
    assert (document["bytes"], document["sha1"]) == (len(data), sha1(data))
    assert (server.seen[0].body, server.seen[0].length > len(data)) == (b"", True)
    assert server.processed == {sha1(data): 1}
    assert [file.stat().st_size for file in server.api.folder().iterdir()] == [len(data)]


def test_large_files_are_gone_when_the_server_is():
    with ApiServer() as server, httpx.Client(trust_env=False) as client:
        upload(server, client, data=bytes(2_000_000))
        folder = server.api.folder()
        assert len(list(folder.iterdir())) == 1
    assert not folder.exists()


def test_an_upload_may_come_in_chunks_and_wait_to_be_asked_for(server):
    part = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nA\r\n--x--\r\n'
    head = (
        b"POST /1.0/upload HTTP/1.1\r\nAuthorization: Bearer test-key\r\nExpect: 100-continue\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunks = b"".join(map(chunk, (part[:20], part[20:], b"")))
    answer = raw(server, head + chunks)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 415 ")


@pytest.mark.parametrize("size", [2, 3, 1_000_003])
def test_zeros_are_as_many_as_asked_for(server, client, size):
    answer = upload(server, client, {"zeros": size}, binary=True)
    document = told(answer)["output"]
    assert (len(answer.content), document["bytes"]) == (size, size)
    assert document["sha1"] == sha1(answer.content)
    assert b"\xff\xd8\xff".startswith(answer.content[:3])


def test_hundreds_of_requests_at_once_are_each_counted_once(server, client):
    bodies = [JPEG + str(number).encode() for number in range(300)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda data: upload(server, client, data=data), bodies))
    assert {answer.status_code for answer in answers} == {200}
    assert server.calls == len(server.seen) == 300
    assert server.processed == {sha1(data): 1 for data in bodies}


def test_tls_works_with_the_right_name_and_not_with_a_wrong_one():
    for name in ("localhost", "other.test"):
        context, authority = certificate(name)
        trust = ssl.create_default_context(cafile=authority)
        with ApiServer(context) as server, httpx.Client(auth=BASIC, verify=trust) as client:
            assert server.url == f"https://localhost:{server.port}/1.0"
            if name == "localhost":
                server.fail(None, faults.cut())
                document = upload(server, client).json()
                assert client.get(document["output"]["url"]).content == JPEG
                with pytest.raises(httpx.RemoteProtocolError):
                    upload(server, client)
            else:
                with pytest.raises(httpx.ConnectError, match="certificate"):
                    upload(server, client)
            client.close()
            assert server.wait_closed()


# Open connections


def test_a_connection_is_open_until_the_client_closes_it_also_after_a_fault(server):
    server.fail(None, faults.close_before_head())
    connection = socket.create_connection(("127.0.0.1", server.port))
    with connection:
        connection.sendall(GET)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")
        connection.sendall(GET)
        assert connection.recv(65536) == b""
        assert (server.wait_closed(0.1), server.open_connections) == (False, 1)
    assert server.wait_closed()
    assert server.open_connections == 0


def test_a_server_that_ends_breaks_off_what_stalls():
    with ExitStack() as clients:
        with ApiServer() as server:
            server.fail(faults.stall_mid_body())
            address = ("127.0.0.1", server.port)
            connection = clients.enter_context(socket.create_connection(address, 10))
            connection.sendall(GET)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
        with suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
    assert server.open_connections == 0


def test_what_goes_wrong_within_the_server_is_raised_in_the_end():
    async def play(call):
        raise RuntimeError("no such fault")

    with pytest.raises(RuntimeError, match="no such fault"), ApiServer() as server:  # noqa: PT012
        server.fail(faults.Fault("bad", play))
        assert raw(server, GET) == b""
