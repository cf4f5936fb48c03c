"""age files that a standard program opens, and damage that is noticed."""

from __future__ import annotations

import errno
import io
import random
import subprocess
from pathlib import Path

import pytest

from core.errors import DigestMismatch, KeysMissing
from storage.cipher import (
    decrypt,
    decrypt_stream,
    decrypted,
    encrypt,
    encrypt_stream,
    is_recipient,
    new_identity,
    recipient_of,
)
from tests.machine import need


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_round_trip(size: int) -> None:
    secret, recipient = new_identity()
    data = random.Random(size).randbytes(size)
    closed = encrypt(data, recipient)
    assert closed.startswith(b"age-encryption.org/v1\n")
    assert decrypt(closed, secret) == data
    assert encrypt(data, recipient) != closed
    assert recipient_of(secret) == recipient


def test_the_standard_program_opens_ours_and_we_open_its(tmp_path: Path) -> None:
    need("age")
    secret, recipient = new_identity()
    data = bytes(range(256)) * 500
    (tmp_path / "key").write_text(secret + "\n")
    (tmp_path / "ours").write_bytes(encrypt(data, recipient))
    opened = subprocess.run(
        ["age", "-d", "-i", str(tmp_path / "key"), str(tmp_path / "ours")], capture_output=True, check=True
    )
    assert opened.stdout == data
    closed = subprocess.run(["age", "-r", recipient], input=data, capture_output=True, check=True)
    assert decrypt(closed.stdout, secret) == data


def test_another_key_does_not_open_it() -> None:
    _, recipient = new_identity()
    other, _ = new_identity()
    for secret in (other, "", "AGE-SECRET-KEY-1NONSENSE", recipient):
        with pytest.raises(KeysMissing) as caught:
            decrypt(encrypt(b"x", recipient), secret)
        assert caught.value.code == "keys.wrong"
        assert not secret or secret not in str(caught.value) + caught.value.ja
    with pytest.raises(KeysMissing):
        encrypt(b"x", "age1nonsense")


def test_any_flipped_bit_and_any_cut_is_noticed() -> None:
    secret, recipient = new_identity()
    closed = encrypt(b"text", recipient)
    codes = set()
    for bit in range(len(closed) * 8):
        bent = bytearray(closed)
        bent[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises((DigestMismatch, KeysMissing)) as caught:
            decrypt(bytes(bent), secret)
        codes.add(caught.value.code)
    assert codes == {"cipher.damaged", "keys.wrong"}
    for length in range(len(closed)):
        with pytest.raises(DigestMismatch):
            decrypt(closed[:length], secret)
    with pytest.raises(DigestMismatch):
        decrypt(closed + b"\x00", secret)


# In pieces

CHUNK = 65536
"""Bytes that age encrypts together."""


def closed_in_pieces(data: bytes, recipient: str) -> bytes:
    target = io.BytesIO()
    encrypt_stream(io.BytesIO(data), target, recipient)
    return target.getvalue()


def opened_in_pieces(closed: bytes, secret: str) -> bytes:
    """Opened both ways, which must agree."""
    target, source = io.BytesIO(), io.BytesIO(closed)
    decrypt_stream(source, target, secret)
    again = io.BytesIO(closed)
    assert b"".join(decrypted(again, secret)) == target.getvalue()
    assert again.closed and not source.read()
    return target.getvalue()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 3_000_000])
def test_pieces_and_the_whole_open_each_other(size: int) -> None:
    secret, recipient = new_identity()
    data = random.Random(size).randbytes(size)
    assert decrypt(closed_in_pieces(data, recipient), secret) == data
    assert opened_in_pieces(encrypt(data, recipient), secret) == data


def test_a_stream_that_was_cut_or_bent_does_not_end_well() -> None:
    secret, recipient = new_identity()
    closed = encrypt(random.Random(0).randbytes(3 * CHUNK), recipient)
    start = len(closed) - 3 * (CHUNK + 16)
    cuts = [0, 10, start - 16, start, start + 100, start + CHUNK + 16, start + 2 * (CHUNK + 16), len(closed) - 1]
    bent = [bytearray(closed) for _ in cuts]
    for data, at in zip(bent, cuts, strict=True):
        data[at] ^= 1
    for wrong in (*(closed[:cut] for cut in cuts), *map(bytes, bent), closed + b"\x00", closed + closed):
        for work in (
            lambda it: decrypt_stream(io.BytesIO(it), io.BytesIO(), secret),
            lambda it: list(decrypted(io.BytesIO(it), secret)),
        ):
            with pytest.raises((DigestMismatch, KeysMissing)) as caught:
                work(wrong)
            assert caught.value.code in ("cipher.damaged", "keys.wrong")
    with pytest.raises(KeysMissing):
        decrypt_stream(io.BytesIO(closed), io.BytesIO(), new_identity()[0])


class Failing(io.RawIOBase):
    """Takes or gives so many bytes, then fails."""

    def __init__(self, after: int) -> None:
        self.left = after

    def write(self, data: object) -> int:
        assert isinstance(data, bytes)
        self.left -= len(data)
        if self.left < 0:
            raise OSError(errno.ENOSPC, "full")
        return len(data)

    def read(self, size: int = -1) -> bytes:
        self.left -= size
        if self.left < 0:
            raise OSError(errno.EIO, "lost")
        return b"x" * size


def test_what_the_ends_raise_is_raised_up_to_the_last_byte() -> None:
    """The library keeps its last bytes back and swallows what goes wrong when it lets go of them."""
    secret, recipient = new_identity()
    data = b"x" * (CHUNK + 100)
    closed = encrypt(data, recipient)
    for room in (0, 1, 100, 8192, CHUNK, len(data) - 1):
        with pytest.raises(OSError, match="full"):
            decrypt_stream(io.BytesIO(closed), Failing(room), secret)
        with pytest.raises(OSError, match="full"):
            encrypt_stream(io.BytesIO(data), Failing(room), recipient)
    with pytest.raises(OSError, match="full"):
        encrypt_stream(io.BytesIO(data), Failing(CHUNK + 150), recipient)
    with pytest.raises(OSError, match="lost"):
        encrypt_stream(Failing(20_000), io.BytesIO(), recipient)
    with pytest.raises(OSError, match="lost"):
        decrypt_stream(Failing(20_000), io.BytesIO(), secret)
    decrypt_stream(io.BytesIO(closed), Failing(len(data)), secret)


def test_pieces_may_be_left(tmp_path: Path) -> None:
    secret, recipient = new_identity()
    closed = io.BytesIO(encrypt(b"x" * 5_000_000, recipient))
    for piece in decrypted(closed, secret):
        assert piece
        break
    assert closed.closed
    with pytest.raises(KeysMissing):
        encrypt_stream(io.BytesIO(), io.BytesIO(), "age1nonsense")
    assert is_recipient(recipient) and not is_recipient("age1nonsense") and not is_recipient(secret)
