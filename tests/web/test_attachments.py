"""Attachments on the pages: listed, kept as files and never shown by the browser, added and taken off with a reason."""

from __future__ import annotations

import hashlib
import re
import sys
import time

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from waitress.adjustments import Adjustments

from core.errors import DaichoError, StorageFull
from records.attachments import Given, attach, listed
from records.models import Entry
from records.show import show
from storage.memory import MemoryObjects
from tests.contracts.storage_contracts import Generated
from tests.web.conftest import Site
from web import bodies, serve, uploads

PAGE = b"<script>alert(1)</script>"


def send(
    client: Client, record: str, *files: tuple[str, bytes], base: int = 1, why: str = "本人から受領"
) -> tuple[int, str]:
    sent = [SimpleUploadedFile(name, data, "text/html") for name, data in files]
    answer = client.post(reverse("attach", args=[record]), {"base": base, "why": why, "files": sent})
    return answer.status_code, answer.content.decode()


def attached(site: Site) -> list[str]:
    return [each.id for each in listed(show(site.house.stores, site.house.officer, site.record).content)]


def test_files_are_added_listed_kept_and_taken_off(site: Site) -> None:
    desk, address = site.client("desk"), reverse("record", args=[site.record])
    page = desk.get(address).content.decode()
    assert "添付はありません" in page
    assert send(desk, site.record, ("意見書 <b>.html", PAGE), ("音.bin", b"\x00" * 3000))[0] == 302
    page = desk.get(address).content.decode()
    assert "意見書 &lt;b&gt;.html" in page and "2.9 kB" in page
    first, second = attached(site)
    answer = desk.get(reverse("attachment", args=[site.record, first]))
    assert answer.getvalue() == PAGE
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"].startswith("attachment; filename*=utf-8''%E6%84%8F")
    assert (answer["X-Content-Type-Options"], answer["Cache-Control"]) == ("nosniff", "no-store")
    assert answer["Content-Length"] == str(len(PAGE))
    assert Entry.objects.filter(event="attachment_read").count() == 1
    detach = reverse("detach", args=[site.record])
    assert desk.post(detach, {"base": 2, "why": "取下げ", "attachment": first}).status_code == 302
    assert attached(site) == [second]
    assert desk.get(reverse("attachment", args=[site.record, first])).status_code == 404
    past = desk.get(reverse("attachment", args=[site.record, first]), {"generation": 2})
    assert past.getvalue() == PAGE
    assert f"{first}/?generation=2" in desk.get(address, {"generation": 2}).content.decode()


def test_what_is_wrong_is_said_at_the_form_and_nothing_is_sealed(site: Site) -> None:
    desk, file = site.client("desk"), ("a.pdf", b"%PDF-")
    detach = reverse("detach", args=[site.record])
    for status, page, told in (
        (*send(desk, site.record, file, why=" "), "変更の理由を入れてください"),
        (*send(desk, site.record, why="理由の文"), "何も変わっていません"),
        (*send(desk, site.record, ("empty", b""), why="理由の文"), "空のファイル"),
        (*send(desk, site.record, file, file), "二重には"),
        (*send(desk, site.record, file, base=9), "ほかの人が先に"),
    ):
        assert status in (400, 409), told
        assert told in page
        assert '<details class="adding" open>' in page
    answer = desk.post(detach, {"base": 1, "why": "理由"})
    assert (answer.status_code, "何も変わっていません" in answer.content.decode()) == (400, True)
    assert desk.post(detach, {"base": 1, "why": "理由", "attachment": "attachment-x"}).status_code == 404
    assert site.house.stores.objects.head(site.record) == 1


