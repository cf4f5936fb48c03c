"""Items destroyable alone: a key of their own opens value and whole page, nothing else does, and what is left goes on without them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import BadInput, DigestMismatch, KeysMissing, NotFound
from records import queries
from records.alone import key_of, opened_item, page_bytes
from records.attachments import attach, file_at
from records.capture import edit, seal_spans, settle, waiting_content
from records.check import verify
from records.content import CONTENT, newest
from records.export import export
from records.find import find
from records.indexing import derived, feed
from records.keys import check_keys
from records.ledger import Item, from_json, to_json
from records.models import Entry
from records.show import page_image, show, snippet, values_as_read
from records.spans import Captured, WholePage
from records.template import read_folder
from storage.cipher import decrypt, encrypt, new_identity
from tests.house import ITEMS, House, PowerCut, definition, sha
from tests.installed import TEMPLATES

NUMBER = "123456789012"
WHOLE = b"scan with 123456789012 on it"
MASKED = b"scan with a black bar on it"
NUMBERED = (*ITEMS, Item("number", "number", {"ja": "個人番号", "en": "Individual number"}, alone=True))


@pytest.fixture
def engine() -> str:
    """What lies where in the store is the same on every engine of the catalogue."""
    return "sqlite"


@pytest.fixture
def batch(house: House) -> str:
    house.ledger(items=NUMBERED)
    return house.batch(3)


def captured(house: House, batch: str, sheet: int, reason: str = "", number: str = NUMBER) -> Captured:
    """A sheet whose page bears the number, as a worker hands it over: whole and masked."""
    one = house.captured(batch, sheet, reason, number=number)
    own, record = house.stores.keys.create([key_of(one.record, "number"), one.record])
    whole = WholePage("page-0001.age", "image/jpeg", sha(WHOLE), ("number",))
    page = replace(one.pages[0], path="page-0001-masked.age", media_type="image/png", digest=sha(MASKED), whole=whole)
    files = {
        "page-0001.age": encrypt(WHOLE, own.recipient),
        "page-0001-masked.age": encrypt(MASKED, record.recipient),
    }
    return replace(one, pages=(page,), files=files)


def sealed(house: House, batch: str, sheet: int = 1) -> str:
    one = captured(house, batch, sheet)
    seal_spans(house.stores, house.officer, batch, [one])
    return one.record


def values(house: House, record: str, number: int | None = None) -> dict[str, str]:
    return show(house.stores, house.officer, record, number).content.values


def row(house: House, record: str, number: int | None = None) -> Any:
    rows = values_as_read(show(house.stores, house.officer, record, number))
    return next(row for row in rows if row["item"] == "number")


def everything(house: House, *, without: str = "") -> Iterator[bytes]:
    """All bytes of the store and the catalogue; those of age files opened with every key there is, but for `without`."""
    objects, stores = house.stores.objects, house.stores
    secrets = [stores.keys.get(key).secret for key in stores.keys.ids() if key != without]
    archives = [stores.derivatives.get(name) or b"" for name in stores.derivatives.names()]
    todo = [*objects.files.values(), *objects.inventories.values(), *archives]  # type: ignore[attr-defined]
    todo += [segment for _, segment in stores.journal.segments()]
    while todo:
        data = todo.pop()
        yield data
        if data.startswith(b"age-encryption.org/v1"):
            for secret in secrets:
                try:
                    todo.append(decrypt(data, secret))
                except KeysMissing:
                    continue
    yield json.dumps(list(queries.digest_rows()), default=str, ensure_ascii=False).encode()
    yield repr(house.stores.index.__dict__).encode()


def says(house: House, **options: str) -> bool:
    return any(NUMBER.encode() in data for data in everything(house, **options))


def test_the_value_is_shown_and_lies_under_its_own_key_alone(house: House, batch: str) -> None:
    record = sealed(house, batch)
    assert values(house, record)["number"] == NUMBER
    assert row(house, record)["confidence"] == 0.99
    assert says(house), "the control: with its key it is found"
    assert not says(house, without=key_of(record, "number"))
    viewed = Entry.objects.filter(event="record_viewed").first()
    assert viewed is not None and viewed.data == {"generation": 1, "alone": ["number"]}
    body = newest(house.stores, queries.record(record)).body  # type: ignore[arg-type]
    [pointer] = [each for each in body["items"] if each["item"] == "number"]
    assert set(pointer) == {"item", "path", "commitment", "reason"}
    [page] = body["pages"]
    assert (page["path"], page["digest"], page["whole"]) == (
        "page-0001-masked.age",
        sha(MASKED),
        {"path": "page-0001.age", "under": ["number"]},
    )
    # The control: an item that is not apart lies with the others.
    house.ledger("plain", items=tuple(replace(item, alone=False) for item in NUMBERED))
    other = house.batch(1, "plain", "別")
    house.sealed(other, 1, number=NUMBER)
    assert says(house, without=key_of(record, "number"))


def test_the_commitment_cannot_be_guessed(house: House, batch: str) -> None:
    pointers = []
    for sheet in (1, 2):
        content = newest(house.stores, queries.record(sealed(house, batch, sheet)))  # type: ignore[arg-type]
        pointers += [each["commitment"] for each in content.body["items"] if each["item"] == "number"]
        kept = opened_item(house.stores, content, content.body["items"][-1])
        assert kept is not None and kept.pages == (
            {"path": "page-0001.age", "media_type": "image/jpeg", "digest": sha(WHOLE)},
        )
        assert page_bytes(house.stores, content, "page-0001.age", ["number"]) == WHOLE
    assert len(set(pointers)) == 2  # the same value twice


def test_it_cannot_be_searched(house: House, batch: str) -> None:
    record = sealed(house, batch)
    feed(house.stores)

    def found(text: str, **where: str) -> list[str]:
        hits = find(house.stores, house.officer, text, where=where).hits
        assert all("number" not in hit.title for hit in hits)
        return [hit.record for hit in hits]

    assert (found(""), found("山田"), found("", name="山田")) == ([record], [record], [record])
    assert (found(NUMBER), found(NUMBER[:6]), found("", number=NUMBER), found("", number=NUMBER[:6])) == (
        [],
        [],
        [],
        [],
    )
    assert find(house.stores, house.officer, "", facets=("number",)).facets["number"] == {}


def test_when_its_key_is_destroyed_everything_else_goes_on(
    house: House, batch: str, blank_catalogue: Path, tmp_path: Path
) -> None:
    record = sealed(house, batch)
    edit(house.stores, house.officer, record, 1, {"number": "210987654321"}, "転記の誤り")
    assert (values(house, record, 1)["number"], values(house, record)["number"]) == (NUMBER, "210987654321")
    before = derived(house.stores, record)
    house.stores.keys.destroy(key_of(record, "number"))
    assert not says(house)
    for number in (1, 2):
        shown = row(house, record, number)
        assert (shown["value"], shown["destroyed"]) == ("", True)
        assert values(house, record, number)["name"] == "山田 1"
    content = newest(house.stores, queries.record(record))  # type: ignore[arg-type]
    with pytest.raises(KeysMissing):
        page_bytes(house.stores, content, "page-0001.age", ["number"])
    assert page_bytes(house.stores, content, "page-0001-masked.age", ()) == MASKED
    assert derived(house.stores, record) == before
    assert page_image(house.stores, house.officer, record, 1, "view") == b"picture"
    # Others can be edited, it cannot.
    house.later(days=1)
    edit(house.stores, house.officer, record, 2, {"name": "山本 一"}, "改姓")
    assert values(house, record)["name"] == "山本 一"
    assert row(house, record)["destroyed"]
    with pytest.raises(BadInput) as caught:
        edit(house.stores, house.officer, record, 3, {"number": NUMBER}, "戻す")
    assert caught.value.code == "item.destroyed"
    with pytest.raises(KeysMissing):
        house.stores.keys.get(key_of(record, "number"))  # and no key was made for the attempt
    assert [hit.record for hit in find(house.stores, house.officer, "山本").hits] == [record]
    assert verify(house.stores).findings == []
    assert check_keys(house.stores).findings == ()
    assert house.rebuilt_digest(blank_catalogue, tmp_path / "again.sqlite3")


def test_an_edit_keeps_what_it_does_not_change(house: House, batch: str) -> None:
    record = sealed(house, batch)
    stores = house.stores
    first = newest(stores, queries.record(record))  # type: ignore[arg-type]
    edit(stores, house.officer, record, 1, {"name": "山本 一"}, "改姓")
    second = newest(stores, queries.record(record))  # type: ignore[arg-type]
    assert second.body["items"][-1] == first.body["items"][-1]
    assert values(house, record) == {"name": "山本 一", "opened_on": "2024-05-01", "number": NUMBER}
    assert stores.objects.paths(second.pin).keys() == {
        CONTENT,
        "item-number.age",
        "page-0001-masked.age",
        "page-0001.age",
    }
    edit(stores, house.officer, record, 2, {"number": "210987654321"}, "転記の誤り")
    third = show(stores, house.officer, record)
    assert third.content.values["number"] == "210987654321"
    assert row(house, record)["settled"]["by"] == house.officer.person
    assert row(house, record)["raw"] == NUMBER
    with pytest.raises(BadInput) as caught:
        edit(stores, house.officer, record, 3, {"number": "210987654321"}, "同じ")
    assert caught.value.code == "edit.nothing"


def test_a_version_that_nobody_acknowledged_does_not_lend_its_value(house: House, batch: str) -> None:
    """The power goes between the sealing of an edit and its journal entry; the next edit is of the value before."""
    record = sealed(house, batch)
    house.switch.breaks_at = len(house.switch.seen) + 2
    with pytest.raises(PowerCut):
        edit(house.stores, house.officer, record, 1, {"number": "210987654321"}, "転記の誤り")
    house.restarted()
    assert house.stores.objects.head(record) == 2
    edit(house.stores, house.officer, record, 1, {"name": "山本 一"}, "改姓")
    assert values(house, record)["number"] == NUMBER


def test_settling(house: House, batch: str) -> None:
    one = captured(house, batch, 1, reason="low_confidence", number="12345678901")
    doubtful = replace(
        one,
        items=tuple(replace(item, reason="low_confidence" if item.item == "number" else "") for item in one.items),
    )
    seal_spans(house.stores, house.officer, batch, [doubtful])
    entry = Entry.objects.get(event="waiting")
    assert [item["item"] for item in entry.data["items"]] == ["number"]
    _, _, content = waiting_content(house.stores, house.officer, one.record)
    [read] = [row for row in content.body["items"] if row["item"] == "number"]
    assert (read["value"], read["reason"], read["box"]) == ("12345678901", "low_confidence", [1, 2, 3, 4])
    with pytest.raises(BadInput) as caught:
        settle(house.stores, house.officer, one.record, {"number": "番号"})
    assert NUMBER[:11] not in caught.value.ja + caught.value.en
    settle(house.stores, house.officer, one.record, {"number": NUMBER})
    shown = row(house, one.record)
    assert (shown["value"], shown["raw"], shown["reason"]) == (NUMBER, "12345678901", "")
    assert shown["settled"]["by"] == house.officer.person
    assert not says(house, without=key_of(one.record, "number"))


def test_a_value_that_nobody_read_gets_its_key_when_it_is_entered(house: House, batch: str) -> None:
    one = house.captured(batch, 1)
    seal_spans(house.stores, house.officer, batch, [one])
    assert key_of(one.record, "number") not in set(house.stores.keys.ids())
    edit(house.stores, house.officer, one.record, 1, {"number": NUMBER}, "申出による")
    assert values(house, one.record)["number"] == NUMBER
    assert not says(house, without=key_of(one.record, "number"))


def test_what_was_sealed_before_the_definition_changed(house: House) -> None:
    """Old generations stay as they are; the next one puts the item apart, and it does not come back."""
    house.ledger(items=tuple(replace(item, alone=False) for item in NUMBERED))
    batch = house.batch(1)
    record = house.sealed(batch, 1, number=NUMBER)
    house.ledger(items=NUMBERED)
    edit(house.stores, house.officer, record, 1, {"name": "山本 一"}, "改姓")
    body = newest(house.stores, queries.record(record)).body  # type: ignore[arg-type]
    assert NUMBER not in json.dumps(body)
    house.ledger(items=tuple(replace(item, alone=False) for item in NUMBERED))
    edit(house.stores, house.officer, record, 2, {"number": "210987654321"}, "転記の誤り")
    body = newest(house.stores, queries.record(record)).body  # type: ignore[arg-type]
    assert "210987654321" not in json.dumps(body)
    assert [values(house, record, number)["number"] for number in (1, 2, 3)] == [NUMBER, NUMBER, "210987654321"]


def test_a_page_of_unknown_place_lies_whole_under_the_item_s_key(house: House, batch: str) -> None:
    one = house.captured(batch, 1)
    own, _ = house.stores.keys.create([key_of(one.record, "number"), one.record])
    page = replace(one.pages[0], under=("number",), reason="unknown_form", digest=sha(WHOLE))
    files = {"page-0001.age": encrypt(WHOLE, own.recipient)}
    unread = replace(one, form="", pages=(page,), items=(), files=files, derived=b"", matrix=())
    seal_spans(house.stores, house.officer, batch, [unread])
    assert not says(house, without=own.id)
    _, _, content = waiting_content(house.stores, house.officer, one.record)
    assert "digest" not in content.body["pages"][0] and content.body["pages"][0]["under"] == ["number"]
    settle(house.stores, house.officer, one.record, {"name": "山田 一", "opened_on": "2024-05-01"}, form="form-a")
    house.stores.keys.destroy(own.id)
    assert values(house, one.record)["name"] == "山田 一"
    with pytest.raises(NotFound) as caught:
        page_image(house.stores, house.officer, one.record, 1, "view")
    assert caught.value.code == "page.destroyed"
    assert verify(house.stores).findings == []


def test_an_attachment_does_not_touch_it_and_no_export_takes_it_along(house: House, batch: str, tmp_path: Path) -> None:
    record = sealed(house, batch)
    (tmp_path / "申出書.txt").write_bytes(b"text")
    attach(house.stores, house.officer, record, 1, [file_at(tmp_path / "申出書.txt")], "申出書", tmp_path / "scratch")
    assert values(house, record)["number"] == NUMBER
    export(house.stores, house.officer, record, tmp_path / "plain")
    files = {path.name: path.read_bytes() for path in (tmp_path / "plain").rglob("*") if path.is_file()}
    assert MASKED in files.values() and b"text" in files.values()
    assert not any(NUMBER.encode() in data for data in files.values())
    export(house.stores, house.officer, record, tmp_path / "sealed", recipient=new_identity()[1])
    names = {path.name for path in (tmp_path / "sealed").rglob("*.age")}
    assert "page-0001-masked.age" in names
    assert not names & {"page-0001.age", "item-number.age"}


def test_two_items_on_a_page_each_destroy_it(house: House) -> None:
    items = (*NUMBERED, replace(NUMBERED[-1], id="spouse_number"))
    house.ledger(items=items)
    batch = house.batch(1)
    one = house.captured(batch, 1, number=NUMBER, spouse_number=NUMBER)
    first, second, _ = house.stores.keys.create(
        [key_of(one.record, "number"), key_of(one.record, "spouse_number"), one.record]
    )
    under = ("number", "spouse_number")
    page = replace(one.pages[0], under=under)
    files = {"page-0001.age": encrypt(encrypt(WHOLE, second.recipient), first.recipient)}
    seal_spans(house.stores, house.officer, batch, [replace(one, pages=(page,), files=files)])
    content = newest(house.stores, queries.record(one.record))  # type: ignore[arg-type]
    assert page_bytes(house.stores, content, "page-0001.age", under) == WHOLE
    house.stores.keys.destroy(second.id)
    with pytest.raises(KeysMissing):
        page_bytes(house.stores, content, "page-0001.age", under)
    assert row(house, one.record)["value"] == NUMBER  # the other one's value lies under its own key


def test_a_key_that_is_left_of_a_destroyed_record_is_named(house: House, batch: str) -> None:
    record = sealed(house, batch)
    house.stores.keys.destroy(record)
    found = check_keys(house.stores).findings
    assert [(finding.code, finding.object_id) for finding in found] == [
        ("keys.gone", record),
        ("keys.left", key_of(record, "number")),
    ]


def test_a_file_of_an_item_that_is_not_the_one_meant_is_refused(house: House, batch: str) -> None:
    record = sealed(house, batch)
    content = newest(house.stores, queries.record(record))  # type: ignore[arg-type]
    pointer = content.body["items"][-1]
    with pytest.raises(DigestMismatch) as caught:
        opened_item(house.stores, content, {**pointer, "commitment": "0" * 64})
    assert caught.value.code == "item.commitment"


def test_no_snippet_without_the_key(house: House, batch: str) -> None:
    one = captured(house, batch, 1, reason="low_confidence")
    seal_spans(house.stores, house.officer, batch, [one])
    house.stores.keys.destroy(key_of(one.record, "number"))
    with pytest.raises(NotFound) as caught:
        snippet(house.stores, house.officer, one.record, "number")
    assert caught.value.code == "snippet.not_found"


def test_definitions_without_such_items_stay_as_they_were() -> None:
    plain, numbered = definition(), definition(items=NUMBERED)
    assert all("alone" not in item for item in to_json(plain)["items"])
    assert [item.get("alone") for item in to_json(numbered)["items"]] == [None] * 5 + [True]
    assert (from_json(to_json(plain)), from_json(to_json(numbered))) == (plain, numbered)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("items.yaml", "- id: name\n", "- id: name\n  alone: true\n"),  # stands in the title
        ("items.yaml", "- id: start_on\n", "- id: start_on\n  alone: true\n"),  # is the year
        ("items.yaml", "- id: end_on\n", "- id: end_on\n  alone: true\n"),  # starts the retention period
        ("items.yaml", "- id: note\n", "- id: note\n  alone: true\n  facet: true\n"),
        ("forms/dv-support.yaml", "note, x: 53, y: 190", "note, x: 53, y: 180"),  # with note alone: zones overlap
    ],
)
def test_a_definition_that_would_show_it_is_refused(tmp_path: Path, file: str, old: str, new: str) -> None:
    shutil.copytree(TEMPLATES / "dv-support", tmp_path / "dv-support")
    place = tmp_path / "dv-support" / file
    if file.startswith("forms"):
        items = tmp_path / "dv-support" / "items.yaml"
        items.write_text(items.read_text("utf-8").replace("- id: note\n", "- id: note\n  alone: true\n"), "utf-8")
        read_folder(tmp_path / "dv-support")
    text = place.read_text("utf-8")
    assert text.count(old) == 1
    text = text.replace(old, new)
    if "facet: true" in new:
        head, tail = text.split(new)
        text = head + new + tail.replace("  facet: false\n", "", 1)
    place.write_text(text, "utf-8")
    with pytest.raises(BadInput) as caught:
        read_folder(tmp_path / "dv-support")
    assert caught.value.code == "ledger.definition" and "alone" in caught.value.en
