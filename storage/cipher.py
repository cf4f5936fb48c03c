"""Encryption of one file for one key, as the age format (age-encryption.org/v1), so that a standard program opens it.

Where keys come from and where files go is not decided here.
"""

from __future__ import annotations

import pyrage

from core.errors import DigestMismatch, KeysMissing


def new_identity() -> tuple[str, str]:
    """A fresh X25519 key: (`AGE-SECRET-KEY-1…`, `age1…`)."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def recipient_of(secret: str) -> str:
    """The `age1…` recipient of an `AGE-SECRET-KEY-1…`; `KeysMissing` (code `keys.wrong`) when it is no key."""
    return str(_identity(secret).to_public())


def encrypt(data: bytes, recipient: str) -> bytes:
    """`data` as a binary age file for `recipient` (`age1…`); other bytes each time. `KeysMissing` when it is no
    recipient.
    """
    try:
        to = pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError as error:
        raise _wrong() from error
    return bytes(pyrage.encrypt(data, [to]))


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
        if "No matching keys" in str(error):
            raise _wrong() from error
        raise DigestMismatch(
            "暗号化されたファイルが壊れています。控えから復元してください。",
            "The encrypted file is damaged. Restore it from the backup.",
            code="cipher.damaged",
        ) from error


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
