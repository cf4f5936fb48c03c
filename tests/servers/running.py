"""Real servers on loopback: started on a free port with their data in a folder, waited for, stopped by the id of the process.

What a server needs to be made is in build.py; what a client needs to talk to it is what `new()` gives: settings of a bucket, a database or a
name of indices that nobody has used. Each server can be stopped, killed, frozen and started again on the same port and data.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import urllib3
from minio import Minio
from minio.error import S3Error, ServerError
from psycopg import sql

from core.settings import ElasticsearchSettings, PostgresSettings, S3Settings
from tests.servers import build
from tests.servers.build import Missing
from tests.servers.engines import write_engines

HOST = "127.0.0.1"
POSTGRES_USER = "postgres"
S3_USER = "daicho-root"

# Seconds a server may take to answer and to end. A cold CI machine with two cores needs several times what a warm one does.
TO_ANSWER = 120
TO_END = 30

# The kernel ends our servers with the thread that started them (setpriv --pdeathsig), so that a run that is killed leaves none behind. This
# thread lives as long as the process; a test's own thread may not.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="servers")


class DidNotStart(Exception):
    """A server ended or did not answer in time; the text has the end of its log."""


class Server:
    """A process on a port, with its data in a folder.

    Args:
        name: for the log `<folder>/<name>.log` and messages.
        command: program and arguments.
        port: where it listens; kept over restarts.
        answers: True once it serves; may raise OSError, urllib3's or psycopg's errors until then.
        ends_on: signal that makes it end in an orderly way.
        user: runs as this user when we are root; None for ourselves.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        folder: Path,
        port: int,
        answers: Callable[[], bool],
        *,
        environment: Mapping[str, str] | None = None,
        ends_on: signal.Signals = signal.SIGTERM,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.log = folder / f"{name}.log"
        self._command = [*_as_user(user), "--pdeathsig", "KILL", *command]
        self._answers = answers
        self._environment = dict(environment or {})
        self._ends_on = ends_on
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and return once it answers; nothing happens when it runs.

        Raises:
            DidNotStart: it ended, or did not answer within TO_ANSWER seconds.
        """
        if self.alive:
            return
        self._process = _starter.submit(self._spawned).result()
        until = time.monotonic() + TO_ANSWER
        while True:
            with contextlib.suppress(OSError, urllib3.exceptions.HTTPError, psycopg.Error):
                if self._answers():
                    return
            if not self.alive or time.monotonic() > until:
                ended = f"ended with {self._process.returncode}" if not self.alive else f"no answer in {TO_ANSWER} s"
                self.kill()
                raise DidNotStart(f"{self.name}: {ended}; the end of {self.log}:\n{self.tail()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it in the orderly way, by force after TO_END seconds; nothing happens when it does not run."""
        if self._process is None:
            return
        if self.alive:
            self.thaw()
            self._process.send_signal(self._ends_on)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(TO_END)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the process and its children, as when memory runs out; returns when all are gone."""
        if self._process is None:
            return
        # PostgreSQL's children lead groups of their own.
        children = _children(self._process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._process.wait()
        until = time.monotonic() + TO_END
        while any(_runs(child) for child in children) and time.monotonic() < until:
            time.sleep(0.02)
        self._process = None

    def freeze(self) -> None:
        """Stop the clock of the process and its children (SIGSTOP): connections are accepted by the kernel and never answered."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal_all(signal.SIGCONT)

    def tail(self, lines: int = 40) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:]) if self.log.is_file() else ""

    def _signal_all(self, what: signal.Signals) -> None:
        if self._process is not None and self.alive:
            for pid in [self._process.pid, *_children(self._process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, what)

    def _spawned(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self._environment,
                # A Ctrl-C at the terminal is for the tests; they stop their servers themselves.
                start_new_session=True,
            )


class S3Server(Server):
    """MinIO or versitygw; `secret_key` is that of its root account."""

    secret_key: str

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    def new(self, **changes: Any) -> S3Settings:
        """Settings with the name of a bucket that does not exist yet; `changes` are fields of S3Settings."""
        where = S3Settings(self.endpoint, fresh("daicho-"), S3_USER, self.secret_key)
        return replace(where, **changes)


class ElasticsearchServer(Server):
    """One node, without security: the module is not among the published jars."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def new(self, **changes: Any) -> ElasticsearchSettings:
        """Settings with a name of indices that nobody has used; `changes` are fields of ElasticsearchSettings."""
        return replace(ElasticsearchSettings(self.url, name=fresh("daicho-")), **changes)


class PostgresServer(Server):
    """A cluster with password sign-in; `password` is the superuser's."""

    password: str

    def new(self, **changes: Any) -> PostgresSettings:
        """Settings of a new, empty database with an owner and an application role of its own; `changes` are fields of PostgresSettings."""
        name = fresh("daicho_")
        where = PostgresSettings(
            host=HOST,
            port=self.port,
            database=name,
            user=f"{name}_app",
            password=secrets.token_hex(12),
            owner=f"{name}_owner",
            owner_password=secrets.token_hex(12),
            sslmode="disable",
        )
        self.make_database(where)
        return replace(where, **changes)

    def make_database(self, where: PostgresSettings) -> None:
        """The roles and the database of these settings, as docs/operate.md tells an administrator to make them: who may what in it is daicho's to say."""
        database, owner, user = (sql.Identifier(each) for each in (where.database, where.owner, where.user))
        with self.connect() as connection:
            for role, password in ((owner, where.owner_password), (user, where.password)):
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
            connection.execute(
                sql.SQL(
                    "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
                ).format(database, owner)
            )

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """An autocommitting connection of the superuser; the caller closes it."""
        return psycopg.connect(
            host=HOST,
            port=self.port,
            dbname=database,
            user=POSTGRES_USER,
            password=self.password,
            sslmode="disable",
            connect_timeout=5,
            autocommit=True,
        )


@contextmanager
def minio(folder: Path) -> Iterator[S3Server]:
    """MinIO with one drive in `folder`, which honours Object Lock and `If-None-Match: *`.

    Raises:
        Missing: it cannot be built here. DidNotStart: it did not start.
    """
    data = _made(folder / "minio")
    kept = _kept(folder, "minio")
    port = kept.port
    server = S3Server(
        "minio",
        [
            str(build.minio()),
            "server",
            "--address",
            f"{HOST}:{port}",
            "--certs-dir",
            str(_made(folder / "minio-certs")),
            str(data),
        ],
        folder,
        port,
        lambda: _lists_buckets(port, kept.secret),
        environment={
            "MINIO_ROOT_USER": S3_USER,
            "MINIO_ROOT_PASSWORD": kept.secret,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        },
    )
    server.secret_key = kept.secret
    with _running(server):
        yield server


@contextmanager
def versitygw(folder: Path) -> Iterator[S3Server]:
    """Versity's gateway before a folder, with versions: the second server that the store's contract holds on.

    Raises:
        Missing: it cannot be built here, or the file system keeps no extended attributes. DidNotStart: it did not start.
    """
    data, versions = _made(folder / "versitygw"), _made(folder / "versitygw-versions")
    try:
        os.setxattr(data, "user.daicho", b"1")
        os.removexattr(data, "user.daicho")
    except OSError as error:
        raise Missing(
            f"versitygw needs extended attributes, which the file system of {folder} does not keep"
        ) from error
    kept = _kept(folder, "versitygw")
    port = kept.port
    server = S3Server(
        "versitygw",
        [
            str(build.versitygw()),
            "--port",
            f"{HOST}:{port}",
            "posix",
            "--versioning-dir",
            str(versions),
            str(data),
        ],
        folder,
        port,
        lambda: _lists_buckets(port, kept.secret),
        environment={"ROOT_ACCESS_KEY": S3_USER, "ROOT_SECRET_KEY": kept.secret},
    )
    server.secret_key = kept.secret
    with _running(server):
        yield server


@contextmanager
def elasticsearch(folder: Path) -> Iterator[ElasticsearchServer]:
    """One node of Elasticsearch with 512 MiB of heap.

    Raises:
        Missing: no JDK or no jars. DidNotStart: it did not start.
    """
    home = build.elasticsearch()
    port = _kept(folder, "elasticsearch").port
    settings = {
        "path.data": _made(folder / "elasticsearch"),
        "path.logs": _made(folder / "elasticsearch-logs"),
        "cluster.name": "daicho-tests",
        "discovery.type": "single-node",
        "network.host": HOST,
        "http.port": port,
        "transport.port": free_port(),
        "logger.level": "WARN",
        # A machine whose disk is 90 % full would get no shard.
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }
    server = ElasticsearchServer(
        "elasticsearch",
        [
            build.java(),
            "-Xms512m",
            "-Xmx512m",
            # Two cores and a short life: the small collector and the quick compiler are ahead.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            f"-Djava.io.tmpdir={_made(folder / 'elasticsearch-tmp')}",
            "-p",
            str(home / "lib"),
            "--add-modules",
            "ALL-MODULE-PATH,jdk.net",
            str(build.LAUNCHER),
            str(home),
            *(f"{name}={value}" for name, value in settings.items()),
        ],
        folder,
        port,
        lambda: _says_200(f"http://{HOST}:{port}/_cluster/health?wait_for_status=yellow&timeout=5s"),
    )
    with _running(server):
        yield server


@contextmanager
def postgres(folder: Path) -> Iterator[PostgresServer]:
    """PostgreSQL with password sign-in (SCRAM). It refuses root: it runs as the user `postgres` then, and as ourselves otherwise.

    A folder that this user cannot reach (pytest's belong to root alone) is replaced by one of its own, which goes with the server.

    Raises:
        Missing: PostgreSQL or its user is not on this machine. DidNotStart: it did not start.
    """
    programs = build.postgres()
    user = POSTGRES_USER if os.geteuid() == 0 else None
    with contextlib.ExitStack() as stack:
        place = folder
        if user is not None and not reachable(folder, user):
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daicho-postgres-")))
            place.chmod(0o711)
        data = _made(place / "postgres")
        if user is not None:
            shutil.chown(data, user, user)
        data.chmod(0o700)
        kept = _kept(place, "postgres")
        port = kept.port
        if not (data / "PG_VERSION").exists():
            _initdb(programs, data, kept.secret, user)
        server = PostgresServer(
            "postgres",
            [
                str(programs / "postgres"),
                "-D",
                str(data),
                "-p",
                str(port),
                *_options(
                    listen_addresses=HOST, unix_socket_directories="", shared_buffers="32MB", max_connections="60"
                ),
            ],
            folder,
            port,
            lambda: _closed(server.connect()),
            # Fast shutdown; SIGTERM would wait for every client.
            ends_on=signal.SIGINT,
            user=user,
        )
        server.password = kept.secret
        with _running(server):
            yield server


@contextmanager
def all_engines(folder: Path) -> Iterator[Callable[[Path], Path]]:
    """MinIO, PostgreSQL and Elasticsearch. Yields a function: place -> `place/engines.toml`, which names a new bucket, database and index.

    Raises:
        Missing: one of them cannot be had here. DidNotStart: one did not start.
    """
    with minio(folder) as store, postgres(folder) as catalogue, elasticsearch(folder) as index:
        yield lambda place: write_engines(place / "engines.toml", store.new(), catalogue.new(), index.new())


def reachable(folder: Path, user: str) -> bool:
    """May this user, who is not us, come to the folder?"""
    return subprocess.run([*_as_user(user), "test", "-x", str(folder.absolute())], check=False).returncode == 0


def free_port() -> int:
    """A port of loopback that nobody listens on.

    Not of the range that the kernel gives to clients: there, a client that calls a stopped server again and again is one day given the server's
    own port and talks to itself, and the server cannot come back.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    for port in random.sample(range(20000, min(lowest, 32768)), 200):
        with socket.socket() as tried:
            # As the servers do it: a port that is only winding up old connections is free.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((HOST, port))
            except OSError:
                continue
            return port
    raise DidNotStart("no free port from 20000 on")


def fresh(prefix: str) -> str:
    """A name that nobody has used: lower case, digits; fit for a bucket, a database and an index."""
    return prefix + secrets.token_hex(5)


@contextmanager
def _running(server: Server) -> Iterator[None]:
    try:
        server.start()
        yield
    finally:
        server.stop()


@dataclass(frozen=True)
class _Kept:
    """What a server keeps beside its data, so that settings written for it fit when it runs there again."""

    port: int
    secret: str


def _kept(folder: Path, name: str) -> _Kept:
    file = _made(folder) / f"{name}.kept"
    if not file.exists():
        file.touch(0o600)
        file.write_text(f"{free_port()} {secrets.token_hex(16)}\n", "ascii")
    port, secret = file.read_text("ascii").split()
    return _Kept(int(port), secret)


def _initdb(programs: Path, data: Path, password: str, user: str | None) -> None:
    with tempfile.NamedTemporaryFile("w", dir=data.parent, encoding="ascii") as told:
        told.write(password + "\n")
        told.flush()
        if user is not None:
            shutil.chown(told.name, user, user)
        ended = subprocess.run(
            [
                *(_as_user(user) if user else []),
                str(programs / "initdb"),
                "-D",
                str(data),
                "-U",
                POSTGRES_USER,
                "--pwfile",
                told.name,
                "--auth",
                "scram-sha-256",
                "--encoding",
                "UTF8",
                "--locale",
                "C",
                # The empty cluster alone is not synced; what is written to it is.
                "--no-sync",
            ],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
    if ended.returncode:
        raise DidNotStart(f"initdb: {ended.stderr.strip()}")


def _options(**settings: str) -> list[str]:
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _as_user(user: str | None) -> list[str]:
    """The start of a command line that runs as this user."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Missing("setpriv is not on this machine: apt install util-linux")
    if user is None:
        return [setpriv]
    try:
        known = pwd.getpwnam(user)
    except KeyError:
        raise Missing(f"PostgreSQL refuses root and there is no user {user}: apt install postgresql") from None
    return [setpriv, f"--reuid={known.pw_uid}", f"--regid={known.pw_gid}", "--clear-groups"]


def _lists_buckets(port: int, secret: str) -> bool:
    """MinIO says that it is healthy before it answers: it is asked for what clients want."""
    once = urllib3.PoolManager(timeout=urllib3.Timeout(10), retries=False)
    try:
        Minio(f"{HOST}:{port}", S3_USER, secret, secure=False, region="us-east-1", http_client=once).list_buckets()
    except (S3Error, ServerError):
        return False
    finally:
        once.clear()
    return True


def _says_200(url: str) -> bool:
    try:
        with _direct.open(url, timeout=10) as answer:
            return int(answer.status) == 200
    except urllib.error.HTTPError:
        return False


# Loopback is never asked for through a proxy of the environment.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _closed(connection: psycopg.Connection[Any]) -> bool:
    connection.close()
    return True


def _children(pid: int) -> list[int]:
    """The processes below this one, however deep."""
    try:
        direct = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except FileNotFoundError:
        return []
    return direct + [below for child in direct for below in _children(child)]


def _runs(pid: int) -> bool:
    """Is this process there and no zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
