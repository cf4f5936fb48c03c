"""What every adapter of the ports of storage/port.py must do. An adapter's test gives the fixtures and one empty
class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

import pytest

from core.errors import BadInput, Conflict, DigestMismatch, KeysMissing, NotFound
from storage.cipher import decrypt, encrypt
from storage.memory import MemoryObjects
from storage.port import Content, DerivativeStore, Journal, KeyStore, Locks, NewVersion, ObjectStore, Pin
from storage.streams import LARGE, PIECE, Raw, buffered, digest_of, size_of

Damage = Callable[[Pin, str], None]


def version(object_id: str = "r-1", number: int = 1, *, carried: tuple[str, ...] = (), **files: Content) -> NewVersion:
    """A version whose files are named by the keywords (`_` stands for `.`)."""
    named = {name.replace("_", "."): data for name, data in files.items()}
    return NewVersion(object_id, number, named, f"2026-04-0{number}T09:00:00.000000Z", "u-1", "capture", carried)


@dataclass(frozen=True)
class Generated:
    """A `Source` of `size` bytes that nobody holds. `fails`: raised where the end would be told."""

    size: int
    fails: Exception | None = None

    def open(self) -> BinaryIO:
        return buffered(_Generating(self))


class _Generating(Raw):
    def __init__(self, of: Generated) -> None:
        self._of = of
        self._at = 0

    def _next(self, size: int) -> bytes:
        block, inside = divmod(self._at, BLOCK)
        piece = (hashlib.sha256(b"%d" % block).digest() * (BLOCK // 32))[inside : inside + size]
        piece = piece[: self._of.size - self._at]
        self._at += len(piece)
        if not piece and self._of.fails:
            raise self._of.fails
        return piece


BLOCK = 1 << 20
BIG = 2 * LARGE + 12345


def read_through(stream: BinaryIO) -> tuple[int, str]:
    """(bytes, SHA-512) of a stream that is read in pieces to its end."""
    hasher, size = hashlib.sha512(), 0
    with stream:
        while piece := stream.read(300_000):
            hasher.update(piece)
            size += len(piece)
    return size, hasher.hexdigest()


class ObjectStoreContract:
    """Fixtures: `objects` (empty store), `damage` (changes one byte of a content path of a pinned object)."""

    def test_what_was_sealed_is_read(self, objects: ObjectStore) -> None:
        [pin] = objects.seal([version(record_json=b"{}", page=b"\x00\xff" * 500)])
        assert (pin.object_id, pin.number) == ("r-1", 1)
        assert objects.read(pin, "record.json") == b"{}"
        assert objects.read(pin, "page") == b"\x00\xff" * 500
        assert objects.paths(pin) == {
            "page": hashlib.sha512(b"\x00\xff" * 500).hexdigest(),
            "record.json": hashlib.sha512(b"{}").hexdigest(),
        }
        assert objects.head("r-1") == 1

    def test_folders_in_logical_paths(self, objects: ObjectStore) -> None:
        new = NewVersion("r-1", 1, {"a/b/c.bin": b"1", "a/d": b""}, "2026-04-01T00:00:00Z", "u-1", "m")
        [pin] = objects.seal([new])
        assert objects.read(pin, "a/b/c.bin") == b"1"
        assert objects.read(pin, "a/d") == b""

    def test_the_same_again_gives_the_same_pin(self, objects: ObjectStore) -> None:
        first = objects.seal([version(a=b"1")])
        assert objects.seal([version(a=b"1")]) == first
        second = objects.seal([version(number=2, b=b"2", carried=("a",))])
        assert objects.seal([version(number=2, b=b"2", carried=("a",))]) == second
        assert objects.seal([version(a=b"1")]) == first
        assert objects.head("r-1") == 2

    def test_other_bytes_under_the_same_number_are_refused(self, objects: ObjectStore) -> None:
        [pin] = objects.seal([version(a=b"1")])
        with pytest.raises(Conflict):
            objects.seal([version(a=b"2")])
        with pytest.raises(Conflict):
            objects.seal([version(a=b"1", b=b"")])
        assert objects.read(pin, "a") == b"1"

    def test_a_number_may_not_be_skipped(self, objects: ObjectStore) -> None:
        with pytest.raises(Conflict):
            objects.seal([version(number=2, a=b"1")])
        assert objects.head("r-1") == 0
        assert list(objects.objects()) == []

    def test_an_earlier_version_stays_readable(self, objects: ObjectStore) -> None:
        pins = objects.seal(
            [version(a=b"1", b=b"x"), version(number=2, a=b"2", carried=("b",)), version(number=3, c=b"3")]
        )
        assert [objects.read(pin, "a") for pin in pins[:2]] == [b"1", b"2"]
        assert objects.read(pins[1], "b") == b"x"
        assert set(objects.paths(pins[2])) == {"c"}
        with pytest.raises(NotFound):
            objects.read(pins[2], "a")
        assert objects.head("r-1") == 3

    def test_what_is_exported_seals_elsewhere_under_the_same_pin(self, objects: ObjectStore) -> None:
        pins = objects.seal(
            [
                version(a=b"1", b=b"x", twin=b"x"),
                version(number=2, a=b"2", again=b"x", carried=("b", "twin")),
                version(number=3, c=b"3", carried=("again",)),
            ]
        )
        elsewhere = MemoryObjects()
        assert [elsewhere.seal([objects.exported(pin)])[0] for pin in pins] == pins
        assert elsewhere.read(pins[2], "again") == b"x"
        assert [objects.pin("r-1", number) for number in (1, 2, 3)] == pins
        for unknown in (("r-1", 4), ("r-1", 0), ("r-9", 1)):
            with pytest.raises(NotFound):
                objects.pin(*unknown)
        with pytest.raises(NotFound):
            objects.exported(Pin("r-9", 1, "0" * 128))

    def test_ten_versions(self, objects: ObjectStore) -> None:
        for number in range(1, 12):
            new = NewVersion("r-1", number, {"n": b"%d" % number}, "2026-04-01T00:00:00Z", "u-1", "m")
            [pin] = objects.seal([new])
        assert (objects.head("r-1"), objects.read(pin, "n")) == (11, b"11")
        assert objects.check("r-1", [pin]).findings == []

    def test_a_group_is_sealed_in_order(self, objects: ObjectStore) -> None:
        ids = [f"r-{n}" for n in range(20)]
        pins = objects.seal([version(object_id, a=object_id.encode()) for object_id in ids])
        assert [pin.object_id for pin in pins] == ids
        assert sorted(objects.objects()) == sorted(ids)
        assert all(objects.read(pin, "a") == pin.object_id.encode() for pin in pins)

    def test_equal_bytes_twice_in_a_version(self, objects: ObjectStore) -> None:
        [pin] = objects.seal([version(a=b"same", b=b"same")])
        assert objects.read(pin, "a") == objects.read(pin, "b") == b"same"
        assert objects.check("r-1", [pin]).files == 2

    def test_an_empty_group(self, objects: ObjectStore) -> None:
        assert objects.seal([]) == []

    @pytest.mark.parametrize(
        "path", ["", "/a", "a/", "../a", "a/../b", "a//b", ".a", "A", "a\n", "a b", "a\x00", "台帳", "-a", "a/./b"]
    )
    def test_paths_that_could_leave_the_object_are_refused(self, objects: ObjectStore, path: str) -> None:
        with pytest.raises(BadInput):
            objects.seal([NewVersion("r-1", 1, {path: b""}, "2026-04-01T00:00:00Z", "u-1", "m")])
        assert objects.head("r-1") == 0

    @pytest.mark.parametrize("object_id", ["", "..", "a/b", "R-1", "r-1\n", ".r", "r" * 101, "台帳"])
    def test_bad_ids_are_refused(self, objects: ObjectStore, object_id: str) -> None:
        with pytest.raises(BadInput):
            objects.seal([version(object_id, a=b"")])
        assert objects.head(object_id) == 0

    def test_a_file_may_not_be_a_folder_too(self, objects: ObjectStore) -> None:
        with pytest.raises(BadInput):
            objects.seal([NewVersion("r-1", 1, {"a": b"", "a/b": b""}, "2026-04-01T00:00:00Z", "u-1", "m")])

    def test_what_the_version_before_lacks_cannot_be_carried(self, objects: ObjectStore) -> None:
        objects.seal([version(a=b"1")])
        with pytest.raises(BadInput):
            objects.seal([version(number=2, carried=("b",))])
        assert objects.head("r-1") == 1

    def test_unknown_things_are_not_found(self, objects: ObjectStore) -> None:
        [pin] = objects.seal([version(a=b"1")])
        for unknown, path in ((pin, "b"), (Pin("r-1", 2, pin.digest), "a"), (Pin("r-2", 1, pin.digest), "a")):
            with pytest.raises(NotFound):
                objects.read(unknown, path)
        with pytest.raises(NotFound):
            objects.paths(Pin("r-2", 1, pin.digest))

    def test_a_pin_with_another_digest_reads_nothing(self, objects: ObjectStore) -> None:
        [pin] = objects.seal([version(a=b"1")])
        with pytest.raises(DigestMismatch):
            objects.read(Pin("r-1", 1, "0" * 128), "a")
        assert [finding.code for finding in objects.check("r-1", [Pin("r-1", 1, "0" * 128)]).findings][:1] == [
            "inventory"
        ]
        assert objects.read(pin, "a") == b"1"

    def test_damage_is_refused_and_located(self, objects: ObjectStore, damage: Damage) -> None:
        [pin, other] = objects.seal([version(a=b"1" * 100, b=b"2" * 100), version("r-2", a=b"1" * 100)])
        damage(pin, "a")
        with pytest.raises(DigestMismatch):
            objects.read(pin, "a")
        assert objects.read(pin, "b") == b"2" * 100
        found = objects.check("r-1", [pin]).findings
        assert [(finding.object_id, finding.path, finding.code) for finding in found] == [
            ("r-1", "v1/content/a", "damaged")
        ]
        assert objects.check("r-2", [other]).findings == []

    def test_check_counts_what_it_read(self, objects: ObjectStore) -> None:
        pins = objects.seal([version(a=b"1" * 10, b=b"2" * 20), version(number=2, c=b"3" * 5, carried=("a",))])
        checked = objects.check("r-1", pins)
        assert (checked.files, checked.bytes, checked.findings) == (3, 35, [])

    def test_versions_above_the_highest_pin_are_unacknowledged(self, objects: ObjectStore) -> None:
        pins = objects.seal([version(a=b"1"), version(number=2, a=b"2")])
        found = objects.check("r-1", pins[:1]).findings
        assert [(finding.path, finding.code) for finding in found] == [("v2", "unacknowledged")]

    def test_missing_objects_and_versions_are_findings(self, objects: ObjectStore) -> None:
        [pin] = objects.seal([version(a=b"1")])
        assert [finding.code for finding in objects.check("r-9", [Pin("r-9", 1, pin.digest)]).findings] == ["missing"]
        found = objects.check("r-1", [pin, Pin("r-1", 2, pin.digest)]).findings
        assert [(finding.path, finding.code) for finding in found] == [("v2", "missing")]

    def test_large_files_are_sealed_read_checked_and_copied(self, objects: ObjectStore) -> None:
        [pin] = objects.seal([version(whole=Generated(BIG), small=Generated(5), none=Generated(0), a=b"1")])
        assert objects.paths(pin)["whole"] == digest_of(Generated(BIG))
        assert read_through(objects.open(pin, "whole")) == (BIG, digest_of(Generated(BIG)))
        assert (objects.open(pin, "a").read(), objects.open(pin, "none").read()) == (b"1", b"")
        assert objects.read(pin, "small") == Generated(5).open().read()
        pieces: list[int] = []
        checked = objects.check("r-1", [pin], pieces.append)
        assert (checked.files, checked.bytes, checked.findings) == (4, BIG + 6, [])
        assert sum(pieces) >= BIG + 6 and max(pieces) <= PIECE, "held up in the middle of a file, too"
        assert objects.seal([version(whole=Generated(BIG), small=Generated(5), none=b"", a=b"1")]) == [pin]
        with pytest.raises(Conflict):
            objects.seal([version(whole=Generated(BIG + 1), small=Generated(5), none=b"", a=b"1")])
        [later] = objects.seal([version(number=2, b=b"2", carried=("whole",))])
        assert read_through(objects.open(later, "whole"))[0] == BIG
        copy = objects.exported(pin)
        whole = copy.files["whole"]
        assert not isinstance(whole, bytes) and size_of(whole) == BIG
        assert copy.files["a"] == b"1"
        assert MemoryObjects().seal([copy]) == [pin]

    def test_large_bytes_in_memory_are_sealed_as_they_are(self, objects: ObjectStore) -> None:
        data = Generated(BIG).open().read()
        [pin] = objects.seal([version(whole=data)])
        assert objects.read(pin, "whole") == data

    def test_a_large_file_is_not_told_to_end_before_it_was_found_right(
        self, objects: ObjectStore, damage: Damage
    ) -> None:
        [pin] = objects.seal([version(whole=Generated(BIG), a=b"1" * 100)])
        damage(pin, "whole")
        damage(pin, "a")
        for path in ("whole", "a"):
            read = 0
            with pytest.raises(DigestMismatch):
                stream = objects.open(pin, path)
                while piece := stream.read(100_000):
                    read += len(piece)
            assert read <= BIG
        with pytest.raises(DigestMismatch):
            MemoryObjects().seal([objects.exported(pin)])

    def test_a_stream_may_be_left(self, objects: ObjectStore) -> None:
        [pin] = objects.seal([version(whole=Generated(BIG), a=b"1")])
        for _ in range(20):
            with objects.open(pin, "whole") as stream:
                assert len(stream.read(10)) == 10
        assert objects.read(pin, "a") == b"1"

    def test_a_source_that_fails_leaves_its_version_absent(self, objects: ObjectStore) -> None:
        broken = DigestMismatch("だめ", "no")
        for size in (5, BIG):
            with pytest.raises(DigestMismatch) as caught:
                objects.seal([version(a=b"1", whole=Generated(size, broken))])
            assert caught.value is broken
        assert (objects.head("r-1"), list(objects.objects())) == (0, [])
        [pin] = objects.seal([version(a=b"1", whole=Generated(BIG))])
        assert objects.check("r-1", [pin]).findings == []

    def test_unknown_things_are_not_opened(self, objects: ObjectStore) -> None:
        [pin] = objects.seal([version(a=b"1")])
        for unknown, path in ((pin, "b"), (Pin("r-1", 2, pin.digest), "a"), (Pin("r-2", 1, pin.digest), "a")):
            with pytest.raises(NotFound):
                objects.open(unknown, path)
        with pytest.raises(DigestMismatch):
            objects.open(Pin("r-1", 1, "0" * 128), "a")

    def test_it_says_what_it_is(self, objects: ObjectStore) -> None:
        assert {"engine", "layout", "worm"} <= set(objects.describe())


class KeyStoreContract:
    """Fixture: `keys` (empty)."""

    def test_a_key_opens_what_it_closed(self, keys: KeyStore) -> None:
        [key] = keys.create(["k-1"])
        assert decrypt(encrypt(b"text", key.recipient), keys.get("k-1").secret) == b"text"

    def test_creating_again_gives_the_same_key(self, keys: KeyStore) -> None:
        first = keys.create(["k-1", "k-2"])
        assert keys.create(["k-2", "k-1", "k-2"]) == [first[1], first[0], first[1]]
        assert first[0].secret != first[1].secret
        assert list(keys.ids()) == ["k-1", "k-2"]

    def test_a_destroyed_key_is_gone(self, keys: KeyStore) -> None:
        old, kept = keys.create(["k-1", "k-2"])
        keys.destroy("k-1")
        keys.destroy("k-1")
        keys.destroy("k-never")
        with pytest.raises(KeysMissing) as caught:
            keys.get("k-1")
        assert caught.value.code == "keys.gone"
        assert keys.get("k-2") == kept
        assert list(keys.ids()) == ["k-2"]
        assert keys.create(["k-1"])[0].secret != old.secret

    def test_an_unknown_key_is_gone(self, keys: KeyStore) -> None:
        for key_id in ("k-1", "../master", ""):
            with pytest.raises(KeysMissing) as caught:
                keys.get(key_id)
            assert caught.value.code == "keys.gone"

    def test_nothing_is_wrong_with_a_new_one(self, keys: KeyStore) -> None:
        keys.create([f"k-{n}" for n in range(10)])
        assert keys.check() == []

    def test_the_secret_is_not_shown(self, keys: KeyStore) -> None:
        [key] = keys.create(["k-1"])
        assert key.secret not in repr(key)


class JournalContract:
    """Fixture: `journal` (empty)."""

    def test_segments_come_back_in_order(self, journal: Journal) -> None:
        assert journal.last() == 0
        for number in range(1, 8):
            journal.append(number, b"segment %d" % number)
        assert journal.last() == 7
        assert journal.read(3) == b"segment 3"
        assert list(journal.segments(6)) == [(6, b"segment 6"), (7, b"segment 7")]
        assert [number for number, _ in journal.segments()] == [1, 2, 3, 4, 5, 6, 7]

    def test_the_same_again_succeeds_and_other_bytes_do_not(self, journal: Journal) -> None:
        journal.append(1, b"one")
        journal.append(1, b"one")
        with pytest.raises(Conflict):
            journal.append(1, b"other")
        assert (journal.last(), journal.read(1)) == (1, b"one")

    @pytest.mark.parametrize("number", [-1, 0, 2, 3])
    def test_no_gap_can_be_made(self, journal: Journal, number: int) -> None:
        with pytest.raises(Conflict):
            journal.append(number, b"x")
        assert journal.last() == 0

    def test_beyond_the_last_there_is_nothing(self, journal: Journal) -> None:
        journal.append(1, b"one")
        for number in (0, 2, -1):
            with pytest.raises(NotFound):
                journal.read(number)
        assert list(journal.segments(2)) == []


class DerivativeStoreContract:
    """Fixture: `derivatives` (empty)."""

    def test_put_get_delete(self, derivatives: DerivativeStore) -> None:
        assert derivatives.get("r-1.1") is None
        derivatives.put({"r-1.1": b"one"})
        derivatives.put({"r-2.1": b""})
        derivatives.put({})
        assert (derivatives.get("r-1.1"), derivatives.get("r-2.1")) == (b"one", b"")
        derivatives.put({"r-1.1": b"two"})
        assert derivatives.get("r-1.1") == b"two"
        assert sorted(derivatives.names()) == ["r-1.1", "r-2.1"]
        derivatives.delete("r-1.1")
        derivatives.delete("r-1.1")
        assert derivatives.get("r-1.1") is None
        assert list(derivatives.names()) == ["r-2.1"]

    def test_a_group_is_written_together(self, derivatives: DerivativeStore) -> None:
        group = {f"r-{n}": b"%d" % n * 1000 for n in range(40)}
        derivatives.put({"r-7": b"before", "r-other": b"stays"})
        derivatives.put(group)
        derivatives.put(group)
        assert {name: derivatives.get(name) for name in derivatives.names()} == {**group, "r-other": b"stays"}


def later(days: int) -> str:
    """So many days from now, as `Locks` has it."""
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


class LocksContract:
    """Fixtures: `objects` (empty store), its `locks`; `ends` (object id -> when the lock of each sealed file ends) and
    `removed` (object id -> whether an administrator, who may go round locks with a date, could remove one just now).
    """

    def test_locks_are_lengthened_and_never_shortened(
        self, objects: ObjectStore, locks: Locks, ends: Callable[[str], list[datetime]]
    ) -> None:
        objects.seal([version(a=b"1"), version(number=2, b=b"2", carried=("a",)), version("r-2", a=b"1")])
        before, others, until = ends("r-1"), ends("r-2"), later(900)
        assert 0 <= locks.extend("r-1", until) <= len(before)
        after = ends("r-1")
        assert len(after) == len(before)
        assert all(datetime.fromisoformat(until) <= end < datetime.fromisoformat(later(901)) for end in after)
        assert locks.extend("r-1", until) == 0
        assert locks.extend("r-1", later(400)) == 0
        assert (ends("r-1"), ends("r-2")) == (after, others)

    def test_what_belongs_to_no_object_is_lengthened_too(self, objects: ObjectStore, locks: Locks) -> None:
        until = later(900)
        locks.extend_rest(until)
        assert locks.extend_rest(until) == 0
        assert locks.extend_rest(later(1000)) > 0

    def test_it_says_when_the_first_lock_ends(
        self, objects: ObjectStore, locks: Locks, ends: Callable[[str], list[datetime]]
    ) -> None:
        objects.seal([version(a=b"1"), version(number=2, b=b"2", carried=("a",)), version("r-2", a=b"1")])
        assert datetime.fromisoformat(locks.ends("r-1")) == min(ends("r-1")) > datetime.now(UTC)
        locks.extend("r-1", later(900))
        assert datetime.fromisoformat(locks.ends("r-1")) == min(ends("r-1")) >= datetime.fromisoformat(later(899))
        assert datetime.fromisoformat(locks.ends("r-2")) < datetime.fromisoformat(later(899))
        with pytest.raises(NotFound):
            locks.ends("r-9")

    def test_it_says_when_the_first_lock_of_the_rest_ends(self, objects: ObjectStore, locks: Locks) -> None:
        assert datetime.fromisoformat(locks.rest_ends()) > datetime.now(UTC)
        locks.extend_rest(later(900))
        assert datetime.fromisoformat(locks.rest_ends()) >= datetime.fromisoformat(later(899))

    def test_nothing_on_hold_can_be_removed(
        self, objects: ObjectStore, locks: Locks, removed: Callable[[str], bool]
    ) -> None:
        [pin, _] = objects.seal([version(a=b"1"), version("r-2", a=b"1")])
        locks.hold("r-1")
        locks.hold("r-1")
        assert not removed("r-1")
        assert objects.read(pin, "a") == b"1"
        assert removed("r-2")
        locks.release("r-1")
        locks.release("r-1")
        assert removed("r-1")

    def test_unknown_objects_cannot_be_locked(self, objects: ObjectStore, locks: Locks) -> None:
        with pytest.raises(NotFound):
            locks.extend("r-9", later(1))
        for change in (locks.hold, locks.release):
            with pytest.raises(NotFound):
                change("r-9")
