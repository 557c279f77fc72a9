"""A worker process of `optidash serve`: the app, made from what the first process has left."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from optidash_integrations.engine.heap import keep_memory
from optidash_integrations.server import logs
from optidash_integrations.server.app import create
from optidash_integrations.server.configuration import VARIABLE, Configuration
from optidash_integrations.server.connectors import read
from optidash_integrations.server.database import Database
from optidash_integrations.server.metrics import forget_the_dead
from optidash_integrations.server.stores.store import Stores
from optidash_integrations.server.webhooks import Webhooks

if TYPE_CHECKING:
    from starlette.applications import Starlette

SELDOM = (20_000, 20, 20)


def app() -> Starlette:
    """Return the app of this process."""
    configuration = Configuration.from_json(os.environ[VARIABLE])
    logs.set_up(configuration.log_format)
    forget_the_dead()
    database = Database(configuration.database)
    keep_memory()
    spare_garbage_collection()
    return create(
        configuration,
        storing=stores_of(configuration),
        jobs=Webhooks(
            database, configuration.data_dir / "jobs", allowed=configuration.allowed_hosts
        ),
        database=database,
    )


def spare_garbage_collection() -> None:
    """Let the collector pass over what lives as long as the process, and come less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*SELDOM)


def stores_of(configuration: Configuration) -> Stores:
    """Return where results can be stored; their libraries are imported when one is used."""
    path = configuration.connectors
    return Stores(read(path) if path else None, allowed=configuration.allowed_hosts)
