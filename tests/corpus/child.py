"""A process that images are opened in, so that a crash or a hang ends it and not the tests."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

from tests.background import Background

HANG = 20.0
MEMORY = 3 * 1024**3


def serve(pipe: Any) -> None:
    """Process the images whose paths come, and tell what came of each."""
    from optidash_integrations import formats
    from optidash_integrations.errors import ImageError
    from optidash_integrations.limits import Limits
    from optidash_integrations.operations import Operations
    from optidash_integrations.processors import EngineProcessor

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    engine = EngineProcessor()
    operations = Operations.from_dict({"resize": {"width": 320}})
    while path := pipe.recv():
        try:
            variant = engine.process(Path(path), operations, formats.JPEG, Limits())
            pipe.send(("decoded", f"{variant.width} x {variant.height}"))
        except ImageError as error:
            pipe.send(("refused", f"{type(error).__name__}: {error}"))
        except Exception as error:  # noqa: BLE001  the test says what it was
            pipe.send(("failed", repr(error)))


class Child(Background):
    """Starts the process at first use, and another after a crash or a hang."""

    def __init__(self) -> None:
        super().__init__(serve)

    def outcome(self, path: Path) -> tuple[str, str]:
        """Return `decoded`, `refused`, `failed`, `crashed` or `hung`, and the details."""
        if self.process is None:
            self.start()
        self.pipe.send(str(path))
        try:
            if self.pipe.poll(HANG):
                return self.pipe.recv()
            result = ("hung", f"no answer in {HANG} s")
        except EOFError:
            self.process.join(5)
            result = ("crashed", f"exit code {self.process.exitcode}")
        self.stop()
        return result
