"""The flows on a real Prefect: its server on PostgreSQL, the deployments of `prefect.yaml`, and a worker, each a process of its own."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from core.settings import engines_toml, load
from tests.installed import (
    BATCH,
    HOUSE,
    TEMPLATES,
    Installation,
    balances,
    content,
    copied,
    done,
    environment,
    made,
    run,
)
from tests.machine import need_server
from tests.servers import build
from tests.servers.proxy import Proxy
from tests.servers.running import HOST, PostgresServer, S3Server, Server, free_port

PREFECT = Path(sys.executable).with_name("prefect")

PAGES = 40
"""Pages of a batch that is disturbed: more than are sealed together."""

PARTS = 104
"""Pages of a batch that takes more than one task."""

PATIENCE = 180.0
"""Seconds that a flow run may take."""


@dataclass(frozen=True)
class Prefect:
    """A Prefect server to which the deployments were made, and a worker of its pool. `database`: of the server, for `pg_dump`."""

    api: str
    database: str
    worker: Server

    def ask(self, path: str, body: Any = None, method: str = "POST") -> Any:
        return asked(self.api, path, body, method)

    def start(self, deployment: str, **parameters: Any) -> str:
        """Ask for a run of a deployment; its id."""
        found = self.ask(f"/deployments/name/{deployment}/{deployment}", method="GET")
        return str(self.ask(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})["id"])

    def state(self, flow_run: str) -> tuple[str, str]:
        """Name of the state of a run, and its message."""
        state = self.ask(f"/flow_runs/{flow_run}", method="GET")["state"]
        return state["name"], state["message"] or ""

    def ended(self, flow_run: str) -> tuple[str, str]:
        """Wait for the run to end."""
        until(
            lambda: self.state(flow_run)[0] in ("Completed", "Failed", "Crashed", "Cancelled"),
            lambda: self.told(flow_run),
        )
        return self.state(flow_run)

    def tasks(self, flow_run: str) -> dict[str, tuple[str, int]]:
        """The run's tasks: name -> (state, how often it was begun)."""
        rows = self.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
        return {row["name"].rpartition("-")[0]: (row["state_name"], row["run_count"]) for row in rows}

    def settled_tasks(self, flow_run: str) -> dict[str, tuple[str, int]]:
        """The tasks of a run that has ended: the server learns of them a little later than of the run."""
        until(lambda: all(state in ("Completed", "Failed") for state, _ in self.tasks(flow_run).values()), dict)
        return self.tasks(flow_run)

    def artefacts(self, flow_run: str) -> list[dict[str, Any]]:
        return list(self.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run]}}}))

    def told(self, flow_run: str) -> Any:
        return self.state(flow_run), self.tasks(flow_run), self.worker.tail()


