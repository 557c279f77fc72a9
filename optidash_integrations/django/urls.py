"""`path("img/", include("optidash_integrations.django.urls"))`."""

from __future__ import annotations

from django.urls import path

from optidash_integrations.django.views import image
from optidash_integrations.reception import REMOTE_NAME

app_name = "optidash"

urlpatterns = [
    path("remote", image, {"alias": "default", "name": REMOTE_NAME}),
    path("<str:alias>/<path:name>", image, name="image"),
]
