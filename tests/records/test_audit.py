"""Checkpoints of a journal, and every way of tampering with it: found with one checkpoint kept elsewhere, and not without."""

from __future__ import annotations

import base64
import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from access.decide import Actor
from core.errors import BadInput, KeysMissing, NotFound, NotPermitted, StoreDamaged
from records import entries, proofs, queries
from records.audit import (
    Asked,
    audit_entries,
    expire,
    last_day_kept,
    newest_kept,
    origin,
    sign_checkpoint,
    the_signer,
)
from records.entries import FORMAT, Run, examine, leaf
from records.find import find
from records.indexing import feed
from records.models import Entry
from records.operation import log_key, note_alone, operation
from records.proofs import Verified, verify
from records.rebuild import rebuild
from storage import durable
from storage.canonical import canonical, sha256_hex
from storage.filesystem import FilesystemJournal, create_store
from storage.keys import create_keys
from storage.memory import MemoryJournal
from storage.merkle import consistency_proof, inclusion_proof
from storage.notes import Signer, checkpoint
from storage.tiles import CHECKPOINT, ENTRIES, PUBLIC_KEY, LogFolder, tile_place
from tests.house import House, use_catalogue
from tests.machine import need_built
from tests.servers import build

SIGNER = Signer(origin("s-memory"), bytes(range(32)))
NOBODY = Actor("", "cli")

sqlite = pytest.mark.parametrize("engine", ["sqlite"])


def journal(segments: Sequence[bytes]) -> MemoryJournal:
    made = MemoryJournal()
    for number, segment in enumerate(segments, 1):
        made.append(number, segment)
    return made


def segments(house: House) -> list[bytes]:
    return [data for _, data in house.stores.journal.segments()]


def verified(parts: Sequence[bytes], log: LogFolder | None = None, *notes: str, **told: Any) -> Verified:
    named = [(f"note {number}", note.encode()) for number, note in enumerate(notes)]
    return verify(partial(journal, parts), log, named, told.pop("keys", [SIGNER.verifier]), **told)


def codes(done: Verified) -> set[str]:
    return {fault.code for fault in done.faults}


@dataclass
class Town:
    """A house with a journal of some length, its log, and the checkpoints that were signed on the way."""

    house: House
    log: LogFolder
    notes: list[str]

    def sign(self) -> str:
        kept = sign_checkpoint(self.house.stores, NOBODY, self.log, SIGNER)
        if kept.note not in self.notes:
            self.notes.append(kept.note)
        return kept.note

    def look(self, times: int) -> None:
        for number in range(0, times, 5):
            self.house.later(seconds=1)
            with operation(self.house.stores, self.house.officer) as work:
                for each in range(number, min(number + 5, times)):
                    work.note("record_viewed", ledger="clients", data={"generation": each})


def lived(house: House, log: Path) -> Town:
    """A town whose journal fills a tile, with searches whose terms are in boxes."""
    made = Town(house, LogFolder(log), [])
    house.ledger()
    batch = house.batch(3)
    record = house.sealed(batch, 1)
    house.waiting(batch, 2)
    feed(house.stores)
    made.sign()
    find(house.stores, house.officer, "山田")
    made.look(250)
    made.sign()
    made.look(30)
    find(house.stores, house.officer, record)
    made.sign()
    return made


@pytest.fixture
def town(house: House, tmp_path: Path) -> Town:
    return lived(house, tmp_path / "log")


@dataclass(frozen=True)
class Copy:
    """What an auditor takes home: the journal, the log's folder, and the checkpoints from elsewhere."""

    parts: list[bytes]
    log: LogFolder
    notes: list[str]


