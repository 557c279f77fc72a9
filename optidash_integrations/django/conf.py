"""Django's settings, read once and anew when a test changes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from optidash_integrations.service import Service, service_for
from optidash_integrations.settings import DJANGO, Settings, read
from optidash_integrations.urls import derived_key

SOURCES = frozenset({"OPTIDASH", "SECRET_KEY", "SECRET_KEY_FALLBACKS"})


def values() -> Mapping[str, object]:
    """Return the `OPTIDASH` setting."""
    given: Mapping[str, object] = getattr(django_settings, "OPTIDASH", {})
    return given


@lru_cache(maxsize=1)
def current() -> Settings:
    """Return the settings. Raises `SettingsError` with all that are wrong or unknown.

    Without `SIGNING_KEYS` addresses are signed with keys derived from Django's secret key.
    """
    settings = read(values(), spelling=DJANGO)
    if settings.signing_keys:
        return settings
    secrets = [django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS]
    return replace(settings, signing_keys=tuple(derived_key(s) for s in secrets if s))


@lru_cache(maxsize=1)
def service() -> Service:
    """Return the service behind all of this project."""
    return service_for(current())


def forget(*, setting: str, **_: Any) -> None:
    """Read the settings anew after a change."""
    if setting in SOURCES:
        current.cache_clear()
        service.cache_clear()


setting_changed.connect(forget)
