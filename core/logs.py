"""The log of the machine, apart from the journal: one JSON object a line, for whoever keeps it running. Nothing of records, nothing of people.

What may stand in a line is a closed list of fields, none of which comes from outside: names of commands and routes, codes, classes of errors, places in
the code, counts, times, and the id of the request. The text of a message is never written, neither of an error that was not foreseen nor of a library:
Django's quotes addresses with what people searched for, a decoder's the names of files. A line of a library says which logger it came from and where in
the code; its words can be looked up there.

The log may be lost: nothing is proved by it, and where it cannot be written, work goes on. What was done, by whom, to which record, is in the journal.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from core.clock import stamp
from core.errors import DaichoError, NotReady, StoreDamaged
from core.ids import RandomIds
from core.settings import LogSettings

_OURS = logging.getLogger("daicho")
_OURS.addHandler(logging.NullHandler())  # until `begin`: Python prints what nobody handles
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_FRAMES = 30  # of a stack, the innermost

_request: ContextVar[str] = ContextVar("request", default="")
_handlers: list[logging.Handler] = []
_present = LogSettings()


def begin(where: LogSettings, *, stderr: bool = False) -> None:
    """Write all logs of this process as `where` says from now on; what was begun before ends.

    Args:
        stderr: without a file, write to standard error: for a process that serves; at a terminal, where people read along, only from a warning
            on. Of a command people read the messages.

    Raises:
        NotReady: (`log.unwritable`) the file cannot be written there.
    """
    global _present
    level = _LEVELS[where.level]
    handler: logging.Handler = logging.NullHandler()  # with no handler at all Python prints what libraries say
    if where.file is not None:
        if where.file.is_dir() or not os.access(where.file if where.file.exists() else where.file.parent, os.W_OK):
            raise _unwritable(where.file)
        handler = _File(where.file)
    elif stderr:
        handler = logging.StreamHandler(sys.stderr)
        level = max(level, logging.WARNING) if sys.stderr.isatty() else level
    handler.setFormatter(Line())
    root = logging.getLogger()
    for before in _handlers:
        root.removeHandler(before)
        before.close()
    _handlers[:], _present = [handler], where
    root.addHandler(handler)
    _OURS.setLevel(level)
    root.setLevel(max(level, logging.WARNING))  # what libraries say beneath a warning is theirs
    logging.raiseExceptions = False  # else a full disk would print the line's arguments


def present() -> LogSettings:
    """What the log was begun with: for a process that this one starts."""
    return _present


def _unwritable(file: Path) -> NotReady:
    return NotReady(
        f"ログのファイル {file} に書けません。フォルダーがあるか、書く権限があるかを確かめるか、設定 [log] の file を直してください。",
        f"The log file {file} cannot be written. Check that its folder is there and may be written to, or correct file in [log] of the settings.",
        code="log.unwritable",
    )


@contextmanager
def request() -> Iterator[str]:
    """Give a new id, which all lines of this thread bear until the block ends: one request of the pages, or one command."""
    token = _request.set(RandomIds().new("q")[:15])  # 65 random bits: short enough to be read out on the telephone
    try:
        yield _request.get()
    finally:
        _request.reset(token)


def request_id() -> str:
    """The id of the request that this thread is busy with, "" for none."""
    return _request.get()


def write(
    event: str,
    *,
    name: str = "",
    code: str = "",
    status: int | None = None,
    ms: float | None = None,
    counts: Mapping[str, int] | None = None,
    level: int = logging.INFO,
) -> None:
    """Write a line of our own.

    Args:
        event: what kind of line it is (docs/operate.md lists them).
        name: of a command or route, as our sources have it.
        code: an error code, or an outcome.
        status: HTTP status or exit code.
        ms: how long it took.
    """
    told = {
        "event": event,
        "name": name,
        "code": code,
        "status": status,
        "ms": None if ms is None else round(ms, 1),
        "counts": counts,
    }
    _OURS.log(level, event, extra={"told": {key: value for key, value in told.items() if value not in ("", None)}})


def coded(error: DaichoError) -> None:
    """Note an error that somebody is told, or that nobody is there to be told: its code and class, not its words."""
    serious = error.code == DaichoError.code or error.exit_code == StoreDamaged.exit_code
    extra = {"told": {"event": "error", "code": error.code, "error": type(error).__name__}}
    _OURS.log(logging.ERROR if serious else logging.WARNING, "error", extra=extra)


def failed(error: BaseException) -> None:
    """Note a failure that nobody foresaw: classes and places, no words and no values."""
    _OURS.error("failed", exc_info=error, extra={"told": {"event": "failed"}})


def raised(error: Exception) -> None:
    """Note an error of either kind."""
    if isinstance(error, DaichoError):
        coded(error)
    else:
        failed(error)


class Line(logging.Formatter):
    """A record as one line of JSON, without any text that came with it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": stamp(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
        }
        if request_id():
            line["request"] = request_id()
        told = getattr(record, "told", None)
        if record.name == _OURS.name and told is not None:
            line |= told
        else:
            line |= {"event": "library", "logger": record.name, "at": _place(record.pathname, record.lineno)}
        if record.exc_info and record.exc_info[1] is not None:
            line |= _raised(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def _raised(error: BaseException) -> dict[str, object]:
    """Class and stack of an error, and the classes of those behind it."""
    frames = traceback.extract_tb(error.__traceback__, limit=-_FRAMES)
    behind: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(behind) < _FRAMES:
        behind.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    made: dict[str, object] = {
        "error": type(error).__name__,
        "stack": [f"{_place(frame.filename, frame.lineno or 0)} {frame.name}" for frame in frames],
    }
    return made | ({"behind": behind} if behind else {})


def _place(file: str, line: int) -> str:
    """Folder, file and line: where the code lies on this machine is nobody's business."""
    return f"{'/'.join(Path(file).parts[-2:])}:{line}"


class _File(logging.Handler):
    """Appends each line with one write to the file, opened for it: lines of several processes do not mix, a file that was renamed (logrotate) is
    followed by a new one, and after a full disk nothing waits that would fail again. Readable by nobody else.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
            handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)
        except Exception:
            self.handleError(record)  # which says nothing: see `raiseExceptions`
