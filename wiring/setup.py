"""Django, told which installation this process serves. Before it, modules with models cannot be imported."""

import os

import django

from core.settings import Settings


def set_up(settings: Settings) -> None:
    """Configure Django for the installation; a process serves one installation only."""
    os.environ["DAICHO_DATA"] = str(settings.data)
    os.environ["DAICHO_KEYS"] = str(settings.keys)
    os.environ["DJANGO_SETTINGS_MODULE"] = "wiring.django_settings"
    django.setup()
