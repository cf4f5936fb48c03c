"""Django, told which installation this process serves. Before it, modules with models cannot be imported."""

from __future__ import annotations

import os

import django

from core import logs
from core.settings import Settings, load
from ingest.confine import end_with_parent

_served: Settings | None = None


def set_up(settings: Settings) -> None:
    """Configure Django for the installation; a process serves one installation only."""
    global _served
    _served = settings
    logs.begin(settings.log)
    os.environ["DJANGO_SETTINGS_MODULE"] = "wiring.django_settings"
    django.setup()


def set_up_child(settings: Settings) -> None:
    """As `set_up`, for a process that must end with the one that started it."""
    end_with_parent()
    set_up(settings)


def served() -> Settings:
    """The settings this process was set up with; those of the environment where a tool set Django up by itself."""
    return _served or load()
