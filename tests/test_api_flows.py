"""The API's flows driven by hand: nothing is sent, and no second passes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from optidash_integrations.api import Api
from optidash_integrations.calls import Call, Config, Flow, Reply, Send, Sleep
from optidash_integrations.client import AsyncOptidashClient, OptidashClient
from optidash_integrations.errors import (
    ApiError,
    ApiTimeoutError,
    AuthenticationError,
    BudgetExceededError,
    CircuitOpenError,
    ConnectionFailedError,
    DownloadError,
    InvalidOperationsError,
    OptidashError,
    OptionError,
    ProtocolError,
    RateLimitError,
    RequestRefusedError,
    ServerError,
)
from optidash_integrations.flows import Do
from optidash_integrations.payload import FileSink, MemorySink
from optidash_integrations.variants import Metadata
from tests.engine.pictures import encoded, quarters

KEY = "Zk3y" * 10
BASIC = base64.b64encode(f"{KEY}:".encode()).decode()
URL = "https://api.example.com/1.0"
STORAGE = "https://storage.example.net/temp/6d0c/a.png"
PNG = encoded(quarters())
SUCCESS = {
    "success": True,
    "code": 200,
    "id": "0b6f",
    "input": {"name": "a.png", "bytes": 5},
    "output": {"url": STORAGE, "format": "PNG", "width": 80, "height": 40},
}
TOLD = SUCCESS | {
    "output": {
        "url": STORAGE,
        "width": 80,
        "height": 40,
        "bytes": len(PNG),
        "sha1": hashlib.sha1(PNG).hexdigest(),
    }
}

NO_CONNECTION = ConnectionFailedError("no connection", sent=False)
BROKEN_OFF = ConnectionFailedError("the connection broke off")

Given = Reply | Exception | Callable[[Call], Reply]


class Stream(io.RawIOBase):
    """A file that can't be rewound."""

    def readable(self) -> bool:
        return True


class Places:
    """What several processes know together, in memory."""

    def __init__(self, free: int = 1) -> None:
        self.free = free
        self.taken: set[str] = set()
        self.most = 0
        self.notes: list[tuple[str, float]] = []

    def enter(self, limit: int, lease: float) -> str | None:
        if len(self.taken) >= self.free:
            return None
        token = f"token-{self.most}"
        self.most += 1
        self.taken.add(token)
        return token

    def renew(self, token: str, lease: float) -> None:
        assert token in self.taken

    def leave(self, token: str) -> None:
        self.taken.discard(token)

    def told(self, limit: int, remaining: int, reset: float) -> None:
        self.notes.append(("told", remaining))

    def state(self) -> tuple[int, int, float] | None:
        return None

    def block(self, seconds: float) -> None:
        self.notes.append(("block", seconds))

    def blocked(self) -> float:
        return 0.0


class Gate:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.entered = 0
        self.heard_of: list[BaseException | None] = []
        self.is_open = False

    def enter(self) -> None:
        if self.is_open:
            raise CircuitOpenError("the API is left alone")
        self.entered += 1

    def heard(self, error: BaseException | None) -> None:
        self.heard_of.append(error)


class Purse:
    """A budget in memory."""

    def __init__(self, calls: int = 100) -> None:
        self.calls = calls
        self.spent = 0

    def spend(self) -> None:
        if self.spent >= self.calls:
            raise BudgetExceededError("used up")
        self.spent += 1


