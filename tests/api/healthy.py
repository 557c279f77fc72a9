"""The image API as it is when nothing is wrong with it."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import shutil
import string
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from uuid import uuid4

from optidash_integrations import formats
from optidash_integrations.errors import (
    BrokenImageError,
    ImageTooLargeError,
    OptidashError,
    OptionError,
    UnsupportedImageError,
)
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.processors import EngineProcessor, Processor
from tests.api.answers import Answer, Blob, failure, of_bytes, of_zeros, success
from tests.api.fetching import RefusedError, Source, fetch
from tests.api.uploads import Upload
from tests.api.wire import Head

API = "/1.0"
NOT_FOR_THE_ENGINE = {"url", "headers", "store", "webhook", "response", "cdn", "echo", "zeros"}
KEY_CHARACTERS = string.ascii_letters + string.digits
STATUSES = (
    (OptionError, 422),
    (ImageTooLargeError, 413),
    (UnsupportedImageError, 415),
    (BrokenImageError, 422),
)


@dataclass(frozen=True)
class Request:
    """A request that has come in whole. `body` is empty for an upload."""

    head: Head
    body: bytes = b""
    upload: Upload | None = None

    @cached_property
    def document(self) -> dict[str, Any]:
        """The JSON object in the body, or in an upload's `data`; raises RefusedError for others."""
        text = self.upload.data if self.upload else self.body
        try:
            document = json.loads(text.strip() or b"{}")
        except ValueError as error:
            raise RefusedError(400, f"The operations are no JSON: {error}") from error
        document = {} if document == [] else document  # as PHP writes an empty object
        if not isinstance(document, dict):
            raise RefusedError(400, "The operations are no JSON object")
        return document

    @property
    def is_binary(self) -> bool:
        """Whether the image itself is asked for. The header is enough, and so is the document."""
        if self.head.headers.get("x-optidash-binary", "").lower() in ("1", "true"):
            return True
        if self.head.method != "POST":
            return False
        try:
            response = self.document.get("response")
        except RefusedError:
            return False
        return isinstance(response, dict) and response.get("mode") == "binary"


@dataclass(frozen=True)
class Result:
    """An image that the API keeps, since `modified` in seconds since 1970.

    `has` are the validators that it is sent with.
    """

    blob: Blob
    content_type: str
    modified: int = 1_700_000_000
    has: frozenset[str] = frozenset({"ETag", "Last-Modified"})

    @property
    def validators(self) -> tuple[tuple[str, str], ...]:
        told = (
            ("ETag", f'"{self.blob.sha1}"'),
            ("Last-Modified", formatdate(self.modified, usegmt=True)),
        )
        return tuple(pair for pair in told if pair[0] in self.has)

    def is_known(self, headers: Mapping[str, str]) -> bool:
        """Say whether a client has it already, as RFC 9110 has it (13.2.2)."""
        told = dict(self.validators)
        if "if-none-match" in headers:
            return headers["if-none-match"] == told.get("ETag")
        since = headers.get("if-modified-since")
        return bool(since) and self.modified <= parsedate_to_datetime(str(since)).timestamp()


Endpoint = Callable[[Request], Awaitable[Answer]]


