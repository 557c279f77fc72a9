from __future__ import annotations

SECRET_KEY = "test"
INSTALLED_APPS: list[str] = []
USE_TZ = True
