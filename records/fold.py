"""The fold: what each journal entry does to the catalogue. Live operations, catching up and `rebuild` all come through here, so they cannot differ.

Rows are gathered over as many segments as one likes and written together. How many changes nothing in what is written: new rows come before
changes of rows, and of several changes of one row the last counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from access import queries as access_queries
from core.errors import StoreDamaged
from records import queries
from records.models import (
    Batch,
    Entry,
    Generation,
    Ledger,
    LedgerVersion,
    Municipality,
    PageText,
    Record,
    Segment,
    Sheet,
    WaitingItem,
)

FORGOTTEN = ""
"""Shown where the key of a personal part has been destroyed."""

ENOUGH = 4000
"""Rows gathered before they are written: what a rebuild holds in memory, whatever the journal's length."""

Row = dict[str, Any]


def take(
    head: queries.Head, digest: str, entries: Sequence[Mapping[str, Any]], personal: Sequence[Any]
) -> queries.Head:
    """Fold the segment after `head` into the catalogue, as `Fold.take`. Returns where the catalogue ends then."""
    gathered = Fold(head)
    gathered.take(digest, entries, personal)
    gathered.write()
    return gathered.head


class Fold:
    """Segments on their way into a catalogue, in one transaction of the caller's, which begins before the fold and ends after `write`.

    People, posts, rights and ledgers, of which there are few, are written as they come: no other row of theirs is ever gathered.

    Args:
        head: where the catalogue ends; it moves on with every segment.
        catalogue: which one (`queries.LIVE`, or a scratch one).
    """

    def __init__(self, head: queries.Head, catalogue: str = queries.LIVE) -> None:
        self.head = head
        self.catalogue = catalogue
        self._clear()

    def _clear(self) -> None:
        self.segments: list[Row] = []
        self.entries: list[Row] = []
        self.batches: list[Row] = []
        self.sheets: list[Row] = []
        self.generations: list[Row] = []
        self.records: dict[str, Row] = {}
        self.waiting: dict[str, list[Row]] = {}
        self.texts: dict[str, Row] = {}
        self.closed: list[tuple[str, str, str]] = []
        self.outcomes: dict[tuple[str, int], tuple[str, str, str | None]] = {}

    def take(self, digest: str, entries: Sequence[Mapping[str, Any]], personal: Sequence[Any]) -> None:
        """Gather the next segment; `StoreDamaged` (`journal.gap`) where the entries' numbers do not go on."""
        number, first = self.head.segment + 1, self.head.entry + 1
        if [entry["number"] for entry in entries] != list(range(first, first + len(entries))):
            raise StoreDamaged(
                f"記録簿の区切り {number} の番号が続いていません。控えから復元してください。",
                f"The entries of journal segment {number} do not go on in number. Restore from a backup.",
                code="journal.gap",
            )
        at = entries[-1]["at"] if entries else self.head.at
        self.head = queries.Head(number, digest, self.head.entry + len(entries), at)
        self.segments.append({"number": number, "digest": digest, "first": first, "entries": len(entries)})
        for entry, part in zip(entries, personal, strict=True):
            if (step := STEPS.get(entry["event"])) is not None:
                step(self, entry, part)
            self.entries.append({**entry, "segment_id": number})
        if len(self.entries) + len(self.sheets) + len(self.outcomes) > ENOUGH:
            self.write()

    def write(self) -> None:
        """Write what is gathered."""
        for model, rows in (
            (Segment, self.segments),
            (Entry, self.entries),
            (Batch, self.batches),
            (Sheet, self.sheets),
            (Generation, self.generations),
        ):
            queries.insert(model, rows, self.catalogue)
        queries.put(Record, self.records.values(), self.catalogue)
        queries.put(PageText, self.texts.values(), self.catalogue)
        queries.drop_waiting(self.waiting, self.catalogue)
        queries.insert(WaitingItem, [item for items in self.waiting.values() for item in items], self.catalogue)
        queries.give_outcomes(self.outcomes, self.catalogue)
        queries.close_batches(self.closed, self.catalogue)
        self._clear()


def _store_created(fold: Fold, entry: Mapping[str, Any], _: Any) -> None:
    row = {"store_id": entry["data"]["store"], "name": entry["data"]["name"], "created_at": entry["at"]}
    queries.insert(Municipality, [row], fold.catalogue)


def _person_saved(fold: Fold, entry: Mapping[str, Any], personal: Any) -> None:
    person = entry["data"]["person"]
    known = personal or {"login": person, "name": FORGOTTEN}
    access_queries.save_person(person, known["login"], known["name"], entry["data"]["posts"], fold.catalogue)


