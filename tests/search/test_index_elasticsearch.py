"""`ElasticsearchIndex` keeps the contract on a real server; and what only a server can go wrong with: away, slow, full,
foreign, locked, killed in the middle, with two that write.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any as Anything

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput, Busy, IndexOutdated, NotReady, StorageFull, StoreDamaged, Unreachable
from core.settings import ElasticsearchSettings
from search import elasticsearch as adapter
from search.elasticsearch import ElasticsearchIndex, _behind, _connected, _numbered, _remove
from search.embedded import TantivyIndex
from search.memory import MemoryIndex
from search.normalise import normalise
from search.port import All, Any, Contains, Document, Equals, Has, Not, Query, Scope, SearchIndex
from search.retrying import RetryingIndex
from tests.contracts.index_contract import EVERYTHING, OPEN, RUNS, IndexContract, doc, found, walk
from tests.search.renewal import RenewalContract, Site
from tests.servers.proxy import Answer, Forward, HttpFront, Proxy, Request, honest
from tests.servers.running import HOST, ElasticsearchServer

pytestmark = pytest.mark.slow


@contextmanager
def makers(where: ElasticsearchSettings) -> Iterator[Callable[[], ElasticsearchIndex]]:
    """A function that makes an empty index; the two made last are kept, since a node bears no more than 1,000 shards."""
    client = _connected(where)
    made = 0

    def make() -> ElasticsearchIndex:
        nonlocal made
        made += 1
        clear(f"s-{made - 2}")
        return ElasticsearchIndex(where, f"s-{made}")

    def clear(store: str) -> None:
        for index in _numbered(client, f"{where.name}-{store}"):
            _remove(client, index)

    yield make
    clear(f"s-{made}")
    clear(f"s-{made - 1}")


@pytest.fixture
def make_index(elasticsearch: ElasticsearchServer) -> Iterator[Callable[[], SearchIndex]]:
    with makers(elasticsearch.new()) as make:
        yield make


@pytest.fixture
def index(make_index: Callable[[], SearchIndex]) -> SearchIndex:
    return make_index()


class TestElasticsearchIndex(IndexContract):
    pass


class TestThreeShards(IndexContract):
    """Through the wrapper, too."""

    @pytest.fixture
    def make_index(self, elasticsearch: ElasticsearchServer) -> Iterator[Callable[[], SearchIndex]]:
        with makers(elasticsearch.new(shards=3)) as make:
            yield lambda: RetryingIndex(make())


class TestRenewal(RenewalContract):
    @pytest.fixture
    def site(self, elasticsearch: ElasticsearchServer) -> Iterator[Site]:
        where = elasticsearch.new()
        client = _connected(where)
        alias = f"{where.name}-s"

        def hurt(how: str) -> None:
            if how == "missing":
                for index in _numbered(client, alias):
                    _remove(client, index)
            elif how == "outdated":
                client.indices.put_mapping(index=alias, meta={"layout": 0, "normaliser": "0/0"})
            else:
                client.indices.create(index=f"{alias}-7", mappings=adapter._mapping(), aliases={alias: {}})

        yield Site(ElasticsearchIndex, (where, "s"), lambda: list(_numbered(client, alias)), hurt)
        hurt("missing")


@pytest.fixture
def where(elasticsearch: ElasticsearchServer) -> Iterator[ElasticsearchSettings]:
    """Of an index that is removed afterwards."""
    settings = elasticsearch.new()
    yield settings
    client = _connected(settings)
    for index in _numbered(client, f"{settings.name}-s"):
        _remove(client, index)


@pytest.fixture
def proxy(elasticsearch: ElasticsearchServer) -> Iterator[Proxy]:
    with Proxy(HOST, elasticsearch.port) as made:
        yield made


@pytest.fixture
def front(elasticsearch: ElasticsearchServer) -> Iterator[HttpFront]:
    with HttpFront(HOST, elasticsearch.port) as made:
        yield made


def through(where: ElasticsearchSettings, between: Proxy | HttpFront, **changes: Anything) -> ElasticsearchSettings:
    return replace(where, url=f"http://{HOST}:{between.port}", **changes)


def says(status: int, kind: str) -> Answer:
    body = json.dumps({"error": {"type": kind, "reason": "秘"}, "status": status}).encode()
    return Answer(status, {"content-type": "application/json", "x-elastic-product": "Elasticsearch"}, body)


def is_bulk(request: Request) -> bool:
    return request.path.endswith("/_bulk")


def state(index: SearchIndex) -> tuple[int, int, list[str]]:
    return index.upto(), index.count(), found(index, "山")


# The cluster is away, slow, foreign or closed to us.


def test_a_server_that_is_not_there(where: ElasticsearchSettings, proxy: Proxy) -> None:
    index = ElasticsearchIndex(through(where, proxy), "s")
    index.write([doc("r-1", "山")], (), 1)
    proxy.refuse()
    for call in (
        lambda: ElasticsearchIndex(through(where, proxy), "s"),
        lambda: index.write([doc("r-2", "山")], (), 2),
        index.upto,
        index.count,
        lambda: index.search(Contains("山"), OPEN),
        lambda: index.facet("ledger", EVERYTHING, OPEN),
    ):
        with pytest.raises(Unreachable) as caught:
            call()
        assert (caught.value.code, caught.value.retryable) == ("index.unreachable", True)
        assert caught.value.__cause__ is not None
    proxy.normal()
    assert state(index) == (1, 1, ["r-1"])


def test_a_server_that_says_nothing_is_waited_for_as_long_as_told(where: ElasticsearchSettings, proxy: Proxy) -> None:
    index = ElasticsearchIndex(through(where, proxy, timeout=1), "s")
    index.write([doc("r-1", "山")], (), 1)
    proxy.silence()
    begun = time.monotonic()
    with pytest.raises(Unreachable):
        index.search(Contains("山"), OPEN)
    assert 0.9 < time.monotonic() - begun < 3
    proxy.normal()
    proxy.delay(0.05)
    index.write([doc("r-2", "山")], (), 2)
    assert state(index) == (2, 2, ["r-1", "r-2"])


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_network_that_breaks_in_the_middle_of_a_write(
    where: ElasticsearchSettings, proxy: Proxy, way: Anything
) -> None:
    """Wherever it breaks, the index is as before or as after, and writing again makes it as after."""
    index = ElasticsearchIndex(through(where, proxy), "s")
    other = ElasticsearchIndex(where, "s")
    landed = set()
    for number, after in enumerate((0, 300, 900, 1_300, 2_000, 3_000, 4_000, 6_000, 10_000), 1):
        proxy.cut(after, way, times=1)
        documents = [doc(f"r-{n}", f"山{number}番", sort=number) for n in range(5)]
        try:
            index.write(documents, [f"r-{number % 5}"], number)
        except Unreachable:
            assert other.upto() in (number - 1, number)
            landed.add(other.upto() == number)
            assert other.search(Contains(f"山{other.upto()}番"), OPEN).total == (4 if other.upto() else 0)
            assert other.count() == (4 if other.upto() else 0)
        proxy.normal()
        RetryingIndex(index).write(documents, [f"r-{number % 5}"], number)
        assert other.search(Contains(f"山{number}番"), OPEN).total == other.count() == 4
    assert False in landed


def test_the_wrapper_bears_a_network_that_comes_back(where: ElasticsearchSettings, proxy: Proxy) -> None:
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            proxy.normal()

    index = RetryingIndex(ElasticsearchIndex(through(where, proxy), "s"), sleep=sleep)
    proxy.refuse()
    index.write(iter([doc("r-1", "山")]), iter(()), 1)
    assert len(waited) == 2
    assert state(index) == (1, 1, ["r-1"])


def test_a_wrong_password(where: ElasticsearchSettings, front: HttpFront) -> None:
    wanted = "Basic " + base64.b64encode("台帳:ひみつ".encode()).decode()

    def guarded(request: Request, forward: Forward) -> Answer:
        return forward(request) if request.headers.get("authorization") == wanted else says(401, "security_exception")

    front.change = guarded
    for user, password in (("", ""), ("台帳", "ちがう")):
        with pytest.raises(NotReady) as caught:
            ElasticsearchIndex(through(where, front, user=user, password=password), "s")
        assert caught.value.code == "index.credentials"
        assert "ちがう" not in caught.value.ja + caught.value.en + str(caught.value.__cause__)
    index = ElasticsearchIndex(through(where, front, user="台帳", password="ひみつ"), "s")
    index.write([doc("r-1", "山")], (), 1)
    front.change = lambda request, forward: says(403, "security_exception") if is_bulk(request) else forward(request)
    with pytest.raises(NotReady) as caught:
        index.write([doc("r-2", "山")], (), 2)
    assert caught.value.code == "index.credentials"
    front.change = guarded
    assert state(index) == (1, 1, ["r-1"])


@pytest.mark.parametrize("version", ["7.17.28", "9.2.0", None])
def test_another_version_or_another_product(
    where: ElasticsearchSettings, front: HttpFront, version: str | None
) -> None:
    def other(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        if version is None:
            return Answer(200, {"content-type": "text/html"}, b"<p>welcome")
        if request.path.startswith("/_nodes"):
            told = json.loads(answer.body)
            for node in told["nodes"].values():
                node["version"] = version
            answer = replace(answer, body=json.dumps(told).encode())
        return answer

    front.change = other
    with pytest.raises(NotReady) as caught:
        ElasticsearchIndex(through(where, front), "s")
    assert caught.value.code == "index.unsuitable"
    assert (version or "Elasticsearch") in caught.value.en


@pytest.mark.parametrize(
    "changes", [{"url": "127.0.0.1"}, {"url": ""}, {"url": "https://127.0.0.1:1", "ca": "/nowhere"}]
)
def test_settings_that_name_no_server(where: ElasticsearchSettings, changes: dict[str, Anything]) -> None:
    with pytest.raises(BadInput) as caught:
        ElasticsearchIndex(replace(where, **changes), "s")
    assert caught.value.code == "settings.value"


def test_a_full_server_still_answers(where: ElasticsearchSettings) -> None:
    index = ElasticsearchIndex(where, "s")
    index.write([doc("r-1", "山")], (), 1)
    # What the server itself does when its disk passes the flood stage.
    block = "index.blocks.read_only_allow_delete"
    index._client.indices.put_settings(index=index._alias, settings={block: True})
    with pytest.raises(StorageFull) as caught:
        index.write([doc("r-2", "山")], (), 2)
    assert (caught.value.code, caught.value.retryable) == ("index.full", True)
    assert state(index) == (1, 1, ["r-1"])
    index._client.indices.put_settings(index=index._alias, settings={block: None})
    index.write([doc("r-2", "山")], (), 2)
    assert state(index) == (2, 2, ["r-1", "r-2"])


def test_a_bulk_request_that_finds_the_server_full(where: ElasticsearchSettings) -> None:
    index = ElasticsearchIndex(where, "s")
    index.write([doc("r-1", "山")], (), 1)
    with pytest.raises(StorageFull):
        claim, _ = index._claimed(True)
        index._client.indices.put_settings(index=index._alias, settings={"index.blocks.read_only_allow_delete": True})
        index._send(claim, [(adapter._action("delete", "x", "x", 9),), (adapter._action("index", "y", "y", 9), b"{}")])


def test_an_index_of_another_version(where: ElasticsearchSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    index = ElasticsearchIndex(where, "s")
    index.write([doc("r-1", "山")], (), 1)
    for name, value in (("FINGERPRINT", "0/0"), ("LAYOUT", 0)):
        with monkeypatch.context() as other:
            other.setattr(adapter, name, value)
            with pytest.raises(IndexOutdated) as caught:
                ElasticsearchIndex(where, "s")
            assert "`daicho reindex`" in caught.value.ja
            assert "`daicho reindex`" in caught.value.en
    assert ElasticsearchIndex(where, "s").upto() == 1
    # Another version makes it anew while we have it open.
    with monkeypatch.context() as other:
        other.setattr(adapter, "FINGERPRINT", "2/99.0.0")
        ElasticsearchIndex.renewed(where, "s", lambda fresh: fresh.write([doc("r-1", "やま")], (), 1))
    with pytest.raises(IndexOutdated):
        index.search(Contains("山"), OPEN)


# A cluster under pressure, and answers that are half good.


def rejecting(times: int, kind: str = "es_rejected_execution_exception", status: int = 429) -> Callable[..., Answer]:
    """Turns away every second action of the first bulk requests."""
    left = [times]

    def change(request: Request, forward: Forward) -> Answer:
        if not is_bulk(request) or not left[0]:
            return forward(request)
        left[0] -= 1
        lines = request.body.split(b"\n")
        actions: list[list[bytes]] = []
        for line in filter(None, lines):
            if line.startswith((b'{"index"', b'{"delete"')):
                actions.append([])
            actions[-1].append(line)
        kept = [line for action in actions[::2] for line in action]
        answer = json.loads(forward(replace(request, body=b"\n".join(kept) + b"\n")).body)
        refused = {"index": {"status": status, "error": {"type": kind, "reason": "full"}}}
        items = [item for kept in answer["items"] for item in (kept, refused)][: len(actions)]
        headers = {"content-type": "application/json", "x-elastic-product": "Elasticsearch"}
        return Answer(200, headers, json.dumps({"items": items}).encode())

    return change


def test_what_a_cluster_under_pressure_turns_away_is_sent_again(where: ElasticsearchSettings, front: HttpFront) -> None:
    index = ElasticsearchIndex(through(where, front), "s")
    front.change = rejecting(3)
    index.write([doc(f"r-{n}", "山") for n in range(20)], (), 1)
    assert index.count() == 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter, "_PRESSED", (0.01, 0.01))
        front.change = lambda request, forward: (
            says(429, "circuit_breaking_exception") if is_bulk(request) else forward(request)
        )
        with pytest.raises(Unreachable):
            index.write([doc("r-0", "川")], ["r-1"], 2)
        front.change = rejecting(1, "unavailable_shards_exception", 503)
        with pytest.raises(Unreachable):
            index.write([doc("r-0", "川"), doc("r-2", "川")], ["r-1"], 2)
    assert (index.upto(), index.count(), index.search(Contains("山"), OPEN).total) == (1, 20, 20)
    front.change = rejecting(0)
    # Another process need not wait: who failed has given the claim back.
    ElasticsearchIndex(where, "s").write([doc("r-0", "川"), doc("r-2", "川")], ["r-1"], 2)
    assert (index.upto(), index.count(), index.search(Contains("山"), OPEN).total) == (2, 19, 17)


def ignoring_deletes(request: Request, forward: Forward) -> Answer:
    """Says of every delete that it was done, and does none."""
    if not is_bulk(request):
        return forward(request)
    lines = [line for line in request.body.split(b"\n") if line]
    kept = [line for line in lines if not line.startswith(b'{"delete"')]
    answer = forward(replace(request, body=b"\n".join(kept) + b"\n")) if kept else None
    items = iter(json.loads(answer.body)["items"] if answer else ())
    told = [
        {"delete": {"status": 200}} if line.startswith(b'{"delete"') else next(items)
        for line in lines
        if line.startswith((b'{"delete"', b'{"index"'))
    ]
    headers = {"content-type": "application/json", "x-elastic-product": "Elasticsearch"}
    return Answer(200, headers, json.dumps({"items": told}).encode())


@pytest.mark.parametrize("shards", [1, 3])
def test_what_was_left_over_is_told_until_it_is_gone(
    where: ElasticsearchSettings, front: HttpFront, shards: int
) -> None:
    where = replace(where, shards=shards)
    index, other = ElasticsearchIndex(through(where, front), "s"), ElasticsearchIndex(where, "s")
    index.write([doc("r-1", "山"), doc("r-2", "山")], (), 4)
    new, gone = [Document("r-1", 2, "p1", {"name": ["川"]}, {}, 1)], ["r-2"]
    front.change = ignoring_deletes
    for _ in range(3):
        with pytest.raises(StoreDamaged) as caught:
            index.write(new, gone, 5)
        assert caught.value.code == "index.damaged"
        assert "`daicho reindex`" in caught.value.ja
        assert "`daicho reindex`" in caught.value.en
        assert index.upto() == other.upto() == 4
        # It does answer meanwhile.
        assert found(other, "川") == ["r-1"]
    # Another process need not wait, and the engine does as it is told again.
    other.write(new, gone, 5)
    assert (index.upto(), index.count(), found(index, "山"), found(index, "川")) == (5, 1, [], ["r-1"])


def test_an_answer_of_some_shards_is_no_answer(where: ElasticsearchSettings, front: HttpFront) -> None:
    index = ElasticsearchIndex(through(where, front), "s")
    index.search(EVERYTHING, OPEN)
    index.facet("ledger", EVERYTHING, OPEN)
    index.count()
    index.upto()
    asked = [request for request in front.requests if request.path.endswith("/_search")]
    assert len(asked) == 4
    assert all(request.query["allow_partial_search_results"] == "false" for request in asked)


# Two that write; one that is killed.


def pausing(at: Callable[[Request], bool], then: Callable[[], None]) -> Callable[..., Answer]:
    """Does `then` once, before the first request `at` goes on."""
    done: list[bool] = []

    def change(request: Request, forward: Forward) -> Answer:
        if at(request) and not done:
            done.append(True)
            then()
        return forward(request)

    return change


def test_readers_see_the_commit_before_until_the_next_one_is_whole(
    where: ElasticsearchSettings, front: HttpFront
) -> None:
    index, reader = ElasticsearchIndex(through(where, front), "s"), ElasticsearchIndex(where, "s")
    index.write([doc("r-1", "山"), doc("r-2", "山")], (), 1)
    seen = []
    front.change = pausing(lambda request: request.path.endswith("/_refresh"), lambda: seen.append(state(reader)))
    index.write([doc("r-1", "川"), doc("r-3", "山")], ["r-2"], 2)
    assert seen == [(1, 2, ["r-1", "r-2"])]
    assert state(reader) == (2, 2, ["r-3"])


def test_a_second_writer_is_told_to_wait(where: ElasticsearchSettings, front: HttpFront) -> None:
    index, other = ElasticsearchIndex(through(where, front), "s"), ElasticsearchIndex(where, "s")
    refused = []

    def write() -> None:
        with pytest.raises(Busy) as caught:
            other.write([doc("r-9", "山")], (), 9)
        refused.append((caught.value.code, caught.value.retryable))

    front.change = pausing(is_bulk, write)
    index.write([doc("r-1", "山")], (), 1)
    assert refused == [("index.busy", True)]
    assert state(other) == (1, 1, ["r-1"])
    other.write([doc("r-2", "山")], (), 2)
    assert state(index) == (2, 2, ["r-1", "r-2"])


def test_a_writer_that_was_given_up_goes_over_nothing(
    where: ElasticsearchSettings, front: HttpFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands still while its bulk request is on the way, and wakes up when another one has written newer documents."""
    index, other = ElasticsearchIndex(through(where, front), "s"), ElasticsearchIndex(where, "s")
    index.write([doc("r-1", "山"), doc("r-2", "山")], (), 1)

    def write() -> None:
        with pytest.raises(Busy):
            other.write((), (), 9)
        monkeypatch.setattr(adapter, "_SILENCE", 0.0)
        other.write([doc("r-1", "新しい山")], ["r-2"], 3)

    front.change = pausing(is_bulk, write)
    with pytest.raises(Busy):
        index.write([doc("r-1", "古い川"), doc("r-2", "古い川")], (), 2)
    for reader in (index, other):
        assert state(reader) == (3, 1, ["r-1"])
    # Nor does anything of it come up with the next commit.
    other.write([doc("r-3", "海")], (), 4)
    assert (other.count(), found(other, "川"), found(other, "山")) == (2, [], ["r-1"])