class Api:
    """What the API knows and does. One thread calls it, apart from what the `lock` guards."""

    def __init__(self, processor: Processor | None) -> None:
        self.given = processor
        self.key: str | None = "test-key"
        self.storage = ""
        self.results: dict[str, Result] = {}
        self.webhooks: list[dict[str, Any]] = []
        self.keys: dict[str, str] = {}
        self.made_folder: Path | None = None
        self.lock = threading.Lock()
        self.calls = 0
        self.processed: Counter[str] = Counter()

    @cached_property
    def processor(self) -> Processor:
        return self.given or EngineProcessor()

    def folder(self) -> Path:
        """Return the folder for large files; it is there from the first call to `close`."""
        if self.made_folder is None:
            self.made_folder = Path(tempfile.mkdtemp(prefix="image-api-"))
        return self.made_folder

    def close(self) -> None:
        if self.made_folder is not None:
            shutil.rmtree(self.made_folder)

    def count(self, answer: Answer) -> None:
        """Note that a client was told of this success."""
        if answer.source:
            with self.lock:
                self.calls += 1
                self.processed[answer.source] += 1

    async def answer(self, request: Request, *, authorised: bool = False) -> Answer:
        """Return the answer to a request; `authorised` lets it in without a key."""
        try:
            if request.head.target.startswith("/temp/"):
                return self.download(request)
            if not authorised:
                self.authorise(request)
            return await self.route(request)(request)
        except RefusedError as error:
            return failure(error.status, error.message, is_binary=request.is_binary)

    def authorise(self, request: Request) -> None:
        basic = base64.b64encode(f"{self.key}:".encode()).decode()
        given = request.head.headers.get("authorization", "")
        if self.key is not None and given not in (f"Basic {basic}", f"Bearer {self.key}"):
            raise RefusedError(401, "Authentication failed")

    def route(self, request: Request) -> Endpoint:
        path = urlsplit(request.head.target).path.removeprefix(API)
        first, _, rest = path.strip("/").partition("/")
        endpoints: dict[tuple[str, bool], dict[str, Endpoint]] = {
            ("upload", False): {"POST": self.uploaded},
            ("fetch", False): {"POST": self.fetched},
            ("account", False): {"GET": self.account},
            ("webhooks", False): {"GET": self.webhook_list},
            ("webhooks", True): {"GET": self.one_webhook},
            ("keys", False): {"POST": self.new_key},
            ("keys", True): {"PUT": self.renamed_key},
        }
        routes = endpoints.get((first, bool(rest)), {})
        if not routes or not request.head.target.startswith(API):
            raise RefusedError(404, f"There is no {path}")
        if request.head.method not in routes:
            raise RefusedError(405, f"{path} does not take {request.head.method}")
        return routes[request.head.method]

    # Processing

    async def uploaded(self, request: Request) -> Answer:
        if request.upload is None or request.upload.problem:
            raise RefusedError(400, request.upload.problem if request.upload else "No upload")
        part = request.upload.part("file")
        if part is None:
            raise RefusedError(400, "The form has no file")
        return await self.processed_answer(request, Source(part.blob(), request.upload.file_name))

    async def fetched(self, request: Request) -> Answer:
        url, headers = request.document.get("url"), request.document.get("headers", {})
        if not isinstance(url, str):
            raise RefusedError(422, "url must be a string")
        if not isinstance(headers, dict):
            raise RefusedError(422, "headers must be an object")
        source = await asyncio.to_thread(fetch, url, headers)
        return await self.processed_answer(request, source)

    async def processed_answer(self, request: Request, source: Source) -> Answer:
        """Do the operations of a request on its image."""
        document = request.document
        if request.is_binary and ("webhook" in document or "store" in document):
            raise RefusedError(422, "A binary response goes with neither webhook nor store")
        if "webhook" in document:
            return self.accepted(document["webhook"], source)
        made, told = await asyncio.to_thread(self.made, source, document)
        output = told["output"]
        known = formats.BY_NAME.get(str(output.get("format", "")).lower(), formats.JPEG)
        name = f"{Path(source.name).stem or 'image'}.{known.extension}"
        identity = str(uuid4())
        self.results[identity] = Result(made, known.media_type)
        place = f"temp/{identity}/{quote(name)}"
        url = f"https://bucket.test/{place}" if "store" in document else f"{self.storage}/{place}"
        answer = success(
            input={**told["input"], "name": source.name or "image"},
            output={**output, "name": name, "url": url},
        )
        if not request.is_binary:
            return Answer(200, answer, source=source.blob.sha1)
        return Answer(200, answer, True, made, known.media_type, source.blob.sha1)

    def made(self, source: Source, document: Mapping[str, Any]) -> tuple[Blob, dict[str, Any]]:
        """Return the result, and what is told of it and its source, without names."""
        if document.get("echo"):
            return source.blob, {"input": one_pixel(source.blob), "output": one_pixel(source.blob)}
        if "zeros" in document:
            made = of_zeros(int(document["zeros"]))
            return made, {"input": one_pixel(source.blob), "output": one_pixel(made)}
        operations = {k: v for k, v in document.items() if k not in NOT_FOR_THE_ENGINE}
        data = source.blob.read()
        content = self.work(data, operations)
        return of_bytes(content), {"input": described(data), "output": described(content)}

    def work(self, data: bytes, operations: Mapping[str, Any]) -> bytes:
        try:
            asked = Operations.from_dict(operations)
            return self.processor.process(data, asked, None, Limits()).content
        except OptidashError as error:
            status = next((code for kind, code in STATUSES if isinstance(error, kind)), 500)
            raise RefusedError(status, str(error)) from error

    def accepted(self, webhook: object, source: Source) -> Answer:
        if not (isinstance(webhook, dict) and isinstance(webhook.get("url"), str)):
            raise RefusedError(422, "webhook.url must be a string")
        document = success(202)
        status = "scheduled" if webhook.get("delay") else "created"
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.webhooks.append({"id": document["id"], "status": status, "created_at": now})
        return Answer(202, document, source=source.blob.sha1)

    # Everything else

    def download(self, request: Request) -> Answer:
        identity = urlsplit(request.head.target).path.split("/")[2]
        if identity not in self.results:
            raise RefusedError(404, "There is no such result, or it is gone")
        result = self.results[identity]
        if result.is_known(request.head.headers):
            return Answer(304, {}, image=of_bytes(b""), more=result.validators)
        return Answer(
            200,
            {},
            image=result.blob,
            content_type=result.content_type,
            more=result.validators,
        )

    async def account(self, request: Request) -> Answer:
        credit = {"total": 20000, "used": self.calls, "remaining": 20000 - self.calls}
        return Answer(200, success(subscription={"name": "Team"}, credits=credit, quota=credit))

    async def webhook_list(self, request: Request) -> Answer:
        """Answer with the newest first, and the query as it was understood."""
        given = parse_qs(urlsplit(request.head.target).query)
        query = {name: values[-1] for name, values in given.items()}
        statuses = set(filter(None, query.get("status", "").split(",")))
        start, end = query.get("start", ""), query.get("end", "9999")
        found = [
            webhook
            for webhook in reversed(self.webhooks)
            if (not statuses or webhook["status"] in statuses)
            and start <= webhook["created_at"] <= end
        ]
        offset, limit = int(query.get("offset", 0)), min(100, int(query.get("limit", 50)))
        return Answer(200, success(webhooks=found[offset : offset + limit], query=query))

    async def one_webhook(self, request: Request) -> Answer:
        identity = last_segment(request)
        found = next((webhook for webhook in self.webhooks if webhook["id"] == identity), None)
        if found is None:
            raise RefusedError(404, f"There is no webhook {identity}")
        return Answer(200, success(webhook=found))

    async def new_key(self, request: Request) -> Answer:
        key = "".join(secrets.choice(KEY_CHARACTERS) for _ in range(40))
        return self.named(key, request)

    async def renamed_key(self, request: Request) -> Answer:
        key = last_segment(request)
        if key not in self.keys:
            raise RefusedError(404, "There is no such key")
        return self.named(key, request)

    def named(self, key: str, request: Request) -> Answer:
        name = request.document.get("name")
        if not (isinstance(name, str) and name):
            raise RefusedError(422, "name must be a string")
        if name in (other for known, other in self.keys.items() if known != key):
            raise RefusedError(409, "There is a key of this name")
        self.keys[key] = name
        return Answer(200, {"success": True, "name": name, "key": key})


def last_segment(request: Request) -> str:
    return unquote(urlsplit(request.head.target).path.rpartition("/")[2])


def one_pixel(blob: Blob) -> dict[str, Any]:
    """Return what is told of bytes that nobody looked at."""
    return {"format": "JPEG", "width": 1, "height": 1, "bytes": blob.length, "sha1": blob.sha1}


def described(data: bytes) -> dict[str, Any]:
    """Return what is told of an image, or of bytes that are none."""
    from optidash_integrations.engine.describe import describe

    return describe(data).fields() if formats.detect(data) else one_pixel(of_bytes(data))
