"""Django's settings, from ours. Read once, when `wiring.setup` sets Django up."""

import os
import secrets

from wiring.catalogue import django_database
from wiring.setup import served

_settings = served()
_secret = _settings.data / "web.secret"

SECRET_KEY = _secret.read_text("ascii").strip() if _secret.is_file() else secrets.token_urlsafe(50)
DEBUG = False
ALLOWED_HOSTS = [
    "127.0.0.1",
    "localhost",
    "[::1]",
    _settings.host,
    *filter(None, os.environ.get("DAICHO_HOSTS", "").split(",")),
]
INSTALLED_APPS = ["django.contrib.sessions", "wiring.apps.AccessApp", "wiring.apps.RecordsApp", "wiring.apps.WebApp"]
DATABASES = {"default": django_database(_settings)}
SCRATCH = _settings.scratch
USE_TZ = True
TIME_ZONE = "Asia/Tokyo"
LANGUAGE_CODE = _settings.language
USE_I18N = False

ROOT_URLCONF = "web.urls"
MIDDLEWARE = [
    "web.middleware.RequestMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "web.middleware.HeadersMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "web.middleware.PersonMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["web.context.page"], "builtins": ["web.templatetags.words"]},
    }
]
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_AGE = 8 * 3600
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Strict"
CSRF_FAILURE_VIEW = "web.views.refused"
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2**21
FILE_UPLOAD_HANDLERS = ["web.uploads.Spool"]
LOGGING_CONFIG = None
