"""The installed `daicho` command as people run it, and the installations it makes. Needs no import of our packages."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DAICHO = Path(sys.executable).with_name("daicho")

HASTY = (
    sys.executable,
    "-c",
    "from core import clock; clock.FIRST_PAUSE, clock.ENOUGH = 0.02, 1.0; from cli.main import main; main()",
)
"""The same command, which soon gives up an engine that does not answer. How long it is patient is shown by tests/storage/test_retrying.py."""

MEASURED = (
    sys.executable,
    "-c",
    "import atexit, os, re, signal; from pathlib import Path; from cli.main import main\n"
    "most = lambda: re.search('VmHWM:\\\\s+(\\\\d+)', Path('/proc/self/status').read_text())[1]\n"
    "atexit.register(lambda: Path(os.environ['MOST']).write_text(most()))\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))\n"
    "main()",
)
"""The same command, which at its end writes the most memory it had (KiB) to the file that the variable MOST names."""

HOUSE = Path(__file__).resolve().parent.parent
SAMPLES = HOUSE / "samples"
TEMPLATES = SAMPLES / "templates"
BATCH = SAMPLES / "batch"

HIDES = ("DAICHO_DATA", "DAICHO_KEYS", "DAICHO_PERSON", "DAICHO_LANGUAGE", "DAICHO_JOBS", "DJANGO_SETTINGS_MODULE")
"""Variables of our own process that the command must not inherit."""


@dataclass(frozen=True)
class Result:
    """What a run of the command printed and how it ended. `rows`: the JSON objects of standard output."""

    rows: list[dict[str, Any]]
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The code of the error that ended it, "" for none."""
        return next((row["error"] for row in self.rows if "error" in row and "file" not in row), "")


@dataclass(frozen=True)
class Installation:
    """A data folder with its key folder, and what the command that made it printed."""

    data: Path
    rows: tuple[dict[str, Any], ...] = ()

    @property
    def keys(self) -> Path:
        return self.data.with_name(self.data.name + "-keys")


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in HIDES} | more


def run(
    *args: str | Path,
    data: Path | None = None,
    plain: bool = False,
    program: Sequence[str] = (str(DAICHO),),
    **more: str,
) -> Result:
    """Run the command to its end with `--json` (not when `plain`). `program`: DAICHO or HASTY; `more`: environment variables."""
    command = [*program, *map(str, args)]
    command += [] if plain else ["--json"]
    command += ["--data", str(data)] if data else []
    code, out, err = _ran(command, environment(**more))
    return Result([] if plain else [json.loads(line) for line in out.splitlines()], code, out, err)


def _ran(command: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str, str]:
    """Exit status, standard output and error of a command. One that is a file of Python begins in a fork of what has been loaded already."""
    starter = _starter(os.getpid())
    if command[0] not in STARTED or not starter.free.acquire(blocking=False):
        command = [sys.executable, *command] if command[0] in STARTED else command
        done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=PATIENCE, cwd="/")
        return done.returncode, done.stdout, done.stderr
    try:
        return starter.run(command, variables)
    finally:
        starter.free.release()


PATIENCE = 600
"""Seconds that a command may take."""

CONTENT = HOUSE / "tests" / "content.py"
STARTED = (str(DAICHO), str(CONTENT))
"""What begins in a fork."""


class _Starter:
    """The process of `tests/starter.py`, which ends with this one. `free`: it starts one command at a time."""

    def __init__(self) -> None:
        self.free = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(HOUSE / "tests" / "starter.py"), str(theirs.fileno())],
                env=environment(PYTHONPATH=str(HOUSE)),
                pass_fds=[theirs.fileno()],
                cwd="/",
            )

    def run(self, command: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str, str]:
        asked = {"command": list(command), "environment": dict(variables), "folder": "/"}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            socket.send_fds(self._socket, [json.dumps(asked).encode()], [out.fileno(), err.fileno()])
            child = int(self._socket.recv(64))
            self._socket.settimeout(PATIENCE)
            try:
                code = int(self._socket.recv(64))
            except TimeoutError:
                os.kill(child, 9)
                self._socket.recv(64)
                raise
            return code, *(_text(file) for file in (out, err))


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8").replace("\r\n", "\n"))


@functools.cache
def _starter(process: int) -> _Starter:
    """The starter of this process; a forked one has its own."""
    return _Starter()


def done(*args: str | Path, data: Path | None = None, **more: str) -> list[dict[str, Any]]:
    """Run the command, which must succeed, and give its rows."""
    result = run(*args, data=data, **more)
    assert result.code == 0, (result.code, result.out[-2000:], result.err[-2000:])
    return result.rows


def made(data: Path, templates: Sequence[str], people: Sequence[tuple[str, str]] = ()) -> Installation:
    """A new installation with these templates as ledgers and these people (login, post; "" for no post)."""
    rows = done("init", "--municipality", "みどり野市", data=data)
    for template in templates:
        rows += done("ledger", "apply", TEMPLATES / template, data=data)
    for login, post in people:
        rows += done("person", "add", login, "--name", login, *(["--post", post] if post else []), data=data)
    return Installation(data, tuple(rows))


def copied(installation: Installation, target: Path) -> Installation:
    """Data and key folders copied to a new place, for a test that destroys something."""
    data = target / installation.data.name
    copy = Installation(data, installation.rows)
    shutil.copytree(installation.data, data, symlinks=True)
    shutil.copytree(installation.keys, copy.keys, symlinks=True)
    return copy


def digest(data: Path) -> str:
    """The digest that `info` prints."""
    return str(done("info", data=data)[-1]["digest"])


def balances(data: Path) -> list[dict[str, Any]]:
    """Every batch with its sheets by name, oldest first."""
    batches = [row["batch"] for row in done("batch", "list", data=data)]
    return [done("batch", "show", batch, data=data)[0] for batch in reversed(batches)]


def content(data: Path) -> Any:
    """What an installation holds, ids, times and cipher digests aside: see `tests/content.py`."""
    code, out, err = _ran([str(CONTENT), str(data)], environment(PYTHONPATH=str(HOUSE)))
    assert code == 0, err[-3000:]
    return json.loads(out)
