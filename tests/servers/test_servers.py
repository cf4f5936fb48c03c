"""The real servers do what the adapters build on, come back with their data after a kill, and end with the run; the network's faults are real."""

from __future__ import annotations

import io
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import urllib3
from elasticsearch import Elasticsearch
from minio import Minio
from minio.commonconfig import COMPLIANCE, GOVERNANCE
from minio.error import S3Error
from minio.retention import Retention

from core.settings import PostgresSettings, S3Settings, load
from tests.servers import build, proxy
from tests.servers.running import DidNotStart, ElasticsearchServer, PostgresServer, S3Server, Server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["minio", "versitygw"])
def s3(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(request.param)
    return server


def client(where: S3Settings, port: int | None = None, seconds: float = 10) -> Minio:
    """A client that tries once; of another port (a proxy) than the settings say."""
    endpoint = where.endpoint.removeprefix("http://")
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(seconds), retries=False)
    address = f"127.0.0.1:{port}" if port else endpoint
    return Minio(address, where.access_key, where.secret_key, secure=False, region=where.region, http_client=pool)


def put(minio: Minio, bucket: str, key: str, data: bytes, **told: Any) -> str:
    version = minio.put_object(bucket, key, io.BytesIO(data), len(data), **told).version_id
    assert version
    return version


def got(minio: Minio, bucket: str, key: str, version: str | None = None) -> bytes:
    answer = minio.get_object(bucket, key, version_id=version)
    try:
        return answer.read()
    finally:
        answer.close()
        answer.release_conn()


def in_days(days: int, mode: str = COMPLIANCE) -> Retention:
    return Retention(mode, datetime.now(UTC) + timedelta(days=days))


def put_if_absent(minio: Minio, bucket: str, key: str, data: bytes) -> int:
    url = minio.presigned_put_object(bucket, key)
    return urllib3.request("PUT", url, body=data, headers={"If-None-Match": "*"}, retries=False).status


# Object storage


def test_a_locked_version_stays(s3: S3Server) -> None:
    where = s3.new()
    minio = client(where)
    minio.make_bucket(where.bucket, object_lock=True)
    version = put(minio, where.bucket, "a/b", "台帳".encode(), retention=in_days(2))

    with pytest.raises(S3Error):
        minio.remove_object(where.bucket, "a/b", version_id=version)
    with pytest.raises(S3Error):
        minio.set_object_retention(where.bucket, "a/b", in_days(1), version_id=version)
    with pytest.raises(S3Error):
        minio.set_object_retention(where.bucket, "a/b", in_days(3, GOVERNANCE), version_id=version)
    # A delete marker may hide the key; the version is read by its id.
    minio.remove_object(where.bucket, "a/b")
    assert got(minio, where.bucket, "a/b", version) == "台帳".encode()
    minio.set_object_retention(where.bucket, "a/b", in_days(5), version_id=version)
    kept = minio.get_object_retention(where.bucket, "a/b", version_id=version)
    assert kept is not None and kept.retain_until_date > datetime.now(UTC) + timedelta(days=4)


def test_a_held_version_stays(s3: S3Server) -> None:
    where = s3.new()
    minio = client(where)
    minio.make_bucket(where.bucket, object_lock=True)
    version = put(minio, where.bucket, "a", b"1", legal_hold=True)
    with pytest.raises(S3Error):
        minio.remove_object(where.bucket, "a", version_id=version)
    minio.disable_object_legal_hold(where.bucket, "a", version_id=version)
    minio.remove_object(where.bucket, "a", version_id=version)
    with pytest.raises(S3Error, match="NoSuch"):
        got(minio, where.bucket, "a", version)


def test_what_is_there_is_not_written_over_if_absent_is_asked(s3: S3Server) -> None:
    where = s3.new()
    minio = client(where)
    minio.make_bucket(where.bucket, object_lock=True)
    assert put_if_absent(minio, where.bucket, "journal/1", b"one") == 200
    assert put_if_absent(minio, where.bucket, "journal/1", b"two") == 412
    assert got(minio, where.bucket, "journal/1") == b"one"


def test_a_wrong_password_has_its_code(s3: S3Server) -> None:
    where = s3.new(secret_key="wrong")
    with pytest.raises(S3Error) as raised:
        client(where).make_bucket(where.bucket)
    assert raised.value.code == "SignatureDoesNotMatch"


# Elasticsearch


