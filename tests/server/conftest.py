"""What the server's tests share."""

from __future__ import annotations

from tests.server.databases import (
    database,
    database_url,
    postgresql_server,
    postgresql_url,
    sqlite_url,
)

__all__ = ["database", "database_url", "postgresql_server", "postgresql_url", "sqlite_url"]
