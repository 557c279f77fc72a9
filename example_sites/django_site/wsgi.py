"""The Django gallery for a WSGI server: `gunicorn example_sites.django_site.wsgi`."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_sites.django_site.settings")
application = get_wsgi_application()
