"""A process keeps the memory that it will need again."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from optidash_integrations.server.memory import keep_memory
if sys.argv[1] == "kept" and not keep_memory():
    print("unknown")
    raise SystemExit
def work():
    blocks = [bytes(256 * 1024) for _ in range(40)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> str:
    command = [sys.executable, "-c", CODE, how]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_blocks_of_images_are_fetched_from_the_kernel_once() -> None:
    kept = faults("kept")
    if kept == "unknown":
        pytest.skip("this C library is none that can be told")
    assert int(kept) * 10 < int(faults("as ever"))
