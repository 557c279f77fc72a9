"""The providers of external storage, and the parameters that each takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optidash_integrations.addresses import checked_url, without_secrets
from optidash_integrations.errors import OptionError
from optidash_integrations.external_storage import CLASSES, ObjectPath, Text, Texts
from optidash_integrations.external_storage import Headers as SentHeaders
from optidash_integrations.limits import Limits
from optidash_integrations.values import Choice, Kind, Named

LONGEST_PATH = 1_024
"""How many bytes of UTF-8 the name of an object may have."""

TWO_ACLS = ("public-read", "private")
ACLS = (
    *TWO_ACLS,
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)

# Buckets, regions and accounts become parts of addresses, so nothing else may be in them.
BUCKET = Named("the name of a bucket", re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]"))
REGION = Named("the name of a region", re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?"))
ACCOUNT = Named("the name of an account", re.compile(r"[A-Za-z0-9]{3,32}"))
CONTAINER = Named("the name of a container", re.compile(r"[^/\x00-\x1f\x7f]{1,256}"))
META_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
HEADER_TEXT = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True)
class Endpoint(Kind[str]):
    """The address of a store; it comes out without a slash at its end."""

    def expected(self, limits: Limits) -> str:
        return "an http or https address without user name, query and fragment"

    def read(self, name: str, raw: object, limits: Limits) -> str:
        parts = checked_url(raw, name, allow_http=True)
        if parts.query or parts.fragment:
            raise OptionError(name, self.expected(limits), without_secrets(str(raw)))
        return str(raw).rstrip("/")


@dataclass(frozen=True)
class Place(ObjectPath):
    """The name of an object; with a slash at its end, of a folder that results go to."""

    def expected(self, limits: Limits) -> str:
        return (
            "a path without a slash in front, without empty, . and .. parts, "
            f"of at most {LONGEST_PATH} bytes"
        )

    def parse(self, raw: Any, limits: Limits) -> str:
        path = super().parse(raw, limits)
        parts = path.removesuffix("/").split("/")
        if {"", ".", ".."} & set(parts) or len(path.encode()) > LONGEST_PATH:
            raise ValueError(raw)  # and UnicodeEncodeError is one
        return path


@dataclass(frozen=True)
class Metadata(Texts):
    """What an object is to carry beside its headers: it travels in headers, so in ASCII."""

    def read(self, name: str, raw: object, limits: Limits) -> dict[str, str]:
        texts = super().read(name, raw, limits)
        for word, value in texts.items():
            if not META_NAME.fullmatch(word):
                raise OptionError(name, "names of letters, digits and -_. in ASCII", word)
            check_ascii(f"{name}.{word}", value)
        return texts


@dataclass(frozen=True)
class ObjectHeaders(SentHeaders):
    """The headers that an object is sent with."""

    def read(self, name: str, raw: object, limits: Limits) -> dict[str, str]:
        headers = super().read(name, raw, limits)
        for word, value in headers.items():
            check_ascii(f"{name}.{word}", value)
        return headers


def check_ascii(name: str, value: str) -> None:
    if not HEADER_TEXT.fullmatch(value):
        raise OptionError(name, "text in ASCII", value)


SECRETS = frozenset({"key", "secret"})
SECRET = Text(secret=True)
KINDS: Mapping[str, Kind[Any]] = {
    "account": ACCOUNT,
    "acl": Choice(ACLS),
    "bucket": BUCKET,
    "class": Choice(CLASSES),
    "container": CONTAINER,
    "endpoint": Endpoint(),
    "headers": ObjectHeaders(),
    "key": SECRET,
    "metadata": Metadata(),
    "path": Place(),
    "public_url": Endpoint(),
    "region": REGION,
    "secret": SECRET,
    "user": Text(),
}

EVERYWHERE = ("path", "metadata", "headers")


@dataclass(frozen=True)
class Provider:
    """One provider.

    `credentials` and `needed` must be given, in the request or by its connector; `others` may be.
    Those in `fixed` only a connector names. `endpoint` is its address, with the parameters in
    braces, `public` the one that an object is read at, `{key}` in it. `acl` is what a result gets
    where nothing else is said.
    """

    name: str
    credentials: tuple[str, ...] = ("key", "secret")
    needed: tuple[str, ...] = ("bucket",)
    others: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    endpoint: str = ""
    public: str = "{endpoint}/{bucket}/{key}"
    acl: str | None = None
    acls: tuple[str, ...] = ACLS
    is_s3: bool = True
    style: str = "path"

    @property
    def parameters(self) -> tuple[str, ...]:
        """All that a request may name beside `provider`."""
        return (*self.credentials, *self.needed, *self.others, *EVERYWHERE)

    def kind(self, parameter: str) -> Kind[Any]:
        """Return what a parameter takes."""
        return Choice(self.acls) if parameter == "acl" else KINDS[parameter]


PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            "aws",
            needed=("bucket", "region"),
            others=("acl", "class"),
            fixed=("endpoint",),
            endpoint="https://s3.{region}.amazonaws.com",
            public="https://{bucket}.s3.{region}.amazonaws.com/{key}",
            acl="public-read",
            style="auto",
        ),
        Provider(
            "google",
            others=("acl",),
            fixed=("endpoint", "region"),
            endpoint="https://storage.googleapis.com",
        ),
        Provider(
            "cloudflare",
            others=("acl", "endpoint"),
            fixed=("region",),
            acls=TWO_ACLS,
        ),
        Provider(
            "digitalocean",
            needed=("bucket", "region"),
            others=("acl",),
            fixed=("endpoint",),
            endpoint="https://{region}.digitaloceanspaces.com",
            public="https://{bucket}.{region}.digitaloceanspaces.com/{key}",
            acl="public-read",
        ),
        Provider(
            "alibaba",
            needed=("bucket", "region"),
            fixed=("endpoint", "acl"),
            endpoint="https://s3.oss-{region}.aliyuncs.com",
            public="https://{bucket}.oss-{region}.aliyuncs.com/{key}",
            style="virtual",  # it takes no other
        ),
        Provider(
            "ibm",
            needed=("bucket", "region"),
            others=("acl",),
            fixed=("endpoint",),
            endpoint="https://s3.{region}.cloud-object-storage.appdomain.cloud",
        ),
        Provider("s3", others=("acl", "class", "endpoint", "region")),
        Provider(
            "azure",
            credentials=("account", "key"),
            needed=("container",),
            fixed=("endpoint",),
            endpoint="https://{account}.blob.core.windows.net",
            public="{endpoint}/{container}/{key}",
            is_s3=False,
        ),
        Provider(
            "rackspace",
            credentials=("user", "key"),
            needed=("container", "region"),
            fixed=("endpoint",),
            endpoint="https://identity.api.rackspacecloud.com",
            public="{endpoint}/{container}/{key}",
            is_s3=False,
        ),
    )
}
NEEDS_ENDPOINT = ("cloudflare", "s3")
"""These have an address for each account, or none of their own."""


def provider_of(name: str, raw: object) -> Provider:
    """Return the provider that a text names; raises OptionError, which calls it `name`."""
    found = PROVIDERS.get(raw.strip().lower()) if isinstance(raw, str) else None
    if found is None:
        raise OptionError(name, f"one of {', '.join(PROVIDERS)}", raw)
    return found