def test_a_commit_that_nobody_has_seen_is_found_by_the_next_writer(
    where: ElasticsearchSettings, front: HttpFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer was lost, and no refresh came after it: what it wrote must not come up beside what follows."""
    index, other = ElasticsearchIndex(through(where, front), "s"), ElasticsearchIndex(where, "s")

    def lost(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        commits = "/_doc/" in request.path and json.loads(request.body or b"{}").get("claim", {}).get("upto") == 1
        return says(503, "unavailable_shards_exception") if commits else answer

    front.change = lost
    with pytest.raises(Unreachable):
        index.write([doc("r-1", "山"), doc("r-2", "山")], (), 1)
    assert state(other) == (0, 0, [])
    monkeypatch.setattr(adapter, "_SILENCE", 0.0)
    other.write([doc("r-2", "川")], ["r-1"], 2)
    assert (other.upto(), other.count(), found(other, "山"), found(other, "川")) == (2, 1, [], ["r-2"])


def test_a_renewal_leaves_an_index_of_others_alone(where: ElasticsearchSettings) -> None:
    client = _connected(where)
    client.indices.create(index=f"{where.name}-theirs", aliases={f"{where.name}-s": {}})
    try:
        with pytest.raises(IndexOutdated):
            ElasticsearchIndex(where, "s")
        renewed = ElasticsearchIndex.renewed(where, "s", lambda fresh: fresh.write([doc("r-1", "山")], (), 1))
        assert state(renewed) == (1, 1, ["r-1"])
        assert client.indices.exists(index=f"{where.name}-theirs")
    finally:
        _remove(client, f"{where.name}-theirs")


def test_an_index_that_was_made_anew_while_a_renewal_fills_is_exchanged_too(where: ElasticsearchSettings) -> None:
    """The index was lost, and whoever came while we filled made an empty one."""
    client, alias = _connected(where), f"{where.name}-s"
    ElasticsearchIndex(where, "s").write([doc("r-1", "山")], (), 1)
    came = []

    def fill(fresh: SearchIndex) -> None:
        fresh.write([doc("r-2", "山")], (), 2)
        for index in _behind(client, alias):
            _remove(client, index)
        came.append(ElasticsearchIndex(where, "s"))
        assert state(came[0]) == (0, 0, [])

    renewed = ElasticsearchIndex.renewed(where, "s", fill)
    for index in (renewed, came[0], ElasticsearchIndex(where, "s")):
        assert state(index) == (2, 1, ["r-2"])
    assert _behind(client, alias) == list(_numbered(client, alias))
    assert len(_behind(client, alias)) == 1


def test_an_index_that_was_made_anew_at_the_last_moment_is_cleared(
    where: ElasticsearchSettings, front: HttpFront
) -> None:
    client, alias = _connected(where), f"{where.name}-s"
    came = []
    front.change = pausing(
        lambda request: request.path == "/_aliases", lambda: came.append(ElasticsearchIndex(where, "s"))
    )
    renewed = ElasticsearchIndex.renewed(
        through(where, front), "s", lambda fresh: fresh.write([doc("r-2", "山")], (), 2)
    )
    for index in (renewed, came[0], ElasticsearchIndex(where, "s")):
        assert state(index) == (2, 1, ["r-2"])
    assert _behind(client, alias) == list(_numbered(client, alias))
    assert len(_behind(client, alias)) == 1


def test_a_renewal_whose_name_is_taken_at_the_last_moment_may_come_again(
    where: ElasticsearchSettings, front: HttpFront
) -> None:
    front.change = pausing(
        lambda request: request.method == "PUT" and request.path == f"/{where.name}-s-1",
        lambda: ElasticsearchIndex(where, "s").write([doc("r-1", "山")], (), 1),
    )
    with pytest.raises(Busy):
        ElasticsearchIndex.renewed(through(where, front), "s", lambda fresh: None)
    assert state(ElasticsearchIndex(where, "s")) == (1, 1, ["r-1"])


def test_a_write_that_a_renewal_overtakes_is_refused_and_makes_no_index(
    where: ElasticsearchSettings, front: HttpFront
) -> None:
    index = ElasticsearchIndex(through(where, front), "s")
    for at in (is_bulk, lambda request: request.path.endswith("/_refresh")):
        front.change = pausing(
            at,
            lambda: (
                ElasticsearchIndex.renewed(where, "s", lambda fresh: fresh.write([doc("r-2", "山")], (), 1)) and None
            ),
        )
        with pytest.raises(Busy):
            index.write([doc("r-1", "山")], (), 2)
        assert state(index) == (1, 1, ["r-2"])
        assert len(_numbered(index._client, index._alias)) == 1
    index.write([doc("r-1", "山")], (), 2)
    assert state(index) == (2, 2, ["r-1", "r-2"])


CHILD = """
import sys
from core.settings import ElasticsearchSettings
from search.elasticsearch import ElasticsearchIndex
from search.port import Document
index = ElasticsearchIndex({where!r}, "s")
start = index.upto()
print("ready", flush=True)
for number in range(start + 1, 10_000):
    items = {{"name": [f"世代{{number}}番"]}}
    documents = [Document(f"r-{{number % 7}}-{{n}}", number, "p1", items, {{}}, number) for n in range(40)]
    index.write(documents, [], number)
    print(number, flush=True)
"""


def child(where: ElasticsearchSettings) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(where=where)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def replay(index: SearchIndex, number: int) -> None:
    """What number `number` of the child's writes was, once it may be written."""
    documents = [
        Document(f"r-{number % 7}-{n}", number, "p1", {"name": [f"世代{number}番"]}, {}, number) for n in range(40)
    ]
    for _ in range(200):
        try:
            index.write(documents, (), number)
            return
        except (Busy, Unreachable):
            time.sleep(0.1)
    raise AssertionError("the claim is never given up")


def assert_whole(index: SearchIndex, upto: int) -> None:
    living = range(max(1, upto - 6), upto + 1)
    assert index.count() == 40 * len(living)
    for number in living:
        assert index.search(Contains(f"世代{number}番"), OPEN).total == 40


def settled(index: SearchIndex) -> int:
    """`upto`, once the server has done what a process asked of it before it was killed."""
    while True:
        reached = index.upto()
        time.sleep(0.5)
        if index.upto() == reached:
            return reached


@pytest.mark.parametrize("shards", [1, 3])
def test_kill_9_of_the_writer_leaves_whole_commits_and_replay_converges(
    where: ElasticsearchSettings, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_SILENCE", 0.3)
    where = replace(where, shards=shards)
    chance = random.Random(shards)
    for _ in range(6):
        process = child(where)
        assert process.stdout is not None
        time.sleep(chance.uniform(0.02, 0.6))
        process.kill()
        acknowledged = [int(line) for line in process.stdout.read().splitlines()]
        process.communicate()
        index = ElasticsearchIndex(where, "s")
        reached = settled(index)
        assert not acknowledged or acknowledged[-1] <= reached <= acknowledged[-1] + 1
        assert_whole(index, reached)
        for number in (reached, reached, reached + 1):
            if number:
                replay(index, number)
        assert index.upto() == reached + 1
        assert_whole(index, reached + 1)
    assert index.upto() > 6


def test_kill_9_of_the_server_in_the_middle_of_a_write(
    elasticsearch: ElasticsearchServer, where: ElasticsearchSettings, front: HttpFront
) -> None:
    """A server that comes back shows what it was given so far; nobody is told that this is a commit."""
    reader = ElasticsearchIndex(where, "s")
    index = ElasticsearchIndex(through(where, front, timeout=5), "s")
    index.write([doc(f"r-{n}", "山") for n in range(40)], (), 8)

    def kill_after(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        if is_bulk(request):
            elasticsearch.kill()
        return answer

    front.change = kill_after
    new, gone = [doc("r-0", "山川"), doc("r-99", "山")], [f"r-{n}" for n in range(1, 30)]
    try:
        with pytest.raises(Unreachable):
            index.write(new, gone, 9)
    finally:
        elasticsearch.start()
    front.change = honest
    # It did come up half written, and is told from a commit by its marks alone.
    half = reader._client.count(index=reader._alias, query={"exists": {"field": "record"}})["count"]
    assert half == 12
    assert reader.upto() == 8
    for call in (
        reader.count,
        lambda: reader.search(Contains("山"), OPEN),
        lambda: reader.facet("year", EVERYTHING, OPEN),
    ):
        with pytest.raises(Busy) as caught:
            call()
        assert caught.value.code == "index.busy"
    assert ElasticsearchIndex(where, "s").upto() == 8
    # The same object again, as the wrapper and the feed do: it need not wait for itself.
    index.write(new, gone, 9)
    assert (reader.upto(), reader.count(), found(reader, "川")) == (9, 12, ["r-0"])


def test_threads_write_and_read_together(where: ElasticsearchSettings) -> None:
    index = ElasticsearchIndex(where, "s")

    def work(number: int) -> int:
        index.write([doc(f"r-{number}-{n}", "山田") for n in range(5)], (), number)
        return index.search(Contains("山田"), OPEN).total % 5

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(work, range(1, 13))) == {0}
    assert index.count() == 60


def test_no_reader_sees_two_shards_of_two_commits(where: ElasticsearchSettings) -> None:
    where = replace(where, shards=3)
    index = ElasticsearchIndex(where, "s")
    over = threading.Event()

    def corpus(number: int) -> list[Document]:
        return [Document(f"r-{n}", 1, "p1", {}, {"year": [str(number)]}, number) for n in range(60)]

    def read() -> int:
        own, asked = ElasticsearchIndex(where, "s"), 0
        while not over.is_set():
            assert list(own.facet("year", EVERYTHING, OPEN).values()) == [60]
            asked += 1
        return asked

    index.write(corpus(1), (), 1)
    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        try:
            for number in range(2, 20):
                index.write(corpus(number), (), number)
        finally:
            over.set()
        assert all(reader.result() > 5 for reader in readers)


# What is kept, and how much it bears.


def test_no_text_is_stored(where: ElasticsearchSettings) -> None:
    index = ElasticsearchIndex(where, "s")
    index.write([Document("r-1", 1, "p1", {"name": ["山田太郎"]}, {"ledger": ["L"]}, 1)], (), 1)
    hits = index._client.search(
        index=index._alias, query={"exists": {"field": "record"}}, source=True, fields=["*"], stored_fields=["*"]
    )["hits"]["hits"]
    assert len(hits) == 1
    assert hits[0].get("_source", {}) == {}
    assert set(hits[0].get("fields", {})) <= {"_routing"}
    got = index._client.get(index=index._alias, id=hits[0]["_id"], routing=hits[0]["_routing"])
    assert got.get("_source", {}) == {}


ODD = [
    "a" * 300,
    'item.with*regex[signs]|(and)~"#@&<>',
    "住所 1",
    "nul\x00tab\tline\n",
    "😀𠮷葛\U000e0100",
    "=",
    "",
    "half \ud842",
]


def test_odd_names_of_items_facets_partitions_and_values(where: ElasticsearchSettings) -> None:
    index, memory = ElasticsearchIndex(where, "s"), MemoryIndex()
    kept = [name for name in ODD if "\ud842" not in name]
    corpus = [
        Document(
            f"r-{n}",
            1,
            name.translate({0: None, 9: None, 10: None}),
            {other: [f"山{other}"] for other in ODD},
            {other: [*kept] for other in kept},
            n,
        )
        for n, name in enumerate(kept)
    ]
    scope = Scope({document.partition: None for document in corpus} | {"half \ud842": None})
    narrow = Scope({document.partition: frozenset(ODD[::2]) for document in corpus})
    for each in (index, memory):
        each.write(corpus, ["half \ud842"], 1)
    for name in ODD:
        for asked in (scope, narrow):
            for query in (
                Contains("山", name),
                Contains(f"山{name}", name),
                Contains(name),
                Equals(f"山{name}", name),
                Has(name, name),
                Has("ledger", name),
            ):
                assert index.search(query, asked) == memory.search(query, asked)
            assert index.facet(name, EVERYTHING, asked) == memory.facet(name, EVERYTHING, asked)


@pytest.mark.parametrize(
    "bad",
    [
        Document("r-\ud842", 1, "p1", {}, {}, 1),
        Document("r-9", 1, "p\ud842", {}, {}, 1),
        Document("r-9", 1, "p1", {}, {"year": ["\ud842"]}, 1),
        Document("r-9", 1, "p1", {}, {"year": ["年" * 11_000]}, 1),
        Document("r" * 33_000, 1, "p1", {}, {}, 1),
    ],
)
def test_a_document_that_the_engine_cannot_keep_changes_nothing(where: ElasticsearchSettings, bad: Document) -> None:
    index = ElasticsearchIndex(where, "s")
    index.write([doc("r-1", "山")], (), 1)
    with pytest.raises(BadInput) as caught:
        index.write([doc("r-2", "山"), bad], ["r-1"], 2)
    assert caught.value.code == "index.document"
    assert state(index) == (1, 1, ["r-1"])


def test_a_forged_cursor_does_no_harm(where: ElasticsearchSettings) -> None:
    index = ElasticsearchIndex(where, "s")
    index.write([doc(f"r-{n}", "山") for n in range(3)], (), 1)
    cursor = index.search(EVERYTHING, OPEN, limit=1).cursor
    assert cursor is not None
    question = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))[0]
    for record in ("\ud842", "r-0\x00", "", "r" * 40_000):
        forged = base64.urlsafe_b64encode(json.dumps([question, -1, record, -1, "p1"]).encode()).decode().rstrip("=")
        assert index.search(EVERYTHING, OPEN, cursor=forged).total == 3


