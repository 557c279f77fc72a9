"""Puts files that lie in the media folder into the gallery."""

from __future__ import annotations

from django.conf import settings
from django.core.management.base import BaseCommand

from example_sites.catalogue import pictures
from example_sites.django_site.models import Photo


class Command(BaseCommand):
    """Add a row for each file of `media/photos/` that has none."""

    help = "Adds the photos in media/photos/ to the gallery."

    def handle(self, *args: object, **options: object) -> None:
        """Add them; the files stay as they are, as on a site that had them before us."""
        for found in reversed(pictures(settings.MEDIA_ROOT)):
            if found.name.startswith("photos/"):
                Photo.objects.get_or_create(
                    image=found.name,
                    defaults={
                        "title": found.title,
                        "alt": found.alt,
                        "credit": found.credit,
                        "is_sample": True,
                    },
                )
