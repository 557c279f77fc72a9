from __future__ import annotations

from django.urls import include, path, re_path

from tests.sites.django_site import answer

urlpatterns = [
    path("img/", include("optidash_integrations.django.urls")),
    re_path(r"^", answer),
]
