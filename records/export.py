"""Export: a generation of a record as plain files in a folder, or as the store's own age files for one recipient. Only what the actor may see
leaves, and the journal says so first.
"""

from __future__ import annotations

import hashlib
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from access.decide import Actor
from core.errors import BadInput, Conflict
from records.alone import without_alone
from records.attachments import listed, plain
from records.content import CONTENT
from records.operation import note_alone
from records.show import Shown, show
from records.stores import Stores
from storage import durable
from storage.canonical import canonical
from storage.cipher import encrypt, is_recipient
from storage.streams import PIECE

MANIFEST = "manifest-sha256.txt"
KEY = "key.age"


@dataclass(frozen=True)
class Exported:
    """What lies in the folder of an export, the manifest apart."""

    generation: int
    files: int
    bytes: int


def export(
    stores: Stores, actor: Actor, record_id: str, folder: Path, number: int | None = None, *, recipient: str = ""
) -> Exported:
    """Write a record's newest or numbered generation into a new folder; durable on return.

    Items that must be destroyable alone, and pages that bear them, stay here: a copy would outlive their keys. Plain: `record.json`, `pages/`,
    `attachments/`. For a recipient: the age files as they lie in the store, and in `key.age`, which that
    recipient's identity opens, the one key that opens them all. Either way a manifest that `sha256sum -c` reads. The folder has its name only
    when all is in it; what a broken-off export leaves is called `FOLDER.part`, and the next one removes it.

    Args:
        recipient: `age1…`, "" for plain files.

    Raises:
        NotFound: as `show.show`.
        BadInput: (`export.recipient`) it is no recipient, (`export.folder`) the folder above is not there.
        Conflict: (`export.exists`) there is something at `folder`.
        DigestMismatch: a file is not what was sealed; nothing is left then.
    """
    if recipient and not is_recipient(recipient):
        raise BadInput(
            "--recipient には、受け取る人の age の公開鍵（age1…）を指定してください。",
            "Give the age recipient (age1…) of whoever is to open it as --recipient.",
            code="export.recipient",
        )
    if folder.is_symlink() or folder.exists():
        raise _taken(folder)
    if not folder.absolute().parent.is_dir():
        raise BadInput(
            f"{folder} を置くフォルダーがありません。先に作るか、別の場所を指定してください。",
            f"There is no folder to put {folder} into. Make it first, or name another place.",
            code="export.folder",
        )
    shown = show(stores, actor, record_id, number)
    note_alone(
        stores,
        actor,
        "exported",
        ledger=shown.ledger.id,
        record=record_id,
        data={
            "generation": shown.generation,
            "pages": len(without_alone(shown.content.body)["pages"]),
            "attachments": len(listed(shown.content)),
            "recipient": recipient,
        },
    )
    part = folder.with_name(f"{folder.name}.part")
    with durable.writing():
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        try:
            part.mkdir(0o700)
            made = _written(part, _sealed(stores, shown, recipient) if recipient else _plain(stores, shown))
            if not durable.move_folder(part, folder):
                raise _taken(folder)
            durable.flush_folder(folder.absolute().parent)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return Exported(shown.generation, *made)


def _taken(folder: Path) -> Conflict:
    return Conflict(
        f"{folder} にはすでに何かがあります。新しいフォルダーの名前を指定してください。",
        f"There is something at {folder} already. Name a new folder.",
        code="export.exists",
    )


def _plain(stores: Stores, shown: Shown) -> Iterator[tuple[str, Iterable[bytes]]]:
    """(path in the folder, its bytes) of everything, decrypted."""
    body = without_alone(shown.content.body)
    yield "record.json", [canonical(body)]
    for page in body["pages"]:
        ending = page["media_type"].rpartition("/")[2].removeprefix("x-")
        name = f"pages/{page['path'].removesuffix('.age')}.{_ENDINGS.get(ending, ending)}"
        yield name, plain(stores, shown.content, page["path"], page["digest"])
    taken: set[str] = set()
    for attachment in listed(shown.content):
        name = safe_name(attachment.name, taken)
        taken.add(name.casefold())
        yield f"attachments/{name}", plain(stores, shown.content, attachment.path, attachment.digest)


_ENDINGS = {"jpeg": "jpg", "tiff": "tif"}


def _sealed(stores: Stores, shown: Shown, recipient: str) -> Iterator[tuple[str, Iterable[bytes]]]:
    """(path in the folder, its bytes) of everything, as it lies in the store, and the key for the recipient."""
    key = stores.keys.get(shown.record)
    yield KEY, [encrypt(f"{key.secret}\n".encode(), recipient)]
    pages = [page["path"] for page in without_alone(shown.content.body)["pages"]]
    for path in (CONTENT, *pages, *(attachment.path for attachment in listed(shown.content))):
        yield path, _pieces(stores, shown, path)


def _pieces(stores: Stores, shown: Shown, path: str) -> Iterator[bytes]:
    with stores.objects.open(shown.content.pin, path) as stream:
        while piece := stream.read(PIECE):
            yield piece


def _written(folder: Path, files: Iterable[tuple[str, Iterable[bytes]]]) -> tuple[int, int]:
    """Write the files and, last, their manifest; durable on return. (files, bytes)"""
    lines, total = [], 0
    with durable.Group(folder, 2) as group:
        for path, pieces in files:
            group.mkdir((folder / path).parent)
            hasher = hashlib.sha256()

            def counted(pieces: Iterable[bytes] = pieces, hasher: hashlib._Hash = hasher) -> Iterator[bytes]:
                nonlocal total
                for piece in pieces:
                    hasher.update(piece)
                    total += len(piece)
                    yield piece

            group.write_pieces(folder / path, counted(), 0o600)
            lines.append(f"{hasher.hexdigest()}  {path}\n")
        group.write(folder / MANIFEST, "".join(lines).encode(), 0o600)
        group.sync()
    return len(lines), total


def safe_name(name: str, taken: set[str]) -> str:
    """A name that every file system takes, as near to `name` as can be, and not among `taken` (case folded).

    It is at most 200 bytes of UTF-8, keeps its ending, and has no character that Windows, a shell or `sha256sum` reads otherwise.
    """
    kept = "".join(
        "_" if character in '<>:"/\\|?*' or unicodedata.category(character) in ("Cc", "Cf", "Cs") else character
        for character in unicodedata.normalize("NFC", name)
    )
    kept = kept.strip(" .") or "_"
    if kept.startswith(("-", "~")):
        kept = f"_{kept}"
    stem, ending = PurePath(kept).stem, PurePath(kept).suffix
    if len(ending.encode()) > 20:
        stem, ending = kept, ""
    if stem.partition(".")[0].rstrip().upper() in _DEVICES:
        stem = f"_{stem}"
    for turn in range(1, len(taken) + 2):
        more = "" if turn == 1 else f" ({turn})"
        room = 200 - len(f"{more}{ending}".encode())
        found = f"{stem.encode()[:room].decode(errors='ignore').rstrip(' .')}{more}{ending}"
        if found.casefold() not in taken:
            return found
    raise AssertionError


_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{name}{digit}" for name in ("COM", "LPT") for digit in "123456789")}
"""Names that Windows keeps for itself, whatever their ending."""