def test_elasticsearch_indexes_counts_and_walks(elasticsearch: ElasticsearchServer) -> None:
    where = elasticsearch.new()
    index = f"{where.name}-1"
    with Elasticsearch(where.url) as es:  # the client of 8.19 refuses a server without the product header
        es.indices.create(
            index=index,
            mappings={"properties": {"pairs": {"type": "text", "analyzer": "standard"}, "ledger": {"type": "keyword"}}},
        )
        rows: list[dict[str, Any]] = []
        for number in range(20):
            rows += [
                {"index": {"_index": index, "_id": f"{number:02}"}},
                {
                    "pairs": "u3042u3044 u3044u3046" if number % 2 else "u3044u3046 u3042u3044",
                    "ledger": f"L{number % 3}",
                },
            ]
        assert es.bulk(operations=rows, refresh=True)["errors"] is False
        phrase = {"match_phrase": {"pairs": "u3042u3044 u3044u3046"}}
        found = es.search(index=index, query=phrase, aggs={"ledgers": {"terms": {"field": "ledger"}}}, size=0)
        assert found["hits"]["total"]["value"] == 10
        facet = found["aggregations"]["ledgers"]
        assert facet["doc_count_error_upper_bound"] == 0
        assert {each["key"]: each["doc_count"] for each in facet["buckets"]} == {"L0": 3, "L1": 4, "L2": 3}

        point = es.open_point_in_time(index=index, keep_alive="1m")["id"]
        es.delete(index=index, id="01", refresh=True)
        walked: list[str] = []
        after = None
        while True:
            page = es.search(
                pit={"id": point, "keep_alive": "1m"}, sort=["ledger", "_shard_doc"], search_after=after, size=7
            )["hits"]["hits"]
            if not page:
                break
            walked += [each["_id"] for each in page]
            after = page[-1]["sort"]
        assert sorted(walked) == [f"{number:02}" for number in range(20)]
        es.close_point_in_time(id=point)
        assert es.count(index=index)["count"] == 19


# PostgreSQL


def connected(where: PostgresSettings, owner: bool = False) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=where.host,
        port=where.port,
        dbname=where.database,
        user=where.owner if owner else where.user,
        password=where.owner_password if owner else where.password,
        autocommit=True,
    )