@pytest.fixture(scope="session")
def recorded(blank_catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    folder = tmp_path_factory.mktemp("recorded")
    shutil.copyfile(blank_catalogue, folder / "catalogue.sqlite3")
    with use_catalogue(folder / "catalogue.sqlite3"):
        made = lived(House.founded(), folder / "log")
        return Copy(segments(made.house), made.log, made.notes)


@pytest.fixture
def copy(recorded: Copy, tmp_path: Path) -> Copy:
    """The same, to be harmed."""
    shutil.copytree(recorded.log.root, tmp_path / "log")
    return Copy(list(recorded.parts), LogFolder(tmp_path / "log"), recorded.notes)


def test_what_is_signed_is_proved(town: Town) -> None:
    done = verified(segments(town.house), town.log, *town.notes)
    assert done.faults == []
    assert (done.kept, done.entries, done.segments) == (3, queries.last_entry()[0], len(segments(town.house)))
    assert done.proven == done.entries - 1  # the last entry keeps the last checkpoint
    assert all(one.trusted and not one.fault for one in done.checkpoints)
    assert done.origin == "daicho/s-memory"
    assert done.tiles >= 4


@sqlite
def test_nothing_is_signed_twice(town: Town) -> None:
    before = queries.last_entry()
    assert town.sign() == town.notes[-1]
    note_alone(town.house.stores, NOBODY, "checkpoint_printed", data={"size": 1})
    assert town.sign() == town.notes[-1]
    assert queries.last_entry()[0] == before[0] + 1


@sqlite
@pytest.mark.parametrize("harm", ["lost", "checkpoint lost", "tile altered", "bundle lost"])
def test_the_log_is_made_again_from_the_journal(harm: str, town: Town) -> None:
    before = {path.relative_to(town.log.root): path.read_bytes() for path in town.log.root.rglob("*") if path.is_file()}
    size = checkpoint(town.notes[-1].encode()).size
    match harm:
        case "lost":
            for path in sorted(town.log.root.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
        case "checkpoint lost":
            (town.log.root / CHECKPOINT).unlink()
        case "tile altered":
            flip(town.log.root / tile_place(0, size // 256, size % 256), 100)
        case "bundle lost":
            (town.log.root / tile_place(ENTRIES, size // 256, size % 256)).unlink()
    if harm.endswith("lost") and harm != "bundle lost":  # nothing is signed, and the newest one is published again
        assert town.sign() == town.notes[2]
        assert verified(segments(town.house), town.log, *town.notes).faults == []
    town.look(1)
    town.sign()
    done = verified(segments(town.house), town.log, *town.notes)
    assert done.faults == []
    assert set(before) >= {Path("tile/0/000"), Path("tile/entries/000")}
    assert (town.log.root / "tile/0/000").read_bytes() == before[Path("tile/0/000")]


def flip(path: Path, bit: int) -> bytes:
    """Flip one bit of a file; its bytes before."""
    whole = path.read_bytes()
    data = bytearray(whole)
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.chmod(0o600)
    path.write_bytes(data)
    return whole


@sqlite
def test_a_journal_that_was_put_back_is_not_signed(town: Town, blank_catalogue: Path, tmp_path: Path) -> None:
    yesterday = segments(town.house)[:-20]
    (tmp_path / "old.sqlite3").write_bytes(blank_catalogue.read_bytes())
    stores = house_with(town.house, journal(yesterday))
    with use_catalogue(tmp_path / "old.sqlite3"):
        rebuild(stores)
        with pytest.raises(StoreDamaged) as caught:
            sign_checkpoint(stores, NOBODY, town.log, SIGNER)
    assert caught.value.code == "log.behind"


@sqlite
def test_a_journal_that_was_rewritten_is_not_signed(town: Town, tmp_path: Path) -> None:
    forged = rewritten(segments(town.house), lambda entries: entries[5]["data"].update(generation=9))
    with pytest.raises(StoreDamaged) as caught:
        sign_checkpoint(house_with(town.house, journal(forged)), NOBODY, LogFolder(tmp_path / "again"), other(SIGNER))
    assert caught.value.code in ("log.forked", "journal.broken")


def house_with(house: House, other_journal: MemoryJournal) -> Any:
    return replace(house.stores, journal=other_journal)


def other(signer: Signer) -> Signer:
    return Signer(signer.name, bytes(32))


def rewritten(parts: Sequence[bytes], change: Callable[[list[dict[str, Any]]], object]) -> list[bytes]:
    """The journal of somebody who can write all of it and has read the documents: changed, numbered and chained anew, without the kept
    checkpoints that would contradict it."""
    entries: list[dict[str, Any]] = []
    for data in parts:
        entries += json.loads(data)["entries"]
    change(entries)
    made: list[bytes] = []
    previous, number = "", 0
    for entry in entries:
        if entry["event"] == "checkpoint_signed":
            continue
        number += 1
        segment = {
            "format": FORMAT,
            "segment": len(made) + 1,
            "previous": previous,
            "entries": [{**entry, "number": number}],
        }
        made.append(canonical(segment))
        previous = sha256_hex(made[-1])
    return made


def _swap(entries: list[dict[str, Any]]) -> None:
    entries[30]["data"], entries[31]["data"] = entries[31]["data"], entries[30]["data"]


def _other_box(entries: list[dict[str, Any]]) -> None:
    personal = next(entry for entry in entries if entry["event"] == "searched")["personal"]
    personal["commitment"] = sha256_hex(b"something else")


TAMPERED: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "an entry deleted": lambda entries: entries.pop(40),
    "entries reordered": _swap,
    "an entry rewritten": lambda entries: entries[20].update(person=""),
    "an entry added": lambda entries: entries.insert(50, dict(entries[50])),
    "what is committed to replaced": _other_box,
    "the end cut off": lambda entries: entries.__delitem__(slice(-60, None)),
    "everything but the beginning": lambda entries: entries.__delitem__(slice(10, None)),
}


@pytest.mark.parametrize("tampered", TAMPERED)
def test_one_checkpoint_elsewhere_finds_it(tampered: str, copy: Copy) -> None:
    forged = rewritten(copy.parts, TAMPERED[tampered])
    elsewhere = copy.notes[1]
    done = verified(forged, None, elsewhere)
    assert codes(done) <= {"checkpoint.root", "checkpoint.ahead"} and done.faults
    assert done.proven == 0
    # The control: without it nothing is wrong, since whoever wrote this knows the format.
    assert verified(forged).faults == []
    # The log's folder finds it too, and says from which entry on.
    assert "tile.differs" in codes(verified(forged, copy.log)) or len(forged) < 250


def test_yesterdays_store_is_found_by_todays_checkpoint(copy: Copy) -> None:
    yesterday = copy.parts[:-20]
    done = verified(yesterday, None, copy.notes[-1])
    assert codes(done) == {"checkpoint.ahead"}
    assert verified(yesterday, None, copy.notes[0]).faults == []


def test_boxes_are_anchored_by_the_next_checkpoint(copy: Copy) -> None:
    """The leaves leave the boxes out; the kept checkpoints commit to the chain, which covers them."""
    parts = copy.parts
    entries = [json.loads(data) for data in parts]
    at = next(number for number, each in enumerate(entries) if each["entries"][0]["event"] == "searched")
    entries[at]["entries"][0]["personal"]["box"] = base64.b64encode(b"other bytes").decode()
    previous = ""
    forged = []
    for value in entries:
        forged.append(canonical({**value, "previous": previous}))
        previous = sha256_hex(forged[-1])
    done = verified(forged, None, *copy.notes)
    assert codes(done) == {"checkpoint.previous"}


def test_another_logs_checkpoint_is_told(copy: Copy) -> None:
    strange = Signer("daicho/s-other", bytes(32))
    note = strange.sign(checkpoint(copy.notes[0].encode()).text().replace("s-memory", "s-other"))
    for keys in ([SIGNER.verifier], []):
        done = verified(copy.parts, None, note, keys=keys)
        assert codes(done) == {"checkpoint.other_log"}
        assert [one.fault for one in done.checkpoints] == ["checkpoint.other_log"]


def test_a_checkpoint_that_somebody_else_signed_is_told(copy: Copy) -> None:
    note = other(SIGNER).sign(checkpoint(copy.notes[0].encode()).text())
    assert codes(verified(copy.parts, None, note)) == {"checkpoint.signature"}


def test_a_key_from_the_copy_is_not_called_trusted(copy: Copy) -> None:
    done = verified(copy.parts, copy.log, copy.notes[0], keys=[])
    assert done.faults == []
    assert [one.trusted for one in done.checkpoints] == [False, False]


def test_the_log_alone_is_enough_and_holds_no_personal_content(copy: Copy) -> None:
    done = verify(None, copy.log, [("note", copy.notes[0].encode())], [SIGNER.verifier], entry=3)
    assert done.faults == []
    assert done.entries == done.proven == checkpoint(copy.notes[-1].encode()).size
    assert done.proof.startswith("c2sp.org/tlog-proof@v1\nindex 2\n")
    boxes = [
        entry["personal"]["box"].encode()
        for data in copy.parts
        for entry in json.loads(data)["entries"]
        if "personal" in entry
    ]
    held = b"".join(path.read_bytes() for path in copy.log.root.rglob("*") if path.is_file())
    assert boxes and not [box for box in boxes if box in held]


def test_a_flipped_bit_is_found_and_located(copy: Copy) -> None:
    """Of every file of the log, and of the journal as far as it is signed."""
    parts = copy.parts
    chance = random.Random(11)
    files = [path for path in copy.log.root.rglob("*") if path.is_file() and path.name != "lock"]
    assert {"000", CHECKPOINT, PUBLIC_KEY} <= {path.name for path in files}
    for path in files:
        for _ in range(6):
            whole = flip(path, chance.randrange(8 * path.stat().st_size))
            done = verified(parts, copy.log, copy.notes[1], keys=[])
            places = {fault.place for fault in done.faults}
            name = path.relative_to(copy.log.root).as_posix()
            assert places & {f"log/{name}", f"log/{CHECKPOINT}"}, (name, done.faults)
            path.write_bytes(whole)
    assert verified(parts, copy.log).faults == []
    last = max(number for number, data in enumerate(parts) if b'"checkpoint_signed"' in data)
    for number in [*chance.sample(range(last), 25), last - 1]:
        data = bytearray(parts[number])
        bit = chance.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        done = verified([*parts[:number], bytes(data), *parts[number + 1 :]], copy.log, copy.notes[-1])
        near = {f"journal/0000/{each:06d}.json" for each in (number + 1, number + 2)}
        assert {fault.place for fault in done.faults} & near, (number, bit, done.faults)


def test_a_lost_segment_does_not_hide_the_rest(copy: Copy) -> None:
    parts = list(copy.parts)
    parts[20] = b"\0" * len(parts[20])
    parts[45] = parts[45].replace(b'"generation":', b'"generatiom":')
    done = verified(parts, copy.log, copy.notes[-1])
    assert {"journal.unreadable", "journal.chain", "checkpoint.root"} <= codes(done)
    assert {"journal/0000/000021.json", "journal/0000/000047.json"} <= {fault.place for fault in done.faults}
    (tile,) = [fault for fault in done.faults if fault.place == "log/tile/0/000"]
    assert tile.entry == json.loads(copy.parts[20])["entries"][0]["number"]


def test_numbers_times_and_fields_are_checked(copy: Copy) -> None:
    def forge(change: Callable[[dict[str, Any]], object]) -> Verified:
        parts = list(copy.parts)
        value = json.loads(parts[60])
        change(value["entries"][0])
        parts[60] = canonical(value)
        return verified(parts)

    assert "entry.number" in codes(forge(lambda entry: entry.update(number=7)))
    assert "entry.time" in codes(forge(lambda entry: entry.update(at="2020-01-01T00:00:00.000000Z")))
    for change in (
        {"via": "door"},
        {"at": "2026-04-01"},
        {"person": "yamada"},
        {"record": "r-1"},
        {"more": 1},
        {"data": []},
        {"personal": {"key": "", "box": ""}},
    ):
        assert "entry.fields" in codes(forge(lambda entry, change=change: entry.update(change)))
    done = forge(lambda entry: entry.pop("ledger"))
    assert "entry.fields" in codes(done)
    assert next(fault for fault in done.faults if fault.code == "entry.fields").place == "journal/0000/000061.json"


def test_a_segment_in_another_form_is_told() -> None:
    entry = {
        "at": "2026-04-01T00:30:00.000000Z", "batch": "", "data": {"f": 1e16}, "event": "x", "ledger": "", "number": 1,
        "person": "", "record": "", "via": "cli",
    }  # fmt: skip
    segment = {"format": FORMAT, "segment": 1, "previous": "", "entries": [entry]}
    data = canonical(segment)
    assert examine([(1, data)]).faults == []
    for wrong, code in (
        (data.replace(b",", b", ", 1), "journal.form"),
        (data.replace(b'"x"', b'"\\u0078"'), "journal.form"),
        (data.replace(b'"x"', b'"y","event":"x"'), "journal.form"),
        (data + b"\n", "journal.form"),
        (data.replace(b'"segment":1', b'"segment":2'), "journal.misplaced"),
        (data.replace(b"-journal-1", b"-journal-2"), "journal.misplaced"),
        (canonical({**segment, "entries": []}), "journal.misplaced"),
        (b'{"entries":[]}', "journal.unreadable"),
        (b"[" * 5000, "journal.unreadable"),
        (data.replace(b'"x"', b'"\\ud800"'), "journal.unreadable"),
        (data.replace(b"1e+16", b"NaN"), "journal.unreadable"),
        (b"", "journal.unreadable"),
        (data.replace(b"1e+16", b"1e16"), "journal.form"),
        (data.replace(b"1e+16", b"0.00001"), "journal.form"),
        (data.replace(b"1e+16", b"[" * 120 + b"]" * 120), "journal.unreadable"),
    ):
        assert code in {fault.code for fault in examine([(1, wrong)]).faults}, wrong


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=60)
@given(data=st.dictionaries(st.text(), JSON), personal=st.booleans(), deep=st.booleans())
def test_the_leaf_is_the_entry_without_its_box(data: dict[str, Any], personal: bool, deep: bool) -> None:
    if deep:
        data = {**data, "personal": {"box": 'x",', "key": '"personal":{"box":"'}}
    entry: dict[str, Any] = {
        "at": "2026-04-01T00:30:00.000000Z", "batch": "", "data": data, "event": "x", "ledger": "", "number": 5,
        "person": "", "record": "", "via": "cli",
    }  # fmt: skip
    expected = canonical(entry)
    if personal:
        bound = {"commitment": "0" * 64, "key": "k"}
        expected = canonical({**entry, "personal": bound})
        entry["personal"] = {**bound, "box": "QUJD"}
    assert leaf(entry) == expected
    run = examine([(1, canonical({"format": FORMAT, "segment": 1, "previous": "", "entries": [entry]}))])
    again = Run()
    again.take("", json.loads(expected), expected, boxed=False)
    assert run.leaves == again.leaves
    assert run.faults == again.faults == []


def a_segment(data: object, **changes: Any) -> bytes:
    """The second segment of a journal whose entries differ in what a check looks at."""
    entry: dict[str, Any] = {
        "at": "2026-04-01T00:30:00.000000Z", "batch": "", "data": {}, "event": "x", "ledger": "", "number": 5, "person": "",
        "record": "r-" + "a" * 26, "via": "cli",
    }  # fmt: skip
    personal = {"box": "eA==", "commitment": "0" * 64, "key": "k"}
    entries = [entry, {**entry, "number": 6, "personal": personal}, {**entry, "number": 7, "data": {"a": data}}]
    last = {**entry, "number": 8, "event": "checkpoint_signed", "data": {"previous": "", "note": "", "key": ""}}
    return canonical({"format": FORMAT, "segment": 2, "previous": "", "entries": [*entries, {**last, **changes}]})


HOSTILE = st.one_of(
    JSON,
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(max_codepoint=0x2FF, exclude_categories=())),
    st.text(st.sampled_from('"\\/\0\b\t\n\f\r\x1f\x7f\x80\u2028\ufeff\uffff\U00010000\U0010ffff{}[],:')),
)


@settings(max_examples=300)
@given(
    data=HOSTILE.map(lambda value: canonical(value)).map(json.loads),
    changes=st.dictionaries(
        st.sampled_from(["at", "number", "event", "person", "batch", "record", "via", "ledger", "personal", "other"]),
        st.sampled_from([None, "", "x", 8, 9, 8.0, True, "p-" + "b" * 26, "2026-04-01T00:29:00.000000Z", {}]),
        max_size=2,
    ),
    edits=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.integers(0, 4),
            st.sampled_from(
                [
                    b"",
                    b" ",
                    b"0",
                    b"-",
                    b".0",
                    b"e5",
                    b"\\u0041",
                    b"\\ud800",
                    b"\\/",
                    b"\x00",
                    b"\xff",
                    b'"',
                    b"{",
                    b"[]",
                    b",",
                    b'"a":1,',
                ]
            ),
        ),
        max_size=3,
    ),
)
def test_the_quick_way_says_what_the_slow_way_says(
    data: object, changes: dict[str, Any], edits: list[tuple[float, int, bytes]]
) -> None:
    segment = a_segment(data, **changes)
    for place, length, put in edits:
        at = int(place * len(segment))
        segment = segment[:at] + put + segment[at + length :]
    quick = entries._read(2, segment)
    if quick is not None:
        told = json.loads(segment)
        assert canonical(told) == segment
        assert quick[2] == [canonical(entry) for entry in told["entries"]]
    with pytest.MonkeyPatch.context() as patch:
        found = examine([(2, segment)])
        patch.setattr(entries, "_read", lambda number, data: None)
        assert examine([(2, segment)]) == found


def test_the_quick_way_is_taken() -> None:
    assert entries._read(2, a_segment({"a": [{"b": None, "c": "台帳\n\x7f", "d": 12, "e": True}]})) is not None


def test_a_leaf_that_is_too_long_stands_by_its_digest() -> None:
    entry = {"number": 5, "data": "x" * 70_000}
    assert leaf(entry) == canonical({"number": 5, "sha256": sha256_hex(canonical(entry))})


def test_workers_find_what_one_process_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "FEW", 0)
    monkeypatch.setattr(proofs, "AT_ONCE", 40)
    create_store(tmp_path / "store", "s-memory")
    real = FilesystemJournal(tmp_path / "store")
    previous = ""
    for number in range(1, 201):
        entry = {
            "at": f"2026-04-01T00:30:00.{number:06d}Z", "batch": "", "data": {}, "event": "x", "ledger": "",
            "number": number + (number > 150), "person": "", "record": "", "via": "cli",
        }  # fmt: skip
        data = canonical({"format": FORMAT, "segment": number, "previous": previous, "entries": [entry]})
        previous = sha256_hex(data)
        real.append(number, data)
    alone, together = (verify(partial(FilesystemJournal, tmp_path / "store"), None, jobs=jobs) for jobs in (1, 2))
    assert (alone.root, alone.faults) == (together.root, together.faults)
    assert codes(together) == {"entry.number"} and together.entries == 201


