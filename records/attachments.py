"""Attachments (添付): files of any kind that people add to a record. They are sealed with a generation, carried by those after it, and read in
pieces, so that their size is no matter. Their names are personal content and stand in the sealed JSON alone.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from access.decide import Actor
from core.clock import stamp
from core.errors import BadFile, BadInput, NotFound
from ingest.pages import refusal
from records import queries
from records.capture import editable, seal_generation
from records.content import Content, content, newest, unknown_record
from records.found import definition_of
from records.operation import note_alone
from records.show import visible
from records.stores import Stores
from storage import durable
from storage.cipher import decrypted, encrypt_stream
from storage.refusals import damaged
from storage.streams import Spooled

LONGEST_NAME = 255
"""Characters."""


@dataclass(frozen=True)
class Given:
    """A file to be attached: its name as people know it, and what opens it for reading from the beginning."""

    name: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class Attachment:
    """An attachment of a generation. `id` names it within its record; `size` in bytes; `digest`: SHA-256 (hex) of the file as it was given."""

    id: str
    path: str
    name: str
    media_type: str
    size: int
    digest: str


@dataclass(frozen=True)
class Opened:
    """An attachment being read. Whoever takes the pieces uses none for good before they have ended: `DigestMismatch` may come instead of the last."""

    attachment: Attachment
    pieces: Iterator[bytes]


def file_at(path: Path) -> Given:
    """A file on the disk, under its own name; opening it raises `BadFile` (`file.missing`, `file.unreadable`)."""

    def opened() -> BinaryIO:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not hold us up
        except PermissionError as error:
            raise refusal("file.unreadable") from error
        except OSError as error:
            raise refusal("file.missing") from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise refusal("file.missing")
        return os.fdopen(handle, "rb")

    return Given(path.name, opened)


def listed(content: Content) -> list[Attachment]:
    """The attachments of a generation, in the order in which they were added."""
    return [
        Attachment(
            row["path"].removesuffix(".age"), row["path"], row["name"], row["media_type"], row["size"], row["digest"]
        )
        for row in content.body.get("attachments", ())
    ]


def attach(
    stores: Stores, actor: Actor, record_id: str, base: int, files: Sequence[Given], why: str, scratch: Path
) -> Content:
    """Seal the next generation (世代) of a record, with these files added to it.

    Args:
        base: the generation that the actor has seen.
        why: the reason, in the actor's words; it is sealed with the generation.
        scratch: where the files lie, encrypted and without a name, until they are sealed; made when absent.

    Raises:
        NotFound, NotPermitted, Conflict: as `capture.edit`.
        BadInput: (`edit.why`) no reason, (`edit.nothing`) no file, (`attachment.name`) a name that no file can be given out under.
        BadFile: (`attachment.empty`) a file without a byte, (`attachment.again`) one that is attached already, or given twice; `file.missing`,
            `file.unreadable`.
    """
    record = editable(actor, record_id, base, why)
    if not files:
        raise _nothing()
    names = [_checked_name(file.name) for file in files]
    before = newest(stores, record)
    rows = list(before.body.get("attachments", ()))
    recipient = stores.keys.get(record_id).recipient
    sources = {}
    with ExitStack() as spools:
        for name, file in zip(names, files, strict=True):
            path = f"{stores.ids.new('attachment')}.age"  # who is second in a race must not put another file under this name
            given, spool = _spooled(file, recipient, scratch, spools)
            row = {
                "path": path,
                "name": name,
                "media_type": _media_type(given.head, name),
                "size": given.size,
                "digest": given.digest,
            }
            _require_new(row, rows)
            rows.append(row)
            sources[path] = spool
        return seal_generation(
            stores,
            actor,
            record,
            definition_of(record.ledger_id, before.body["ledger_version"])[0],
            _next_body(stores, actor, before, rows, why),
            "attach",
            sources,
        )


def detach(stores: Stores, actor: Actor, record_id: str, base: int, ids: Sequence[str], why: str) -> Content:
    """Seal the next generation of a record without these attachments; the generations before keep them. Errors as `attach`, and `NotFound`
    (`attachment.not_found`).
    """
    record = editable(actor, record_id, base, why)
    if not ids:
        raise _nothing()
    before = newest(stores, record)
    for each in ids:
        _found(before, each)
    gone = {f"{each}.age" for each in ids}
    return seal_generation(
        stores,
        actor,
        record,
        definition_of(record.ledger_id, before.body["ledger_version"])[0],
        _next_body(stores, actor, before, [row for row in before.body["attachments"] if row["path"] not in gone], why),
        "detach",
    )


def read(stores: Stores, actor: Actor, record_id: str, attachment_id: str, number: int | None = None) -> Opened:
    """An attachment of a record's newest or numbered generation; journalled before the first byte is given.

    Raises:
        NotFound: as `show.show`; (`attachment.not_found`) that generation has no such attachment.
        DigestMismatch: it is not there, or its beginning is damaged; damage further on is raised in place of the last piece.
    """
    record = visible(actor, record_id)
    row = queries.generation(record_id, record.generation if number is None else number)
    if row is None:
        raise unknown_record()
    of = content(stores, record_id, row.object_version, row.object_digest)
    attachment = _found(of, attachment_id)
    note_alone(
        stores,
        actor,
        "attachment_read",
        ledger=record.ledger_id,
        record=record_id,
        data={"generation": row.number, "attachment": attachment.id},
    )
    return Opened(attachment, _begun(plain(stores, of, attachment.path, attachment.digest)))


def plain(stores: Stores, of: Content, path: str, digest: str) -> Iterator[bytes]:
    """A file of a record's version, decrypted, in pieces. The last one comes only when all were found right; else `DigestMismatch`. Asks no
    rights: callers have.

    Args:
        digest: SHA-256 (hex) that the record's JSON gives for it.
    """
    secret = stores.keys.get(of.record).secret
    hasher, kept = hashlib.sha256(), b""
    for piece in decrypted(stores.objects.open(of.pin, path), secret):
        hasher.update(piece)
        if kept:
            yield kept
        kept = piece
    if hasher.hexdigest() != digest:
        raise damaged("digest.mismatch")
    if kept:
        yield kept


def _begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces; what cannot be read at all is told before the first is asked for."""
    first = next(pieces, b"")

    def all_pieces() -> Iterator[bytes]:
        yield first
        yield from pieces

    return all_pieces()


