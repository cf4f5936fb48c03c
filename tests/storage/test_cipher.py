"""age files that a standard program opens, and damage that is noticed."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from core.errors import DigestMismatch, KeysMissing
from storage.cipher import decrypt, encrypt, new_identity, recipient_of
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
