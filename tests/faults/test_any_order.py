"""Capture, edit, destruction of keys, backup, restore and rebuild in any order, on folders as in an installation, against a model of three mappings."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from access.decide import Actor
from core.clock import FixedClock
from core.errors import BadInput, DigestMismatch, KeysMissing
from core.ids import RandomIds
from pipelines.backups import named
from records import queries
from records.capture import edit
from records.check import catalogue_digest, verify
from records.content import content
from records.found import found
from records.rebuild import rebuild
from records.stores import Stores
from search.memory import MemoryIndex
from storage.backup import follow
from storage.copying import Side
from storage.filesystem import FilesystemDerivatives, FilesystemJournal, FilesystemObjects, create_store, open_store
from storage.keycopies import copy_keys, restore_keys
from storage.keys import FilesystemKeys, create_keys
from tests.house import NOW, House, Switch, put_blank, use_catalogue

EXAMPLES = int(os.environ.get("DAICHO_ORDERS", "6"))

TEXTS = st.sampled_from(["甲", "乙", "丙"])


@dataclass
class Model:
    """What there is: the names that each record has had, oldest first, and whose key is gone."""

    records: dict[str, list[str]] = field(default_factory=dict)
    destroyed: set[str] = field(default_factory=set)


def opened(folder: Path) -> Stores:
    """The ports of the installation in `folder`, as a process that starts anew has them."""
    store_id = open_store(folder / "store")
    return Stores(
        store_id,
        FilesystemObjects(folder / "store"),
        FilesystemKeys(folder / "keys", store_id),
        FilesystemJournal(folder / "store"),
        FilesystemDerivatives(folder / "store"),
        MemoryIndex(),
        FixedClock(NOW),
        RandomIds(),
    )


def followed(source: Path, target: Path) -> None:
    """Let a new store in `target` follow the one in `source`."""
    create_store(target, "s-order")
    told = follow(*(Side(*_ports(folder)) for folder in (source, target)), named)
    if told.damaged:
        raise DigestMismatch("", told.damaged[0].detail)


def _ports(root: Path) -> tuple[FilesystemObjects, FilesystemJournal, FilesystemDerivatives]:
    return FilesystemObjects(root), FilesystemJournal(root), FilesystemDerivatives(root)


class AnyOrder(RuleBasedStateMachine):
    """Rules for what people and jobs do; what must hold after each is in the invariants."""

    blank: Path

    def __init__(self) -> None:
        super().__init__()
        self.left = ExitStack()
        self.folder = Path(self.left.enter_context(tempfile.TemporaryDirectory(prefix="daicho-order-")))
        self.catalogue = self.folder / "catalogue.sqlite3"
        self.left.enter_context(use_catalogue(self.catalogue))

    @initialize()
    def begin(self) -> None:
        put_blank(self.blank, self.catalogue)
        here = self.folder / "here"
        create_keys(here / "keys", "s-order")
        create_store(here / "store", "s-order")
        stores = opened(here)
        self.house = House(stores, Actor(found(stores, "試験市", "officer", "文書 整理"), "cli"), Switch())
        self.house.ledger()
        self.model = Model()
        self.copies: list[tuple[Path, Model]] = []
        self.batches = 0

    def teardown(self) -> None:
        self.left.close()

    @rule(text=TEXTS)
    def capture(self, text: str) -> None:
        self.batches += 1
        record = self.house.sealed(self.house.batch(1, name=f"{self.batches}"), 1, name=text)
        self.model.records[record] = [text]

    def _chosen(self, which: int) -> str:
        return sorted(self.model.records)[which % len(self.model.records)]

    @precondition(lambda self: self.model.records)
    @rule(which=st.integers(0, 9), text=TEXTS)
    def edit(self, which: int, text: str) -> None:
        record = self._chosen(which)
        names = self.model.records[record]
        try:
            edit(self.house.stores, self.house.officer, record, len(names), {"name": text}, "理由")
        except KeysMissing as error:
            assert (error.code, record in self.model.destroyed) == ("keys.gone", True)
        except BadInput as error:
            assert (error.code, names[-1]) == ("edit.nothing", text)
        else:
            assert record not in self.model.destroyed
            names.append(text)

    @precondition(lambda self: self.model.records)
    @rule(which=st.integers(0, 9))
    def destroy(self, which: int) -> None:
        record = self._chosen(which)
        self.house.stores.keys.destroy(record)
        self.model.destroyed.add(record)

    @rule()
    def back_up(self) -> None:
        target = self.folder / f"copy{len(self.copies)}"
        here = self.folder / "here"
        copy_keys(here / "keys", target, NOW, 30)
        followed(here / "store", target / "store")
        self.copies.append((target, deepcopy(self.model)))

    @precondition(lambda self: self.copies)
    @rule(which=st.integers(0, 9))
    def restore(self, which: int) -> None:
        """Everything that came after the copy is gone with the disk on which it was."""
        target, model = self.copies[which % len(self.copies)]
        here = self.folder / "here"
        shutil.rmtree(here)
        followed(target / "store", here / "store")
        restore_keys(target, here / "keys")
        self._opened_again(here)
        self.model = deepcopy(model)

    @rule()
    def make_again(self) -> None:
        before = catalogue_digest()
        self._opened_again(self.folder / "here")
        assert catalogue_digest() == before

    def _opened_again(self, here: Path) -> None:
        stores = opened(here)
        put_blank(self.blank, self.catalogue)
        rebuild(stores)
        self.house = House(stores, self.house.officer, Switch())

    @invariant()
    def every_generation_reads_as_it_was_sealed(self) -> None:
        if not hasattr(self, "model"):
            return
        for record, names in self.model.records.items():
            rows = queries.generations(record)
            assert [row.number for row in rows] == list(range(1, len(names) + 1))
            for row, name in zip(rows, names, strict=True):
                asked: Any = (self.house.stores, record, row.object_version, row.object_digest)
                try:
                    read = content(*asked).values["name"]
                except KeysMissing:
                    read = ""
                assert read == ("" if record in self.model.destroyed else name)

    @invariant()
    def nothing_is_found_but_the_keys_that_were_destroyed(self) -> None:
        if hasattr(self, "model"):
            findings = verify(self.house.stores).findings
            assert {(each.object_id, each.code) for each in findings} == {
                (record, "keys.gone") for record in self.model.destroyed
            }


def test_operations_in_any_order(blank_catalogue: Path) -> None:
    AnyOrder.blank = blank_catalogue
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=12,
            deadline=None,
            database=None,
            derandomize=EXAMPLES <= 6,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def machine(blank_catalogue: Path) -> Iterator[AnyOrder]:
    AnyOrder.blank = blank_catalogue
    begun = AnyOrder()
    begun.begin()
    begun.capture("甲")
    yield begun
    begun.teardown()


def test_a_key_that_was_not_destroyed_is_seen(machine: AnyOrder) -> None:
    """The control: the destruction forgets to destroy."""
    machine.every_generation_reads_as_it_was_sealed()
    machine.model.destroyed.update(machine.model.records)
    with pytest.raises(AssertionError):
        machine.every_generation_reads_as_it_was_sealed()
    with pytest.raises(AssertionError):
        machine.nothing_is_found_but_the_keys_that_were_destroyed()


def test_a_copy_that_is_another_is_seen(machine: AnyOrder) -> None:
    """The control: the backup copies something else."""
    machine.back_up()
    for file in machine.copies[0][0].rglob("record.json.age"):
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DigestMismatch):
        machine.restore(0)


def test_a_generation_that_is_lost_is_seen(machine: AnyOrder) -> None:
    """The control: an edit forgets to seal."""
    machine.model.records[next(iter(machine.model.records))].append("乙")
    with pytest.raises(AssertionError):
        machine.every_generation_reads_as_it_was_sealed()
