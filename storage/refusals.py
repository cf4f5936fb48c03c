"""The errors that every engine of the store raises alike; what one engine alone can meet stays with it."""

from __future__ import annotations

from core.errors import Conflict, DigestMismatch, StoreDamaged


def store_exists() -> Conflict:
    """A store is to be made where one is."""
    return Conflict(
        "ここにはすでに保管庫があります。別のフォルダーやバケットを指定してください。",
        "There is a store here already. Give another folder or bucket.",
        code="store.exists",
    )


def damaged(code: str) -> DigestMismatch:
    """A sealed file is missing (`file.missing`) or not what was sealed (`digest.mismatch`)."""
    return DigestMismatch(
        "保管庫のファイルが、封印したときのものではありません。`daicho verify` で確かめ、控えから復元してください。",
        "A file of the store is not what was sealed. Find it with `daicho verify` and restore it from the backup.",
        code=code,
    )


def conflict(what: str) -> Conflict:
    """Somebody else was first; `what`: the `number` or the `bytes`."""
    return Conflict(
        "先に別の内容が書き込まれています。最新の状態を読み直してからやり直してください。",
        f"Something else was written first (other {what}). Read the present state and try again.",
        code=f"storage.other_{what}",
    )


def gap(number: int) -> StoreDamaged:
    """A journal segment is missing."""
    return StoreDamaged(
        f"記録簿の {number} 番がありません。控えから復元してください。",
        f"Segment {number} of the journal is missing. Restore it from the backup.",
        code="journal.gap",
    )
