"""A Django app with a model that holds an image."""

from __future__ import annotations
