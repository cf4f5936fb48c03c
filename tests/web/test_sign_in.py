"""Signing in and out, the session's ends, the language."""

from __future__ import annotations

import pytest

from records.models import Entry
from tests.web.conftest import PASSWORD, Site


def events(*names: str) -> list[tuple[str, str]]:
    return list(Entry.objects.filter(event__in=names).order_by("number").values_list("event", "person"))


def test_sign_in_and_out_are_journalled(site: Site) -> None:
    client = site.client("desk")
    assert client.get("/").status_code == 200
    assert client.get("/sign-out/").status_code == 405
    assert client.post("/sign-out/").status_code == 302
    assert client.get("/").status_code == 302
    person = site.people["desk"]
    assert events("signed_in", "signed_out") == [("signed_in", person), ("signed_out", person)]


def test_a_wrong_password_is_refused_journalled_and_says_nothing_of_the_login(site: Site) -> None:
    pages = []
    for login in ("desk", "nobody"):
        client = site.visitor()
        answer = client.post("/sign-in/", {"login": login, "password": "wrong wrong wrong"})
        assert answer.status_code == 403
        assert client.get("/").status_code == 302
        pages.append(answer.content.decode().replace(login, "LOGIN"))
    strip = [
        page.split("csrfmiddlewaretoken")[0] + page.split("csrfmiddlewaretoken")[1].split(">", 1)[1] for page in pages
    ]
    assert strip[0] == strip[1]
    assert events("sign_in_refused") == [("sign_in_refused", "")] * 2


def test_five_wrong_passwords_lock(site: Site) -> None:
    client = site.visitor()
    for _ in range(5):
        client.post("/sign-in/", {"login": "desk", "password": "wrong wrong wrong"})
    assert client.post("/sign-in/", {"login": "desk", "password": PASSWORD}).status_code == 403
    site.house.later(minutes=16)
    assert client.post("/sign-in/", {"login": "desk", "password": PASSWORD}).status_code == 302


def test_the_session_gets_a_new_key_and_holds_no_name(site: Site) -> None:
    client = site.visitor()
    client.get("/sign-in/")
    client.cookies["sessionid"] = "planted"
    client.post("/sign-in/", {"login": "desk", "password": PASSWORD})
    assert client.cookies["sessionid"].value != "planted"
    assert client.cookies["sessionid"]["httponly"]
    assert client.cookies["sessionid"]["samesite"] == "Strict"
    assert set(client.session.keys()) == {"_person", "_since", "_seen"}


def test_half_an_hour_without_work_ends_the_session(site: Site) -> None:
    client = site.client("desk")
    for _ in range(3):
        site.house.later(minutes=25)
        assert client.get("/").status_code == 200
    site.house.later(minutes=31)
    answer = client.get(f"/records/{site.record}/")
    assert answer["Location"] == f"/sign-in/?next=%2Frecords%2F{site.record}%2F&expired=1"
    assert client.get(answer["Location"]).status_code == 200


def test_eight_hours_end_the_session(site: Site) -> None:
    client = site.client("desk")
    for _ in range(19):
        site.house.later(minutes=25)
        assert client.get("/").status_code == 200
    site.house.later(minutes=10)
    assert client.get("/").status_code == 302


@pytest.mark.parametrize(
    ("asked", "led"),
    [
        ("/batches/", "/batches/"),
        ("/?q=a", "/?q=a"),
        ("https://elsewhere.example/", "/"),
        ("//elsewhere.example/", "/"),
        ("/\\elsewhere.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/nowhere/", "/"),
    ],
)
def test_after_signing_in_one_stays_here(site: Site, asked: str, led: str) -> None:
    answer = site.visitor().post("/sign-in/", {"login": "desk", "password": PASSWORD, "next": asked})
    assert answer["Location"] == led
    switched = site.visitor().get("/language/", {"to": "en", "next": asked})
    assert switched["Location"] == led


def test_the_language_is_a_switch_away(site: Site) -> None:
    client = site.client("desk")
    assert '<html lang="ja">' in client.get("/batches/").content.decode()
    assert client.get("/language/", {"to": "en", "next": "/batches/"})["Location"] == "/batches/"
    page = client.get("/batches/").content.decode()
    assert '<html lang="en">' in page
    assert "Balance of sheets" in page
    client.get("/language/", {"to": "xx"})
    assert '<html lang="en">' in client.get("/batches/").content.decode()


def test_somebody_who_left_is_out_at_once(site: Site) -> None:
    client = site.client("desk")
    from access.models import Person

    Person.objects.filter(id=site.people["desk"]).update(active=False)
    assert client.get("/").status_code == 302