def _found(of: Content, attachment_id: str) -> Attachment:
    for each in listed(of):
        if each.id == attachment_id:
            return each
    raise NotFound(
        "その添付はこの世代にありません。`daicho record show` で確かめてください。",
        "This generation has no such attachment. Look at `daicho record show`.",
        code="attachment.not_found",
    )


def _next_body(
    stores: Stores, actor: Actor, before: Content, rows: Sequence[dict[str, Any]], why: str
) -> dict[str, Any]:
    """What `before` says, with these attachments: values, definition and retention stay as they are."""
    return {
        **before.body,
        "generation": before.body["generation"] + 1,
        "made": {"at": stamp(stores.clock.now()), "by": actor.person, "why": why.strip()},
        "attachments": list(rows),
    }


class _Plain:
    """A given file while it is read: its beginning, length and SHA-256."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hasher = hashlib.sha256()
        self.head = b""
        self.size = 0

    def read(self, size: int, /) -> bytes:
        try:
            piece = self._stream.read(size)
        except OSError as error:
            raise refusal("file.unreadable") from error
        self._hasher.update(piece)
        self.head = self.head or piece
        self.size += len(piece)
        return piece

    @property
    def digest(self) -> str:
        return self._hasher.hexdigest()


def _spooled(file: Given, recipient: str, scratch: Path, spools: ExitStack) -> tuple[_Plain, Spooled]:
    """Read a given file through, encrypting it into a file that is gone with `spools`, or with this process."""
    with durable.writing():
        scratch.mkdir(parents=True, exist_ok=True)
        spool = spools.enter_context(tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115
        with file.open() as stream:
            given = _Plain(stream)
            encrypt_stream(given, spool, recipient)
        spool.flush()
    if not given.size:
        raise BadFile(
            "空のファイルは添付できません。送り元を確かめてください。",
            "An empty file cannot be attached. Check where it came from.",
            code="attachment.empty",
        )
    return given, Spooled(spool, spool.tell())


def _require_new(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    if any(other["digest"] == row["digest"] and other["name"] == row["name"] for other in rows):
        raise BadFile(
            "同じ名前で同じ内容のファイルが、すでに添付されています。二重には添付しません。",
            "A file of this name with the same content is attached already; it is not attached twice.",
            code="attachment.again",
        )


def _checked_name(name: str) -> str:
    """The name in composed characters (NFC: some systems give が as two); `BadInput` for what misleads people or no folder can hold."""
    made = unicodedata.normalize("NFC", name)
    if (
        made.strip() in ("", ".", "..")
        or len(made) > LONGEST_NAME
        or any(
            character in "/\\" or character in _TURNS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
            for character in made
        )
    ):
        raise BadInput(
            f"添付する名前に使えない文字があるか、長すぎます（{LONGEST_NAME} 文字まで）。ファイルの名前を変えてください。",
            f"The name holds characters that an attachment's may not, or is too long (up to {LONGEST_NAME}). Rename the file.",
            code="attachment.name",
        )
    return made


_TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that turn the direction of writing: `exe.gpj` would read as `jpg.exe` backwards."""

_SIGNATURES = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"GIF8", "image/gif"),
    (b"PK\x03\x04", "application/zip"),
)
_ZIPPED = {
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
}


def _media_type(head: bytes, name: str) -> str:
    """By how the file begins; the ending of its name counts only among documents that are ZIP archives."""
    found = next((kind for start, kind in _SIGNATURES if head.startswith(start)), "application/octet-stream")
    return _ZIPPED.get(PurePath(name).suffix.lower(), found) if found == "application/zip" else found


def _nothing() -> BadInput:
    return BadInput("何も変わっていません。", "Nothing has changed.", code="edit.nothing")
