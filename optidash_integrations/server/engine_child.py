"""The process that the engine works in: `python -m optidash_integrations.server.engine_child`.

It reads jobs from a socket, one a line of JSON, and answers each with a line. Images go in through
shared memory or as files, and out as files, small ones through that memory as well. When the server
ends, however it ends, so does this.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

from optidash_integrations.engine.tools import Tools
from optidash_integrations.errors import OptidashError, ProcessorError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.processors import EngineProcessor
from optidash_integrations.server.temporary import moved, result_name
from optidash_integrations.variants import ImageInfo, Metadata

logger = logging.getLogger(__name__)

MARK_SECONDS = 10.0
"""A picture that operations name has to come in this time: the engine waits for it."""

FIELDS = tuple(field.name for field in fields(ImageInfo))
TOOL_PATHS = ("watermarks", "fonts", "face_model", "super_resolution_model")


def main() -> None:
    """Work until the server ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # who started it ends it
    give_way()
    setup: dict[str, Any] = json.loads(sys.argv[3])
    connection = socket.socket(fileno=int(sys.argv[1]))
    work = Work(setup, shared_memory(int(sys.argv[2])))
    with connection, connection.makefile("rb") as lines, connection.makefile("w") as answers:
        threading.Thread(target=watch, args=(connection.fileno(),), daemon=True).start()
        tell(answers, work.facts())
        with suppress(OSError, ValueError):
            for line in lines:
                tell(answers, work.answer(json.loads(line)))
    os._exit(0)


def watch(connection: int) -> None:
    """Wait for the server's end, which ends this process, whatever it is doing."""
    watched = select.poll()
    watched.register(connection, 0)  # that nobody is there any more is told in any case
    watched.poll()
    os._exit(0)


def tell(answers: IO[str], document: dict[str, Any]) -> None:
    try:
        answers.write(json.dumps(document) + "\n")
        answers.flush()
    except OSError:
        os._exit(0)


def give_way() -> None:
    """Be the first to go where the host has no memory left: one image is lost, not the server."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("900")


def shared_memory(number: int) -> mmap.mmap:
    """Return the memory that the server shares, by the number of its file."""
    try:
        return mmap.mmap(number, os.fstat(number).st_size)
    finally:
        os.close(number)


class Work:
    """The engine with what the server lends it."""

    def __init__(self, setup: dict[str, Any], shared: mmap.mmap) -> None:
        self.shared = shared
        self.limits = Limits(**setup["limits"])
        self.processor = EngineProcessor(tools_of(setup))

    def facts(self) -> dict[str, Any]:
        """Return what the server is told when this process is ready."""
        processor = self.processor
        return {
            "revision": processor.revision,
            "formats": sorted(processor.formats),
            "reads": sorted(processor.reads),
        }

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do a job; return what is known of the result, or the error."""
        try:
            return self.done(job)
        except OptidashError as error:
            return {"error": error_document(error)}
        except Exception as error:
            logger.exception("the engine failed")
            return {"error": error_document(ProcessorError(str(error)))}

    def done(self, job: dict[str, Any]) -> dict[str, Any]:
        operations = Operations.from_dict(job["operations"], limits=self.limits)
        variant = self.processor.process(self.source(job), operations, None, self.limits)
        result, content = Path(job["result"]), variant.content
        result.write_bytes(content)
        found = {"type": variant.content_type, **told(variant.metadata)}
        wanted = job.get("wanted", 0)
        if wanted and len(content) > min(wanted, len(self.shared)):
            return found
        if wanted:
            self.shared[: len(content)] = content
            found["length"] = len(content)
        if "home" in job:
            found["name"] = result_name(job["name"], variant.content_type)
            moved(result, Path(job["home"]), found["name"])
        return found

    def source(self, job: dict[str, Any]) -> bytes:
        if "length" in job:
            return self.shared[: job["length"]]
        return Path(job["source"]).read_bytes()


def told(metadata: Metadata) -> dict[str, Any]:
    found: dict[str, Any] = {
        "input": {name: getattr(metadata.input, name) for name in FIELDS},
        "output": {name: getattr(metadata.output, name) for name in FIELDS},
    }
    for name in ("faces", "palette"):
        value = getattr(metadata, name)
        if value is not None:
            found[name] = [dict(each) for each in value]
    if metadata.placeholder is not None:
        found["placeholder"] = metadata.placeholder
    if metadata.notes:
        found["notes"] = list(metadata.notes)
    return found


def error_document(error: OptidashError) -> dict[str, Any]:
    """Return an error for the server: what is the client's fault is said in detail."""
    status = error.public_status
    return {
        "status": status,
        "message": str(error) if 400 <= status < 500 else error.public,
        "detail": f"{type(error).__name__}: {error}",
    }


def tools_of(setup: dict[str, Any]) -> Tools:
    from optidash_integrations.server.fetching import Fetching

    limits = Limits(**setup["limits"])
    seconds = min(setup["fetch_seconds"], MARK_SECONDS)
    fetching = Fetching(setup["allowed_hosts"], seconds, limits.max_input_bytes)
    paths: dict[str, Any] = {
        name: Path(setup[name]) if setup[name] else None for name in TOOL_PATHS
    }
    return Tools(**paths, fetch=fetching.mark, svg=limits.svg)


if __name__ == "__main__":
    main()
