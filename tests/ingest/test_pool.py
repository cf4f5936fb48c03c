"""The pool of processes: every task has one outcome, whatever happens to the worker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import BadInput, DaichoError, ToolMissing
from ingest import pool

sys.path.append(str(Path(__file__).parent))  # the processes inherit it

from pool_work import bench, dying_bench, no_bench, work


def test_every_task_is_answered_once_by_a_few_processes() -> None:
    tasks = [("pid", str(n)) for n in range(20)]
    answers = list(pool.run(tasks, work, 2, bench))
    assert sorted(task for task, _ in answers) == sorted(tasks)
    processes = {answer[0] for _, answer in answers}  # type: ignore[index]
    assert 1 <= len(processes) <= 2
    assert os.getpid() not in processes
    assert all(answer[0] == answer[1] for _, answer in answers)  # type: ignore[index]
    # The context was built once a process, not once a task.
    assert max(answer[2] for _, answer in answers) >= 10  # type: ignore[index]


def test_errors_are_outcomes_and_quote_nothing() -> None:
    answers = dict(pool.run([("refuse", ""), ("fail", "山田"), ("lambda", "")], work, 1, bench))
    refused = answers["refuse", ""]
    assert isinstance(refused, BadInput)
    assert refused.code == "input.no"
    failed = answers["fail", "山田"]
    assert isinstance(failed, DaichoError)
    assert "RuntimeError" in failed.en
    assert "山田" not in failed.en + failed.ja
    assert isinstance(answers["lambda", ""], DaichoError)


def test_a_dead_worker_costs_its_task_alone(tmp_path: Path) -> None:
    tasks = [
        ("sleep", "0.01"),
        ("kill", ""),
        ("kill once", str(tmp_path / "mark")),
        *[("pid", str(n)) for n in range(6)],
    ]
    answers = dict(pool.run(tasks, work, 2, bench))
    assert len(answers) == len(tasks)
    dead = answers["kill", ""]
    assert isinstance(dead, DaichoError)
    assert dead.code == "sheet.crashed"
    assert answers["kill once", str(tmp_path / "mark")] == "survived"
    assert not any(isinstance(answer, DaichoError) for (what, _), answer in answers.items() if what != "kill")


def test_a_context_that_cannot_be_built_ends_the_run() -> None:
    with pytest.raises(ToolMissing):
        list(pool.run([("pid", "")], work, 1, no_bench))
    with pytest.raises(DaichoError) as caught:
        list(pool.run([("pid", ""), ("pid", "2")], work, 1, dying_bench))
    assert caught.value.code == "pool.start"


def test_tasks_are_taken_as_they_are_needed() -> None:
    taken = 0

    def endless() -> Iterator[tuple[str, str]]:
        nonlocal taken
        while True:
            taken += 1
            yield "sleep", "0.01"

    answers = pool.run(endless(), work, 2, bench)
    for _ in range(10):
        next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert taken <= 14


def test_libraries_use_one_thread_and_the_parents_environment_is_left() -> None:
    before = dict(os.environ)
    assert list(pool.run([("threads", "")], work, 1, bench)) == [(("threads", ""), (1, "1"))]
    assert dict(os.environ) == before


def test_no_tasks_start_no_process() -> None:
    assert list(pool.run([], work, 4, dying_bench)) == []


PARENT = """
import os, sys
sys.path[:0] = [{root!r}, {here!r}]
import pool_work
from ingest import pool
if __name__ == "__main__":
    for task, answer in pool.run([("pid", ""), ("sleep", "60")], pool_work.work, 2, pool_work.bench):
        print(answer[0], flush=True)
"""


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(root=str(Path.cwd()), here=str(Path(__file__).parent)))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert Path(f"/proc/{worker}").exists()
        parent.kill()
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text().split(")")[1][:3]:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the worker outlived its parent")
