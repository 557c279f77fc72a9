"""The HTTP API without I/O: what to send, and how to read what comes.

Each method of `Api` is a flow (see `calls`) and returns what the client's method returns.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from optidash_integrations import __version__
from optidash_integrations.addresses import checked_url
from optidash_integrations.calls import Call, Caller, Config, Flow, Reply
from optidash_integrations.documents import (
    Account,
    SubKey,
    Webhook,
    described,
    error_of,
    parsed,
)
from optidash_integrations.errors import ApiError, DownloadError, OptionError, ProtocolError, Said
from optidash_integrations.flows import Do
from optidash_integrations.formats import of_media_type
from optidash_integrations.operations import Operations
from optidash_integrations.payload import Arrival, FileSink, MemorySink, Sink, Source, Upload
from optidash_integrations.revalidation import Validators
from optidash_integrations.variants import Metadata, Variant

logger = logging.getLogger(__name__)

Asked = Operations | Mapping[str, object] | None

USER_AGENT = f"optidash-integrations/{__version__}"


class Api(Caller):
    """The API's methods as flows, and what is known of its rate limit.

    `validators` are those of downloads that were written to files; see `OptidashClient`.
    """

    def __init__(
        self, config: Config, *, validators: Validators | None = None, **more: Any
    ) -> None:
        super().__init__(config, **more)
        self.validators = validators

    @cached_property
    def base(self) -> str:
        """The address that all methods begin with."""
        return self.config.api_url.rstrip("/")

    @cached_property
    def own_headers(self) -> Mapping[str, str]:
        """What every call of the API carries; the key is in it."""
        return {**PLAIN_HEADERS, **self.config.authorization}

    # Images

    def upload(self, source: Source, asked: Asked, **more: object) -> Flow[Metadata]:
        """Send an image, and return what the API tells of the result."""
        document = json_document(asked, more)
        call = self.upload_call((yield from opened(source)), document)
        return (yield from self.repeated(call, self.read_metadata))

    def fetch(self, url: str, asked: Asked, **more: object) -> Flow[Metadata]:
        """Let the API fetch an image, and return what it tells of the result."""
        call = self.fetch_call(url, json_document(asked, more))
        return (yield from self.repeated(call, self.read_metadata))

    def upload_image(self, source: Source, asked: Asked, sink: Sink) -> Flow[Result]:
        """Send an image, and receive the result into `sink`."""
        document = binary_document(asked)
        call = self.upload_call((yield from opened(source)), document)
        return (yield from self.received(as_binary(call, sink)))

    def fetch_image(
        self, url: str, asked: Asked, sink: Sink, headers: object = None
    ) -> Flow[Result]:
        """Let the API fetch an image, and receive the result into `sink`."""
        call = self.fetch_call(url, binary_document(asked, {"headers": headers}))
        return (yield from self.received(as_binary(call, sink)))

    def download(self, result: Metadata | Variant | str, sink: Sink) -> Flow[None]:
        """Receive a result that the API keeps."""
        if isinstance(result, Variant):
            result = result.metadata
        if not isinstance(result, str | Metadata):
            raise OptionError("download", "the metadata of a result, or its address", result)
        metadata = Metadata() if isinstance(result, str) else result
        url = result if isinstance(result, str) else result.output.url
        if not url:
            raise OptionError("download", "metadata with the address of a result", url)
        call = self.download_call(url, sink)
        yield from checked(sink)
        conditions = yield from self.conditions_for(url, sink)
        call = replace(call, headers={**call.headers, **conditions})

        def read(reply: Reply) -> Flow[None]:
            if reply.status == 304 and conditions:
                return
            self.check_whole(reply, metadata)
            yield from finished(sink)
            yield from self.noted(url, sink, reply)

        try:
            yield from self.repeated(call, read)
        finally:
            sink.discard()

    def conditions_for(self, url: str, sink: Sink) -> Flow[Mapping[str, str]]:
        """Return what to ask a download with, where its file may still be right."""
        validators = self.validators
        if validators is None or not isinstance(sink, FileSink):
            return {}
        path = sink.path
        found: Mapping[str, str] = yield Do(lambda: validators.headers_for(url, path))
        return found

    def noted(self, url: str, sink: Sink, reply: Reply) -> Flow[None]:
        """Keep the validators of what a file was made of."""
        validators = self.validators
        if validators is not None and isinstance(sink, FileSink):
            path = sink.path
            yield Do(lambda: validators.keep(url, path, reply.headers))

    def received(self, call: Call) -> Flow[Result]:
        sink = call.sink
        assert sink is not None
        yield from checked(sink)

        def read(reply: Reply) -> Flow[Result]:
            document = metadata_document(reply.headers)
            self.check_success(reply, document)
            metadata = Metadata.from_dict(document or {})
            try:
                image = self.check_whole(reply, metadata)
            except DownloadError as error:
                image = yield from self.from_storage(sink, metadata, error)
            yield from finished(sink)
            return Result(metadata, image)

        try:
            return (yield from self.repeated(call, read))
        except ApiError as error:
            if self.config.fallback_image is None or sink.is_slow:
                raise
            logger.warning("the fallback image stands in for a result: %s", error)
            return stand_in(sink, self.config.fallback_image, error)
        finally:
            sink.discard()

    def from_storage(self, sink: Sink, metadata: Metadata, error: DownloadError) -> Flow[Arrival]:
        """Receive once more, from where the API keeps it, an image that did not arrive whole."""
        if not metadata.output.url:
            raise error
        try:
            reply = yield from self.sent(self.download_call(metadata.output.url, sink))
            return self.check_whole(reply, metadata)
        except (ApiError, OptionError) as again:
            raise error from again

    # Everything else

    def account(self) -> Flow[Account]:
        """Return what is known of the account."""
        document = yield from self.asked("GET", "account")
        return Account.from_dict(document)

    def webhooks(self, **query: object) -> Flow[list[Webhook]]:
        """Return webhooks, the newest first."""
        words = {name: written(value) for name, value in query.items() if value is not None}
        path = f"webhooks/?{urlencode(words)}" if words else "webhooks/"
        document = yield from self.asked("GET", path)
        return Webhook.list_from(document, self.config.api_key)

    def webhook(self, id: str) -> Flow[Webhook]:
        """Return one webhook."""
        document = yield from self.asked("GET", f"webhooks/{segment('id', id)}")
        found = document.get("webhook")
        return Webhook.from_dict(found if isinstance(found, Mapping) else document)

    def create_key(self, name: str) -> Flow[SubKey]:
        """Make a sub-key."""
        document = yield from self.asked("POST", "keys", {"name": name}, repeatable=False)
        return SubKey.from_dict(document)

    def rename_key(self, key: str, name: str) -> Flow[SubKey]:
        """Give a sub-key another name."""
        address = f"keys/{segment('key', key)}"
        document = yield from self.asked("PUT", address, {"name": name}, may_be_empty=True)
        return SubKey.from_dict({"name": name, **document})

    def asked(
        self,
        method: str,
        path: str,
        content: Mapping[str, object] | None = None,
        *,
        repeatable: bool = True,
        may_be_empty: bool = False,
    ) -> Flow[Mapping[str, object]]:
        headers, body = dict(self.own_headers), None
        if content is not None:
            headers["content-type"] = "application/json"
            body = as_json(content).encode()
        call = Call(method, self.address(path), headers, body, repeatable=repeatable)
        read = self.read_if_any if may_be_empty else self.read_document
        return (yield from self.repeated(call, read))

    # Calls

    def address(self, path: str) -> str:
        return f"{self.base}/{path}"

    def upload_call(self, upload: Upload, document: Mapping[str, object]) -> Call:
        return Call(
            "POST",
            self.address("upload"),
            self.own_headers,
            form=as_json(document),
            upload=upload,
            counted=True,
        )

    def fetch_call(self, url: str, document: Mapping[str, object]) -> Call:
        if not is_web_address(url):
            raise OptionError("url", "an address that begins with http:// or https://", url)
        content = as_json({**document, "url": url}).encode()
        headers = {**self.own_headers, "content-type": "application/json"}
        return Call("POST", self.address("fetch"), headers, content, counted=True)

    def download_call(self, url: str, sink: Sink) -> Call:
        checked_url(url, "url", allow_http=self.config.allow_http)
        return Call("GET", url, PLAIN_HEADERS, sink=sink, foreign=True)

    # Answers

    def read_metadata(self, reply: Reply) -> Flow[Metadata]:
        return Metadata.from_dict((yield from self.read_document(reply)))

    def read_if_any(self, reply: Reply) -> Flow[Mapping[str, object]]:
        if reply.status in (200, 204) and not (reply.body or reply.broken):
            return {}
        return (yield from self.read_document(reply))

    def read_document(self, reply: Reply) -> Flow[Mapping[str, object]]:
        yield from ()
        if reply.broken is not None and reply.status < 400:
            raise reply.broken
        document = parsed(reply.body)
        self.check_success(reply, document)
        if document is None:
            raise ProtocolError(
                f"the API answered {described(reply.status)} with something that is no JSON object",
                status=reply.status,
            )
        return document

    def check_success(self, reply: Reply, document: Mapping[str, object] | None) -> None:
        """Raise the ApiError that an answer stands for, unless it is a success.

        `success` decides where the answer has it, then the status; the document of a failure in
        binary mode may also be the body.
        """
        found = document if document is not None else parsed(reply.body)
        if (found or {}).get("success", True) is True and reply.status < 400:
            return
        raise error_of(reply.status, found, key=self.config.api_key, seconds=self.seconds_of(reply))

    def check_whole(self, reply: Reply, metadata: Metadata) -> Arrival:
        """Return the image of an answer; raise where it is not whole, or not the right one."""
        self.check_success(reply, None)
        if reply.image is None:
            raise ProtocolError(
                f"the API answered {described(reply.status)} without an image", status=reply.status
            )
        if reply.broken is not None:
            raise DownloadError(str(reply.broken)) from reply.broken
        told = metadata.output
        if not reply.framed and told.bytes is None and told.sha1 is None:
            raise DownloadError("nothing tells whether the image is whole")
        kind = of_media_type(reply.headers.get("content-type", ""))
        reply.image.check(told, kind, any_type=self.config.any_type)
        return reply.image

    def arrival(self, call: Call, status: int, headers: Mapping[str, str]) -> Arrival | None:
        """Return what takes the body of an answer; None where that is no image.

        Raises ProtocolError where it should be one and is called something else.
        """
        if call.sink is None or status != 200:
            return None
        document = metadata_document(headers)
        if document is not None and document.get("success", True) is not True:
            return None
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return None
        if not (kind.startswith("image/") or kind in UNTOLD or self.config.any_type):
            raise ProtocolError(f"an image was asked for, and {kind} came")
        return Arrival(call.sink, self.config.max_bytes)


UNTOLD = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""Types of an image that tell nothing; its first bytes have to."""

