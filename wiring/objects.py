"""The object store alone, for workers that only read: needs no catalogue."""

from core.settings import Settings
from storage.filesystem import FilesystemObjects


def open_objects(settings: Settings) -> FilesystemObjects:
    """The installation's object store."""
    return FilesystemObjects(settings.store)
