"""`{% load optidash %}`: `optidash_url`, `optidash_srcset`, `optidash_img`, `optidash_picture`."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.safestring import SafeString, mark_safe

from optidash_integrations.django.images import IMAGES

register = template.Library()


@register.simple_tag
def optidash_url(image: Any, **options: Any) -> str:
    """Return an image's address: `{% optidash_url photo.image w=640 %}`."""
    return IMAGES.url(image, **options)


@register.simple_tag
def optidash_srcset(image: Any, **options: Any) -> str:
    """Return the value of a `srcset` attribute."""
    return IMAGES.srcset(image, **options)


@register.simple_tag
def optidash_img(image: Any, **attributes: Any) -> SafeString:
    """Return an `<img>` element: `{% optidash_img photo.image alt="A cat" %}`."""
    return mark_safe(IMAGES.img(image, **attributes))  # noqa: S308  escaped where it is made


@register.simple_tag
def optidash_picture(image: Any, **attributes: Any) -> SafeString:
    """Return a `<picture>` element: `{% optidash_picture photo.image alt="" sizes="50vw" %}`."""
    return mark_safe(IMAGES.picture(image, **attributes))  # noqa: S308  escaped where it is made
