"""The store in a bucket when the server is away, slow, full, broken, wrong or not to be trusted: coded errors, and nothing
that was acknowledged is lost.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from time import monotonic, sleep

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core.errors import BadInput, DaichoError, NotReady, StorageFull, Unreachable
from core.settings import S3Settings
from storage.bucket import Bucket
from storage.inventory import NAME
from storage.places import object_place, segment_place
from storage.port import Pin
from storage.retrying import RetryingJournal, RetryingObjects
from storage.s3 import S3Derivatives, S3Journal, S3Objects, create_s3_store, open_s3_store
from tests.contracts.storage_contracts import later, version
from tests.machine import need_server
from tests.servers import running
from tests.servers.proxy import Answer, HttpFront, Proxy, Request, answer_with, s3_error
from tests.servers.running import HOST, S3Server
from tests.storage.buckets import opened, through


@pytest.fixture
def where(minio: S3Server) -> S3Settings:
    where = minio.new(timeout=5)
    create_s3_store(where, "s-1")
    return where


@pytest.fixture
def proxy(minio: S3Server) -> Iterator[Proxy]:
    with Proxy(HOST, minio.port) as proxy:
        yield proxy


@pytest.fixture
def own(tmp_path: Path) -> Iterator[S3Server]:
    """A server that a test may kill and damage."""
    with need_server(running.minio(tmp_path)) as server:
        yield server


PIN = Pin("r-1", 1, "0" * 128)


def calls(where: S3Settings) -> dict[str, Callable[[], object]]:
    """Everything that asks the server."""
    objects, derivatives = S3Objects(where), S3Derivatives(where)
    return {
        "create": lambda: create_s3_store(where, "s-1"),
        "open": lambda: open_s3_store(where),
        "seal": lambda: objects.seal([version(a=b"1")]),
        "head": lambda: objects.head("r-1"),
        "read": lambda: objects.read(PIN, "a"),
        "paths": lambda: objects.paths(PIN),
        "pin": lambda: objects.pin("r-1", 1),
        "opened": lambda: objects.open(PIN, "a"),
        "exported": lambda: objects.exported(PIN),
        "objects": lambda: list(objects.objects()),
        "check": lambda: objects.check("r-1"),
        "strays": objects.strays,
        "worm": objects.worm,
        "extend": lambda: objects.extend("r-1", later(1)),
        "extend_rest": lambda: objects.extend_rest(later(1)),
        "hold": lambda: objects.hold("r-1"),
        "journal": lambda: S3Journal(where),
        "put": lambda: derivatives.put({"x": b"1"}),
        "get": lambda: derivatives.get("x"),
        "delete": lambda: derivatives.delete("x"),
        "names": lambda: list(derivatives.names()),
    }


def raised(call: Callable[[], object]) -> DaichoError:
    with pytest.raises(DaichoError) as caught:
        call()
    assert caught.value.ja and caught.value.en
    return caught.value


# Nobody there


def test_down(where: S3Settings, proxy: Proxy) -> None:
    proxy.refuse()
    for name, call in calls(through(proxy, where)).items():
        error = raised(call)
        assert (type(error), error.code, error.retryable) == (Unreachable, "store.unreachable", True), name
        assert error.__cause__ is not None
    journal = S3Journal(where)
    with Proxy(HOST, 9) as nowhere:  # accepts, and finds nobody behind
        assert raised(lambda: S3Journal(through(nowhere, where))).code == "store.unreachable"
    assert journal.last() == 0


def test_half_open(where: S3Settings, proxy: Proxy) -> None:
    """Whoever accepts and says nothing is not waited for longer than the settings say."""
    known = replace(through(proxy, where), timeout=1)
    objects, journal = S3Objects(known), S3Journal(known)
    objects.seal([version(a=b"1")])
    proxy.silence()
    for call in (lambda: objects.head("r-1"), lambda: journal.append(1, b"one"), objects.worm):
        begun = monotonic()
        assert raised(call).code == "store.unreachable"
        assert monotonic() - begun < 3
    proxy.normal()
    journal.append(1, b"one")
    assert list(S3Journal(where).segments()) == [(1, b"one")]


def test_slow(where: S3Settings, proxy: Proxy) -> None:
    objects = S3Objects(through(proxy, where))
    proxy.delay(0.05)
    [pin] = objects.seal([version(a=b"1" * 200_000)])
    assert objects.read(pin, "a") == b"1" * 200_000
    assert objects.check("r-1", [pin]).findings == []


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("after", [0, 300, 3000, 40_000, 120_000])
def test_cut_off(where: S3Settings, proxy: Proxy, way: str, after: int) -> None:
    """Wherever the line breaks, once or three times, the retry converges, and nothing is there twice."""
    objects = RetryingObjects(S3Objects(through(proxy, where)), lambda _: None)
    journal = RetryingJournal(S3Journal(through(proxy, where)), lambda _: None)
    for times in (1, 3):
        name, number = f"r-{times}", 1 if times == 1 else 2
        proxy.cut(after, way, times)  # type: ignore[arg-type]
        pins = objects.seal([version(name, a=b"1" * 50_000), version(name, 2, b=b"2" * 50_000, carried=("a",))])
        assert [objects.read(pin, "a") for pin in pins] == [b"1" * 50_000] * 2
        journal.append(number, name.encode())
        proxy.normal()
        assert S3Objects(where).check(name, pins).findings == []
        inventories = [f"{object_place(name)}/v{n}/{NAME}" for n in (1, 2)]
        assert [len(opened(where).of_key(place)) for place in (*inventories, segment_place(number))] == [1, 1, 1]


def test_cut_off_while_a_file_is_checked(where: S3Settings, proxy: Proxy) -> None:
    """A line that always breaks is no damage; the server is away."""
    objects = S3Objects(through(proxy, where))
    [pin] = objects.seal([version(a=bytes(3_000_000))])
    proxy.cut(1_000_000)
    assert raised(lambda: objects.read(pin, "a")).code == "store.unreachable"
    proxy.refuse()
    assert raised(lambda: objects.check("r-1", [pin])).code == "store.unreachable"
    proxy.normal()
    assert objects.check("r-1", [pin]).findings == []


@pytest.mark.slow
def test_killed_and_started_again(own: S3Server) -> None:
    """What was acknowledged before the server was killed is there when it is back; who had waited goes on."""
    where = own.new(timeout=5)
    create_s3_store(where, "s-1")
    objects, journal = RetryingObjects(S3Objects(where)), RetryingJournal(S3Journal(where))
    acknowledged: list[Pin] = []
    ending = threading.Event()

    def work() -> None:
        number = 1
        while not ending.is_set() or number <= 20:
            try:
                pins = objects.seal([version(f"r-{number}-{n}", a=b"%d" % number * 5000) for n in range(3)])
                journal.append(number, "\n".join(pin.digest for pin in pins).encode())
            except Unreachable:  # a loaded machine may take longer to start it than anybody retries: as a rerun does
                continue
            acknowledged.extend(pins)
            number += 1

    worker = threading.Thread(target=work)
    worker.start()
    for _ in range(3):
        sleep(0.7)
        own.kill()
        sleep(0.3)
        own.start()
    ending.set()
    worker.join(120)
    assert not worker.is_alive() and len(acknowledged) >= 60
    again = S3Objects(where)
    for pin in acknowledged:
        assert again.check(pin.object_id, [pin]).findings == [], pin
    digests = [digest for _, segment in S3Journal(where).segments() for digest in segment.decode().split()]
    assert digests == [pin.digest for pin in acknowledged]


# No room


def test_full(tmp_path: Path) -> None:
    """A real full disk where mounting is allowed: refused as full, what was sealed stays, and it goes on when there is room."""
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(tmp_path)], capture_output=True
    ).returncode:
        pytest.skip("a small disk cannot be mounted without being root: the answers of a full server are tested alone")
    try:
        with need_server(running.minio(tmp_path)) as server:
            where = server.new(timeout=10)
            create_s3_store(where, "s-1")
            objects, journal = S3Objects(where), S3Journal(where)
            [first] = objects.seal([version(a=b"1" * 1000)])
            ballast = tmp_path / "ballast"
            with pytest.raises(OSError, match="No space"), ballast.open("wb") as file:
                while True:
                    file.write(bytes(65536))
            for write in (
                lambda: objects.seal([version("r-2", a=bytes(3_000_000))]),
                lambda: journal.append(1, bytes(3_000_000)),
                lambda: S3Derivatives(where).put({"x": bytes(3_000_000)}),
            ):
                error = raised(write)
                assert (type(error), error.code, error.retryable) == (StorageFull, "storage.full", True)
            assert objects.read(first, "a") == b"1" * 1000
            assert (objects.head("r-2"), journal.last()) == (0, 0)
            ballast.unlink()
            until = monotonic() + 30  # the server looks at its disk now and then
            while True:
                try:
                    objects.seal([version("r-2", a=b"other")])
                    journal.append(1, b"one")
                    break
                except StorageFull:
                    assert monotonic() < until
                    sleep(0.5)
            assert objects.check("r-1", [first]).findings == []
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


# Who may


def test_a_wrong_password(where: S3Settings) -> None:
    for wrong in (replace(where, secret_key="x" * 20), replace(where, access_key="nobody")):
        for name, call in calls(wrong).items():
            error = raised(call)
            assert (type(error), error.code, error.retryable) == (NotReady, "store.credentials", False), name
            assert where.secret_key not in error.en + error.ja


def test_an_unknown_account_at_versitygw(versitygw: S3Server) -> None:
    where = versitygw.new()
    create_s3_store(where, "s-1")
    for wrong in (replace(where, secret_key="x" * 20), replace(where, access_key="nobody")):
        assert raised(S3Objects(wrong).strays).code == "store.credentials"


def test_no_bucket(minio: S3Server) -> None:
    where = minio.new()
    for call in (
        lambda: S3Objects(where).head("r-1"),
        lambda: S3Derivatives(where).put({"x": b""}),
        lambda: S3Journal(where),
    ):
        error = raised(call)
        assert (type(error), error.code, where.bucket in error.en) == (NotReady, "store.missing", True)


# What servers say


@pytest.mark.parametrize(
    ("status", "said", "kind", "code"),
    [
        (507, "XMinioStorageFull", StorageFull, "storage.full"),
        (400, "XMinioAdminBucketQuotaExceeded", StorageFull, "storage.full"),
        (503, "SlowDown", Unreachable, "store.unreachable"),
        (503, "ServiceUnavailable", Unreachable, "store.unreachable"),
        (500, "InternalError", Unreachable, "store.unreachable"),
        (409, "ConditionalRequestConflict", Unreachable, "store.unreachable"),
        (409, "OperationAborted", Unreachable, "store.unreachable"),
        (400, "RequestTimeout", Unreachable, "store.unreachable"),
        (403, "AccessDenied", NotReady, "store.credentials"),
        (403, "InvalidAccessKeyId", NotReady, "store.credentials"),
        (403, "RequestTimeTooSkewed", NotReady, "store.clock"),
        (404, "NoSuchBucket", NotReady, "store.missing"),
        (501, "NotImplemented", NotReady, "store.unsuitable"),
        (400, "InvalidArgument", NotReady, "store.unsuitable"),
    ],
)
def test_every_answer_has_its_code(
    minio: S3Server, where: S3Settings, status: int, said: str, kind: type[DaichoError], code: str
) -> None:
    with HttpFront(HOST, minio.port, s3_error(status, said, when=lambda _: True)) as front:
        objects = S3Objects(through(front, where))
        for call in (
            lambda: objects.seal([version(a=b"1")]),
            lambda: list(objects.objects()),
            S3Derivatives(through(front, where)).names,
        ):
            error = raised(lambda call=call: list(call() or ()))  # type: ignore[misc]
            assert (type(error), error.code, error.retryable) == (kind, code, kind is not NotReady)
            assert error.__cause__ is not None
        assert raised(lambda: objects.read(PIN, "a")).code == code


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (502, b"<html>Bad gateway</html>", "store.unreachable"),
        (507, b"full", "storage.full"),
        (403, b"<html>Forbidden</html>", "store.unsuitable"),
        (200, b"<html>Welcome", "store.unsuitable"),
        (200, b"\xff\xfe", "store.unsuitable"),
        (200, b'<!DOCTYPE x [<!ENTITY a "b">]><ListVersionsResult>&a;</ListVersionsResult>', "store.unsuitable"),
        (200, b"<L><IsTruncated>true</IsTruncated></L>", "store.unsuitable"),
        (503, b"<Error><Code>", "store.unsuitable"),
    ],
)
def test_answers_that_are_not_s3s(minio: S3Server, where: S3Settings, status: int, body: bytes, code: str) -> None:
    def change(request: Request, forward: object) -> Answer:
        kind = "application/xml" if b"<Error>" in body else "text/html"
        return Answer(status, {"content-type": kind}, body)

    with HttpFront(HOST, minio.port, change) as front:
        assert raised(S3Objects(through(front, where)).strays).code == code


def test_a_refusal_to_delete_is_a_lock_or_a_right(where: S3Settings, minio: S3Server) -> None:
    """The same 403 means one thing to the probe and another to a write."""
    denied = s3_error(403, "AccessDenied", when=lambda request: request.method == "DELETE")
    with HttpFront(HOST, minio.port, denied) as front:
        assert not opened(through(front, where)).lets_delete("probe/x", "1")
        assert raised(lambda: opened(through(front, where)).delete("probe/x", "1")).code == "store.credentials"


def test_a_probe_of_a_busy_server_is_no_verdict(where: S3Settings, minio: S3Server) -> None:
    busy = s3_error(503, "SlowDown", when=lambda request: "retention" in request.query)
    with HttpFront(HOST, minio.port, busy) as front:
        objects = S3Objects(through(front, where))
        assert raised(objects.worm).code == "store.unreachable"
        front.change = answer_with(200, when=lambda _: False)
        assert objects.worm()


def test_a_lock_switched_off_is_refused(where: S3Settings, minio: S3Server) -> None:
    """A bucket behind which somebody put another, without locks."""
    off = s3_error(400, "ObjectLockConfigurationNotFoundError", when=lambda r: "x-amz-object-lock-mode" in r.headers)
    with HttpFront(HOST, minio.port, off) as front:
        for write in (
            lambda: S3Objects(through(front, where)).seal([version(a=b"1")]),
            lambda: S3Journal(through(front, where)).append(1, b"one"),
        ):
            error = raised(write)
            assert (error.code, "Object Lock" in error.en) == ("store.unsuitable", True)
    assert (S3Objects(where).head("r-1"), S3Journal(where).last()) == (0, 0)


# The disk behind the server


def test_a_bad_disk_is_a_finding(own: S3Server, tmp_path: Path) -> None:
    """What the server cannot read any more looks like a server that is busy, for this file alone."""
    where = own.new()
    create_s3_store(where, "s-1")
    objects = S3Objects(where)
    [pin] = objects.seal([version(a=bytes(3_000_000), b=b"2" * 1000, c=b"3" * 1000)])
    [part] = (tmp_path / "minio" / where.bucket / object_place("r-1") / "v1/content/a").rglob("part.1")
    [meta] = (tmp_path / "minio" / where.bucket / object_place("r-1") / "v1/content/b").rglob("xl.meta")
    for file, at in ((part, 2_000_000), (meta, meta.read_bytes().index(b"2222") + 10)):
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)
    found = objects.check("r-1", [pin]).findings
    assert [(f.path, f.code) for f in found] == [("v1/content/a", "damaged"), ("v1/content/b", "damaged")]
    assert objects.read(pin, "c") == b"3" * 1000
    for path in "ab":
        with pytest.raises(DaichoError):
            objects.read(pin, path)


# Certificates


@contextmanager
def tls(folder: Path, port: int) -> Iterator[tuple[int, Path]]:
    """HTTPS before `port`: (its port, the certificate it shows)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bucket")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "public.pem", folder / "private.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)

    async def pump(reads: asyncio.StreamReader, writes: asyncio.StreamWriter) -> None:
        while chunk := await reads.read(65536):
            writes.write(chunk)
            await writes.drain()
        writes.close()

    async def accepted(reads: asyncio.StreamReader, writes: asyncio.StreamWriter) -> None:
        inner_reads, inner_writes = await asyncio.open_connection(HOST, port)
        await asyncio.gather(pump(reads, inner_writes), pump(inner_reads, writes), return_exceptions=True)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    listens = asyncio.run_coroutine_threadsafe(asyncio.start_server(accepted, HOST, 0, ssl=context), loop).result(10)
    try:
        yield listens.sockets[0].getsockname()[1], public
    finally:
        loop.call_soon_threadsafe(listens.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_certificates_are_verified(where: S3Settings, minio: S3Server, tmp_path: Path) -> None:
    with tls(tmp_path, minio.port) as (port, certificate):
        secure = replace(where, endpoint=f"https://{HOST}:{port}")
        assert raised(S3Objects(secure).strays).code == "store.certificate"
        assert raised(S3Objects(replace(secure, ca=str(tmp_path / "missing.pem"))).strays).code == "store.certificate"
        other = S3Objects(replace(secure, ca=str(certificate), endpoint=f"https://localhost:{port}"))
        assert raised(other.strays).code == "store.certificate"
        trusted = replace(secure, ca=str(certificate))
        objects = S3Objects(trusted)
        [pin] = objects.seal([version(a=b"1", b=b"")])
        assert (objects.read(pin, "a"), objects.check("r-1", [pin]).findings) == (b"1", [])
        S3Journal(trusted).append(1, b"one")
        assert objects.worm()


@pytest.mark.parametrize(
    "endpoint", ["", "127.0.0.1:9000", "ftp://127.0.0.1", "https://", "https://h/path", "http://h?q"]
)
def test_an_endpoint_that_is_none(where: S3Settings, endpoint: str) -> None:
    error = raised(S3Objects(replace(where, endpoint=endpoint)).strays)
    assert (type(error), error.code) == (BadInput, "settings.value")


def test_a_child_has_connections_of_its_own(where: S3Settings) -> None:
    """After a fork both go on with the store they share."""

    bucket, objects = Bucket(where, where.bucket), S3Objects(where)
    [pin] = objects.seal([version(a=b"1" * 100_000)])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            same = all(objects.read(pin, "a") == b"1" * 100_000 for _ in range(50))
            objects.seal([version("r-2", a=b"2")])
            code = 0 if same else 2
        finally:
            os._exit(code)
    assert all(objects.read(pin, "a") == b"1" * 100_000 for _ in range(50))
    objects.seal([version("r-3", a=b"3")])
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(objects.objects()) == ["r-1", "r-2", "r-3"]
    assert bucket.exists()
