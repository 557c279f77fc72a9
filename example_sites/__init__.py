"""Three small galleries, in Starlette, Flask and Django, and a demonstration that measures them."""

from __future__ import annotations
