"""What a version of a record says: reading its sealed JSON, and the answers for what does not exist or may not be known."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.errors import NotFound
from records.found import MARKS_KEY
from records.models import Record
from records.stores import Stores
from storage.cipher import decrypt
from storage.port import Pin

FORMAT = "daicho-record-1"
CONTENT = "record.json.age"


@dataclass(frozen=True)
class Content:
    """A generation of a record (0: waiting) as its JSON says, with the pin under which it was read."""

    record: str
    pin: Pin
    body: Mapping[str, Any] = field(repr=False)

    @property
    def values(self) -> dict[str, str]:
        """Item -> value, of the items whose rows stand here (`records.alone` opens the others)."""
        return {item["item"]: item["value"] for item in self.body["items"] if "value" in item}


def unknown_record() -> NotFound:
    """The answer for a record that does not exist or of which the actor may not know."""
    return NotFound(
        "その記録はありません。番号を確かめるか、検索してください。",
        "There is no such record. Check its number or search for it.",
        code="record.not_found",
    )


def mark(stores: Stores, digest: str) -> str:
    """What the catalogue and the journal know of a scan with this digest: equal for equal scans, and nothing else."""
    return hmac.new(stores.keys.get(MARKS_KEY).secret.encode(), digest.encode(), hashlib.sha256).hexdigest()


def content(stores: Stores, record_id: str, version: int, digest: str) -> Content:
    """Decrypt the JSON of one version of a record. Asks no rights: callers have."""
    pin = Pin(record_id, version, digest)
    body = json.loads(decrypt(stores.objects.read(pin, CONTENT), stores.keys.get(record_id).secret))
    return Content(record_id, pin, body)


def newest(stores: Stores, record: Record) -> Content:
    """The content of a record's newest version."""
    return content(stores, record.id, record.object_version, record.object_digest)


def unknown_batch() -> NotFound:
    """The answer for a batch that does not exist or of which the actor may not know."""
    return NotFound(
        "そのバッチはありません。`daicho batch list` で確かめてください。",
        "There is no such batch. Look at `daicho batch list`.",
        code="batch.not_found",
    )
