"""Optimised images for Flask."""

from __future__ import annotations

from optidash_integrations.flask.extension import Optidash

__all__ = ["Optidash"]
