"""Settings: declared once, read in one pass from any mapping, with the environment as fallback."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from optidash_integrations.addresses import without_secrets
from optidash_integrations.errors import SettingsError, shown
from optidash_integrations.formats import BY_NAME, Format
from optidash_integrations.limits import MIB, Limits
from optidash_integrations.parsing import (
    Parser,
    access,
    address,
    api_key,
    byte_size,
    choice,
    format_names,
    gone_status,
    image_status,
    keys,
    optional,
    origins,
    path,
    prefixes,
    rate,
    referers,
    remote_hosts,
    seconds,
    send_file,
    shared_cache,
    text,
    whole,
    widths,
    yes_or_no,
)
from optidash_integrations.sendfile import SendFile

logger = logging.getLogger(__name__)

PREFIX = "OPTIDASH_"

# Names in the environment that are not settings of an application.
NOT_SETTINGS = frozenset({"OPTIDASH_CORPUS", "OPTIDASH_DATABASE_URL"})

DEFAULT_WIDTHS = (320, 384, 448, 512, 576, 672, 768, 896, 1024, 1152, 1280, 1536, 1920, 2560)

API_WORKERS = 16

VERSIONED = "public, max-age=31536000, immutable"
MUTABLE = "public, max-age=3600, stale-while-revalidate=86400"

T = TypeVar("T")


def default_cache_dir() -> Path:
    """Return the folder that variants are kept in when no setting names one."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:  # a service account without a home
        folder = Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
    return folder / "optidash-integrations"


def setting(default: T, parser: Parser, *, secret: bool = False) -> T:
    return field(default=default, repr=not secret, metadata={"parser": parser})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a site can choose; sizes in bytes and pixels, times in seconds.

    Keyword arguments may be spelled as in the environment (`max_input_bytes="50 MiB"`). Raises
    `SettingsError` with all problems at once. The names and their meaning are in the README.
    """

    api_key: str | None = setting(None, optional(api_key()), secret=True)
    api_url: str | None = setting(None, optional(address()))
    processor: str = setting("auto", text("auto, api, engine or a dotted path"))
    formats: tuple[str, ...] = setting(("avif", "webp"), format_names("avif", "webp"))
    compression: str = setting("medium", choice("lossless", "low", "medium", "high"))
    widths: tuple[int, ...] = setting(DEFAULT_WIDTHS, widths())
    transforms: str = setting("bounded", choice("none", "allowlist", "bounded", "any"))
    variants_per_source: int = setting(64, whole(1))
    signing_keys: tuple[bytes, ...] = setting((), keys(), secret=True)
    access: Any = setting("", access())
    hide_refused: bool = setting(False, yes_or_no())
    referers: tuple[str, ...] = setting((), referers())
    expired_status: int = setting(403, gone_status())
    clock_skew: float = setting(0.0, seconds())
    rate_limit: str | None = setting(None, optional(rate()))
    cors_origins: tuple[str, ...] = setting((), origins())
    remote_hosts: tuple[str, ...] = setting((), remote_hosts())
    follow_links: bool = setting(False, yes_or_no())
    base_url: str | None = setting(None, optional(text("an address")))
    directory: Path | None = setting(None, optional(path()))
    paths: tuple[str, ...] = setting((), prefixes())
    public_paths: tuple[str, ...] = setting((), prefixes())
    fresh_for: float = setting(60.0, seconds())
    deadline: float | None = setting(5.0, optional(seconds()))
    workers: int | None = setting(None, optional(whole(1)))
    queue: int = setting(64, whole(1))
    max_input_bytes: int = setting(50 * MIB, byte_size())
    max_pixels: int = setting(50_000_000, whole(1))
    max_frames: int = setting(200, whole(1))
    max_width: int = setting(4096, whole(1, 16_383))
    max_height: int = setting(4096, whole(1, 16_383))
    cache_dir: Path | None = setting(default_cache_dir(), optional(path()))
    cache_bytes: int = setting(1024 * MIB, byte_size())
    memory_bytes: int = setting(64 * MIB, byte_size())
    cache_url: str | None = setting(None, optional(shared_cache()), secret=True)
    cache_control: str | None = setting(None, optional(text("a Cache-Control value")))
    avif_budget: float | None = setting(2.0, optional(seconds()))
    read_only: bool = setting(False, yes_or_no())
    send_file: SendFile | None = setting(None, optional(send_file()))
    on_error: str = setting("original", choice("original", "raise"))
    fallback_image: Path | None = setting(None, optional(path()))
    fallback_status: int = setting(200, image_status())
    max_seconds: float = setting(30.0, seconds(above=0.0))
    svg: bool = setting(False, yes_or_no())
    watermarks: Path | None = setting(None, optional(path()))
    fonts: Path | None = setting(None, optional(path()))
    face_model: Path | None = setting(None, optional(path()))
    super_resolution_model: Path | None = setting(None, optional(path()))
    timeout: float = setting(30.0, seconds(above=0.0))
    retries: int = setting(3, whole(0, 10))
    monthly_budget: int | None = setting(None, optional(whole(0)))

    def __post_init__(self) -> None:
        problems = []
        for spec in fields(self):
            try:
                value = spec.metadata["parser"].parse(getattr(self, spec.name))
            except ValueError:
                problems.append(complaint(spec.name, spec, getattr(self, spec.name)))
            else:
                object.__setattr__(self, spec.name, value)
        if problems:
            raise SettingsError(problems)

    @cached_property
    def limits(self) -> Limits:
        """The bounds on sources and variants."""
        names = {spec.name for spec in fields(Limits)} & {spec.name for spec in fields(self)}
        return Limits(**{name: getattr(self, name) for name in names})

    @cached_property
    def threads(self) -> int:
        """How many images are worked on at a time: `workers`, else as fits the processor."""
        if self.workers is not None:
            return self.workers
        uses_api = self.processor == "api" or (
            self.processor == "auto" and bool(self.api_key or self.api_url)
        )
        return API_WORKERS if uses_api else os.cpu_count() or 1

    @cached_property
    def offered(self) -> tuple[Format, ...]:
        """The formats that negotiation offers, best first."""
        return tuple(BY_NAME[name] for name in self.formats)


SPECS = {spec.name: spec for spec in fields(Settings)}


def complaint(name: str, spec: Any, value: object) -> str:
    """Return one sentence: the setting, what it takes and what it got; never a secret."""
    got = shown(printable(value)) if spec.repr else "the value given"
    return f"{name} takes {spec.metadata['parser'].takes}, not {got}"


def printable(value: object) -> object:
    """Return a value for a message: an address without the password that may be in it."""
    return without_secrets(value) if isinstance(value, str) and "://" in value else value


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a framework spells the name of a setting: `max_width` as `OPTIDASH["MAX_WIDTH"]`."""

    written: Callable[[str], str] = str
    shown: Callable[[str], str] = str


