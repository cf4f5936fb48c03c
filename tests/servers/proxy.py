"""A bad network, and a server that lies: what stands between a client and a real server in tests of faults.

`Proxy` passes bytes and can delay, cut and say nothing. `HttpFront` passes whole requests and answers and lets a test change both; `drop`,
`answer_with`, `compliance_in_name_only` and their like are such changes for S3, signed anew, so that the server behind accepts them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3

from core.settings import S3Settings
from tests.servers.running import HOST, free_port

Way = Literal["up", "down"]  # to the server, to the client

# What both sides of a TCP connection see of an abortive close: a reset, no orderly end.
_RESET = struct.pack("ii", 1, 0)


@dataclass
class _Faults:
    """What is wrong with the network now."""

    delay: float = 0.0
    silent: bool = False
    cut_way: Way | None = None
    cut_after: int = 0
    cut_times: int | None = None
    passed: int = 0


@dataclass(eq=False)
class _Link:
    """One connection of a client and ours to the server on its behalf."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None and not writer.transport.is_closing():
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
        for task in self.tasks:
            task.cancel()


class Proxy:
    """A TCP proxy on a port of loopback before `host:port`, good until a method makes it bad.

    A method returns when the fault is in force. Faults add up (slow and cut); `normal()` ends all of them.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = free_port()
        self._target = (host, port)
        self._faults = _Faults()
        self._links: set[_Link] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.connections = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def normal(self) -> None:
        """Pass everything at once again. What was held back in silence goes on its way."""

        async def change() -> None:
            self._faults = _Faults()
            await self._listen()

        self._do(change())

    def delay(self, seconds: float) -> None:
        """Hold each chunk (of at most 64 KiB) for so long, both ways."""

        async def change() -> None:
            self._faults.delay = seconds

        self._do(change())

    def cut(self, after: int = 0, way: Way = "down", times: int | None = None) -> None:
        """Reset the connection on which the byte after the next `after` bytes would pass; what is before it passes.

        Args:
            after: bytes of all connections from now, or from the last cut. 0 and "down": the server gets the request and works, the client
                never hears of it.
            times: so many cuts, then the network is good; None for ever.
        """

        async def change() -> None:
            self._faults.cut_way, self._faults.cut_after, self._faults.cut_times = way, after, times
            self._faults.passed = 0

        self._do(change())

    def cut_now(self) -> None:
        """Reset every open connection. New ones are as good as before."""

        async def change() -> None:
            for link in list(self._links):
                link.reset()

        self._do(change())

    def silence(self) -> None:
        """Accept connections, pass nothing, say nothing, either way: a half-open connection, as behind a firewall that forgot it."""

        async def change() -> None:
            self._faults.silent = True

        self._do(change())

    def refuse(self) -> None:
        """Refuse new connections and reset the open ones: nobody listens."""

        async def change() -> None:
            await self._deafen()
            for link in list(self._links):
                link.reset()

        self._do(change())

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accepted, HOST, self.port)

    async def _deafen(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _close(self) -> None:
        await self._deafen()
        tasks = [task for link in self._links for task in link.tasks]
        for link in list(self._links):
            link.reset()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accepted(self, client_reads: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = _Link(client)
        task = asyncio.current_task()
        assert task is not None
        link.tasks.append(task)
        self._links.add(link)
        try:
            server_reads, link.server = await asyncio.open_connection(*self._target)
            pumps = [
                asyncio.ensure_future(self._pump(client_reads, link.server, "up", link)),
                asyncio.ensure_future(self._pump(server_reads, client, "down", link)),
            ]
            link.tasks += pumps
            await asyncio.gather(*pumps)
        except (OSError, asyncio.CancelledError):
            # The server is down or reset the connection, or a fault was asked for: the client sees a reset.
            link.reset()
        finally:
            self._links.discard(link)
            for writer in (link.client, link.server):
                if writer is not None:
                    writer.close()

    async def _pump(self, reads: asyncio.StreamReader, writes: asyncio.StreamWriter, way: Way, link: _Link) -> None:
        while True:
            chunk = await reads.read(65536)
            if self._faults.delay:
                await asyncio.sleep(self._faults.delay)
            while self._faults.silent:
                await asyncio.sleep(0.02)
            if not chunk:
                break
            faults = self._faults
            if faults.cut_way == way:
                rest = faults.cut_after - faults.passed
                if len(chunk) > rest:
                    await self._cut(writes, chunk[:rest], link)
                    return
                faults.passed += len(chunk)
            writes.write(chunk)
            await writes.drain()
        with contextlib.suppress(OSError):
            writes.write_eof()

    async def _cut(self, writes: asyncio.StreamWriter, last: bytes, link: _Link) -> None:
        faults = self._faults
        faults.passed = 0
        if faults.cut_times is not None:
            faults.cut_times -= 1
            if faults.cut_times <= 0:
                faults.cut_way = None
        if last:
            writes.write(last)
            await writes.drain()
            # A reset overtakes bytes that the other side has not read yet.
            await asyncio.sleep(0.05)
        link.reset()


@dataclass(frozen=True)
class Request:
    """What a client sent. `target` is path and query; names of headers are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """Parameters of the query; "" for one without a value."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass(frozen=True)
class Answer:
    """What a server says; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


Forward = Callable[[Request], Answer]
Change = Callable[[Request, Forward], Answer]


