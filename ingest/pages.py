"""Where pages come from: files of scans, opened here and decoded in a limited child process (`ingest/decoder.py`).

Nothing of a file is interpreted in this process, and nothing the child says is believed unchecked: sizes are bounded
before memory is taken, types come from a fixed list, words for people are ours. What a page means is not decided here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from core.errors import BadFile, BadInput, NotFound
from ingest.confine import MEMORY, unstarted
from ingest.form import Code, PageSurvey
from ingest.images import KIND, MAX_ORIGINAL, MAX_PAGES, MAX_PIXELS
from ingest.port import CodeReader, PageSource, Pixels, ScannedPage

_REQUESTS_PER_CHILD = 5_000
_STARTING_SECONDS = 60.0
_ROOT = Path(__file__).resolve().parent.parent

_WORDS = {
    "file.type": (
        "読み取れる形式ではありません。PDF、TIFF、JPEG、PNG、JPEG 2000、WebP で渡してください。",
        "not a type that can be read: give PDF, TIFF, JPEG, PNG, JPEG 2000 or WebP",
    ),
    "file.broken": ("ファイルが壊れています。もう一度スキャンしてください。", "the file is broken: scan it again"),
    "file.encrypted": (
        "パスワードで保護されています。解除して渡してください。",
        "the file needs a password: remove it and give it again",
    ),
    "file.empty": (
        "ファイルが空か、ページがありません。送り元を確かめてください。",
        "the file is empty or has no pages: check where it came from",
    ),
    "file.too_large": (
        "ページの大きさか枚数が上限を超えています。分割するか解像度を下げてください。",
        "a page or the number of pages is beyond the limits: split the file or lower the resolution",
    ),
    "file.timeout": (
        "決められた時間内に読み取れませんでした。もう一度スキャンしてください。",
        "could not be decoded within the time allowed: scan it again",
    ),
    "file.missing": (
        "ファイルが見つからないか、通常のファイルではありません。",
        "the file is not there or is not an ordinary file",
    ),
    "file.unreadable": ("ファイルを読む権限がありません。", "the file may not be read: check its permissions"),
}


def _bad(code: str) -> BadFile:
    words = _WORDS.get(code)
    return BadFile(*(words or _WORDS["file.broken"]), code=code if words else "file.broken")


def refusal(code: str) -> BadFile:
    """The error whose code stands beside a refused sheet, with its words for people."""
    words = _WORDS.get(code) or (
        "読み取れませんでした。紙を確かめ、もう一度スキャンしてください。",
        "could not be read: look at the paper and scan it again",
    )
    return BadFile(*words, code=code)


class _ChildEnded(Exception):
    """The child is gone, by this signal or exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Child:
    """One running decoder: its socket, its shared memory, what it has open."""

    def __init__(self, memory: int, seconds: float, *, programs: bool) -> None:
        ours, theirs = socket.socketpair()
        self.out = os.memfd_create("daicho-page", os.MFD_CLOEXEC)
        try:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-s", "-P", "-m", "ingest.decoder"),
                    *(str(theirs.fileno()), str(self.out), str(memory), str(max(1, round(seconds)))),
                    "programs" if programs else "alone",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={
                    "PYTHONPATH": str(_ROOT),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "PATH": "/usr/bin:/bin",
                    "LC_ALL": "C.UTF-8",
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                    # One arena: threads' own arenas would reserve address space that counts against the limit.
                    "MALLOC_ARENA_MAX": "1",
                },
                pass_fds=(theirs.fileno(), self.out),
            )
        except BaseException:
            ours.close()
            os.close(self.out)
            raise
        finally:
            theirs.close()
        self.socket = ours
        self.opened: tuple[int, ...] | None = None
        try:
            # Loading the libraries is not the first file's time.
            self.ask({"do": "start"}, b"", None, _STARTING_SECONDS)
        except (TimeoutError, _ChildEnded) as error:
            self.end()
            raise unstarted() from error
        self.requests = 0

    def ask(self, request: dict[str, Any], raw: bytes, descriptor: int | None, seconds: float) -> dict[str, Any]:
        """Send a request and wait for its answer; `TimeoutError`, `_ChildEnded`."""
        end = time.monotonic() + seconds
        body = json.dumps({**request, "bytes": len(raw)}).encode()
        try:
            self.socket.settimeout(seconds)
            head = struct.pack(">I", len(body))
            if descriptor is None:
                self.socket.sendall(head)
            else:
                socket.send_fds(self.socket, [head], [descriptor])
            self.socket.sendall(body)
            if raw:
                self.socket.sendall(raw)
            (length,) = struct.unpack(">I", self._receive(4, end))
            if length > 65536:
                raise _ChildEnded(self.end())
            answer = json.loads(self._receive(length, end))
        except TimeoutError:
            raise
        except (OSError, ValueError) as error:
            raise _ChildEnded(self.end()) from error
        if not isinstance(answer, dict):
            raise _ChildEnded(self.end())
        return answer

    def _receive(self, length: int, end: float) -> bytes:
        data = bytearray()
        while len(data) < length:
            self.socket.settimeout(max(0.001, end - time.monotonic()))
            part = self.socket.recv(length - len(data))
            if not part:
                raise _ChildEnded(self.end())
            data += part
        return bytes(data)

    def end(self) -> int:
        """Kill it if it still runs; its exit status. May be called twice."""
        with contextlib.suppress(OSError):
            self.socket.close()
        if self.out >= 0:
            os.close(self.out)
            self.out = -1
        try:  # its own end, if it is at it, says more than ours
            return self.process.wait(0.05)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def resident(self) -> int:
        """Bytes of memory it occupies."""
        try:
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return 0


