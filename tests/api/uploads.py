"""Multipart bodies, taken apart while they come in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tests.api.answers import Blob, of_bytes, of_file

IN_MEMORY = 1024 * 1024
"""Parts of more bytes go to a file."""


class Part:
    """One part. Its bytes are hashed as they come, and are in memory or in a file, never both."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self.folder = folder
        self.headers: dict[str, str] = {}
        self.digest = hashlib.sha1()
        self.length = 0
        self.memory = bytearray()
        self.file: Any = None

    def write(self, data: bytes) -> None:
        """Take some more bytes."""
        self.digest.update(data)
        self.length += len(data)
        if self.file is None and self.length > IN_MEMORY:
            self.file = NamedTemporaryFile(dir=self.folder(), delete=False)  # noqa: SIM115
            self.file.write(self.memory)
            self.memory.clear()
        (self.memory.extend if self.file is None else self.file.write)(data)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    @property
    def options(self) -> dict[bytes, bytes]:
        return parse_options_header(self.headers.get("content-disposition", ""))[1]

    def blob(self) -> Blob:
        """Return the content of this part, which is closed."""
        if self.file is None:
            return of_bytes(bytes(self.memory))
        return of_file(Path(self.file.name), self.length, self.digest.hexdigest())


class Upload:
    """A multipart body, of whatever subtype. `folder` gives the place for large parts.

    What is wrong with it is said in `problem`, in the end; nothing is raised.
    """

    def __init__(self, content_type: str, folder: Callable[[], Path]) -> None:
        self.folder = folder
        self.parts: list[Part] = []
        self.name = self.value = ""
        self.problem = "The body is no multipart form"
        kind, options = parse_options_header(content_type)
        callbacks: Any = {
            "on_part_begin": lambda: self.parts.append(Part(self.folder)),
            "on_header_field": self.on_name,
            "on_header_value": self.on_value,
            "on_header_end": self.on_header,
            "on_part_data": self.on_data,
            "on_part_end": lambda: self.parts[-1].close(),
            "on_end": self.on_end,
        }
        is_form = kind.startswith(b"multipart/") and b"boundary" in options
        self.parser = MultipartParser(options[b"boundary"], callbacks) if is_form else None

    def on_name(self, data: bytes, start: int, end: int) -> None:
        self.name += data[start:end].decode("latin-1").lower()

    def on_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end].decode("latin-1")

    def on_header(self) -> None:
        self.parts[-1].headers[self.name] = self.value
        self.name = self.value = ""

    def on_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].write(data[start:end])

    def on_end(self) -> None:
        self.problem = ""

    def write(self, block: bytes) -> None:
        """Take some more of the body."""
        if self.parser is None:
            return
        try:
            self.parser.write(block)
        except FormParserError as error:
            self.parser = None
            self.problem = f"The body is no multipart form: {error}"

    def close(self) -> None:
        """Close what an upload that broke off left open."""
        for part in self.parts:
            part.close()

    def part(self, name: str) -> Part | None:
        """Return the part of this form field."""
        return next((p for p in self.parts if p.options.get(b"name") == name.encode()), None)

    @property
    def data(self) -> bytes:
        """The text in the field `data`, or nothing."""
        part = self.part("data")
        return b"" if part is None else bytes(part.memory)

    @property
    def file_name(self) -> str:
        """The name that came with the file, or nothing."""
        part = self.part("file")
        return part.options.get(b"filename", b"").decode("utf-8", "replace") if part else ""
