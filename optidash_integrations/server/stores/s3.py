"""Stores that speak S3, through boto3: it sends canned ACLs, which the cache's library does not."""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from optidash_integrations.server.stores.guarded import guard
from optidash_integrations.server.stores.store import Facts, refused, unavailable
from optidash_integrations.server.stores.targets import Target

CONNECT_SECONDS = 5
READ_SECONDS = 30
TRIES = 3

ARGUMENTS = {
    "Cache-Control": "CacheControl",
    "Content-Disposition": "ContentDisposition",
    "Content-Encoding": "ContentEncoding",
    "Content-Language": "ContentLanguage",
    "Content-Type": "ContentType",
}
WITHOUT_ACLS = frozenset({"cloudflare"})
"""These let nobody say who reads an object: that is a matter of the bucket."""

NO_ACLS = "AccessControlListNotSupported"
LOCK = threading.Lock()
SESSIONS: list[Any] = []


class S3Bucket:
    """A bucket that boto3 speaks to."""

    def __init__(self, target: Target, client: Any) -> None:
        self.target = target
        self.client = client

    def put(self, key: str, file: Path, facts: Facts) -> str:
        """Store a file; raises as `Bucket.put` says."""
        arguments: dict[str, Any] = {
            ARGUMENTS[name]: value for name, value in facts.headers.items()
        }
        arguments |= {"Bucket": self.target.bucket, "Key": key, "Metadata": dict(facts.metadata)}
        own_class = self.target.values.get("class")
        if own_class:
            arguments["StorageClass"] = own_class.upper().replace("-", "_")
        acl = self.target.values.get("acl")
        try:
            self.send(file, arguments, acl or self.target.provider.acl, is_default=acl is None)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status >= 500 or status == 429:
                raise unavailable() from error
            raise refused(error.response.get("Error", {}).get("Code")) from error
        except ParamValidationError as error:
            raise refused("InvalidArgument") from error
        except (BotoCoreError, Boto3Error, OSError) as error:
            raise unavailable() from error
        return self.target.url_of(key)

    def send(
        self, file: Path, arguments: dict[str, Any], acl: str | None, *, is_default: bool
    ) -> None:
        """Send a file. A bucket that knows no ACLs gets it without one that nobody asked for."""
        more = {"ACL": acl} if acl and self.target.provider.name not in WITHOUT_ACLS else {}
        with file.open("rb") as body:
            try:
                self.client.put_object(Body=body, **arguments, **more)
            except ClientError as error:
                if not (is_default and error.response.get("Error", {}).get("Code") == NO_ACLS):
                    raise
                body.seek(0)
                self.client.put_object(Body=body, **arguments)

    def close(self) -> None:
        self.client.close()


def open_bucket(target: Target, allowed: Collection[str] | None) -> S3Bucket:
    """Open a bucket. With `allowed`, only public addresses and these hosts are connected to."""
    values = target.values
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": TRIES, "mode": "standard"},
        s3={"addressing_style": target.provider.style},
        signature_version="s3v4",
        request_checksum_calculation="when_required",  # others than Amazon know no trailers
        response_checksum_validation="when_required",
        ignore_configured_endpoint_urls=True,
        **({} if allowed is None else {"proxies": {}}),
    )
    own = values.get("endpoint")
    is_amazon = target.provider.name == "aws" and not own
    with LOCK:  # a session is not for several threads, what it makes is
        client = session().client(
            "s3",
            region_name=values.get("region") or "auto",
            endpoint_url=None if is_amazon else target.endpoint,
            aws_access_key_id=values["key"],
            aws_secret_access_key=values["secret"],
            config=config,
        )
    if allowed is not None:
        guard(client, allowed)
    return S3Bucket(target, client)


def session() -> Any:
    """Return one session for all, since it reads what boto3 knows of S3 from a disk."""
    if not SESSIONS:
        SESSIONS.append(boto3.session.Session())
    return SESSIONS[0]
