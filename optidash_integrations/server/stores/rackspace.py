"""Rackspace Cloud Files, which is OpenStack's Swift, through apache-libcloud."""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

from libcloud.common.exceptions import BaseHTTPError
from libcloud.common.types import InvalidCredsError, LibcloudError
from libcloud.storage.base import Container
from libcloud.storage.drivers.cloudfiles import CloudFilesStorageDriver
from libcloud.storage.types import ContainerDoesNotExistError

from optidash_integrations.server.stores.store import Facts, refused, unavailable
from optidash_integrations.server.stores.targets import Target

SECONDS = 30
CONTENT_TYPE = "Content-Type"


class CloudFilesContainer:
    """A container that libcloud speaks to, one result after another: it is not for threads."""

    def __init__(self, target: Target, driver: Any) -> None:
        self.target = target
        self.driver = driver
        self.lock = threading.Lock()

    def put(self, key: str, file: Path, facts: Facts) -> str:
        """Store a file; raises as `Bucket.put` says."""
        try:
            with self.lock:
                return self.send(key, file, facts)
        except InvalidCredsError as error:
            raise refused("InvalidCredentials") from error
        except ContainerDoesNotExistError as error:
            raise refused("NoSuchContainer") from error
        except BaseHTTPError as error:
            raise (refused(None) if 400 <= error.code < 500 else unavailable()) from error
        except (LibcloudError, OSError) as error:  # what requests raises is one of the latter
            raise unavailable() from error

    def send(self, key: str, file: Path, facts: Facts) -> str:
        headers = {name: value for name, value in facts.headers.items() if name != CONTENT_TYPE}
        extra = {"content_type": facts.headers[CONTENT_TYPE], "meta_data": dict(facts.metadata)}
        container = Container(self.target.bucket, {}, self.driver)
        try:
            self.driver.upload_object(str(file), container, key, extra=extra, headers=headers)
        except LibcloudError:  # which does not tell that there is no such container
            self.driver.get_container(container.name)
            raise
        return self.target.url_of(key, self.driver.connection.get_endpoint().rstrip("/"))

    def close(self) -> None:
        session = self.driver.connection.connection.session
        if session is not None:
            session.close()


def open_bucket(target: Target, allowed: Collection[str] | None) -> CloudFilesContainer:
    """Open a container; its address is Rackspace's or a connector's, so it needs no guard."""
    values = target.values
    driver = CloudFilesStorageDriver(  # type: ignore[no-untyped-call]
        values["user"],
        values["key"],
        region=values["region"],
        ex_force_auth_url=target.endpoint,
        timeout=SECONDS,
    )
    return CloudFilesContainer(target, driver)
