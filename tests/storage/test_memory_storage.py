"""The memory adapters keep the contracts, and whatever a failing write leaves behind, the rerun converges."""

from __future__ import annotations

import pytest

from storage.memory import MemoryDerivatives, MemoryJournal, MemoryKeys, MemoryObjects
from storage.port import Pin
from tests.contracts.storage_contracts import (
    Damage,
    DerivativeStoreContract,
    JournalContract,
    KeyStoreContract,
    ObjectStoreContract,
    version,
)


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def damage(objects: MemoryObjects) -> Damage:
    def change(pin: Pin, path: str) -> None:
        place = (pin.object_id, f"v{pin.number}/content/{path}")
        objects.files[place] = b"\x00" + objects.files[place][1:]

    return change


@pytest.fixture
def keys() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def derivatives() -> MemoryDerivatives:
    return MemoryDerivatives()


class TestMemoryObjects(ObjectStoreContract):
    pass


class TestMemoryKeys(KeyStoreContract):
    pass


class TestMemoryJournal(JournalContract):
    pass


class TestMemoryDerivatives(DerivativeStoreContract):
    pass


class Broken(Exception):
    """Raised by the hook."""


def test_a_broken_write_converges_when_run_again() -> None:
    """Break every write before and after it lands, one at a time; the rerun leaves the same state as an unbroken
    run.
    """
    points = 0
    while True:
        calls = 0

        def fail(operation: str, moment: str, point: int = points) -> None:
            nonlocal calls
            calls += 1
            if calls == point + 1:
                raise Broken(operation, moment)

        objects, keys, journal = MemoryObjects(fail), MemoryKeys(fail), MemoryJournal(fail)
        derivatives = MemoryDerivatives(fail)

        def run() -> list[Pin]:
            keys.create(["k-1", "k-2"])  # noqa: B023
            pins = objects.seal([version(a=b"1"), version("r-2", a=b"2"), version(number=2, b=b"3", carried=("a",))])  # noqa: B023
            journal.append(1, b"one")  # noqa: B023
            journal.append(2, b"two")  # noqa: B023
            derivatives.put({"r-1.1": b"thumb"})  # noqa: B023
            keys.destroy("k-2")  # noqa: B023
            derivatives.delete("r-2.1")  # noqa: B023
            return pins

        try:
            run()
            broken = False
        except Broken:
            broken = True
            keys.create(["k-1", "k-2"])
            pins = run()
            assert objects.read(pins[2], "a") == b"1"
            assert (objects.head("r-1"), objects.head("r-2")) == (2, 1)
        assert list(journal.segments()) == [(1, b"one"), (2, b"two")]
        assert (list(keys.ids()), list(derivatives.names())) == (["k-1"], ["r-1.1"])
        if not broken:
            break
        points += 1
    assert points == 20  # ten writes, each broken before and after
