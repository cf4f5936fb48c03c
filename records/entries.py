"""What a journal segment and its entries are, read without a catalogue: their form, their chain, and the leaf of each entry in the log's tree.

docs/formats.md says it in words. Nothing here opens a database or a key, so that a copy of the journal is enough.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from core.errors import BadInput
from storage.canonical import canonical, sha256_hex
from storage.merkle import HASH, leaf_hash
from storage.places import segment_place
from storage.tiles import LONGEST_LEAF

FORMAT = "daicho-journal-1"

SIGNED = "checkpoint_signed"
"""The event of an entry that keeps a checkpoint of the entries before it."""

LAG = 1000
"""An entry that keeps a checkpoint comes at most so many entries after those that it covers."""

MISSING = 100_000
"""So many entries may be lost in a row and those after them still be found in their place."""

_FIELDS = frozenset({"at", "batch", "data", "event", "ledger", "number", "person", "record", "via"})
_FIELDS_PERSONAL = _FIELDS | {"personal"}
_PERSONAL = frozenset({"box", "commitment", "key"})
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BOX = re.compile(r"[A-Za-z0-9+/]+=*")
_TEXTS = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\n[a-z_]{1,32}\n(?:p-[a-z2-7]{26})?\n(?:b-[a-z2-7]{26})?\n(?:r-[a-z2-7]{26})?\n(?:cli|web)",
    re.ASCII,
)
"""Time, event, person, batch, record and door of an entry."""


def _values(depth: int) -> Any:
    """The type of what an entry's data may hold, nested so deep. Without floats, which msgspec writes otherwise than `canonical`."""
    plain = str | int | bool | None
    if not depth:
        return plain
    inner = _values(depth - 1)
    return plain | list[inner] | dict[str, inner]  # type: ignore[valid-type]  # made as it runs


