"""The fold: what each journal entry does to the catalogue. Live operations and `rebuild` both come through here, so they cannot differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from access import queries as access_queries
from core.errors import StoreDamaged
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


def take(number: int, digest: str, entries: Sequence[dict[str, Any]], personal: Sequence[Any]) -> None:
    """Fold one segment into the catalogue. Entry numbers must go on without a gap."""
    last = Entry.objects.order_by("-number").values_list("number", flat=True).first() or 0
    if [entry["number"] for entry in entries] != list(range(last + 1, last + 1 + len(entries))):
        raise StoreDamaged(
            f"記録簿の区切り {number} の番号が続いていません。控えから復元してください。",
            f"The entries of journal segment {number} do not go on in number. Restore from a backup.",
            code="journal.gap",
        )
    Segment.objects.create(number=number, digest=digest, first=last + 1, entries=len(entries))
    for entry, part in zip(entries, personal, strict=True):
        if (step := STEPS.get(entry["event"])) is not None:
            step(entry, part)
    Entry.objects.bulk_create(
        Entry(segment_id=number, **{key: value for key, value in entry.items() if key != "personal"})
        for entry in entries
    )


def _store_created(entry: dict[str, Any], _: Any) -> None:
    Municipality.objects.create(store_id=entry["data"]["store"], name=entry["data"]["name"], created_at=entry["at"])


def _person_saved(entry: dict[str, Any], personal: Any) -> None:
    known = personal or {"login": entry["data"]["person"], "name": FORGOTTEN}
    access_queries.save_person(entry["data"]["person"], known["login"], known["name"], entry["data"]["posts"])


def _post_saved(entry: dict[str, Any], _: Any) -> None:
    access_queries.save_post(entry["data"]["post"], entry["data"]["name"]["ja"], entry["data"]["name"]["en"])


def _rights_set(entry: dict[str, Any], _: Any) -> None:
    access_queries.save_grants(entry["ledger"], entry["data"]["posts"])


def _ledger_defined(entry: dict[str, Any], _: Any) -> None:
    data = entry["data"]
    Ledger.objects.update_or_create(id=entry["ledger"], defaults={"version": data["version"]})
    LedgerVersion.objects.create(
        ledger_id=entry["ledger"],
        version=data["version"],
        definition=data["definition"],
        object_id=data["object"],
        object_version=data["pin"]["version"],
        object_digest=data["pin"]["digest"],
        at=entry["at"],
        person=entry["person"],
    )


def _batch_opened(entry: dict[str, Any], personal: Any) -> None:
    sheets = entry["data"]["sheets"]
    known = personal or {"name": FORGOTTEN, "files": [FORGOTTEN] * len(sheets)}
    Batch.objects.create(
        id=entry["batch"],
        ledger_id=entry["ledger"],
        name=known["name"],
        source=entry["data"]["source"],
        opened_at=entry["at"],
        opened_by=entry["person"],
    )
    Sheet.objects.bulk_create(
        Sheet(batch_id=entry["batch"], file=file, **sheet) for sheet, file in zip(sheets, known["files"], strict=True)
    )


def _batch_closed(entry: dict[str, Any], _: Any) -> None:
    Batch.objects.filter(id=entry["batch"]).update(closed_at=entry["at"], closed_by=entry["person"])


def _outcome(entry: dict[str, Any], state: str, generation: int) -> None:
    data = entry["data"]
    Record.objects.update_or_create(
        id=entry["record"],
        defaults={
            "ledger_id": entry["ledger"],
            "batch_id": entry["batch"] or None,
            "state": state,
            "generation": generation,
            "reason": data.get("reason", ""),
            "object_version": data["pin"]["version"],
            "object_digest": data["pin"]["digest"],
        },
    )
    WaitingItem.objects.filter(record_id=entry["record"]).delete()
    for sheet in data.get("sheets", ()):
        Sheet.objects.filter(batch_id=entry["batch"], number=sheet["number"]).update(
            state=state, reason=sheet["reason"], record_id=entry["record"]
        )


def _waiting(entry: dict[str, Any], _: Any) -> None:
    _outcome(entry, "waiting", 0)
    WaitingItem.objects.bulk_create(WaitingItem(record_id=entry["record"], **item) for item in entry["data"]["items"])


def _refused(entry: dict[str, Any], _: Any) -> None:
    _outcome(entry, "refused", 0)


def _sealed(entry: dict[str, Any], _: Any) -> None:
    data = entry["data"]
    _outcome(entry, "sealed", data["generation"])
    Generation.objects.create(
        record_id=entry["record"],
        number=data["generation"],
        ledger_version=data["ledger_version"],
        form=data["form"],
        object_version=data["pin"]["version"],
        object_digest=data["pin"]["digest"],
        at=entry["at"],
        person=entry["person"],
        retention_state=data["retention"]["state"],
        retention_start=data["retention"]["start"],
        retention_due=data["retention"]["due"],
        retention_action=data["retention"]["action"],
    )


def _sheets_refused(entry: dict[str, Any], _: Any) -> None:
    for sheet in entry["data"]["sheets"]:
        Sheet.objects.filter(batch_id=entry["batch"], number=sheet["number"]).update(
            state="refused", reason=sheet["reason"]
        )


def _pages_read(entry: dict[str, Any], _: Any) -> None:
    PageText.objects.update_or_create(record_id=entry["record"], defaults={"pages": entry["data"]["pages"]})


STEPS: dict[str, Callable[[dict[str, Any], Any], None]] = {
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
