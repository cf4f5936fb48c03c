"""A pool of processes for work on pages that libraries may crash on. Knows neither pages nor records.

`concurrent.futures` gives up the whole pool when one worker dies; here a dead worker costs its task, which is tried
once more.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from core import logs
from core.errors import BadFile, DaichoError
from core.settings import LogSettings
from ingest.confine import end_with_parent

T = TypeVar("T")
R = TypeVar("R")
Context = TypeVar("Context")

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_STARTING = threading.Lock()


def _internal(error: BaseException) -> DaichoError:
    """Only the class: a message could quote the page."""
    name = type(error).__name__
    return DaichoError(
        f"内部エラー（{name}）。もう一度試し、続くときは保守担当に連絡してください。",
        f"internal error ({name}): try again, and tell support if it stays",
    )


def _crashed() -> BadFile:
    return BadFile(
        "このシートの処理中にプロセスが2度異常終了しました。人が確認してください。",
        "the process ended abnormally twice on this sheet: let a person look at it",
        code="sheet.crashed",
    )


def _serve(
    pipe: Connection,
    parent: int,
    log: LogSettings,
    context: Callable[[], Any],
    work: Callable[[Any, Any], Any],
) -> None:
    """A worker: builds its context once, then answers tasks until the pipe closes."""
    end_with_parent()
    if os.getppid() != parent:
        return
    # Ctrl-C reaches the whole group: the parent decides and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.begin(log)
    import cv2

    cv2.setNumThreads(1)
    try:
        made = context()
    except DaichoError as error:
        pipe.send(("unready", error))
        return
    except Exception as error:
        pipe.send(("unready", _internal(error)))
        return
    try:
        pipe.send(("ready", None))
        while True:
            try:
                task = pipe.recv()
            except EOFError:
                return
            result: Any
            try:
                result = work(made, task)
            except DaichoError as error:
                result = error
            except Exception as error:
                logs.failed(error)
                result = _internal(error)
            try:
                pipe.send(("done", result))
            except BrokenPipeError:
                return
            except Exception as error:  # a result that cannot be pickled
                pipe.send(("done", _internal(error)))
    finally:
        close = getattr(made, "close", None)
        if close is not None:
            close()


@dataclass
class _Worker(Generic[T]):
    process: BaseProcess
    pipe: Connection
    ready: bool = False
    task: tuple[T] | None = None

    def end(self, *, now: bool) -> None:
        """Close the pipe and let it finish its context; killed when asked or after five seconds."""
        with contextlib.suppress(OSError):
            self.pipe.close()
        if now:
            self.process.kill()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _started(work: Callable[[Any, Any], Any], context: Callable[[], Any]) -> _Worker[Any]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, os.getpid(), logs.present(), context, work), daemon=True)
    # The numerical libraries read these when they are loaded, which may be before the worker's first line runs.
    with _STARTING:
        before = {name: os.environ.get(name) for name in _ONE_THREAD}
        os.environ.update(_ONE_THREAD)
        try:
            process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
    theirs.close()
    return _Worker(process, ours)


def run(
    tasks: Iterable[T], work: Callable[[Context, T], R], jobs: int, context: Callable[[], Context]
) -> Iterator[tuple[T, R | DaichoError]]:
    """Do `work` on every task in `jobs` processes; yields (task, result) in order of completion.

    `work`, `context`, tasks and results must pickle. Each process calls `context` once, and `close()` on what it got,
    if it has that, at its end. Tasks are taken from the iterable one by one as processes become free, so it may be
    endless. A `DaichoError` raised by `work` is yielded; other exceptions are yielded as a `DaichoError` that names
    their class alone. A task whose process dies is tried once more, with no other task beside it, in a fresh process,
    and then yields `BadFile` `sheet.crashed`.

    Raises: what `context` raises; `pool.start` if processes die while building it. Closing the iterator kills the
    processes.
    """
    if jobs < 1:
        raise ValueError("jobs must be at least 1")
    source = iter(tasks)
    again: deque[tuple[T]] = deque()
    workers: list[_Worker[T]] = []
    waiting: tuple[T] | None = None
    exhausted = False
    finished = False
    try:
        while True:
            if waiting is None and not exhausted:
                try:
                    waiting = (next(source),)
                except StopIteration:
                    exhausted = True
            busy = [worker for worker in workers if worker.task is not None]
            if waiting is None and not busy and not again:
                finished = True
                return
            if again and not busy:
                yield _alone(again.popleft(), work, context)
                continue
            # While a task waits to be tried again nothing new is begun, so that it soon has the machine to itself.
            if waiting is not None and not again:
                free = next((worker for worker in workers if worker.task is None), None)
                if free is None and len(workers) < jobs:
                    free = _started(work, context)
                    workers.append(free)
                if free is not None:
                    free.task, waiting = waiting, None
                    if free.ready:
                        _hand(free)
                    continue
            for worker in _heard(workers):
                message = _message(worker)
                if message is None:
                    workers.remove(worker)
                    worker.end(now=True)
                    if worker.task is not None:
                        again.append(worker.task)
                elif message[0] == "unready":
                    raise message[1]
                elif message[0] == "ready":
                    worker.ready = True
                    _hand(worker)
                elif worker.task is not None:
                    (task,) = worker.task
                    worker.task = None
                    yield task, message[1]
    finally:
        for worker in workers:
            with contextlib.suppress(OSError):
                worker.pipe.close()  # all begin to end before the first is waited for
        for worker in workers:
            worker.end(now=not finished)


def _heard(workers: list[_Worker[Any]]) -> list[_Worker[Any]]:
    """The workers that sent something or died; waits for one."""
    heard = wait([thing for worker in workers for thing in (worker.pipe, worker.process.sentinel)])
    return [worker for worker in workers if worker.pipe in heard or worker.process.sentinel in heard]


def _hand(worker: _Worker[Any]) -> None:
    """Send its task; if the worker is dead, that is noticed when it is next listened to."""
    if worker.task is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.pipe.send(worker.task[0])


def _message(worker: _Worker[Any]) -> tuple[str, Any] | None:
    """What the worker sent; None if it is dead and sent nothing more."""
    try:
        if worker.pipe.poll():
            message: tuple[str, Any] = worker.pipe.recv()
            return message
    except (EOFError, OSError):
        pass
    return None


def _alone(task: tuple[T], work: Callable[[Any, T], R], context: Callable[[], Any]) -> tuple[T, R | DaichoError]:
    """The second try, in a fresh process that does nothing else."""
    worker = _started(work, context)
    worker.task = task
    try:
        while True:
            _heard([worker])
            message = _message(worker)
            if message is None and not worker.ready:
                raise DaichoError(
                    "作業プロセスを起動できません。メモリの空きと導入の状態を確かめてください。",
                    "worker processes end before they can work: check free memory and the installation",
                    code="pool.start",
                )
            if message is None:
                return task[0], _crashed()
            if message[0] == "unready":
                raise message[1]
            if message[0] == "done":
                result: R | DaichoError = message[1]
                return task[0], result
            worker.ready = True
            _hand(worker)
    finally:
        worker.end(now=False)
