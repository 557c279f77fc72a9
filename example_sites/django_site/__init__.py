"""A gallery in Django."""

from __future__ import annotations