def test_a_query_as_deep_and_as_broad_as_is_allowed(where: ElasticsearchSettings) -> None:
    index = ElasticsearchIndex(where, "s")
    index.write([doc("r-1", "山田"), doc("r-2", "山川")], (), 1)
    query: Query = Contains("川")
    for depth in range(50):
        query = [All((query, Contains("山"))), Any((query, Contains("海"))), Not(query)][depth % 3]
    assert index.search(query, OPEN) == _memory(index).search(query, OPEN)
    words = [Contains(chr(0x4E00 + n) + "川") for n in range(500)]
    assert index.search(Any((*words, Contains("山"))), OPEN).total == 2
    with pytest.raises(BadInput) as caught:
        index.search(Any(tuple(Contains(f"{n}番地") for n in range(20_000))), OPEN)
    assert caught.value.code == "search.clauses"


def _memory(_: SearchIndex) -> MemoryIndex:
    memory = MemoryIndex()
    memory.write([doc("r-1", "山田"), doc("r-2", "山川")], (), 1)
    return memory


def test_every_sign_is_found_alone(where: ElasticsearchSettings) -> None:
    index = ElasticsearchIndex(where, "s")
    signs = [chr(c) for c in range(0x21, 0x7F)] + ["😀", "𠮷", "・", "「", "〒", "々", "゛", "ー", "\u0378"]
    index.write([doc(f"r-{ord(sign)}", sign, item="it.em-1") for sign in signs], (), 1)
    for sign in signs:
        twins = sorted(f"r-{ord(s)}" for s in signs if normalise(s) == normalise(sign))
        assert found(index, sign) == found(index, sign, item="it.em-1") == twins
        assert found(index, sign, Scope({"p1": frozenset({"it.em-1"})})) == twins
        assert found(index, sign, Scope({"p1": frozenset({"item-1"})})) == []


