"""Spans become records: sealed or waiting, settled, refused, edited; who was first wins, and the journal says so."""

from __future__ import annotations

import pytest

from core.errors import BadInput, Conflict, NotFound, NotPermitted
from records import queries
from records.batches import NewSheet, balance, close_batch, open_batch, place_in_queue, waiting_cases
from records.capture import edit, refuse, refuse_sheets, seal_spans, settle, waiting_content
from records.find import find
from records.found import define, images
from records.models import Entry
from records.show import history, show
from tests.house import House, definition, template


@pytest.fixture
def batch(house: House) -> str:
    house.ledger()
    return house.batch(3)


def titles(house: House, text: str, **options: object) -> list[str]:
    return [hit.title["name"] for hit in find(house.stores, house.officer, text, **options).hits]  # type: ignore[arg-type]


def test_sure_sheets_are_sealed_and_doubtful_ones_wait(house: House, batch: str) -> None:
    sure, doubtful = house.captured(batch, 1), house.captured(batch, 2, reason="low_confidence")
    seal_spans(house.stores, house.officer, batch, [sure, doubtful])
    now = balance(house.officer, batch)
    assert (now.total, now.sealed, now.waiting, now.refused, now.unread) == (3, 1, 1, 0, 1)
    assert not now.balanced
    assert [(sheet.state, sheet.reason, sheet.record_id) for sheet in now.sheets] == [
        ("sealed", "", sure.record),
        ("waiting", "items", doubtful.record),
        ("", "", None),
    ]
    [case] = waiting_cases(house.officer)
    assert (case.record, case.reason, case.sheets) == (doubtful.record, "items", ("束-2.jpg p.1",))
    assert [(item.item, item.reason, item.confidence) for item in case.items] == [("name", "low_confidence", 500)]
    one = show(house.stores, house.officer, sure.record)
    assert one.content.values == {"name": "山田 1", "opened_on": "2024-05-01"}
    assert (one.generation, one.newest, one.row.retention_state) == (1, 1, "living")


def test_a_waiting_record_is_not_found_nor_shown(house: House, batch: str) -> None:
    record = house.waiting(batch, 1)
    assert titles(house, "") == []
    with pytest.raises(NotFound):
        show(house.stores, house.officer, record)
    with pytest.raises(NotFound):
        edit(house.stores, house.officer, record, 0, {"name": "x"}, "理由")


def test_the_same_spans_again_change_nothing(house: House, batch: str) -> None:
    spans = [house.captured(batch, 1), house.captured(batch, 2, reason="torn")]
    seal_spans(house.stores, house.officer, batch, spans)
    entries = Entry.objects.exclude(event="searched").count()
    seal_spans(house.stores, house.officer, batch, spans)
    assert Entry.objects.exclude(event="searched").count() == entries
    assert balance(house.officer, batch).sealed == 1


def test_a_person_settles(house: House, batch: str) -> None:
    record = house.waiting(batch, 1)
    _, _, read = waiting_content(house.stores, house.officer, record)
    assert read.body["generation"] == 0
    house.later(hours=1)
    done = settle(house.stores, house.officer, record, {"name": "山田 花子", "closed_on": "R7.3.31"})
    assert done.values == {"name": "山田 花子", "opened_on": "2024-05-01", "closed_on": "2025-03-31"}
    one = show(house.stores, house.officer, record)
    assert (one.generation, one.row.retention_start, one.row.retention_due) == (1, "2025-04-01", "2030-03-31")
    [name] = [item for item in one.content.body["items"] if item["item"] == "name"]
    assert name["raw"] == "山田 1"  # what the reader saw stays beside what the person said
    assert name["settled"] == {"at": "2026-04-01T01:30:00.000000Z", "by": house.officer.person}
    assert titles(house, "花子") == ["山田 花子"]
    assert waiting_cases(house.officer) == []
    with pytest.raises(Conflict, match="settled") as caught:
        settle(house.stores, house.officer, record, {"name": "別人"})
    assert caught.value.code == "record.not_waiting"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"name": " "}, "value.required"),
        ({"opened_on": "54.3.2"}, "value.date"),
        ({"sex": "不明"}, "value.choice"),
        ({"phone": "七"}, "value.number"),
        ({"name": "a\x00b"}, "value.length"),
        ({"stranger": "x"}, "value.item"),
    ],
)
def test_a_value_that_does_not_fit_seals_nothing(house: House, batch: str, values: dict[str, str], code: str) -> None:
    record = house.waiting(batch, 1)
    with pytest.raises(BadInput) as caught:
        settle(house.stores, house.officer, record, values)
    assert caught.value.code == code
    assert caught.value.ja and caught.value.en
    row = queries.record(record)
    assert row is not None and row.state == "waiting"
    assert house.stores.objects.head(record) == 1


