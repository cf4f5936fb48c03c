"""One bucket of a server that speaks S3, with Object Lock: the only place that knows the `minio` package, signed headers,
listings in XML, and what servers answer when they refuse. What the keys mean is not known here.

Nothing is tried twice: whoever wants that wraps the ports (`storage/retrying.py`).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import os
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO
from urllib.parse import unquote_plus
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import certifi
import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.response import BaseHTTPResponse

from core.errors import BadInput, DaichoError, NotReady, StorageFull, Unreachable
from core.settings import S3Settings
from storage.port import Pacer, unhurried
from storage.streams import PIECE, Raw, buffered

CONNECTIONS = 16  # kept open for each server; more wait for nobody, they are opened and closed
_CONNECT = 10  # seconds at most to be let in, however long an answer may take

# What servers say, by their own codes: a 403 alone can be a wrong password, a missing right or a lock.
_ABSENT = {"NoSuchKey", "NoSuchVersion", "MethodNotAllowed"}  # the last: the version asked for is a delete marker
_PRESENT = {"PreconditionFailed", "BucketAlreadyOwnedByYou"}
_NOT_LOCKED = {"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"}
_ACCOUNT = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "XAdminUserNotFound",
}
_FULL = {"XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"}
_SERVERS_OWN = {"InternalError", "ServiceUnavailable"}
_LATER = {
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "RequestTimeout",
    "NoSuchUpload",  # given up by the server meanwhile: begun anew, it succeeds
    "OperationAborted",
    "ConditionalRequestConflict",
    "XMinioServerNotInitialized",
}


@dataclass(frozen=True)
class Lock:
    """A lock with a date. `mode`: COMPLIANCE or GOVERNANCE; `until`: aware."""

    mode: str
    until: datetime


@dataclass(frozen=True)
class Kept:
    """One entry of a listing: a version of a key, or (`marker`) a delete marker that hides those before it."""

    key: str
    version: str
    latest: bool
    marker: bool


@dataclass(frozen=True)
class Answered:
    """What a GET told besides the bytes: the version's id and its locks. Some servers keep silent about locks:
    `Bucket.lock_of` and `Bucket.held` ask.
    """

    version: str
    lock: Lock | None
    held: bool


@dataclass(frozen=True)
class Fetched(Answered):
    """The bytes of a version."""

    data: bytes


@dataclass(frozen=True)
class Opened(Answered):
    """A version to be read in pieces, `size` bytes in all; whoever asked closes the stream."""

    size: int
    stream: BinaryIO


@dataclass(frozen=True)
class Measured(Answered):
    """SHA-512 (hex) and length of a version that was read through without being held."""

    digest: str
    size: int


class _Client(Minio):
    """`Minio` with a request of our own making: its public methods know neither `If-None-Match` on a PUT nor versions
    in a listing that it cannot parse (versitygw writes nanoseconds).
    """

    def request(
        self,
        method: str,
        bucket: str,
        key: str | None,
        body: bytes | None,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        stream: bool,
    ) -> BaseHTTPResponse:
        # Every header is signed, so that nobody on the way can take a lock or a condition off.
        return self._execute(
            method, bucket, key, body, dict(headers), dict(query), preload_content=not stream, no_body_trace=True
        )


class Bucket:
    """The bucket `name` of the server of `where`. May be shared by threads; a forked child opens its own connections."""

    def __init__(self, where: S3Settings, name: str) -> None:
        self.name = name
        self.server = ""  # what the server calls itself, once it has answered
        self._where = where
        self._mine: tuple[int, _Client] | None = None
        self._making = threading.Lock()

    # The bucket itself

    def exists(self) -> bool:
        """Whether the bucket is there."""
        try:
            self._request("GET", query={"versioning": ""}, expect="no bucket")
        except _Said:
            return False
        return True

    def make(self, *, locks: bool) -> None:
        """Make the bucket, with Object Lock (and so with versions) when `locks`; one of ours that is there stays."""
        region = self._where.region
        place = (
            f"<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        )
        with contextlib.suppress(_Said):
            self._request(
                "PUT",
                body=None if region == "us-east-1" else place.encode(),
                headers={"x-amz-bucket-object-lock-enabled": "true"} if locks else {},
                expect="present",
            )

    def lacking(self) -> str:
        """Which of versioning and Object Lock the bucket does not have; "" when it has both."""
        if _text(self._described("versioning", "present"), "Status") != "Enabled":
            return "versioning"
        try:
            told = self._described("object-lock", "not locked")
        except _Said:
            return "Object Lock"
        return "" if _text(told, "ObjectLockEnabled") == "Enabled" else "Object Lock"

    # Reading

    def get(self, key: str, version: str = "") -> Fetched | None:
        """The newest bytes under `key`, or those of `version`; None where there are none, or a delete marker hides them."""
        try:
            answer = self._request("GET", key, query=_versioned(version), expect="absent")
        except _Said:
            return None
        return Fetched(*_answered(answer, version), answer.data)

    def open(self, key: str, version: str = "") -> Opened | None:
        """The same to be read in pieces; None as `get`."""
        try:
            answer = self._request("GET", key, query=_versioned(version), expect="absent", stream=True)
        except _Said:
            return None
        size = int(answer.headers.get("Content-Length") or 0)
        return Opened(*_answered(answer, version), size, buffered(_Body(answer, self.name)))

    def measure(self, key: str, version: str = "", pace: Pacer = unhurried) -> Measured | None:
        """Read through, holding a piece at a time, of whose length `pace` is told; None as `get`."""
        opened = self.open(key, version)
        if opened is None:
            return None
        hasher, size = hashlib.sha512(), 0
        with opened.stream as stream:
            while piece := stream.read(PIECE):
                hasher.update(piece)
                size += len(piece)
                pace(len(piece))
        return Measured(opened.version, opened.lock, opened.held, hasher.hexdigest(), size)

    def versions(self, prefix: str, after: str = "") -> Iterator[Kept]:
        """All versions and delete markers of keys that begin with `prefix` and sort behind `after` (which begins with
        it, too): keys in order, the versions of a key newest first, its markers anywhere among them.
        """
        key_marker, version_marker = after, ""
        while True:
            query = {"versions": "", "prefix": prefix, "encoding-type": "url"}
            if key_marker:
                query["key-marker"] = key_marker
            if version_marker:
                query["version-id-marker"] = version_marker
            page = _parsed(self._request("GET", query=query).data)
            # Keys that XML cannot hold come encoded, from servers that say so.
            written = unquote_plus if _text(page, "EncodingType") == "url" else str
            entries = [
                Kept(
                    written(_text(entry, "Key")),
                    _text(entry, "VersionId"),
                    _text(entry, "IsLatest") == "true",
                    _name(entry) == "DeleteMarker",
                )
                for entry in page
                if _name(entry) in ("Version", "DeleteMarker")
            ]
            # Some servers tell all markers of a page first, and some begin with the key that was to be left behind.
            yield from sorted((kept for kept in entries if kept.key > after), key=lambda kept: kept.key)
            if _text(page, "IsTruncated") != "true":
                return
            following = written(_text(page, "NextKeyMarker")), _text(page, "NextVersionIdMarker")
            if following in ((key_marker, version_marker), ("", "")):
                raise _unsuitable("listing that does not go on")
            key_marker, version_marker = following

    def of_key(self, key: str) -> list[Kept]:
        """The versions of exactly this key, newest first, markers left out."""
        # A key comes before the longer ones that begin with it.
        same = itertools.takewhile(lambda kept: kept.key == key, self.versions(key))
        return [kept for kept in same if not kept.marker]

    # Writing

    def put(self, key: str, data: bytes, lock: Lock | None = None, *, once: bool = False) -> str | None:
        """Put bytes under `key`, locked from the first moment; durable on return. The id of the version they became.

        `once`: only where nothing lies; None when something does. Some servers put behind a delete marker all the same.
        """
        headers = {"If-None-Match": "*"} if once else {}
        if lock:
            headers |= _locked(lock) | _md5(data)  # servers may insist on the sum where a lock is asked for
        try:
            answer = self._request("PUT", key, body=data, headers=headers, expect="present")
        except _Said:
            return None
        return answer.headers.get("x-amz-version-id") or ""

    def put_parts(self, key: str, parts: Iterable[bytes], lock: Lock) -> None:
        """Put what need not be held whole under `key`, a part at a time (all but the last of 5 MiB or more, 10,000 at
        most), locked from the first moment; durable on return.

        What `parts` raises leaves nothing under the key. A process that dies leaves parts that nobody sees but the
        server, which gives them up after a while.
        """
        begun = _parsed(self._request("POST", key, headers=_locked(lock), query={"uploads": ""}).data)
        upload = {"uploadId": _text(begun, "UploadId")}
        try:
            tags = []
            for number, part in enumerate(parts, 1):
                answer = self._request("PUT", key, body=part, query={"partNumber": str(number), **upload})
                tags.append(answer.headers.get("ETag") or "")
            listed = "".join(
                f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>"
                for number, tag in enumerate(tags, 1)
            )
            body = f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{listed}</CompleteMultipartUpload>'.encode()
            told = _parsed(self._request("POST", key, body=body, query=upload).data)
            if _name(told) == "Error":  # begun as a success, so that the connection lives while the server is at work
                raise _unsuitable(_text(told, "Code")) if _text(told, "Code") not in _SERVERS_OWN else unreachable()
        except BaseException:
            with contextlib.suppress(DaichoError):
                self._request("DELETE", key, query=upload)
            raise

    def delete(self, key: str, version: str = "") -> None:
        """Remove a version, or hide the key behind a delete marker when none is given; nothing there is no error."""
        with contextlib.suppress(_Said):
            self._request("DELETE", key, query=_versioned(version), expect="absent")

    # Locks

    def lock_of(self, key: str, version: str) -> Lock | None:
        """The lock with a date, None where there is none."""
        try:
            told = self._described("retention", "not locked", key, version)
        except _Said:
            return None
        mode, until = _text(told, "Mode"), _text(told, "RetainUntilDate")
        return Lock(mode, _read_moment(until)) if mode and until else None

    def lock(self, key: str, version: str, lock: Lock) -> None:
        """Set the lock with a date, claiming no right to go round one that is there."""
        self._request("PUT", key, body=_retention(lock), query={"retention": "", **_versioned(version)})

    def held(self, key: str, version: str) -> bool:
        """Whether a legal hold is on."""
        try:
            return _text(self._described("legal-hold", "not locked", key, version), "Status") == "ON"
        except _Said:
            return False

    def hold(self, key: str, version: str, *, on: bool) -> None:
        """Put a legal hold on, or take it away."""
        body = f'<LegalHold xmlns="{_NAMESPACE}"><Status>{"ON" if on else "OFF"}</Status></LegalHold>'.encode()
        self._request("PUT", key, body=body, query={"legal-hold": "", **_versioned(version)})

    def lets_delete(self, key: str, version: str, *, bypass: bool = False) -> bool:
        """Try to remove a version, `bypass`: claiming the right to go round GOVERNANCE; whether the server agreed."""
        return self._lets("DELETE", key, _versioned(version), None, bypass)

    def lets_lock(self, key: str, version: str, lock: Lock | None, *, bypass: bool = False) -> bool:
        """Try to set another lock (None: none at all); whether the server agreed."""
        return self._lets("PUT", key, {"retention": "", **_versioned(version)}, _retention(lock), bypass)

    def _lets(self, method: str, key: str, query: Mapping[str, str], body: bytes | None, bypass: bool) -> bool:
        headers = {"x-amz-bypass-governance-retention": "true"} if bypass else {}
        try:
            self._request(method, key, body=body, query=query, headers=headers, expect="refused")
        except _Said:
            return False
        return True

    # Requests

    def _described(self, what: str, expect: str, key: str | None = None, version: str = "") -> ElementTree.Element:
        return _parsed(self._request("GET", key, query={what: "", **_versioned(version)}, expect=expect).data)

    def _request(
        self,
        method: str,
        key: str | None = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        expect: str = "",
        stream: bool = False,
    ) -> BaseHTTPResponse:
        """The server's answer. `_Said` when it refuses in the way that the caller expects, else an error of ours."""
        sent = dict(headers or {})
        if body is not None and query:
            sent |= _md5(body)  # asked for with every description in XML
        try:
            answer = self._client.request(method, self.name, key, body, sent, query or {}, stream)
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ElementTree.ParseError, ValueError) as error:
            if expect in _kinds(error):
                raise _Said(expect) from error
            raise _ours(error, self.name) from error
        self.server = answer.headers.get("Server") or self.server
        return answer

    @property
    def _client(self) -> _Client:
        with self._making:
            if self._mine is None or self._mine[0] != os.getpid():  # connections cannot be shared with a parent
                self._mine = (os.getpid(), _opened(self._where))
            return self._mine[1]


