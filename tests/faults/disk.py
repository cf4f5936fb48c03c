"""A disk that forgets what was not synced: made from the system calls of a real run, so that it knows nothing of our code.

strace writes down every call of a program and of all it starts that changes files beneath a folder. `Disk` applies them to a model in which each
change is pending until it is synced: bytes and sizes until their file is, names until their folder is (a rename until the folder it goes to is),
everything by syncfs. A power cut may keep or lose each pending change on its own, and may keep half of the bytes of a write, or its length with
zeros. That is more than most file systems do (they keep the order of names) and nothing that POSIX forbids.

Not modelled: what is written through a mapping (of ours only SQLite's `-shm`, which it makes again), and modes.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.faults.calls import strace

_CALLS = [
    "open",
    "openat",
    "creat",
    "write",
    "pwrite64",
    "writev",
    "ftruncate",
    "truncate",
    "fallocate",
    "lseek",
    "sendfile",
    "copy_file_range",
    "fsync",
    "fdatasync",
    "syncfs",
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
]

_BY_FILE = frozenset(
    [
        "write",
        "pwrite64",
        "writev",
        "ftruncate",
        "fallocate",
        "lseek",
        "sendfile",
        "copy_file_range",
        "fsync",
        "fdatasync",
        "syncfs",
    ]
)
"""Those that are given a descriptor; the others are given paths."""

_LINE = re.compile(r"(\d+\.\d+) (\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?(?: .*)?")
_FD = re.compile(r"(-?\d+|AT_FDCWD)<((?:[^>\\]|\\.)*)>")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


def tracing(folder: Path) -> list[str]:
    """The start of a command line whose calls are to be read from `folder` by `steps`."""
    names = ",".join(f"?{name}" for name in _CALLS)
    return strace(
        "-ff", "--seccomp-bpf", "-ttt", "-y", "-s", str(1 << 26), "-o", str(folder / "calls"), "-e", f"trace={names}"
    )


@dataclass(frozen=True)
class Step:
    """One call that succeeded: when (seconds since 1970), its name, what it was given, what it answered, in which thread."""

    at: float
    name: str
    given: str
    answer: int
    thread: int

    def paths(self) -> list[str]:
        """The paths it was given, whole; those relative to a folder's descriptor with it."""
        rest, found = self.given, []
        base = ""
        while rest:
            if fd := _FD.match(rest):
                base, rest = _plain(fd[2]).decode(), rest[fd.end() :].lstrip(", ")
            elif text := _TEXT.match(rest):
                found.append(os.path.normpath(PurePosixPath(base or "/", _plain(text[1]).decode())))
                rest = rest[text.end() :].lstrip(", ")
            else:
                rest = rest.partition(", ")[2]
        return found

    def file(self) -> tuple[int, str, bool]:
        """The first descriptor, its path, and whether nothing has that name any more, or something else."""
        match = _FD.match(self.given)
        assert match is not None, self
        gone = self.given.startswith("(deleted)", match.end())
        return int(match[1]), _plain(match[2]).decode("utf-8", "replace"), gone

    def numbers(self) -> list[int]:
        """The numbers after descriptors and texts."""
        return [int(word) for word in re.findall(r"(?<=, )-?\d+(?=,|$)", _TEXT.sub("", self.given))]

    def bytes(self) -> bytes:
        """What was written, as far as the call took it."""
        return b"".join(_plain(text) for text in _TEXT.findall(self.given))[: self.answer]


def _plain(text: str) -> bytes:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1") if "\\" in text else text.encode("latin-1")


def steps(folder: Path) -> list[Step]:
    """The calls that `tracing` wrote, of all threads and processes, in the order in which they began."""
    found = []
    for file in folder.glob("calls.*"):
        for line in file.read_text("latin-1").split("\n"):
            match = _LINE.fullmatch(line)
            if match and not match[4].startswith("-"):
                found.append(Step(float(match[1]), match[2], match[3], int(match[4]), int(file.suffix[1:])))
    return sorted(found, key=lambda step: step.at)


@dataclass
class _Node:
    """A file or folder: `data` of a file, `names` of a folder (name -> number of a node)."""

    data: bytes | None = None
    names: dict[str, int] = field(default_factory=dict)

    def copy(self) -> _Node:
        return _Node(self.data, dict(self.names))


Nodes = dict[int, _Node]


