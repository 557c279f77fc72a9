from __future__ import annotations

from django.db import models


class Photo(models.Model):
    """A photo, with its size in columns of its own."""

    image = models.ImageField(upload_to="photos", width_field="width", height_field="height")
    width = models.PositiveIntegerField(null=True)
    height = models.PositiveIntegerField(null=True)

    def __str__(self) -> str:
        return self.image.name
