"""Optimised images for any ASGI application."""

from __future__ import annotations

from optidash_integrations.asgi.endpoint import ImageApp
from optidash_integrations.asgi.extension import Optidash
from optidash_integrations.asgi.middleware import OptidashMiddleware

__all__ = ["ImageApp", "Optidash", "OptidashMiddleware"]
