"""The chain of the vendor's own Python package, over this package's client.

Names and results are as there: a chain serves one request; a mistake or a failure is returned as
text and not raised, and that goes for connections that fail, too. A failed call is tried again as
the client does by default.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar
from urllib.parse import urlsplit

from optidash_integrations.calls import API_URL
from optidash_integrations.errors import ApiError, OptidashError, OptionError, ProtocolError
from optidash_integrations.variants import Metadata, Variant

if TYPE_CHECKING:
    from optidash_integrations.client import OptidashClient

T = TypeVar("T")

Meta = dict[str, Any]
"""The API's answer as it came."""


class HasDict(Protocol):
    """Stands for an object of parameters, as `AwsStore` does."""

    def to_dict(self) -> dict[str, object]:
        """Return the parameters."""


NOTHING: Mapping[str, object] = MappingProxyType({})
Parameters = Mapping[str, object] | HasDict


class optidash:
    """One image, what is to be done with it, and how the result is to come.

    `endpoint` is the address of another API, with or without `/upload` or `/fetch` at its end. Each
    method but the last returns the chain. Parameters that are neither a mapping nor a helper with
    `to_dict()` are ignored. Of several mistakes the last one is told. `client_options` are keyword
    arguments of `OptidashClient`, for a subclass to change: `{"timeout": 5.0, "retries": 0}`.
    """

    client_options: ClassVar[Mapping[str, Any]] = {"timeout": 30.0}

    def __init__(self, key: str | None = None, endpoint: str | None = "") -> None:
        self.key = key
        self.endpoint = endpoint or ""
        self.source: object = None
        self.ways: set[str] = set()
        self.operations: dict[str, object] = {}
        self.proxies: Mapping[str, object] = NOTHING
        self.ending = ""
        self.mistake: str | None = None
        if not isinstance(key, str) or not key:
            self.mistake = "The API key is missing, or is not a string."
        elif not isinstance(self.endpoint, str):
            self.mistake = "The endpoint is not a string."

    # Where the image comes from

    def upload(self, source: object) -> Self:
        """Send an image: a file's path as text, its bytes, or an object with `getvalue()`."""
        self.begin("upload", source)
        is_known = isinstance(source, str | bytes | bytearray | memoryview)
        if not is_known and not callable(getattr(source, "getvalue", None)):
            self.mistake = (
                "upload() takes a path as a string, bytes, or an object with getvalue(), "
                f"not {type(source).__name__}."
            )
        return self

    def fetch(self, url: object) -> Self:
        """Let the API fetch an image from an address."""
        self.begin("fetch", url)
        if not isinstance(url, str):
            self.mistake = f"fetch() takes an address as a string, not {type(url).__name__}."
        return self

    def begin(self, way: str, source: object) -> None:
        self.source = source
        self.ways.add(way)
        if len(self.ways) > 1:
            self.mistake = "upload() and fetch() exclude each other: a chain has one image."

    # What is done with it

    def optimize(self, parameters: Parameters = NOTHING) -> Self:
        """Set `optimize`."""
        return self.asked("optimize", parameters)

    def flip(self, parameters: Parameters = NOTHING) -> Self:
        """Set `flip`."""
        return self.asked("flip", parameters)

    def resize(self, parameters: Parameters = NOTHING) -> Self:
        """Set `resize`."""
        return self.asked("resize", parameters)

    def scale(self, parameters: Parameters = NOTHING) -> Self:
        """Set `scale`."""
        return self.asked("scale", parameters)

    def crop(self, parameters: Parameters = NOTHING) -> Self:
        """Set `crop`."""
        return self.asked("crop", parameters)

    def watermark(self, parameters: Parameters = NOTHING) -> Self:
        """Set `watermark`."""
        return self.asked("watermark", parameters)

    def mask(self, parameters: Parameters = NOTHING) -> Self:
        """Set `mask`."""
        return self.asked("mask", parameters)

    def text(self, parameters: Parameters = NOTHING) -> Self:
        """Set `text`."""
        return self.asked("text", parameters)

    def filter(self, parameters: Parameters = NOTHING) -> Self:
        """Set `filter`."""
        return self.asked("filter", parameters)

    def adjust(self, parameters: Parameters = NOTHING) -> Self:
        """Set `adjust`."""
        return self.asked("adjust", parameters)

    def auto(self, parameters: Parameters = NOTHING) -> Self:
        """Set `auto`."""
        return self.asked("auto", parameters)

    def border(self, parameters: Parameters = NOTHING) -> Self:
        """Set `border`."""
        return self.asked("border", parameters)

    def padding(self, parameters: Parameters = NOTHING) -> Self:
        """Set `padding`."""
        return self.asked("padding", parameters)

    def output(self, parameters: Parameters = NOTHING) -> Self:
        """Set `output`."""
        return self.asked("output", parameters)

    # How the result comes

    def store(self, parameters: Parameters = NOTHING) -> Self:
        """Set `store`: a dict, or a helper of `optidash_integrations.external_storage`."""
        return self.asked("store", parameters)

    def webhook(self, parameters: Parameters = NOTHING) -> Self:
        """Set `webhook`."""
        return self.asked("webhook", parameters)

    def cdn(self, parameters: Parameters = NOTHING) -> Self:
        """Set `cdn`."""
        return self.asked("cdn", parameters)

    def response(self, parameters: Parameters = NOTHING) -> Self:
        """Set `response`; its mode is set by the method that ends the chain."""
        return self.asked("response", parameters)

    def headers(self, parameters: Parameters = NOTHING) -> Self:
        """Set the headers that the API sends where it fetches the image from."""
        return self.asked("headers", parameters)

    def setProxy(self, proxies: Mapping[str, object]) -> Self:
        """Go through proxies, given as `requests` takes them: `{"https": "http://…"}`."""
        if isinstance(proxies, Mapping):
            self.proxies = dict(proxies)
        return self

    def asked(self, name: str, parameters: Parameters) -> Self:
        found = parameters if isinstance(parameters, Mapping) else as_dict(parameters)
        if found is not None:
            self.operations[name] = dict(found)
        return self

    # The end of the chain

    def toJSON(self) -> tuple[str | None, Meta | None]:
        """Return an error or None, and what the API tells of the result."""
        self.end("toJSON")
        response = self.operations.get("response")
        if isinstance(response, dict) and response.get("mode") == "binary":
            self.mistake = "toJSON() gives no image: for mode binary use toFile() or toBuffer()."
        error, metadata, _ = self.attempt(self.described)
        return error, None if metadata is None else dict(metadata.raw)

    def toFile(self, path: str) -> tuple[str | None, Meta | None]:
        """Write the result; return an error or None, and what the API tells of it.

        After an error the file is as it was, or not there.
        """
        self.end("toFile")
        if not isinstance(path, str) or not path:
            self.mistake = "toFile() takes the path of the result as a string."
        self.check_binary("toFile")
        error, metadata, document = self.attempt(lambda client: self.written(client, path))
        return error, document if metadata is None else dict(metadata.raw)

    def toBuffer(self) -> tuple[str | None, Meta | None, bytes | None]:
        """Return an error or None, what the API tells of the result, and its bytes."""
        self.end("toBuffer")
        self.check_binary("toBuffer")
        error, variant, document = self.attempt(self.received)
        if variant is None:
            return error, document, None
        return error, dict(variant.metadata.raw), variant.content

    def end(self, ending: str) -> None:
        if not self.ways:
            self.mistake = "There is no image: call upload() or fetch() first."
        if "headers" in self.operations and "upload" in self.ways:
            self.mistake = "headers() goes with fetch(): an upload is fetched from nowhere."
        if self.ending not in ("", ending):
            self.mistake = f"This chain has ended in {self.ending}() already: begin another one."
        self.ending = ending

    def check_binary(self, ending: str) -> None:
        for name in ("webhook", "store"):
            if name in self.operations:
                self.mistake = f"{ending}() gives the image itself, so {name}() can't go with it."

    # One request

    def attempt(
        self, work: Callable[[OptidashClient], T]
    ) -> tuple[str | None, T | None, Meta | None]:
        """Return what a call gives, or what went wrong with the error document, if there is one."""
        self.check_file()
        if self.mistake is not None:
            return self.mistake, None, None
        try:
            with self.client() as client:
                return None, work(client), None
        except ApiError as error:
            return error.message, None, None if error.document is None else dict(error.document)
        except OSError as error:
            return f"A file could not be read or written: {error}", None, None
        except (OptidashError, ValueError) as error:  # a closed buffer, a path with a zero byte
            return str(error), None, None

    def check_file(self) -> None:
        is_path = self.ways == {"upload"} and isinstance(self.source, str)
        if is_path and not Path(str(self.source)).exists():
            self.mistake = f"There is no file {self.source}."

    def client(self) -> OptidashClient:
        """Return a client for this request; whoever asks for it closes it."""
        from optidash_integrations.client import OptidashClient

        url = base_of(self.endpoint) or API_URL
        options: dict[str, Any] = {
            "proxy": proxy_for(url, self.proxies),
            "any_type": True,  # as there; the metadata vouch for the bytes
        }
        return OptidashClient(self.key, url, **(options | dict(self.client_options)))

    def described(self, client: OptidashClient) -> Metadata:
        if "fetch" in self.ways:
            return client.fetch(str(self.source), self.operations)
        return client.upload(content_of(self.source), self.operations)

    def received(self, client: OptidashClient) -> Variant:
        if "fetch" in self.ways:
            variant = client.fetch_to_bytes(str(self.source), self.operations)
        else:
            variant = client.upload_to_bytes(content_of(self.source), self.operations)
        check_told(variant.metadata)
        return variant

    def written(self, client: OptidashClient, path: str) -> Metadata:
        """Write the result beside its place, and move it there once it is known to be right."""
        from optidash_integrations.payload import FileSink

        sink = FileSink(path)
        sink.check()  # before a call is spent on it
        target = sink.path  # a link stays
        beside = target.parent / f".{secrets.token_hex(8)}.tmp"
        try:
            metadata = self.downloaded(client, beside)
            check_told(metadata)
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
        return metadata

    def downloaded(self, client: OptidashClient, path: Path) -> Metadata:
        if "fetch" in self.ways:
            return client.fetch_to_file(str(self.source), self.operations, path)
        return client.upload_to_file(content_of(self.source), self.operations, path=path)


