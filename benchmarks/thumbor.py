"""thumbor, an image server in Python, in a virtual environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

FOLDER = Path(__file__).resolve().parent.parent / "build" / "thumbor"
"""Where thumbor is installed, at first use."""

PLACE = "BENCHMARK_THUMBOR"
"""Environment: a virtual environment that has thumbor already."""

# It fetches photos over HTTP, as it does by default and as ours come in, and keeps nothing, so that
# each request is the same work.
CONFIGURATION = """
LOADER = "thumbor.loaders.http_loader"
STORAGE = "thumbor.storages.no_storage"
ALLOW_UNSAFE_URL = True
MAX_AGE = 0
"""


class ThumborMissing(Exception):
    """thumbor can't be had on this machine; the message says why."""


@dataclass(frozen=True)
class Thumbor:
    """A thumbor of some processes; `home` is its environment."""

    home: Path
    configuration: Path
    processes: int
    label: str = "thumbor"

    def command(self, port: int) -> list[str]:
        """Return the command line of its server."""
        program = str(self.home / "bin" / "thumbor")
        given = f"--ip=127.0.0.1 --port={port} --processes={self.processes} --log-level=error"
        return [program, *given.split(), f"--conf={self.configuration}"]


@dataclass(frozen=True)
class Photos:
    """A plain HTTP server of a folder of photos."""

    folder: Path
    label: str = "photos"

    def command(self, port: int) -> list[str]:
        """Return the command line of the server."""
        given = f"{port} --bind=127.0.0.1 --directory={self.folder}"
        return [sys.executable, "-m", "http.server", *given.split()]


def prepared(folder: Path, processes: int) -> Thumbor:
    """Return a thumbor whose configuration is in a folder, installed where it has to be.

    Raises ThumborMissing.
    """
    home = Path(os.environ.get(PLACE, FOLDER))
    install(home)
    configuration = folder / "thumbor.conf"
    configuration.write_text(CONFIGURATION)
    return Thumbor(home, configuration, processes)


def install(home: Path) -> None:
    if (home / "bin" / "thumbor").exists():
        return
    home.parent.mkdir(parents=True, exist_ok=True)
    commands = (
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin" / "pip"), "install", "--quiet", "thumbor"],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ThumborMissing(f"{Path(command[0]).name} can't install thumbor")


def path_of(photo: str, width: int, image_format: str, quality: int) -> str:
    """Return where thumbor gives the photo at an address."""
    filters = f"filters:quality({quality}):format({image_format})"
    return f"/unsafe/{width}x0/{filters}/{quote(photo)}"
