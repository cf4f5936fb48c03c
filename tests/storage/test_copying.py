"""A whole store copied through the ports: the same pins, resumed after any break, refused where the target is not the same store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import Conflict, DigestMismatch, StorageFull
from storage.copying import Side, copy_store
from storage.filesystem import FilesystemDerivatives, FilesystemJournal, FilesystemObjects, create_store
from storage.memory import MemoryDerivatives, MemoryJournal, MemoryObjects
from storage.port import NewVersion


def memory(fail: Callable[[str, str], None] | None = None) -> Side:
    return Side(MemoryObjects(fail), MemoryJournal(fail), MemoryDerivatives())


def folder(root: Path) -> Side:
    create_store(root, "s-1")
    return Side(FilesystemObjects(root), FilesystemJournal(root), FilesystemDerivatives(root))


def filled(side: Side) -> Side:
    """Twenty objects, some with three versions, one of them left behind unacknowledged; segments; derivatives."""
    for n in range(20):
        name = f"r-{n}"
        side.objects.seal([new(name, 1, a=b"%d" % n, b=b"x" * n)])
        if n % 5 == 0:
            side.objects.seal([new(name, 2, a=b"left behind"), new(name, 3, ("a",), c=b"3")])
    for number in range(1, 6):
        side.journal.append(number, b'{"n":%d}' % number)
    side.derivatives.put({"r-1": b"derived"})
    return side


def new(name: str, number: int, carried: tuple[str, ...] = (), **files: bytes) -> NewVersion:
    return NewVersion(name, number, files, f"2026-04-0{number}T09:00:00Z", "u-1", "m", carried)


def contents(side: Side) -> dict[str, object]:
    """Everything a store says of itself."""
    pins = [
        side.objects.pin(name, number)
        for name in sorted(side.objects.objects())
        for number in range(1, side.objects.head(name) + 1)
    ]
    return {
        "objects": {pin: {path: side.objects.read(pin, path) for path in side.objects.paths(pin)} for pin in pins},
        "journal": list(side.journal.segments()),
        "derived": {name: side.derivatives.get(name) for name in side.derivatives.names()},
    }


def test_there_and_back_keeps_everything(tmp_path: Path) -> None:
    start = filled(folder(tmp_path / "a"))
    middle, end = memory(), folder(tmp_path / "b")
    copied = copy_store(start, middle)
    assert (copied.objects, copied.versions, copied.versions_written, copied.segments) == (20, 28, 28, 5)
    copy_store(middle, end)
    assert contents(start) == contents(middle) == contents(end)
    assert copy_store(end, start).versions_written == 0


def test_a_copy_goes_on_after_any_break() -> None:
    start = filled(memory())
    whole = memory()
    copy_store(start, whole)
    writes: list[str] = []
    counting = memory(lambda operation, moment: writes.append(moment))
    copy_store(start, counting)
    assert len(writes) > 60
    for broken in range(0, len(writes), 7):
        left = broken

        def fail(operation: str, moment: str) -> None:
            nonlocal left
            if left == 0:
                left = -1
                raise StorageFull("満杯", "full")
            left -= left > 0

        target = memory(fail)
        with pytest.raises(StorageFull):
            copy_store(start, target)
        copy_store(start, target)
        assert contents(target) == contents(whole)


def test_what_came_since_is_added() -> None:
    start, target = filled(memory()), memory()
    copy_store(start, target)
    start.objects.seal([new("r-1", 2, ("a",), d=b"later")])
    start.journal.append(6, b"{}")
    copied = copy_store(start, target)
    assert copied.versions_written == 1
    assert contents(start) == contents(target)


def test_a_source_that_goes_on_gives_what_it_was_at_the_beginning() -> None:
    """Objects that came meanwhile may be missing, so the journal that names them must be, too."""
    start, target = filled(memory()), memory()

    def work(done: int) -> None:
        if done == 20:
            start.objects.seal([new("r-later", 1, a=b"later")])
            start.journal.append(6, b'{"names":"r-later"}')

    copy_store(start, target, work)
    assert target.journal.last() == 5
    assert copy_store(start, target).segments == 6
    assert contents(start) == contents(target)


def test_a_target_that_went_its_own_way_is_refused() -> None:
    start = filled(memory())
    ahead = filled(memory())
    ahead.journal.append(6, b"{}")
    with pytest.raises(Conflict) as caught:
        copy_store(start, ahead)
    assert caught.value.code == "copy.ahead"
    other = filled(memory())
    other.objects.seal([new("r-2", 2, a=b"other")])
    with pytest.raises(DigestMismatch) as caught:
        copy_store(start, other)
    assert caught.value.code == "copy.differs"
    forked = memory()
    forked.objects.seal([new("r-3", 1, a=b"not the same")])
    with pytest.raises(DigestMismatch):
        copy_store(start, forked)
    chained = memory()
    chained.journal.append(1, b"another first segment")
    with pytest.raises(Conflict):
        copy_store(start, chained)


def test_a_damaged_source_is_not_copied(tmp_path: Path) -> None:
    start = filled(memory())
    assert isinstance(start.objects, MemoryObjects)
    start.objects.files["r-7", "v1/content/a"] = b"damaged"
    target = memory()
    with pytest.raises(DigestMismatch):
        copy_store(start, target)
    assert target.journal.last() == 0