def _post_saved(fold: Fold, entry: Mapping[str, Any], _: Any) -> None:
    name = entry["data"]["name"]
    access_queries.save_post(entry["data"]["post"], name["ja"], name["en"], fold.catalogue)


def _rights_set(fold: Fold, entry: Mapping[str, Any], _: Any) -> None:
    access_queries.save_grants(entry["ledger"], entry["data"]["posts"], fold.catalogue)


def _ledger_defined(fold: Fold, entry: Mapping[str, Any], _: Any) -> None:
    data = entry["data"]
    queries.put(Ledger, [{"id": entry["ledger"], "version": data["version"]}], fold.catalogue)
    row = {
        "ledger_id": entry["ledger"],
        "version": data["version"],
        "definition": data["definition"],
        "object_id": data["object"],
        "object_version": data["pin"]["version"],
        "object_digest": data["pin"]["digest"],
        "at": entry["at"],
        "person": entry["person"],
    }
    queries.insert(LedgerVersion, [row], fold.catalogue)


def _batch_opened(fold: Fold, entry: Mapping[str, Any], personal: Any) -> None:
    sheets = entry["data"]["sheets"]
    known = personal or {"name": FORGOTTEN, "files": [FORGOTTEN] * len(sheets)}
    fold.batches.append(
        {
            "id": entry["batch"],
            "ledger_id": entry["ledger"],
            "name": known["name"],
            "source": entry["data"]["source"],
            "opened_at": entry["at"],
            "opened_by": entry["person"],
            "closed_at": "",
            "closed_by": "",
        }
    )
    fold.sheets += [
        {**sheet, "batch_id": entry["batch"], "file": file, "record_id": None}
        for sheet, file in zip(sheets, known["files"], strict=True)
    ]


def _batch_closed(fold: Fold, entry: Mapping[str, Any], _: Any) -> None:
    fold.closed.append((entry["batch"], entry["at"], entry["person"]))


def _outcome(fold: Fold, entry: Mapping[str, Any], state: str, generation: int) -> None:
    data, record = entry["data"], entry["record"]
    fold.records[record] = {
        "id": record,
        "ledger_id": entry["ledger"],
        "batch_id": entry["batch"] or None,
        "state": state,
        "generation": generation,
        "reason": data.get("reason", ""),
        "object_version": data["pin"]["version"],
        "object_digest": data["pin"]["digest"],
    }
    fold.waiting[record] = []
    for sheet in data.get("sheets", ()):
        fold.outcomes[entry["batch"], sheet["number"]] = (state, sheet["reason"], record)


def _waiting(fold: Fold, entry: Mapping[str, Any], _: Any) -> None:
    _outcome(fold, entry, "waiting", 0)
    fold.waiting[entry["record"]] = [{**item, "record_id": entry["record"]} for item in entry["data"]["items"]]


def _refused(fold: Fold, entry: Mapping[str, Any], _: Any) -> None:
    _outcome(fold, entry, "refused", 0)


def _sealed(fold: Fold, entry: Mapping[str, Any], _: Any) -> None:
    data = entry["data"]
    _outcome(fold, entry, "sealed", data["generation"])
    fold.generations.append(
        {
            "record_id": entry["record"],
            "number": data["generation"],
            "ledger_version": data["ledger_version"],
            "form": data["form"],
            "object_version": data["pin"]["version"],
            "object_digest": data["pin"]["digest"],
            "at": entry["at"],
            "person": entry["person"],
            "retention_state": data["retention"]["state"],
            "retention_start": data["retention"]["start"],
            "retention_due": data["retention"]["due"],
            "retention_action": data["retention"]["action"],
        }
    )


def _sheets_refused(fold: Fold, entry: Mapping[str, Any], _: Any) -> None:
    for sheet in entry["data"]["sheets"]:
        place = entry["batch"], sheet["number"]
        _, _, record = fold.outcomes.get(place, ("", "", None))
        fold.outcomes[place] = ("refused", sheet["reason"], record)


def _pages_read(fold: Fold, entry: Mapping[str, Any], _: Any) -> None:
    fold.texts[entry["record"]] = {"record_id": entry["record"], "pages": entry["data"]["pages"]}


STEPS: dict[str, Callable[[Fold, Mapping[str, Any], Any], None]] = {
    "store_created": _store_created,
    "person_saved": _person_saved,
    "post_saved": _post_saved,
    "rights_set": _rights_set,
    "ledger_defined": _ledger_defined,
    "batch_opened": _batch_opened,
    "batch_closed": _batch_closed,
    "waiting": _waiting,
    "refused": _refused,
    "sealed": _sealed,
    "edited": _sealed,
    "sheets_refused": _sheets_refused,
    "pages_read": _pages_read,
}
"""Event -> what it does. Other events (reads, sign-ins) are only remembered."""
