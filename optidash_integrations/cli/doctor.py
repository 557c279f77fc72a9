"""Checks of an installation: what is found, and what to do where it is not well.

A check is a function of a `Case` that returns a `Finding`, or None where there is nothing to check.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from importlib.util import find_spec

import click

from optidash_integrations import __version__, settings
from optidash_integrations.cli import doctor_api, doctor_cache
from optidash_integrations.cli.files import printable
from optidash_integrations.cli.findings import FAILED, Case, Finding, failed, ok, warning
from optidash_integrations.cli.places import Place
from optidash_integrations.cli.trial import made_here, read_here
from optidash_integrations.errors import OptidashError, ProcessorMissingError
from optidash_integrations.formats import BY_NAME
from optidash_integrations.processors import EngineProcessor
from optidash_integrations.settings import FLASK, NOT_SETTINGS, PREFIX, SPECS

Check = Callable[[Case], Finding | None]
Named = tuple[str, Finding]

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}

INSTALL = 'pip install "optidash-integrations[engine]"'
ENCODERS = (
    f"{INSTALL}: its libvips has all of them; a libvips of your own needs libwebp and, for AVIF, "
    "libheif with an AV1 encoder and decoder"
)


def examined(
    place: Place, environ: Mapping[str, str], *, is_offline: bool = False
) -> Iterator[Named]:
    """Yield what each check has found, by its name, in order."""
    known = {name: value for name, value in environ.items() if is_known(name)}
    wrong = place.problems(known)
    yield "version", of_version()
    yield "settings", of_settings(place, known, wrong)
    unknown = of_unknown_names(environ)
    if unknown:
        yield "environment", unknown
    if wrong:
        # A key must not go to an API that was not meant.
        yield "other checks", warning("they were left out", "set that right, and run this again")
        return
    with closing(Case(place.settings(known), is_offline)) as case:
        yield from checked(case)


def checked(case: Case) -> Iterator[Named]:
    """Yield what the checks find that need settings; one that fails itself is a finding too."""
    for name, check in CHECKS.items():
        try:
            found = check(case)
        except Exception as error:  # noqa: BLE001  the other checks go on
            found = failed(
                f"{type(error).__name__}: {error}", "this check itself failed; report it"
            )
        if found:
            yield name, found


# Settings


def is_known(name: str) -> bool:
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() in SPECS


def of_version() -> Finding:
    """Tell what runs here."""
    return ok(
        f"optidash-integrations {__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}"
    )


def of_settings(place: Place, known: Mapping[str, str], wrong: Sequence[str]) -> Finding:
    """Tell which settings a site and the environment give, and all that is wrong with them."""
    if wrong:
        return failed("; ".join(wrong), f"correct them in {place.name}")
    given = [place.spelling.shown(name) for name in sorted(own_names(place))]
    told = [f"from {place.name}: {', '.join(given)}"] if given else []
    told += [f"from the environment: {', '.join(sorted(known))}"] if known else []
    return ok("; ".join(told) or "none set, so all are the defaults")


def own_names(place: Place) -> set[str]:
    """Return the names of the settings that a site gives itself."""
    return {name for name in SPECS if place.spelling.written(name) in place.values}


def of_unknown_names(environ: Mapping[str, str]) -> Finding | None:
    """Tell of names in the environment that look like settings and are none."""
    spelled = [FLASK.written(name) for name in SPECS]
    unknown = [
        settings.unknown(name, FLASK, spelled)
        for name in sorted(environ)
        if name.startswith(PREFIX) and not is_known(name) and name not in NOT_SETTINGS
    ]
    return warning("; ".join(unknown), "correct or remove them") if unknown else None


# What does the work


def of_processor(case: Case) -> Finding:
    """Tell which processor is chosen, and why."""
    chosen = case.chosen
    if isinstance(chosen, ProcessorMissingError):
        return failed(f"{chosen}, {why(case)}", f"{INSTALL}, or set OPTIDASH_API_KEY for the API")
    if isinstance(chosen, OptidashError):
        return failed(str(chosen), "set OPTIDASH_PROCESSOR to auto, api, engine or a dotted path")
    if isinstance(chosen, Exception):
        said = f"{type(chosen).__name__}: {chosen}"
        return failed(f"it can't be made: {said}, {why(case)}", "correct it, or choose another")
    if case.api:
        return ok(f"the API, {why(case)}")
    if type(chosen) is EngineProcessor:
        return ok(f"the embedded engine, {why(case)}")
    return ok(f"{type(chosen).__name__}, {why(case)}")


def why(case: Case) -> str:
    name, api_key, api_url = case.settings.processor, case.settings.api_key, case.settings.api_url
    if name != "auto":
        return f"because OPTIDASH_PROCESSOR is {name}"
    if api_key or api_url:
        return f"because OPTIDASH_API_{'KEY' if api_key else 'URL'} is set"
    return "because neither OPTIDASH_API_KEY nor OPTIDASH_API_URL is set"


def of_libvips(case: Case) -> Finding | None:
    """Write and read a small picture in each format, where the embedded engine does the work."""
    if not isinstance(case.chosen, EngineProcessor):
        return None
    engine = EngineProcessor()
    try:
        reads, writes = read_here(engine), made_here(engine)
    except ProcessorMissingError as error:
        return failed(f"pyvips is there, and libvips is not: {error.__cause__ or error}", INSTALL)
    told = f"libvips {engine.revision.rpartition('-')[2]} reads {listed(reads)}; writes"
    wanted = {"jpg", "png", "gif", "webp", *case.settings.formats}
    # What can't be written here can't be tried; but for TIFF, of which there is a sample.
    missing = (wanted - writes) | ((engine.reads - reads) & {*writes, "tiff"})
    if not missing:
        return ok(f"{told} {listed(writes)}")
    what = f"{told} {listed(writes)}; not {listed(missing)}"
    if missing & {"jpg", "png"}:
        return failed(what, ENCODERS)
    return warning(what, ENCODERS)


def of_headers(case: Case) -> Finding | None:
    """Tell what reads the headers of images that go to the API."""
    if case.api is None:
        return None
    advice = 'pip install "optidash-integrations[api]"'
    if find_spec("pyvips") is not None:
        try:
            reads = read_here(EngineProcessor())
        except ProcessorMissingError as error:
            said = error.__cause__ or error
            return failed(
                f"pyvips is there, and libvips is not: {said}", f"{INSTALL}, or no pyvips"
            )
        return ok(f"libvips reads those of {listed(reads)}")
    if find_spec("PIL") is None:
        return failed("neither pyvips nor Pillow is there to read headers of images", advice)
    return ok(f"Pillow {installed_version('pillow')} reads them")


def installed_version(name: str) -> str:
    try:
        return installed(name)
    except PackageNotFoundError:
        return "(version unknown)"


def listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(BY_NAME[name].label for name in sorted(names)) or "nothing"


CHECKS: Mapping[str, Check] = {
    "processor": of_processor,
    "libvips": of_libvips,
    "headers": of_headers,
    **doctor_api.CHECKS,
    **doctor_cache.CHECKS,
}


# What is told


def is_well(findings: Sequence[Named]) -> bool:
    """Say whether no check failed."""
    return all(finding.mark != FAILED for _, finding in findings)


def as_document(findings: Sequence[Named]) -> dict[str, object]:
    """Return findings as JSON has them."""
    return {
        "ok": is_well(findings),
        "findings": [{"check": name, **asdict(finding)} for name, finding in findings],
    }


def show(name: str, finding: Finding) -> None:
    """Print a finding: a line with its mark, and one with what to do."""
    mark = click.style(f"{finding.mark:<8}", fg=COLOURS[finding.mark])
    click.echo(f"{mark} {name:<14} {printable(finding.what)}")
    if finding.advice:
        click.echo(f"{'':<8} {'':<14} → {printable(finding.advice)}")