KEYWORDS = Spelling()
FLASK = Spelling(lambda name: PREFIX + name.upper(), lambda name: PREFIX + name.upper())
DJANGO = Spelling(str.upper, lambda name: f'OPTIDASH["{name.upper()}"]')


def problems(
    values: Mapping[str, object],
    *,
    spelling: Spelling = KEYWORDS,
    environ: Mapping[str, str] | None = None,
) -> list[str]:
    """Return a sentence for each setting that is wrong or unknown; empty where all is well."""
    return list(inspected(values, spelling, environ)[1])


def read(
    values: Mapping[str, object],
    *,
    spelling: Spelling = KEYWORDS,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings that a mapping and, for names it lacks, the environment give.

    Raises `SettingsError` with all problems at once.
    """
    found, wrong = inspected(values, spelling, environ)
    if wrong:
        raise SettingsError(wrong)
    return Settings(**found)


def inspected(
    values: Mapping[str, object], spelling: Spelling, environ: Mapping[str, str] | None
) -> tuple[dict[str, Any], list[str]]:
    by_spelling = {spelling.written(name): name for name in SPECS}
    given = {by_spelling[key]: value for key, value in values.items() if key in by_spelling}
    wrong = [unknown(key, spelling, by_spelling) for key in values if key not in by_spelling]
    labels = {name: spelling.shown(name) for name in given}
    for name, default in from_environment(os.environ if environ is None else environ):
        if name not in given:
            given[name], labels[name] = default, f"{PREFIX}{name.upper()} in the environment"
    found: dict[str, Any] = {}
    for name, value in given.items():
        try:
            found[name] = SPECS[name].metadata["parser"].parse(value)
        except ValueError:
            wrong.append(complaint(labels[name], SPECS[name], value))
    return found, wrong


def unknown(key: str, spelling: Spelling, known: Iterable[str]) -> str:
    by_lower = {name.lower(): name for name in known}
    nearest = get_close_matches(str(key).lower(), by_lower, n=1)
    hint = f"; did you mean {by_lower[nearest[0]]}?" if nearest else ""
    return f"{shown(key)} is not a setting{hint}"


def from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, value in environ.items():
        if not key.startswith(PREFIX) or key in NOT_SETTINGS:
            continue
        name = key.removeprefix(PREFIX).lower()
        if name in SPECS:
            yield name, value
        else:
            logger.warning("%s in the environment is not a setting", key)
