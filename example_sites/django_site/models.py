"""A photo, with its size in columns of its own: pages are built without opening its file."""

from __future__ import annotations

from django.db import models


class Photo(models.Model):
    """One photo of the gallery."""

    image = models.ImageField(upload_to="uploads/", width_field="width", height_field="height")
    width = models.PositiveIntegerField(editable=False, default=0)
    height = models.PositiveIntegerField(editable=False, default=0)
    title = models.CharField(max_length=200)
    alt = models.CharField(max_length=500, blank=True)
    credit = models.CharField(max_length=200, blank=True)
    is_sample = models.BooleanField(default=False)
    added = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("is_sample", "-added", "pk")

    def __str__(self) -> str:
        return self.title

    @property
    def bytes(self) -> int:
        """Size of the stored file."""
        return self.image.size