def test_who_may_not_edit_sees_no_form_and_who_may_not_view_sees_nothing(site: Site) -> None:
    send(site.client("officer"), site.record, ("a.pdf", b"%PDF-"))
    [one] = attached(site)
    address = reverse("attachment", args=[site.record, one])
    for login in ("contractor", "outsider"):
        client = site.client(login)
        answers = [
            client.get(each) for each in (address, reverse("attachment", args=["r-" + "a" * 26, one]), "/nowhere/")
        ]
        assert [answer.status_code for answer in answers] == [404] * 3
        assert answers[0].content == answers[1].content == answers[2].content
        assert send(client, site.record, ("b.pdf", b"%PDF-"), base=2)[0] in (403, 404)
    assert len(attached(site)) == 1


def test_damage_breaks_the_answer_off(site: Site) -> None:
    size = 9_000_000
    house = site.house
    attach(
        house.stores,
        house.officer,
        site.record,
        1,
        [Given("大", lambda: Generated(size).open())],
        "x",
        serve.settings().scratch,
    )
    [one] = attached(site)
    objects = house.stores.objects
    assert isinstance(objects, MemoryObjects)
    place = next(key for key in objects.files if key[1].endswith(f"{one}.age"))
    sound = objects.files[place]
    desk, address = site.client("desk"), reverse("attachment", args=[site.record, one])
    assert (
        hashlib.sha256(desk.get(address).getvalue()).digest() == hashlib.sha256(Generated(size).open().read()).digest()
    )
    objects.files[place] = sound[:-1] + bytes([sound[-1] ^ 1])
    answer, got = desk.get(address), 0
    with pytest.raises(DaichoError):
        for piece in answer.streaming_content:
            got += len(piece)
    assert got < size == int(answer["Content-Length"])  # so the browser knows
    objects.files[place] = b"age-encryption.org/v1\n"
    assert desk.get(address).status_code == 500  # told on a page while that is still possible


def test_nothing_of_an_upload_has_a_name(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch, seen = serve.settings().scratch, []

    class Looking(uploads.Spool):
        def file_complete(self, file_size: int) -> object:
            seen.append(list(scratch.iterdir()))
            return super().file_complete(file_size)

    monkeypatch.setattr(uploads, "Spool", Looking)
    assert send(site.client("desk"), site.record, ("a.pdf", b"%PDF-" * 1_000_000))[0] == 302
    assert seen == [[]]


def test_a_full_disk_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: uploads.Spool, raw_data: bytes, start: int) -> None:
        raise StorageFull("満杯", "full")

    desk = site.client("desk")
    desk.raise_request_exception = False
    monkeypatch.setattr(uploads.Spool, "receive_data_chunk", full)
    status, page = send(desk, site.record, ("a.pdf", b"%PDF-"))
    assert (status, "満杯" in page) == (507, True)


def test_an_address_that_is_no_attachment(site: Site) -> None:
    desk = site.client("desk")
    for wrong in ("page-0001", "record", "attachment-", "attachment-" + "a" * 26):
        assert desk.get(reverse("attachment", args=[site.record, wrong])).status_code == 404
    assert desk.get(reverse("attach", args=[site.record])).status_code == 405


def test_a_ticket_lets_in_what_it_was_given_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    page = site.client("desk").get(reverse("record", args=[site.record])).content.decode()
    found = re.search(r'action="([^"]+)\?(ticket=[^"]+)" enctype', page)
    assert found

    def largest(target: str) -> int:
        parser = bodies.Parser(Adjustments(max_request_body_size=bodies.LARGEST))
        parser.received(f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n".encode())
        return int(parser.adj.max_request_body_size)

    path, query = found[1], found[2]
    assert largest(f"{path}?{query}") == largest(f"{path}?{query}&x=y") == sys.maxsize
    other = path.replace(site.record, site.hidden_record)
    for wrong in (
        path,
        f"{other}?{query}",
        f"/?{query}",
        f"{path}x/?{query}",
        f"{path}?{query}x",
        f"{path}?ticket=",
        f"{path}?ticket=a:b:c",
    ):
        assert largest(wrong) == bodies.LARGEST
    later = time.time() + bodies.TICKET_LASTS + 2
    monkeypatch.setattr(time, "time", lambda: later)
    assert largest(f"{path}?{query}") == bodies.LARGEST