class _Personal(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The personal part of an entry."""

    box: str
    commitment: str
    key: str


class _Entry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """An entry as nearly all are. The fields stand in the order of the canonical form."""

    at: str
    batch: str
    data: dict[str, _values(10)]  # type: ignore[valid-type]  # made as it runs
    event: str
    ledger: str
    number: int
    person: str
    personal: _Personal | UnsetType = UNSET
    record: str
    via: str


class _Segment(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A segment as nearly all are."""

    entries: list[_Entry]
    format: str
    previous: str
    segment: int


_DECODER = msgspec.json.Decoder(_Segment)
_ENCODER = msgspec.json.Encoder(order="sorted")
"""Quick, and canonical for all that these types hold but a few numbers (1.0 for 1): what they give counts only where it is the very bytes that
were read. Everything else goes the slow way, by `json` and `canonical`, which alone says what is wrong.
"""


@dataclass(frozen=True)
class Fault:
    """Something wrong in a journal or its log: where (a file, and the number of an entry or 0), a stable code, and words."""

    code: str
    place: str
    entry: int
    detail: str


@dataclass
class Run:
    """What segments in a row, or the leaves of a bundle, say.

    `previous`: what the first segment says of the one before it; `digest`: SHA-256 (hex) of the last; both "" for a bundle. `first`: number of
    the first entry; `began`, `ended`: times of the first and the last. `leaves`: hashes of all entries, one after the other. `signed`: (number
    of the entry, its data) of the checkpoints kept among them.
    """

    previous: str = ""
    digest: str = ""
    segments: int = 0
    first: int = 0
    entries: int = 0
    began: str = ""
    ended: str = ""
    leaves: bytearray = field(default_factory=bytearray)
    signed: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def follows(self, entry: _Entry, form: bytes) -> bool:
        """Take the next entry, whose canonical form is `form`, if there is nothing to be said of it; else leave it to `take`."""
        at, personal = entry.at, entry.personal
        if (
            entry.number != self.first + self.entries
            or not self.entries
            or at < self.ended
            or not _TEXTS.fullmatch(f"{at}\n{entry.event}\n{entry.person}\n{entry.batch}\n{entry.record}\n{entry.via}")
            or entry.event == SIGNED
        ):
            return False
        if personal is not UNSET:
            if not _DIGEST.fullmatch(personal.commitment) or not _BOX.fullmatch(personal.box):
                return False
            form = _without_box(form)
        if len(form) > LONGEST_LEAF:
            return False
        self.entries += 1
        self.ended = at
        self.leaves += sha256(b"\0" + form).digest()  # `leaf_hash`, of millions
        return True

    def take(self, place: str, entry: Any, form: bytes, *, boxed: bool = True) -> None:
        """Take the next entry, whose canonical form is `form`; what is wrong with it becomes a fault, and it counts all the same."""
        expected = self.first + self.entries
        number, at, held = expected, self.ended, form
        if _is_entry(entry, boxed):
            number, at = entry["number"], entry["at"]
            if boxed:
                held = _leaf(number, entry, form)
            if entry["event"] == SIGNED:
                self.signed.append((number, entry["data"]))
        elif (
            not boxed
            and isinstance(entry, dict)
            and entry.keys() == {"number", "sha256"}
            and type(entry["number"]) is int
        ):
            number = entry["number"]
        else:
            self.faults.append(
                Fault("entry.fields", place, expected, "it has not the fields that the format gives an entry")
            )
        if not self.entries:
            self.first, self.began = number, at
        elif number != expected:
            self.faults.append(number_fault(place, number, expected))
            self.leaves += missing_leaves(number - expected)
            self.entries += len(self.leaves) // HASH - self.entries
        if at < self.ended:
            self.faults.append(Fault("entry.time", place, number, "it is older than the entry before it"))
        self.ended = max(at, self.ended)
        self.entries += 1
        self.leaves += leaf_hash(held)


def leaf(entry: dict[str, Any]) -> bytes:
    """What the leaf of an entry holds: the entry in canonical form without the box of its personal part, whose digest stays.

    One that is longer than a leaf may be stands there by its number and the SHA-256 of that form.
    """
    return _leaf(entry["number"], entry, canonical(entry))


def _leaf(number: int, entry: dict[str, Any], form: bytes) -> bytes:
    if "personal" in entry:
        form = _without_box(form)
    if len(form) > LONGEST_LEAF:
        return canonical({"number": number, "sha256": sha256_hex(form)})
    return form


def _without_box(form: bytes) -> bytes:
    # After the personal part come two ids alone, so this is where it begins; the box is its first field and holds no quotation mark.
    start = form.rfind(b'"personal":{"box":"') + len('"personal":{')
    return form[:start] + form[form.index(b'",', start) + 2 :]


def examine(segments: Iterable[tuple[int, bytes]]) -> Run:
    """Read segments in a row and say what is wrong with each; nothing ends it early."""
    run = Run()
    for number, data in segments:
        previous, entries, forms = _read(number, data) or _suspect(run, number, data)
        if not run.segments:
            run.previous = previous
        elif previous != run.digest:
            run.faults.append(chain_fault(number))
        run.segments += 1
        run.digest = sha256(data).hexdigest()
        for entry, form in zip(entries, forms, strict=True):
            if type(entry) is _Entry:
                if run.follows(entry, form):
                    continue
                entry = json.loads(form)  # as `take` wants it
            kept, place = len(run.signed), segment_place(number)
            run.take(place, entry, form)
            if len(run.signed) > kept and run.signed[-1][1].get("previous") != previous:
                words = "it was kept after another segment than now stands before it"
                run.faults.append(Fault("checkpoint.previous", place, run.signed[-1][0], words))
    return run


def _read(number: int, data: bytes) -> tuple[str, list[_Entry], list[bytes]] | None:
    """What a segment says of the one before it, its entries, and these in canonical form; None where it is not at once plain that all is well."""
    try:
        told = _DECODER.decode(data)
        forms = [_ENCODER.encode(entry) for entry in told.entries]
    except Exception:  # whatever it is, the slow way says it
        return None
    rest = f'],"format":"{FORMAT}","previous":"{told.previous}","segment":{number}}}'
    if not forms or b'{"entries":[' + b",".join(forms) + rest.encode() != data:
        return None
    return told.previous, told.entries, forms


def _suspect(run: Run, number: int, data: bytes) -> tuple[str, list[Any], list[bytes]]:
    """The same of any bytes; what is wrong with them as a segment becomes a fault."""
    place = segment_place(number)
    try:
        value = json.loads(data.decode("utf-8"))
        forms = [canonical(entry) for entry in value["entries"]]
        same = canonical(value) == data
        previous, misplaced = value["previous"], value["format"] != FORMAT or value["segment"] != number or not forms
        if not isinstance(previous, str):
            raise ValueError(number)
    except (ValueError, KeyError, TypeError, RecursionError, BadInput):
        run.faults.append(Fault("journal.unreadable", place, 0, "this is no segment of a journal"))
        return run.digest, [], []
    if misplaced:
        run.faults.append(Fault("journal.misplaced", place, 0, "the file says that it is something else"))
    if not same:
        run.faults.append(Fault("journal.form", place, 0, "the bytes are not the canonical form of what they say"))
    return previous, value["entries"], forms


def examine_leaves(place: str, leaves: Iterable[bytes]) -> Run:
    """The same of the leaves of a bundle: of a copy that leaves the boxes out, and so has no segments whose chain could be followed."""
    run = Run()
    for data in leaves:
        entry = None
        try:
            told = json.loads(data.decode("utf-8"))
            if canonical(told) == data:
                entry = told
        except (ValueError, RecursionError, BadInput):
            pass  # told as an entry without its fields
        run.take(place, entry, data, boxed=False)
    return run


def number_fault(place: str, number: int, expected: int) -> Fault:
    """An entry bears another number than the one that comes next."""
    return Fault("entry.number", place, number, f"it stands where number {expected} belongs")


def missing_leaves(count: int) -> bytes:
    """What stands for the hashes of entries that are lost, so that those after them keep their place in the tree."""
    return bytes(HASH * count) if 0 < count <= MISSING else b""


def chain_fault(number: int) -> Fault:
    """Segment `number` does not name the digest of the one before it."""
    return Fault(
        "journal.chain",
        segment_place(number),
        0,
        f"segment {number} does not follow {number - 1}: one of them was changed",
    )


def _is_entry(entry: Any, boxed: bool) -> bool:
    """Whether it has the fields of an entry, each of its form; the box of a personal part only where it is `boxed`."""
    if not isinstance(entry, dict):
        return False
    personal = entry.get("personal")
    if entry.keys() != (_FIELDS if personal is None else _FIELDS_PERSONAL):
        return False
    try:
        fits = _TEXTS.fullmatch(
            f"{entry['at']}\n{entry['event']}\n{entry['person']}\n{entry['batch']}\n{entry['record']}\n{entry['via']}"
        )
    except TypeError:
        return False
    if (
        not fits
        or type(entry["number"]) is not int
        or type(entry["data"]) is not dict
        or type(entry["ledger"]) is not str
    ):
        return False
    if personal is None:
        return True
    return (
        type(personal) is dict
        and personal.keys() == (_PERSONAL if boxed else _PERSONAL - {"box"})
        and all(type(each) is str for each in personal.values())
        and _DIGEST.fullmatch(personal["commitment"]) is not None
        and (not boxed or _BOX.fullmatch(personal["box"]) is not None)
    )
