"""A request says where its result goes, in the words of the contract; else a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from optidash_integrations.errors import OptionError
from optidash_integrations.external_storage import (
    AlibabaStore,
    AwsStore,
    AzureStore,
    CloudflareStore,
    DigitalOceanStore,
    GoogleStore,
    IbmStore,
    RackspaceStore,
)
from optidash_integrations.server.connectors import Connectors
from optidash_integrations.server.keys import Key
from optidash_integrations.server.stores.store import (
    Stores,
)
from optidash_integrations.server.stores.targets import Target
from tests.cache.servers import BUCKET
from tests.server.fixtures_stores import (
    ACCOUNT_KEY,
)

SHOP = Key(id="1" * 16, name="shop")
CUSTOMER = Key(id="2" * 16, name="customer", parent=SHOP.id, parent_name="shop")
OTHER = Key(id="3" * 16, name="other")

PAIR = {"key": "AKIATEST", "secret": "s3cr3t"}
AWS = {"provider": "aws", **PAIR, "bucket": BUCKET, "region": "us-east-1"}


def read(document: object, key: Key = SHOP, **connectors: Mapping[str, object]) -> Target:
    return Stores(Connectors(connectors), allowed=["localhost"]).checked(document, key)


R2 = {"provider": "cloudflare", **PAIR, "endpoint": "https://abc.r2.cloudflarestorage.com"}


@pytest.mark.parametrize(
    ("document", "endpoint", "url"),
    [
        (
            AwsStore(**PAIR, bucket="b-1", region="eu-west-1", acl="private").to_dict(),
            "https://s3.eu-west-1.amazonaws.com",
            "https://b-1.s3.eu-west-1.amazonaws.com/a%20b/%C3%A9.jpg",
        ),
        (
            AwsStore(**PAIR, bucket="b.one", region="eu-west-1").to_dict(),
            "https://s3.eu-west-1.amazonaws.com",
            "https://s3.eu-west-1.amazonaws.com/b.one/a%20b/%C3%A9.jpg",
        ),
        (
            GoogleStore(**PAIR, bucket="b-1").to_dict(),
            "https://storage.googleapis.com",
            "https://storage.googleapis.com/b-1/a%20b/%C3%A9.jpg",
        ),
        (
            DigitalOceanStore(**PAIR, bucket="b-1", region="ams3").to_dict(),
            "https://ams3.digitaloceanspaces.com",
            "https://b-1.ams3.digitaloceanspaces.com/a%20b/%C3%A9.jpg",
        ),
        (
            AlibabaStore(**PAIR, bucket="b-1", region="cn-hangzhou").to_dict(),
            "https://s3.oss-cn-hangzhou.aliyuncs.com",
            "https://b-1.oss-cn-hangzhou.aliyuncs.com/a%20b/%C3%A9.jpg",
        ),
        (
            IbmStore(more={**PAIR, "bucket": "b-1", "region": "eu-de"}).to_dict(),
            "https://s3.eu-de.cloud-object-storage.appdomain.cloud",
            "https://s3.eu-de.cloud-object-storage.appdomain.cloud/b-1/a%20b/%C3%A9.jpg",
        ),
        (
            AzureStore(account="acc", key=ACCOUNT_KEY, container="b-1").to_dict(),
            "https://acc.blob.core.windows.net",
            "https://acc.blob.core.windows.net/b-1/a%20b/%C3%A9.jpg",
        ),
        (
            RackspaceStore(
                more={"user": "u", "key": "k", "container": "b-1", "region": "ord"}
            ).to_dict(),
            "https://identity.api.rackspacecloud.com",
            "https://identity.api.rackspacecloud.com/b-1/a%20b/%C3%A9.jpg",
        ),
    ],
    ids=lambda value: value["provider"] if isinstance(value, dict) else "",
)
def test_what_the_client_sends_leads_to_each_provider(
    document: dict[str, Any], endpoint: str, url: str
) -> None:
    target = read({**document, "path": "a b/é.jpg"})

    assert target.endpoint == endpoint
    assert target.url_of(target.key_for("x.jpg")) == url
    assert not target.is_foreign


def test_cloudflare_needs_the_address_of_the_account() -> None:
    document = CloudflareStore(id="r2", bucket="b-1").to_dict()
    connector = {**R2, "public_url": "https://img.example.org/"}

    target = read(document, r2=connector)

    assert target.endpoint == "https://abc.r2.cloudflarestorage.com"
    assert target.url_of("cat.jpg") == "https://img.example.org/cat.jpg"
    with pytest.raises(OptionError, match=r"^store\.endpoint takes an http or https address"):
        read({"provider": "cloudflare", **PAIR, "bucket": "b-1"})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"provider": None}, "store.provider takes one of aws, google, cloudflare, "),
        ({"provider": "dropbox"}, 'digitalocean, alibaba, ibm, s3, azure, rackspace, not "drop'),
        ({"provider": ["aws"]}, "store.provider takes one of aws"),
        ({"key": None}, "store.key takes text on one line, unless there is an id, not None"),
        ({"secret": ""}, "store.secret takes text on one line, not the value given"),
        ({"secret": 5}, "store.secret takes text on one line, not the value given"),
        ({"bucket": None}, "store.bucket takes the name of a bucket, not None"),
        ({"bucket": "a/../b"}, 'store.bucket takes the name of a bucket, not "a/../b"'),
        ({"region": None}, "store.region takes the name of a region, not None"),
        ({"region": "x.evil.example/"}, "store.region takes the name of a region, not"),
        ({"region": "a@b"}, "store.region takes the name of a region, not"),
        ({"acl": "everybody"}, "store.acl takes one of public-read, private, "),
        ({"class": "cheap"}, "store.class takes one of standard, reduced-redundancy, "),
        ({"path": "/a.jpg"}, "store.path takes a path without a slash in front"),
        ({"path": "a/../../b.jpg"}, "store.path takes a path without a slash in front"),
        ({"path": "a//b.jpg"}, "store.path takes a path"),
        ({"path": "é" * 600}, "store.path takes a path"),
        ({"path": "\ud800"}, "store.path takes a path"),
        ({"metadata": {"a": 1}}, "store.metadata.a takes text on one line, not 1"),
        ({"metadata": {"a b": "1"}}, "store.metadata takes names of letters"),
        ({"metadata": {"a": "é"}}, "store.metadata.a takes text in ASCII"),
        ({"headers": {"Location": "x"}}, "store.headers takes only Cache-Control, "),
        ({"headers": {"Content-Type": "a\nb"}}, "store.headers.Content-Type takes text on one"),
        ({"headers": {"Content-Type": "é"}}, "store.headers.Content-Type takes text in ASCII"),
        ({"buckets": "b"}, "store takes only acl, bucket, class, headers, id, key, metadata, "),
        ({"endpoint": "http://127.0.0.1"}, "store takes only acl, bucket"),
        ({"id": "none"}, "store.id takes the id of a connector that this key may use, not"),
        ({"id": 3}, "store.id takes the id of a connector that this key may use, not 3"),
    ],
)
def test_a_wrong_document_is_refused_with_a_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        read({**AWS, **change})

    assert sentence in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("document", [None, [], "aws", {5: "aws"}])
def test_a_store_is_an_object(document: object) -> None:
    with pytest.raises(OptionError, match=r"^store takes an object"):
        read(document)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:9000",
        "http://10.1.2.3",
        "http://[::1]:9000",
        "http://[64:ff9b::7f00:1]",
        "http://169.254.169.254",
        "http://no-such-host.invalid",
    ],
)
def test_a_request_names_no_store_on_this_network(endpoint: str) -> None:
    with pytest.raises(OptionError, match=r"^store\.endpoint takes an address on the public"):
        read({"provider": "s3", **PAIR, "bucket": "b-1", "endpoint": endpoint})


def test_secrets_show_in_no_representation() -> None:
    connectors = Connectors({"photos": AWS})

    assert "s3cr3t" not in f"{read(AWS)!r}{connectors.all!r}"


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"bucket": "other"}, "store.bucket takes the connector's, or nothing"),
        ({"region": "eu-west-1"}, "store.region takes the connector's, or nothing"),
        ({"key": "AKIA"}, "store.key takes nothing where there is an id"),
        ({"provider": "google"}, "store.provider takes the connector's, or nothing"),
        ({"endpoint": "http://127.0.0.1"}, "store takes only"),
    ],
)
def test_a_request_does_not_change_what_its_connector_says(
    document: dict[str, str], sentence: str
) -> None:
    with pytest.raises(OptionError) as caught:
        read({"id": "photos", **document}, photos=AWS)

    assert sentence in str(caught.value)


def test_a_connector_is_for_the_keys_that_it_names() -> None:
    connector = {**AWS, "keys": ["shop"]}

    assert read({"id": "photos"}, SHOP, photos=connector).bucket == BUCKET
    assert read({"id": "photos"}, CUSTOMER, photos=connector).bucket == BUCKET
    with pytest.raises(OptionError, match=r"^store\.id takes the id of a connector that this key"):
        read({"id": "photos"}, OTHER, photos=connector)
