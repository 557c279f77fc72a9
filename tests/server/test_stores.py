"""Results reach stores of the callers' own, over real sockets, and nothing else is spoken to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from optidash_integrations.server.connectors import Connectors
from optidash_integrations.server.keys import Key
from optidash_integrations.server.stores.store import (
    StoreRefusedError,
    Stores,
    StoreUnavailableError,
)
from tests.cache.servers import BUCKET, Bucket, bucket, free_port
from tests.server.fixtures_stores import (
    ACCOUNT,
    ACCOUNT_KEY,
    S3,
    Azurite,
    Swift,
    azurite,
    azurite_address,
    s3,
    s3_address,
    swift,
)

__all__ = ["azurite", "azurite_address", "bucket", "s3", "s3_address", "swift"]

SHOP = Key(id="1" * 16, name="shop")

PAIR = {"key": "AKIATEST", "secret": "s3cr3t"}
AWS = {"provider": "aws", **PAIR, "bucket": BUCKET, "region": "us-east-1"}
BODY = b"\xff\xd8 not really an image"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "result"
    file.write_bytes(BODY)
    return file


@pytest.fixture
def stores() -> Iterator[Stores]:
    found = Stores()
    yield found
    found.close()


class Opened:
    """Stores with connectors, and what one asks of them."""

    def __init__(self, picture: Path, **connectors: Mapping[str, object]) -> None:
        self.stores = Stores(Connectors(connectors))
        self.picture = picture

    def put(self, document: Mapping[str, object], key: Key = SHOP, name: str = "cat.jpg") -> str:
        try:
            place = self.stores.checked(document, key)
            return self.stores.put(place, self.picture, name, "image/jpeg")
        finally:
            self.stores.close()


def test_an_address_that_changes_after_the_check_is_not_connected_to(
    bucket: Bucket, picture: Path
) -> None:
    endpoint = f"http://127.0.0.1:{bucket.server_port}"
    document = {"provider": "s3", **PAIR, "bucket": "b-1", "endpoint": endpoint}
    trusting = Stores(allowed=["127.0.0.1"])
    place = trusting.checked(document, SHOP)

    assert trusting.put(place, picture, "a.jpg", "image/jpeg").startswith(f"{endpoint}/b-1/")
    seen = list(bucket.requests)
    with pytest.raises(StoreUnavailableError):
        Stores().put(place, picture, "a.jpg", "image/jpeg")

    assert len(seen) == 1
    assert bucket.requests == seen


def test_a_connector_lends_its_credentials(s3: S3, picture: Path) -> None:
    opened = Opened(picture, photos={**AWS, "endpoint": s3.endpoint})

    url = opened.put({"id": "photos", "path": "connector/cat.jpg"})

    assert url == f"{s3.endpoint}/{BUCKET}/connector/cat.jpg"
    assert s3.get(BUCKET, "connector/cat.jpg")["content"] == BODY


def test_s3_gets_all_that_the_contract_names(s3: S3, picture: Path) -> None:
    opened = Opened(picture, photos={**AWS, "endpoint": s3.endpoint})

    opened.put(
        {
            "id": "photos",
            "path": "all/cat é.jpg",
            "acl": "private",
            "class": "standard-ia",
            "metadata": {"album": "summer"},
            "headers": {"cache-control": "max-age=60", "Content-Disposition": "inline"},
        }
    )

    found = s3.get(BUCKET, "all/cat é.jpg")
    assert found["content"] == BODY
    assert found["ContentType"] == "image/jpeg"
    assert found["CacheControl"] == "max-age=60"
    assert found["ContentDisposition"] == "inline"
    assert found["Metadata"] == {"album": "summer"}
    assert found["StorageClass"] == "STANDARD_IA"
    assert not s3.is_public(BUCKET, "all/cat é.jpg")


def test_an_object_is_public_where_nothing_else_is_said(s3: S3, picture: Path) -> None:
    opened = Opened(picture, photos={**AWS, "endpoint": s3.endpoint})

    opened.put({"id": "photos", "path": "public.jpg"})

    assert s3.is_public(BUCKET, "public.jpg")


@pytest.mark.parametrize("provider", ["google", "cloudflare", "digitalocean", "ibm", "s3"])
def test_the_others_speak_s3_too(provider: str, s3: S3, picture: Path) -> None:
    connector = {"provider": provider, **PAIR, "bucket": BUCKET, "region": "us-east-1"}
    opened = Opened(picture, mine={**connector, "endpoint": s3.endpoint})

    opened.put({"id": "mine", "path": f"{provider}/cat.jpg", "acl": "private"})

    assert s3.get(BUCKET, f"{provider}/cat.jpg")["content"] == BODY


def test_a_result_without_a_path_replaces_nothing(s3: S3, picture: Path) -> None:
    connector = {**AWS, "endpoint": s3.endpoint}

    urls = {Opened(picture, photos=connector).put({"id": "photos"}, name="dog.jpg") for _ in "12"}

    assert len(urls) == 2
    assert all(url.endswith("-dog.jpg") for url in urls)
    assert {url.rpartition("/")[2] for url in urls} <= set(s3.keys(BUCKET))


def test_a_path_that_ends_in_a_slash_is_a_folder(s3: S3, picture: Path) -> None:
    opened = Opened(picture, photos={**AWS, "endpoint": s3.endpoint})

    url = opened.put({"id": "photos", "path": "folder/"}, name="dog.jpg")

    assert url.endswith("/folder/dog.jpg")


def test_a_refusal_is_told_by_its_code_alone(s3: S3, picture: Path) -> None:
    connector = {**AWS, "bucket": "no-such-bucket", "endpoint": s3.endpoint}

    with pytest.raises(StoreRefusedError) as caught:
        Opened(picture, photos=connector).put({"id": "photos", "path": "a.jpg"})

    assert str(caught.value) == "The store refused the result: NoSuchBucket"
    assert caught.value.public_status == 422


def test_a_store_that_is_not_there_is_no_fault_of_the_request(picture: Path) -> None:
    connector = {**AWS, "endpoint": f"http://127.0.0.1:{free_port()}"}

    with pytest.raises(StoreUnavailableError) as caught:
        Opened(picture, photos=connector).put({"id": "photos", "path": "a.jpg"})

    assert caught.value.public_status == 502


def test_a_bucket_that_knows_no_acls_gets_the_result_without_one(
    acl_less: Bucket, picture: Path
) -> None:
    connector = {**AWS, "endpoint": f"http://127.0.0.1:{acl_less.server_port}"}

    Opened(picture, photos=connector).put({"id": "photos", "path": "a.jpg"})

    assert acl_less.objects == {f"/{BUCKET}/a.jpg": BODY}
    with pytest.raises(StoreRefusedError, match="AccessControlListNotSupported"):
        Opened(picture, photos=connector).put(
            {"id": "photos", "path": "b.jpg", "acl": "public-read"}
        )


@pytest.fixture
def acl_less(bucket: Bucket) -> Bucket:
    """Give a bucket that answers as Amazon's newer ones do to an ACL."""
    handler = bucket.RequestHandlerClass

    class Handler(handler):
        def status(self) -> int:
            return 400 if self.headers["x-amz-acl"] else super().status()

        def answer(self, status: int, body: bytes = b"") -> None:
            error = b"<Error><Code>AccessControlListNotSupported</Code></Error>"
            super().answer(status, error if status == 400 else body)

    bucket.RequestHandlerClass = Handler
    return bucket