class Unreadable(MemoryJournal):
    """A journal on a disk that does not give one segment back."""

    def segments(self, first: int = 1) -> Iterator[tuple[int, bytes]]:
        for number, data in super().segments(first):
            if number == 30:
                raise durable.unreadable("EIO")
            yield number, data


def test_a_segment_that_the_disk_keeps_does_not_end_the_reading(recorded: Copy) -> None:
    broken = Unreadable()
    broken._segments = recorded.parts
    done = verify(lambda: broken, None, keys=[SIGNER.verifier])
    assert done.segments == len(recorded.parts)
    assert ("journal.unreadable", "journal/0000/000030.json") in {(each.code, each.place) for each in done.faults}
    assert {each.place for each in done.faults if each.place > "journal/0000/000031.json"} <= {
        f"entry {number}" for number in range(done.entries + 1)
    }


def test_a_log_that_grows_meanwhile_is_no_fault(town: Town) -> None:
    """`daicho serve` signs while somebody verifies: tiles may be newer than the segments that were counted."""
    parts, note = segments(town.house), (town.log.root / CHECKPOINT).read_bytes()
    town.look(60)
    town.sign()
    town.look(300)
    town.sign()
    place = town.log.root / CHECKPOINT
    place.chmod(0o600)
    place.write_bytes(note)  # as it was read first
    assert verified(parts, town.log).faults == []


