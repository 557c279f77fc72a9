from __future__ import annotations

SECRET_KEY = "test"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["optidash_integrations.django", "tests.sites.gallery"]
MIDDLEWARE = ["optidash_integrations.django.middleware.OptidashMiddleware"]
ROOT_URLCONF = "tests.sites.django_urls"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_URL = "/media/"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STORAGES = {
    "default": {"BACKEND": "optidash_integrations.django.storage.OptidashStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