def asked(api: str, path: str, body: Any = None, method: str = "POST") -> Any:
    request = urllib.request.Request(
        api + path,
        json.dumps(body or {}).encode() if method == "POST" else None,
        {"Content-Type": "application/json"},
        method=method,
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return json.load(answer)


def until(true: Callable[[], bool], told: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait for something; fail with what is `told` when it takes too long."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, told()
        time.sleep(0.2)


@contextmanager
def prefect_on(postgres: PostgresServer, folder: Path) -> Iterator[Prefect]:
    """Server, pool, deployments and worker, with everything of theirs in `folder`.

    Raises:
        Missing: Prefect is not installed.
    """
    if not PREFECT.is_file():
        raise build.Missing("Prefect is not installed: make setup-flows")
    where = postgres.new()
    login = f"{where.owner}:{where.owner_password}@{where.host}:{where.port}/{where.database}"
    port = free_port()
    api = f"http://{HOST}:{port}/api"
    told = {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": api,
        "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{login}",
        # As docs/decisions/0014-prefect.md has them: nothing is told outside, and a restarted server knows its slots.
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "NO_PROXY": HOST,
    }

    def command(*words: str) -> None:
        ended = subprocess.run(
            [str(PREFECT), "--no-prompt", *words],
            env=environment(**told),
            cwd=HOUSE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    server = Server(
        "prefect-server",
        [str(PREFECT), "server", "start", "--host", HOST, "--port", str(port)],
        folder,
        port,
        lambda: bool(asked(api, "/health", method="GET")),
        environment=told,
    )
    worker = Server(
        "prefect-worker",
        [str(PREFECT), "worker", "start", "--pool", "daicho"],
        folder,
        0,
        lambda: any(each["status"] == "ONLINE" for each in asked(api, "/work_pools/daicho/workers/filter")),
        environment=told,
    )
    try:
        server.start()
        command("work-pool", "create", "daicho", "--type", "process")
        command("deploy", "--all")
        command("deploy", "--all")
        worker.start()
        yield Prefect(api, f"postgresql://{login}", worker)
    finally:
        # Their data go with the folder. Asked to end, a server that lost a worker would first wait for it.
        worker.kill()
        server.kill()


@pytest.fixture(scope="module")
def prefect(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    with need_server(prefect_on(postgres, tmp_path_factory.mktemp("prefect"))) as running:
        yield running


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An installation with its ledgers and no sheet, from which every ingest starts."""
    return made(tmp_path_factory.mktemp("base") / "data", ["dv-support", "whole-pages"])


def drawn(folder: Path, count: int) -> Path:
    """A folder of small pages without a form."""
    folder.mkdir()
    for number in range(count):
        page = np.full((330, 230), 255, np.uint8)
        cv2.putText(page, f"{number}", (20, 200), cv2.FONT_HERSHEY_SIMPLEX, 3, (0,), 8)
        assert cv2.imwrite(str(folder / f"{number:03}.png"), page)
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("scans") / "pages", PAGES)


@pytest.fixture(scope="module")
def unbroken(base: Installation, pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the command line makes of the pages in one go."""
    here = copied(base, tmp_path_factory.mktemp("unbroken"))
    done("ingest", pages, "--ledger", "whole-pages", "--no-text", data=here.data)
    return content(here.data)


def begun(prefect: Prefect, data: Path, pages: Path) -> str:
    """A run that brings the pages in, of which a group is sealed."""
    journal = data / "store" / "journal"
    before = len(list(journal.rglob("*.json")))
    flow_run = prefect.start("ingest-batch", paths=[str(pages)], ledger="whole-pages", data=str(data), text=False)
    # One segment counts the sheets, each later one seals a group.
    until(lambda: len(list(journal.rglob("*.json"))) >= before + 2, lambda: prefect.told(flow_run))
    return flow_run


def test_prefect_stays_in_its_module() -> None:
    """The package runs without Prefect, which is an extra, and nothing but an engine imports the flows."""
    ours = [
        f"pipelines.{file.stem}"
        for file in (HOUSE / "pipelines").glob("*.py")
        if file.stem not in ("__init__", "flows")
    ]
    program = (
        "import sys, tempfile, pathlib\n"
        "from core.settings import load\n"
        "from wiring.setup import set_up\n"
        "set_up(load(pathlib.Path(tempfile.mkdtemp()) / 'data'))\n"
        f"import importlib\nfor name in {[*ours, 'cli.commands', 'web.urls']!r}: importlib.import_module(name)\n"
        "assert 'pipelines.ingest' in sys.modules\n"
        "sys.exit('prefect' in sys.modules or 'pipelines.flows' in sys.modules)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment(), cwd=HOUSE, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_deployments(prefect: Prefect) -> None:
    """Each flow once, although deployed twice; one run at a time; nothing of this machine in any."""
    found = {row["name"]: row for row in prefect.ask("/deployments/filter")}
    assert sorted(found) == ["extend-locks", "fixity-check", "ingest-batch", "reindex"]
    for row in found.values():
        assert (row["work_pool_name"], row["pull_steps"], row["path"]) == ("daicho", [], None)
        assert row["global_concurrency_limit"]["limit"] == 1
        assert row["job_variables"]["env"]["DO_NOT_TRACK"] == "1"
        assert str(HOUSE) not in json.dumps(row)
    schedules = [(name, each["schedule"]) for name, row in found.items() for each in row["schedules"] if each["active"]]
    assert sorted((name, each["cron"], each["timezone"]) for name, each in schedules) == [
        ("extend-locks", "0 4 * * *", "Asia/Tokyo"),
        ("fixity-check", "30 1 * * *", "Asia/Tokyo"),
    ]


@pytest.mark.slow
def test_ingest_in_parts(prefect: Prefect, base: Installation, tmp_path: Path) -> None:
    """More than a hundred sheets are more than one task; every sheet comes in, and somebody can look on."""
    here, pages = copied(base, tmp_path), drawn(tmp_path / "pages", PARTS)
    flow_run = prefect.start("ingest-batch", paths=[str(pages)], ledger="whole-pages", data=str(here.data), text=False)
    name, message = prefect.ended(flow_run)
    assert (name, f": {PARTS} = {PARTS} sealed + 0 waiting + 0 refused" in message) == ("Completed", True), message
    read = {task: ended for task, ended in prefect.settled_tasks(flow_run).items() if task.startswith("read-sheets")}
    assert read == {"read-sheets-1": ("Completed", 1), "read-sheets-2": ("Completed", 1)}
    (artefact,) = prefect.artefacts(flow_run)
    assert (artefact["key"], artefact["type"], float(artefact["data"])) == ("ingest-batch", "progress", 100.0)
    assert artefact["description"] == f"read: {PARTS} / {PARTS}"
    held = content(here.data)
    assert (len(held["records"]), held["documents"], held["unread"]) == (PARTS, PARTS, 0)
    assert (held["findings"], held["scratch"]) == ([], [])


@pytest.mark.slow
def test_killed_in_the_middle(prefect: Prefect, base: Installation, pages: Path, unbroken: Any, tmp_path: Path) -> None:
    """Worker and flow die with some sheets sealed; the same run again makes what the command line makes in one go."""
    here = copied(base, tmp_path)
    first = begun(prefect, here.data, pages)
    prefect.worker.kill()
    (batch,) = balances(here.data)
    assert (batch["sheets"], batch["sealed"] > 0, batch["unread"] > 0) == (PAGES, True, True), batch
    assert prefect.state(first)[0] == "Running"
    # Nobody is left to say that it died: its slot is given back when its lease ends, or when somebody says so.
    prefect.ask(f"/flow_runs/{first}/set_state", {"state": {"type": "CRASHED"}, "force": True})
    prefect.worker.start()
    again = prefect.start("ingest-batch", paths=[str(pages)], ledger="whole-pages", data=str(here.data), text=False)
    name, message = prefect.ended(again)
    assert name == "Completed", message
    assert [each["balanced"] for each in balances(here.data)] == [True]
    assert content(here.data) == unbroken


@pytest.mark.slow
def test_database_away_for_a_while(
    prefect: Prefect, postgres: PostgresServer, pages: Path, unbroken: Any, tmp_path: Path
) -> None:
    """The catalogue's server does not answer in the middle: the part is read again when it does, and nothing twice."""
    data = tmp_path / "data"
    with Proxy(HOST, postgres.port) as network:
        settings = replace(load(data, environment={}), catalogue_engine=replace(postgres.new(), port=network.port))
        (tmp_path / "engines.toml").write_text(engines_toml(settings), "utf-8")
        done("init", "--municipality", "みどり野市", "--engines", tmp_path / "engines.toml", data=data)
        for template in ("dv-support", "whole-pages"):
            done("ledger", "apply", TEMPLATES / template, data=data)
        flow_run = begun(prefect, data, pages)
        network.refuse()
        until(
            lambda: prefect.tasks(flow_run).get("read-sheets-1", ("", 0))[0] == "AwaitingRetry",
            lambda: prefect.told(flow_run),
        )
        segments = [json.loads(file.read_bytes()) for file in (data / "store" / "journal").rglob("*.json")]
        sealed = {each["record"] for segment in segments for each in segment["entries"] if each["event"] == "sealed"}
        network.normal()
        name, message = prefect.ended(flow_run)
        assert name == "Completed", message
        state, attempts = prefect.settled_tasks(flow_run)["read-sheets-1"]
        assert (state, attempts > 1) == ("Completed", True)
        assert content(data) == unbroken
        inventories = [json.loads(file.read_bytes()) for file in (data / "store" / "objects").rglob("inventory.json")]
        assert sealed
        assert {each["head"] for each in inventories if each["id"] in sealed} == {"v1"}


@pytest.mark.slow
def test_tried_again_while_that_may_help(prefect: Prefect, small: Installation, tmp_path: Path) -> None:
    """Somebody holds the installation alone for a while: the task waits and is begun again."""
    here = copied(small, tmp_path)
    with (here.data / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        flow_run = prefect.start("fixity-check", data=str(here.data))
        until(
            lambda: prefect.tasks(flow_run).get("open", ("", 0))[0] == "AwaitingRetry", lambda: prefect.told(flow_run)
        )
    name, message = prefect.ended(flow_run)
    assert (name, message.endswith("nothing wrong")) == ("Completed", True), message
    tasks = prefect.settled_tasks(flow_run)
    assert (tasks["open"][0], tasks["open"][1] > 1, tasks["verify"]) == ("Completed", True, ("Completed", 1))
    (artefact,) = prefect.artefacts(flow_run)
    assert (artefact["key"], float(artefact["data"])) == ("fixity-check", 100.0)


@pytest.mark.slow
def test_not_tried_again_where_that_cannot_help(prefect: Prefect, small: Installation, tmp_path: Path) -> None:
    """What the operator must put right fails at once, with its code in both languages; the other steps are not begun."""
    flow_run = prefect.start(
        "ingest-batch", paths=[str(tmp_path / "none")], ledger="dv-support", data=str(small.data), login="officer"
    )
    name, message = prefect.ended(flow_run)
    assert name == "Failed"
    assert message.startswith("[ingest.missing] ")
    assert "がありません" in message and "There is no" in message
    assert prefect.settled_tasks(flow_run) == {"open": ("Completed", 1), "count-sheets": ("Failed", 1)}


@pytest.mark.slow
def test_fixity_check_fails_on_damage(prefect: Prefect, small: Installation, tmp_path: Path) -> None:
    """The state counts what is wrong and names its codes; where it is, `daicho verify` says."""
    here = copied(small, tmp_path)
    damaged = sorted((here.data / "store" / "objects").rglob("*.age"))[:2]
    for file in damaged:
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    found = [row for row in run("verify", data=here.data).rows if "finding" in row]
    assert len(found) >= len(damaged) == 2
    name, message = prefect.ended(prefect.start("fixity-check", data=str(here.data)))
    assert name == "Failed"
    assert f"{len(found)} findings" in message and f"{len(found)} 件" in message
    assert all(row["finding"] in message for row in found)
    assert not any(row["object"] in message for row in found)


@pytest.mark.slow
def test_extend_locks(prefect: Prefect, small: Installation, minio: S3Server, tmp_path: Path) -> None:
    """On a bucket every object has its turn the first time; a store without locks is told at once."""
    name, message = prefect.ended(prefect.start("extend-locks", data=str(small.data)))
    assert (name, "[store.no_locks]" in message) == ("Failed", True), message
    here = copied(small, tmp_path)
    engines = tmp_path / "engines.toml"
    engines.write_text(engines_toml(replace(load(here.data, environment={}), store_engine=minio.new())), "utf-8")
    objects = done("migrate", "--to", engines, data=here.data)[-1]["objects"]
    (here.data / "locks.json").unlink()
    name, message = prefect.ended(prefect.start("extend-locks", data=str(here.data)))
    assert (name, message.startswith(f"{objects} of {objects} objects, ")) == ("Completed", True), message


@pytest.mark.slow
def test_reindex(prefect: Prefect, small: Installation, tmp_path: Path) -> None:
    """An index of another version, with which nothing opens, is made again."""
    here = copied(small, tmp_path)
    before = done("search", "--ledger", "dv-support", data=here.data)
    assert before
    note = here.data / "index" / "daicho-index.json"
    note.write_text(json.dumps(json.loads(note.read_text("utf-8")) | {"layout": 0}), "utf-8")
    assert run("search", "--ledger", "dv-support", data=here.data).error == "index.outdated"
    name, message = prefect.ended(prefect.start("reindex", data=str(here.data)))
    assert (name, message.endswith(" records"), message != "0 records") == ("Completed", True, True), message
    assert done("search", "--ledger", "dv-support", data=here.data) == before


@pytest.mark.slow
def test_prefect_learns_nothing_of_anybody(prefect: Prefect, base: Installation, tmp_path: Path) -> None:
    """Neither what was read nor how the contractor named the files stands in Prefect's database or in the worker's log."""
    here = copied(base, tmp_path)
    scans = tmp_path / "scans"
    scans.mkdir()
    shutil.copy(BATCH / "07-dv-support.jpg", scans / "木村様分.jpg")
    (scans / "木村様控え.pdf").write_bytes(b"%PDF-1.7 nothing of the kind")
    flow_run = prefect.start("ingest-batch", paths=[str(scans)], ledger="dv-support", data=str(here.data), name="9月分")
    name, message = prefect.ended(flow_run)
    assert (name, ": 2 = 1 sealed + 0 waiting + 1 refused" in message) == ("Completed", True), message
    (hit,) = done("search", "--ledger", "dv-support", data=here.data)
    prefect.settled_tasks(flow_run)
    dump = subprocess.run(
        [build.postgres() / "pg_dump", "--data-only", prefect.database], capture_output=True, text=True, check=True
    ).stdout
    assert "9月分" in dump and hit["title"]["name"] not in dump
    log = prefect.worker.log.read_text("utf-8")
    for personal in ("木村様", *hit["title"].values()):
        assert personal not in dump
        assert json.dumps(personal)[1:-1] not in dump
        assert personal not in log
