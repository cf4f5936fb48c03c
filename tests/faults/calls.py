"""The system calls of a program by which something changes, as strace shows them; and the same program with one of them broken.

A call is named by its system call and its number among the calls of that name of its thread since strace began to look, which is how strace
itself counts (`when=`). Only the thread that was started is looked at: `daicho` writes store, keys and catalogue in its first thread. What it
starts beside (readers of pages, the index's own thread) runs unharmed until it loses its parent.

Python's own start is part of what is counted, so that the numbers fit, and none of it is ever broken: only calls that name the place of the test,
standard output or a network connection are handed out.

With `everybody` all threads and children are looked at, each with its own numbers: for an operation that writes from a pool of threads, where
whichever comes to a number first is meant.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.installed import environment
from tests.machine import need

WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "copy_file_range", "sendfile")
SYNCS = ("fsync", "fdatasync", "syncfs", "sync_file_range", "msync")
NAMES = (
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
)
SIZES = ("ftruncate", "truncate", "fallocate")
MODES = ("chmod", "fchmod", "fchmodat")
OPENS = ("open", "openat", "creat")
SENDS = ("sendto", "sendmsg")

MUTATING = (*OPENS, *WRITES, *SYNCS, *NAMES, *SIZES, *MODES, *SENDS)

STEADY = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
"""Environment of a program whose calls are counted: nothing in it may depend on who ran before."""

_LINE = re.compile(r"(?:(\d+) +)?(\w+)\((.*)")
_MAKES = re.compile(r"O_CREAT|O_TRUNC")
_TOLD = re.compile(r"[12]<")
_SOCKET = re.compile(r"\d+<(?:socket|TCP|TCPv6):")


@dataclass(frozen=True)
class Call:
    """One call. `nth`: among those of its name, from 1; `shown`: its arguments as strace writes them, without the bytes."""

    name: str
    nth: int
    shown: str
    thread: int = 0

    def __str__(self) -> str:
        return f"{self.name}#{self.nth}({self.shown[:160]})"


def strace(*options: str) -> list[str]:
    """The start of a command line under strace."""
    need("strace")
    return ["strace", "-qqq", "-e", "signal=none", *options]


def recorded(
    command: Sequence[str], place: Path, *, everybody: bool = False
) -> tuple[list[Call], subprocess.CompletedProcess[str]]:
    """Run the command to its end; its calls that change something beneath `place`, tell somebody something, or leave over the network."""
    with tempfile.NamedTemporaryFile("r", suffix=".strace") as out:
        done = _ended([*strace("-o", out.name, *_follow(everybody), *showing(MUTATING)), *command])
        return parsed(out.read(), place), done


def parsed(text: str, place: Path) -> list[Call]:
    """What strace wrote (`-y`, one line a call, a thread id before each or none) as calls that can be broken."""
    calls = []
    counted: dict[tuple[int, str], int] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or "resumed>" in line:
            continue
        thread, name, shown = int(match[1] or 0), match[2], match[3]
        nth = counted[thread, name] = counted.get((thread, name), 0) + 1
        if _changes(name, shown, str(place)):
            calls.append(Call(name, nth, shown, thread))
    return calls


def killed(command: Sequence[str], call: Call, *, everybody: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the command, which is killed (SIGKILL) as it enters the call: the call itself does not happen."""
    return _ended([*strace(*_follow(everybody), *inject(call, "signal=SIGKILL")), *command])


def failed(command: Sequence[str], call: Call, error: str) -> subprocess.CompletedProcess[str]:
    """Run the command, to which the call answers `error`; the call does not happen."""
    return _ended([*strace(*inject(call, f"error={error}")), *command])


def inject(call: Call, fault: str) -> list[str]:
    """Options of strace for one fault at this call. Calls of no other name are stopped at, which keeps the program quick."""
    return ["-o", os.devnull, "-e", f"trace={call.name}", "-e", f"inject={call.name}:{fault}:when={call.nth}"]


def showing(names: Sequence[str]) -> list[str]:
    """Options of strace that show these calls as `parsed` reads them; names that this machine's architecture lacks are left out."""
    return ["-y", "-s", "0", "-e", "trace=" + ",".join(f"?{name}" for name in names)]


def was_killed(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether it was: strace ends as the program ended. Where a run took another way, the call may not have come."""
    return done.returncode == -signal.SIGKILL


def _follow(everybody: bool) -> list[str]:
    return ["-f"] if everybody else []  # with --seccomp-bpf strace 6.1 injects nothing


def _changes(name: str, shown: str, place: str) -> bool:
    if name in OPENS:
        return place in shown and (name == "creat" or _MAKES.search(shown) is not None)
    return place in shown or _TOLD.match(shown) is not None or _SOCKET.match(shown) is not None


def _ended(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(**STEADY), cwd="/", timeout=600, check=False
    )
