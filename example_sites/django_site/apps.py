"""The gallery as a Django app."""

from __future__ import annotations

from django.apps import AppConfig


class GalleryConfig(AppConfig):
    """One model: a photo."""

    name = "example_sites.django_site"
    label = "gallery"
    default_auto_field = "django.db.models.BigAutoField"
