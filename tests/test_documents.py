from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optidash_integrations.documents import (
    Account,
    SubKey,
    Webhook,
    described,
    error_of,
    parsed,
)
from optidash_integrations.errors import (
    ApiError,
    AuthenticationError,
    BusyError,
    ImageTooLargeError,
    InvalidOperationsError,
    ProcessorError,
    ProtocolError,
    QuotaExceededError,
    RateLimitError,
    RejectedImageError,
    RejectedSizeError,
    RequestRefusedError,
    ServerError,
    UnsupportedImageError,
)

KEY = "k" * 20 + "0123456789"


# Errors


@pytest.mark.parametrize(
    ("status", "kind", "also", "retryable"),
    [
        (400, InvalidOperationsError, ProcessorError, False),
        (401, AuthenticationError, ProcessorError, False),
        (402, QuotaExceededError, ProcessorError, False),
        (403, AuthenticationError, ProcessorError, False),
        (404, RequestRefusedError, ProcessorError, False),
        (409, RequestRefusedError, ProcessorError, False),
        (413, RejectedSizeError, ImageTooLargeError, False),
        (415, RejectedImageError, UnsupportedImageError, False),
        (422, InvalidOperationsError, ProcessorError, False),
        (429, RateLimitError, BusyError, True),
        (500, ServerError, ProcessorError, True),
        (501, ServerError, ProcessorError, False),
        (502, ServerError, ProcessorError, True),
        (503, ServerError, ProcessorError, True),
        (504, ServerError, ProcessorError, True),
        (599, ServerError, ProcessorError, False),
    ],
)
def test_a_status_is_an_error_of_its_own(
    status: int, kind: type[ApiError], also: type[Exception], retryable: bool
) -> None:
    error = error_of(status, None)
    assert type(error) is kind
    assert isinstance(error, also)
    assert (error.status, error.is_retryable) == (status, retryable)


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        (422, InvalidOperationsError, False),
        (429, RateLimitError, True),
        (503, ServerError, True),
        (501, ServerError, False),
        (200, RequestRefusedError, False),
        (None, RequestRefusedError, False),
        ("422", RequestRefusedError, False),
        (True, RequestRefusedError, False),
    ],
)
def test_in_an_answer_of_success_the_documents_code_decides(
    code: object, kind: type[ApiError], retryable: bool
) -> None:
    error = error_of(200, {"success": False, "code": code})
    assert (type(error), error.status, error.is_retryable) == (kind, 200, retryable)


def test_the_status_wins_over_the_code() -> None:
    assert type(error_of(503, {"code": 422})) is ServerError
    assert not error_of(422, {"code": 503}).is_retryable


def test_an_error_says_what_the_api_says() -> None:
    said = "Super-resolution 'factor' parameter must be a positive integer"
    document = {"success": False, "code": 422, "id": "3c2e", "message": said}
    error = error_of(422, document, key=KEY, seconds=2.5)
    assert (str(error), error.message, error.request_id) == (said, said, "3c2e")
    assert (error.document, error.seconds) == (document, 2.5)


@pytest.mark.parametrize("document", [None, {}, {"message": ""}, {"message": 5}, {"message": "\n"}])
def test_an_api_that_says_nothing_is_quoted_by_status(document: dict[str, object] | None) -> None:
    error = error_of(422, document)
    assert str(error) in (
        "the API answered 422 Unprocessable Entity",
        "the API answered 422 Unprocessable Content",
    )
    assert error.request_id == ""


@pytest.mark.parametrize(
    "said",
    [
        f"the key {KEY} is not known",
        f"{KEY}{KEY}",
        "x" * 490 + KEY,
        f"no such user: Basic {base64.b64encode(f'{KEY}:'.encode()).decode()}",
        f"no such user: Bearer {KEY}",
    ],
)
def test_the_key_is_blotted_out_of_what_the_api_says(said: str) -> None:
    error = error_of(401, {"message": said}, key=KEY)
    for text in (str(error), repr(error), error.message):
        assert KEY[:10] not in text
        assert base64.b64encode(KEY.encode())[:12].decode() not in text
    assert "***" in str(error)


def test_the_key_is_blotted_out_of_all_that_an_error_holds() -> None:
    basic = base64.b64encode(f"{KEY}:".encode()).decode()
    document = {
        "success": False,
        "id": f"id of {KEY}",
        "asked": {"headers": [{"authorization": f"Basic {basic}"}, [KEY, 5, None]], KEY: True},
    }
    error = error_of(401, document, key=KEY)
    assert error.request_id == "id of ***"
    assert error.document == {
        "success": False,
        "id": "id of ***",
        "asked": {"headers": [{"authorization": "Basic ***"}, ["***", 5, None]], "***": True},
    }
    assert document["id"] == f"id of {KEY}"


