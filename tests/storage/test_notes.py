"""Notes and keys: what is signed is taken, and one bit more or less is not; what Go's own example says is read."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from core.errors import BadInput, DaichoError, DigestMismatch, KeysMissing
from storage.keys import create_keys
from storage.notes import (
    LOG_KEY,
    Checkpoint,
    Signer,
    checkpoint,
    log_key,
    make_log_key,
    opened,
    signer,
    verifier,
)

KEY = Signer("daicho/s-example", bytes(range(32)))
SAID = Checkpoint("daicho/s-example", 7, bytes(range(100, 132)))
NOTE = KEY.sign(SAID.text()).encode()

PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
"""The example in the documentation of golang.org/x/mod/sumdb/note."""
PETERS = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def code(note: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        checkpoint(note, KEY.verifier)
    return caught.value.code


def test_the_example_of_go_is_taken() -> None:
    assert opened(PETERS.encode(), verifier(PETER)).startswith("If you think cryptography")
    assert str(verifier(PETER)) == PETER


def test_what_is_signed_comes_back() -> None:
    assert checkpoint(NOTE, verifier(str(KEY.verifier))) == SAID
    assert signer(KEY.line()) == KEY
    assert repr(KEY.seed) not in repr(KEY)


def test_every_flipped_bit_of_a_note_is_found() -> None:
    found = set()
    for bit in range(8 * len(NOTE)):
        data = bytearray(NOTE)
        data[bit // 8] ^= 1 << bit % 8
        found.add(code(bytes(data)))
    assert found == {"note.malformed", "note.unsigned", "note.forged"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "note.malformed"),
        (NOTE[:-1], "note.malformed"),
        (NOTE[: len(NOTE) // 2], "note.malformed"),
        (NOTE + b"\n", "note.malformed"),
        (b"x" * 200_000, "note.malformed"),
        (KEY.sign("daicho/s-example\n07\nAAAA\n").encode(), "note.malformed"),
        (KEY.sign("daicho/s-example\n7\nAAAA\n").encode(), "note.malformed"),
        (KEY.sign("something else\n").encode(), "note.malformed"),
        (Signer("daicho/s-other", bytes(range(32))).sign(SAID.text()).encode(), "note.unsigned"),
        (Signer("daicho/s-example", bytes(32)).sign(SAID.text()).encode(), "note.unsigned"),
    ],
)
def test_what_is_no_checkpoint_of_this_key_is_told(text: bytes, told: str) -> None:
    assert code(text) == told


def test_a_signature_of_another_key_beside_ours_does_no_harm() -> None:
    other = Signer("somebody/else", bytes(32)).sign(SAID.text()).split("\n\n")[1]
    assert checkpoint(NOTE + other.encode(), KEY.verifier) == SAID


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_keys(tmp_path / "keys", "s-example")
    return tmp_path / "keys"


def test_the_key_is_made_once_for_its_owner_alone(folder: Path) -> None:
    assert log_key(folder, "daicho/s-example") is None
    made = make_log_key(folder, "daicho/s-example")
    assert make_log_key(folder, "daicho/s-example") == log_key(folder, "daicho/s-example") == made
    assert (folder / LOG_KEY).stat().st_mode & 0o777 == 0o600
    assert not list((folder / "scratch").iterdir())


def test_a_foreign_or_damaged_key_is_told(folder: Path) -> None:
    made = make_log_key(folder, "daicho/s-example")
    with pytest.raises(KeysMissing) as caught:
        log_key(folder, "daicho/s-another")
    assert caught.value.code == "log_key.foreign"
    whole = (folder / LOG_KEY).read_bytes()
    harmed = [whole[: len(whole) // 2], b"", whole + b"\n", base64.b64encode(whole)]
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        harmed.append(bytes(data))
    for data in harmed:
        (folder / LOG_KEY).chmod(0o600)
        (folder / LOG_KEY).write_bytes(data)
        with pytest.raises(DaichoError) as told:
            log_key(folder, made.name)
        assert told.value.code == "log_key.damaged" and isinstance(told.value, DigestMismatch)
