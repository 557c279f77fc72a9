"""Structured logs: a line of JSON each, without keys, addresses of sources, or what was sent."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

FACTS = "optidash"
"""The attribute of a log record that holds facts by name."""


class JsonFormatter(logging.Formatter):
    """Writes a record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        document = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FACTS, {}),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


class TextFormatter(logging.Formatter):
    """Writes a record as a line for people; facts come after it as `name=value`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts = getattr(record, FACTS, {})
        told = "".join(f" {name}={value}" for name, value in facts.items())
        return super().formatMessage(record) + told


def set_up(kind: str, level: int = logging.INFO) -> None:
    """Write this process's log to its standard error, as `json` or `text`."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if kind == "json" else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("optidash_integrations").setLevel(level)
    logging.getLogger("uvicorn").setLevel(level)
