"""How a process gives up what it does not need: memory, time, files, the network, other programs.

Linux only knows these limits by system call, so they are made here by ctypes, before anything heavy is imported (a
seccomp filter binds the calling thread and those it starts later). Nothing here knows what the process is for.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from core.errors import DaichoError

MEMORY = 1 << 30
"""Bytes of address space that a decoder may use."""
FILE_SIZE = 1 << 30
"""Bytes of the largest file that it may write: its shared memory is one."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

_LIBC = ctypes.CDLL(None, use_errno=True)

# Numbers of the system calls that a decoder never needs, by group; a call may exist on one architecture only.

_NETWORK = {
    "x86_64": (41, 42, 43, 44, 46, 49, 50, 53, 288, 307, 425),
    "aarch64": (198, 199, 200, 201, 202, 203, 206, 211, 242, 269, 425),
}
"""socket connect accept sendto sendmsg bind listen socketpair accept4 sendmmsg io_uring_setup.

Receiving on what is already open stays.
"""
_PROGRAMS = {"x86_64": (57, 58, 59, 322), "aarch64": (221, 281)}
"""fork vfork execve execveat. clone is judged by its flags; clone3 (flags in memory) is ENOSYS, so that libc falls
back."""
# fmt: off
_OTHERS = {
    "x86_64": (
        29, 62, 64, 68, 101, 155, 161, 165, 200, 240, 248, 249, 250, 272, 298, 308, 310, 311, 321, 323, 424, 438,
    ),
    "aarch64": (
        40, 41, 51, 97, 117, 129, 130, 180, 186, 190, 194, 217, 218, 219, 241, 268, 270, 271, 280, 282, 424, 438,
    ),
}
"""Signals to others, ptrace, mounts, keys, namespaces, perf, other processes' memory, bpf, userfaultfd, pidfd, SysV and
POSIX queues."""
_FILES = {
    "x86_64": (
        76, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 133, 188, 189, 190, 258, 259, 260, 263, 264, 265, 266, 268,
        280, 316, 437, 452,
    ),
    "aarch64": (5, 6, 7, 33, 34, 35, 36, 37, 38, 45, 52, 53, 54, 55, 88, 276, 437, 452),
}
# fmt: on
"""Whatever changes names, modes, owners, times or attributes; openat2 (flags in memory)."""
_OPEN = {"x86_64": ((2, 1), (257, 2)), "aarch64": ((56, 2),)}
"""(open, openat) with the number of the argument that holds the flags: only reading is allowed."""
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_EPERM, _ENOSYS = 1, 38
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_CLONE_THREAD = 0x00010000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def end_with_parent() -> None:
    """From now on the kernel ends this process when the thread that started it ends, however that comes. A parent that is
    already gone is noticed by its closed pipe."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def set_limits(*, memory: int, file_size: int) -> dict[str, str]:
    """Bound address space and file size (bytes), forbid core dumps and new privileges. Returns limit -> "on" or why it
    is not."""
    said = {}
    for name, which, size in (
        ("memory", resource.RLIMIT_AS, memory),
        ("file_size", resource.RLIMIT_FSIZE, file_size),
        ("core", resource.RLIMIT_CORE, 0),
        ("descriptors", resource.RLIMIT_NOFILE, 64),
    ):
        try:
            hard = resource.getrlimit(which)[1]
            size = size if hard == resource.RLIM_INFINITY else min(size, hard)
            resource.setrlimit(which, (size, size))
            said[name] = "on"
        except (ValueError, OSError) as error:
            said[name] = f"off: {error}"
    said["privileges"] = "on" if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 else "off: prctl refused"
    _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return said


def limit_cpu(seconds: int) -> None:
    """Let this process use `seconds` more of CPU time, then SIGXCPU ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _filter(machine: str, *, programs: bool) -> bytes:
    """The BPF program: one comparison per refused call, so the order does not matter and no jump is longer than two."""

    def line(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    refuse = line(_RETURN, 0, 0, _ERRNO | _EPERM)
    out = [
        line(_LOAD, 0, 0, 4),
        line(_JEQ, 1, 0, _AUDIT_ARCH[machine]),
        line(_RETURN, 0, 0, _KILL),
        line(_LOAD, 0, 0, 0),
    ]
    if machine == "x86_64":  # the x32 table has the same calls under other numbers
        out += [line(_JGE, 0, 1, 0x40000000), refuse]
    numbers = _NETWORK[machine] + _OTHERS[machine] + (() if programs else _PROGRAMS[machine] + _FILES[machine])
    for number in numbers:
        out += [line(_JEQ, 0, 1, number), refuse]
    if not programs:
        out += [line(_JEQ, 0, 1, _CLONE3), line(_RETURN, 0, 0, _ERRNO | _ENOSYS)]
        out += [line(_JEQ, 0, 3, _CLONE[machine]), line(_LOAD, 0, 0, 16), line(_JSET, 1, 0, _CLONE_THREAD), refuse]
        # The flags are in the accumulator now if it was clone: load the number again.
        out += [line(_LOAD, 0, 0, 0)]
        for number, argument in _OPEN[machine]:
            out += [line(_JEQ, 0, 3, number), line(_LOAD, 0, 0, 16 + 8 * argument), line(_JSET, 0, 1, _WRITING), refuse]
            out += [line(_LOAD, 0, 0, 0)]
    out += [line(_RETURN, 0, 0, _ALLOW)]
    return b"".join(out)


def forbid_calls(*, programs: bool = False) -> str:
    """Install the seccomp filter: no network, and unless `programs` no other process and no writing by path.

    Returns "on" or why not.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _AUDIT_ARCH or ctypes.sizeof(ctypes.c_void_p) != 8:
        return f"off: no filter for {sys.platform} {machine}"
    code = _filter(machine, programs=programs)
    program = _Program(len(code) // 8, code)
    if _LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        return f"off: {os.strerror(ctypes.get_errno())}"
    return "on"


def forbid_paths(readable: Iterable[Path], *, programs: bool = False) -> str:
    """Landlock: of the whole file system only what is beneath `readable` can be read. Returns "on" or why not (kernel
    before 5.13)."""
    if platform.machine() not in _AUDIT_ARCH:
        return "off: unknown machine"
    handled = struct.pack("=Q", 0x1FFF)
    ruleset = _LIBC.syscall(444, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        return f"off: {os.strerror(ctypes.get_errno())}"
    try:
        for path in readable:
            try:
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                # Rights: read a file 4, list a folder 8, execute 1.
                rights = (4 | 8 if path.is_dir() else 4) | (1 if programs else 0)
                _LIBC.syscall(445, ruleset, 1, struct.pack("=Qi", rights, place), 0)
            finally:
                os.close(place)
        if _LIBC.syscall(446, ruleset, 0) != 0:
            return f"off: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(ruleset)
    return "on"


def confined(*, memory: int, file_size: int, programs: bool) -> dict[str, str]:
    """All of the above for a decoder. Returns each limit -> "on" or why it is not."""
    said = set_limits(memory=memory, file_size=file_size)
    here = Path(__file__).resolve().parent
    readable = [Path(sys.prefix), Path(sys.base_prefix, "lib"), here, here.parent / "core"]
    readable += [
        Path(path) for path in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/fonts")
    ]
    readable += [Path("/usr/local/share/fonts"), Path("/dev/urandom"), Path("/dev/null")]
    if programs:
        readable += [
            Path("/usr/bin"),
            Path("/bin"),
            Path("/usr/share/poppler"),
            Path("/etc/fonts"),
            Path("/var/cache/fontconfig"),
        ]
    said["paths"] = forbid_paths(readable, programs=programs)
    said["network"] = forbid_calls(programs=programs)
    return said


def tried() -> dict[str, str]:
    """What a decoder can give up on this machine: each limit -> "on" or why it is not, tried in a process of its own.

    Raises:
        DaichoError: (`decoder.start`) no process can be started.
    """
    command = [sys.executable, "-s", "-P", "-m", "ingest.confine"]
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, capture_output=True, cwd="/", env=environment, timeout=60, check=True)
        said: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise unstarted() from error
    return said | {"seconds": "on"}  # by its parent's clock


def unstarted() -> DaichoError:
    """The answer where no decoder can be started."""
    return DaichoError(
        "読み取り用プロセスを起動できません。メモリの空きと導入の状態を確かめてください。",
        "the decoding process does not start: check free memory and the installation",
        code="decoder.start",
    )


if __name__ == "__main__":
    end_with_parent()
    print(json.dumps(confined(memory=MEMORY, file_size=FILE_SIZE, programs=False)))
