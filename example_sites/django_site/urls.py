"""Addresses of the Django gallery."""

from __future__ import annotations

from django.conf import settings
from django.urls import include, path
from django.views.static import serve

from example_sites.django_site import views

urlpatterns = [
    path("", views.home),
    path("upload", views.upload),
    path("img/", include("optidash_integrations.django.urls")),
    # On a real site a web server or WhiteNoise serves these two.
    path("media/<path:path>", serve, {"document_root": settings.MEDIA_ROOT}),
    path("static/<path:path>", serve, {"document_root": settings.STATIC_ROOT}),
]
