"""The operations that are broken at every call: each a command of the installed program on a small installation, a line each.

A base is a folder with everything an operation needs (`data`, `data-keys`, `scans`); every broken run gets a copy of it. What an operation made
is told without ids and times (tests/content.py), so that a run that was broken and given again can be compared with one that nobody harmed.
"""

from __future__ import annotations

import html
import http.cookiejar
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from minio import Minio
from PIL import Image

from core.settings import S3Settings, load
from storage.places import is_root_copy, object_at
from tests.faults.calls import (
    MUTATING,
    SENDS,
    STEADY,
    Call,
    inject,
    killed,
    parsed,
    recorded,
    showing,
    strace,
    was_killed,
)
from tests.installed import DAICHO, content, done, environment, made, run

PAGES = 24
"""Pages that an ingest brings in: more than are sealed together."""

SEED = int(os.environ.get("DAICHO_KILL_SEED", "20261121"))

PARTS = int(os.environ.get("DAICHO_FAULTS", "1"))
"""Into how many tests the faults of one operation are cut when `make faults` runs them all; 1: a sample of them, in one test."""


def pages(folder: Path, count: int, seed: int) -> Path:
    """A folder with small pages, no two alike."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = np.full((160, 112), 255, np.uint8)
        pixels[20:140:8, 10 : 20 + int(rng.integers(30, 80))] = 0
        pixels[rng.integers(0, 160, 30), rng.integers(0, 112, 30)] = 0
        Image.fromarray(pixels).save(folder / f"{seed}-{number:03}.png", dpi=(100, 100))
    return folder


def town(folder: Path) -> None:
    """Lay out a base: an installation with a ledger and two records, and scans that are not brought in yet."""
    place = made(folder / "data", ["whole-pages"])
    done(
        "ingest",
        pages(folder / "first", 2, SEED),
        "--ledger",
        "whole-pages",
        "--no-text",
        "--jobs",
        "1",
        data=place.data,
    )
    [row] = done("person", "password", "officer", data=place.data)
    (folder / "password").write_text(row["password"], "utf-8")
    (folder / "records").write_text("\n".join(row["record"] for row in done("search", "", data=place.data)), "utf-8")
    pages(folder / "scans", PAGES, SEED + 1)


def laid_out(base: Path, here: Path) -> Path:
    """A copy of the base for one run; `here` must not exist."""
    shutil.copytree(base, here, symlinks=True)
    return here


def of_data(here: Path) -> Any:
    """What the installation of this folder holds."""
    return content(here / "data")


def of_copy(here: Path) -> Any:
    """What an installation holds that is restored from the backup beside, and what the one that was copied holds."""
    back = here / "back"
    for folder in (back, here / "back-keys"):
        shutil.rmtree(folder, ignore_errors=True)
    done("restore", here / "copy", "--keys-source", here / "copy-keys", data=back)
    return content(back), of_data(here)


@dataclass(frozen=True)
class Operation:
    """A command that is broken, and given again.

    Args:
        arguments: of the command; `{here}` stands for the folder of the run.
        sample, points: how many calls are broken in CI, and by `make faults`.
        told: what the operation made, as a value that compares.
        again: events that the command may journal once more when it is given again.
        base: name of the base that it runs on (a fixture of tests/faults/conftest.py).
        everybody: break whichever thread comes to the call first, not the first thread alone.
        program: what runs it; the controls run it without a protection.
    """

    name: str
    arguments: tuple[str, ...]
    sample: int
    points: int
    told: Callable[[Path], Any] = of_data
    again: tuple[str, ...] = ()
    base: str = "town"
    everybody: bool = False
    program: tuple[str, ...] = (str(DAICHO),)

    def laid_out(self, base: Path, here: Path) -> Path:
        """A copy of the base for one run."""
        return laid_out(base, here)

    def command(self, here: Path) -> list[str]:
        """The whole command line."""
        words = [word.replace("{here}", str(here)) for word in self.arguments]
        return [*self.program, *words, "--json", "--data", str(here / "data")]

    def calls(self, here: Path) -> list[Call]:
        """The calls of an unharmed run."""
        calls, ended = recorded(self.command(here), here, everybody=self.everybody)
        assert ended.returncode == 0, ended.stderr
        return list({(call.name, call.nth): call for call in calls}.values())

    def killed(self, here: Path, call: Call) -> tuple[bool, bool]:
        """Run it, killed at the call. (Whether it was killed, whether it had told that it was done.)"""
        ended = killed(self.command(here), call, everybody=self.everybody)
        assert was_killed(ended) or ended.returncode == 0, ended.stderr
        return was_killed(ended), acknowledged(ended.stdout)

    def given_again(self, here: Path) -> None:
        """The same command, to its end."""
        again = run(*self.command(here), program=(), plain=True)
        assert again.code == 0, again.err

    def outcome(self, here: Path) -> Any:
        """What `told` says, without the events that may come again."""
        value = self.told(here)
        for one in value if isinstance(value, tuple) else (value,):
            for event in self.again if isinstance(one, dict) else ():
                one["events"].pop(event, None)
        return value


def without(operation: Operation, protection: str) -> Operation:
    """The operation by a program in which these statements take a protection away: for controls."""
    begun = f"{protection}\nfrom cli.main import main; main()"
    return replace(operation, program=(sys.executable, "-c", begun))


def acknowledged(out: str) -> bool:
    """Whether standard output holds a whole row that is no error."""
    rows = [json.loads(line) for line in out.splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]
    return any("error" not in row for row in rows)


class Extension(Operation):
    """Lengthening the locks of a store on S3. The bucket is the same for every run, so each run asks for a day more than the one before."""

    _days = itertools.count(S3Settings.lock_days + 1)

    def laid_out(self, base: Path, here: Path) -> Path:
        laid_out(base, here)
        settings = here / "data" / "daicho.toml"
        told = re.sub(r"lock_days = \d+", f"lock_days = {next(self._days)}", settings.read_text("utf-8"))
        settings.write_text(told, "utf-8")
        return here


def of_locks(here: Path) -> Any:
    """Sealed files that are not locked as long as was asked, and what the installation holds."""
    where = load(here / "data", environment={}).store_engine
    assert where is not None
    client = Minio(
        urlsplit(where.endpoint).netloc, where.access_key, where.secret_key, secure=False, region=where.region
    )
    asked = datetime.now(UTC) + timedelta(days=where.lock_days, hours=-1)
    short = []
    for one in client.list_objects(where.bucket, recursive=True, include_version=True):
        assert one.object_name is not None
        place = object_at(one.object_name)
        if place is None or not is_root_copy(place[1]):
            kept = client.get_object_retention(where.bucket, one.object_name, one.version_id)
            if kept is None or kept.retain_until_date < asked:
                short.append(one.object_name)
    return short, of_data(here)


def of_log(here: Path) -> Any:
    """What the journal's proof says of its log, and what the installation holds."""
    [published, proved] = done("audit", "verify", data=here / "data")
    return (proved["ok"], published["fault"], proved["tiles"] > 0), of_data(here)