@dataclass(frozen=True)
class _Change:
    """A change that a power cut may take: of bytes (`data` at `offset`), of a size, or of names."""

    nodes: frozenset[int]
    """Those whose sync makes it durable."""
    what: str
    node: int = 0
    offset: int = 0
    data: bytes = b""
    names: tuple[tuple[int, str, int], ...] = ()
    """(folder, name, node or 0 for none): a link, a removal, both at once for a rename."""

    def applied(self, nodes: Nodes, kept: str = "whole") -> None:
        if self.what == "data":
            file = nodes[self.node]
            data = {"half": self.data[: len(self.data) // 2], "zeros": bytes(len(self.data))}.get(kept, self.data)
            before = file.data or b""
            file.data = before[: self.offset].ljust(self.offset, b"\0") + data + before[self.offset + len(data) :]
        elif self.what == "size":
            file = nodes[self.node]
            file.data = (file.data or b"")[: self.offset].ljust(self.offset, b"\0")
        else:
            for folder, name, node in self.names:
                if node:
                    nodes[folder].names[name] = node
                else:
                    nodes[folder].names.pop(name, None)


Chooser = Callable[[_Change], str]
"""What becomes of a pending change: "" lost, "whole", and for bytes "half" or "zeros"."""

CUTS: dict[str, Callable[[random.Random], Chooser]] = {
    "nothing unsynced": lambda rng: lambda change: "",
    "names without bytes": lambda rng: lambda change: "whole" if change.what == "names" else "",
    "names with torn bytes": lambda rng: lambda change: "whole" if change.what == "names" else "half",
    "lengths with zeros": lambda rng: lambda change: "zeros" if change.what == "data" else "whole",
    "bytes without names": lambda rng: lambda change: "" if change.what == "names" else "whole",
    "any": lambda rng: (
        lambda change: rng.choice(["", "whole"] if change.what != "data" else ["", "whole", "half", "zeros"])
    ),
    "everything": lambda rng: lambda change: "whole",
}
"""Ways in which the power goes."""


class Disk:
    """What a folder held, and what of the steps since is durable.

    Args:
        place: the folder; what is there now is durable.
        believes: False to take no sync for one: the control.
    """

    def __init__(self, place: Path, *, believes: bool = True) -> None:
        self._place = str(place)
        self._believes = believes
        self._next = 1
        self._durable: Nodes = {}
        self._root = self._taken_in(place)
        self._now = {number: node.copy() for number, node in self._durable.items()}
        self._pending: list[_Change] = []
        self._positions: dict[tuple[int, str], int] = {}
        self._handles: dict[tuple[int, str], int] = {}

    def take(self, step: Step) -> None:
        """Apply a step; one that is about other places changes nothing."""
        if step.name in _BY_FILE:
            fd, path, gone = step.file()
            if step.name == "syncfs":
                self._synced(None)
            elif self._inside(path):
                number = self._handles.get((fd, path)) if gone else self._found(path)
                if number is not None:
                    self._file(step, fd, path, number)
            return
        paths = step.paths()
        if not any(self._inside(path) for path in paths):
            return
        match step.name:
            case "open" | "openat" | "creat":
                self._open(step, paths[0])
            case "rename" | "renameat" | "renameat2":
                self._named((*self._split(paths[1]), self._number(paths[0])), (*self._split(paths[0]), 0))
            case "link" | "linkat":
                self._named((*self._split(paths[1]), self._number(paths[0])))
            case "unlink" | "unlinkat" | "rmdir":
                self._named((*self._split(paths[0]), 0))
            case "mkdir" | "mkdirat":
                self._named((*self._split(paths[0]), self._made(_Node())))
            case _:
                raise AssertionError(f"not modelled: {step}")

    def after_cut(self, chooser: Chooser) -> Nodes:
        """The nodes as the disk has them when the power goes now."""
        nodes = {number: node.copy() for number, node in self._durable.items()}
        for change in self._pending:
            if kept := chooser(change):
                change.applied(nodes, kept)
        return nodes

    def laid_out(self, nodes: Nodes, here: Path) -> None:
        """Write the nodes out as the folder `here`, which must not exist."""
        waiting = [(self._root, here)]
        placed: dict[int, Path] = {}
        while waiting:
            number, path = waiting.pop()
            node = nodes[number]
            if node.data is not None and number in placed:
                os.link(placed[number], path)
            elif node.data is not None:
                path.write_bytes(node.data)
                placed[number] = path
            else:
                path.mkdir()
                waiting += [(child, path / name) for name, child in node.names.items()]

    def mark(self, nodes: Nodes) -> str:
        """A digest by which equal states are known."""
        told = hashlib.sha256()
        for path, data in sorted(self._walked(nodes)):
            told.update(f"{path}\0{-1 if data is None else len(data)}\0".encode() + (data or b""))
        return told.hexdigest()

    # Finding

    def _walked(self, nodes: Nodes) -> Iterator[tuple[str, bytes | None]]:
        waiting = [(self._root, "")]
        while waiting:
            number, path = waiting.pop()
            yield path, nodes[number].data
            waiting += [(child, f"{path}/{name}") for name, child in nodes[number].names.items()]

    def _inside(self, path: str) -> bool:
        return path == self._place or path.startswith(self._place + "/")

    def _found(self, path: str) -> int | None:
        number = self._root
        for name in PurePosixPath(path).relative_to(self._place).parts:
            child = self._now[number].names.get(name)
            if child is None:
                return None
            number = child
        return number

    def _number(self, path: str) -> int:
        number = self._found(path)
        assert number is not None, f"{path} is not known to be there"
        return number

    def _split(self, path: str) -> tuple[int, str]:
        parent, name = os.path.split(path)
        return self._number(parent), name

    def _taken_in(self, path: Path) -> int:
        number = self._next
        self._next += 1
        node = self._durable[number] = _Node()
        if path.is_dir():
            node.names = {child.name: self._taken_in(child) for child in sorted(path.iterdir())}
        else:
            node.data = path.read_bytes()
        return number

    def _made(self, node: _Node) -> int:
        """A new node: there on the disk at once, empty, and found by nobody until a name of it is kept."""
        number = self._next
        self._next += 1
        self._durable[number], self._now[number] = node.copy(), node
        return number

    # Changing

    def _open(self, step: Step, path: str) -> None:
        number = self._found(path)
        if number is None:
            if "O_CREAT" not in step.given and step.name != "creat":
                return
            number = self._made(_Node(b""))
            self._named((*self._split(path), number))
        elif "O_TRUNC" in step.given and self._now[number].data:
            self._change(_Change(frozenset([number]), "size", number, 0))
        self._handles[step.answer, path] = number
        self._positions[step.answer, path] = -1 if "O_APPEND" in step.given else 0

    def _file(self, step: Step, fd: int, path: str, number: int) -> None:
        at = self._positions.get((fd, path), 0)  # -1: always at the end
        match step.name:
            case "fsync" | "fdatasync":
                self._synced(number)
            case "lseek":
                self._positions[fd, path] = min(at, 0) or step.answer
            case "write" | "writev":
                self._write(number, at if at >= 0 else len(self._now[number].data or b""), step.bytes())
                self._positions[fd, path] = at + step.answer if at >= 0 else at
            case "pwrite64":
                self._write(number, step.numbers()[-1], step.bytes())
            case "ftruncate":
                self._change(_Change(frozenset([number]), "size", number, step.numbers()[-1]))
            case "sendfile" | "copy_file_range":
                self._copied(step)
            case _:
                raise AssertionError(f"not modelled: {step}")

    def _named(self, *names: tuple[int, str, int]) -> None:
        """Names that change together; they are durable once the folder of the first is synced."""
        self._change(_Change(frozenset([names[0][0]]), "names", names=names))

    def _write(self, number: int, offset: int, data: bytes) -> None:
        self._change(_Change(frozenset([number]), "data", number, offset, data))

    def _copied(self, step: Step) -> None:
        """Bytes that went from file to file inside the kernel: strace shows none, so they are taken from the source."""
        fds = [(int(fd), _plain(path).decode()) for fd, path in _FD.findall(step.given)]
        (out, target), (into, source) = fds if step.name == "sendfile" else fds[::-1]
        data = Path(source).read_bytes() if not self._inside(source) else self._now[self._number(source)].data or b""
        told = re.search(r"\[(\d+)\]", step.given)
        begin = int(told[1]) if told else self._positions.get((into, source), 0)
        at = self._positions.get((out, target), 0)
        self._write(self._number(target), at, data[begin : begin + step.answer])
        self._positions[into, source] = begin + step.answer
        self._positions[out, target] = at + step.answer

    def _change(self, change: _Change) -> None:
        change.applied(self._now)
        self._pending.append(change)

    def _synced(self, number: int | None) -> None:
        if not self._believes:
            return
        rest = []
        for change in self._pending:
            if number is None or number in change.nodes:
                change.applied(self._durable)
            else:
                rest.append(change)
        self._pending = rest


def cut_states(
    disk: Disk, taken: Sequence[Step], when: Container[int], rng: random.Random, cuts: Sequence[str] = tuple(CUTS)
) -> Iterator[tuple[int, str, Nodes]]:
    """(number of steps taken, how the power went, the nodes) after each step whose number is in `when`, each state once."""
    seen = set()
    for number, step in enumerate(taken, 1):
        disk.take(step)
        if number in when:
            for name in cuts:
                nodes = disk.after_cut(CUTS[name](rng))
                mark = disk.mark(nodes)
                if mark not in seen:
                    seen.add(mark)
                    yield number, name, nodes