class Hand:
    """Drives flows: what is sent gets the next answer given, and sleeping lets a clock run."""

    def __init__(self, **config: Any) -> None:
        self.now = 1_700_000_000.0
        self.places = Places()
        self.gate = Gate()
        self.purse = Purse()
        self.slept: list[float] = []
        self.calls: list[Call] = []
        self.steps: list[object] = []
        self.api = Api(
            Config(**({"api_key": KEY, "api_url": URL} | config)),
            budget=self.purse,
            gate=self.gate,
            shared=self.places,
            clock=lambda: self.now,
            monotonic=lambda: self.now,
        )

    def run(self, flow: Flow[Any], *given: Given) -> Any:
        """Return what a flow returns; each answer given has to be used."""
        answers = iter(given)
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                step = flow.throw(error) if error else flow.send(answer)
            except StopIteration as done:
                assert list(answers) == []
                return done.value
            answer = error = None
            self.steps.append(step)
            try:
                answer = self.done(step, answers)
            except Exception as raised:  # noqa: BLE001  as the client's own driver
                error = raised

    def done(self, step: object, answers: Iterator[Given]) -> Any:
        if isinstance(step, Sleep):
            self.slept.append(step.seconds)
            self.now += step.seconds
            return None
        if isinstance(step, Do):
            return step.work()
        assert isinstance(step, Send)
        self.calls.append(step.call)
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, Reply) else found(step.call)

    def image(
        self,
        content: bytes = PNG,
        document: Mapping[str, object] | None = TOLD,
        *,
        kind: str = "image/png",
        headers: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> Callable[[Call], Reply]:
        """Return an answer whose body is an image."""
        told = {"x-optidash-metadata": json.dumps(document)} if document is not None else {}
        all_headers = {"content-type": kind, **told, **(headers or {})}

        def answer(call: Call) -> Reply:
            image = self.api.arrival(call, 200, all_headers)
            if image is None:
                return Reply(200, all_headers, content, **facts)
            image.sink.begin()
            image.take(content)
            return Reply(200, all_headers, image=image, **facts)

        return answer


def reply(status: int = 200, document: object = None, **headers: object) -> Reply:
    names = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    body = b"" if document is None else json.dumps(document).encode()
    return Reply(status, {"content-type": "application/json", **names}, body)


OK = reply(200, SUCCESS)


@pytest.fixture
def hand() -> Iterator[Hand]:
    """Give a hand; in the end every place must have been given back."""
    found = Hand()
    yield found
    assert found.places.taken == set()


def bare_calls(hand: Hand) -> list[tuple[str, str]]:
    return [(call.method, call.url) for call in hand.calls]


def sent_key(call: Call) -> bool:
    return KEY in str(dict(call.headers)) or BASIC in str(dict(call.headers))


def all_text(error: BaseException) -> str:
    """Return all that a log could show of an error, and of what it goes back to."""
    chain: list[str] = []
    found: BaseException | None = error
    while found is not None:
        chain += [str(found), repr(found)]
        found = found.__cause__ or found.__context__
    return "\n".join(chain) + "".join(traceback.format_exception(error))


# What is sent


def test_an_upload_is_one_call_with_operations_and_the_key(hand: Hand) -> None:
    flow = hand.api.upload(b"image", {"resize": {"width": 5}}, store=None, cdn={"push": False})
    metadata = hand.run(flow, OK)
    assert (metadata.id, metadata.output.url, metadata.raw) == ("0b6f", STORAGE, SUCCESS)
    (call,) = hand.calls
    assert (call.method, call.url) == ("POST", f"{URL}/upload")
    assert call.headers["authorization"] == f"Basic {BASIC}"
    assert "x-optidash-binary" not in call.headers
    assert json.loads(call.form or "") == {"resize": {"width": 5}, "cdn": {"push": False}}
    assert (hand.slept, hand.purse.spent, hand.gate.heard_of) == ([], 1, [None])


def test_a_bearer_token_and_no_key_at_all() -> None:
    hand = Hand(auth="bearer")
    hand.run(hand.api.account(), OK)
    assert hand.calls[0].headers["authorization"] == f"Bearer {KEY}"
    hand = Hand(api_key=None, api_url="http://localhost:8000/1.0/")
    hand.run(hand.api.account(), OK)
    assert "authorization" not in hand.calls[0].headers
    assert hand.calls[0].url == "http://localhost:8000/1.0/account"


def test_a_fetch_sends_the_address_among_the_operations(hand: Hand) -> None:
    hand.run(
        hand.api.fetch(
            "https://h.example/a.jpg", {"url": "x", "new": {"a": 1}}, headers={"a": "b"}
        ),
        OK,
    )
    (call,) = hand.calls
    assert json.loads(call.content or b"") == {
        "url": "https://h.example/a.jpg",
        "new": {"a": 1},
        "headers": {"a": "b"},
    }
    assert call.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "url", ["", "a.jpg", "ftp://h.example/", None, 5, "http://[", b"http://h/"]
)
def test_what_can_not_be_fetched_is_refused_before_anything_is_sent(hand: Hand, url: Any) -> None:
    with pytest.raises(OptionError, match="url takes"):
        hand.run(hand.api.fetch(url, None))
    assert hand.calls == []


@pytest.mark.parametrize("operations", [[], "resize", 5, {"a": float("nan")}, {"a": object()}])
def test_operations_that_are_none_are_refused(hand: Hand, operations: Any) -> None:
    with pytest.raises(OptionError, match="operations takes"):
        hand.run(hand.api.upload(b"image", operations))
    assert hand.calls == []


