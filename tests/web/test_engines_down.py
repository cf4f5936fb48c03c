"""The pages while an engine does not answer: a calm page that tells nothing, nothing acknowledged is lost, and all is well again by itself."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest
from django.db import connection

from core.errors import DaichoError
from core.settings import load
from tests.installed import HASTY, Installation, done
from tests.servers.proxy import Proxy
from tests.web.browsing import serving
from tests.web.conftest import Site
from web.words import word
from wiring.postgresql.errors import credentials, for_django, unreachable

TIMEOUT = 1
"""Seconds after which an engine that says nothing is given up; few, so that the tests are short."""

BACK = 30
"""Seconds within which all must be well again."""

LEAKS = re.compile(
    r"127\.0\.0|localhost|traceback|exception|/work|\.py|postgres|elastic|\bs3\b|minio|psycopg|bucket|\d 件", re.I
)


def unnumbered(page: str) -> str:
    """A page without the number to quote, which is another one for every request."""
    return re.sub(r"<code>q-[a-z2-7]{13}</code>", "", page)


@dataclass(frozen=True)
class Answer:
    """What a visitor got."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def code(self) -> str:
        """The code on an error page, "" on others."""
        return "".join(re.findall(r"<code>([a-z._]+)</code>", self.text))


class Visitor:
    """Somebody with a browser that keeps cookies and goes where it is sent."""

    def __init__(self, url: str, language: str = "ja") -> None:
        self.url = url.rstrip("/")
        self._open = build_opener(HTTPCookieProcessor(CookieJar())).open
        self.get(f"/language/?to={language}")

    def get(self, path: str) -> Answer:
        return self._ask(Request(self.url + path))

    def filled(self, page: str, **fields: str) -> dict[str, str]:
        """What the last form of a page sends when these fields are filled in: with its token, and the generation it is about."""
        hidden = re.findall(r'<input type="hidden" name="(csrfmiddlewaretoken|base)" value="([^"]*)"', page)
        return dict(hidden) | fields

    def post(self, path: str, fields: dict[str, str]) -> Answer:
        return self._ask(Request(self.url + path, urlencode(fields).encode()))

    def _ask(self, request: Request) -> Answer:
        try:
            answer = self._open(request, timeout=200)
        except HTTPError as error:
            answer = error
        with answer:
            return Answer(answer.status, dict(answer.headers), answer.read().decode("utf-8", "replace"))


@dataclass(frozen=True)
class Fragile:
    """The demo on real engines, served with a bad network before each of them, and people who are signed in.

    `record`: the path of a record; `item`: of its items one of free text.
    """

    network: dict[str, Proxy]
    officer: dict[str, Visitor]
    outsider: dict[str, Visitor]
    url: str
    password: str
    record: str
    item: str

    def edit(self, text: str) -> Callable[[], Answer]:
        """The officer fills in the record's form; sending it is what is returned, and may be done more than once."""
        visitor = self.officer["ja"]
        page = visitor.get(f"{self.record}edit/").text
        fields = visitor.filled(page, why="試験による", **{f"v-{self.item}": text})
        return lambda: visitor.post(f"{self.record}edit/", fields)

    def generation(self) -> int:
        """The record's newest generation, as its page says."""
        return max(map(int, re.findall(r"第 (\d+) 世代", well(lambda: self.officer["ja"].get(self.record)).text)))

    def finds(self, text: str) -> bool:
        return self.record in self.officer["ja"].get(f"/?q={quote(text)}").text


def well(ask: Callable[[], Answer]) -> Answer:
    """The answer, once the engines that were gone answer again; nobody signs in anew or starts anything."""
    until = time.monotonic() + BACK
    answer = ask()
    while answer.status == 503 and time.monotonic() < until:
        time.sleep(0.1)
        answer = ask()
    assert answer.status == 200, answer.text
    assert "sign-in" not in answer.text.partition("<main")[2]
    return answer


@pytest.fixture(scope="module")
def fragile(demo_real: Installation) -> Iterator[Fragile]:
    place, where = demo_real, load(demo_real.data, environment={})
    assert where.store_engine and where.catalogue_engine and where.index_engine
    done("person", "add", "outsider", "--name", "外野 一郎", data=place.data)
    password = {
        login: done("person", "password", login, data=place.data)[-1]["password"] for login in ("officer", "outsider")
    }
    with ExitStack() as stack:
        store, index = urlsplit(where.store_engine.endpoint), urlsplit(where.index_engine.url)
        network = {
            "store": stack.enter_context(Proxy(str(store.hostname), int(store.port or 0))),
            "catalogue": stack.enter_context(Proxy(where.catalogue_engine.host, where.catalogue_engine.port)),
            "index": stack.enter_context(Proxy(str(index.hostname), int(index.port or 0))),
        }
        environment = {
            "DAICHO_STORE_ENDPOINT": f"http://{store.hostname}:{network['store'].port}",
            "DAICHO_CATALOGUE_PORT": str(network["catalogue"].port),
            "DAICHO_INDEX_URL": f"http://{index.hostname}:{network['index'].port}",
        }
        environment |= {f"DAICHO_{engine}_TIMEOUT": str(TIMEOUT) for engine in ("STORE", "CATALOGUE", "INDEX")}
        url = stack.enter_context(serving(place, HASTY, **environment))
        people: dict[str, dict[str, Visitor]] = {login: {} for login in password}
        for login, language in ((login, language) for login in password for language in ("ja", "en")):
            visitor = people[login][language] = Visitor(url, language)
            assert sign_in(visitor, login, password[login]).status == 200
        officer = people["officer"]["ja"]
        record = re.findall(r'href="(/records/[^"?]+/)', officer.get("/?q=20200319").text)[0]
        item = re.findall(r'<textarea id="v-([a-z_-]+)"', officer.get(f"{record}edit/").text)[0]
        yield Fragile(network, people["officer"], people["outsider"], url, password["officer"], record, item)