PLAIN_HEADERS = {"accept-encoding": "identity", "user-agent": USER_AGENT}


@dataclass(frozen=True, slots=True)
class Result:
    """An image that came, and what is told of it."""

    metadata: Metadata
    image: Arrival
    is_fallback: bool = False

    def variant(self, sink: MemorySink) -> Variant:
        """Return it with its bytes; a size that nobody told is 0."""
        output, found = self.metadata.output, self.image.format
        media_type = found.media_type if found else "application/octet-stream"
        return Variant(
            sink.content,
            media_type,
            output.width or 0,
            output.height or 0,
            self.metadata,
            self.is_fallback,
        )


def stand_in(sink: Sink, content: bytes, error: ApiError) -> Result:
    """Return the fallback image in the place of a result that there is none of."""
    sink.begin()
    image = Arrival(sink, len(content))
    image.take(content)
    sink.finish()
    metadata = Metadata(id=error.request_id, raw=error.document or {})
    return Result(metadata, image, is_fallback=True)


def is_web_address(url: object) -> bool:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def opened(source: Source) -> Flow[Upload]:
    """Look at a source; where that takes a disk, elsewhere."""
    if isinstance(source, bytes):
        return Upload(source)
    upload: Upload = yield Do(lambda: Upload(source))
    return upload


