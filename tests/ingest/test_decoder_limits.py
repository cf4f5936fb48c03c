"""What the decoder's child cannot do, and what becomes of a request when it fails."""

from __future__ import annotations

import io
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.errors import BadFile
from ingest.confine import tried
from ingest.pages import LimitedPageSource
from tests.machine import need

sys.path.append(str(Path(__file__).parent))

from scans import grey, jpeg_pdf, saved

ROOT = Path(__file__).parents[2]

ATTEMPTS = """
import os, socket, sys
from ingest import confine
if {confined}:
    said = confine.confined(memory=1 << 30, file_size=1 << 20, programs={programs})
    assert set(said.values()) == {{"on"}}, said
def tried(what):
    try:
        what()
        return "done"
    except OSError as error:
        return type(error).__name__
def connected():
    with socket.create_connection(("127.0.0.1", {port}), timeout=5):
        pass
def started():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
def replaced():
    if {confined} and not {programs}:
        os.execv("/bin/true", ["true"])
print(*map(tried, (
    connected, lambda: socket.socketpair(), started, replaced, lambda: open({place!r} + "/new", "w").close(),
    lambda: open({place!r} + "/old").close(), lambda: os.unlink({place!r} + "/old"), lambda: os.kill(os.getppid(), 0),
)))
"""


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def attempts(tmp_path: Path, port: int, *, confined: bool, programs: bool = False) -> list[str]:
    (tmp_path / "old").touch()
    code = ATTEMPTS.format(confined=confined, programs=programs, port=port, place=str(tmp_path))
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_a_confined_process_reaches_nothing_an_ordinary_one_does(tmp_path: Path, port: int) -> None:
    assert attempts(tmp_path, port, confined=False) == ["done"] * 8
    assert attempts(tmp_path, port, confined=True) == ["PermissionError"] * 8


def test_what_this_machine_lets_a_decoder_give_up() -> None:
    names = ("memory", "file_size", "core", "descriptors", "privileges", "paths", "network", "seconds")
    assert tried() == dict.fromkeys(names, "on")


def test_the_decoder_is_confined(tmp_path: Path) -> None:
    with LimitedPageSource() as source:
        source.count(jpeg_pdf(tmp_path / "scan.pdf"))
        assert source._child is not None
        lines = Path(f"/proc/{source._child.process.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")


def test_poppler_draws_without_network_or_files(tmp_path: Path, port: int) -> None:
    need("pdftoppm")
    assert attempts(tmp_path, port, confined=True, programs=True)[0] == "PermissionError"
    with LimitedPageSource() as source:
        original = jpeg_pdf(tmp_path / "scan.pdf").read_bytes()
        page = source._drawn(original)
    assert page.pixels.shape[:2] == (3508, 2480)
    assert (page.media_type, page.dpi) == ("application/pdf", 300.0)
    assert (page.pixels < 100).mean() > 0.01


def test_a_decode_that_does_not_end_is_killed(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (3000, 3000), dtype=np.uint8)
    slow = tmp_path / "slow.jp2"
    slow.write_bytes(saved(Image.fromarray(noise), "JPEG2000"))
    with LimitedPageSource(seconds=0.4) as source:
        source._ready(fresh=False)
        started = time.monotonic()
        with pytest.raises(BadFile) as caught:
            source.page(slow, 0)
        assert caught.value.code == "file.timeout"
        assert time.monotonic() - started < 3


def test_a_stopped_child_is_replaced(tmp_path: Path) -> None:
    path = jpeg_pdf(tmp_path / "scan.pdf")
    with LimitedPageSource(seconds=1.5) as source:
        assert source.count(path) == 1
        assert source._child is not None
        stopped = source._child.process.pid
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(BadFile) as caught:
            source.page(path, 0)
        assert caught.value.code == "file.timeout"
        assert not Path(f"/proc/{stopped}").exists()
        assert source.count(path) == 1


def test_a_killed_child_costs_nothing_but_a_new_one(tmp_path: Path) -> None:
    path = jpeg_pdf(tmp_path / "scan.pdf", pages=2)
    with LimitedPageSource() as source:
        first = source.page(path, 0)
        assert source._child is not None
        os.kill(source._child.process.pid, signal.SIGKILL)
        assert source.page(path, 1).original == first.original
    source.close()
    assert source.page(path, 1).original == first.original  # a closed source opens again
    source.close()


def test_threads_may_share_a_source_and_end(tmp_path: Path) -> None:
    path = jpeg_pdf(tmp_path / "scan.pdf", pages=4)
    with LimitedPageSource() as source:
        found: list[int] = []
        for _ in range(2):  # the child dies with the thread that started it; the next request starts another
            threads = [threading.Thread(target=lambda: found.append(source.count(path))) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert found == [4] * 6


def test_what_a_child_says_is_not_believed(tmp_path: Path) -> None:
    with LimitedPageSource() as source:
        child = source._ready(fresh=False)
        good = {"original": 1, "media_type": "image/png", "shape": [1, 1], "dpi": 300}
        os.pwrite(child.out, b"\0\0", 0)
        assert source._page(child, good).pixels.shape == (1, 1)
        for lie in (
            {"shape": [1 << 40, 1]},
            {"shape": [10, 10, 4]},
            {"shape": [-1, -1]},
            {"shape": "all"},
            {"original": 1 << 40},
            {"original": 100},
            {"original": None},
            {"media_type": "text/html"},
            {"dpi": float("nan")},
        ):
            with pytest.raises(BadFile):
                source._page(child, good | lie)


def test_a_file_too_big_for_the_childs_memory_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("RGB", (11_000, 11_000)).save(out, "PNG")
    big = tmp_path / "big.png"
    big.write_bytes(out.getvalue())
    with LimitedPageSource(memory=512 << 20) as source:
        with pytest.raises(BadFile) as caught:
            source.page(big, 0)
        assert caught.value.code == "file.too_large"
        path = tmp_path / "small.png"
        path.write_bytes(saved(grey(), "PNG"))
        assert source.count(path) == 1


def test_hostile_files_end_as_pages_or_coded_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = ROOT.parent / "shared/data/bad-inputs"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) > 2000
    chosen = random.Random(20261121).sample(files, 150)
    outcomes: Counter[str] = Counter()
    with LimitedPageSource() as source:
        for path in chosen:
            try:
                for index in range(min(source.count(path), 5)):
                    page = source.page(path, index)
                    assert page.original
                    assert page.pixels.size
                outcomes["pages"] += 1
            except BadFile as error:
                assert error.code.startswith("file.")
                outcomes[error.code] += 1
    assert sum(outcomes.values()) == 150
    assert outcomes["pages"] > 10
    assert outcomes["file.broken"] > 10
    assert outcomes["file.type"] > 5
    assert list(tmp_path.iterdir()) == []  # the child could not write there, as the first test shows
