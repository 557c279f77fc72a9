"""`path("img/", include("optidash_integrations.django.urls"))`."""

from __future__ import annotations

from django.urls import path

from optidash_integrations.django.views import image

app_name = "optidash"

urlpatterns = [path("<str:alias>/<path:name>", image, name="image")]
