"""Passwords: hashing, checking, locking after wrong ones (U-4). The journal entries about it are written by `records/`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from datetime import timedelta

from access import queries
from core.clock import Clock, stamp
from core.errors import BadInput, NotFound, NotSignedIn

FAILURES = 5
LOCKED_FOR = timedelta(minutes=15)
LENGTH = 12

COST, BLOCK, LANES = 2**15, 8, 1
"""Cost of scrypt (RFC 7914): 32 MiB and about 0.1 s a try."""


def _hashed(password: str, salt: bytes) -> str:
    digest = hashlib.scrypt(password.encode(), salt=salt, n=COST, r=BLOCK, p=LANES, maxmem=2**26)
    return f"scrypt${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _matches(password: str, stored: str) -> bool:
    return hmac.compare_digest(_hashed(password, base64.b64decode(stored.split("$")[1])), stored)


def set_password(person_id: str, password: str) -> None:
    """Store the hash of a new password; `BadInput` when it is shorter than `LENGTH` characters."""
    if len(password) < LENGTH:
        raise BadInput(
            f"パスワードが短すぎます。{LENGTH} 文字以上にしてください。",
            f"The password is too short. Use at least {LENGTH} characters.",
            code="password.short",
        )
    queries.save_credential(person_id, _hashed(password, secrets.token_bytes(16)))


def random_password() -> str:
    """A password to be printed once: four groups of four letters and digits that are not taken for one another."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(alphabet) for _ in range(4)) for _ in range(4))


def check(login: str, password: str, clock: Clock) -> str:
    """The id of the person whose login and password these are.

    Raises:
        NotSignedIn: not so, or locked; the message is the same for a login that does not exist.
    """
    refused = NotSignedIn(
        "ログイン名かパスワードが違います。続けて間違えると 15 分間入れなくなります。",
        "Login or password is wrong. After several wrong ones you cannot sign in for 15 minutes.",
    )
    person = queries.person_by_login(login)
    credential = queries.credential(person.id) if person else None
    if person is None or credential is None:
        _hashed(password, b"nobody")  # the same time for a login that does not exist
        raise refused
    if credential.locked_until > stamp(clock.now()):
        raise refused
    if not _matches(password, credential.password):
        failures = credential.failures + 1
        locked = stamp(clock.now() + LOCKED_FOR) if failures >= FAILURES else ""
        queries.save_credential(person.id, credential.password, 0 if locked else failures, locked)
        raise refused
    if credential.failures or credential.locked_until:
        queries.save_credential(person.id, credential.password)
    return person.id


def require_login_form(login: str) -> str:
    """The login if it has an allowed form, else `BadInput`."""
    if not re.fullmatch(r"[a-z][a-z0-9._-]{1,63}", login):
        raise BadInput(
            "ログイン名は英小文字で始め、英小文字・数字・. _ - の 2〜64 文字にしてください。",
            "A login starts with a lower-case letter and has 2 to 64 lower-case letters, digits, dots, underscores or hyphens.",
            code="login.form",
        )
    return login


def unknown_person() -> NotFound:
    return NotFound(
        "そのログイン名の人はいません。`daicho person list` で確かめてください。",
        "There is nobody with that login. Look at `daicho person list`.",
        code="person.not_found",
    )