def test_many_partitions_items_and_values(where: ElasticsearchSettings) -> None:
    index = ElasticsearchIndex(where, "s")
    corpus = [
        Document(f"r-{n}", 1, f"p{n}", {f"i{n}": ["山田"]}, {"ledger": [f"L{n}"], f"i{n}": ["可"]}, n)
        for n in range(1500)
    ]
    index.write(corpus, (), 1)
    scope = Scope({f"p{n}": frozenset({f"i{n}", "other"}) for n in range(1500)})
    assert index.search(Contains("山田"), scope).total == 1500
    assert len(index.facet("ledger", EVERYTHING, scope)) == 1500
    assert index.facet("i7", EVERYTHING, scope) == {"可": 1}
    everywhere = Scope({f"p{n}": None for n in range(25_000)})
    assert index.search(Contains("山田"), everywhere).total == 1500


def test_more_values_of_a_facet_than_can_be_counted(where: ElasticsearchSettings) -> None:
    index = ElasticsearchIndex(where, "s")
    values = [str(n) for n in range(66_000)]
    some = [Document(f"r-{n}", 1, "p1", {}, {"year": values[n * 5_000 : n * 5_000 + 5_000]}, 1) for n in range(14)]
    index.write(some[:13], (), 1)
    assert len(index.facet("year", EVERYTHING, OPEN)) == 65_000
    index.write(some[13:], (), 2)
    with pytest.raises(BadInput) as caught:
        index.facet("year", EVERYTHING, OPEN)
    assert caught.value.code == "search.facet"


