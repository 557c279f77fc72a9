"""Optimised images for Django: add `optidash_integrations.django` to `INSTALLED_APPS`."""

from __future__ import annotations
