"""A store and its keys in folders that are not ours to write: a copy, a backup, a medium that is mounted read-only.

All that reads is that of the filesystem. All that writes is refused, here and not by the operating system, which lets root
write everywhere: nothing is cleaned up, no scratch folder is claimed, no lock is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from core.errors import NotReady
from storage.filesystem import FilesystemDerivatives, FilesystemJournal, FilesystemObjects
from storage.keys import FilesystemKeys
from storage.port import Key, NewVersion, Pin, Rotated


def read_only() -> NotReady:
    """The answer to everybody who would write."""
    return NotReady(
        "この導入は、保管庫の写しを読むだけのものです。検索・閲覧は記録簿に残す必要があるので、ここではできません。元の導入で行うか、`daicho migrate --embedded` で写しを自分の保管庫にしてください。",
        "This installation only reads a copy of a store. Searching and viewing must be journalled and cannot be done here. Do it in the original "
        "installation, or make the copy a store of your own with `daicho migrate --embedded`.",
        code="store.read_only",
    )


class ReadOnlyObjects(FilesystemObjects):
    def seal(self, versions: Sequence[NewVersion]) -> list[Pin]:
        raise read_only()

    def heal(self) -> int:
        """Nothing: what a crash left is for the store's own installation to finish."""
        return 0

    def describe(self) -> dict[str, str]:
        return {**super().describe(), "engine": f"filesystem, read only: {self._top}"}


class ReadOnlyJournal(FilesystemJournal):
    def append(self, number: int, segment: bytes) -> None:
        raise read_only()


class ReadOnlyDerivatives(FilesystemDerivatives):
    def put(self, archives: Mapping[str, bytes]) -> None:
        raise read_only()

    def delete(self, name: str) -> None:
        raise read_only()


class ReadOnlyKeys(FilesystemKeys):
    def create(self, key_ids: Sequence[str]) -> list[Key]:
        raise read_only()

    def destroy(self, key_id: str) -> None:
        raise read_only()

    def rotate(
        self, before_end: Callable[[str, int], None], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Rotated:
        raise read_only()

    def heal(self) -> int:
        """Nothing, as `ReadOnlyObjects.heal`."""
        return 0
