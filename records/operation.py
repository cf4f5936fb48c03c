"""One operation: its journal entries, the catalogue rows that follow from them, and the order in which both become true.

Inside one exclusive transaction: take the next numbers, fold the entries into the catalogue, write the segment to the store, commit. A crash
after the segment leaves the catalogue behind; the next operation, or the next start, folds what is missing first.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from access.decide import Actor
from core.clock import day_in_japan, stamp
from core.eras import fiscal_year
from core.errors import BadInput, DaichoError, KeysMissing, StoreDamaged
from records import fold, queries
from records.entries import FORMAT
from records.stores import Stores
from storage.canonical import canonical, sha256_hex
from storage.cipher import decrypt, encrypt
from storage.port import KeyStore

BEHIND = timedelta(minutes=5)
"""A clock that is so much before the last entry has been set back; less is two machines, or a clock being corrected."""

IDLE = timedelta(days=7)
"""So long after the last entry, the clock was set ahead or nobody was here for longer than over the new year: noted either way."""

LONGEST_ASKED = 200
"""Characters of what was asked for that the entry of a refusal keeps."""


@dataclass
class Operation:
    """Entries being gathered, with the personal part of each (None where it has none)."""

    stores: Stores
    actor: Actor
    number: int
    at: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    personal: list[Any] = field(default_factory=list)

    def note(
        self,
        event: str,
        *,
        ledger: str = "",
        batch: str = "",
        record: str = "",
        data: dict[str, Any] | None = None,
        personal: object = None,
        key: str = "",
    ) -> None:
        """Add an entry.

        Args:
            data: what the entry says, without personal data.
            personal: names, search terms, values; encrypted under `key`, which must exist. The entry commits to it by a salted digest.
        """
        if _holds_nul([data, personal]):
            raise BadInput(
                "使えない文字（NUL）が含まれています。入力から取り除いてください。",
                "The text holds a character that cannot be kept (NUL). Remove it.",
                code="input.nul",
            )
        entry: dict[str, Any] = {
            "number": self.number + len(self.entries),
            "at": self.at,
            "person": self.actor.person,
            "via": self.actor.via,
            "event": event,
            "ledger": ledger,
            "batch": batch,
            "record": record,
            "data": data or {},
        }
        if personal is not None:
            plain = canonical({"salt": secrets.token_hex(16), "value": personal})
            box = encrypt(plain, self.stores.keys.get(key).recipient)
            entry["personal"] = {"key": key, "commitment": sha256_hex(plain), "box": base64.b64encode(box).decode()}
        self.entries.append(entry)
        self.personal.append(personal)


@contextmanager
def operation(stores: Stores, actor: Actor) -> Iterator[Operation]:
    """Run one operation; its entries are in the store and the catalogue when the block ends, or in neither.

    Decisions that the entries rest on (who may, which generation is the newest) belong inside the block. The index hears of it afterwards
    (`Stores.outbox`).
    """
    with queries.exclusive():
        head = catch_up(stores)
        now = stores.clock.now()
        work = Operation(stores, actor, head.entry + 1, max(stamp(now), head.at))
        if _jumped(now, head.at):
            work.note("clock_jumped", data={"last": head.at, "clock": stamp(now)})
        yield work
        if work.entries:
            number = head.segment + 1
            segment = canonical({"format": FORMAT, "segment": number, "previous": head.digest, "entries": work.entries})
            fold.take(head, sha256_hex(segment), work.entries, work.personal)
            stores.journal.append(number, segment)
    if any(entry["event"] in queries.INDEXED_EVENTS for entry in work.entries):
        stores.outbox.waits.set()


def moment(stores: Stores) -> datetime:
    """Now, or the time of the last entry where the clock has fallen behind it: what is kept for years must not end early because somebody set
    the clock back. Times that are written down come from here.
    """
    now, (_, last_at) = stores.clock.now(), queries.last_entry()
    return max(now, datetime.fromisoformat(last_at)) if last_at else now


def _jumped(now: datetime, last_at: str) -> bool:
    """Whether the clock is so far from the last entry that it must be noted. While entries stand still behind a clock that was set back, once is enough."""
    if not last_at:
        return False
    last = datetime.fromisoformat(last_at)
    if now > last + IDLE:
        return True
    if now >= last - BEHIND:
        return False
    noted = queries.newest_entry("clock_jumped")
    return noted is None or noted.at != last_at or noted.data["clock"] > noted.data["last"]


def catch_up(stores: Stores) -> queries.Head:
    """Fold the segments that the catalogue lacks; call it inside `queries.exclusive()`. Returns where the catalogue ends then."""
    head = queries.head()
    for number, segment in stores.journal.segments(head.segment + 1):
        entries = opened(number, segment, head.digest)
        with taking_in(number):
            head = fold.take(
                head, sha256_hex(segment), entries, [personal_part(stores.keys, entry) for entry in entries]
            )
    return head


@contextmanager
def taking_in(number: int) -> Iterator[None]:
    """Around what is made of a segment's entries: what no entry of ours could be is damage (`journal.broken`), found before the next segment shows it."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(number) from error