def of_edit(here: Path) -> Any:
    """What the installation holds, without when the person typed it."""
    value = of_data(here)
    for record in value["records"]:
        for item in (item for body in record["bodies"] for item in body["items"] if "settled" in item):
            del item["settled"]["at"]
    return value


class Edit(Operation):
    """An edit by a person, at the page that `daicho serve` shows: its threads are broken from the moment at which the form is sent."""

    def calls(self, here: Path) -> list[Call]:
        trace = here / "trace"
        options = ["-o", str(trace), *showing([name for name in MUTATING if name not in SENDS])]
        with served(here) as (process, person), attached(process.pid, options, signal.SIGINT):
            assert person.edit()
        calls = parsed(trace.read_text("utf-8"), here / "data")
        # The thread that answers; the feeder's is another, which begins when the operation ends. An ingest is killed while it feeds, too.
        [answered] = {call.thread for call in calls if "/journal/" in call.shown}
        return [call for call in calls if call.thread == answered]

    def killed(self, here: Path, call: Call) -> tuple[bool, bool]:
        with served(here) as (process, person):
            with attached(process.pid, inject(call, "signal=SIGKILL")):
                answered = person.edit()
                # The call may come after the answer has left.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.3 if answered else 20)
            return process.poll() == -signal.SIGKILL, answered

    def given_again(self, here: Path) -> None:
        with served(here) as (_, person):
            # Somebody who finds the record changed does not change it again.
            if "直した題" not in person.form:
                assert person.edit()


