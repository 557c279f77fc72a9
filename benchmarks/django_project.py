"""One Django project, settings and addresses, with the middleware that is measured first."""

from __future__ import annotations

import os

from django.urls import path
from django.views.static import serve

from benchmarks.material import Material

material = Material.here()

SECRET_KEY = "benchmarks"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = __name__
INSTALLED_APPS = ["optidash_integrations.django"]
MIDDLEWARE = [
    os.environ["BENCHMARK_MIDDLEWARE"],
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = material.sent

OPTIDASH = {
    name.upper(): value for name, value in material.settings(public_paths=["/static/"]).items()
}

urlpatterns = [path("static/<path:path>", serve, {"document_root": material.sources})]