def checked(sink: Sink) -> Flow[None]:
    """Raise OSError where nothing can be received, before a call is spent on it."""
    if sink.is_slow:
        yield Do(sink.check)


def finished(sink: Sink) -> Flow[None]:
    if sink.is_slow:
        yield Do(sink.finish)
    else:
        sink.finish()


def as_binary(call: Call, sink: Sink) -> Call:
    headers = {**call.headers, "x-optidash-binary": "1"}
    return replace(call, headers=headers, sink=sink)


def operations_document(given: Asked, more: Mapping[str, object]) -> dict[str, object]:
    """Return operations as the API's JSON has them; parameters that nobody here knows stay."""
    if given is not None and not isinstance(given, Operations | Mapping):
        raise OptionError("operations", "Operations or a mapping", given)
    document = given.to_dict() if isinstance(given, Operations) else dict(given or {})
    document |= {name: value for name, value in more.items() if value is not None}
    return {name: plain(value) for name, value in document.items()}


def json_document(given: Asked, more: Mapping[str, object]) -> dict[str, object]:
    """Return operations whose result is told of; raises OptionError where they ask for an image."""
    document = operations_document(given, more)
    response = document.get("response")
    if isinstance(response, Mapping) and response.get("mode") == "binary":
        takes = "no mode binary here: upload_to_bytes and its like give the image itself"
        raise OptionError("response", takes, Said("one"))
    return document


