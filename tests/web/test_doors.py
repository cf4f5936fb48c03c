"""Every route is a listed door; who may not know of a thing cannot tell it from nothing; no page lets foreign code in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.test import Client
from django.urls import get_resolver, reverse

from access import doors
from tests.web.conftest import Site
from web import assets, middleware
from web.words import WORDS

TEMPLATES = Path(__file__).resolve().parents[2] / "web" / "templates"
POSTS = {"sign_out", "close_batch", "settle", "refuse", "attach", "detach"}


def addresses(record: str, waits: str, batch: str) -> dict[str, str]:
    """Address of every route, about these things."""
    made = {
        "record": [record],
        "page_image": [record, 1, "view"],
        "edit": [record],
        "attachment": [record, "attachment-" + "a" * 26],
        "attach": [record],
        "detach": [record],
        "batch": [batch],
        "close_batch": [batch],
        "waiting": [waits],
        "snippet": [waits, "name"],
        "settle": [waits],
        "refuse": [waits],
        "asset": [assets.digest("daicho.css"), "daicho.css"],
    }
    return {name: reverse(name, args=made.get(name, [])) for name in doors.ROUTES}


def test_routes_are_the_listed_doors() -> None:
    assert {pattern.name for pattern in get_resolver().url_patterns} == set(doors.ROUTES)


def test_a_route_that_is_not_listed_does_not_open(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = site.client("desk")
    assert desk.get("/ledgers/").status_code == 200
    monkeypatch.setattr(middleware, "ROUTES", {name: door for name, door in doors.ROUTES.items() if name != "ledgers"})
    assert desk.get("/ledgers/").status_code == 404


def test_signed_out_every_door_but_the_open_ones_leads_to_sign_in(site: Site) -> None:
    told = addresses(site.record, site.waits[0], site.batch)
    for name, address in told.items():
        visitor = site.visitor()
        answer = visitor.post(address, {"reason": "blank"}) if name in POSTS else visitor.get(address)
        if doors.ROUTES[name] == "anyone":
            assert answer.status_code in (200, 302), name
        else:
            assert answer.status_code == 302, name
            assert answer["Location"].startswith("/sign-in/"), name
            assert not answer.content, name
    lost = site.visitor().get("/nowhere/")
    assert (lost.status_code, lost["Location"]) == (302, "/sign-in/?next=%2Fnowhere%2F")


PRIVATE = (
    "record",
    "page_image",
    "edit",
    "attach",
    "detach",
    "batch",
    "close_batch",
    "waiting",
    "snippet",
    "settle",
    "refuse",
)


def test_what_one_may_not_know_looks_like_nothing(site: Site) -> None:
    there = addresses(site.hidden_record, site.hidden_waits, site.hidden_batch)
    unknown = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
    nothing = addresses(f"r-{unknown}", f"r-{unknown}", f"b-{unknown}")
    clients = [site.client(login) for login in ("outsider", "desk")]
    officer = site.client("officer")
    for name in PRIVATE:
        for client in clients:
            answers = [ask(client, name, address) for address in (there[name], nothing[name], "/nowhere/")]
            assert answers[0][0] == 404, name
            assert answers[0] == answers[1] == answers[2], name
        assert ask(officer, name, there[name])[0] in (200, 302, 400, 409), name


def ask(client: Client, name: str, address: str) -> tuple[int, list[tuple[str, str]], bytes, list[str]]:
    """Everything that can be seen of an answer."""
    answer = client.post(address, {"reason": "blank", "v-name": "x"}) if name in POSTS else client.get(address)
    headers = sorted(item for item in answer.items() if item[0] != "X-Request-Id")  # another one for every request
    return answer.status_code, headers, answer.content, sorted(answer.cookies.keys())


def test_who_settles_without_viewing_sees_waiting_cases_and_no_records(site: Site) -> None:
    contractor = site.client("contractor")
    told = addresses(site.record, site.waits[0], site.batch)
    got = {
        name: contractor.get(told[name]).status_code for name in ("record", "page_image", "edit", "waiting", "snippet")
    }
    assert got == {"record": 404, "page_image": 404, "edit": 404, "waiting": 200, "snippet": 200}
    assert contractor.get(reverse("page_image", args=[site.waits[0], 1, "view"])).content == b"view"
    page = contractor.get(told["batch"]).content.decode()
    assert told["waiting"] in page
    assert told["record"] not in page
    assert "高橋" not in contractor.get("/?q=").content.decode()


def test_hidden_ledgers_appear_nowhere(site: Site) -> None:
    pages = [
        "/",
        "/?q=",
        "/?q=%E9%AB%98%E6%A9%8B",
        "/?q=&past=1",
        "/ledgers/",
        "/batches/",
        "/queue/",
        f"/batches/{site.batch}/",
    ]
    pages += [f"/queue/?batch={site.batch}", f"/records/{site.record}/"]
    told = {}
    for login in ("desk", "officer"):
        client = site.client(login)
        told[login] = [client.get(page) for page in pages]
        assert [answer.status_code for answer in told[login]] == [200] * len(pages)
    for answer in told["desk"]:
        assert not re.search(
            "shelter|秘密|秘子|" + site.hidden_batch + "|" + site.hidden_record, answer.content.decode()
        )
    seen = "".join(answer.content.decode() for answer in told["officer"])
    assert all(word in seen for word in ("秘密の台帳", "秘子", site.hidden_batch, site.hidden_record))
    client = site.client("desk")
    chosen, unknown = (client.get(f"/?q=&ledger={ledger}") for ledger in ("shelter", "nothing"))
    assert chosen.status_code == 404
    assert chosen.content == unknown.content
    assert client.get(f"/queue/?batch={site.hidden_batch}").status_code == 404


def test_headers_keep_foreign_code_out_and_pages_in(site: Site) -> None:
    desk = site.client("desk")
    told = addresses(site.record, site.waits[0], site.batch)
    answers = [desk.get(told[name]) for name in told if name not in POSTS]
    answers += [
        desk.get("/nowhere/"),
        site.visitor().get("/sign-in/"),
        desk.get("/", headers={"host": "elsewhere.example"}),
    ]
    for answer in answers:
        policy = answer["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert not re.search("unsafe|https?:|data:|\\*", policy)
        assert answer["X-Content-Type-Options"] == "nosniff"
        kept = "immutable" in answer["Cache-Control"]
        assert kept == answer["Content-Type"].startswith("text/css")
        assert kept or answer["Cache-Control"] == "no-store"
    assert answers[-1].status_code == 400


def test_templates_hold_no_inline_code_and_no_foreign_address() -> None:
    for file in TEMPLATES.rglob("*.html"):
        text = re.sub(r"{%.*?%}", "", file.read_text("utf-8"))
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|https?://", text), file
        assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", text)), file
    for file in assets.FOLDER.iterdir():
        foreign = re.findall(r"https?://[^\"' )]+", file.read_text("utf-8"))
        assert set(foreign) <= {"http://www.w3.org/2000/svg"}, file


def test_every_word_that_templates_ask_for_is_there_in_both_languages() -> None:
    asked = set()
    for file in TEMPLATES.rglob("*.html"):
        asked |= set(re.findall(r'{% word "([^"]+)"', file.read_text("utf-8")))
    assert asked <= set(WORDS)
    assert all(ja and en for ja, en in WORDS.values())


def test_words_that_nothing_says_are_not_kept() -> None:
    sources = [*TEMPLATES.rglob("*.html"), *TEMPLATES.parent.rglob("*.py")]
    said = "".join(file.read_text("utf-8") for file in sources if file != TEMPLATES.parent / "words.py")
    families = ("state.", "kind.", "event.", "retention.", "action.", "right.", "facet.")
    assert [key for key in WORDS if f'"{key}"' not in said and not key.startswith(families)] == []


def test_a_form_without_its_token_is_refused(site: Site) -> None:
    visitor = site.visitor(enforce_csrf_checks=True)
    answer = visitor.post("/sign-in/", {"login": "desk", "password": "x"})
    assert answer.status_code == 403
    assert "csrf" in answer.content.decode()


def test_assets_are_served_under_their_digest_only(site: Site) -> None:
    visitor = site.visitor()
    address = reverse("asset", args=[assets.digest("keys.js"), "keys.js"])
    assert visitor.get(address)["Content-Type"] == "text/javascript; charset=utf-8"
    for wrong in ("/assets/0000000000000000/keys.js", "/assets/0000000000000000/..%2Fviews.py", "/assets/x/views.py"):
        assert visitor.get(wrong).status_code in (302, 404)
