"""Optimised images for Django, Flask and ASGI.

The names below are imported at their first use: importing this package imports no framework, no
image library and no HTTP library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optidash_integrations.client import AsyncOptidashClient, OptidashClient
    from optidash_integrations.documents import Account, SubKey, Webhook
    from optidash_integrations.errors import (
        ApiError,
        BudgetExceededError,
        ImageError,
        OptidashError,
        RateLimitError,
        SettingsError,
    )
    from optidash_integrations.operations import Operations
    from optidash_integrations.pacing import RateLimit
    from optidash_integrations.settings import Settings
    from optidash_integrations.variants import ImageInfo, Metadata, Variant

__version__ = "0.1.0"

HOMES = {
    "Account": "documents",
    "ApiError": "errors",
    "AsyncOptidashClient": "client",
    "BudgetExceededError": "errors",
    "ImageError": "errors",
    "ImageInfo": "variants",
    "Metadata": "variants",
    "OptidashClient": "client",
    "OptidashError": "errors",
    "Operations": "operations",
    "RateLimit": "pacing",
    "RateLimitError": "errors",
    "Settings": "settings",
    "SettingsError": "errors",
    "SubKey": "documents",
    "Variant": "variants",
    "Webhook": "documents",
}

__all__ = [
    "Account",
    "ApiError",
    "AsyncOptidashClient",
    "BudgetExceededError",
    "ImageError",
    "ImageInfo",
    "Metadata",
    "Operations",
    "OptidashClient",
    "OptidashError",
    "RateLimit",
    "RateLimitError",
    "Settings",
    "SettingsError",
    "SubKey",
    "Variant",
    "Webhook",
    "__version__",
]


def __getattr__(name: str) -> object:
    home = HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
