"""The process in which cases are tried, so that a crash ends it and not who asked for it."""

from __future__ import annotations

import faulthandler
import io
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.background import Background
from tests.fuzz.cases import Case
from tests.fuzz.documents import GOOD_ADDRESS

MEMORY = 4 * 1024**3
"""Address space in bytes; the rest of it is libraries and the stacks of threads."""

SLACK = 10.0
"""Seconds that an encoder at work may take beyond the limit."""

GOOD = ("made", "refused")

# Begins of frames that are coded in a way that Pillow does not read; lossless, they stay so.
ARITHMETIC = (b"\xff\xc9", b"\xff\xca")


class Outcome(NamedTuple):
    """What came of a case.

    `kind` is `made` or `refused`, else `failed` (an exception that blames nobody, or a file that is
    whole), `lied` (the result is not what was said), `late`, `hung` or `crashed`; `detail` says
    what and why. `peak` is the most memory that the process has had so far, in bytes.
    """

    kind: str
    detail: str
    seconds: float = 0.0
    peak: int = 0

    @property
    def is_good(self) -> bool:
        return self.kind in GOOD


def serve(pipe: Any, log: str) -> None:
    """Try the cases that come, and tell what came of each."""
    import warnings

    file = Path(log).open("ab", buffering=0)  # noqa: SIM115  open as long as the process lives
    os.dup2(file.fileno(), 2)
    faulthandler.enable(file)
    warnings.simplefilter("ignore")
    from optidash_integrations.engine import vips  # noqa: F401  before memory is limited

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="optidash-fuzz-") as folder:
        tools = tools_in(Path(folder))
        while (case := pipe.recv()) is not None:
            began, worked = time.monotonic(), time.process_time()
            kind, detail = tried(case, tools)
            seconds, worked = time.monotonic() - began, time.process_time() - worked
            if kind in GOOD and min(seconds, worked) > case.seconds + SLACK:
                kind = "late"  # by its own work, not because others were at work too
            pipe.send(Outcome(kind, detail, seconds, peak_bytes()))


def peak_bytes() -> int:
    """Return the most memory that this program has had; its parent's counts only elsewhere."""
    try:
        told = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()
        return int(told[0]) * 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tools_in(folder: Path) -> Any:
    """Return what a site lends: watermarks, and addresses with a good and a damaged picture."""
    from optidash_integrations.engine.tools import Tools
    from tests.engine.pictures import encoded, quarters

    good = encoded(quarters(60, 60, "RGBA"))
    (folder / "mark.png").write_bytes(good)
    (folder / "sheet.webp").write_bytes(encoded(quarters(300, 20, "L"), "webp"))

    def fetch(address: str) -> bytes:
        return good if address == GOOD_ADDRESS else good[:-40]

    return Tools(watermarks=folder, fetch=fetch, svg=True)


def tried(case: Case, tools: Any) -> tuple[str, str]:
    from optidash_integrations import formats
    from optidash_integrations.engine.process import process
    from optidash_integrations.errors import (
        AnimatedImageError,
        BrokenImageError,
        OptidashError,
        ProcessorError,
        TooSlowError,
        UnsupportedImageError,
    )
    from optidash_integrations.limits import Limits
    from optidash_integrations.operations import Operations

    try:
        limits = Limits(**case.limits)
        operations = Operations.from_dict(case.document, limits=limits)
        output = formats.BY_NAME[case.output] if case.output else None
        variant = process(case.data, operations, output, limits, tools)
    except OptidashError as error:
        name = type(error).__name__
        told = f"{name}: {error}"
        ours = isinstance(error, ProcessorError) and not isinstance(error, TooSlowError)
        wrong = case.is_good and isinstance(error, BrokenImageError | UnsupportedImageError)
        wrong = wrong and not isinstance(error, AnimatedImageError)
        return ("failed", told) if ours or wrong else ("refused", told)
    except BaseException as error:  # noqa: BLE001  whatever it is, it is a finding
        return "failed", repr(error)
    return looked_at(variant, limits, operations)


def looked_at(variant: Any, limits: Any, operations: Any) -> tuple[str, str]:
    """Say whether a result is the picture that it says it is."""
    from PIL import Image

    from optidash_integrations import formats

    told = f"{variant.content_type} of {variant.width} x {variant.height}"
    found = formats.detect(variant.content[: formats.HEAD_BYTES])
    if found is None or found.media_type != variant.content_type:
        return "lied", f"{told} is {found}"
    if variant.width > limits.max_width or variant.height > limits.max_height:
        return "lied", f"{told} is larger than allowed"
    try:
        with Image.open(io.BytesIO(variant.content)) as image:
            frames = getattr(image, "n_frames", 1)
            image.load()
            size = image.size
    except Exception as error:  # noqa: BLE001  whatever it is, it is a finding
        if found is formats.JPEG and any(marker in variant.content for marker in ARITHMETIC):
            return "made", found.label
        return "lied", f"{told} can't be read: {error!r}"
    if frames > 1 and operations.output and operations.output.animated is False:
        return "lied", f"{told} has {frames} frames"
    if size != (variant.width, variant.height) and not is_turned(variant, size):
        return "lied", f"{told} is {size}"
    return "made", found.label


def is_turned(variant: Any, size: tuple[int, int]) -> bool:
    """Say whether a result is a source that was left as it is, with its orientation."""
    return size == (variant.height, variant.width)


class Worker(Background):
    """Starts the process at first use, and another after a crash or a hang."""

    def __init__(self, log: Path) -> None:
        super().__init__(serve, str(log))

    def outcome(self, case: Case) -> Outcome:
        if self.process is None:
            self.start()
        began = time.monotonic()
        try:
            self.pipe.send(case)
            if self.pipe.poll(case.seconds + 3 * SLACK):
                found: Outcome = self.pipe.recv()
                return found
            result = Outcome("hung", "no answer", time.monotonic() - began)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join(5)
            result = Outcome("crashed", f"exit code {self.process.exitcode}")
        self.stop()
        return result