def test_the_application_may_not_make_or_change_what_is_the_owners(postgres: PostgresServer) -> None:
    where = postgres.new()
    with connected(where, owner=True) as owner, connected(where) as user:
        owner.execute("CREATE TABLE past (id bigint PRIMARY KEY)")
        owner.execute(f"GRANT SELECT, INSERT ON past TO {where.user}")
        user.execute("INSERT INTO past VALUES (1)")
        for forbidden in ("UPDATE past SET id = 2", "DELETE FROM past", "TRUNCATE past", "CREATE TABLE mine (id int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                user.execute(forbidden)
        assert user.execute("SELECT id FROM past").fetchall() == [(1,)]
        told = user.execute(
            "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
        )
        assert told.fetchone() == ("C", "UTF8")
        assert user.execute("SHOW fsync").fetchone() == ("on",)


def test_postgresql_asks_for_passwords(postgres: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connected(postgres.new(password="wrong")).close()


# All of them


def test_engines_are_new_each_time_and_are_settings(new_engines: Callable[[Path], Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files = [new_engines(tmp_path), new_engines(tmp_path / "other")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    read = [load(tmp_path / "data", environment={}, engines=file) for file in files]
    stores = [settings.store_engine for settings in read]
    assert stores[0] and stores[1] and stores[0].bucket != stores[1].bucket
    for settings in read:
        assert settings.catalogue_engine and settings.index_engine
        with connected(settings.catalogue_engine) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert read[0].catalogue_engine != read[1].catalogue_engine
    assert read[0].index_engine != read[1].index_engine


def test_what_a_killed_server_acknowledged_is_there(
    minio: S3Server, elasticsearch: ElasticsearchServer, postgres: PostgresServer
) -> None:
    where, table, index = minio.new(), postgres.new(), elasticsearch.new()
    client(where).make_bucket(where.bucket)
    client(where).put_object(where.bucket, "a", io.BytesIO(b"1"), 1)
    with connected(table, owner=True) as owner:
        owner.execute("CREATE TABLE kept AS SELECT 1 AS id")
        with Elasticsearch(index.url) as es:
            es.index(index=index.name, id="1", document={"a": 1})
        for server in (minio, elasticsearch, postgres):
            server.kill()
            assert not server.alive
        with pytest.raises(psycopg.OperationalError):
            owner.execute("SELECT 1")
    for again in (minio, elasticsearch, postgres):
        again.start()
    assert got(client(where), where.bucket, "a") == b"1"
    with Elasticsearch(index.url) as es:
        es.cluster.health(index=index.name, wait_for_status="yellow")
        assert es.get(index=index.name, id="1")["_source"] == {"a": 1}
    with connected(table) as user, pytest.raises(psycopg.errors.InsufficientPrivilege):
        user.execute("SELECT id FROM kept")
    with connected(table, owner=True) as owner:
        assert owner.execute("SELECT id FROM kept").fetchall() == [(1,)]


def test_a_frozen_server_says_nothing_and_goes_on(postgres: PostgresServer, minio: S3Server) -> None:
    where = minio.new()
    client(where).make_bucket(where.bucket)
    for server in (minio, postgres):
        server.freeze()
    try:
        with pytest.raises(urllib3.exceptions.HTTPError):
            client(where, seconds=0.3).bucket_exists(where.bucket)
    finally:
        for server in (minio, postgres):
            server.thaw()
    assert client(where).bucket_exists(where.bucket)
    postgres.connect().close()


def test_servers_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    run = (
        "import sys, threading, time, pathlib\n"
        "from tests.servers import running\n"
        "with running.postgres(pathlib.Path(sys.argv[1])) as server:\n"
        "    again = threading.Thread(target=lambda: (server.stop(), server.start()))\n"
        "    again.start(); again.join()\n"  # a thread that ends takes no server with it
        "    server.connect().close(); print(server.port, flush=True); time.sleep(600)\n"
    )
    with started(["-c", run, str(tmp_path)]) as child:
        assert child.stdout
        line = child.stdout.readline()
        port = int(line)
        assert listens(port)
        child.kill()
        child.wait()
        assert soon(lambda: not listens(port))


@pytest.mark.slow
def test_the_command_gives_engines_and_takes_them_away(postgres: PostgresServer, tmp_path: Path) -> None:
    out = tmp_path / "engines.toml"
    with started(["-m", "tests.servers", "--out", str(out)]) as child:
        assert child.stdout
        said = child.stdout.readline()
        assert f"daicho demo --engines {out}" in said
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        settings = load(tmp_path / "data", environment={}, engines=out)
        assert settings.store_engine and settings.catalogue_engine and settings.index_engine
        assert not client(settings.store_engine).bucket_exists(settings.store_engine.bucket)
        connected(settings.catalogue_engine, owner=True).close()
        with Elasticsearch(settings.index_engine.url) as es:
            assert es.cluster.health()["status"] == "green"
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    assert not listens(settings.catalogue_engine.port)


class started:  # noqa: N801 (used as a function)
    """A Python process of this checkout, gone at the end."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def __enter__(self) -> subprocess.Popen[str]:
        path = {"PYTHONPATH": os.pathsep.join(each for each in (str(ROOT), os.environ.get("PYTHONPATH")) if each)}
        command = [sys.executable, *self._words]
        self._child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | path)
        return self._child

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def soon(what: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.05)
    return False


# Building


def test_a_machine_without_go_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAICHO_SERVERS", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    needed = ((build.minio, "go"), (build.versitygw, "go"), (build.elasticsearch, "javac"), (build.rocfl, "cargo"))
    for make, what in needed:
        with pytest.raises(build.Missing, match=f"^{what} is not on this machine: "):
            make()
    assert [each for each in (tmp_path / "cache").iterdir() if each.is_dir()] == []


def test_a_build_that_fails_leaves_nothing_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text(
        '#!/bin/sh\n[ "$1" = version ] && echo go1.26.8 && exit\n/bin/touch "$GOBIN/versitygw"\necho "no route to host" >&2\nexit 1\n',
        "ascii",
    )
    go.chmod(0o755)
    monkeypatch.setenv("DAICHO_SERVERS", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.Missing, match=r"go install .* failed: no route to host"):
        build.versitygw()
    assert [each for each in (tmp_path / "cache").iterdir() if each.is_dir()] == []


@pytest.mark.parametrize(("required", "outcome"), [({}, "skipped"), ({"DAICHO_REQUIRE_SERVERS": "1"}, "error")])
def test_a_missing_server_leaves_tests_out_or_fails(required: dict[str, str], outcome: str, tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_it(minio): raise AssertionError('must not run')\n", "ascii")
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("DAICHO_")}
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            PYTEST,
            "-q",
            "-rs",
            "-p",
            "tests.servers.fixtures",
            "-p",
            "no:cacheprovider",
            str(tmp_path),
        ],
        cwd=tmp_path,
        env=cleared | required | {"DAICHO_SERVERS": str(tmp_path / "cache"), "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "go is not on this machine: apt install golang-go" in ended.stdout, ended.stdout + ended.stderr
    assert f"1 {outcome.rstrip('s')}" in ended.stdout.replace("errors", "error").replace(
        "skipped", "skippd".replace("ppd", "pped")
    )


# As tests/conftest.py does it: this folder's `tests`, whatever an installed package calls itself.
PYTEST = f"""
import sys, types
tests = types.ModuleType("tests"); tests.__path__ = [{str(ROOT / "tests")!r}]; sys.modules["tests"] = tests
sys.path.insert(0, {str(ROOT)!r})
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


# The network and the liar


@pytest.fixture
def bucket(minio: S3Server) -> S3Settings:
    where = minio.new()
    client(where).make_bucket(where.bucket, object_lock=True)
    return where


@pytest.fixture
def between(minio: S3Server) -> Iterator[proxy.Proxy]:
    with proxy.Proxy("127.0.0.1", minio.port) as passing:
        yield passing


BROKEN = urllib3.exceptions.HTTPError


def test_a_good_network_passes_all_bytes(bucket: S3Settings, between: proxy.Proxy) -> None:
    through, data = client(bucket, between.port), os.urandom(3_000_000)
    put(through, bucket.bucket, "a", data)
    assert got(through, bucket.bucket, "a") == data
    assert between.connections == 1


def test_a_slow_network_takes_its_time(bucket: S3Settings, between: proxy.Proxy) -> None:
    through = client(bucket, between.port)
    between.delay(0.2)
    begun = time.monotonic()
    assert through.bucket_exists(bucket.bucket)
    assert time.monotonic() - begun >= 0.4
    with pytest.raises(BROKEN):
        client(bucket, between.port, seconds=0.1).bucket_exists(bucket.bucket)
    between.normal()
    begun = time.monotonic()
    assert through.bucket_exists(bucket.bucket)
    assert time.monotonic() - begun < 0.2


def test_an_answer_is_lost_after_the_server_worked(bucket: S3Settings, between: proxy.Proxy) -> None:
    through = client(bucket, between.port)
    between.cut(times=1)
    with pytest.raises(BROKEN) as raised:
        put(through, bucket.bucket, "a", b"written all the same")
    assert "reset" in str(raised.value).lower()
    assert got(through, bucket.bucket, "a") == b"written all the same"


def test_a_request_is_cut_in_the_middle(bucket: S3Settings, between: proxy.Proxy) -> None:
    through = client(bucket, between.port)
    between.cut(after=200_000, way="up", times=1)
    with pytest.raises(BROKEN):
        put(through, bucket.bucket, "a", os.urandom(1_000_000))
    with pytest.raises(S3Error, match="NoSuchKey"):
        got(through, bucket.bucket, "a")


def test_an_answer_is_cut_in_the_middle(bucket: S3Settings, between: proxy.Proxy) -> None:
    through = client(bucket, between.port)
    put(through, bucket.bucket, "a", os.urandom(1_000_000))
    between.cut(after=300_000)
    for _ in range(2):
        with pytest.raises(BROKEN):
            got(through, bucket.bucket, "a")
    between.normal()
    assert len(got(through, bucket.bucket, "a")) == 1_000_000


def test_silence_and_refusal_and_back(bucket: S3Settings, between: proxy.Proxy) -> None:
    through = client(bucket, between.port, seconds=0.5)
    assert through.bucket_exists(bucket.bucket)
    between.silence()
    begun = time.monotonic()
    with pytest.raises(BROKEN):
        through.bucket_exists(bucket.bucket)
    assert time.monotonic() - begun >= 0.5
    between.normal()
    assert through.bucket_exists(bucket.bucket)
    between.refuse()
    for _ in range(2):
        with pytest.raises(BROKEN):
            through.bucket_exists(bucket.bucket)
    with pytest.raises(BROKEN, match="refused"):
        through.bucket_exists(bucket.bucket)
    between.normal()
    assert through.bucket_exists(bucket.bucket)


def test_an_open_connection_is_cut_now(postgres: PostgresServer) -> None:
    where = postgres.new()
    with proxy.Proxy("127.0.0.1", where.port) as between:
        user = psycopg.connect(
            host=where.host, port=between.port, dbname=where.database, user=where.user, password=where.password
        )
        user.execute("SELECT 1")
        between.cut_now()
        with pytest.raises(psycopg.OperationalError):
            user.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            between.refuse()
            psycopg.connect(host=where.host, port=between.port, dbname=where.database, user=where.user).close()


def test_a_front_without_a_change_is_the_server(bucket: S3Settings, minio: S3Server) -> None:
    with proxy.HttpFront("127.0.0.1", minio.port) as front:
        through = client(bucket, front.port)
        version = put(through, bucket.bucket, "台帳/1 2+3", b"1" * 100_000, retention=in_days(1))
        assert got(through, bucket.bucket, "台帳/1 2+3", version) == b"1" * 100_000
        assert through.stat_object(bucket.bucket, "台帳/1 2+3").size == 100_000
        with pytest.raises(S3Error):
            through.remove_object(bucket.bucket, "台帳/1 2+3", version_id=version)
        assert [each.object_name for each in through.list_objects(bucket.bucket, "台帳/")] == ["台帳/1 2+3"]
        assert put_if_absent(through, bucket.bucket, "台帳/1 2+3", b"2") == 412
        assert [each.method for each in front.requests].count("PUT") == 2


def test_a_liar_writes_over_what_is_there(bucket: S3Settings, minio: S3Server) -> None:
    with proxy.HttpFront("127.0.0.1", minio.port, proxy.drop(bucket, "if-none-match")) as front:
        through = client(bucket, front.port)
        assert [put_if_absent(through, bucket.bucket, "j", data) for data in (b"1", b"2")] == [200, 200]
    assert got(client(bucket), bucket.bucket, "j") == b"2"


def test_a_liar_forgets_a_lock(bucket: S3Settings, minio: S3Server) -> None:
    with proxy.HttpFront("127.0.0.1", minio.port, proxy.drop(bucket, "x-amz-object-lock-")) as front:
        through = client(bucket, front.port)
        version = put(through, bucket.bucket, "台帳/a b", b"1", retention=in_days(1), legal_hold=True)
        through.remove_object(bucket.bucket, "台帳/a b", version_id=version)
    with pytest.raises(S3Error, match="NoSuch"):
        got(client(bucket), bucket.bucket, "台帳/a b", version)


def test_compliance_in_name_only_shortens_and_deletes(bucket: S3Settings, minio: S3Server) -> None:
    with proxy.HttpFront("127.0.0.1", minio.port, proxy.compliance_in_name_only(bucket)) as front:
        through = client(bucket, front.port)
        version = put(through, bucket.bucket, "a", b"1", retention=in_days(5))
        told = through.get_object_retention(bucket.bucket, "a", version_id=version)
        assert told is not None and told.mode == "COMPLIANCE"
        through.set_object_retention(bucket.bucket, "a", in_days(1), version_id=version)
        told = through.get_object_retention(bucket.bucket, "a", version_id=version)
        assert told is not None and told.retain_until_date < datetime.now(UTC) + timedelta(days=2)
        through.remove_object(bucket.bucket, "a", version_id=version)
        with pytest.raises(S3Error, match="NoSuch"):
            got(through, bucket.bucket, "a", version)


def test_a_full_server_says_so(bucket: S3Settings, minio: S3Server) -> None:
    full = proxy.s3_error(507, "XMinioStorageFull", when=proxy.writes)
    with proxy.HttpFront("127.0.0.1", minio.port, full) as front:
        through = client(bucket, front.port)
        with pytest.raises(S3Error) as raised:
            put(through, bucket.bucket, "a", b"1")
        assert raised.value.code == "XMinioStorageFull"
        assert through.bucket_exists(bucket.bucket)
        front.change = proxy.honest
        put(through, bucket.bucket, "a", b"1")


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    server = Server("broken", ["sh", "-c", "echo disk on fire; exit 3"], tmp_path, 1, lambda: False)
    with pytest.raises(DidNotStart, match=r"ended with 3(.|\n)*disk on fire"):
        server.start()