def test_a_checkpoint_that_claims_more_than_there_is_costs_nothing(copy: Copy) -> None:
    said = checkpoint(copy.notes[0].encode())
    (copy.log.root / CHECKPOINT).chmod(0o600)
    (copy.log.root / CHECKPOINT).write_text(SIGNER.sign(replace(said, size=10**15).text()), "utf-8")
    done = verify(None, copy.log, keys=[SIGNER.verifier])
    assert {"tile.missing", "checkpoint.ahead"} <= codes(done) and not done.more


def test_without_anything_to_prove_that_is_said(recorded: Copy, tmp_path: Path) -> None:
    for opening in (None, partial(journal, [])):
        with pytest.raises(BadInput) as caught:
            verify(opening, LogFolder(tmp_path))
        assert caught.value.code == "audit.nothing"
    with pytest.raises(NotFound) as missing:
        verify(partial(journal, recorded.parts), None, entry=1)
    assert missing.value.code == "audit.no_entry"


def test_programs_of_others_verify_our_checkpoints_and_proofs(copy: Copy) -> None:
    judges = need_built(build.judges)
    told: dict[str, Any] = {"key": str(SIGNER.verifier), "inclusion": [], "consistency": []}

    def encoded(proof: Sequence[bytes]) -> list[str]:
        return [base64.b64encode(each).decode() for each in proof]

    sizes = [checkpoint(note.encode()).size for note in copy.notes]
    entries = [entry for data in copy.parts for entry in json.loads(data)["entries"]]
    for note, size in zip(copy.notes, sizes, strict=True):
        for index in range(0, size, 7):
            proof = inclusion_proof(index, size, copy.log.roots(sizes[-1]))
            held = base64.b64encode(leaf(entries[index])).decode()
            told["inclusion"].append({"index": index, "leaf": held, "proof": encoded(proof), "note": note})
        if size == sizes[-1]:
            shown = verified(copy.parts, None, note, entry=8).proof.split("\n\n")[0].split("\n")[2:]
            told["inclusion"].append(
                {"index": 7, "leaf": base64.b64encode(leaf(entries[7])).decode(), "proof": shown, "note": note}
            )
        for old, before in zip(copy.notes, sizes, strict=True):
            if before <= size:
                proof = consistency_proof(before, size, copy.log.roots(sizes[-1]))
                told["consistency"].append({"old": old, "new": note, "proof": encoded(proof)})

    def judged() -> subprocess.CompletedProcess[str]:
        return subprocess.run([judges], input=json.dumps(told), capture_output=True, text=True, check=False)

    ended = judged()
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) == len(told["inclusion"]) + len(told["consistency"]) > 50
    # The control: they do look.
    told["inclusion"][3]["leaf"] = told["inclusion"][4]["leaf"]
    assert judged().returncode == 1


