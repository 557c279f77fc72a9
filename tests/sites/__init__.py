"""Four small sites with the same inner app: what holds for one has to hold for all."""

from __future__ import annotations

from tests.sites.base import Site

FRAMEWORKS = {
    "django": "django",
    "django_async": "django",
    "flask": "flask",
    "asgi": "starlette",
}


def site_class(kind: str) -> type[Site]:
    """Return the class of a kind of site; its framework is imported only now."""
    if kind == "flask":
        from tests.sites.flask_site import FlaskSite

        return FlaskSite
    if kind == "asgi":
        from tests.sites.asgi_site import AsgiSite

        return AsgiSite
    from tests.sites.django_site import DjangoAsyncSite, DjangoSite

    return DjangoAsyncSite if kind == "django_async" else DjangoSite