def test_a_missing_required_value_cannot_be_settled_away(house: House, batch: str) -> None:
    one = house.captured(batch, 1, reason="missing", name="")
    seal_spans(house.stores, house.officer, batch, [one])
    with pytest.raises(BadInput, match="Name"):
        settle(house.stores, house.officer, one.record, {"opened_on": "2024-05-02"})


def test_a_page_without_form_may_be_settled_as_such(house: House, batch: str) -> None:
    one = house.captured(batch, 1, reason="missing", name="")
    seal_spans(house.stores, house.officer, batch, [one])
    with pytest.raises(BadInput) as caught:
        settle(house.stores, house.officer, one.record, {}, form="no-such-form")
    assert caught.value.code == "form.unknown"
    assert settle(house.stores, house.officer, one.record, {}, form="").body["form"] == ""


def test_a_person_refuses(house: House, batch: str) -> None:
    record = house.waiting(batch, 1)
    with pytest.raises(BadInput) as caught:
        refuse(house.stores, house.officer, record, "because")
    assert caught.value.code == "refusal.reason"
    refuse(house.stores, house.officer, record, "rescan")
    now = balance(house.officer, batch)
    assert (now.refused, now.sheets[0].state, now.sheets[0].reason) == (1, "refused", "rescan")
    row = queries.record(record)
    assert row is not None and house.stores.objects.head(record) == row.object_version  # the scan stays in the store
    for again in (
        lambda: refuse(house.stores, house.officer, record, "blank"),
        lambda: settle(house.stores, house.officer, record, {}),
    ):
        with pytest.raises(Conflict) as conflict:
            again()
        assert conflict.value.code == "record.not_waiting"


def test_an_edit_is_the_next_generation(house: House, batch: str) -> None:
    record = house.sealed(batch, 1)
    house.later(days=1)
    edit(house.stores, house.officer, record, 1, {"name": "山本 一", "closed_on": "2025-05-05"}, " 転記の誤り ")
    first, second = (show(house.stores, house.officer, record, number) for number in (1, 2))
    assert first.content.values["name"] == "山田 1"
    assert second.content.values["name"] == "山本 一"
    assert first.row.retention_state == "living"
    assert second.row.retention_due == "2031-03-31"
    assert show(house.stores, house.officer, record).generation == 2
    assert titles(house, "山本") == ["山本 一"]
    assert titles(house, "山田") == []
    assert titles(house, "山田", past=True) == ["山田 1"]
    told = [(change.event, change.generation, change.why) for change in history(house.stores, house.officer, record)]
    assert told == [("sealed", 1, ""), ("edited", 2, "転記の誤り")]
    with pytest.raises(NotFound):
        show(house.stores, house.officer, record, 3)


@pytest.mark.parametrize(
    ("base", "values", "why", "code"),
    [
        (1, {"name": "新"}, " ", "edit.why"),
        (1, {"name": "山田 1"}, "理由", "edit.nothing"),
        (1, {}, "理由", "edit.nothing"),
        (1, {"name": ""}, "理由", "value.required"),
        (0, {"name": "新"}, "理由", "record.moved_on"),
        (2, {"name": "新"}, "理由", "record.moved_on"),
    ],
)
def test_an_edit_that_is_refused_seals_nothing(
    house: House, batch: str, base: int, values: dict[str, str], why: str, code: str
) -> None:
    record = house.sealed(batch, 1)
    with pytest.raises((BadInput, Conflict)) as caught:
        edit(house.stores, house.officer, record, base, values, why)
    assert caught.value.code == code
    assert [row.number for row in queries.generations(record)] == [1]
    assert house.stores.objects.head(record) == 1