@dataclass
class Person:
    """Somebody at the pages, signed in."""

    address: str
    record: str
    browser: urllib.request.OpenerDirector
    form: str = ""

    def page(self) -> str:
        """The record's form for an edit."""
        return self._answer(f"records/{self.record}/edit/")

    def edit(self) -> bool:
        """Send the form that lies open, with a title. False when no answer came."""
        fields = {name: html.unescape(value) for name, value in _HIDDEN.findall(self.form)}
        fields |= {"v-title": "直した題", "why": "題が分かったため"}
        try:
            self._answer(f"records/{self.record}/edit/", fields)
        except (urllib.error.URLError, OSError):
            return False
        return True

    def _answer(self, path: str, fields: dict[str, str] | None = None) -> str:
        data = urllib.parse.urlencode(fields).encode() if fields is not None else None
        asked = urllib.request.Request(self.address + path, data, {"Referer": self.address})
        try:
            with self.browser.open(asked, timeout=60) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            assert error.code == 302, error
            return ""


class _Stays(urllib.request.HTTPRedirectHandler):
    """Does not follow: that it was sent on is the answer."""

    def redirect_request(self, *_: Any) -> None:
        return None


_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


@contextmanager
def served(here: Path) -> Iterator[tuple[subprocess.Popen[str], Person]]:
    """`daicho serve` on the installation, and the officer signed in with the form of the first record open."""
    command = [str(DAICHO), "serve", "--port", "0", "--json", "--data", str(here / "data")]
    with (here / "serve.log").open("a") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(**STEADY), cwd="/"
        )
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["url"]
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        browser = urllib.request.build_opener(urllib.request.ProxyHandler({}), cookies, _Stays())
        person = Person(address, (here / "records").read_text("utf-8").split()[0], browser)
        form = dict(_HIDDEN.findall(person._answer("sign-in/")))
        person._answer("sign-in/", form | {"login": "officer", "password": (here / "password").read_text("utf-8")})
        person.form = person.page()
        yield process, person
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def attached(pid: int, options: Sequence[str], ends: signal.Signals = signal.SIGKILL) -> Iterator[None]:
    """Every thread that the process has now, under strace with these options; numbers of calls begin here, thread by thread.

    Args:
        ends: how strace is ended. By SIGINT it writes out what it saw, but waits for ever for a process that is being killed.
    """
    threads = [each.name for each in Path(f"/proc/{pid}/task").iterdir()]
    chosen = [word for thread in threads for word in ("-p", thread)]
    tracing = subprocess.Popen([*strace(*options), *chosen])
    try:
        until = time.monotonic() + 20
        while not all(_traced(pid, thread) for thread in threads):
            assert time.monotonic() < until and tracing.poll() is None
            time.sleep(0.01)
        yield
    finally:
        tracing.send_signal(ends)
        tracing.wait(20)


def _traced(pid: int, thread: str) -> bool:
    status = Path(f"/proc/{pid}/task/{thread}/status").read_text("ascii", "replace")
    return "TracerPid:\t0\n" not in status


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("ingest", ("ingest", "{here}/scans", "--ledger", "whole-pages", "--no-text", "--jobs", "1"), 4, 1000),
        Edit("edit", (), 8, 100, told=of_edit, again=("signed_in", "record_viewed", "history_viewed", "page_viewed")),
        Operation("backup", ("backup", "{here}/copy", "--keys-target", "{here}/copy-keys"), 6, 500, told=of_copy),
        Operation("rebuild", ("rebuild",), 26, 500),
        Operation("rotation", ("keys", "rotate"), 26, 400, again=("master_rotated",)),
        Operation("reindex", ("reindex",), 26, 300),
        Operation("checkpoint", ("audit", "checkpoint"), 6, 100, told=of_log, again=("checkpoint_signed",)),
        Extension("extension", ("locks", "extend"), 6, 300, told=of_locks, base="town_on_s3", everybody=True),
    )
}