def test_other_methods_have_addresses_of_their_own(hand: Hand) -> None:
    start = datetime(2026, 3, 4, tzinfo=UTC)
    webhooks = reply(200, {"success": True, "webhooks": []})
    webhook = reply(200, {"success": True, "webhook": {"id": "a/b"}})
    key = reply(200, {"success": True, "name": "shop", "key": "k" * 40})
    hand.run(hand.api.account(), OK)
    hand.run(hand.api.webhooks(), webhooks)
    hand.run(hand.api.webhooks(status=["failed", "created"], start=start, limit=5), webhooks)
    assert hand.run(hand.api.webhook("a/b"), webhook).id == "a/b"
    assert hand.run(hand.api.create_key("shop"), key).key == "k" * 40
    hand.run(hand.api.rename_key("k?", "store"), key)
    assert bare_calls(hand) == [
        ("GET", f"{URL}/account"),
        ("GET", f"{URL}/webhooks/"),
        (
            "GET",
            f"{URL}/webhooks/?status=failed%2Ccreated&start=2026-03-04T00%3A00%3A00%2B00%3A00"
            "&limit=5",
        ),
        ("GET", f"{URL}/webhooks/a%2Fb"),
        ("POST", f"{URL}/keys"),
        ("PUT", f"{URL}/keys/k%3F"),
    ]
    assert hand.purse.spent == 0


@pytest.mark.parametrize("id", ["", ".", "..", None, 5])
def test_an_id_that_would_lead_elsewhere_is_refused(hand: Hand, id: Any) -> None:
    with pytest.raises(OptionError):
        hand.run(hand.api.webhook(id))
    assert hand.calls == []


# Waits and tries


def test_tries_are_1_2_and_4_seconds_apart_and_four_in_all(hand: Hand) -> None:
    with pytest.raises(ServerError, match="500"):
        hand.run(hand.api.upload(b"image", None), *[reply(500)] * 4)
    assert hand.slept == [1.0, 2.0, 4.0]
    assert len(hand.calls) == 4
    assert (hand.purse.spent, hand.gate.entered, len(hand.gate.heard_of)) == (4, 4, 4)


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_how_many_tries_there_are_can_be_set(retries: int) -> None:
    hand = Hand(retries=retries)
    with pytest.raises(ServerError):
        hand.run(hand.api.account(), *[reply(503)] * (retries + 1))
    assert hand.slept == [1.0, 2.0, 4.0, 8.0, 16.0][:retries]


@pytest.mark.parametrize(
    "failure", [reply(500), reply(502), reply(503), reply(504), reply(429), NO_CONNECTION,
                BROKEN_OFF, ApiTimeoutError("silent")],
)  # fmt: skip
def test_what_passes_is_tried_again_until_it_succeeds(hand: Hand, failure: Given) -> None:
    assert hand.run(hand.api.upload(b"image", None), failure, failure, OK).id == "0b6f"
    assert hand.slept == [1.0, 2.0]
    assert hand.gate.heard_of[-1] is None


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 409, 413, 415, 422, 501, 505])
def test_what_does_not_pass_is_not_tried_again(hand: Hand, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        hand.run(hand.api.upload(b"image", None), reply(status, {"message": "no"}))
    assert (caught.value.status, str(caught.value), hand.slept) == (status, "no", [])


def test_a_wrong_certificate_is_not_tried_again(hand: Hand) -> None:
    error = ConnectionFailedError("no connection", sent=False, is_retryable=False)
    with pytest.raises(ConnectionFailedError):
        hand.run(hand.api.account(), error)
    assert hand.slept == []


def test_jitter_makes_waits_longer_by_a_quarter_at_the_most() -> None:
    hand = Hand()
    hand.api.jitter = lambda: 1.0
    with pytest.raises(ServerError):
        hand.run(hand.api.account(), *[reply(500)] * 4)
    assert hand.slept == [1.25, 2.5, 5.0]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after": "60"}, 60.0),
        ({"retry_after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        (
            {
                "retry_after": "Tue, 14 Nov 2023 12:00:30 GMT",
                "date": "Tue, 14 Nov 2023 12:00:00 GMT",
            },
            30.0,
        ),
        ({"retry_after": "nonsense"}, 1.0),
    ],
)
def test_retry_after_says_how_long_to_wait(
    hand: Hand, status: int, headers: dict[str, str], seconds: float
) -> None:
    hand.run(hand.api.upload(b"image", None), reply(status, **headers), OK)
    assert sum(hand.slept) == pytest.approx(seconds)
    assert len(hand.slept) == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("after", ["61", "86400", "Wed, 15 Nov 2023 12:00:00 GMT"])
def test_a_wait_beyond_max_wait_fails_at_once(hand: Hand, status: int, after: str) -> None:
    with pytest.raises(ApiError) as caught:
        hand.run(hand.api.upload(b"image", None), reply(status, retry_after=after))
    assert hand.slept == []
    assert caught.value.seconds is not None
    assert caught.value.seconds > 60


def test_after_a_429_all_calls_are_held_back_for_as_long(hand: Hand) -> None:
    with pytest.raises(RateLimitError):
        hand.run(hand.api.account(), reply(429, retry_after=100))
    with pytest.raises(RateLimitError, match="in 100 seconds") as caught:
        hand.run(hand.api.account())
    assert (caught.value.status, caught.value.seconds) == (None, 100.0)
    hand.now += 70
    hand.run(hand.api.account(), OK)
    assert hand.slept == [30.0]
    assert ("block", 100.0) in hand.places.notes


