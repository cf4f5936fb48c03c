"""What staff do: search, look, settle until a batch closes, edit."""

from __future__ import annotations

import html
import re

from django.test import Client
from django.urls import reverse

from records.capture import settle
from records.models import Entry, Generation
from records.show import show
from tests.web.conftest import Site


def hidden_fields(page: str) -> dict[str, str]:
    """Names and values of a page's hidden fields."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    return {name: html.unescape(value) for name, value in found if name != "csrfmiddlewaretoken"}


def text(client: Client, address: str, **asked: str) -> str:
    answer = client.get(address, asked)
    assert answer.status_code == 200, (address, answer.status_code)
    return str(answer.content.decode())


def test_search_finds_narrows_and_shows_the_rules(site: Site) -> None:
    desk = site.client("desk")
    assert "きまりの文" not in text(desk, "/", q="")
    page = text(desk, "/", q="髙橋", ledger="clients")
    assert "高橋 花子" in page
    assert "1 件" in page
    assert "きまりの文" in page
    assert "令和6年度" in page
    assert "見つかりませんでした" in text(desk, "/", q="高橋", **{"f-year": "1999"})
    assert "高橋 花子" in text(desk, "/", q="高橋", **{"f-year": "2024"})
    assert desk.get("/", {"q": 'an "open quote'}).status_code == 400
    assert desk.get("/", {"q": "x", "cursor": "nonsense"}).status_code == 400


def test_a_long_list_goes_on_by_cursor(site: Site) -> None:
    batch = site.house.batch(40, "clients", "長い束")
    for sheet in range(1, 41):
        site.house.sealed(batch, sheet)
    from records.indexing import feed

    feed(site.house.stores)
    desk = site.client("desk")
    seen: list[str] = []
    address = "/?q="
    while address:
        page = text(desk, address)
        seen += re.findall(r'href="/records/([^/"]+)/', page)
        further = re.search(r'rel="next" href="([^"]+)"', page)
        address = html.unescape(further[1]) if further else ""
    assert len(seen) == len(set(seen)) == 41


def test_a_record_shows_image_values_retention_and_history(site: Site) -> None:
    desk = site.client("desk")
    page = text(desk, f"/records/{site.record}/")
    assert f'src="/records/{site.record}/pages/1/view.jpg"' in page
    assert "高橋 花子" in page
    assert re.search(r"令和6年5月1日 <span[^>]*>2024-05-01", page)
    assert "常用" in page
    assert "5年" in page
    assert "四月分-1.jpg" in page
    image = desk.get(f"/records/{site.record}/pages/1/view.jpg")
    assert (image.content, image["Content-Type"], image["Cache-Control"]) == (b"view", "image/jpeg", "no-store")
    looked = list(Entry.objects.filter(record=site.record).order_by("number").values_list("event", "via"))
    assert looked[-3:] == [("record_viewed", "web"), ("history_viewed", "web"), ("page_viewed", "web")]
    for wrong in ("?generation=2", "?generation=0", "?generation=x", "?generation=99999999999999999999", "?page=x"):
        assert desk.get(f"/records/{site.record}/{wrong}").status_code == 404


def test_settling_goes_from_case_to_case_until_the_batch_closes(site: Site) -> None:
    contractor = site.client("contractor")
    first, second = site.waits
    page = text(contractor, "/queue/")
    assert reverse("waiting", args=[first]) in page
    page = text(contractor, reverse("waiting", args=[first]))
    assert f'src="/queue/{first}/items/name.png"' in page
    assert "残り 2 件" in page
    sent = hidden_fields(page)
    assert sent == {"was-opened_on": "令和6年5月1日", "was-closed_on": "", "was-sex": "", "was-phone": ""}
    assert contractor.post(f"/batches/{site.batch}/close/").status_code == 409
    answer = contractor.post(f"/queue/{first}/settle/", {**sent, "v-name": "山田 太郎", "v-opened_on": "令和6年5月1日"})
    assert answer["Location"] == f"/queue/{second}/?done=settled"
    page = text(contractor, answer["Location"])
    assert "最後の 1 件" in page
    answer = contractor.post(f"/queue/{second}/refuse/", {"reason": "not_a_record"})
    assert answer["Location"] == f"/batches/{site.batch}/?done=finished"
    page = text(contractor, answer["Location"])
    assert "締めることができます" in page
    assert "記録ではない" in page
    assert contractor.post(f"/batches/{site.batch}/close/").status_code == 302
    page = text(contractor, f"/batches/{site.batch}/")
    assert "締めることができます" not in page
    assert re.search(r'<span class="tag sealed">締め</span>', page)
    shown = show(site.house.stores, site.house.officer, first)
    items = {item["item"]: item for item in shown.content.body["items"]}
    assert items["name"]["value"] == "山田 太郎"
    assert items["name"]["settled"]["by"] == site.people["contractor"]
    assert "settled" not in items["opened_on"]


def test_a_batch_of_many_sheets_is_shown_page_by_page(site: Site) -> None:
    batch = site.house.batch(1001, "clients", "大束")
    desk, address = site.client("desk"), f"/batches/{batch}/"
    seen = []
    for asked in ({}, {"from": "501"}, {"from": "1001"}, {"from": "9" * 9}, {"from": "9" * 5000}, {"from": "x"}):
        page = text(desk, address, **asked)
        seen.append([int(number) for number in re.findall(r"大束-(\d+)\.jpg", page)])
    assert [(len(numbers), numbers[:1]) for numbers in seen] == [
        (500, [1]),
        (500, [501]),
        (1, [1001]),
        (0, []),
        (500, [1]),
        (500, [1]),
    ]
    assert "まだ読んでいない紙が 1001 枚" in text(desk, address)
    assert "大束-1.jpg" not in text(desk, address, state="sealed")


def test_what_does_not_fit_is_said_at_its_field_and_kept(site: Site) -> None:
    desk, case = site.client("desk"), site.waits[0]
    sent = hidden_fields(text(desk, f"/queue/{case}/"))
    answer = desk.post(
        f"/queue/{case}/settle/", {**sent, "v-name": " ", "v-opened_on": "令和6年2月30日", "v-phone": "<b>090"}
    )
    page = answer.content.decode()
    assert answer.status_code == 400
    assert re.search(r'value="令和6年2月30日"[^>]*aria-invalid="true" aria-describedby="error-opened_on"', page)
    assert 'id="error-name"' in page
    assert 'id="error-phone"' in page
    assert "&lt;b&gt;090" in page
    assert "<b>090" not in page
    assert desk.get(f"/queue/{case}/").status_code == 200
    assert not Generation.objects.filter(record_id=case).exists()


def test_a_case_that_somebody_else_settled_leads_to_the_next(site: Site) -> None:
    desk, (first, second) = site.client("desk"), site.waits
    settle(site.house.stores, site.house.officer, first, {})
    for answer in (
        desk.get(f"/queue/{first}/"),
        desk.post(f"/queue/{first}/settle/", {"v-name": "x"}),
        desk.post(f"/queue/{first}/refuse/", {"reason": "blank"}),
    ):
        assert answer["Location"] == f"/queue/{second}/?done=taken"
    assert Generation.objects.filter(record_id=first).count() == 1
    assert "ほかの人が先に" in text(desk, f"/queue/{second}/", done="taken")


def test_a_sheet_without_a_known_form_is_kept_for_its_page(site: Site) -> None:
    from dataclasses import replace

    from records.capture import seal_spans

    house = site.house
    batch = house.batch(1, "clients", "不明")
    one = house.captured(batch, 1)
    page = replace(one.pages[0], reason="unknown_form")
    seal_spans(house.stores, house.officer, batch, [replace(one, form="", items=(), pages=(page,), matrix=())])
    desk = site.client("desk")
    told = text(desk, f"/queue/{one.record}/")
    assert 'name="form" value="form-a"' in told
    assert 'name="v-name"' in told
    assert desk.post(f"/queue/{one.record}/settle/", {"form": "form-a", "v-name": ""}).status_code == 400
    assert desk.post(f"/queue/{one.record}/settle/", {"form": "other", "v-name": "x"}).status_code == 400
    answer = desk.post(f"/queue/{one.record}/settle/", {"form": "", "v-name": "", "v-opened_on": ""})
    assert answer["Location"] == f"/batches/{batch}/?done=finished"
    assert "表題なし" in text(desk, f"/records/{one.record}/")


def test_an_edit_makes_a_generation_and_keeps_the_one_before(site: Site) -> None:
    desk, address = site.client("desk"), f"/records/{site.record}/"
    sent = hidden_fields(text(desk, f"{address}edit/"))
    assert sent["base"] == "1"
    unchanged = {f"v-{name[4:]}": value for name, value in sent.items() if name.startswith("was-")}
    answer = desk.post(f"{address}edit/", {**sent, **unchanged, "v-name": "高橋 華子", "why": " "})
    assert answer.status_code == 400
    assert 'id="why-error"' in answer.content.decode()
    assert "高橋 華子" in answer.content.decode()
    assert desk.post(f"{address}edit/", {**sent, **unchanged, "why": "訂正"}).status_code == 400
    answer = desk.post(f"{address}edit/", {**sent, **unchanged, "v-name": "高橋 華子", "why": "本人の申し出"})
    assert answer["Location"] == address
    page = text(desk, address)
    assert "高橋 華子" in page
    assert "本人の申し出" in page
    old = text(desk, address, generation="1")
    assert "高橋 花子" in old
    assert "過去の世代" in old
    assert "高橋 花子" not in text(desk, "/", q="花子")
    assert f"{address}?generation=1" in text(desk, "/", q="花子", past="1")


def test_an_edit_of_what_has_moved_on_shows_both(site: Site) -> None:
    desk, officer, address = site.client("desk"), site.client("officer"), f"/records/{site.record}/edit/"
    sent = hidden_fields(text(desk, address))
    unchanged = {f"v-{name[4:]}": value for name, value in sent.items() if name.startswith("was-")}
    other = {**sent, **unchanged, "v-name": "高橋 桃子", "v-phone": "090-0000-0000", "why": "先に"}
    assert officer.post(address, other).status_code == 302
    answer = desk.post(address, {**sent, **unchanged, "v-name": "高橋 桜子", "why": "後から"})
    page = answer.content.decode()
    assert answer.status_code == 409
    assert 'name="v-name" value="高橋 桜子"' in page
    assert re.search(r'class="now"><span>今の内容</span> 高橋 桃子', page)
    assert 'name="v-phone" value="090-0000-0000"' in page
    again = hidden_fields(page)
    assert again["base"] == "2"
    kept = {f"v-{name[4:]}": value for name, value in again.items() if name.startswith("was-")}
    assert desk.post(address, {**again, **kept, "v-name": "高橋 桜子", "why": "後から"}).status_code == 302
    values = show(site.house.stores, site.house.officer, site.record).content.values
    assert (values["name"], values["phone"]) == ("高橋 桜子", "090-0000-0000")
