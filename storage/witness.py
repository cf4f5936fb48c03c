"""A witness: a folder elsewhere (another machine's, a medium's) that keeps the checkpoints it was shown, and takes only what continues them.

    log.vkey                       the public key of the log that it watches, noted with the first checkpoint
    checkpoint-000000000123.txt    each checkpoint by its size, a signed note

Nothing in it is ever replaced. Who can write the folder and the log together can deceive: it belongs to somebody else.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from core.errors import BadInput, DigestMismatch, NotReady, StoreDamaged
from storage import durable
from storage.merkle import RootOf, consistency_proof, verify_consistency
from storage.notes import Checkpoint, Verifier, checkpoint, verifier
from storage.tiles import PUBLIC_KEY

_NAME = re.compile(r"checkpoint-([0-9]{12,})\.txt")


@dataclass(frozen=True)
class Witnessed:
    """What a witness now holds: the file of the checkpoint, how many there are, and the size of the one before it, 0 for the first."""

    file: Path
    checkpoints: int
    before: int


def witness(folder: Path, note: str, key: Verifier, root_of: RootOf) -> Witnessed:
    """Show a checkpoint to the witness, which keeps it where it continues the newest one there. The same again changes nothing.

    Args:
        note: the checkpoint, signed with `key`.
        root_of: gives roots over ranges of the log, for the proof; as `LogFolder.roots`.

    Raises:
        BadInput: `witness.other_log`, `witness.other_key`: the folder watches another log, or knows this one by another key.
        StoreDamaged: `witness.rolled_back` (the log is shorter than it was), `witness.forked` (it does not continue what it was).
        DigestMismatch: `witness.damaged`: a file there is not as it was written.
        NotReady: `witness.missing`: there is no such folder, or it cannot be written.
    """
    said = checkpoint(note.encode(), key)
    if not folder.is_dir():
        raise _missing(folder)
    held = sorted(
        (int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)) is not None
    )
    _require_same_log(folder, key, bool(held))
    before = held[-1][0] if held else 0
    if held:
        _require_continued(_read(held[-1][1], key, before), said, root_of)
    file = folder / f"checkpoint-{said.size:012d}.txt"
    if not held or said.size > before:
        for path, data in ((folder / PUBLIC_KEY, f"{key}\n"), (file, note)):
            _write(path, data.encode())
        return Witnessed(file, len(held) + 1, before)
    return Witnessed(file, len(held), held[-2][0] if len(held) > 1 else 0)


def _require_same_log(folder: Path, key: Verifier, needed: bool) -> None:
    try:
        written = durable.read_regular(folder / PUBLIC_KEY)
        known = verifier(written.decode("utf-8"))
    except FileNotFoundError:
        if needed:
            raise _damaged(PUBLIC_KEY) from None
        return
    except (BadInput, DigestMismatch, UnicodeDecodeError) as error:
        raise _damaged(PUBLIC_KEY) from error
    if written != f"{known}\n".encode():
        raise _damaged(PUBLIC_KEY)
    if known.name != key.name:
        raise BadInput(
            f"このフォルダーは別のログ（{known.name}）の立会い用です。ログごとに別のフォルダーを使ってください。",
            f"This folder is the witness of another log ({known.name}). Use a folder of its own for each log.",
            code="witness.other_log",
        )
    if known != key:
        raise BadInput(
            "このフォルダーが知っている公開鍵と違う鍵で署名されています。鍵を入れ替えた記録があるか確かめ、あれば新しいフォルダーで始めてください。",
            "This is signed with another key than the folder knows. Find out whether the key was replaced on purpose; if so, begin a new folder.",
            code="witness.other_key",
        )


def _require_continued(known: Checkpoint, said: Checkpoint, root_of: RootOf) -> None:
    if said.size < known.size:
        raise StoreDamaged(
            f"記録簿が短くなっています（立会い済み {known.size} 件、今 {said.size} 件）。古い控えに戻された恐れがあります。監査人と保守担当に知らせてください。",
            f"The journal has become shorter ({known.size} entries were witnessed, now there are {said.size}): it may have been put back to an older "
            "state. Tell the auditor and support.",
            code="witness.rolled_back",
        )
    if known.size == 0:
        return
    try:
        proof = consistency_proof(known.size, said.size, root_of)
    except LookupError:
        proof = None
    if proof is None or not verify_consistency(known.size, said.size, proof, known.root, said.root):
        raise StoreDamaged(
            f"記録簿が、立会い済みのチェックポイント（{known.size} 件）の続きになっていません。`daicho audit verify --checkpoint` で確かめ、監査人に知らせてください。",
            f"The journal does not continue the checkpoint that was witnessed ({known.size} entries). Look at it with "
            "`daicho audit verify --checkpoint`, and tell the auditor.",
            code="witness.forked",
        )


def _read(path: Path, key: Verifier, size: int) -> Checkpoint:
    try:
        known = checkpoint(durable.read_regular(path), key)
    except (BadInput, DigestMismatch) as error:
        raise _damaged(path.name) from error
    if known.size != size:
        raise _damaged(path.name)
    return known


def _write(path: Path, data: bytes) -> None:
    """Write a new file, synced as far as the medium lets: shares and sticks may know neither hard links nor the sync of a folder, and nothing
    here is acknowledged to anybody but the person who looks."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    except FileExistsError:
        return
    except OSError as error:
        raise _missing(path.parent) from error
    try:
        durable.write_all(fd, data)
        os.fsync(fd)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _missing(path.parent) from error
    finally:
        os.close(fd)
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _damaged(name: str) -> DigestMismatch:
    return DigestMismatch(
        f"立会い用フォルダーのファイル {name} が壊れているか、ありません。フォルダーの控えと比べてください。何も書き込んでいません。",
        f"The witness's file {name} is damaged or missing. Compare the folder with its copy. Nothing was written.",
        code="witness.damaged",
    )


def _missing(folder: Path) -> NotReady:
    return NotReady(
        f"立会い用フォルダー {folder} がないか、書き込めません。媒体がつながっているか確かめ、フォルダーを作ってください。",
        f"The witness's folder {folder} is not there or cannot be written. Check that the medium is connected, and make the folder.",
        code="witness.missing",
    )
