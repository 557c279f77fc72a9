"""Processes of their own for tests of what several share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def outputs(code: str, *arguments: str, count: int = 1) -> list[str]:
    """Run Python code in `count` processes at once; return what each has printed.

    They begin together, as far as that goes: each waits for a line on its standard input.
    """
    begin = "import sys; print('ready', flush=True); sys.stdin.readline()\n"
    command = [sys.executable, "-W", "error", "-c", begin + code, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(count)]
    for child in children:
        child.stdout.readline()
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0] * count
    return [text.strip() for text in said]
