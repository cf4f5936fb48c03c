"""A copy that follows the journal: whole at every moment, nothing read twice, nothing damaged brought."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.errors import Conflict, DigestMismatch
from storage.backup import Named, asking_disk, follow
from storage.copying import Side
from storage.filesystem import FilesystemDerivatives, FilesystemJournal, FilesystemObjects, create_store, object_place
from storage.memory import MemoryDerivatives, MemoryJournal, MemoryObjects
from storage.port import Pin
from tests.contracts.storage_contracts import version


def side(root: Path) -> Side:
    return Side(FilesystemObjects(root), FilesystemJournal(root), FilesystemDerivatives(root))


def memory(fail: Callable[[str, str], None] | None = None) -> Side:
    return Side(MemoryObjects(fail), MemoryJournal(fail), MemoryDerivatives(fail))


def named(number: int, segment: bytes, previous: str) -> Named:
    pins = tuple(Pin(*pin) for pin in json.loads(segment)["pins"])
    return Named(pins, tuple(pin.object_id for pin in pins))


def acknowledged(store: Side, *pins: Pin) -> None:
    """A segment that names these versions."""
    value = {"pins": [[pin.object_id, pin.number, pin.digest] for pin in pins]}
    store.journal.append(store.journal.last() + 1, json.dumps(value).encode())


@pytest.fixture
def source(root: Path) -> Side:
    """Three objects, one of them with two versions, a derivative; a version that nobody acknowledged."""
    store = side(root)
    first = store.objects.seal([version(f"r-{n}", a=b"%d" % n * 300, b=b"page") for n in (1, 2, 3)])
    store.derivatives.put({"r-1": b"thumbnail"})
    acknowledged(store, *first[:2])
    acknowledged(store, first[2])
    acknowledged(store, *store.objects.seal([version("r-2", 2, a=b"edited", carried=("b",))]))
    store.objects.seal([version("r-9", a=b"nobody knows")])
    return store


@pytest.fixture
def target(tmp_path: Path) -> Path:
    create_store(tmp_path / "copy", "s-1")
    return tmp_path / "copy"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that matters, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != "scratch"
    }


def test_the_copy_is_what_the_journal_names(source: Side, root: Path, target: Path) -> None:
    told = follow(source, side(target), named)
    assert (told.segments, told.new_segments, told.versions, told.damaged) == (3, 3, 4, ())
    expected = contents(root)
    for place in [place for place in expected if "/r-9/" in place]:
        del expected[place]
    assert contents(target) == expected
    assert (target / object_place("r-1") / "v1/content/a").stat().st_mode & 0o222 == 0
    assert FilesystemObjects(target).strays() == []


def test_the_second_time_nothing_old_is_asked_for(source: Side, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = side(target)
    follow(source, copy, named)
    asked: list[str] = []

    def noted(name: str, real: Callable[..., Any], *args: Any) -> Any:
        asked.append(name)
        return real(*args)

    for store, name in ((source, "source"), (copy, "copy")):
        for method in ("exported", "check", "head", "objects", "pin", "seal"):
            real = getattr(store.objects, method)
            monkeypatch.setattr(store.objects, method, partial(noted, f"{name}.{method}", real))
    assert follow(source, copy, named).new_segments == 0
    assert asked == []
    acknowledged(source, *source.objects.seal([version("r-1", 2, a=b"new", carried=("b",))]))
    source.derivatives.put({"r-1": b"thumbnaim"})
    asked.clear()
    told = follow(source, copy, named)
    assert (told.new_segments, told.versions) == (1, 1)
    assert "source.objects" not in asked and asked.count("source.exported") == 1
    assert copy.derivatives.get("r-1") == b"thumbnaim"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_broken_off_at_any_write_it_is_an_older_copy_and_goes_on(source: Side, moment: str) -> None:
    whole = memory()
    follow(source, whole, named)
    broken = 0
    for nth in range(1, 40):
        writes = 0

        def fail(operation: str, when: str) -> None:
            nonlocal writes
            writes += when == moment
            if writes == nth and when == moment:  # noqa: B023
                raise OSError("the power is gone")

        copy = memory(fail)
        try:
            follow(source, copy, named)
        except OSError:
            broken += 1
        for _, segment in copy.journal.segments():
            for pin in named(0, segment, "").pins:
                assert copy.objects.check(pin.object_id, [pin]).findings in ([], _later(copy, pin))
        follow(source, copy, named)
        assert copy.objects.files == whole.objects.files  # type: ignore[attr-defined]
        assert list(copy.journal.segments()) == list(whole.journal.segments())
    assert broken > 5


def _later(copy: Side, pin: Pin) -> list[Any]:
    """That a version above the pin is there already is no damage."""
    return [each for each in copy.objects.check(pin.object_id, [pin]).findings if each.code == "unacknowledged"]


def test_what_is_damaged_is_told_and_owed_and_the_rest_goes_on(source: Side, root: Path, target: Path) -> None:
    copy = side(target)
    follow(source, copy, named)
    pins = source.objects.seal([version("r-4", a=b"1234"), version("r-5", a=b"5678"), version("r-6", a=b"gone")])
    acknowledged(source, *pins)
    path = root / object_place("r-4") / "v1/content/a"
    path.unlink()
    path.write_bytes(b"1235")
    shutil.rmtree(root / object_place("r-6"))
    owed: list[tuple[Pin, int]] = []
    told = follow(source, copy, named, owe=lambda pin: owed.append((pin, copy.journal.last())))
    assert set(owed) == {(pins[0], 3), (pins[2], 3)}, "told before the segment that names them is there"
    assert {(each.object_id, each.code) for each in told.damaged} == {("r-4", "damaged"), ("r-6", "missing")}
    assert set(told.owed) == {pins[0], pins[2]} and told.segments == 4
    assert copy.objects.check("r-5", [pins[1]]).findings == []
    assert copy.objects.head("r-4") == 0
    again = follow(source, copy, named, told.owed)
    assert set(again.owed) == set(told.owed), "owed until it is there"
    path.unlink()
    path.write_bytes(b"1234")
    assert [pin.object_id for pin in follow(source, copy, named, told.owed).owed] == ["r-6"]
    assert copy.objects.check("r-4", [pins[0]]).findings == []


def test_a_copy_that_tells_something_else_is_refused(source: Side, target: Path) -> None:
    copy = side(target)
    follow(source, copy, named)
    before = contents(target)
    copy.journal.append(4, b'{"pins":[]}')
    with pytest.raises(Conflict) as caught:
        follow(source, copy, named)
    assert caught.value.code == "backup.ahead"
    acknowledged(source)
    acknowledged(source)
    with pytest.raises(Conflict) as caught:
        follow(source, copy, named)
    assert caught.value.code == "backup.diverged"
    assert {place: data for place, data in contents(target).items() if place in before} == before


def test_a_disk_that_gives_back_something_else_is_told(source: Side) -> None:
    """Control: the same disk, believed without being asked, would pass."""
    copy = memory()
    real = copy.objects.seal

    def forgetful(versions: Any) -> list[Pin]:
        pins = real(versions)
        for name in copy.objects.files:  # type: ignore[attr-defined]
            copy.objects.files[name] = b"rot"  # type: ignore[attr-defined]
        return pins

    copy.objects.seal = forgetful  # type: ignore[method-assign]
    with pytest.raises(DigestMismatch) as caught:
        follow(source, copy, named)
    assert caught.value.code == "backup.unverified"
    assert copy.journal.last() == 0, "what is not right is not acknowledged"


def test_what_is_read_back_is_asked_of_the_disk(source: Side, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that was written is let go of before it is read back."""
    asked: list[str] = []
    monkeypatch.setattr(
        "storage.durable.uncached", lambda fd: asked.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
    )
    follow(source, side(target), named, uncache=asking_disk(target))
    written = {
        str(path)
        for path in (target / "objects").rglob("*")
        if path.is_file() and len(path.relative_to(target).parts) > 4
    }
    assert set(asked) == written and len(written) > 20


def test_while_others_write_every_copied_segment_has_its_objects(source: Side, root: Path, target: Path) -> None:
    stop = threading.Event()

    def work() -> None:
        store, number = side(root), 0
        while not stop.is_set():
            number += 1
            name = f"r-run-{number}"
            pins = store.objects.seal([version(name, a=os.urandom(2000)), version(name, 2, b=b"x", carried=("a",))])
            acknowledged(store, *pins)

    writer = threading.Thread(target=work)
    writer.start()
    try:
        for _ in range(3):
            told = follow(source, side(target), named)
    finally:
        stop.set()
        writer.join()
    assert told.segments > 3
    copy = side(target)
    for _, segment in copy.journal.segments():
        for pin in named(0, segment, "").pins:
            assert copy.objects.read(pin, "a")
