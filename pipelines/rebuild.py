"""Rebuilding and restoring: the store first, then the catalogue, then texts that were lost, then the index."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from core.errors import Conflict
from core.settings import FILE, TEMPLATE, Settings
from pipelines.ingest import Progress
from pipelines.texts import read_lost_texts
from records.indexing import feed
from records.rebuild import rebuild as fold_all
from storage.backup import RestoreReport
from storage.backup import restore as copy_back
from wiring.open import carry_credentials, hold, open_installation, opened, set_aside_catalogue


@dataclass(frozen=True)
class Rebuilt:
    """Journal segments folded, records indexed, lost texts read again, password hashes carried over."""

    segments: int
    records: int
    texts: int
    passwords: int


def rebuild(settings: Settings, progress: Progress = lambda step, done, total: None) -> Rebuilt:
    """Make catalogue and index again from store and keys. The old catalogue lies aside until the new one is whole."""
    _, keys = opened(settings)
    hold(settings, alone=True)
    keys.heal()
    shutil.rmtree(settings.index, ignore_errors=True)
    aside = set_aside_catalogue(settings)
    stores = open_installation(settings, fresh=True)
    segments = fold_all(stores, lambda done, total: progress("rebuild", done, total))
    passwords = carry_credentials(aside) if aside else 0
    texts = read_lost_texts(settings, stores, progress=progress)
    records = feed(stores)
    if aside:
        aside.unlink()
    return Rebuilt(segments, records, texts, passwords)


def restore(
    settings: Settings, source: Path, keys_source: Path | None, progress: Progress = lambda step, done, total: None
) -> tuple[RestoreReport, Rebuilt]:
    """Bring a backup back into empty folders, then rebuild.

    Raises:
        Conflict: (`restore.not_empty`) the data folder or the key folder holds something.
        NotReady, DigestMismatch, KeysMissing: the backup is unfinished, damaged, or not what it should be.
    """
    if settings.data.exists() and any(settings.data.iterdir()):
        raise Conflict(
            "データフォルダーが空ではありません。空のフォルダーを --data で指定してください。",
            "The data folder is not empty. Name an empty one with --data.",
            code="restore.not_empty",
        )
    report = copy_back(source, settings.store, settings.keys, keys_target=keys_source)
    settings.data.chmod(0o700)
    (settings.data / FILE).write_text(TEMPLATE.format(person=settings.person), "utf-8")
    return report, rebuild(settings, progress)