def binary_document(given: Asked, more: Mapping[str, object] | None = None) -> dict[str, object]:
    """Return operations whose result comes as an image; raises OptionError where it can't."""
    document = operations_document(given, more or {})
    for name in ("webhook", "store"):
        if document.get(name):
            raise OptionError(name, "no value where the image itself is the answer", Said("one"))
    response = document.get("response")
    return document | {
        "response": {**(response if isinstance(response, dict) else {}), "mode": "binary"}
    }


def plain(value: object) -> object:
    """Return what a helper such as `AwsStore` stands for."""
    to_dict = None if isinstance(value, type) else getattr(value, "to_dict", None)
    return to_dict() if callable(to_dict) else value


def as_json(document: Mapping[str, object]) -> str:
    """Return a document as JSON; raises OptionError for what JSON does not know."""
    try:
        return json.dumps(document, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError("operations", "what JSON knows", str(error)) from error


def metadata_document(headers: Mapping[str, str]) -> Mapping[str, object] | None:
    """Return the document in the headers of a binary answer; None where there is none to read."""
    for name in ("x-optidash-metadata", "x-optidash-meta"):
        if name in headers:
            document = parsed(headers[name])
            if document is not None:
                return document
    return None


def segment(name: str, value: str) -> str:
    """Return a value as one segment of a path."""
    if not isinstance(value, str) or not value or value in (".", "..") or not value.isprintable():
        raise OptionError(name, "a non-empty printable text", Said("the value given"))
    return quote(value, safe="")


def written(value: object) -> str:
    """Return a value as it stands in a query: lists by comma, times in ISO 8601 and UTC."""
    if isinstance(value, Sequence | Set) and not isinstance(value, str):
        return ",".join(map(str, value))
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat()) if callable(isoformat) else str(value)
