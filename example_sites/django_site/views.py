"""The gallery's page and its upload form."""

from __future__ import annotations

from pathlib import PurePath

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from example_sites.catalogue import CARD_SIZES
from example_sites.django_site.forms import PhotoForm
from example_sites.django_site.models import Photo


def gallery(request: HttpRequest, error: str = "", status: int = 200) -> HttpResponse:
    """Show all photos, uploads first."""
    photos = list(Photo.objects.all())
    context = {
        "framework": "Django",
        "pictures": photos,
        "hero": next((photo for photo in photos if photo.is_sample), None),
        "card_sizes": CARD_SIZES,
        "error": error,
    }
    return render(request, "django.html", context, status=status)


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Answer `/`."""
    return gallery(request)


@require_POST
def upload(request: HttpRequest) -> HttpResponse:
    """Store the photo of the form; the storage optimises it."""
    form = PhotoForm(request.POST, request.FILES)
    if not form.is_valid():
        return gallery(request, " ".join(map(str, form.errors["photo"])), 422)
    photo = form.cleaned_data["photo"]
    title = PurePath(photo.name).stem.replace("_", " ")[:200]
    Photo.objects.create(image=photo, title=title, alt=title, credit="uploaded")
    return redirect("/#photos")
