"""Where the API is to put a result: a place in a store of the caller's own.

A store is declared: a frozen dataclass whose fields say what kind of value each parameter takes.
A plain dict does as well wherever one of these is taken; these are checked before anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from optidash_integrations.errors import OptionError
from optidash_integrations.limits import Limits
from optidash_integrations.values import Choice, Kind, unknown

LIMITS = Limits()

HEADERS = (
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Type",
)
CANONICAL = {name.lower(): name for name in HEADERS}

CLASSES = (
    "standard",
    "reduced-redundancy",
    "standard-ia",
    "onezone-ia",
    "intelligent-tiering",
    "glacier",
    "deep-archive",
)

CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# What a parameter is called on the wire, where Python has that word for itself.
WIRE_NAMES = {"storage_class": "class"}


class Hidden:
    """Stands for a secret in an error."""

    def __repr__(self) -> str:
        return "the value given"


@dataclass(frozen=True)
class Text(Kind[str]):
    """Text on one line, by default not empty; secret text never shows in an error."""

    secret: bool = False
    may_be_empty: bool = False

    def expected(self, limits: Limits) -> str:
        return "text on one line"

    def parse(self, raw: Any, limits: Limits) -> str:
        if not isinstance(raw, str) or CONTROL.search(raw):
            raise ValueError("not text on one line")  # without the text: it may be secret
        if not self.may_be_empty and not raw.strip():
            raise ValueError("empty")
        return raw

    def read(self, name: str, raw: object, limits: Limits) -> str:
        try:
            return self.parse(raw, limits)
        except ValueError:
            got = Hidden() if self.secret and raw is not None else raw
            raise OptionError(name, self.expected(limits), got) from None


@dataclass(frozen=True)
class ObjectPath(Kind[str]):
    """The place of the result in the bucket."""

    def expected(self, limits: Limits) -> str:
        return "a path without a slash in front"

    def parse(self, raw: Any, limits: Limits) -> str:
        if Text().parse(raw, limits).startswith("/"):
            raise ValueError(raw)
        return str(raw)


@dataclass(frozen=True)
class Texts(Kind[dict[str, str]]):
    """An object of texts, of any names."""

    def expected(self, limits: Limits) -> str:
        return "an object of texts"

    def parse(self, raw: Any, limits: Limits) -> dict[str, str]:
        if not isinstance(raw, Mapping):
            raise ValueError(raw)
        return {Text().parse(name, limits): value for name, value in raw.items()}

    def read(self, name: str, raw: object, limits: Limits) -> dict[str, str]:
        texts = super().read(name, raw, limits)
        value = Text(may_be_empty=True)
        return {word: value.read(f"{name}.{word}", texts[word], limits) for word in texts}


@dataclass(frozen=True)
class Headers(Texts):
    """Headers that the store is to send with the result; they come out as HTTP spells them."""

    def read(self, name: str, raw: object, limits: Limits) -> dict[str, str]:
        found: dict[str, str] = {}
        for word, value in super().read(name, raw, limits).items():
            header = CANONICAL.get(word.lower())
            if header is None:
                raise unknown(OptionError, name, word, HEADERS)
            if header in found:
                raise OptionError(name, f"{header} once", word)
            found[header] = value
        return found


@dataclass(frozen=True)
class Anything(Kind[dict[str, object]]):
    """Parameters that are not known here. They may be secret, so no error shows them."""

    def expected(self, limits: Limits) -> str:
        return "an object of parameters"

    def read(self, name: str, raw: object, limits: Limits) -> dict[str, object]:
        if not isinstance(raw, Mapping) or not all(isinstance(word, str) for word in raw):
            raise OptionError(name, self.expected(limits), Hidden())
        return dict(raw)


TEXT = {"kind": Text()}
SECRET = {"kind": Text(secret=True)}
PATH = {"kind": ObjectPath()}
TEXTS = {"kind": Texts()}
SENT_HEADERS = {"kind": Headers()}
ANYTHING = {"kind": Anything()}
TWO_ACLS = {"kind": Choice(("public-read", "private"))}
AWS_CLASSES = {"kind": Choice(CLASSES)}


@dataclass(frozen=True, kw_only=True)
class ExternalStore:
    """What all stores share. Each field is None where it was not given.

    `id` names a Secure Storage Connector saved in the account, which stands for provider and
    credentials. `path` is the result's place in the bucket, without a slash in front. `headers`
    are any of `HEADERS`, in any case. `more` are parameters that are not known here; they are sent
    unchanged. Raises OptionError, with names such as `store.region`, for anything wrong.
    """

    provider: ClassVar[str]
    needed: ClassVar[tuple[str, ...]] = ()
    credentials: ClassVar[tuple[str, ...]] = ()

    id: str | None = field(default=None, metadata=TEXT)
    path: str | None = field(default=None, metadata=PATH)
    metadata: Mapping[str, str] | None = field(default=None, metadata=TEXTS)
    headers: Mapping[str, str] | None = field(default=None, metadata=SENT_HEADERS)
    more: Mapping[str, object] | None = field(default=None, repr=False, metadata=ANYTHING)

    def __post_init__(self) -> None:
        kinds = {f.name: f.metadata["kind"] for f in fields(self)}
        for name, value in self.given().items():
            object.__setattr__(self, name, kinds[name].read(f"store.{name}", value, LIMITS))
        self.check_credentials(kinds)
        for name in self.needed:
            if getattr(self, name) is None:
                raise OptionError(f"store.{name}", kinds[name].expected(LIMITS), None)
        self.check_more()

    def check_credentials(self, kinds: Mapping[str, Kind[Any]]) -> None:
        """Raise OptionError unless there is an `id`, or else all of the credentials."""
        for name in self.credentials:
            is_given = getattr(self, name) is not None
            if self.id is None and not is_given:
                expected = f"{kinds[name].expected(LIMITS)}, unless there is an id"
                raise OptionError(f"store.{name}", expected, None)
            if self.id is not None and is_given and kinds[name] == Text(secret=True):
                raise OptionError(f"store.{name}", "nothing where there is an id", Hidden())

    def check_more(self) -> None:
        """Raise OptionError where `more` names what has a field of its own."""
        known = {"provider", *(WIRE_NAMES.get(f.name, f.name) for f in fields(self))} - {"more"}
        for name in self.more or ():
            if name in known:
                raise OptionError("store.more", "parameters that have no field of their own", name)

    def given(self) -> dict[str, Any]:
        """Return what was given, by the names of the fields."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def to_dict(self) -> dict[str, object]:
        """Return the object that the API takes as `store`, secrets included."""
        given = self.given()
        more = given.pop("more", {})
        named = {WIRE_NAMES.get(name, name): value for name, value in given.items()}
        provider = {} if self.id is not None else {"provider": self.provider}
        plain = {n: dict(v) if isinstance(v, dict) else v for n, v in named.items()}
        return {**provider, **plain, **more}