def test_a_429_without_retry_after_waits_for_the_period_to_end(hand: Hand) -> None:
    limits = {"x_ratelimit_limit": 100, "x_ratelimit_remaining": 0, "x_ratelimit_reset": 20}
    hand.run(hand.api.account(), reply(429, **limits), OK)
    assert hand.slept == [20.0]


def test_every_answer_is_listened_to(hand: Hand) -> None:
    limits = {"x_ratelimit_limit": 100, "x_ratelimit_remaining": 4, "x_ratelimit_reset": 20}
    hand.run(hand.api.account(), reply(200, SUCCESS, **limits))
    assert hand.api.pacer.rate_limit is not None
    assert hand.api.pacer.rate_limit.remaining == 4
    assert ("told", 4) in hand.places.notes
    hand.run(hand.api.account(), OK)
    hand.run(hand.api.account(), OK)
    assert hand.slept == [4.0]


def test_whoever_does_not_wait_for_limits_fails_at_once() -> None:
    hand = Hand(waits_for_limits=False)
    for status in (429, 503):
        with pytest.raises(ApiError):
            hand.run(hand.api.account(), reply(status, retry_after=1))
        hand.now += 5
    with pytest.raises(RateLimitError):
        hand.run(hand.api.account(), reply(429))
    with pytest.raises(ServerError):
        hand.run(hand.api.account(), *[reply(500)] * 4)
    assert hand.slept == [1.0, 2.0, 4.0]


def test_a_stream_that_can_not_be_rewound_gets_one_try(hand: Hand) -> None:
    for failure in (reply(500), reply(429), BROKEN_OFF):
        with pytest.raises(ApiError):
            hand.run(hand.api.upload(Stream(), None), failure)
    assert len(hand.calls) == 3


def test_a_file_that_can_be_rewound_gets_all(hand: Hand) -> None:
    hand.run(hand.api.upload(io.BytesIO(b"image"), None), reply(500), OK)
    assert hand.calls[0].upload is hand.calls[1].upload


@pytest.mark.parametrize("failure", [reply(500), reply(503, retry_after=1), BROKEN_OFF,
                                     ApiTimeoutError("silent")])  # fmt: skip
def test_a_key_that_may_have_been_made_is_not_made_again(hand: Hand, failure: Given) -> None:
    with pytest.raises(ApiError):
        hand.run(hand.api.create_key("shop"), failure)
    assert hand.slept == []


@pytest.mark.parametrize(
    "failure", [reply(429), reply(429, retry_after=1), NO_CONNECTION,
                ApiTimeoutError("no connection", sent=False)],
)  # fmt: skip
def test_a_key_that_was_not_made_is_asked_for_again(hand: Hand, failure: Given) -> None:
    made = reply(200, {"success": True, "name": "shop", "key": "k" * 40})
    assert hand.run(hand.api.create_key("shop"), failure, made).name == "shop"
    assert hand.slept == [1.0]


def test_renaming_a_key_may_be_repeated(hand: Hand) -> None:
    hand.run(hand.api.rename_key("k" * 40, "shop"), reply(500), OK)


# The budget, the circuit, and places


def test_a_budget_that_is_used_up_sends_nothing(hand: Hand) -> None:
    hand.purse.calls = 1
    hand.run(hand.api.account(), OK)
    with pytest.raises(BudgetExceededError):
        hand.run(hand.api.upload(b"image", None), reply(500))
    assert len(hand.calls) == 2


def test_an_open_circuit_sends_nothing(hand: Hand) -> None:
    hand.gate.is_open = True
    with pytest.raises(CircuitOpenError):
        hand.run(hand.api.upload(b"image", None))
    assert (hand.calls, hand.purse.spent, hand.places.most) == ([], 0, 0)


def test_a_place_is_waited_for_and_in_the_end_given_up() -> None:
    hand = Hand(max_wait=1.0)
    hand.places.free = 0
    with pytest.raises(RateLimitError, match="in flight"):
        hand.run(hand.api.account())
    assert sum(hand.slept) == pytest.approx(1.0, abs=0.11)
    assert hand.calls == []


@pytest.mark.parametrize(
    "given",
    [
        OK,
        reply(422),
        reply(401),
        ConnectionFailedError("x", is_retryable=False),
        ProtocolError("x"),
        OSError("the file is gone"),
        Reply(200, {}, b"<html>"),
        Reply(302, {"location": "https://evil.example/"}),
    ],
)
def test_a_place_is_given_back_however_a_call_ends(hand: Hand, given: Given) -> None:
    with suppress(OptidashError, OSError):
        hand.run(hand.api.upload(b"image", None), given)
    assert (hand.places.most, hand.places.taken) == (1, set())