def sign_in(visitor: Visitor, login: str, password: str) -> Answer:
    page = visitor.get("/sign-in/").text
    return visitor.post("/sign-in/", visitor.filled(page, login=login, password=password))


@pytest.fixture(autouse=True)
def repaired(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the network is good again, and every engine answers."""
    yield
    if "fragile" in request.fixturenames:
        fragile = request.getfixturevalue("fragile")
        for each in fragile.network.values():
            each.normal()
        well(lambda: fragile.officer["ja"].get("/?q="))


def refused(network: Proxy) -> None:
    network.refuse()


def silent(network: Proxy) -> None:
    """Nothing is refused and nothing comes: connections that are open already are cut, new ones get no answer."""
    network.cut_now()
    network.silence()


@pytest.mark.slow
@pytest.mark.parametrize("fault", [refused, silent])
@pytest.mark.parametrize("engine", ["catalogue", "store", "index"])
def test_a_page_says_calmly_that_something_does_not_answer_and_works_again_by_itself(
    fragile: Fragile, engine: str, fault: Callable[[Proxy], None]
) -> None:
    path = "/?q=%E5%B1%B1%E7%94%B0"
    before = fragile.officer["ja"].get(path)
    fault(fragile.network[engine])
    for language in ("ja", "en") if fault is refused else ("ja",):
        told = fragile.officer[language].get(path)
        assert (told.status, told.code) == (503, f"{engine}.unreachable"), told.text
        assert told.headers["Retry-After"] == "5"
        assert told.headers["Cache-Control"] == "no-store"
        assert word("error.unreachable", language) in told.text
        assert not LEAKS.search(told.text), told.text
        if fault is refused:
            assert unnumbered(fragile.outsider[language].get(path).text) == unnumbered(told.text)
    if engine == "catalogue":
        stranger = Visitor(fragile.url)
        assert stranger.get("/sign-in/").status == 200
        answer = sign_in(stranger, "officer", fragile.password)
        assert (answer.status, answer.code) == (503, "catalogue.unreachable")
    if engine == "index":
        assert fragile.officer["ja"].get(fragile.record).status == 200
        assert fragile.officer["ja"].get("/batches/").status == 200
    fragile.network[engine].normal()
    assert well(lambda: fragile.officer["ja"].get(path)).text.count("<li>") == before.text.count("<li>")


@pytest.mark.slow
def test_what_is_edited_while_the_index_is_away_is_kept_at_once_and_found_later(fragile: Fragile) -> None:
    send, generation = fragile.edit("錦鯉横丁の角"), fragile.generation()
    fragile.network["index"].refuse()
    assert send().status == 200
    assert fragile.generation() == generation + 1
    fragile.network["index"].normal()
    until = time.monotonic() + BACK
    while not fragile.finds("錦鯉横丁") and time.monotonic() < until:
        time.sleep(0.1)
    assert fragile.finds("錦鯉横丁")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["store", "catalogue"])
def test_an_edit_that_cannot_be_kept_is_not_acknowledged_and_can_be_sent_again(fragile: Fragile, engine: str) -> None:
    send, generation = fragile.edit(f"{engine}が止まった日の追記"), fragile.generation()
    fragile.network[engine].refuse()
    told = send()
    assert (told.status, told.code) == (503, f"{engine}.unreachable")
    fragile.network[engine].normal()
    assert fragile.generation() == generation
    assert well(send).status == 200
    assert fragile.generation() == generation + 1


@pytest.mark.slow
def test_an_edit_whose_answer_gets_lost_on_the_way_from_the_store_is_made_once(fragile: Fragile) -> None:
    send, generation = fragile.edit("返事のない日の追記"), fragile.generation()
    fragile.network["store"].cut(after=0, way="down", times=1)
    assert send().status == 200
    assert fragile.generation() == generation + 1


@pytest.mark.parametrize("error", [unreachable(), credentials()], ids=lambda error: error.code)
def test_a_session_that_cannot_be_saved_is_the_databases_fault_not_the_visitors(site: Site, error: DaichoError) -> None:
    desk = site.client("desk", raise_request_exception=False)
    site.house.later(minutes=2)

    def lost(execute: Callable[..., object], sql: str, *rest: object) -> object:
        if sql.startswith("UPDATE") and "django_session" in sql:
            raise for_django(error)
        return execute(sql, *rest)

    with connection.execute_wrapper(lost):
        answer = desk.get("/")
    assert (answer.status_code, answer.get("Retry-After")) == (503, "5" if error.retryable else None)
    assert error.code in answer.content.decode()
    assert not LEAKS.search(answer.content.decode())
    assert desk.get("/").status_code == 200
