"""The Django applications of the house; labels are prefixed because the package names are short."""

from django.apps import AppConfig


class AccessApp(AppConfig):
    name = "access"
    label = "daicho_access"
    default_auto_field = "django.db.models.BigAutoField"


class RecordsApp(AppConfig):
    name = "records"
    label = "daicho_records"
    default_auto_field = "django.db.models.BigAutoField"


class WebApp(AppConfig):
    name = "web"
    label = "daicho_web"
