"""Large attachments through the real server: they come in pieces, nothing of them stays on the disk, and memory stays as it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

import pytest

from tests.installed import MEASURED, Installation, copied, done, run
from tests.web.browsing import serving
from web.bodies import LARGEST

pytestmark = pytest.mark.slow

LARGE = 192 << 20
ALLOWED = 96 << 10
"""KiB more than a command that reads one record."""

BOUNDARY = "----part----"


def signed_in(url: str, password: str) -> OpenerDirector:
    opener = build_opener(HTTPCookieProcessor(CookieJar()))
    token = csrf(opener, f"{url}sign-in/")
    sent = urlencode({"csrfmiddlewaretoken": token, "login": "officer", "password": password}).encode()
    opener.open(Request(f"{url}sign-in/", sent), timeout=60).close()
    return opener


def csrf(opener: OpenerDirector, address: str) -> str:
    return found(opener, address, r'name="csrfmiddlewaretoken" value="([^"]+)"')


def found(opener: OpenerDirector, address: str, pattern: str) -> str:
    with opener.open(address, timeout=60) as page:
        match = re.search(pattern, page.read().decode())
    assert match
    return match[1]


class Form:
    """What a browser sends for the form with one file, without holding it."""

    def __init__(self, token: str, base: int, size: int) -> None:
        fields = {"csrfmiddlewaretoken": token, "base": str(base), "why": "本人から受領"}
        head = "".join(
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        head += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="写真 {base}.raw"\r\n\r\n'
        self._head, self._size, self._tail = head.encode(), size, f"\r\n--{BOUNDARY}--\r\n".encode()
        self.length = len(self._head) + size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        for begin in range(0, self._size, 1 << 20):
            yield b"\xfe" * min(1 << 20, self._size - begin)
        yield self._tail


def upload(opener: OpenerDirector, page: str, base: int, size: int, ticket: str) -> int:
    form = Form(csrf(opener, page), base, size)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str(form.length)}
    try:
        with opener.open(Request(f"{page}attach/?ticket={ticket}", form, headers), timeout=60) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except OSError:  # the server stops listening to what it will not take
        return 413


def test_they_come_and_go_in_pieces(small: Installation, tmp_path: Path) -> None:
    place = copied(small, tmp_path)
    record = str(done("search", "--ledger", "dv-support", data=place.data)[0]["record"])
    large = tmp_path / "大きい.bin"
    with large.open("wb") as file:
        file.write(b"begins")
        file.truncate(LARGE)
    [one] = done("record", "attach", record, large, "--why", "x", data=place.data)[0]["attachments"]
    password = str(done("person", "password", "officer", data=place.data)[0]["password"])
    most = tmp_path / "most"
    run("record", "show", record, data=place.data, program=MEASURED, MOST=str(most))
    before = int(most.read_text())
    most.unlink()
    with serving(place, MEASURED, MOST=str(most)) as url:
        opener = signed_in(url, password)
        page = f"{url}records/{record}/"
        hasher = hashlib.sha256()
        with opener.open(f"{page}attachments/{one['id']}/", timeout=60) as answer:
            assert int(answer.headers["Content-Length"]) == LARGE
            while piece := answer.read(1 << 20):
                hasher.update(piece)
        assert hasher.hexdigest() == one["digest"]
        for _ in range(6):  # whoever leaves in the middle holds up nobody, more often than there are threads
            with opener.open(f"{page}attachments/{one['id']}/", timeout=60) as answer:
                assert answer.read(6) == b"begins"
        ticket = found(opener, page, r'/attach/\?ticket=([^"]+)"')
        assert upload(opener, page, 2, LARGE, ticket) == 200
        other = ticket[:-1] + ("A" if ticket[-1] != "A" else "B")
        assert [upload(opener, page, 3, LARGEST, each) for each in ("", other)] == [413, 413]
        assert upload(opener, page, 3, LARGEST - 10_000, "") == 200  # a small one needs none
        with opener.open(page, timeout=60) as answer:
            assert all(f"写真 {base}.raw" in told for told in [answer.read().decode()] for base in (2, 3))
        assert [path for path in (place.data / "scratch").rglob("*") if path.is_file()] == []
    assert int(most.read_text()) < before + ALLOWED