def test_the_second_of_two_editors_is_told(house: House, batch: str) -> None:
    record = house.sealed(batch, 1)
    edit(house.stores, house.officer, record, 1, {"name": "先"}, "先に")
    with pytest.raises(Conflict) as caught:
        edit(house.stores, house.officer, record, 1, {"name": "後"}, "後から")
    assert (caught.value.code, caught.value.exit_code) == ("record.moved_on", 75)
    assert show(house.stores, house.officer, record).content.values["name"] == "先"


def test_the_same_sheets_are_the_same_batch(house: House, batch: str) -> None:
    sheets = [NewSheet("x.jpg", 1, "d1", "form"), NewSheet("y.pdf", 0, "", "file", "file.broken")]
    first, known = open_batch(house.stores, house.officer, "clients", "朝", sheets)
    assert not known
    assert open_batch(house.stores, house.officer, "clients", "夕", sheets) == (first, True)
    other, known = open_batch(house.stores, house.officer, "clients", "朝", sheets[::-1])
    assert other != first and not known
    assert [(s.state, s.reason) for s in balance(house.officer, first).sheets] == [("", ""), ("refused", "file.broken")]


def test_a_batch_is_closed_when_nothing_waits(house: House, batch: str) -> None:
    def code() -> str:
        with pytest.raises(Conflict) as caught:
            close_batch(house.stores, house.officer, batch)
        return caught.value.code

    house.sealed(batch, 1)
    record = house.waiting(batch, 2)
    assert code() == "batch.unread"
    refuse_sheets(house.stores, house.officer, batch, [3], "sheet.crashed")
    assert code() == "batch.waiting"
    refuse(house.stores, house.officer, record, "blank")
    assert close_batch(house.stores, house.officer, batch).closed_at
    assert code() == "batch.closed"


def test_the_queue_goes_round(house: House, batch: str) -> None:
    records = [house.waiting(batch, number) for number in (1, 2, 3)]
    assert [case.record for case in waiting_cases(house.officer, batch)] == records
    assert [place_in_queue(house.officer, record).next for record in records] == [records[1], records[2], records[0]]
    settle(house.stores, house.officer, records[0], {})
    settle(house.stores, house.officer, records[2], {})
    assert place_in_queue(house.officer, records[2]).next == records[1]
    assert (place_in_queue(house.officer, records[1]).next, place_in_queue(house.officer, records[1]).left) == ("", 1)


def test_old_records_keep_their_definition(house: House, batch: str) -> None:
    old = house.sealed(batch, 1)
    assert define(house.stores, house.officer, template()) == 1  # the same again is no new version
    house.ledger(items=definition().items[:-1])
    new = house.sealed(batch, 2)
    assert [item.id for item in show(house.stores, house.officer, old).ledger.items][-1] == "phone"
    assert [item.id for item in show(house.stores, house.officer, new).ledger.items][-1] == "sex"
    for version in (1, 2):
        row = queries.ledger_version("clients", version)
        assert row is not None and images(house.stores, row) == dict(template().images)


def test_who_may_do_something_else_is_told_so(house: House, batch: str) -> None:
    scanner = template()
    define(
        house.stores,
        house.officer,
        type(scanner)(
            scanner.definition,
            scanner.images,
            {**scanner.posts, "scan": {"ja": "受託", "en": "scan"}},
            {**scanner.rights, "scan": ("capture",)},
        ),
    )
    contractor, stranger = house.person("scan1", "scan"), house.person("nobody")
    record = house.waiting(batch, 1)
    sealed = house.sealed(batch, 2)
    with pytest.raises(NotPermitted):
        settle(house.stores, contractor, record, {})
    with pytest.raises(NotFound):
        settle(house.stores, stranger, record, {})
    for person in (contractor, stranger):
        with pytest.raises(NotFound):
            show(house.stores, person, sealed)
        with pytest.raises(NotFound):
            edit(house.stores, person, sealed, 1, {"name": "x"}, "y")
