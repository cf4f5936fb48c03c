"""An installation on real engines, each behind a network that refuses, says nothing, cuts or drags: operations end coded, nothing
that was acknowledged is lost, and `daicho info` tells which engine it is.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from core.settings import load
from tests.installed import BATCH, HASTY, Installation, content, copied, digest, done, environment, run
from tests.servers.engines import write_engines
from tests.servers.proxy import Proxy
from tests.servers.running import ElasticsearchServer, PostgresServer, S3Server

pytestmark = pytest.mark.slow

PARTS = ("store", "catalogue", "index")
SHEETS = [BATCH / f"{number:02}-dv-support.jpg" for number in (4, 6)]


@dataclass
class Town:
    """An installation whose engines are reached through proxies, one a part."""

    place: Installation
    proxies: dict[str, Proxy]

    @property
    def data(self) -> Path:
        return self.place.data


@pytest.fixture(scope="module")
def town(
    small: Installation,
    tmp_path_factory: pytest.TempPathFactory,
    minio: S3Server,
    postgres: PostgresServer,
    elasticsearch: ElasticsearchServer,
) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    with ExitStack() as stack:
        proxies = {
            part: stack.enter_context(Proxy("127.0.0.1", port))
            for part, port in zip(PARTS, (minio.port, postgres.port, elasticsearch.port), strict=True)
        }
        engines = write_engines(
            folder / "engines.toml",
            minio.new(endpoint=f"http://127.0.0.1:{proxies['store'].port}", timeout=5),
            postgres.new(port=proxies["catalogue"].port, timeout=5),
            elasticsearch.new(url=f"http://127.0.0.1:{proxies['index'].port}", timeout=5),
        )
        place = copied(small, folder)
        done("migrate", "--to", engines, data=place.data)
        yield Town(place, proxies)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("fault", ["refuse", "silence"])
def test_down_at_the_start(town: Town, part: str, fault: str) -> None:
    before = digest(town.data)
    soon = {f"DAICHO_{part}_TIMEOUT".upper(): "1"}
    proxy = town.proxies[part]
    getattr(proxy, fault)()
    try:
        result = run("search", "", data=town.data, program=HASTY, **soon)
        assert (result.code, result.error) == (75, f"{part}.unreachable"), result.err
        told = run("info", data=town.data, program=HASTY, **soon)
        assert [(row["part"], row["error"]) for row in told.rows] == [(part, f"{part}.unreachable")]
        assert told.code == 75
        for text in (result.err, told.out, told.err):
            assert "Traceback" not in text and str(proxy.port) not in text.replace(told.out, "")
    finally:
        proxy.normal()
    told = run("info", data=town.data)
    assert (told.code, told.rows[-1]["digest"], told.rows[-1]["database"]) == (0, before, "ok")


@pytest.mark.parametrize("part", PARTS)
def test_slow_is_only_slow(town: Town, part: str) -> None:
    town.proxies[part].delay(0.03)
    try:
        assert done("search", "", data=town.data)
    finally:
        town.proxies[part].normal()


@pytest.mark.parametrize("part", PARTS)
def test_lost_in_the_middle_of_an_ingest(town: Town, part: str, tmp_path: Path) -> None:
    """The engine goes while sheets are sealed: coded, or waited for; the same command again makes it whole, and nothing twice."""
    scans = [tmp_path / f"{part}-{sheet.name}" for sheet in SHEETS]
    for sheet, scan in zip(SHEETS, scans, strict=True):
        # What follows the end of a JPEG makes it another file of the same page: each case brings in sheets of its own.
        scan.write_bytes(sheet.read_bytes() + part.encode())
    arguments = ["ingest", *map(str, scans), "--ledger", "dv-support", "--no-text", "--json", "--data", str(town.data)]
    process = subprocess.Popen(
        [*HASTY, *arguments],
        env=environment(),
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("読み取って"):
                town.proxies[part].refuse()
                town.proxies[part].cut_now()
                break
        out, err = process.communicate(timeout=120)
    finally:
        town.proxies[part].normal()
    if process.returncode:
        assert process.returncode == 75, err
        assert f'"{part}.unreachable"' in out and "Traceback" not in err
    else:
        assert part == "index", "only the index may be waited for in silence"
    rerun = done("ingest", *scans, "--ledger", "dv-support", "--no-text", data=town.data)[-1]
    assert rerun["balanced"] and rerun["sheets"] == 2
    told = done("info", data=town.data)[-1]
    held = content(town.data)
    assert (held["unread"], held["findings"], told["database"]) == (0, [], "ok")
    assert told["index_documents"] == sum(1 for _ in done("search", "", data=town.data)), held


@pytest.mark.parametrize(
    ("part", "field", "code"),
    [
        ("store", "secret_key", "store.credentials"),
        ("catalogue", "password", "catalogue.credentials"),
    ],
)
def test_a_wrong_password(town: Town, part: str, field: str, code: str) -> None:
    """Elasticsearch without its security module asks for none; tests/search has that case."""
    wrong = {f"DAICHO_{part}_{field}".upper(): "not-the-password"}
    result = run("search", "", data=town.data, **wrong)
    assert (result.code, result.error) == (78, code)
    told = run("info", data=town.data, **wrong)
    assert [(row["part"], row["error"]) for row in told.rows] == [(part, code)]
    assert "not-the-password" not in told.out + told.err


def test_what_is_not_there(town: Town, tmp_path: Path) -> None:
    """A bucket or a database of another name: said, and nothing is made by asking."""
    result = run("info", data=town.data, DAICHO_STORE_BUCKET="daicho-nowhere")
    assert result.rows[0]["error"] == "store.missing"
    result = run("info", data=town.data, DAICHO_CATALOGUE_DATABASE="daicho_nowhere")
    assert result.rows[0]["part"] == "catalogue" and result.code == 78


def test_begun_on_an_engine_that_is_down_nothing_is_left(
    tmp_path: Path, town: Town, new_engines: Callable[[Path], Path]
) -> None:
    file = new_engines(tmp_path)
    settings = load(tmp_path / "x", environment={}, engines=file)
    assert settings.store_engine and settings.catalogue_engine and settings.index_engine
    port = urlsplit(f"http://127.0.0.1:{town.proxies['store'].port}").port
    wrong = write_engines(
        tmp_path / "wrong.toml",
        replace(settings.store_engine, endpoint=f"http://127.0.0.1:{port}", timeout=2),
        settings.catalogue_engine,
        settings.index_engine,
    )
    town.proxies["store"].refuse()
    try:
        result = run("init", "--engines", wrong, data=tmp_path / "new", program=HASTY)
        assert result.error == "store.unreachable"
    finally:
        town.proxies["store"].normal()
    assert not (tmp_path / "new").exists() and not (tmp_path / "new-keys").exists()
    done("init", "--engines", wrong, data=tmp_path / "new")
    assert digest(tmp_path / "new")


def test_after_all_of_it_everything_works_and_nothing_is_missing(town: Town) -> None:
    assert done("search", "", data=town.data)
    assert done("verify", data=town.data)[-1]["ok"]
    assert done("info", data=town.data)[-1]["database"] == "ok"