class HttpFront:
    """An HTTP server on a port of loopback that asks another one, and lets `change` do what it wants in between.

    `change(request, forward)` returns the answer: `forward(request)` is the honest one. Set the attribute to change it between requests. Bodies are
    held in memory whole. The header `host` stays the client's, over which S3 signs.
    """

    def __init__(self, host: str, port: int, change: Change | None = None) -> None:
        self.port = free_port()
        self.change: Change = change or honest
        self.requests: list[Request] = []
        self._target = (host, port)

    def __enter__(self) -> Self:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body are two sends: the second would wait for the client's acknowledgement of the first, 0.04 s.
            disable_nagle_algorithm = True

            def do(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                request = Request(
                    self.command,
                    self.path,
                    {name.lower(): value for name, value in self.headers.items()},
                    self.rfile.read(length),
                )
                front.requests.append(request)
                answer = front.change(request, front._forward)
                # Names and values as the server gave them, and no second Date and Server.
                self.send_response_only(answer.status)
                for name, value in answer.headers.items():
                    if name not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                if answer.status not in (204, 304):
                    length_told = answer.headers.get("content-length") if request.method == "HEAD" else None
                    self.send_header("content-length", length_told or str(len(answer.body)))
                self.end_headers()
                if request.method != "HEAD":
                    self.wfile.write(answer.body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do  # noqa: N815 (http.server names them)

            def log_message(self, format: str, *arguments: object) -> None:
                """The test says what it saw."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that went away is part of the test."""

        self._server = Quiet((HOST, self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _forward(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(*self._target, timeout=60)
        try:
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name not in ("content-length", "connection"):
                    connection.putheader(name, value)
            if request.body or request.method in ("PUT", "POST"):
                connection.putheader("content-length", str(len(request.body)))
            connection.endheaders(request.body or None)
            answered = connection.getresponse()
            headers = {name.lower(): value for name, value in answered.getheaders()}
            return Answer(answered.status, headers, answered.read())
        finally:
            connection.close()


def honest(request: Request, forward: Forward) -> Answer:
    """No change."""
    return forward(request)


def answer_with(status: int, body: bytes = b"", *, when: Callable[[Request], bool]) -> Change:
    """Answer those requests so, without asking the server; the others honestly."""

    def change(request: Request, forward: Forward) -> Answer:
        return Answer(status, {"content-type": "application/xml"}, body) if when(request) else forward(request)

    return change


def s3_error(status: int, code: str, *, when: Callable[[Request], bool]) -> Change:
    """Answer those requests with an error of S3, as (507, "XMinioStorageFull") or (503, "SlowDown")."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return answer_with(status, body.encode("ascii"), when=when)


def writes(request: Request) -> bool:
    """Is this a request that writes?"""
    return request.method in ("PUT", "POST")


def signed(request: Request, where: S3Settings) -> Request:
    """The request signed anew for these credentials, over its present headers and body; a presigned address becomes signed headers."""
    parts = urlsplit(request.target)
    query = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if not name.lower().startswith("x-amz-")
    ]
    target = parts.path + ("?" + urlencode(query, quote_via=quote, safe="~") if query else "")
    digest = hashlib.sha256(request.body).hexdigest()
    now = datetime.now(UTC)
    unsigned = ("authorization", "connection", "content-length")
    headers = {name: value for name, value in request.headers.items() if name not in unsigned}
    if "content-md5" in headers:
        headers["content-md5"] = base64.b64encode(hashlib.md5(request.body, usedforsecurity=False).digest()).decode(
            "ascii"
        )
    headers |= {"x-amz-content-sha256": digest, "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ")}
    url = urlsplit(f"http://{headers['host']}{target}")
    new = sign_v4_s3(
        method=request.method,
        url=url,
        region=where.region,
        headers={**headers},
        credentials=Credentials(where.access_key, where.secret_key),
        content_sha256=digest,
        date=now,
    )
    return replace(request, target=target, headers={name.lower(): str(value) for name, value in new.items()})


def drop(where: S3Settings, *prefixes: str) -> Change:
    """A server that does not know request headers that begin so: drop(where, "if-none-match") writes over what is there."""

    def change(request: Request, forward: Forward) -> Answer:
        kept = {name: value for name, value in request.headers.items() if not name.startswith(prefixes)}
        if len(kept) == len(request.headers):
            return forward(request)
        return forward(signed(replace(request, headers=kept), where))

    return change


def compliance_in_name_only(where: S3Settings) -> Change:
    """A server that says COMPLIANCE and lets its locks be shortened, lifted and their versions deleted.

    MinIO behind it locks with GOVERNANCE and is told each time that the lock may be passed over.
    """

    def change(request: Request, forward: Forward) -> Answer:
        headers = dict(request.headers)
        mode = "x-amz-object-lock-mode"
        if headers.get(mode) == "COMPLIANCE":
            headers[mode] = "GOVERNANCE"
        body = request.body
        if {"retention", "object-lock"} & set(request.query):
            body = body.replace(b"COMPLIANCE", b"GOVERNANCE")
        if request.method == "DELETE" or "retention" in request.query or "delete" in request.query:
            headers["x-amz-bypass-governance-retention"] = "true"
        answer = forward(signed(replace(request, headers=headers, body=body), where))
        told = {name: "COMPLIANCE" if name == mode else value for name, value in answer.headers.items()}
        is_lock = {"retention", "object-lock"} & set(request.query)
        return replace(answer, headers=told, body=_as_compliance(answer.body) if is_lock else answer.body)

    return change


def _as_compliance(body: bytes) -> bytes:
    return re.sub(rb"<Mode>GOVERNANCE</Mode>", b"<Mode>COMPLIANCE</Mode>", body)
