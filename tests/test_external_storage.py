from __future__ import annotations

import copy
import json
import pickle
import traceback
from dataclasses import FrozenInstanceError

import pytest

from optidash_integrations.errors import OptionError
from optidash_integrations.external_storage import (
    HEADERS,
    AlibabaStore,
    AwsStore,
    AzureStore,
    CloudflareStore,
    DigitalOceanStore,
    ExternalStore,
    GoogleStore,
    IbmStore,
    RackspaceStore,
)

PAIR = {"key": "AKIA-open", "secret": "s3same"}
BUCKET = {**PAIR, "bucket": "photos"}
REGIONAL = {**BUCKET, "region": "eu-west-1"}
AZURE = {"account": "pictures", "key": "s3same", "container": "photos"}

LEAST = [
    (AwsStore, REGIONAL, "aws"),
    (GoogleStore, BUCKET, "google"),
    (AzureStore, AZURE, "azure"),
    (CloudflareStore, BUCKET, "cloudflare"),
    (DigitalOceanStore, REGIONAL, "digitalocean"),
    (AlibabaStore, REGIONAL, "alibaba"),
    (RackspaceStore, {}, "rackspace"),
    (IbmStore, {}, "ibm"),
]

each_store = pytest.mark.parametrize(("kind", "given", "provider"), LEAST)


@each_store
def test_the_least_that_a_store_needs_is_all_that_is_sent(
    kind: type[ExternalStore], given: dict[str, str], provider: str
) -> None:
    assert kind(**given).to_dict() == {"provider": provider, **given}


@each_store
def test_each_parameter_that_is_needed_is_missed_by_its_name(
    kind: type[ExternalStore], given: dict[str, str], provider: str
) -> None:
    for name in given:
        rest = {other: value for other, value in given.items() if other != name}
        with pytest.raises(OptionError, match="not None") as caught:
            kind(**rest)
        assert caught.value.name == f"store.{name}"


@each_store
def test_an_id_stands_for_provider_and_credentials_but_not_for_the_place(
    kind: type[ExternalStore], given: dict[str, str], provider: str
) -> None:
    place = {n: v for n, v in given.items() if n in ("bucket", "region", "container")}
    assert kind(id="connector-1", **place).to_dict() == {"id": "connector-1", **place}
    for name in place:
        rest = {other: value for other, value in place.items() if other != name}
        with pytest.raises(OptionError, match=rf"^store\.{name} takes"):
            kind(id="connector-1", **rest)


@pytest.mark.parametrize("name", ["key", "secret"])
def test_a_secret_beside_an_id_is_refused_and_not_sent_for_nothing(name: str) -> None:
    with pytest.raises(OptionError, match=f"store.{name} takes nothing where there is an id"):
        GoogleStore(id="connector-1", bucket="photos", **{name: "s3same"})


def test_everything_given_is_sent_under_the_names_of_the_api() -> None:
    store = AwsStore(
        **REGIONAL,
        path="thumbs/harbour.jpg",
        acl="bucket-owner-full-control",
        storage_class="standard-ia",
        metadata={"owner": "anna", "note": ""},
        headers={"cache-control": "max-age=60", "CONTENT-TYPE": "image/webp"},
        more={"endpoint": "minio.example.org", "retries": 3, "deep": {"a": [None]}},
    )
    assert store.to_dict() == {
        "provider": "aws",
        **REGIONAL,
        "path": "thumbs/harbour.jpg",
        "acl": "bucket-owner-full-control",
        "class": "standard-ia",
        "metadata": {"owner": "anna", "note": ""},
        "headers": {"Cache-Control": "max-age=60", "Content-Type": "image/webp"},
        "endpoint": "minio.example.org",
        "retries": 3,
        "deep": {"a": [None]},
    }
    assert json.loads(json.dumps(store.to_dict())) == store.to_dict()


