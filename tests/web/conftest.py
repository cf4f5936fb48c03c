"""A house with two ledgers served in this process: one that the desk may use, one of which only the records office knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from django.test import Client

from access import signin
from access.queries import credential, save_credential
from core.settings import load
from records.archive import pack
from records.found import define
from records.indexing import feed
from storage.cipher import encrypt
from tests.house import House, template
from web import serve

PASSWORD = "correct horse battery"
ALL = ("view", "capture", "settle", "edit", "define")


@dataclass
class Site:
    """The house, its people's ids by login, and the ids of what lies in it."""

    house: House
    people: dict[str, str]
    batch: str
    record: str
    waits: tuple[str, str]
    hidden_batch: str
    hidden_record: str
    hidden_waits: str

    def visitor(self, **options: object) -> Client:
        """Somebody who has not signed in."""
        return Client(SERVER_NAME="localhost", **options)

    def client(self, login: str, **options: object) -> Client:
        """Somebody who has signed in through the page."""
        client = Client(SERVER_NAME="localhost", **options)
        answer = client.post("/sign-in/", {"login": login, "password": PASSWORD})
        assert answer.status_code == 302, answer.content.decode()
        return client


@pytest.fixture
def site(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    # The true cost of a password, 0.1 s a try, is paid where a browser signs in to what the command serves.
    monkeypatch.setattr(signin, "COST", 2)
    stores, officer = house.stores, house.officer
    open_ledger = template(
        "clients", ("records-office", "desk", "contractor"), usage_rules={"ja": "きまりの文", "en": "the rules"}
    )
    rights = {"records-office": ALL, "desk": ALL, "contractor": ("settle",)}
    define(stores, officer, replace(open_ledger, rights=rights))
    hidden = template("shelter", ("records-office",), name={"ja": "秘密の台帳", "en": "Secret ledger"})
    define(stores, officer, hidden)
    people = {"officer": officer.person}
    for login, posts in {"desk": ["desk"], "contractor": ["contractor"], "outsider": []}.items():
        people[login] = house.person(login, *posts).person
    signin.set_password(officer.person, PASSWORD)
    known = credential(officer.person)
    assert known is not None
    for person in people.values():
        save_credential(person, known.password)
    batch = house.batch(3, "clients", "四月分")
    hidden_batch = house.batch(2, "shelter", "秘密の束")
    made = Site(
        house,
        people,
        batch,
        house.sealed(batch, 1, name="高橋 花子", sex="女"),
        (house.waiting(batch, 2), house.waiting(batch, 3)),
        hidden_batch,
        house.sealed(hidden_batch, 1, name="高橋 秘子"),
        house.waiting(hidden_batch, 2),
    )
    for record in (made.record, *made.waits, made.hidden_record, made.hidden_waits):
        pictures = {"view-0001.jpg": b"view", "thumb-0001.jpg": b"thumb", "snippet-name.png": b"snippet"}
        stores.derivatives.put({record: encrypt(pack(pictures), stores.keys.get(record).recipient)})
    feed(stores)
    serve.use(stores, load(tmp_path / "data", environment={}))
    yield made
