"""What the upload form takes."""

from __future__ import annotations

from django import forms


class PhotoForm(forms.Form):
    """One image file."""

    photo = forms.ImageField()
