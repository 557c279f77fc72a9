"""Results reach their receivers: signed, in time, and again where they were not taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optidash_integrations.errors import OptionError
from optidash_integrations.server.authentication import EVERYBODY
from optidash_integrations.server.database import Database
from optidash_integrations.server.deliveries import WAITS, Wanted, split
from optidash_integrations.server.keys import Key
from optidash_integrations.server.signatures import is_signed, webhook_secret
from tests.cache.servers import free_port
from tests.server.clocks import Clock
from tests.server.fixtures_webhooks import Server, clock, secret_key, server
from tests.server.receivers import Receiver, receiver

__all__ = ["clock", "receiver", "secret_key", "server"]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"url": "https://example.org/hook"}, Wanted("https://example.org/hook")),
        ({"url": "http://u:p@example.org:8080/?a=b", "delay": 1}, None),
        ({"url": "https://example.org", "delay": 604_800}, None),
        ({"url": "https://example.org", "delay": "5"}, Wanted("https://example.org", 5)),
        ({"url": "https://example.org", "delay": 0}, Wanted("https://example.org")),
        ({"url": "http://127.0.0.1/"}, None),
    ],
)
def test_what_a_webhook_asks_for_is_read(
    server: Server, document: dict[str, Any], expected: Wanted | None
) -> None:
    found = server.webhooks.checked(document)

    assert found == (expected or Wanted(document["url"], document.get("delay", 0)))


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({}, "webhook.url takes an http or https address of at most 2048 characters, not None"),
        ({"url": 5}, "webhook.url takes an http or https address"),
        ({"url": "ftp://example.org"}, "webhook.url takes an http or https address"),
        ({"url": "https://"}, "webhook.url takes an http or https address"),
        ({"url": "https://[::1"}, "webhook.url takes an http or https address"),
        ({"url": "https://example.org:99999"}, "webhook.url takes an http or https address"),
        ({"url": "https://example.org/\r\nx"}, "webhook.url takes an http or https address"),
        ({"url": f"https://example.org/{'a' * 2048}"}, "webhook.url takes an http or https"),
        ({"url": "http://10.0.0.1/"}, "webhook.url takes an address on the public internet"),
        ({"url": "http://[::1]/"}, "webhook.url takes an address on the public internet"),
        ({"url": "https://u:s3cr3t@10.0.0.1/"}, "webhook.url takes an address on the public"),
        ({"url": "https://a.org", "delay": 604_801}, "webhook.delay takes an integer from 0 to"),
        ({"url": "https://a.org", "delay": -1}, "webhook.delay takes an integer from 0 to"),
        ({"url": "https://a.org", "delay": True}, "webhook.delay takes an integer from 0 to"),
        ({"url": "https://a.org", "retries": 3}, "webhook takes only delay, url, not"),
    ],
)
def test_a_wrong_webhook_is_refused_with_a_sentence(
    server: Server, document: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(OptionError) as caught:
        server.webhooks.checked(document)

    assert sentence in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


# Delivering


async def test_a_result_is_posted_to_its_receiver(server: Server, receiver: Receiver) -> None:
    url = receiver.url.replace("http://", "http://us%40er:pa%3Ass@") + "?id=1#part"
    await server.accept(url)
    await server.go()

    [delivery] = receiver.deliveries
    assert delivery.document == {"success": True, "code": 200, "id": "a"}
    assert delivery.path == "/hook?id=1"
    assert delivery.headers["content-type"] == "application/json"
    assert delivery.headers["authorization"] == "Basic dXNAZXI6cGE6c3M="
    assert delivery.headers["host"] == f"127.0.0.1:{receiver.server_port}"
    assert server.told()["status"] == "delivered"


async def test_a_receiver_can_tell_who_sent_it(
    server: Server, receiver: Receiver, clock: Clock, secret_key: tuple[Key, str]
) -> None:
    await server.accept(receiver.url)
    await server.go()

    [delivery] = receiver.deliveries
    secret = webhook_secret(secret_key[1])
    assert delivery.headers["webhook-id"] == "a"
    assert is_signed(delivery.headers, delivery.body, secret, clock=clock)
    assert not is_signed(delivery.headers, delivery.body + b" ", secret, clock=clock)
    assert not is_signed(delivery.headers, delivery.body, webhook_secret("other"), clock=clock)
    assert not is_signed(delivery.headers | {"webhook-id": "b"}, delivery.body, secret, clock=clock)
    clock.seconds += 301
    assert not is_signed(delivery.headers, delivery.body, secret, clock=clock)


def test_the_signature_is_the_one_that_the_standard_describes() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

    assert is_signed(headers, b'{"test": 2432232314}', secret, clock=lambda: 1_614_265_330)


@pytest.mark.parametrize(
    "headers",
    [{}, {"webhook-timestamp": "soon"}, {"webhook-timestamp": "1", "webhook-signature": "v1,é"}],
)
def test_what_is_not_signed_is_not_an_error(headers: dict[str, str]) -> None:
    assert not is_signed(headers, b"", webhook_secret("key"), clock=lambda: 1.0)
    assert not is_signed({"webhook-timestamp": "1"}, b"", "whsec_?", clock=lambda: 1.0)


async def test_without_a_key_there_is_no_signature(
    database: Database, tmp_path: Path, clock: Clock, receiver: Receiver
) -> None:
    server = Server(database, tmp_path, clock, EVERYBODY)
    await server.accept(receiver.url)
    await server.go()

    [delivery] = receiver.deliveries
    assert delivery.headers["webhook-id"] == "a"
    assert "webhook-signature" not in delivery.headers


async def test_a_failure_is_delivered_as_well(server: Server, receiver: Receiver) -> None:
    server.document = {"success": False, "code": 422, "message": "no"}
    await server.accept(receiver.url)
    await server.go()

    assert receiver.deliveries[0].document == {**server.document, "id": "a"}
    assert server.told()["status"] == "delivered"


async def test_a_delivery_waits_for_its_delay(
    server: Server, receiver: Receiver, clock: Clock
) -> None:
    await server.accept(receiver.url, delay=60)
    await server.go()
    assert server.told()["status"] == "scheduled"
    clock.seconds += 59
    await server.go()
    assert receiver.deliveries == []
    clock.seconds += 1
    await server.go()

    assert server.told()["status"] == "delivered"


@pytest.mark.parametrize("status", [301, 400, 404, 500, 503])
async def test_what_is_not_taken_is_sent_again_later(
    server: Server, receiver: Receiver, clock: Clock, status: int
) -> None:
    receiver.answers = [status, status]
    await server.accept(receiver.url)
    await server.go()
    for tries, wait in enumerate(WAITS[:2], 1):
        clock.seconds += wait - 0.001
        await server.go()
        assert len(receiver.deliveries) == tries
        clock.seconds += 0.001
        await server.go()

    told = server.told()
    assert len(receiver.deliveries) == 3
    assert (told["status"], told["attempts"], told["response_code"]) == ("delivered", 3, 200)
    assert len({delivery.body for delivery in receiver.deliveries}) == 1


async def test_in_the_end_it_has_failed(server: Server, receiver: Receiver, clock: Clock) -> None:
    receiver.answers = [500] * 20
    await server.accept(receiver.url)
    for _ in range(20):
        await server.go()
        clock.seconds += max(WAITS)

    told = server.told()
    assert len(receiver.deliveries) == len(WAITS) + 1
    assert (told["status"], told["response_code"]) == ("failed", 500)
    assert told["error"] == "the receiver answered 500"


def test_all_tries_are_made_while_the_result_lives() -> None:
    assert sum(WAITS) * 1.1 < 23 * 3600


async def test_a_receiver_that_is_gone_is_left_alone(server: Server, receiver: Receiver) -> None:
    receiver.answers = [410]
    await server.accept(receiver.url)
    await server.go()

    assert server.told()["status"] == "failed"


async def test_a_receiver_may_ask_for_time(
    server: Server, receiver: Receiver, clock: Clock
) -> None:
    receiver.answers, receiver.more = [429], {"Retry-After": "900"}
    await server.accept(receiver.url)
    await server.go()
    clock.seconds += 899
    await server.go()
    assert len(receiver.deliveries) == 1
    clock.seconds += 1
    await server.go()

    assert len(receiver.deliveries) == 2


async def test_a_receiver_that_is_not_there_is_tried_again(
    server: Server, clock: Clock, receiver: Receiver
) -> None:
    await server.accept(f"http://127.0.0.1:{free_port()}/")
    await server.go()

    told = server.told()
    assert (told["status"], told["response_code"]) == ("scheduled", None)
    assert told["error"] == "the receiver did not answer, or not in time"


async def test_a_receiver_that_is_silent_is_given_up(server: Server, receiver: Receiver) -> None:
    receiver.talks.clear()
    server.webhooks.deliverer.seconds = 0.2
    await server.accept(receiver.url)
    await server.go()

    assert (server.told()["status"], server.told()["attempts"]) == ("scheduled", 1)


async def test_no_delivery_leads_into_the_servers_own_network(
    server: Server, receiver: Receiver
) -> None:
    await server.accept(receiver.url.replace("127.0.0.1", "localhost"))
    await server.go()

    told = server.told()
    assert receiver.deliveries == []
    assert told["status"] == "failed"
    assert told["error"] == "the receiver is not on the public internet"


def test_credentials_stand_in_a_header_and_not_in_the_address() -> None:
    url, headers = split("https://user@example.org?x=1")

    assert url == "https://example.org/?x=1"
    assert headers["authorization"] == "Basic dXNlcjo="
