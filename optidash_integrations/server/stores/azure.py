"""Microsoft Azure Storage, through obstore."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError, GenericError
from obstore.store import AzureStore

from optidash_integrations.cache.objects import ForkedStoreError, check_fork
from optidash_integrations.server.stores.store import Facts, refused, unavailable
from optidash_integrations.server.stores.targets import Target

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CLIENT: ClientConfig = {"connect_timeout": "5s", "timeout": "60s"}
RETRY: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=30)}


class AzureContainer:
    """A container that obstore speaks to."""

    def __init__(self, target: Target, store: AzureStore) -> None:
        self.target = target
        self.store = store

    def put(self, key: str, file: Path, facts: Facts) -> str:
        """Store a file; raises as `Bucket.put` says."""
        attributes = {**facts.metadata, **facts.headers}
        try:
            check_fork()
            self.store.put(key, file, attributes=attributes, use_multipart=False)
        except (GenericError, ForkedStoreError) as error:
            raise unavailable() from error
        except (BaseError, ValueError, FileNotFoundError) as error:
            raise refused(type(error).__name__.removesuffix("Error")) from error
        except OSError as error:
            raise unavailable() from error
        return self.target.url_of(key)

    def close(self) -> None:
        """Do nothing: obstore closes its connections by itself."""


def open_bucket(target: Target, allowed: Collection[str] | None) -> AzureContainer:
    """Open a container; its address is Microsoft's or a connector's, so it needs no guard."""
    values = target.values
    client: ClientConfig = dict(CLIENT)  # type: ignore[assignment]
    if target.endpoint.startswith("http://"):
        client["allow_http"] = True
    try:
        store = AzureStore(
            target.bucket,
            account_name=values["account"],
            account_key=values["key"],
            endpoint=target.endpoint,
            client_options=client,
            retry_config=RETRY,
        )
    except (BaseError, OSError, ValueError) as error:  # a key that is not base64
        raise refused("InvalidKey") from error
    return AzureContainer(target, store)