# The signing key


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    create_keys(tmp_path / "keys", "s-memory")
    return tmp_path / "keys"


@sqlite
def test_the_key_that_signed_is_the_key_that_signs(house: House, keys: Path, tmp_path: Path) -> None:
    log = LogFolder(tmp_path / "log")

    def sign(*, new: bool = False) -> str:
        house.later(seconds=1)
        note_alone(house.stores, house.officer, "history_viewed")
        return sign_checkpoint(house.stores, NOBODY, log, the_signer(house.stores, keys, new=new)).key

    def refused() -> str:
        with pytest.raises(KeysMissing) as caught:
            sign()
        return caught.value.code

    first = sign()
    assert sign() == first
    whole = (keys / "log.key").read_bytes()
    (keys / "log.key").unlink()
    assert refused() == "log_key.missing"
    second = sign(new=True)
    assert second != first and sign() == second
    (keys / "log.key").chmod(0o600)
    (keys / "log.key").write_bytes(whole)
    assert refused() == "log_key.changed"
    done = verify(partial(journal, segments(house)), log)
    assert (done.faults, done.kept) == ([], 4)


# What an auditor sees


@pytest.fixture
def busy(house: House) -> House:
    house.ledger()
    feed(house.stores)
    find(house.stores, house.officer, "渡邊")
    house.later(days=1)
    find(house.stores, house.officer, "山田")
    note_alone(house.stores, NOBODY, "sign_in_refused", personal={"login": "taro"}, key=log_key(house.stores))
    return house