def opened(number: int, segment: bytes, previous: str) -> list[dict[str, Any]]:
    """The entries of a segment, its place in the chain checked; `StoreDamaged` (`journal.broken`) where it does not fit."""
    try:
        value = json.loads(segment)
        fits = value["format"] == FORMAT and value["segment"] == number and value["previous"] == previous
        entries: list[dict[str, Any]] = value["entries"]
    except (ValueError, KeyError, TypeError) as error:
        raise _broken(number) from error
    if not fits:
        raise _broken(number)
    return entries


def personal_part(keys: KeyStore, entry: dict[str, Any]) -> Any:
    """The personal part of an entry, None when there is none or its key has been destroyed."""
    sealed = entry.get("personal")
    if not sealed:
        return None
    try:
        secret = keys.get(sealed["key"]).secret
    except KeysMissing:
        return None
    plain = decrypt(base64.b64decode(sealed["box"]), secret)
    if sha256_hex(plain) != sealed["commitment"]:
        raise StoreDamaged(
            f"記録簿の {entry['number']} 番の内容が約束と違います。控えから復元してください。",
            f"The personal part of journal entry {entry['number']} is not what the entry commits to. Restore from a backup.",
            code="journal.commitment",
        )
    return json.loads(plain)["value"]


def log_key(stores: Stores) -> str:
    """Id of the key of this fiscal year's personal log content, made durable when it is new."""
    key = log_key_of(fiscal_year(day_in_japan(moment(stores))))
    stores.keys.create([key])
    return key


def log_key_of(year: int) -> str:
    """Id of the key of a fiscal year's personal log content."""
    return f"log-{year}"


def note_alone(stores: Stores, actor: Actor, event: str, **parts: Any) -> None:
    """An operation of one entry, for reads and sign-ins: it is journalled before the answer leaves."""
    with operation(stores, actor) as work:
        work.note(event, **parts)


def note_refusal(stores: Stores, actor: Actor, door: str, error: DaichoError, asked: str) -> None:
    """Journal that somebody was refused: by which door, with which code, and what they had asked for (a text that may name people)."""
    note_alone(
        stores,
        actor,
        "access_refused",
        data={"door": door, "code": error.code},
        personal={"asked": asked.replace("\0", "")[:LONGEST_ASKED]},
        key=log_key(stores),
    )


def _holds_nul(value: object) -> bool:
    """Not every database can hold U+0000, so no journal may: it could not be moved."""
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_holds_nul(part) for pair in value.items() for part in pair)
        case list() | tuple():
            return any(_holds_nul(part) for part in value)
        case _:
            return False


def _broken(number: int) -> StoreDamaged:
    return StoreDamaged(
        f"記録簿の区切り {number} が壊れているか、前の区切りとつながりません。`daicho verify` で確かめ、控えから復元してください。",
        f"Journal segment {number} is damaged or does not follow the one before. Run `daicho verify` and restore from a backup.",
        code="journal.broken",
    )
