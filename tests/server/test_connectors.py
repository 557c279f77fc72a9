"""Connectors: what a server's file may say, and how it is told what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optidash_integrations.errors import SettingsError
from optidash_integrations.server.connectors import Connectors, read

AWS = {"provider": "aws", "key": "AKIATEST", "secret": "s3cr3t"}


def written(folder: Path, text: str) -> Path:
    file = folder / "connectors.toml"
    file.write_text(text)
    return file


def test_a_file_names_connectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOS_KEY", "AKIAENV")
    (tmp_path / "secret").write_text("s3cr3t\n")
    file = written(
        tmp_path,
        f"""
        [server]
        port = 1
        [connectors.photos]
        provider = "aws"
        key = {{ env = "PHOTOS_KEY" }}
        secret = {{ file = "{tmp_path}/secret" }}
        bucket = "photos"
        endpoint = "http://10.0.0.1:9000/"
        headers = {{ cache-control = "max-age=60" }}
        keys = ["shop"]
        [connectors.r2]
        provider = "cloudflare"
        key = "k"
        secret = "s"
        endpoint = "https://abc.r2.cloudflarestorage.com"
        """,
    )

    found = read(file)

    photos = found.all["photos"]
    assert list(found.all) == ["photos", "r2"]
    assert photos.keys == {"shop"}
    assert photos.values == {
        "key": "AKIAENV",
        "secret": "s3cr3t",
        "bucket": "photos",
        "endpoint": "http://10.0.0.1:9000",
        "headers": {"Cache-Control": "max-age=60"},
    }


def test_a_server_may_have_none(tmp_path: Path) -> None:
    assert read(written(tmp_path, "")).all == Connectors().all == {}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"provider": "dropbox"}, "connectors.photos.provider takes one of aws, google, "),
        ({"provider": None}, "connectors.photos.provider takes one of aws, google, "),
        ({"secret": ""}, "connectors.photos.secret takes text on one line"),
        ({"secret": 12345}, "connectors.photos.secret takes text on one line"),
        ({"bucket": "a/b"}, 'connectors.photos.bucket takes the name of a bucket, not "a/b"'),
        ({"endpoint": "ftp://x"}, "connectors.photos.endpoint takes an address that begins"),
        ({"public_url": "https://a.org?x"}, "connectors.photos.public_url takes an http or"),
        ({"path": "a"}, "connectors.photos takes no path, only acl, bucket, class, "),
        ({"keys": "shop"}, "connectors.photos.keys takes a list of names of keys"),
        ({"key": {"env": "NOT_THERE"}}, "connectors.photos.key can't be looked up: there is no"),
        ({"key": {"file": "/not/there"}}, "connectors.photos.key can't be looked up: [Errno 2]"),
        ({"key": {"vault": "x"}}, "connectors.photos.key takes text on one line"),
    ],
)
def test_what_is_wrong_is_told_without_secrets(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Connectors({"photos": {**AWS, **change}})

    [found] = caught.value.problems
    assert problem in found
    assert "s3cr3t" not in found
    assert "12345" not in found


def test_all_problems_are_told_at_once() -> None:
    values = {"one": {"provider": "azure"}, "two": 5, "three": AWS}

    with pytest.raises(SettingsError) as caught:
        Connectors(values)

    assert caught.value.problems == (
        "connectors.one.account is missing",
        "connectors.one.key is missing",
        "connectors.two takes a table",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("key = s3cr3t", "is not TOML"),
        ("connectors = 5", "connectors takes a table for each connector"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        read(written(tmp_path, text))

    assert "s3cr3t" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read: No such file"):
        read(tmp_path / "none.toml")