class _Body(Raw):
    """The body of an answer; a connection that was not read to the end is given up."""

    def __init__(self, answer: BaseHTTPResponse, bucket: str) -> None:
        self._answer = answer
        self._bucket = bucket

    def _next(self, size: int) -> bytes:
        try:
            return self._answer.read(size)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _ours(error, self._bucket) from error

    def close(self) -> None:
        if not self.closed:
            self._answer.close()
            self._answer.release_conn()
        super().close()


class _Said(Exception):
    """The server refused in a way that a caller is prepared for."""


_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def _opened(where: S3Settings) -> _Client:
    scheme, _, host = where.endpoint.partition("://")
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=min(where.timeout, _CONNECT), read=where.timeout),
        maxsize=CONNECTIONS,
        retries=False,
        cert_reqs="CERT_REQUIRED",
        ca_certs=where.ca or certifi.where(),
    )
    try:
        if scheme not in ("http", "https") or not host:
            raise ValueError("neither http nor https, or no host")
        return _Client(
            host.rstrip("/"),
            where.access_key,
            where.secret_key,
            secure=scheme == "https",
            region=where.region,
            http_client=pool,
        )
    except ValueError as error:
        raise BadInput(
            "設定 [store] の endpoint が正しくありません。https://名前:ポート の形で書いてください。",
            "endpoint in [store] of the settings is wrong. Write it as https://host:port.",
            code="settings.value",
        ) from error