def test_no_place_is_kept_while_waiting_for_another_try(hand: Hand) -> None:
    flow = hand.api.upload(b"image", None)
    answer: Any = None
    while not isinstance(step := flow.send(answer), Sleep):
        answer = step.work() if isinstance(step, Do) else reply(500)
    assert hand.places.most == 1
    assert hand.places.taken == set()
    flow.close()


def test_a_place_is_given_back_where_there_is_no_budget(hand: Hand) -> None:
    hand.purse.calls = 0
    with pytest.raises(BudgetExceededError):
        hand.run(hand.api.upload(b"image", None))
    assert (hand.places.most, hand.places.taken) == (1, set())


@pytest.mark.parametrize("last", range(12))
@pytest.mark.parametrize("answer", [OK, reply(500)])
def test_a_place_is_given_back_when_a_flow_is_closed_anywhere(
    hand: Hand, last: int, answer: Reply
) -> None:
    """A caller is cancelled: the last step was asked for, and is not done."""
    flow = hand.api.upload(b"image", None)
    with suppress(StopIteration):
        step = flow.send(None)
        for _ in range(last):
            done = step.work() if isinstance(step, Do) else answer
            step = flow.send(done)
    flow.close()
    assert hand.places.taken == set()


@pytest.mark.parametrize(
    "flow_of",
    [
        lambda api: api.account(),
        lambda api: api.upload(b"image", None),
        lambda api: api.fetch("https://h.example/a.jpg", None),
    ],
)
def test_whatever_shares_a_socket_or_a_disk_is_a_step(
    hand: Hand, flow_of: Callable[[Api], Flow[Any]]
) -> None:
    """An async client's event loop must not wait for Redis or for a file."""
    watched = Watched(hand)
    hand.run(flow_of(hand.api), reply(429, retry_after=1), LIMITED)
    assert watched.outside == []


LIMITED = Reply(
    200,
    {"x-ratelimit-limit": "9", "x-ratelimit-remaining": "8", "x-ratelimit-reset": "7"},
    json.dumps(SUCCESS).encode(),
)


class Watched:
    """Notes which methods of the shared state are called while a flow runs, and not in a step."""

    def __init__(self, hand: Hand) -> None:
        self.outside: list[str] = []
        self.inside = False
        done = hand.done

        def watched_done(step: object, answers: Iterator[Given]) -> Any:
            self.inside = True
            try:
                return done(step, answers)
            finally:
                self.inside = False

        hand.done = watched_done  # type: ignore[method-assign]
        for thing in (hand.places, hand.gate, hand.purse):
            for name in ("enter", "leave", "told", "state", "block", "blocked", "heard", "spend"):
                if hasattr(thing, name):
                    setattr(thing, name, self.noting(f"{type(thing).__name__}.{name}", thing, name))

    def noting(self, label: str, thing: object, name: str) -> Callable[..., Any]:
        method = getattr(thing, name)

        def noted(*arguments: Any) -> Any:
            if not self.inside:
                self.outside.append(label)
            return method(*arguments)

        return noted


@pytest.mark.parametrize("error", [OSError("the disk is full"), OptionError("a", "b", "c")])
def test_the_gate_hears_of_every_call_that_it_let_through(hand: Hand, error: Exception) -> None:
    """One that tries whether the API is back must not hold back all others when it never went."""
    with pytest.raises(type(error)):
        hand.run(hand.api.upload(b"image", None), error)
    assert len(hand.gate.heard_of) == hand.gate.entered == 1


# Answers


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, {}, b""),
        Reply(200, {}, b"<html>"),
        Reply(200, {}, b"[]"),
        Reply(204, {}, b""),
        Reply(304, {}, b""),
        Reply(300, {}, b""),
    ],
)
def test_an_answer_that_is_no_document_is_a_protocol_error(hand: Hand, answer: Reply) -> None:
    with pytest.raises(ProtocolError) as caught:
        hand.run(hand.api.account(), answer)
    assert caught.value.status == answer.status


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(200, {"success": False, "code": 422, "message": "no"}), InvalidOperationsError),
        (reply(200, {"success": False, "code": 401}), AuthenticationError),
        (reply(200, {"success": None}), RequestRefusedError),
        (reply(404, {"success": True}), RequestRefusedError),
    ],
)
def test_success_has_to_be_said_by_status_and_document(
    hand: Hand, answer: Reply, kind: type[ApiError]
) -> None:
    with pytest.raises(kind):
        hand.run(hand.api.account(), answer)


def test_an_answer_that_broke_off_is_asked_for_again(hand: Hand) -> None:
    broken = Reply(200, {}, b'{"success": tr', broken=BROKEN_OFF)
    hand.run(hand.api.account(), broken, OK)
    assert hand.slept == [1.0]


