"""The Django applications of the house; labels are prefixed because the package names are short."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created

from wiring.catalogue import keep_log


class AccessApp(AppConfig):
    name = "access"
    label = "daicho_access"
    default_auto_field = "django.db.models.BigAutoField"


class RecordsApp(AppConfig):
    name = "records"
    label = "daicho_records"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        connection_created.connect(keep_log)


class WebApp(AppConfig):
    name = "web"
    label = "daicho_web"