def _kinds(error: Exception) -> set[str]:
    """In which of the ways that callers know the server refused."""
    if not isinstance(error, S3Error):
        return set()
    code, kinds = error.code or "", set()
    if code in _ABSENT:
        kinds.add("absent")
    if code in _PRESENT:
        kinds.add("present")
    if code == "NoSuchBucket":
        kinds.add("no bucket")
    if code in _NOT_LOCKED or (code == "InvalidRequest" and "missing object" in (error.message or "").lower()):
        kinds.add("not locked")
    if 400 <= _status(error) < 500 and code not in _ACCOUNT | _LATER | _FULL | {"NoSuchBucket", "RequestTimeTooSkewed"}:
        kinds.add("refused")
    return kinds


def _ours(error: Exception, bucket: str) -> DaichoError:
    """The coded error for what the client or the server said."""
    code = (error.code or "") if isinstance(error, S3Error) else ""
    status = _status(error)
    # MinIO calls it an internal error until it has looked at its disks again.
    if code in _FULL or status == 507 or (code == "InternalError" and "no space left on device" in str(error)):
        return StorageFull(
            "オブジェクトストレージに空きがありません。空きを作ってからやり直してください。確定済みのものは無事です。",
            "The object storage has no room left. Make room and try again; what was acknowledged is safe.",
        )
    if code == "AccessDenied" or code in _ACCOUNT:
        return NotReady(
            f"オブジェクトストレージが断りました（{code}）。設定 [store] の access_key と secret_key、その権限を確かめてください。",
            f"The object storage refused ({code}). Check access_key and secret_key in [store] of the settings, and their rights.",
            code="store.credentials",
        )
    if code == "NoSuchBucket":
        return NotReady(
            f"バケット {bucket} がありません。設定 [store] を確かめるか、`daicho init` で作ってください。",
            f"There is no bucket {bucket}. Check [store] in the settings, or make it with `daicho init`.",
            code="store.missing",
        )
    if code == "RequestTimeTooSkewed":
        return NotReady(
            "この機械とオブジェクトストレージの時計が合っていません。両方の時計を合わせてください。",
            "The clocks of this machine and of the object storage differ. Set both.",
            code="store.clock",
        )
    if isinstance(error, urllib3.exceptions.SSLError) and isinstance(
        error.args[0], ssl.SSLCertVerificationError | FileNotFoundError
    ):
        return NotReady(
            "オブジェクトストレージの証明書を確かめられません。設定 [store] の ca に認証局の証明書を指定してください。",
            "The certificate of the object storage cannot be verified. Name its authority's in [store] of the settings as ca.",
            code="store.certificate",
        )
    if status == 501:
        return _unsuitable(code or "answer 501")
    if code in _LATER or status >= 500 or isinstance(error, urllib3.exceptions.HTTPError | OSError):
        return unreachable()
    if "not locked" in _kinds(error):
        return _unsuitable("Object Lock")
    return _unsuitable(code or f"answer {status}" if status else type(error).__name__)


