"""What the pool's tests let its processes do: a module of its own, because a process must be able to import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from core.errors import BadInput, ToolMissing


class Bench:
    """A context that says which process it is in."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.built = 0


def bench() -> Bench:
    return Bench()


def no_bench() -> Bench:
    raise ToolMissing("ない", "missing", code="tool.none")


def dying_bench() -> Bench:
    os.kill(os.getpid(), signal.SIGKILL)
    return Bench()


def work(context: Bench, task: tuple[str, str]) -> object:
    what, argument = task
    if what == "pid":
        context.built += 1
        return context.process, os.getpid(), context.built
    if what == "refuse":
        raise BadInput("だめ", "no", code="input.no")
    if what == "fail":
        raise RuntimeError(f"the name of {argument}")
    if what == "lambda":
        return lambda: None
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "kill once":
        mark = Path(argument)
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGSEGV)
        return "survived"
    if what == "threads":
        import cv2

        return cv2.getNumThreads(), os.environ["OMP_NUM_THREADS"]
    time.sleep(float(argument))
    return argument