@dataclass(frozen=True, kw_only=True)
class BucketStore(ExternalStore):
    """A bucket that a pair of keys opens."""

    needed: ClassVar[tuple[str, ...]] = ("bucket",)
    credentials: ClassVar[tuple[str, ...]] = ("key", "secret")

    key: str | None = field(default=None, repr=False, metadata=SECRET)
    secret: str | None = field(default=None, repr=False, metadata=SECRET)
    bucket: str | None = field(default=None, metadata=TEXT)


@dataclass(frozen=True, kw_only=True)
class RegionalStore(BucketStore):
    """A bucket in a region."""

    needed = ("bucket", "region")

    region: str | None = field(default=None, metadata=TEXT)


@dataclass(frozen=True, kw_only=True)
class AwsStore(RegionalStore):
    """Amazon S3. `acl` is the name of a canned ACL, by default `public-read`."""

    provider = "aws"

    acl: str | None = field(default=None, metadata=TEXT)
    storage_class: str | None = field(default=None, metadata=AWS_CLASSES)


@dataclass(frozen=True, kw_only=True)
class GoogleStore(BucketStore):
    """Google Cloud Storage; `key` and `secret` are an HMAC pair of its XML interface."""

    provider = "google"

    acl: str | None = field(default=None, metadata=TEXT)


@dataclass(frozen=True, kw_only=True)
class AzureStore(ExternalStore):
    """Microsoft Azure Storage: an account, its access key and a container."""

    provider = "azure"
    needed = ("container",)
    credentials = ("account", "key")

    account: str | None = field(default=None, metadata=TEXT)
    key: str | None = field(default=None, repr=False, metadata=SECRET)
    container: str | None = field(default=None, metadata=TEXT)


@dataclass(frozen=True, kw_only=True)
class CloudflareStore(BucketStore):
    """Cloudflare R2."""

    provider = "cloudflare"

    acl: str | None = field(default=None, metadata=TWO_ACLS)


@dataclass(frozen=True, kw_only=True)
class DigitalOceanStore(RegionalStore):
    """DigitalOcean Spaces; `bucket` is the name of the Space."""

    provider = "digitalocean"

    acl: str | None = field(default=None, metadata=TEXT)


@dataclass(frozen=True, kw_only=True)
class AlibabaStore(RegionalStore):
    """Alibaba Cloud OSS."""

    provider = "alibaba"


@dataclass(frozen=True, kw_only=True)
class RackspaceStore(ExternalStore):
    """Rackspace Cloud Files. Its parameters are not public: give an `id`, or say them in `more`."""

    provider = "rackspace"


@dataclass(frozen=True, kw_only=True)
class IbmStore(ExternalStore):
    """IBM Cloud Object Storage. Its parameters are not public: give an `id`, or use `more`."""

    provider = "ibm"
