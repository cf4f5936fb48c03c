"""A store and its keys on a real disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import durable
from storage.filesystem import create_store
from storage.keys import create_keys


@pytest.fixture(autouse=True)
def _syncs_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed sync ends a process for good; here it ends a test."""
    monkeypatch.setattr(durable, "_failed", False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    create_store(tmp_path / "store", "s-1")
    return tmp_path / "store"


@pytest.fixture
def key_folder(tmp_path: Path) -> Path:
    create_keys(tmp_path / "keys", "s-1")
    return tmp_path / "keys"