def test_all_five_headers_are_taken_in_any_case() -> None:
    for spelled in (str.lower, str.upper, str.title):
        headers = {spelled(name): "x" for name in HEADERS}
        store = CloudflareStore(**BUCKET, headers=headers)
        assert store.to_dict()["headers"] == dict.fromkeys(HEADERS, "x")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"region": ""}, 'store.region takes text on one line, not ""'),
        ({"region": 7}, "store.region takes text on one line, not 7"),
        ({"bucket": "a\nb"}, "store.bucket takes text on one line"),
        ({"path": "/a.jpg"}, 'store.path takes a path without a slash in front, not "/a.jpg"'),
        ({"path": 3}, "store.path takes a path without a slash in front, not 3"),
        ({"acl": True}, "store.acl takes text on one line, not True"),
        ({"storage_class": "frozen"}, "store.storage_class takes one of standard, reduced-"),
        ({"metadata": ["a"]}, "store.metadata takes an object of texts, not ['a']"),
        ({"metadata": {1: "a"}}, "store.metadata takes an object of texts, not {1: 'a'}"),
        ({"metadata": {"a": 1}}, "store.metadata.a takes text on one line, not 1"),
        ({"headers": {"ETag": "a"}}, "store.headers takes only Cache-Control, Content-Disposition"),
        ({"headers": {"Content-Type": None}}, "store.headers.Content-Type takes text on one line"),
        ({"headers": {"Content-Type": "a\r\nSet-Cookie: b"}}, "store.headers.Content-Type takes"),
        (
            {"headers": {"Content-Type": "a", "content-type": "b"}},
            'store.headers takes Content-Type once, not "content-type"',
        ),
        ({"more": {"class": "x"}}, "store.more takes parameters that have no field of their own"),
        ({"more": {"provider": "x"}}, 'not "provider"'),
        ({"more": {3: "x"}}, "store.more takes an object of parameters, not the value given"),
        ({"id": ""}, 'store.id takes text on one line, not ""'),
    ],
)
def test_a_wrong_value_is_one_sentence_with_its_name(
    more: dict[str, object], sentence: str
) -> None:
    with pytest.raises(OptionError) as caught:
        AwsStore(**{**REGIONAL, **more})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_cloudflare_has_a_closed_list_of_acls() -> None:
    assert CloudflareStore(**BUCKET, acl="private").to_dict()["acl"] == "private"
    with pytest.raises(OptionError, match=r"store\.acl takes one of public-read, private"):
        CloudflareStore(**BUCKET, acl="authenticated-read")
    assert GoogleStore(**BUCKET, acl="authenticated-read").acl == "authenticated-read"


@pytest.mark.parametrize("store", [AwsStore(**REGIONAL, more={"token": "s3same"})])
def test_no_secret_shows_in_a_repr(store: ExternalStore) -> None:
    for shown in (repr(store), str(store), f"{[store]}"):
        assert "photos" in shown
        assert "s3same" not in shown
        assert "AKIA" not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": "s3same\n"},
        {"key": "s3same\n"},
        {"secret": ["s3same"]},
        {"secret": b"s3same"},
        {"more": ["s3same"]},
        {"id": "connector-1", "secret": "s3same", "key": None},
    ],
)
def test_no_secret_shows_in_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=r"not the value given$") as caught:
        AwsStore(**{**REGIONAL, **wrong})
    error = caught.value
    assert "s3same" not in repr(error.args)
    assert "s3same" not in repr(error.got)
    assert "s3same" not in repr(error.__context__)
    assert "s3same" not in "".join(traceback.format_exception_only(error))


def test_a_store_can_not_be_changed_neither_by_what_it_was_made_of() -> None:
    metadata = {"owner": "anna"}
    store = AwsStore(**REGIONAL, metadata=metadata)
    metadata["owner"] = "bert"
    store.to_dict()["metadata"].clear()  # type: ignore[attr-defined]
    assert store.to_dict()["metadata"] == {"owner": "anna"}
    with pytest.raises(FrozenInstanceError):
        store.region = "eu-west-2"  # type: ignore[misc]


def test_a_store_survives_being_copied_and_sent_to_another_process() -> None:
    store = AzureStore(**AZURE, headers={"content-type": "image/png"}, more={"tier": "cool"})
    assert copy.deepcopy(store) == store == pickle.loads(pickle.dumps(store))
