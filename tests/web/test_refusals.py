"""What the pages refuse to a known person is an entry before it is told, alike for what is hidden and what is not there."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from core.errors import StorageFull
from records import operation as records_operation
from records.audit import Asked, audit_entries
from records.models import Entry
from tests.web.conftest import Site


def refused(site: Site) -> list[tuple[str, dict[str, Any], Any]]:
    found = audit_entries(site.house.stores, site.house.officer, Asked(refused=True, since=date(2026, 4, 1)))
    return [(each.login, each.row.data, each.personal) for each in found]


def test_every_refusal_of_a_page_is_an_entry(site: Site) -> None:
    outsider, settler = site.client("outsider"), site.client("contractor")
    hidden, unknown = f"/records/{site.hidden_record}/", f"/records/r-{'a' * 26}/"
    for address in (hidden, unknown, "/no-such-page/?q=yamada"):
        assert outsider.get(address).status_code == 404
    assert settler.post(f"/batches/{site.hidden_batch}/close/").status_code == 404
    assert [(login, data, personal["asked"][:40]) for login, data, personal in refused(site)] == [
        ("outsider", {"door": "record", "code": "record.not_found"}, hidden),
        ("outsider", {"door": "record", "code": "record.not_found"}, unknown),
        ("outsider", {"door": "", "code": "page.not_found"}, "/no-such-page/?q=yamada"),
        ("contractor", {"door": "close_batch", "code": "batch.not_found"}, f"/batches/{site.hidden_batch}/close/"[:40]),
    ]


def test_lists_of_names_are_entries_before_they_are_shown(site: Site) -> None:
    desk = site.client("desk")
    for address in ("/batches/", f"/batches/{site.batch}/", "/queue/", f"/queue/?batch={site.batch}"):
        assert desk.get(address).status_code == 200
    seen = Entry.objects.filter(person=site.people["desk"]).exclude(event="signed_in").order_by("number")
    assert [(row.event, row.batch) for row in seen] == [
        ("batches_viewed", ""),
        ("batch_viewed", site.batch),
        ("queue_viewed", ""),
        ("queue_viewed", site.batch),
    ]


def test_where_nothing_can_be_journalled_nothing_is_answered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    outsider = site.client("outsider")

    def full(*_: object, **__: object) -> None:
        raise StorageFull("", "")

    monkeypatch.setattr(records_operation, "note_alone", full)
    assert outsider.get(f"/records/{site.hidden_record}/").status_code == 507


def test_nobody_who_is_unknown_fills_the_journal(site: Site) -> None:
    before = Entry.objects.count()
    for address in ("/no-such-page/", "/records/x/", "/favicon.ico"):
        assert site.visitor().get(address).status_code == 302
    assert Entry.objects.count() == before
