"""Signed notes and checkpoints of a log, after C2SP `signed-note` and `tlog-checkpoint`: text, signatures and keys as lines of text.

One algorithm, Ed25519 (RFC 8032). Keys are written as Go's `golang.org/x/mod/sumdb/note` writes them, so that its programs verify what is signed here.
The log's own key lies in the key folder as `log.key`. What is signed, and when, is decided elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from core.errors import BadInput, DigestMismatch, KeysMissing
from storage import durable
from storage.merkle import HASH

ED25519 = b"\x01"
LOG_KEY = "log.key"
"""Name of the log's key in the key folder."""

LONGEST = 100_000
"""Bytes of a note; what is longer is not read."""

_NAME = re.compile(r"[^\s+]+")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_PRIVATE = "PRIVATE+KEY+"


@dataclass(frozen=True)
class Verifier:
    """The public half of a key that signs notes: its name and the 32 bytes of RFC 8032."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys apart; they prove nothing."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        """As a line of text: `name+id+key`."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(ED25519 + self.public)}"


@dataclass(frozen=True)
class Signer:
    """A key that signs notes. `seed`: the 32 secret bytes of RFC 8032."""

    name: str
    seed: bytes = field(repr=False)

    @property
    def verifier(self) -> Verifier:
        """Its public half."""
        return Verifier(self.name, self._key().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, text: str) -> str:
        """The note: the text (lines, each ended), an empty line, the signature."""
        signature = self.verifier.key_id + self._key().sign(text.encode())
        return f"{text}\n— {self.name} {_base64(signature)}\n"

    def line(self) -> str:
        """The secret as a line of text."""
        return f"{_PRIVATE}{self.name}+{self.verifier.key_id.hex()}+{_base64(ED25519 + self.seed)}"

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


@dataclass(frozen=True)
class Checkpoint:
    """What a log says of itself: its name, how many leaves it has, and the root over them."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """As the text of a note."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"


def verifier(line: str) -> Verifier:
    """The public key that a line of text gives; `BadInput` (`note.key`)."""
    name, _, rest = line.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    key = _bytes(encoded)
    if not _NAME.fullmatch(name) or key is None or len(key) != 33 or key[:1] != ED25519:
        raise _no_key()
    made = Verifier(name, key[1:])
    if made.key_id.hex() != key_id:
        raise _no_key()
    return made


def signer(line: str) -> Signer:
    """The key of `Signer.line`; `BadInput` (`note.key`)."""
    name, _, rest = line.strip().removeprefix(_PRIVATE).partition("+")
    key_id, _, encoded = rest.partition("+")
    key = _bytes(encoded)
    if (
        not line.startswith(_PRIVATE)
        or not _NAME.fullmatch(name)
        or key is None
        or len(key) != 33
        or key[:1] != ED25519
    ):
        raise _no_key()
    made = Signer(name, key[1:])
    if made.verifier.key_id.hex() != key_id:
        raise _no_key()
    return made


def opened(note: bytes, key: Verifier) -> str:
    """The text of a note that `key` has signed.

    Raises:
        BadInput: `note.malformed` (no note), `note.unsigned` (the key has not signed it), `note.forged` (its signature does not fit the text).
    """
    text, signatures = _parted(note)
    signed = False
    for name, signature in signatures:
        if (name, signature[:4]) != (key.name, key.key_id):
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature[4:], text.encode())
        except (InvalidSignature, ValueError) as error:
            raise BadInput(
                "署名がこの文面のものではありません。書き換えられているか、壊れています。元の控えと比べてください。",
                "The signature is not of this text: it was altered or damaged. Compare it with another copy.",
                code="note.forged",
            ) from error
        signed = True
    if not signed:
        raise BadInput(
            "指定された公開鍵による署名がありません。このログの鍵か、ほかのログのものでないかを確かめてください。",
            "The given key has not signed this. Check that the key and the checkpoint are of the same log.",
            code="note.unsigned",
        )
    return text


