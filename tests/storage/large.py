"""What becomes of a large file in a store, run as a program of its own, so that its memory can be measured:
`python -m tests.storage.large FOLDER BYTES held|streamed [S3 settings as JSON]` prints the most memory it had, in KiB.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

from core.settings import S3Settings
from storage.cipher import decrypted, encrypt_stream, new_identity
from storage.copying import Side, copy_store
from storage.filesystem import FilesystemDerivatives, FilesystemJournal, FilesystemObjects, create_store
from storage.port import Content, NewVersion, ObjectStore
from storage.s3 import S3Derivatives, S3Journal, S3Objects
from storage.streams import Spooled
from tests.contracts.storage_contracts import Generated


def folder(root: Path) -> Side:
    create_store(root, "s-1")
    return Side(FilesystemObjects(root), FilesystemJournal(root), FilesystemDerivatives(root))


def bucket(told: str) -> Side:
    where = S3Settings(**json.loads(told))
    return Side(S3Objects(where), S3Journal(where), S3Derivatives(where))


def work(store: Side, elsewhere: Side, folder: Path, size: int, *, held: bool) -> None:
    """Encrypt `size` bytes, seal them, read them back, check them, copy the store."""
    secret, recipient = new_identity()
    with tempfile.TemporaryFile(dir=folder) as spool, Generated(size).open() as plain:
        encrypt_stream(plain, spool, recipient)
        spool.flush()
        sealed: Content = Spooled(spool, spool.tell())
        if held:
            with sealed.open() as stream:
                sealed = stream.read()
        [pin] = store.objects.seal([NewVersion("r-1", 1, {"big": sealed}, "2026-04-01T00:00:00Z", "u-1", "m")])
    assert sum(map(len, decrypted(store.objects.open(pin, "big"), secret))) == size
    checked = store.objects.check("r-1", [pin])
    assert checked.bytes > size and not checked.findings
    copy_store(store, elsewhere)
    copied: ObjectStore = elsewhere.objects
    assert copied.check("r-1", [pin]).findings == []


def most_memory() -> int:
    """KiB. Not `ru_maxrss`, which counts what the parent had before it became this program."""
    told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert told
    return int(told[1])


if __name__ == "__main__":
    place, asked, how = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    source = bucket(sys.argv[4]) if len(sys.argv) > 4 else folder(place / "store")
    work(source, folder(place / "copy"), place, asked, held=how == "held")
    print(most_memory())
