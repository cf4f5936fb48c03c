"""Derivatives of a record: upright pages, thumbnails, snippets of zones. They lie beside the object, encrypted under the record's key, and
are made again when they are lost. What shows an item that must be destroyable alone is made when it is asked for, and never kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ingest.form import Form, ItemReading
from ingest.geometry import Registration
from ingest.pages import LimitedPageSource
from ingest.pictures import pictures
from ingest.sheet import snippet
from records.alone import is_alone, opened_item, page_bytes
from records.archive import pack
from records.content import Content
from records.found import definition_of
from records.indexing import derived
from records.stores import Stores
from storage.cipher import encrypt


def _placed(content: Content) -> tuple[Form, Registration] | None:
    """The form of the record's form sheet and where it lies, as its JSON keeps them; None when it was not registered."""
    body, reading = content.body, content.body["reading"]
    form = definition_of(body["ledger"], body["ledger_version"])[0].form(body["form"])
    if form is None or not reading["matrix"]:
        return None
    matrix = np.array(reading["matrix"], np.float64).reshape(3, 3)
    return form, Registration(matrix, reading["method"], reading["rotation"], 1.0)


def ensured(stores: Stores, content: Content) -> dict[str, bytes]:
    """The record's pictures, made again from its originals when they were lost. Asks no rights: callers have."""
    known = derived(stores, content.record)
    pages = [(index, page) for index, page in enumerate(content.body["pages"]) if "under" not in page]
    if all(f"view-{index + 1:04}.jpg" in known for index, _ in pages):
        return known
    placed, made = _placed(content), dict(known)
    items = [
        ItemReading(row["item"], "", "", 0.0, "", tuple(row["box"]))
        for row in content.body["items"]
        if row["reason"] and not is_alone(row)
    ]
    with LimitedPageSource() as source:
        for index, page in pages:
            scanned = source.decode(page_bytes(stores, content, page["path"], ()), page["media_type"])
            on_form = placed if index == content.body["reading"]["page"] else None
            made |= pictures(scanned, index, on_form, items if on_form else [])
    keep(stores, content.record, made)
    return made


def unkept(stores: Stores, content: Content, index: int) -> dict[str, bytes]:
    """The pictures of a page (from 0) that lies whole under keys of items. Asks no rights: callers have."""
    page = content.body["pages"][index]
    with LimitedPageSource() as source:
        scanned = source.decode(page_bytes(stores, content, page["path"], page["under"]), page["media_type"])
    return pictures(scanned, index, None, [])


def snippet_alone(stores: Stores, content: Content, row: Mapping[str, Any]) -> bytes | None:
    """PNG of the zone of an item whose row only says where it lies, cut from the whole page; None where there is none or its key is gone."""
    placed, kept = _placed(content), opened_item(stores, content, row)
    whole = content.body["pages"][content.body["reading"]["page"]].get("whole")
    if placed is None or whole is None or kept is None or kept.row is None or not kept.row["box"]:
        return None
    media_type = next(page["media_type"] for page in kept.pages if page["path"] == whole["path"])
    with LimitedPageSource() as source:
        scanned = source.decode(page_bytes(stores, content, whole["path"], whole["under"]), media_type)
    return snippet(scanned.pixels, placed[1], ItemReading(row["item"], "", "", 0.0, "", tuple(kept.row["box"])))


def keep(stores: Stores, record: str, files: Mapping[str, bytes]) -> None:
    """Store derivatives under the record's key."""
    stores.derivatives.put({record: encrypt(pack(files), stores.keys.get(record).recipient)})