def checkpoint(note: bytes, key: Verifier | None = None) -> Checkpoint:
    """The checkpoint in a note: one that `key` has signed, errors as `opened`; or, without a key, as it says, which proves nothing.

    Raises:
        BadInput: also `note.malformed` where the note is no checkpoint.
    """
    text = opened(note, key) if key is not None else _parted(note)[0]
    lines = text.split("\n")
    if len(lines) < 4 or not all(lines[:-1]) or lines[-1]:
        raise _malformed()
    root = _bytes(lines[2])
    if not _SIZE.fullmatch(lines[1]) or root is None or len(root) != HASH:
        raise _malformed()
    return Checkpoint(lines[0], int(lines[1]), root)


def make_log_key(folder: Path, name: str) -> Signer:
    """The log's key, made where the key folder has none; durable on return. Errors as `log_key`."""
    made = Signer(name, Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))
    temporary = folder / "scratch" / f"{LOG_KEY}.{os.getpid()}"
    with durable.writing():
        if not (folder / LOG_KEY).exists():
            temporary.unlink(missing_ok=True)
            durable.write_new(temporary, f"{made.line()}\n".encode(), 0o600)
            durable.move_file(temporary, folder / LOG_KEY)
            durable.flush_folder(folder)
    found = log_key(folder, name)
    assert found is not None
    return found


def log_key(folder: Path, name: str) -> Signer | None:
    """The log's key in the key folder, None where there is none.

    Raises:
        KeysMissing: (`log_key.foreign`) it is the key of another store's log.
        DigestMismatch: (`log_key.damaged`) the file is not as it was written.
    """
    try:
        line = durable.read_regular(folder / LOG_KEY)
    except FileNotFoundError:
        return None
    try:
        found = signer(line.decode("ascii"))
        whole = f"{found.line()}\n".encode() == line
    except (UnicodeDecodeError, BadInput) as error:
        raise _damaged() from error
    if not whole:
        raise _damaged()
    if found.name != name:
        raise KeysMissing(
            "記録簿の署名鍵（log.key）が別の保管庫のものです。この保管庫の鍵の控えから復元してください。",
            "The key that signs the journal (log.key) is of another store. Restore it from the backup of this store's keys.",
            code="log_key.foreign",
        )
    return found


def _parted(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """Text, and (name, bytes) of each signature line."""
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed() from error
    if len(note) > LONGEST or any(character < " " and character != "\n" for character in whole):
        raise _malformed()
    text, parted, rest = whole.rpartition("\n\n")
    if not parted or not rest.endswith("\n"):
        raise _malformed()
    signatures = []
    for line in rest[:-1].split("\n"):
        start, _, written = line.partition(" ")
        name, _, encoded = written.partition(" ")
        signature = _bytes(encoded)
        if start != "—" or not _NAME.fullmatch(name) or signature is None or len(signature) < 5:
            raise _malformed()
        signatures.append((name, signature))
    return f"{text}\n", signatures


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(encoded: str) -> bytes | None:
    """What base64 text stands for; None for any other text, also one that means the same in other letters."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _base64(data) == encoded else None


def _no_key() -> BadInput:
    return BadInput(
        "記録簿の鍵として読めません。`daicho audit checkpoint` が示す一行を、そのまま渡してください。",
        "This is no key of a log. Give the line that `daicho audit checkpoint` prints, as it is.",
        code="note.key",
    )


def _malformed() -> BadInput:
    return BadInput(
        "チェックポイントとして読めません。ファイルが途中で切れているか、別のファイルです。元の控えを渡してください。",
        "This cannot be read as a checkpoint: it was cut short, or is another file. Give the file as it was written.",
        code="note.malformed",
    )


def _damaged() -> DigestMismatch:
    return DigestMismatch(
        "記録簿の署名鍵（log.key）が壊れています。鍵の控えから復元してください。",
        "The key that signs the journal (log.key) is damaged. Restore it from the backup of the keys.",
        code="log_key.damaged",
    )
