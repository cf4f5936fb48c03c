"""Every door is listed with a decision, and who may not enter learns nothing: not from words, not from counts, not from exit codes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from django.urls import URLPattern, URLResolver

from access.decide import ACTIONS, Action, ledgers, may, require
from access.doors import COMMANDS, ROUTES
from cli.main import command, daicho, load_commands
from core.errors import NotFound, NotPermitted
from records.attachments import attach, detach, read
from records.batches import balance, close_batch, list_batches, place_in_queue, waiting_cases
from records.capture import edit, refuse, settle
from records.export import export
from records.find import find
from records.found import define, people, save_person, visible_ledgers
from records.indexing import feed
from records.show import history, page_image, show, snippet
from tests.house import House
from tests.installed import BATCH, Installation, Result, done, run

DECISIONS = {"anyone", "signed_in", "administrator", "installation", *ACTIONS}


def commands(group: click.Group, above: str = "") -> Iterator[str]:
    for name, one in group.commands.items():
        full = f"{above} {name}".strip()
        if isinstance(one, click.Group):
            yield from commands(one, full)
        else:
            yield full


def routes(patterns: list[Any]) -> Iterator[str | None]:
    for one in patterns:
        if isinstance(one, URLResolver):
            yield from routes(one.url_patterns)
        else:
            assert isinstance(one, URLPattern)
            yield one.name


def test_every_command_has_a_decision() -> None:
    load_commands()
    assert sorted(commands(daicho)) == sorted(COMMANDS)
    assert set(COMMANDS.values()) <= DECISIONS


def test_every_route_has_a_decision() -> None:
    urls = importlib.import_module("web.urls")
    assert sorted(map(str, routes(urls.urlpatterns))) == sorted(ROUTES)
    assert set(ROUTES.values()) <= DECISIONS


def test_a_command_without_a_decision_cannot_be_made() -> None:
    with pytest.raises(KeyError):
        command(daicho, "back-door")(lambda run: None)
    assert "back-door" not in daicho.commands


def test_each_ledger_right_is_a_decision() -> None:
    assert set(get_args(Action)) == set(ACTIONS)


# Behind the doors: the functions, with two worlds that differ only in what the outsider may not know.


@pytest.fixture
def worlds(house: House) -> House:
    """A ledger for all, and one that is for others than `outsider`."""
    house.ledger("open", ("records-office", "town"))
    house.ledger("hidden", ("records-office",))
    batch = house.batch(1, "open", "open")
    house.sealed(batch, 1, name="山田 太郎", sex="男")
    return house


def seen(house: House, outsider: Any) -> Any:
    """All that a person can ask, as they get it."""
    feed(house.stores)
    found = find(house.stores, outsider, "", facets=("ledger", "year", "sex"))
    named = find(house.stores, outsider, "山田", facets=("ledger",))
    never = find(house.stores, outsider, "秘密")
    return (
        [(hit.ledger, dict(hit.title)) for hit in found.hits],
        (found.total, found.facets, found.cursor),
        (named.total, named.facets),
        (never.total, never.hits),
        [definition.id for definition, _ in visible_ledgers(outsider)],
        [(row.ledger, row.name, row.total) for row in list_batches(outsider)],
        [case.record for case in waiting_cases(outsider)],
    )


def answer(work: Any) -> tuple[str, str, str, str]:
    with pytest.raises(NotFound) as caught:
        work()
    error = caught.value
    return type(error).__name__, error.code, error.ja, error.en


def test_a_world_with_a_hidden_record_looks_like_one_without(worlds: House) -> None:
    outsider = worlds.person("outsider", "town")
    before = seen(worlds, outsider)
    assert before[1][0] == 1
    batch = worlds.batch(3, "hidden", "hidden")
    sealed, waiting = worlds.sealed(batch, 1, name="山田 秘密", sex="女"), worlds.waiting(batch, 2)
    assert seen(worlds, outsider) == before
    stores = worlds.stores
    for hidden, unknown, ask in (
        (sealed, "r-" + "a" * 26, lambda record: show(stores, outsider, record)),
        (sealed, "r-" + "a" * 26, lambda record: show(stores, outsider, record, 7)),
        (sealed, "r-" + "a" * 26, lambda record: history(stores, outsider, record)),
        (sealed, "r-" + "a" * 26, lambda record: page_image(stores, outsider, record, 1, "view")),
        (sealed, "r-" + "a" * 26, lambda record: attach(stores, outsider, record, 1, [], "y", Path())),
        (sealed, "r-" + "a" * 26, lambda record: detach(stores, outsider, record, 1, [], "y")),
        (sealed, "r-" + "a" * 26, lambda record: read(stores, outsider, record, "attachment-" + "a" * 26)),
        (sealed, "r-" + "a" * 26, lambda record: export(stores, outsider, record, Path("/nowhere-at-all"))),
        (sealed, "r-" + "a" * 26, lambda record: edit(stores, outsider, record, 1, {"name": "x"}, "y")),
        (sealed, "r-" + "a" * 26, lambda record: edit(stores, outsider, record, 9, {"strange": "x"}, "")),
        (waiting, "r-" + "a" * 26, lambda record: page_image(stores, outsider, record, 1, "view")),
        (waiting, "r-" + "a" * 26, lambda record: snippet(stores, outsider, record, "name")),
        (waiting, "r-" + "a" * 26, lambda record: settle(stores, outsider, record, {"name": "x"})),
        (sealed, "r-" + "a" * 26, lambda record: settle(stores, outsider, record, {})),
        (waiting, "r-" + "a" * 26, lambda record: refuse(stores, outsider, record, "blank")),
        (waiting, "r-" + "a" * 26, lambda record: place_in_queue(outsider, record)),
        (batch, "b-" + "a" * 26, lambda one: balance(outsider, one)),
        (batch, "b-" + "a" * 26, lambda one: close_batch(stores, outsider, one)),
        (batch, "b-" + "a" * 26, lambda one: waiting_cases(outsider, one)),
        ("hidden", "no-such", lambda ledger: find(stores, outsider, "山田", ledger=ledger)),
    ):
        assert answer(lambda ask=ask, it=hidden: ask(it)) == answer(lambda ask=ask, it=unknown: ask(it))
    assert seen(worlds, outsider) == before


def test_a_right_that_is_taken_away_is_gone_at_once(worlds: House) -> None:
    clerk = worlds.person("clerk", "town")
    feed(worlds.stores)
    record = find(worlds.stores, clerk, "").hits[0].record
    assert show(worlds.stores, clerk, record).generation == 1
    save_person(worlds.stores, worlds.officer, "clerk", "clerk", [])
    assert find(worlds.stores, clerk, "").total == 0
    answer(lambda: show(worlds.stores, clerk, record))
    assert ledgers(clerk, *ACTIONS) == frozenset()


def test_each_action_opens_its_own_door_only(worlds: House) -> None:
    from tests.house import template

    for action in ACTIONS:
        base = template("open", ("records-office",))
        define(
            worlds.stores,
            worlds.officer,
            type(base)(base.definition, base.images, {"one": {"ja": "", "en": ""}}, {**base.rights, "one": (action,)}),
        )
        person = worlds.person("one", "one")
        assert {each for each in ACTIONS if may(person, each, "open")} == {action}
        for each in ACTIONS:
            if each != action:
                # Whoever may do something in the ledger may know of it, but `view` hides what it guards.
                with pytest.raises(NotFound if each == "view" else NotPermitted):
                    require(person, each, "open", NotFound("", ""))
                with pytest.raises(NotFound):
                    require(person, each, "hidden", NotFound("", ""))


def test_only_administrators_register(worlds: House) -> None:
    from tests.house import template

    clerk = worlds.person("clerk", "records-office", "town")
    for work in (
        lambda: save_person(worlds.stores, clerk, "friend", "x", []),
        lambda: define(worlds.stores, clerk, template("open")),
        lambda: people(clerk),
    ):
        with pytest.raises(NotPermitted):
            work()


def test_a_registered_right_alone_does_not_make_an_administrator_see(worlds: House) -> None:
    administrator = worlds.person("root1", "administrators")
    feed(worlds.stores)
    assert people(administrator)
    assert find(worlds.stores, administrator, "").total == 0
    assert visible_ledgers(administrator) == []


# The installed command.


def words(result: Result, *names: str) -> tuple[int, str, str]:
    """Exit code and both outputs, the asked id itself aside."""
    out, err = result.out, result.err
    for name in names:
        out, err = out.replace(name, "…"), err.replace(name, "…")
    return result.code, out, err


@pytest.fixture(scope="module")
def ids(small: Installation) -> dict[str, str]:
    sealed = done("search", "--ledger", "dv-support", data=small.data)[0]["record"]
    batch = next(row["batch"] for row in small.rows if row.get("ledger") == "dv-support" and "batch" in row)
    return {"record": sealed, "batch": batch, "ledger": "dv-support"}


UNKNOWN = {"record": "r-" + "a" * 26, "batch": "b-" + "a" * 26, "ledger": "no-such-ledger"}

GUARDED: dict[str, tuple[str, tuple[str | Path, ...]]] = {
    "record show": ("record", ("record", "show", "{}")),
    "record history": ("record", ("record", "history", "{}")),
    "record attach": ("record", ("record", "attach", "{}", BATCH / "03-dv-support.jpg", "--why", "x")),
    "record detach": ("record", ("record", "detach", "{}", "attachment-x", "--why", "x")),
    "record export": ("record", ("record", "export", "{}", "/nowhere-at-all")),
    "batch show": ("batch", ("batch", "show", "{}")),
    "batch close": ("batch", ("batch", "close", "{}")),
    "queue": ("batch", ("queue", "--batch", "{}")),
    "search": ("ledger", ("search", "", "--ledger", "{}", "--facet", "ledger")),
    "ingest": ("ledger", ("ingest", BATCH / "03-dv-support.jpg", "--ledger", "{}")),
}
"""Command -> (what it names, how it is called)."""


def test_every_guarded_command_is_tried() -> None:
    named = {name for name, decision in COMMANDS.items() if decision in ACTIONS} | {"batch show"}
    assert set(GUARDED) == named


@pytest.mark.parametrize("name", GUARDED)
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "json"])
def test_hidden_answers_as_unknown(small: Installation, ids: dict[str, str], name: str, plain: bool) -> None:
    kind, arguments = GUARDED[name]

    def asked(which: str) -> tuple[int, str, str]:
        filled = [which if each == "{}" else each for each in arguments]
        return words(run(*filled, "--as", "outsider", data=small.data, plain=plain), which)

    hidden = asked(ids[kind])
    assert hidden == asked(UNKNOWN[kind])
    assert hidden[0] == 66 and "not_found" in hidden[2]


def test_lists_and_counts_are_silent(small: Installation) -> None:
    for asked in (
        ("ledger", "list"),
        ("batch", "list"),
        ("queue",),
        ("search", "", "--facet", "ledger", "--facet", "year"),
    ):
        result = run(*asked, "--as", "outsider", data=small.data)
        assert result.code == 0 and "dv-support" not in result.out and "whole-pages" not in result.out, asked
        assert not [row for row in result.rows if row.get("record") or row.get("counts")]
    assert run("search", "", "--as", "outsider", data=small.data, plain=True).out.strip() == "0 件"
    desk = run("search", "", "--facet", "ledger", "--as", "desk", data=small.data)
    assert {row["ledger"] for row in desk.rows if "record" in row} == {"dv-support"}
    assert [row["counts"] for row in desk.rows if "facet" in row] == [{"dv-support": 3}]


def test_who_may_bring_in_may_not_look(small: Installation) -> None:
    """A contractor sees the batch, not the record."""
    batch = next(row["batch"] for row in small.rows if row.get("ledger") == "whole-pages" and "batch" in row)
    [sheet] = run("batch", "show", batch, "--as", "maker", data=small.data).rows[0]["by_name"]
    hidden = run("record", "show", sheet["record"], "--as", "maker", data=small.data)
    unknown = run("record", "show", UNKNOWN["record"], "--as", "maker", data=small.data)
    assert words(hidden, sheet["record"]) == words(unknown, UNKNOWN["record"])
    assert run("search", "", "--as", "maker", data=small.data).rows == []


def test_nobody_and_no_administrator_are_told_so(small: Installation) -> None:
    assert run("search", "x", "--as", "nobody", data=small.data).error == "person.not_found"
    for asked in (("person", "list"), ("person", "password", "officer"), ("person", "add", "x1", "--name", "x")):
        result = run(*asked, "--as", "outsider", data=small.data)
        assert (result.code, result.error) == (77, "not_permitted")
