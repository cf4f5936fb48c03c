"""Encryption of one file for one key, as the age format (age-encryption.org/v1), so that a standard program opens it.

Where keys come from and where files go is not decided here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO, Protocol

import pyrage

from core.errors import DaichoError, DigestMismatch, KeysMissing

_PIECE = 1 << 18  # bytes at a time


def new_identity() -> tuple[str, str]:
    """A fresh X25519 key: (`AGE-SECRET-KEY-1…`, `age1…`)."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def recipient_of(secret: str) -> str:
    """The `age1…` recipient of an `AGE-SECRET-KEY-1…`; `KeysMissing` (code `keys.wrong`) when it is no key."""
    return str(_identity(secret).to_public())


def is_recipient(text: str) -> bool:
    """Whether it is an `age1…` recipient that something can be encrypted to."""
    try:
        pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        return False
    return True


def encrypt(data: bytes, recipient: str) -> bytes:
    """`data` as a binary age file for `recipient` (`age1…`); other bytes each time. `KeysMissing` when it is no
    recipient.
    """
    return bytes(pyrage.encrypt(data, [_recipient(recipient)]))


def decrypt(data: bytes, secret: str) -> bytes:
    """The plaintext of an age file.

    `KeysMissing` (code `keys.wrong`) when `secret` does not open it; `DigestMismatch` (code `cipher.damaged`) when
    the file is not what was written. Damage in the few header bytes that name the key cannot be told from a wrong key
    and is reported as such: the digests of the store say which it is.
    """
    identity = _identity(secret)
    try:
        return bytes(pyrage.decrypt(data, [identity]))
    except pyrage.DecryptError as error:
        raise _not_opened(error) from error


class Readable(Protocol):
    """What bytes are read from, none at the end."""

    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    """What bytes are written to; takes all it is given."""

    def write(self, data: bytes, /) -> object: ...


def encrypt_stream(source: Readable, target: Writable, recipient: str) -> None:
    """As `encrypt`, from `source` to `target` in pieces; what either raises is raised here."""
    to = _recipient(recipient)
    if error := _piped(source, target, lambda reader, writer: pyrage.encrypt_io(reader, writer, [to])):
        raise error


def decrypt_stream(source: Readable, target: Writable, secret: str) -> None:
    """As `decrypt`, from `source` to `target` in pieces; what either raises is raised here.

    Damage, and a file that was cut short, is told at the latest at the end: until this returns, nothing that `target`
    got may be used for good. `source` is read to its end.
    """
    identity = _identity(secret)
    if error := _piped(source, target, lambda reader, writer: pyrage.decrypt_io(reader, writer, [identity])):
        raise _not_opened(error) from error
    if source.read(1):
        raise _damaged()


def decrypted(source: BinaryIO, secret: str) -> Iterator[bytes]:
    """As `decrypt`, in pieces for whoever asks for them one by one; closes `source`.

    Damage is raised at the latest where the end would be told: until then nothing of the pieces may be used for good.
    """
    failed: list[BaseException] = []

    def work(into: int) -> None:
        try:
            with os.fdopen(into, "wb") as target:
                decrypt_stream(source, target, secret)
        except BaseException as error:
            failed.append(error)

    # The library writes when it likes; a pipe lets us ask for pieces instead, and holds it back until we do.
    out, into = os.pipe()
    worker = threading.Thread(target=work, args=(into,), daemon=True)
    with ExitStack() as ends:
        ends.callback(source.close)
        ends.callback(worker.join)
        reader = ends.enter_context(os.fdopen(out, "rb", buffering=_PIECE))
        worker.start()
        while piece := reader.read(_PIECE):
            yield piece
        worker.join()
        if failed:
            raise failed[0]


def _piped(source: Readable, target: Writable, work: Callable[[_End, _End], None]) -> Exception | None:
    """Let the library work from `source` to `target`; its complaint, None for none.

    What the two raise is raised again: the library hides it behind errors of its own, and does not tell at all when the
    last write fails.
    """
    reader, writer = _End(source.read), _End(target.write)
    complaint = None
    try:
        work(reader, writer)
    except Exception as error:
        complaint = error
    if failed := reader.failed or writer.failed:
        raise failed
    return complaint


class _End:
    """One end of what the library reads or writes; keeps what went wrong there."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self._call = call
        self.failed: BaseException | None = None

    def read(self, size: int) -> Any:
        return self._noted(size)

    def write(self, data: bytes) -> int:
        self._noted(data)
        return len(data)

    def _noted(self, argument: Any) -> Any:
        try:
            return self._call(argument)
        except BaseException as error:
            self.failed = error
            raise


def _recipient(text: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise _wrong() from error


def _not_opened(error: Exception) -> DaichoError:
    return _wrong() if "No matching keys" in str(error) else _damaged()


def _damaged() -> DigestMismatch:
    return DigestMismatch(
        "暗号化されたファイルが壊れています。控えから復元してください。",
        "The encrypted file is damaged. Restore it from the backup.",
        code="cipher.damaged",
    )


def _identity(secret: str) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(secret.strip())
    except pyrage.IdentityError:
        # Not chained: what the library says of a malformed secret could quote it.
        raise _wrong() from None


def _wrong() -> KeysMissing:
    return KeysMissing(
        "この鍵では開けません。この保管庫の鍵フォルダーを指定しているか確かめてください。",
        "This key does not open it. Check that the key folder given is the one of this store.",
        code="keys.wrong",
    )
