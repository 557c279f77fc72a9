"""External storage and webhooks through a running server, asked by the package's own client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from optidash_integrations import OptidashClient
from optidash_integrations.errors import InvalidOperationsError
from optidash_integrations.server.connectors import Connectors
from optidash_integrations.server.database import Database
from optidash_integrations.server.signatures import is_signed, webhook_secret
from optidash_integrations.server.stores.store import Stores
from optidash_integrations.server.webhooks import Webhooks
from tests.cache.servers import BUCKET
from tests.server.fixtures_stores import S3, s3, s3_address
from tests.server.live import Live, configured, running
from tests.server.receivers import Receiver, receiver
from tests.sites.photos import photo

__all__ = ["receiver", "s3", "s3_address"]

SMALL = {"resize": {"width": 40}}
HERE = ["127.0.0.1"]
PAIR = {"key": "AKIATEST", "secret": "s3cr3t"}


@contextmanager
def served(folder: Path, connectors: Mapping[str, object] | None = None) -> Iterator[Live]:
    configuration = configured(folder)
    database = Database(configuration.database)
    with running(
        configuration,
        storing=Stores(Connectors(connectors), allowed=HERE),
        jobs=Webhooks(database, folder / "jobs", allowed=HERE),
        database=database,
    ) as live:
        yield live


@contextmanager
def asking(live: Live) -> Iterator[OptidashClient]:
    with OptidashClient(live.secret, api_url=live.url) as client:
        yield client


def width(content: bytes) -> int:
    with Image.open(BytesIO(content)) as image:
        return image.width


def test_a_result_lies_where_its_connector_leads(tmp_path: Path, s3: S3) -> None:
    photos = {"provider": "aws", **PAIR, "bucket": BUCKET, "region": "us-east-1"}
    connectors = {"photos": {**photos, "endpoint": s3.endpoint}}
    with served(tmp_path, connectors) as live, asking(live) as client:
        done = client.upload(photo(), SMALL, store={"id": "photos", "path": "served/cat.jpg"})

    found = s3.get(BUCKET, "served/cat.jpg")
    assert done.raw["output"]["url"] == f"{s3.endpoint}/{BUCKET}/served/cat.jpg"
    assert (width(found["content"]), found["ContentType"]) == (40, "image/jpeg")
    assert live.results() == 0


def test_a_request_may_bring_its_own_credentials(tmp_path: Path, s3: S3) -> None:
    store = {"provider": "s3", **PAIR, "bucket": BUCKET, "endpoint": s3.endpoint}
    with served(tmp_path) as live, asking(live) as client:
        client.upload(photo(), SMALL, store={**store, "path": "served/own.jpg"})

    assert width(s3.get(BUCKET, "served/own.jpg")["content"]) == 40


def test_what_a_store_refuses_is_told(tmp_path: Path, s3: S3) -> None:
    store = {"provider": "s3", **PAIR, "bucket": "not-there", "endpoint": s3.endpoint}
    with served(tmp_path) as live, asking(live) as client:
        with pytest.raises(InvalidOperationsError) as caught:
            client.upload(photo(), SMALL, store=store)
        with pytest.raises(InvalidOperationsError) as other:
            client.upload(photo(), SMALL, store={**store, "region": "a/b"})

    assert "The store refused the result: NoSuchBucket" in str(caught.value)
    assert "store.region takes the name of a region" in str(other.value)


def test_a_result_is_delivered_to_a_webhook(tmp_path: Path, receiver: Receiver) -> None:
    with served(tmp_path) as live, asking(live) as client:
        accepted = client.upload(photo(), SMALL, webhook={"url": receiver.url})
        assert receiver.got.acquire(timeout=30)
        [delivery] = receiver.deliveries
        document = delivery.document
        content = live.ask("GET", document["output"]["url"].partition(str(live.port))[2]).body

    assert document["id"] == accepted.id
    assert (document["success"], document["code"]) == (True, 200)
    assert width(content) == 40
    assert is_signed(delivery.headers, delivery.body, webhook_secret(live.secret))


def test_a_failure_is_delivered_to_a_webhook(tmp_path: Path, receiver: Receiver) -> None:
    with served(tmp_path) as live, asking(live) as client:
        accepted = client.upload(b"no image", SMALL, webhook={"url": receiver.url})
        assert receiver.got.acquire(timeout=30)

    document = receiver.deliveries[0].document
    assert (document["id"], document["success"]) == (accepted.id, False)
    assert document["code"] == 415
    assert document["message"]


def test_the_client_reads_what_became_of_webhooks(tmp_path: Path) -> None:
    hook = {"url": "https://example.org/hook", "delay": 604_800}
    with served(tmp_path) as live, asking(live) as client:
        accepted = client.upload(photo(), SMALL, webhook=hook)
        [listed] = client.webhooks(status=["created", "scheduled"], limit=10)
        one = client.webhook(accepted.id)
        assert client.webhooks(status="failed") == []

    assert listed.id == one.id == accepted.id
    assert listed.status == "created"
    assert listed.created_at is not None


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"webhook": {"url": "http://10.0.0.1/"}}, "webhook.url takes an address on the public"),
        (
            {"webhook": {"url": "https://example.org"}, "store": {"id": "none"}},
            "store.id takes the id of a connector",
        ),
    ],
)
def test_what_is_wrong_is_told_at_once(
    tmp_path: Path, more: dict[str, dict[str, str]], sentence: str
) -> None:
    with served(tmp_path) as live, asking(live) as client:
        with pytest.raises(InvalidOperationsError) as caught:
            client.upload(photo(), SMALL, **more)
        assert client.webhooks() == []

    assert sentence in str(caught.value)