def test_a_document_nested_too_deeply_is_blotted_too() -> None:
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"more": deep}
    error = error_of(401, {"message": f"no {KEY}", "id": "3c2e", "deep": deep}, key=KEY)
    assert (error.document, str(error)) == ({"message": "no ***", "id": "3c2e"}, "no ***")


def test_a_list_of_webhooks_that_is_none_does_not_tell_the_key() -> None:
    with pytest.raises(ProtocolError) as caught:
        Webhook.list_from({"key": KEY}, KEY)
    assert caught.value.document == {"key": "***"}


def test_a_message_is_one_printable_line_of_bounded_length() -> None:
    message = str(error_of(500, {"message": "a\r\nb\x1b[31mc\x00d\ud800" + "e" * 9999}))
    assert message.isprintable()
    assert message.startswith("a  b [31mc d ")
    assert len(message) == 500


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (799, "799"), (0, "0")])
def test_a_status_is_described_where_it_has_words(status: int, words: str) -> None:
    assert described(status) == words


# Documents


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"5", b'"text"', b"null", b"<html>", b"\xff\xfe", b'{"a":', b"[" * 100_000,
     b'{"a":' * 100_000, b'{"a": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_no_json_object_is_no_document(content: bytes) -> None:
    assert parsed(content) is None


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_reading_a_document_never_fails(content: bytes | str) -> None:
    found = parsed(content)
    assert found is None or isinstance(found, dict)


def test_a_document_is_read_from_bytes_and_text() -> None:
    assert parsed('{"a": "\\u00e9"}') == parsed(' {"a": "é"} '.encode()) == {"a": "é"}


def test_an_account_is_read_in_both_of_its_shapes() -> None:
    calls = {"total": 20000, "used": 731, "remaining": 19269}
    for name in ("credits", "quota"):
        document = {"success": True, "subscription": {"name": "Team"}, name: calls}
        account = Account.from_dict(document)
        assert (account.name, account.total, account.used, account.remaining) == (
            "Team",
            20000,
            731,
            19269,
        )
        assert account.raw == document


def test_credits_win_over_a_quota() -> None:
    account = Account.from_dict({"credits": {"total": 1}, "quota": {"total": 2, "used": 1}})
    assert (account.total, account.used) == (1, None)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"credits": None, "subscription": None},
        {"credits": [1], "subscription": "Team"},
        {"credits": {"total": "20", "used": True, "remaining": 1.5}, "subscription": {"name": 1}},
    ],
)
def test_what_an_account_does_not_tell_stays_unknown(document: dict[str, object]) -> None:
    account = Account.from_dict(document)
    assert (account.name, account.total, account.used, account.remaining) == ("", None, None, None)


def test_a_webhook_is_read_with_its_time() -> None:
    webhook = Webhook.from_dict(
        {"id": "3c2e", "status": "delivered", "created_at": "2026-03-04T09:15:21.402Z"}
    )
    assert (webhook.id, webhook.status) == ("3c2e", "delivered")
    assert webhook.created_at == datetime(2026, 3, 4, 9, 15, 21, 402_000, UTC)


@pytest.mark.parametrize("time", [None, 5, "", "yesterday", "2026-99-99T00:00:00Z"])
def test_a_webhook_without_a_readable_time_has_none(time: object) -> None:
    assert Webhook.from_dict({"id": "a", "created_at": time}).created_at is None


@pytest.mark.parametrize("name", ["webhooks", "data", "items", "results", "entries"])
def test_a_list_of_webhooks_is_found_whatever_its_name(name: str) -> None:
    document = {"success": True, "total": 2, name: [{"id": "a"}, "no webhook", {"id": "b"}]}
    assert [webhook.id for webhook in Webhook.list_from(document)] == ["a", "b"]


def test_an_empty_list_of_webhooks_is_one_and_none_is_an_error() -> None:
    assert Webhook.list_from({"errors": [{"id": "no"}], "webhooks": []}) == []
    with pytest.raises(ProtocolError, match="no list"):
        Webhook.list_from({"success": True})


def test_a_sub_key_does_not_show_itself() -> None:
    document = json.loads(f'{{"success": true, "name": "shop", "key": "{KEY}"}}')
    sub_key = SubKey.from_dict(document)
    assert (sub_key.name, sub_key.key, sub_key.raw) == ("shop", KEY, document)
    assert KEY not in repr(sub_key)
    assert KEY not in str(sub_key)
