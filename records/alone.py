"""Items that must be destroyable alone (個別廃棄項目, such as the individual number): each lies in a file of its own under a key of its
own, and so does every page that bears it. Destroying the key `RECORD.ITEM` destroys value and whole pages in every copy; all else of the
record goes on.

The record's JSON says of such an item where it lies and a digest of the file, which is salted: twelve digits could be guessed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import BadInput, DigestMismatch, KeysMissing
from records.content import Content
from records.ledger import Item
from records.stores import Stores
from storage.canonical import canonical, sha256_hex
from storage.cipher import decrypt, encrypt

FORMAT = "daicho-item-1"


@dataclass(frozen=True)
class Kept:
    """What the file of such an item holds: its row as in `items[]` (None where nothing was read or entered), and the pages under its key
    (`path`, `media_type`, `digest` of the bytes as scanned).
    """

    row: Mapping[str, Any] | None
    pages: tuple[Mapping[str, str], ...]


def key_of(record: str, item: str) -> str:
    """Id of the key of an item of a record."""
    return f"{record}.{item}"


def is_alone(row: Mapping[str, Any]) -> bool:
    """Whether a row of `items[]` only says where the item lies."""
    return "path" in row


def sealed_item(record: str, item: str, kept: Kept, recipient: str) -> tuple[dict[str, Any], bytes]:
    """The row for the record's JSON, and the encrypted file of the item."""
    plain = canonical(
        {
            "format": FORMAT,
            "record": record,
            "item": item,
            "salt": secrets.token_hex(16),
            "row": kept.row,
            "pages": list(kept.pages),
        }
    )
    row = {
        "item": item,
        "path": f"item-{item}.age",
        "commitment": sha256_hex(plain),
        "reason": kept.row["reason"] if kept.row else "",
    }
    return row, encrypt(plain, recipient)


def opened_item(stores: Stores, content: Content, row: Mapping[str, Any]) -> Kept | None:
    """What the file of an item holds; None when its key has been destroyed. Asks no rights: callers have.

    `DigestMismatch` (`item.commitment`) when it is not what the record's JSON commits to.
    """
    try:
        key = stores.keys.get(key_of(content.record, row["item"]))
    except KeysMissing:
        return None
    plain = decrypt(stores.objects.read(content.pin, row["path"]), key.secret)
    if sha256_hex(plain) != row["commitment"]:
        raise DigestMismatch(
            "項目のファイルが、記録にある約束と違います。控えから復元してください。",
            "The file of an item is not what its record commits to. Restore it from the backup.",
            code="item.commitment",
        )
    value = json.loads(plain)
    return Kept(value["row"], tuple(value["pages"]))


def opened(stores: Stores, content: Content) -> Content:
    """The content with the rows of these items in their places, marked `alone`; `destroyed` in a row says that its key is gone. Asks no rights."""
    items = []
    for row in content.body["items"]:
        if not is_alone(row):
            items.append(row)
            continue
        kept = opened_item(stores, content, row)
        if kept is None:
            items.append({**_EMPTY, "item": row["item"], "alone": True, "destroyed": True})
        else:
            items.append({**_EMPTY, "item": row["item"], **(kept.row or {}), "alone": True})
    return Content(content.record, content.pin, {**content.body, "items": items})


def without_alone(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body, opened or not, without these items and without the pages that may bear them: what may leave the store in a copy."""
    items = [row for row in body["items"] if not is_alone(row) and not row.get("alone")]
    return {**body, "items": items, "pages": [page for page in body["pages"] if "under" not in page]}


_EMPTY = {"value": "", "raw": "", "confidence": 1.0, "reader": "person", "second": "", "reason": "", "box": []}


def page_bytes(stores: Stores, content: Content, path: str, under: Sequence[str]) -> bytes:
    """A page, whole or masked, as it was scanned or encoded. Asks no rights: callers have.

    Args:
        under: items under whose keys it lies, as `pages[]` says; none for the record's own.

    Raises:
        KeysMissing: (`keys.gone`) one of these keys has been destroyed.
    """
    data = stores.objects.read(content.pin, path)
    for key in [key_of(content.record, item) for item in under] or [content.record]:
        data = decrypt(data, stores.keys.get(key).secret)
    return data


def destroyed_item(item: Item) -> BadInput:
    """The error for a value given to an item whose key has been destroyed."""
    return BadInput(
        f"「{item.label['ja']}」は廃棄済みです。この記録には、もう入れられません。",
        f'"{item.label["en"]}" has been destroyed. It cannot be entered in this record any more.',
        code="item.destroyed",
    )