class LimitedPageSource:
    """`PageSource` over one reused child process. Safe to share between threads: requests wait for each other.

    Args:
        memory: bytes of address space the child may use.
        seconds: wall clock and CPU time per request, after which the child is killed.
    """

    def __init__(self, *, memory: int = MEMORY, seconds: float = 20.0) -> None:
        self._memory, self._seconds = memory, seconds
        self._child: _Child | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> LimitedPageSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def count(self, path: Path) -> int:
        """See `PageSource.count`; also `file.missing`, `file.unreadable`."""
        count = self._about(path, {"do": "count"}, lambda child, answer: answer.get("count"))
        if not isinstance(count, int) or not 0 < count <= MAX_PAGES:
            raise _bad("file.broken")
        return count

    def page(self, path: Path, index: int) -> ScannedPage:
        """See `PageSource.page`. A page number the file does not have is `NotFound`."""
        if index < 0:
            raise BadInput("ページ番号が負です。", "negative page index")
        page: ScannedPage = self._about(path, {"do": "page", "index": index}, self._page)
        return page

    def decode(self, original: bytes, media_type: str) -> ScannedPage:
        """See `PageSource.decode`. The pixels are those `page` gave; the dpi is what the original itself says."""
        if media_type not in KIND:
            raise _bad("file.type")
        if len(original) > MAX_ORIGINAL:
            raise _bad("file.too_large")
        page: ScannedPage = self._asked({"do": "decode", "media_type": media_type}, original, None, None, self._page)
        return page

    def close(self) -> None:
        """End the child; may be called twice. A later call starts a new one."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _about(self, path: Path, request: dict[str, Any], take: Any) -> Any:
        try:
            # Not blocking: the name may be that of a pipe.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except PermissionError as error:
            raise _bad("file.unreadable") from error
        except (OSError, ValueError) as error:
            raise _bad("file.missing") from error
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise _bad("file.missing")
            if facts.st_size == 0:
                raise _bad("file.empty")
            identity = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
            return self._asked(request, b"", descriptor, identity, take)
        finally:
            os.close(descriptor)

    def _asked(
        self, request: dict[str, Any], raw: bytes, descriptor: int | None, identity: tuple[int, ...] | None, take: Any
    ) -> Any:
        with self._lock:
            for fresh in (False, True):
                child = self._ready(fresh=fresh)
                used = child.requests > 0
                known = identity is not None and child.opened == identity
                child.opened = identity
                child.requests += 1
                try:
                    answer = child.ask(request, raw, None if known else descriptor, self._seconds)
                    return self._taken(child, answer, take)
                except TimeoutError as error:
                    self._drop()
                    raise _bad("file.timeout") from error
                except _ChildEnded as error:
                    self._child = None
                    if used:
                        # An earlier file, or the end of the thread that started it, may be to blame: once more in a
                        # fresh one.
                        continue
                    raise _bad("file.timeout" if error.status == -signal.SIGXCPU else "file.broken") from error
            raise _bad("file.broken")

    def _ready(self, *, fresh: bool) -> _Child:
        child = self._child
        if child is not None and (
            fresh
            or child.process.poll() is not None
            or child.requests >= _REQUESTS_PER_CHILD
            or child.resident() > self._memory // 2
        ):
            self._drop()
            child = None
        if child is None:
            child = self._child = _Child(self._memory, self._seconds, programs=False)
        return child

    def _taken(self, child: _Child, answer: dict[str, Any], take: Any) -> Any:
        error = answer.get("error")
        if error is None:
            return take(child, answer)
        if error == "page":
            raise NotFound("そのページはありません。", "the file has no such page", code="page.missing")
        if error == "unrendered":
            original = self._held(child, answer.get("original"), 0, MAX_ORIGINAL)
            return self._drawn(original)
        raise _bad(str(error))

    def _drawn(self, original: bytes) -> ScannedPage:
        """A page pdfium refused, as poppler draws it, where poppler is installed."""
        if not any(Path(folder, "pdftoppm").exists() for folder in ("/usr/bin", "/bin")):
            raise _bad("file.broken")
        drawer = _Child(self._memory, self._seconds, programs=True)
        try:
            answer = drawer.ask({"do": "poppler"}, original, None, self._seconds)
            if "error" in answer:
                raise _bad(str(answer["error"]))
            return self._page(drawer, answer)
        except TimeoutError as error:
            raise _bad("file.timeout") from error
        except _ChildEnded as error:
            raise _bad("file.broken") from error
        finally:
            drawer.end()

    def _held(self, child: _Child, length: object, at: int, most: int) -> bytes:
        if not isinstance(length, int) or not 0 < length <= most:
            raise _bad("file.broken")
        data = bytearray(length)
        self._read(child, memoryview(data), at)
        return bytes(data)

    @staticmethod
    def _read(child: _Child, view: memoryview, at: int) -> None:
        """Copied, not mapped: the child could shorten the memory while we look at it."""
        while view:
            got = os.preadv(child.out, [view], at)
            if got == 0:
                raise _bad("file.broken")
            at, view = at + got, view[got:]

    def _page(self, child: _Child, answer: dict[str, Any]) -> ScannedPage:
        shape, dpi, media_type = answer.get("shape"), answer.get("dpi"), answer.get("media_type")
        if (
            not isinstance(shape, list)
            or not all(isinstance(side, int) and side > 0 for side in shape)
            or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3))
            or shape[0] * shape[1] > MAX_PIXELS
            or media_type not in KIND
            or not isinstance(dpi, (int, float))
            or not 1 <= dpi <= 10_000
        ):
            raise _bad("file.broken")
        original = self._held(child, answer.get("original"), 0, MAX_ORIGINAL)
        pixels: Pixels = np.empty(shape, dtype=np.uint8)
        self._read(child, memoryview(pixels.data).cast("B"), len(original))
        with contextlib.suppress(OSError):
            os.ftruncate(child.out, 0)  # gives the memory back before the next page
        return ScannedPage(original, str(media_type), pixels, float(dpi))


def is_blank(pixels: Pixels) -> bool:
    """Whether hardly anything dark is on the page. A flag for people: faint pencil may be called blank, so nothing is
    dropped for it."""
    grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    inner = grey[height // 33 : height - height // 33, width // 33 : width - width // 33]
    if inner.size == 0:
        return True
    paper = float(np.median(inner[::8, ::8]))
    return cv2.countNonZero(cv2.inRange(inner, 0, max(0, int(paper * 0.7)))) < 2e-5 * inner.size


def survey_page(source: PageSource, reader: CodeReader, path: Path, index: int) -> PageSurvey:
    """The first look at page `index` (from 0) of `path`."""
    page = source.page(path, index)
    return PageSurvey(
        index=index,
        media_type=page.media_type,
        digest=hashlib.sha256(page.original).hexdigest(),
        width=page.pixels.shape[1],
        height=page.pixels.shape[0],
        dpi=page.dpi,
        codes=tuple(reader.read(page.pixels)),
        blank=is_blank(page.pixels),
    )


def survey_file(source: PageSource, reader: CodeReader, path: Path) -> list[PageSurvey]:
    """The first look at every page of `path`; the first page that cannot be read raises."""
    return [survey_page(source, reader, path, index) for index in range(source.count(path))]


def read_codes(source: PageSource, reader: CodeReader, path: Path) -> Iterator[tuple[int, list[Code]]]:
    """(page index from 0, codes on it) for every page of `path`."""
    for index in range(source.count(path)):
        yield index, reader.read(source.page(path, index).pixels)