# Azure and Rackspace


def test_azure_gets_headers_and_metadata(azurite: Azurite, picture: Path) -> None:
    connector = {
        "provider": "azure",
        "account": ACCOUNT,
        "key": ACCOUNT_KEY,
        "container": azurite.container,
        "endpoint": azurite.address,
    }

    url = Opened(picture, mine=connector).put(
        {
            "id": "mine",
            "path": "a b/cat.jpg",
            "metadata": {"album": "summer"},
            "headers": {"Cache-Control": "max-age=60", "Content-Language": "en"},
        }
    )

    content, attributes = azurite.get("a b/cat.jpg")
    assert content == BODY
    assert attributes["Content-Type"] == "image/jpeg"
    assert attributes["Cache-Control"] == "max-age=60"
    assert attributes["Content-Language"] == "en"
    assert attributes["album"] == "summer"
    assert url == f"{azurite.address}/{azurite.container}/a%20b/cat.jpg"


@pytest.mark.parametrize("change", [{"container": "no-such"}, {"key": "d3Jvbmc="}])
def test_a_refusal_of_azure_is_the_callers(
    azurite: Azurite, picture: Path, change: dict[str, str]
) -> None:
    connector = {
        "provider": "azure",
        "account": ACCOUNT,
        "key": ACCOUNT_KEY,
        "container": azurite.container,
        "endpoint": azurite.address,
    }

    with pytest.raises(StoreRefusedError, match=r"^The store refused the result: [A-Za-z]+$"):
        Opened(picture, mine={**connector, **change}).put({"id": "mine", "path": "a.jpg"})