def shown(house: House, actor: Actor | None = None, **asked: Any) -> list[tuple[str, Any]]:
    found = audit_entries(house.stores, actor or house.officer, Asked(**asked))
    return [(each.row.event, each.personal) for each in found]


def test_an_auditor_sees_what_was_asked_and_that_is_journalled(busy: House) -> None:
    before = queries.last_entry()[0]
    assert [personal["text"] for _, personal in shown(busy, event="searched")] == ["渡邊", "山田"]
    assert [personal["text"] for _, personal in shown(busy, event="searched", since=date(2026, 4, 2))] == ["山田"]
    assert [personal["text"] for _, personal in shown(busy, event="searched", until=date(2026, 4, 1))] == ["渡邊"]
    assert shown(busy, refused=True) == [("sign_in_refused", {"login": "taro"})]
    assert ("ledger_defined", None) in shown(busy, ledger="clients")
    assert {event for event, _ in shown(busy, person=busy.officer.person)} >= {"person_saved", "searched"}
    assert [row.event for row in Entry.objects.filter(number__gt=before)] == ["audit_viewed"] * 6


@sqlite
def test_days_are_those_of_japan(busy: House) -> None:
    clock = busy.stores.clock
    clock.moment = datetime(2026, 4, 9, 15, 0, tzinfo=UTC)  # type: ignore[attr-defined]  # midnight of the 10th
    find(busy.stores, busy.officer, "a")
    assert shown(busy, event="searched", since=date(2026, 4, 10))[0][1]["text"] == "a"
    assert shown(busy, event="searched", since=date(2026, 4, 9), until=date(2026, 4, 9)) == []
    assert len(shown(busy, event="searched", since=date.min, until=date.max)) == 3


