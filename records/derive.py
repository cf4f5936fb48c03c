"""Derivatives of a record: upright pages, thumbnails, snippets of zones. They lie beside the object, encrypted under the record's key, and
are made again when they are lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ingest.form import Form, ItemReading
from ingest.geometry import Registration
from ingest.pages import LimitedPageSource
from ingest.pictures import pictures
from ingest.port import ScannedPage
from records.archive import pack
from records.content import Content
from records.found import definition_of
from records.indexing import derived
from records.stores import Stores
from storage.cipher import decrypt, encrypt


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
    if "view-0001.jpg" in known:
        return known
    placed, made = _placed(content), dict(known)
    items = [
        ItemReading(row["item"], "", "", 0.0, "", tuple(row["box"])) for row in content.body["items"] if row["reason"]
    ]
    with LimitedPageSource() as source:
        for index, page in enumerate(originals(stores, content, source)):
            on_form = placed if index == content.body["reading"]["page"] else None
            made |= pictures(page, index, on_form, items if on_form else [])
    keep(stores, content.record, made)
    return made


def originals(stores: Stores, content: Content, source: LimitedPageSource) -> Iterable[ScannedPage]:
    """The record's pages, decrypted and decoded."""
    secret = stores.keys.get(content.record).secret
    for page in content.body["pages"]:
        yield source.decode(decrypt(stores.objects.read(content.pin, page["path"]), secret), page["media_type"])


def keep(stores: Stores, record: str, files: Mapping[str, bytes]) -> None:
    """Store derivatives under the record's key."""
    stores.derivatives.put(record, encrypt(pack(files), stores.keys.get(record).recipient))
