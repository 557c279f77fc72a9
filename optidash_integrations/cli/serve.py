"""`optidash serve`: the self-hosted image API."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optidash_integrations.cli.keys import DATABASE_VARIABLE

if TYPE_CHECKING:
    from optidash_integrations.server.configuration import Configuration

NO_SERVER = 'optidash serve needs the extra "server": pip install "optidash-integrations[server]"'
NEEDED = frozenset(
    {"limits", "prometheus_client", "python_multipart", "sqlalchemy", "starlette", "uvicorn"}
)
WORKER = "optidash_integrations.server.worker:app"
PROTOCOL = "optidash_integrations.server.protocol:Protocol"
BACKLOG = 2048
KEEP_ALIVE_SECONDS = 15
GRACE_SECONDS = 10

OPEN = (
    "\n  !!  --insecure: this server asks for no key. Whoever can run a program on this machine\n"
    "  !!  can use it. It answers this machine alone, and is not for other people's images.\n"
)
NO_KEYS = "There are no keys yet, so nobody can use it: optidash keys create NAME makes one."
PLAIN = (
    "Plain HTTP from other machines is refused: give --tls-cert and --tls-key, or --trusted-proxy "
    "with the address of a proxy that speaks TLS."
)

a_file = click.Path(exists=True, dir_okay=False, path_type=Path)
a_folder = click.Path(exists=True, file_okay=False, path_type=Path)
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

OPTIONS: tuple[Decorator, ...] = (
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535)),
    click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64)),
    click.option(
        "--engines",
        default=0,
        type=click.IntRange(0, 256),
        help="Engine processes of each worker.  [default: the cores, shared among workers]",
    ),
    click.option("--queue", default=64, show_default=True, type=click.IntRange(0, 10_000)),
    click.option("--tls-cert", type=a_file, help="Certificate (PEM)."),
    click.option("--tls-key", type=a_file, help="Its key (PEM)."),
    click.option(
        "--trusted-proxy",
        "trusted_proxies",
        multiple=True,
        metavar="ADDRESS",
        help="Believe what a proxy at this address or network says of its clients. Repeatable.",
    ),
    click.option(
        "--insecure", is_flag=True, help="Ask for no key; for tests, on this machine alone."
    ),
    click.option(
        "--database",
        default="",
        envvar=DATABASE_VARIABLE,
        show_envvar=True,
        metavar="URL",
        help="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.  [default: a file of yours]",
    ),
    click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where results live.  [default: a folder of yours]",
    ),
    click.option(
        "--public-url", metavar="URL", help="Where clients reach it, for the addresses of results."
    ),
    click.option(
        "--rate-limit", default="100000/15 minutes", show_default=True, help="Of keys without one."
    ),
    click.option("--redis-url", metavar="URL", help="Count requests of several hosts there."),
    click.option("--watermarks", type=a_folder, help="Folder of watermarks."),
    click.option("--fonts", type=a_folder, help="Folder of fonts."),
    click.option("--face-model", type=a_file, help="ONNX file that finds faces."),
    click.option("--super-resolution-model", type=a_file, help="ONNX file that enlarges."),
    click.option("--svg", is_flag=True, help="Read drawings too."),
    click.option("--max-input-bytes", default=52_428_800, type=click.IntRange(1)),
    click.option("--max-pixels", default=50_000_000, type=click.IntRange(1)),
    click.option("--max-frames", default=200, type=click.IntRange(1)),
    click.option("--max-width", default=16_383, type=click.IntRange(1, 65_535)),
    click.option("--max-height", default=16_383, type=click.IntRange(1, 65_535)),
    click.option("--max-seconds", default=30.0, type=click.FloatRange(0.1, 3600)),
    click.option(
        "--temp-bytes",
        default=10 * 1024**3,
        type=click.IntRange(1),
        help="What all results may have; past it the oldest go before their time.",
    ),
    click.option(
        "--allow-host",
        "allowed_hosts",
        multiple=True,
        metavar="HOST",
        help="Fetch from this host though it is not on the public internet. Repeatable.",
    ),
    click.option("--connectors", type=a_file, help="TOML file of external stores."),
    click.option("--log-format", type=click.Choice(("text", "json")), default="text"),
)


def with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, in their order."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


@click.command()
@with_options
def serve(
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    trusted_proxies: Sequence[str],
    data_dir: Path | None,
    **values: Any,
) -> None:
    """Serve the image API on your own machine, with the engine of this package.

    Clients of the hosted API use it by another address: OPTIDASH_API_URL, or api_url. Keys are made
    by optidash keys create. Ctrl-C or SIGTERM ends it when what is running is done.
    """
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    configuration = configured(data_dir, values)
    prepare(configuration)
    is_local = configuration.insecure or configuration.host in ("127.0.0.1", "::1", "localhost")
    if configuration.insecure:
        click.echo(OPEN, err=True)
    if not (is_local or tls_cert or trusted_proxies):
        click.echo(PLAIN, err=True)
    options: dict[str, Any] = {"proxy_headers": bool(trusted_proxies)}
    if trusted_proxies:
        options["forwarded_allow_ips"] = list(trusted_proxies)
    if tls_cert and tls_key:
        options |= {"ssl_certfile": str(tls_cert), "ssl_keyfile": str(tls_key)}
    run(configuration, port, options)


def configured(data_dir: Path | None, values: dict[str, Any]) -> Configuration:
    """Return the configuration that options make. Raises SettingsError for what is wrong in it."""
    if not all(map(find_spec, NEEDED)):
        raise click.ClickException(NO_SERVER)
    from optidash_integrations.server.configuration import Configuration

    if data_dir is not None:
        values["data_dir"] = data_dir
    values["allowed_hosts"] = tuple(values["allowed_hosts"])
    return Configuration(**values)


def prepare(configuration: Configuration) -> None:
    """Find out now what would fail later: the database, the folder. Say where keys are missing."""
    from optidash_integrations.server.database import Database
    from optidash_integrations.server.keys import Keys
    from optidash_integrations.server.limits import KeyLimits
    from optidash_integrations.server.usage import Usage

    KeyLimits(configuration.rate_limit)
    database = Database(configuration.database)
    try:
        Usage(database)
        found = Keys(database).all()
    finally:
        database.close()
    try:
        configuration.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"{configuration.data_dir}: {error.strerror}") from error
    if not os.access(configuration.data_dir, os.W_OK | os.X_OK):
        raise click.ClickException(f"{configuration.data_dir} can't be written")
    if not found and not configuration.insecure:
        click.echo(NO_KEYS, err=True)


def run(configuration: Configuration, port: int, options: dict[str, Any]) -> None:
    """Serve until a signal comes."""
    import uvicorn

    from optidash_integrations.server import logs
    from optidash_integrations.server.configuration import VARIABLE

    os.environ[VARIABLE] = configuration.to_json()
    logs.set_up(configuration.log_format)
    signal.signal(signal.SIGTERM, ended)  # uvicorn raises it once more when all is done
    with shared_numbers(configuration.workers):
        uvicorn.run(
            WORKER,
            factory=True,
            http=PROTOCOL,
            ws="none",
            lifespan="on",
            host=configuration.host,
            port=port,
            workers=configuration.workers,
            backlog=BACKLOG,
            log_config=None,
            access_log=False,  # addresses may hold keys
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=round(configuration.max_seconds) + GRACE_SECONDS,
            **options,
        )


def ended(*_: object) -> None:
    """End the process as one that has done its work."""
    raise SystemExit(0)


@contextmanager
def shared_numbers(workers: int) -> Iterator[None]:
    """Let several worker processes count together for Prometheus."""
    from optidash_integrations.server.configuration import METRICS_VARIABLE

    if workers == 1:
        os.environ.pop(METRICS_VARIABLE, None)
        yield
        return
    with tempfile.TemporaryDirectory(prefix="optidash-metrics-") as folder:
        os.environ[METRICS_VARIABLE] = folder
        yield