def test_azure_is_sent_to_its_address(bucket: Bucket, picture: Path) -> None:
    endpoint = f"http://127.0.0.1:{bucket.server_port}/acc"
    store = {"provider": "azure", "account": "acc", "key": ACCOUNT_KEY, "container": "photos"}
    opened = Opened(picture, mine={**store, "endpoint": endpoint})

    assert opened.put({"id": "mine", "path": "a.jpg"}) == f"{endpoint}/photos/a.jpg"
    assert bucket.objects == {"/acc/photos/a.jpg": BODY}
    bucket.status = 403
    with pytest.raises(StoreRefusedError):
        opened.put({"id": "mine", "path": "a.jpg"})
    bucket.status = 501
    with pytest.raises(StoreUnavailableError):
        opened.put({"id": "mine", "path": "a.jpg"})


def test_an_azure_key_that_is_not_base64_is_the_callers_fault(picture: Path) -> None:
    document = {"provider": "azure", "account": "acc", "key": "not base64!", "container": "photos"}

    with pytest.raises(StoreRefusedError) as caught:
        Opened(picture).put(document)

    assert "not base64!" not in str(caught.value)


CLOUD_FILES = {
    "provider": "rackspace",
    "user": "team",
    "key": "s3cr3t",
    "container": "photos",
    "region": "ord",
}


def test_rackspace_gets_headers_and_metadata(swift: Swift, picture: Path) -> None:
    connector = {**CLOUD_FILES, "endpoint": swift.url}

    url = Opened(picture, mine=connector).put(
        {
            "id": "mine",
            "path": "a b/cat.jpg",
            "metadata": {"Album": "summer"},
            "headers": {"Content-Disposition": "inline", "Content-Type": "image/pjpeg"},
        }
    )

    body, headers = swift.objects["/v1/acc/photos/a%20b/cat.jpg"]
    assert body == BODY
    assert headers["content-type"] == "image/pjpeg"
    assert headers["content-disposition"] == "inline"
    assert headers["x-object-meta-album"] == "summer"
    assert url == f"{swift.url}/v1/acc/photos/a%20b/cat.jpg"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"key": "wrong"}, "result: InvalidCredentials$"),
        ({"container": "none"}, "result: NoSuchContainer$"),
    ],
)
def test_a_refusal_of_rackspace_is_the_callers(
    swift: Swift, picture: Path, change: dict[str, str], code: str
) -> None:
    connector = {**CLOUD_FILES, "endpoint": swift.url, **change}

    with pytest.raises(StoreRefusedError, match=code):
        Opened(picture, mine=connector).put({"id": "mine"})

    assert swift.objects == {}


def test_a_failure_of_rackspace_is_not(swift: Swift, picture: Path) -> None:
    swift.status = 503

    with pytest.raises(StoreUnavailableError):
        Opened(picture, mine={**CLOUD_FILES, "endpoint": swift.url}).put({"id": "mine"})
