"""The journal as a log that can be proved: checkpoints signed and kept, what auditors are shown, and the end of the log's own keys.

The tree is built after the entries, never in their transaction. Proving without an installation is `records/proofs.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from access import queries as access_queries
from access.actions import ACTIONS
from access.decide import Actor, ledgers, require_administrator
from core.clock import TOKYO, day_in_japan, stamp
from core.errors import BadInput, KeysMissing, StoreDamaged
from records import queries
from records.entries import LAG, SIGNED, leaf
from records.models import Entry
from records.operation import log_key, log_key_of, note_alone, opened, operation, personal_part
from records.stores import Stores
from storage.canonical import sha256_hex
from storage.merkle import leaf_hash
from storage.notes import Checkpoint, Signer, checkpoint, make_log_key
from storage.notes import log_key as signing_key
from storage.tiles import CHECKPOINT, ENTRIES, WIDTH, Edge, LogFolder, Tile, bundle

ABOUT_CHECKPOINTS = (SIGNED, "checkpoint_witnessed", "checkpoint_printed")
"""Events after which no new checkpoint is worth signing."""

REFUSALS = ("access_refused", "sign_in_refused")

_AT_ONCE = 256
"""Tiles and bundles held before they are written."""


@dataclass(frozen=True)
class Kept:
    """A signed checkpoint that entry `entry` of the journal keeps. `key`: the public key as a line of text."""

    entry: int
    note: str
    key: str
    said: Checkpoint


def origin(store_id: str) -> str:
    """Name of the log of a store, and of the key that signs it."""
    return f"daicho/{store_id}"


def newest_kept() -> Kept | None:
    """The newest checkpoint in the journal."""
    row = queries.newest_entry(SIGNED)
    if row is None:
        return None
    return Kept(row.number, row.data["note"], row.data["key"], checkpoint(row.data["note"].encode()))


def the_signer(stores: Stores, keys_folder: Path, *, new: bool = False) -> Signer:
    """The key that signs this log, made when the log has none yet.

    Args:
        new: take another key than the one that has signed until now, because that one is lost for good.

    Raises:
        KeysMissing: `log_key.missing` (the key that has signed until now is not there), `log_key.changed` (another one is), `log_key.foreign`.
        DigestMismatch: (`log_key.damaged`).
    """
    found, kept = signing_key(keys_folder, origin(stores.id)), newest_kept()
    if kept is None or new:
        return found or make_log_key(keys_folder, origin(stores.id))
    if found is None:
        raise KeysMissing(
            "記録簿の署名鍵（log.key）がありません。鍵の控えから復元してください。完全に失ったときだけ `daicho audit checkpoint --new-key` で作り直し、"
            "新しい公開鍵を監査人に届けてください。",
            "The key that signs the journal (log.key) is missing. Restore it from the backup of the keys. Only if it is lost for good, make another "
            "with `daicho audit checkpoint --new-key` and bring the new public key to the auditor.",
            code="log_key.missing",
        )
    if str(found.verifier) != kept.key:
        raise KeysMissing(
            "記録簿の署名鍵（log.key）が、これまで署名してきた鍵と違います。鍵の控えから復元してください。入れ替えたのなら `daicho audit checkpoint --new-key` を実行してください。",
            "The key that signs the journal (log.key) is not the one that has signed until now. Restore it from the backup of the keys; if it was "
            "replaced on purpose, run `daicho audit checkpoint --new-key`.",
            code="log_key.changed",
        )
    return found


def sign_checkpoint(stores: Stores, actor: Actor, log: LogFolder, signer: Signer) -> Kept:
    """Bring the log's folder up to the journal, sign a checkpoint of all entries, keep it in the journal, publish it in the folder.

    Where nothing but checkpoints has come since the last one by this key, that one is published again and nothing is written.

    Raises:
        StoreDamaged: `log.behind` (the journal ends before a checkpoint that was published), `log.forked` (its entries are not those that
            were signed). Nothing is signed then.
    """
    with log.alone():
        while True:
            kept = newest_kept()
            _require_not_behind(log, kept)
            if (
                kept is not None
                and kept.key == str(signer.verifier)
                and not queries.entries_but(kept.said.size, ABOUT_CHECKPOINTS)
            ):
                if log.read(CHECKPOINT) != kept.note.encode():
                    _grow(stores, log, kept)
                    log.publish(kept.note, kept.key)
                return kept
            edge = _grow(stores, log, kept)
            said = Checkpoint(origin(stores.id), edge.size, edge.root())
            note, key = signer.sign(said.text()), str(signer.verifier)
            with operation(stores, actor) as work:
                number = work.number + len(work.entries)
                near = (
                    number - edge.size <= LAG
                )  # else others have written so much meanwhile that a reader would meet it too late
                if near:
                    previous = queries.last_segment().digest
                    work.note("checkpoint_signed", data={"key": key, "note": note, "previous": previous})
            if near:
                log.publish(note, key)
                return Kept(number, note, key, said)


def note_shown(stores: Stores, actor: Actor, how: str, kept: Kept) -> None:
    """Journal that a checkpoint was taken elsewhere: `witnessed` by a folder, or `printed`."""
    if how == "printed":
        note_alone(stores, actor, "checkpoint_printed", data={"size": kept.said.size})
    else:
        note_alone(stores, actor, "checkpoint_witnessed", data={"size": kept.said.size})


def _require_not_behind(log: LogFolder, kept: Kept | None) -> None:
    published = log.read(CHECKPOINT)
    if published is None:
        return
    try:
        size = checkpoint(published).size
    except BadInput:
        return  # damaged: it is made again from the one that is kept
    if size > (kept.said.size if kept else 0):
        raise StoreDamaged(
            "記録簿が、公開済みのチェックポイントより前で終わっています。古い控えに戻された恐れがあります。新しい控えから復元し、`daicho audit verify` で確かめてください。",
            "The journal ends before a checkpoint that was published: it may have been put back to an older state. Restore the newest backup and "
            "check with `daicho audit verify`.",
            code="log.behind",
        )


def _grow(stores: Stores, log: LogFolder, kept: Kept | None) -> Edge:
    """Write the tiles and bundles of the entries that the folder lacks; all of them where what is there does not fit the kept checkpoint."""
    found = log.edge(kept.said.size) if kept else None
    if kept is None or found is None or found[0].root() != kept.said.root:
        log.clear()
        found = Edge(), []
    edge, held = found
    waiting: list[Tile] = []
    first = queries.segment_of(edge.size + 1)
    if first is None:
        return edge
    previous = queries.segment_digests(first.number - 1, first.number - 1).get(first.number - 1, "")
    for number, segment in stores.journal.segments(first.number):
        entries, previous = opened(number, segment, previous), sha256_hex(segment)
        for entry in entries:
            if entry["number"] <= edge.size:
                continue
            data = leaf(entry)
            held.append(data)
            if tiles := edge.add(leaf_hash(data)):
                waiting += [Tile(ENTRIES, tiles[0].index, WIDTH, bundle(held)), *tiles]
                held = []
            if kept is None or edge.size != kept.said.size:
                continue
            waiting += _unfilled(edge, held)  # what that checkpoint stands on
            if edge.root() != kept.said.root:
                raise StoreDamaged(
                    "記録簿の記入が、署名したときのものと違います。`daicho audit verify` で場所を確かめ、控えから復元してください。",
                    "The entries of the journal are not those that were signed. Find the place with `daicho audit verify` and restore from a backup.",
                    code="log.forked",
                )
        if len(waiting) >= _AT_ONCE:
            log.put(waiting)
            waiting = []
    log.put([*waiting, *_unfilled(edge, held)])
    return edge


def _unfilled(edge: Edge, held: Sequence[bytes]) -> list[Tile]:
    """The bundle and the tiles at the edge of the log."""
    last = [Tile(ENTRIES, edge.size // WIDTH, len(held), bundle(held))] if held else []
    return [*last, *edge.partial()]


@dataclass(frozen=True)
class Asked:
    """Which entries an auditor wants to see; None and False leave a condition out.

    `since`, `until`: days in Japan, both included. `person`, `record`, `batch`: ids. `refused`: refusals alone.
    """

    since: date | None = None
    until: date | None = None
    person: str | None = None
    event: str | None = None
    ledger: str | None = None
    record: str | None = None
    batch: str | None = None
    refused: bool = False


@dataclass(frozen=True)
class ShownEntry:
    """An entry as an auditor sees it. `login`: of the person, "" where nobody was signed in. `personal`: its personal part, None where there is
    none or its key has been destroyed (`forgotten`).
    """

    row: Entry
    login: str
    personal: Any
    forgotten: bool


def audit_entries(stores: Stores, actor: Actor, asked: Asked) -> Iterator[ShownEntry]:
    """The entries asked for, oldest first, with their personal parts; journalled (`audit_viewed`) before the first leaves.

    Raises:
        NotPermitted: the actor is no administrator.
    """
    require_administrator(actor)
    told = {each.name: getattr(asked, each.name) for each in fields(asked)}
    conditions = {
        name: value.isoformat() if isinstance(value, date) else value for name, value in told.items() if value
    }
    note_alone(stores, actor, "audit_viewed", personal={"asked": conditions}, key=log_key(stores))
    upto, _ = queries.last_entry()
    return _shown(stores, actor, asked, upto)


def _shown(stores: Stores, actor: Actor, asked: Asked, upto: int) -> Iterator[ShownEntry]:
    conditions: dict[str, Any] = {
        name: value
        for name in ("person", "event", "ledger", "record", "batch")
        if (value := getattr(asked, name)) is not None
    }
    if asked.refused:
        conditions["event__in"] = REFUSALS
    if asked.since:
        conditions["at__gte"] = stamp(datetime.combine(max(asked.since, date(1900, 1, 1)), time(), TOKYO))
    if asked.until:
        conditions["at__lte"] = stamp(datetime.combine(asked.until, time.max, TOKYO))
    logins: dict[str, str] = {}
    permitted = ledgers(actor, *ACTIONS)
    segment, boxes = 0, {}
    for row in queries.entries(upto, conditions):
        if row.person not in logins:
            known = access_queries.person(row.person) if row.person else None
            logins[row.person] = known.login if known else row.person
        if row.segment_id != segment:
            segment = row.segment_id
            previous = queries.segment_digests(segment - 1, segment - 1).get(segment - 1, "")
            held = opened(segment, stores.journal.read(segment), previous)
            boxes = {entry["number"]: entry for entry in held if "personal" in entry}
        entry = boxes.get(row.number)
        sees = entry is not None and (not row.ledger or row.ledger in permitted or _of_the_log(entry))
        personal = personal_part(stores.keys, entry) if entry is not None and sees else None
        yield ShownEntry(row, logins[row.person], personal, sees and personal is None)


def _of_the_log(entry: dict[str, Any]) -> bool:
    """Whether the personal part is about the asking, not about a record: search terms, refused logins."""
    return bool(entry["personal"]["key"].startswith("log-"))


def last_day_kept(year: int, years: int) -> date:
    """The last day on which the personal log content of a fiscal year is kept: `years` years from the 1 April that follows it."""
    return date(year + 1 + years, 3, 31)


def expire(stores: Stores, actor: Actor, years: int) -> list[str]:
    """Destroy the keys of the log's fiscal years whose period is over; their ids. Journalled first; proofs go on, since leaves commit by digest.

    A period is over when both the clock and the newest entry say so: a clock that jumped ahead destroys nothing.

    Args:
        years: how long the log is kept, at least 5.

    Raises:
        NotPermitted: the actor is no administrator.
    """
    require_administrator(actor)
    _, last_at = queries.last_entry()
    today = min(day_in_japan(stores.clock.now()), day_in_japan(datetime.fromisoformat(last_at)))
    founded = queries.municipality()
    first = datetime.fromisoformat(founded.created_at).year - 1 if founded else today.year
    due = [
        key
        for year in range(first, today.year)
        if today > last_day_kept(year, years) and _lives(stores, key := log_key_of(year))
    ]
    if due:
        with operation(stores, actor) as work:
            require_administrator(actor)
            work.note("log_keys_destroyed", data={"keys": due, "years": years})
        for key in due:
            stores.keys.destroy(key)
    return due


def _lives(stores: Stores, key: str) -> bool:
    try:
        stores.keys.get(key)
    except KeysMissing as error:
        if error.code != "keys.gone":
            raise
        return False
    return True