def unreachable() -> Unreachable:
    """The server does not answer, or not in time."""
    return Unreachable(
        "オブジェクトストレージが応答しません。動いているか、つながるかを確かめてください。確定済みのものは無事です。",
        "The object storage does not answer. Check that it runs and can be reached; what was acknowledged is safe.",
        code="store.unreachable",
    )


def _status(error: Exception) -> int:
    """The HTTP status behind an error, 0 where there was no answer."""
    if isinstance(error, S3Error):
        return error.response.status
    if isinstance(error, ServerError):
        return error.status_code
    if isinstance(error, InvalidResponseError):
        return int(error.args[0].partition("Response code: ")[2].partition(",")[0])
    return 0


def _unsuitable(what: str) -> NotReady:
    return NotReady(
        f"このオブジェクトストレージは使えません（{what}）。Object Lock と条件付き書込みのあるバケットを使ってください。",
        f"This object storage cannot be used ({what}). Use a bucket with Object Lock and conditional writes.",
        code="store.unsuitable",
    )


def _answered(answer: BaseHTTPResponse, version: str) -> tuple[str, Lock | None, bool]:
    said = answer.headers
    mode, until = said.get("x-amz-object-lock-mode"), said.get("x-amz-object-lock-retain-until-date")
    lock = Lock(mode, _read_moment(until)) if mode and until else None
    return said.get("x-amz-version-id") or version, lock, said.get("x-amz-object-lock-legal-hold") == "ON"