@sqlite
def test_nobody_else_sees_it(busy: House) -> None:
    clerk = busy.person("clerk", "records-office")
    before = queries.last_entry()
    with pytest.raises(NotPermitted):
        shown(busy, clerk)
    assert queries.last_entry() == before


@sqlite
def test_an_administrator_without_the_ledgers_right_sees_no_names_of_files(busy: House) -> None:
    busy.ledger("hidden", ("town",))
    clerk = busy.person("clerk", "town")
    House(busy.stores, clerk, busy.switch).batch(1, "hidden", "秘密の束")
    assert shown(busy, event="batch_opened") == [("batch_opened", None)]
    busy.ledger("hidden", ("town", "records-office"))
    assert shown(busy, event="batch_opened")[0][1]["name"] == "秘密の束"


# The end of the log's keys


def test_periods_follow_the_fiscal_year() -> None:
    assert last_day_kept(2026, 5) == date(2032, 3, 31)


@sqlite
@pytest.mark.parametrize(
    ("moment", "key"),
    [
        (datetime(2027, 3, 31, 14, 59, tzinfo=UTC), "log-2026"),
        (datetime(2027, 3, 31, 15, 0, tzinfo=UTC), "log-2027"),  # 1 April in Japan
    ],
)
def test_search_terms_lie_under_the_key_of_their_fiscal_year(moment: datetime, key: str, house: House) -> None:
    house.stores.clock.moment = moment  # type: ignore[attr-defined]
    assert log_key(house.stores) == key


