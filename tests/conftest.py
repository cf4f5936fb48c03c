"""Fixtures that more than one folder uses: installations made by the real command, and a house in memory.

Each installation is made once a session; a test that changes or destroys one takes a copy (`tests.installed.copied`).
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps

from core.settings import load
from tests.installed import BATCH, Installation, done, made

if not apps.ready:
    # Modules with models cannot be imported before. The folder is given up with the process; tests point the catalogue elsewhere.
    from wiring.setup import set_up

    set_up(load(Path(tempfile.mkdtemp(prefix="daicho-tests-")) / "data", environment={}))
    for _name in ("DAICHO_DATA", "DAICHO_KEYS"):
        os.environ.pop(_name, None)

from tests.house import House, empty_catalogue, use_catalogue

pytest_plugins = ["tests.servers.fixtures"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Where CI requires everything, what a machine makes us leave out is a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("DAICHO_REQUIRE_TOOLS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no process is left alone with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Thousands of tests stay until the end: nobody need look through them for what could go."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in plain words what was left out and why."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []) if report.longrepr}
    for reason in sorted(reasons):
        terminalreporter.write_line(f"left out: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """What `daicho demo` makes of the samples. Read it; take a copy to change it."""
    data = tmp_path_factory.mktemp("demo") / "data"
    return Installation(data, tuple(done("demo", "--no-serve", data=data)))


@pytest.fixture(scope="session")
def demo_real(new_engines: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The same on real engines. Servers cannot be copied: who changes it leaves the records and batches of other tests alone."""
    folder = tmp_path_factory.mktemp("demo-real")
    data = folder / "data"
    return Installation(data, tuple(done("demo", "--no-serve", "--engines", new_engines(folder), data=data)))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Two ledgers with a handful of sheets: three of a form, one page without. `outsider` is a person without any post."""
    data = tmp_path_factory.mktemp("small") / "data"
    made(data, ["dv-support", "whole-pages"], [("outsider", ""), ("desk", "dv-desk"), ("maker", "contractor")])
    sheets = [BATCH / f"{number:02}-dv-support.jpg" for number in (3, 5, 7)]
    rows = done("ingest", *sheets, "--ledger", "dv-support", "--no-text", data=data)
    page = BATCH / "real-pages" / "digidepo_2531162_0024.jpg"
    rows += done("ingest", page, "--ledger", "whole-pages", "--no-text", "--jobs", "1", data=data)
    return Installation(data, tuple(rows))


@pytest.fixture(scope="session")
def blank_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated catalogue without a row."""
    return empty_catalogue(tmp_path_factory.mktemp("catalogue") / "blank.sqlite3")


@pytest.fixture
def house(tmp_path: Path, blank_catalogue: Path) -> Iterator[House]:
    """A founded house on memory adapters, with a catalogue of its own."""
    shutil.copyfile(blank_catalogue, tmp_path / "catalogue.sqlite3")
    with use_catalogue(tmp_path / "catalogue.sqlite3"):
        yield House.founded()
