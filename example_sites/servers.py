"""Starts the example sites as child processes, each with folders of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
START_SECONDS = 30
STOP_SECONDS = 5

UVICORN = ("uvicorn", "--host", HOST, "--log-level", "warning", "--port")
GUNICORN = (
    "gunicorn",
    "--threads=4",  # as many as may wait for first variants: the gallery's first visitor gets them
    "--log-level=warning",
    "--no-control-socket",
    "--bind",
)
MANAGE = "example_sites.django_site.manage"


class NotStarted(Exception):
    """A site did not come up; the message holds the end of what it printed."""


@dataclass(frozen=True)
class Site:
    """How to start one example site: commands that prepare it, and its server's command."""

    name: str
    port: int
    server: tuple[str, ...]
    prepare: tuple[tuple[str, ...], ...] = ()

    def command(self, port: int) -> list[str]:
        """Return the server's command line, listening on `port`."""
        *options, last = self.server
        where = f"{HOST}:{port}" if self.server[0] == "gunicorn" else str(port)
        return [*options, where, last]


SITES = (
    Site("ASGI", 8001, (*UVICORN, "example_sites.asgi_site:app")),
    Site("Flask", 8002, (*GUNICORN, "example_sites.flask_site:app")),
    Site(
        "Django",
        8003,
        (*GUNICORN, "example_sites.django_site.wsgi:application"),
        ((MANAGE, "migrate", "--verbosity=0"), (MANAGE, "addphotos")),
    ),
)


@contextmanager
def running(
    site: Site, data: Path, photos: Sequence[Path], settings: Mapping[str, str]
) -> Iterator[str]:
    """Run a site on the given photos and yield its address, such as `http://127.0.0.1:8001`.

    `data` is made and holds its media, database, cache and log; `settings` are settings of ours
    as environment variables without their prefix. The site has ended when the block is left.
    Raises `NotStarted`.
    """
    media = data / "media" / "photos"
    media.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        shutil.copyfile(photo, media / photo.name)
    environment = surroundings(data, settings)
    log = data / "log"
    with log.open("wb") as output:
        for command in site.prepare:
            run = [sys.executable, "-m", *command]
            done = subprocess.run(
                run, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False
            )
            if done.returncode:
                raise NotStarted(told(site, log))
        port = free_port(site.port)
        process = subprocess.Popen(
            [sys.executable, "-m", *site.command(port)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us; we end the whole group
        )
    try:
        if not answers(process, port):
            raise NotStarted(told(site, log))
        yield f"http://{HOST}:{port}"
    finally:
        end(process)


def surroundings(data: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a site, without settings that happen to be set here."""
    foreign = ("OPTIDASH_", "DJANGO_SETTINGS_MODULE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    ours = {"CACHE_DIR": str(data / "cache"), "PROCESSOR": "engine", **settings}
    kept |= {f"OPTIDASH_{name}": value for name, value in ours.items()}
    return kept | {"EXAMPLE_DATA": str(data), "PYTHONUNBUFFERED": "1"}


def free_port(wanted: int) -> int:
    """Return `wanted` if nothing listens there, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise NotStarted("There is no free port.")


def answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the site answers; say whether it does.

    A connection is not enough: gunicorn listens before its workers have loaded the site.
    """
    end_of_patience = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end_of_patience:
        try:
            httpx.get(f"http://{HOST}:{port}/static/gallery.css", trust_env=False, timeout=5)
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return True
    return False


def told(site: Site, log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-15:]
    return "\n".join([f"The {site.name} site did not start.", *lines])


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server and its workers: asked first, killed when it takes too long."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