def test_an_error_whose_answer_broke_off_is_that_error(hand: Hand) -> None:
    with pytest.raises(InvalidOperationsError):
        hand.run(hand.api.account(), Reply(422, {}, b'{"mess', broken=BROKEN_OFF))


# Images


def test_an_image_comes_with_its_metadata(hand: Hand) -> None:
    sink = MemorySink()
    flow = hand.api.upload_image(b"image", {"response": {"x": 1}}, sink)
    variant = hand.run(flow, hand.image()).variant(sink)
    assert (variant.content, variant.content_type) == (PNG, "image/png")
    assert (variant.width, variant.height, variant.metadata.id) == (80, 40, "0b6f")
    (call,) = hand.calls
    assert call.headers["x-optidash-binary"] == "1"
    assert json.loads(call.form or "") == {"response": {"x": 1, "mode": "binary"}}


@pytest.mark.parametrize("name", ["webhook", "store"])
def test_an_image_can_not_go_elsewhere_too(hand: Hand, name: str) -> None:
    with pytest.raises(OptionError, match=name):
        hand.run(hand.api.upload_image(b"image", {name: {"url": "x"}}, MemorySink()))
    assert hand.calls == []


def test_a_failure_in_binary_mode_is_told_by_a_header(hand: Hand, tmp_path: Path) -> None:
    document = json.dumps({"success": False, "code": 422, "id": "3c2e", "message": "no width"})
    for name in ("x-optidash-metadata", "x-optidash-meta"):
        flow = hand.api.upload_image(b"image", None, FileSink(tmp_path / "a.png"))
        with pytest.raises(InvalidOperationsError, match="no width") as caught:
            hand.run(flow, Reply(422, {name: document}))
        assert caught.value.request_id == "3c2e"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "kind", ["text/html", "text/html; charset=utf-8", "text/plain", "application/xml", "video/mp4"]
)
def test_an_answer_of_another_type_is_never_an_image(hand: Hand, tmp_path: Path, kind: str) -> None:
    flow = hand.api.upload_image(b"image", None, FileSink(tmp_path / "a.png"))
    with pytest.raises(ProtocolError, match=kind.partition(";")[0]):
        hand.run(flow, hand.image(b"<html>", kind=kind))
    assert list(tmp_path.iterdir()) == []


def test_a_json_answer_is_never_an_image(hand: Hand, tmp_path: Path) -> None:
    flow = hand.api.upload_image(b"image", None, FileSink(tmp_path / "a.png"))
    with pytest.raises(ProtocolError, match="without an image"):
        hand.run(flow, hand.image(json.dumps(SUCCESS).encode(), None, kind="application/json"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        {"content": PNG[:-5]},
        {"content": PNG[:-1] + b"x"},
        {"content": PNG[:-5], "broken": BROKEN_OFF},
        {"content": PNG, "document": None, "framed": False},
    ],
)
def test_an_image_that_is_not_whole_is_fetched_from_storage_without_the_key(
    hand: Hand, damage: dict[str, Any]
) -> None:
    sink = MemorySink()
    flow = hand.api.upload_image(b"image", None, sink)
    if "document" in damage:  # nothing tells where it is kept
        hand.run(flow, hand.image(**damage), hand.image())
        assert len(hand.calls) == 2
        return
    assert hand.run(flow, hand.image(**damage), hand.image(document=None)).variant(sink).content
    assert sink.content == PNG
    first, second = hand.calls
    assert (second.method, second.url, second.foreign) == ("GET", STORAGE, True)
    assert (sent_key(first), sent_key(second)) == (True, False)
    assert (hand.purse.spent, hand.slept) == (1, [])


def test_where_storage_fails_too_the_whole_call_is_repeated(hand: Hand) -> None:
    sink = MemorySink()
    flow = hand.api.upload_image(b"image", None, sink)
    hand.run(flow, hand.image(PNG[:-5]), reply(404), hand.image())
    assert sink.content == PNG
    assert [call.foreign for call in hand.calls] == [False, True, False]


