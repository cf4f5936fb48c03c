"""What the faults share: one base, and what each operation makes of it when nobody harms it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from core.settings import engines_toml, load
from tests.faults import operations
from tests.faults.calls import Call
from tests.faults.operations import Operation, laid_out
from tests.installed import done
from tests.servers.running import S3Server


@dataclass(frozen=True)
class Unharmed:
    """An operation that nobody harmed: the base it ran on, its calls, and what it made."""

    base: Path
    calls: list[Call]
    outcome: Any


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base on folders. Take a copy (`laid_out`)."""
    folder = tmp_path_factory.mktemp("town")
    operations.town(folder)
    return folder


@pytest.fixture(scope="session")
def town_on_s3(town: Path, minio: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its store on MinIO, which all copies share."""
    folder = laid_out(town, tmp_path_factory.mktemp("town-on-s3") / "here")
    told = replace(load(folder / "data", environment={}), store_engine=minio.new(timeout=5))
    engines = folder / "engines.toml"
    engines.touch(0o600)
    engines.write_text(engines_toml(told), "utf-8")
    done("migrate", "--to", engines, data=folder / "data")
    return folder


@pytest.fixture(scope="session")
def unharmed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Operation], Unharmed]:
    """A function: operation -> its unharmed run; it runs once."""
    known: dict[str, Unharmed] = {}

    def of(operation: Operation) -> Unharmed:
        if operation.name not in known:
            base: Path = request.getfixturevalue(operation.base)
            here = operation.laid_out(base, tmp_path_factory.mktemp(operation.name) / "here")
            calls = operation.calls(here)
            known[operation.name] = Unharmed(base, calls, operation.outcome(here))
        return known[operation.name]

    return of
