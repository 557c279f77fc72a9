from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register


class OptidashConfig(AppConfig):
    """The Django app."""

    name = "optidash_integrations.django"
    label = "optidash"
    verbose_name = "Optidash"

    def ready(self) -> None:
        """Register the checks."""
        from optidash_integrations.django import checks

        register(checks.check_settings)
        register(checks.check_middleware)
        register(checks.check_storages, Tags.files)