def _versioned(version: str) -> dict[str, str]:
    return {"versionId": version} if version else {}


def _locked(lock: Lock) -> dict[str, str]:
    return {
        "x-amz-object-lock-mode": lock.mode,
        "x-amz-object-lock-retain-until-date": _moment(lock.until),
    }


def _md5(data: bytes) -> dict[str, str]:
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return {"Content-MD5": base64.b64encode(digest).decode()}


def _retention(lock: Lock | None) -> bytes:
    inner = f"<Mode>{lock.mode}</Mode><RetainUntilDate>{_moment(lock.until)}</RetainUntilDate>" if lock else ""
    return f'<Retention xmlns="{_NAMESPACE}">{inner}</Retention>'.encode()


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _parsed(data: bytes) -> ElementTree.Element:
    try:
        text = data.decode()
        if "<!DOCTYPE" in text:  # where entities would be declared
            raise ValueError("a document type")
        return ElementTree.fromstring(text)  # noqa: S314
    except (ValueError, ElementTree.ParseError) as error:
        raise _unsuitable("answer that is not S3's") from error


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(element: ElementTree.Element, name: str) -> str:
    """Text of the child called `name` in any namespace: servers differ; "" where there is none."""
    return next((child.text or "" for child in element if _name(child) == name), "")
