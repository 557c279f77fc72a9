"""What `manage.py check` says about this package's settings."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

from optidash_integrations.django import conf
from optidash_integrations.errors import OptidashError
from optidash_integrations.processors import choose
from optidash_integrations.settings import DJANGO, PREFIX, problems

MIDDLEWARE = "optidash_integrations.django.middleware.OptidashMiddleware"

# What our middleware has to see the result of: cookies, and bodies that must not be compressed yet.
BELOW = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
)


def check_settings(**_: Any) -> list[CheckMessage]:
    """Report each setting that is wrong or unknown."""
    given = conf.values()
    if not isinstance(given, dict):
        return [Error(f"OPTIDASH takes a dict, not {type(given).__name__}", id="optidash.E001")]
    found: list[CheckMessage] = [
        Error(sentence, id="optidash.E002") for sentence in problems(given, spelling=DJANGO)
    ]
    found.extend(
        Warning(
            f"{name} is not read from Django's settings",
            hint=f'Put it into OPTIDASH: {{"{name.removeprefix(PREFIX)}": …}}',
            id="optidash.W005",
        )
        for name in dir(settings)
        if name.startswith(PREFIX)
    )
    return found or unusable_processor()


def unusable_processor() -> list[CheckMessage]:
    """Report a processor that is not there, or does not start."""
    try:
        processor = choose(conf.current())
        _ = processor.formats, processor.reads
    except OptidashError as error:
        return [Error(str(error), id="optidash.E006")]
    return []


def check_middleware(**_: Any) -> list[CheckMessage]:
    """Report middleware that stands above ours and has to stand below it."""
    order = list(settings.MIDDLEWARE)
    if MIDDLEWARE not in order:
        return []
    above = [name for name in BELOW if name in order[: order.index(MIDDLEWARE)]]
    if not above:
        return []
    return [
        Error(
            f"OptidashMiddleware has to stand above {', '.join(above)} in MIDDLEWARE",
            hint="Put it first: it sees cookies and compressed bodies only of what is below it.",
            id="optidash.E003",
        )
    ]


def check_storages(**_: Any) -> list[CheckMessage]:
    """Report a `DEFAULT_FILE_STORAGE` that this Django does not read any more."""
    if django.VERSION < (5, 1) or not hasattr(settings, "DEFAULT_FILE_STORAGE"):
        return []
    return [
        Warning(
            "DEFAULT_FILE_STORAGE is ignored since Django 5.1",
            hint='Set STORAGES = {"default": {"BACKEND": "…"}, …} instead.',
            id="optidash.W004",
        )
    ]