def test_what_never_came_whole_leaves_no_file(hand: Hand, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    flow = hand.api.upload_image(b"image", None, FileSink(tmp_path / "a.png"))
    with pytest.raises(DownloadError, match="its metadata say"):
        hand.run(flow, *[hand.image(PNG[:-5]), reply(404)] * 4)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_an_image_past_max_bytes_leaves_no_file(tmp_path: Path) -> None:
    hand = Hand(max_bytes=10)
    flow = hand.api.upload_image(b"image", None, FileSink(tmp_path / "a.png"))
    with pytest.raises(ProtocolError, match="max_bytes"):
        hand.run(flow, hand.image())
    assert list(tmp_path.iterdir()) == []


def traces(folder: Path) -> list[str]:
    """Return the names in a folder, and the files without a name that are open there."""
    own = Path("/proc/self/fd")
    links = list(own.iterdir()) if own.is_dir() else []
    opened = [str(link.readlink()) for link in links if link.is_symlink()]
    nameless = [name for name in opened if name.startswith(f"{folder}/#")]
    return nameless + [path.name for path in folder.iterdir()]


def test_a_flow_closed_in_the_middle_leaves_no_file(hand: Hand, tmp_path: Path) -> None:
    flow = hand.api.upload_image(b"image", None, FileSink(tmp_path / "a.png"))
    given: Any = None
    while not isinstance(step := flow.send(given), Send):
        given = step.work() if isinstance(step, Do) else None
    hand.image()(step.call)
    assert len(traces(tmp_path)) == 1
    flow.close()
    assert traces(tmp_path) == []


# Downloads


def test_a_download_is_made_without_key_place_circuit_and_budget(hand: Hand) -> None:
    for result in (STORAGE, Metadata.from_dict(TOLD)):
        sink = MemorySink()
        hand.run(hand.api.download(result, sink), hand.image(document=None))
        assert sink.content == PNG
    assert not any(map(sent_key, hand.calls))
    assert (hand.places.most, hand.gate.entered, hand.purse.spent) == (0, 0, 0)


def test_a_download_from_the_apis_own_host_is_made_without_the_key_too(hand: Hand) -> None:
    hand.run(hand.api.download(f"{URL}/temp/a.png", MemorySink()), hand.image(document=None))
    assert not any(map(sent_key, hand.calls))


@pytest.mark.parametrize(
    "result", [Metadata(), "", "a.png", "http://h.example/a.png", "file:///etc/passwd",
               "https://u:p@h.example/a.png"],
)  # fmt: skip
def test_what_can_not_be_downloaded_is_refused(hand: Hand, result: Any) -> None:
    with pytest.raises(OptionError):
        hand.run(hand.api.download(result, MemorySink()))
    assert hand.calls == []


def test_a_download_is_tried_again_and_storage_says_nothing_of_the_api(hand: Hand) -> None:
    flow = hand.api.download(STORAGE, MemorySink())
    hand.run(flow, reply(503), reply(429, retry_after=5), hand.image(document=None))
    assert hand.slept == [1.0, 5.0]
    assert (hand.gate.heard_of, hand.places.notes) == ([], [])
    hand.run(hand.api.account(), OK)
    assert hand.slept == [1.0, 5.0]


# Redirects


def moved(status: int, location: str) -> Reply:
    return Reply(status, {"location": location})


@pytest.mark.parametrize("location", ["/1.0/me", f"{URL}/me", "https://API.example.com:443/1.0/me"])
def test_a_redirect_within_the_api_is_followed_with_the_key(hand: Hand, location: str) -> None:
    hand.run(hand.api.account(), moved(301, location), OK)
    assert hand.calls[1].url.lower().replace(":443", "") == f"{URL}/me"
    assert sent_key(hand.calls[1])
    assert len(hand.gate.heard_of) == 1


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example/1.0/account",
        "//evil.example/",
        "http://api.example.com/1.0/account",
        "https://api.example.com:8443/1.0/account",
        "https://api.example.com.evil.example/",
        "https://api.example.com@evil.example/",
        "https://api.example.com\\@evil.example/",
        "ftp://api.example.com/",
        "https://[",
        "//[",
        "https://api.example.com:port/",
    ],
)
@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_to_another_host_is_not_followed(hand: Hand, location: str, status: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        hand.run(hand.api.account(), moved(status, location))
    assert len(hand.calls) == 1
    assert caught.value.status == status
    assert KEY not in all_text(caught.value)


@pytest.mark.parametrize("location", ["/1.0/\x7f", "/a b", "/\t", "https://u:p@api.example.com/"])
def test_a_redirect_to_what_is_no_address_is_a_protocol_error(hand: Hand, location: str) -> None:
    with pytest.raises(ProtocolError):
        hand.run(hand.api.account(), moved(302, location))
    assert len(hand.calls) == 1


def test_redirects_come_to_an_end(hand: Hand) -> None:
    with pytest.raises(ProtocolError, match="more than 3 redirects"):
        hand.run(hand.api.account(), *[moved(302, "/1.0/account")] * 4)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_an_upload_is_not_turned_into_something_else(hand: Hand, status: int) -> None:
    with pytest.raises(ProtocolError, match="POST"):
        hand.run(hand.api.upload(b"image", None), moved(status, "/1.0/other"))


@pytest.mark.parametrize("status", [307, 308])
def test_an_upload_is_sent_again_where_the_status_says_so(hand: Hand, status: int) -> None:
    hand.run(hand.api.upload(b"image", None), moved(status, "/2.0/upload"), OK)
    assert hand.calls[1].upload is hand.calls[0].upload
    assert hand.purse.spent == 1
    with pytest.raises(ProtocolError):
        hand.run(hand.api.upload(Stream(), None), moved(status, "/2.0/upload"))


def test_a_download_follows_redirects_without_the_key(hand: Hand) -> None:
    location = "https://cdn.example.org/a.png"
    flow = hand.api.download(STORAGE, MemorySink())
    hand.run(flow, moved(302, location), hand.image(document=None))
    assert hand.calls[1].url == location
    hand.run(
        hand.api.download(STORAGE, MemorySink()), moved(302, f"{URL}/a"), hand.image(document=None)
    )
    assert not any(map(sent_key, hand.calls))


@pytest.mark.parametrize(
    "location",
    ["http://cdn.example.org/a.png", "file:///etc/passwd", "//[", "https://u:p@h.example"],
)
def test_a_download_follows_no_redirect_to_what_is_not_safe(hand: Hand, location: str) -> None:
    """It is the answer that is at fault, and not an argument."""
    with pytest.raises(ProtocolError):
        hand.run(hand.api.download(STORAGE, MemorySink()), moved(302, location))
    assert len(hand.calls) == 1


# Secrets


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_no_object_shows_the_key(auth: str) -> None:
    hand = Hand(auth=auth)
    hand.run(hand.api.upload(b"image", None), reply(500), OK)
    hand.run(hand.api.create_key("shop"), OK)
    shown = [repr(hand.api), repr(hand.api.config), str(hand.api.config), *map(repr, hand.steps)]
    shown += [f"{call} {call!r}" for call in hand.calls]
    with OptidashClient(KEY, URL, auth=auth) as client:
        shown += [repr(client), repr(client.config), repr(client.api), repr(client.transport)]
    shown += [repr(AsyncOptidashClient(KEY, URL, auth=auth))]
    assert not [text for text in shown if KEY in text or BASIC in text]


def test_no_object_shows_a_sub_key(hand: Hand) -> None:
    sub_key = "Subk3y" * 6
    made = reply(200, {"success": True, "name": "shop", "key": sub_key})
    key = hand.run(hand.api.create_key("shop"), made)
    hand.run(hand.api.rename_key(sub_key, "store"), OK)
    shown = [repr(key), repr(made), *map(repr, hand.calls), *map(repr, hand.steps)]
    assert not [text for text in shown if sub_key in text]


def test_no_object_shows_the_signature_of_an_address(hand: Hand) -> None:
    url = f"{STORAGE}?X-Amz-Signature=s3cret"
    hand.run(hand.api.download(url, MemorySink()), hand.image(document=None))
    assert not [text for text in map(repr, (*hand.calls, *hand.steps)) if "s3cret" in text]


@pytest.mark.parametrize("status", [200, 401, 422, 429, 500])
@pytest.mark.parametrize("said", [f"{KEY} is wrong", f"Basic {BASIC}", f"Bearer {KEY}", "no"])
def test_no_error_tells_the_key_whatever_the_api_says(status: int, said: str) -> None:
    hand = Hand(retries=0)
    answer = reply(status, {"success": False, "code": 422, "message": said})
    for flow in (hand.api.account(), hand.api.upload(b"image", None)):
        hand.now += 100
        with pytest.raises(ApiError) as caught:
            hand.run(flow, answer)
        assert KEY not in all_text(caught.value)
        assert BASIC not in all_text(caught.value)


@pytest.mark.parametrize("key", ["", "a\nb", "clé", f"{KEY} ", 5])
def test_a_key_that_can_not_be_sent_is_refused_and_not_told(key: Any) -> None:
    with pytest.raises(OptionError, match="api_key takes") as caught:
        Config(api_key=key)
    assert KEY not in all_text(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"auth": "digest"},
        {"timeout": 0},
        {"timeout": -1.0},
        {"timeout": float("nan")},
        {"timeout": None},
        {"retries": -1},
        {"max_wait": -0.1},
        {"max_wait": float("nan")},
        {"max_bytes": 0},
        {"concurrency": 0},
        {"concurrency": "many"},
        {"api_url": "http://api.example.com"},
        {"api_url": f"https://{KEY}@api.example.com"},
        {"api_url": "https://api.example.com/1.0?version=1"},
        {"api_url": "https://api.example.com/1.0#top"},
    ],
)
def test_a_config_that_can_not_work_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        Config(**config)
    assert KEY not in all_text(caught.value)


async def test_many_images_need_a_lane_at_least() -> None:
    with OptidashClient(KEY, URL) as client, pytest.raises(OptionError, match="concurrency"):
        list(client.optimize_many([b"image"], concurrency=-1))
    async with AsyncOptidashClient(KEY, URL) as client:
        with pytest.raises(OptionError, match="concurrency"):
            await anext(client.optimize_many([b"image"], concurrency=-1))