Optidash = optidash


def as_dict(parameters: object) -> Mapping[str, object] | None:
    """Return the parameters that a helper stands for; None for anything else."""
    to_dict = None if isinstance(parameters, type) else getattr(parameters, "to_dict", None)
    found = to_dict() if callable(to_dict) else None
    return found if isinstance(found, Mapping) else None


def content_of(source: object) -> str | bytes:
    """Return a path as it is, and the bytes of anything else."""
    if isinstance(source, str):
        return source
    getvalue = getattr(source, "getvalue", None)
    found = getvalue() if callable(getvalue) else source
    if not isinstance(found, bytes | bytearray | memoryview):
        raise OptionError("upload()", "an object whose getvalue() gives bytes", type(found))
    return bytes(found)


def check_told(metadata: Metadata) -> None:
    """Raise ProtocolError where an image came without a word about it."""
    if not metadata.raw:
        raise ProtocolError("The answer's metadata header is missing, or can't be read.")


def base_of(endpoint: str) -> str:
    """Return the address that the API's methods stand below; empty where there is none."""
    base = endpoint.strip().rstrip("/")
    for way in ("/upload", "/fetch"):
        if base.endswith(way):
            return base.removesuffix(way)
    return base


def proxy_for(url: str, proxies: Mapping[str, object]) -> str | None:
    """Return the proxy on the way to an address, chosen as `requests` does."""
    parts = urlsplit(url)
    wanted = (f"{parts.scheme}://{parts.hostname}", parts.scheme, f"all://{parts.hostname}", "all")
    for name in wanted:
        proxy = proxies.get(name)
        if isinstance(proxy, str) and proxy:
            return proxy if "://" in proxy else f"http://{proxy}"
    return None