@sqlite
def test_keys_whose_years_are_over_are_destroyed_and_proofs_go_on(busy: House, tmp_path: Path) -> None:
    log = LogFolder(tmp_path / "log")
    stores, clock = busy.stores, busy.stores.clock
    note = sign_checkpoint(stores, NOBODY, log, SIGNER).note

    def at(*moment: int) -> list[str]:
        clock.moment = datetime(*moment, tzinfo=UTC)  # type: ignore[attr-defined, misc]
        return expire(stores, busy.officer, 5)

    assert at(2032, 3, 31, 14) == []
    # A clock that has jumped ahead destroys nothing: nothing was written since 2026.
    assert at(2040, 1, 1) == []
    clock.moment = datetime(2032, 3, 31, 15, tzinfo=UTC)  # type: ignore[attr-defined]
    note_alone(stores, busy.officer, "history_viewed")
    before = queries.last_entry()[0]
    assert expire(stores, busy.officer, 5) == ["log-2026"]
    assert expire(stores, busy.officer, 5) == []
    assert [row.data for row in Entry.objects.filter(number__gt=before)] == [{"keys": ["log-2026"], "years": 5}]
    gone = list(audit_entries(stores, busy.officer, Asked(event="searched")))
    assert [(each.personal, each.forgotten) for each in gone] == [(None, True)] * 2
    assert [event for event, personal in shown(busy, event="person_saved") if personal] == ["person_saved"]
    sign_checkpoint(stores, NOBODY, log, SIGNER)
    done = verified(segments(busy), log, note, entry=3)
    assert done.faults == [] and done.proof
    with pytest.raises(NotPermitted):
        expire(stores, busy.person("clerk"), 5)


def test_the_newest_kept_checkpoint_is_that_of_the_journal(town: Town) -> None:
    kept = newest_kept()
    assert kept is not None and kept.note == town.notes[-1]
    assert kept.entry == kept.said.size + 1