def test_generations_beyond_one_page_of_them_are_replaced(where: ElasticsearchSettings) -> None:
    """More old generations than one request brings: the rest is asked of the same point in time."""
    index = ElasticsearchIndex(where, "s")
    old = [Document("r-1", n, "p1", {"name": ["古い"]}, {}, 1, latest=n == 2500) for n in range(1, 2501)]
    index.write([*old, doc("r-2", "海")], (), 1)
    assert index.count() == 2501
    index.write([doc("r-1", "山")], (), 2)
    assert (index.count(), found(index, "古い"), found(index, "山")) == (2, [], ["r-1"])


# The same lists as the other engines.

JAPANESE = "山田髙高﨑崎𠮷吉カガかが゛゜ッっーｰ-‐−〜1１一-2〒・･「々ヶケパバハﾊﾟａA 　😀👨\u200d👩\u3099\u309a\U000e0100\ufe00葛"
writings = st.text(alphabet=JAPANESE, max_size=12)


@settings(RUNS, max_examples=40)
@given(
    texts=st.lists(st.tuples(writings, writings), min_size=1, max_size=12),
    words=st.lists(writings, min_size=1, max_size=3),
)
def test_the_same_lists_as_the_embedded_index(
    parity: tuple[SearchIndex, SearchIndex, SearchIndex], texts: list[tuple[str, str]], words: list[str]
) -> None:
    corpus = [
        Document(
            f"r-{n}", 1, f"p{n % 2 + 1}", {"name": [a], "note": [b, a]}, {"year": [a[:1]], "note": [b[:2]]}, n // 3
        )
        for n, (a, b) in enumerate(texts)
    ]
    for each in parity:
        each.write(corpus, [f"r-{n}" for n in range(len(corpus), 12)], 1)
    cuts = [text[start:end] for text, _ in texts for start, end in ((0, 1), (0, 2), (1, 4), (2, None), (0, None))]
    narrow = Scope({"p1": frozenset({"note"}), "p2": None})
    for word in [*words, *random.Random(len(cuts)).sample(cuts, 5)]:
        for query in (Contains(word), Contains(word, "note"), Equals(word, "name"), Not(Contains(word, "name"))):
            for scope in (OPEN, narrow):
                lists = [walk(each, query, scope, False, 7) for each in parity]
                assert lists[0] == lists[1] == lists[2]
        counts = [each.facet("note", Contains(word), narrow) for each in parity]
        assert counts[0] == counts[1] == counts[2]


@pytest.fixture
def parity(where: ElasticsearchSettings) -> Iterator[tuple[SearchIndex, SearchIndex, SearchIndex]]:
    with TemporaryDirectory() as folder:
        yield ElasticsearchIndex(where, "s"), TantivyIndex(Path(folder)), MemoryIndex()
