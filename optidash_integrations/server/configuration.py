"""What a server is told when it starts; each of its processes gets the same."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from optidash_integrations.errors import SettingsError
from optidash_integrations.limits import MIB, Limits
from optidash_integrations.server.authentication import is_loopback
from optidash_integrations.server.database import default_url, path_of
from optidash_integrations.server.limits import DEFAULT_RATE

VARIABLE = "_OPTIDASH_SERVER"
"""Where a worker process finds its configuration."""

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus-client looks for a folder that processes count in; it reads it when imported.
The processes of a server have one of their own, for as long as it runs.
"""

RATES = "rates"
GIB = 1024 * MIB
DAY = 86_400.0
LONGEST_SIDE = 16_383
PATHS = ("data_dir", "watermarks", "fonts", "face_model", "super_resolution_model", "connectors")

OPEN_TO_ALL = (
    "insecure lets everybody in without a key, so it is for this machine alone: "
    "host takes 127.0.0.1 or ::1 with it, not {host}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """How a server does its work.

    `data_dir` holds results, uploads that are worked on, and notes; it may be shared by processes
    of one host. `public_url` is where clients reach the server (None: as they say themselves in
    `Host`). `engines` is the number of engine processes of each worker process (0: the host's
    cores, shared among workers), `queue` how many requests wait for them at the most. `rate_limit`
    holds for keys that have none of their own, counted in `redis_url`, else by all workers as one.
    Results live for `temp_seconds`, or until those that are newer fill `temp_bytes`.
    `allowed_hosts` may be fetched from although they are not on the public internet. A fetch takes
    at most `fetch_seconds`, a body `body_seconds` beside its length. Sizes are in bytes and pixels.
    `log_format` is text or json.
    """

    database: str = ""
    data_dir: Path = Path()
    public_url: str | None = None
    insecure: bool = False
    host: str = "127.0.0.1"
    workers: int = 1
    engines: int = 0
    queue: int = 64
    rate_limit: str = DEFAULT_RATE
    redis_url: str | None = None
    temp_seconds: float = DAY
    temp_bytes: int = 10 * GIB
    max_input_bytes: int = 50 * MIB
    max_pixels: int = 50_000_000
    max_frames: int = 200
    max_width: int = LONGEST_SIDE
    max_height: int = LONGEST_SIDE
    max_seconds: float = 30.0
    fetch_seconds: float = 30.0
    body_seconds: float = 30.0
    allowed_hosts: tuple[str, ...] = ()
    watermarks: Path | None = None
    fonts: Path | None = None
    face_model: Path | None = None
    super_resolution_model: Path | None = None
    svg: bool = False
    connectors: Path | None = None
    log_format: str = "text"

    def __post_init__(self) -> None:
        """Fill in what was not given. Raises SettingsError where `insecure` would be for others."""
        if self.insecure and not (self.host == "localhost" or is_loopback(self.host)):
            raise SettingsError([OPEN_TO_ALL.format(host=self.host)])
        if not self.database:
            object.__setattr__(self, "database", default_url())
        if self.data_dir == Path():
            object.__setattr__(self, "data_dir", default_folder())
        for name in PATHS:
            path = getattr(self, name)
            if path is not None:
                object.__setattr__(self, name, Path(path).absolute())

    @property
    def limits(self) -> Limits:
        """The bounds that the engine works within."""
        return Limits(
            max_input_bytes=self.max_input_bytes,
            max_pixels=self.max_pixels,
            max_frames=self.max_frames,
            max_width=self.max_width,
            max_height=self.max_height,
            svg=self.svg,
            max_seconds=self.max_seconds,
        )

    @property
    def engine_count(self) -> int:
        """How many engine processes each worker process has."""
        return self.engines or max(1, cores() // self.workers)

    @property
    def rates(self) -> Path | None:
        """The file in which several worker processes count requests; None for a single one."""
        folder = os.environ.get(METRICS_VARIABLE)
        return Path(folder) / RATES if folder and self.workers > 1 else None

    def to_json(self) -> str:
        """Return it as text, for another process."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Configuration:
        """Read what `to_json` has written."""
        found: dict[str, Any] = json.loads(text)
        known = {each.name for each in fields(cls)}
        values = {name: value for name, value in found.items() if name in known}
        for name in PATHS:
            values[name] = None if values.get(name) is None else Path(values[name])
        values["allowed_hosts"] = tuple(values["allowed_hosts"])
        return cls(**values)


def default_folder() -> Path:
    """Return the folder for a server's files when nothing names one: beside its database."""
    from sqlalchemy import make_url

    return path_of(make_url(default_url())).parent / "server"


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
