"""The `optidash` command. click and rich come with the extras `engine` and `api`: they may be
missing.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper

NEEDED = frozenset({"click", "rich"})
MISSING = (
    "the optidash command needs click and rich: "
    'pip install "optidash-integrations[engine]" or "optidash-integrations[api]"'
)

FAILED = 1
INTERRUPTED = 130  # what shells say of a program that Ctrl-C has ended


def main() -> None:
    """Run the `optidash` command with the process's arguments, and end the process."""
    forgive_encodings()
    try:
        from optidash_integrations.cli.commands import optidash

        optidash(prog_name="optidash")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        print(MISSING, file=sys.stderr)
        sys.exit(FAILED)
    except SystemExit as ending:
        if ending.code == INTERRUPTED:
            leave_at_once()
        raise
    except KeyboardInterrupt:
        leave_at_once()


def forgive_encodings() -> None:
    """Print `?` for what the terminal's encoding lacks: a name must not end the work on others."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def leave_at_once() -> None:
    """End the process without waiting for encoders, which can't be stopped."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(INTERRUPTED)
