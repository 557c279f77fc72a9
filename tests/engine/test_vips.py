"""How libvips is set up."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from optidash_integrations import formats
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.processors import EngineProcessor

from .pictures import encoded, quarters


def test_libvips_never_calls_python_to_log(caplog: pytest.LogCaptureFixture) -> None:
    """A garbage collection in such a call can end the process: GLib forbids logging in logging."""
    with caplog.at_level(logging.DEBUG, "pyvips"):
        data = encoded(quarters(400, 300), "jpeg")
        small = Operations.from_dict({"resize": {"width": 40}})
        EngineProcessor().process(data, small, formats.WEBP, Limits())
    assert not [each for each in caplog.records if each.getMessage().startswith("VIPS: ")]


LOGGED = """
import faulthandler, io, logging, sys
from concurrent.futures import ThreadPoolExecutor
faulthandler.dump_traceback_later(60, exit=True)
for _ in range(2):
    logging.getLogger().addHandler(logging.StreamHandler(io.StringIO()))
logging.getLogger().setLevel(logging.DEBUG)
for level in sys.argv[2:]:
    logging.getLogger("pyvips").setLevel(level)
from optidash_integrations.engine.vips import pyvips
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda _: pyvips.Image.black(9, 9).invert().avg(), range(int(sys.argv[1]))))
print(*(len(handler.stream.getvalue()) for handler in logging.getLogger().handlers))
"""


def test_threads_that_log_everything_to_two_handlers_do_not_wait_for_each_other() -> None:
    """pyvips logs while its messages are written, each handler's lock held by another thread."""
    assert logged(500) == "0 0\n"


def test_who_asks_for_what_pyvips_logs_gets_it() -> None:
    first, second = map(int, logged(1, "DEBUG").split())
    assert first == second > 0


def logged(times: int, *level: str) -> str:
    """Return how much two handlers got of work in threads, with this level set for pyvips."""
    command = [sys.executable, "-c", LOGGED, str(times), *level]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=90).stdout
