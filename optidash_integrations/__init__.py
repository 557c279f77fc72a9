"""Optimised images for Django, Flask and ASGI.

The names below are imported at their first use: importing this package imports no framework, no
image library and no HTTP library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optidash_integrations.errors import ImageError, OptidashError, SettingsError
    from optidash_integrations.operations import Operations
    from optidash_integrations.settings import Settings
    from optidash_integrations.variants import Metadata, Variant

__version__ = "0.1.0"

HOMES = {
    "ImageError": "errors",
    "Metadata": "variants",
    "OptidashError": "errors",
    "Operations": "operations",
    "Settings": "settings",
    "SettingsError": "errors",
    "Variant": "variants",
}

__all__ = [
    "ImageError",
    "Metadata",
    "Operations",
    "OptidashError",
    "Settings",
    "SettingsError",
    "Variant",
    "__version__",
]


def __getattr__(name: str) -> object:
    home = HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
