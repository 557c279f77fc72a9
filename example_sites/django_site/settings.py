"""Settings of the Django gallery: the few that a small site needs, and ours."""

from __future__ import annotations

import os
from pathlib import Path

from example_sites.catalogue import HERE

DATA = Path(os.environ.get("EXAMPLE_DATA", HERE / "var" / "django"))
DATA.mkdir(parents=True, exist_ok=True)

SECRET_KEY = "for trying things out only"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "example_sites.django_site.urls"
WSGI_APPLICATION = "example_sites.django_site.wsgi.application"
USE_TZ = True

INSTALLED_APPS = [
    "optidash_integrations.django",
    "example_sites.django_site",
]
MIDDLEWARE = [
    "optidash_integrations.django.middleware.OptidashMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
STORAGES = {
    "default": {"BACKEND": "optidash_integrations.django.storage.OptidashStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [HERE / "shared" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA / "gallery.sqlite3"}}

MEDIA_URL = "/media/"
MEDIA_ROOT = DATA / "media"
STATIC_URL = "/static/"
STATIC_ROOT = HERE / "shared" / "static"
