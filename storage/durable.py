"""The few ways in which bytes become durable on a filesystem, and the translation of what an operating system answers.

Everything that must survive a power cut goes through here; what is written, and in which order, is decided by the
callers. A failed sync is final: the kernel may have dropped the dirty pages and would report success the next time,
so from then on this process refuses every write.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import DaichoError, DigestMismatch, NotReady, StorageFailed, StorageFull

# Set by a failed sync, never cleared: only a new process may write again.
_failed = False

# Filesystems whose syncfs is known to flush data and directories. FUSE, for one, writes pages back and never tells
# the server.
_SYNCFS_BELIEVED = {
    0xEF53,
    0x58465342,
    0x9123683E,
    0xF2F52010,
    0x2FC12FC1,
    0x01021994,
}  # ext*, xfs, btrfs, f2fs, zfs, tmpfs

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_RENAME_NOREPLACE = 1
_READ = 1 << 20
_AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def writing() -> Iterator[None]:
    """Around writes: refuses after a failed sync, and turns an `OSError` into a coded error (`StorageFull`,
    `NotReady`, `StorageFailed`).
    """
    if _failed:
        raise _stop()
    try:
        yield
    except OSError as error:
        raise _translated(error) from error


def _translated(error: OSError) -> DaichoError:
    if error.errno in _FULL:
        return StorageFull(
            "保存先に空きがありません。空きを作ってからやり直してください。確定済みのものは無事です。",
            "No room is left on the disk. Make room and try again; what was acknowledged is safe.",
        )
    if error.errno == errno.EROFS:
        return NotReady(
            "保存先が読み取り専用です。書き込めるように接続し直してください。",
            "The disk is mounted read-only. Mount it writable.",
            code="storage.read_only",
        )
    if error.errno in _DENIED:
        return NotReady(
            "保存先に書き込む権限がありません。daicho を動かす利用者にフォルダーの所有権を与えてください。",
            "No permission to write to the store. Give the folder to the user daicho runs as.",
            code="storage.denied",
        )
    return StorageFailed(
        f"保存先への書き込みに失敗しました（{_name(error)}）。ディスクを確かめ、daicho を起動し直してください。",
        f"Writing to the store failed ({_name(error)}). Check the disk and start daicho again.",
    )


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown")


def _stop() -> StorageFailed:
    return StorageFailed(
        "ディスクへの同期に失敗したため、これ以上書き込みません。ディスクを確かめ、daicho を起動し直してください。",
        "A sync to the disk failed, so nothing more is written. Check the disk and start daicho again.",
    )


class Group:
    """Files and folders that become durable together, by one `syncfs` where that can be believed, else one by one.

    Opened before the first write, because the kernel reports a lost write only to descriptors that were open by then.
    `files` is how many are about to be written: for a single one, its own fsync is cheaper and leaves other programs'
    data alone.
    """

    def __init__(self, folder: Path, files: int) -> None:
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._whole = files > 1 and _syncfs_believed(self._fd)
        self._folders: set[Path] = set()

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def write(self, path: Path, data: bytes, mode: int = 0o444) -> None:
        """Write the new file `path`; durable after the next `sync`. `FileExistsError` when something is there."""
        self.write_pieces(path, (data,), mode)

    def write_pieces(self, path: Path, pieces: Iterable[bytes], mode: int = 0o444) -> None:
        """As `write`, of what need not be held whole. When `pieces` raises, the file is left as far as it came."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            for piece in pieces:
                write_all(fd, piece)
            if not self._whole:
                flush(fd)
                self._folders.add(path.parent)
        finally:
            os.close(fd)

    def mkdir(self, path: Path) -> None:
        """Make the folder `path` and those above it, as far as they are missing."""
        try:
            path.mkdir()
        except FileExistsError:
            return
        except FileNotFoundError:
            self.mkdir(path.parent)
            path.mkdir(exist_ok=True)
        self.touched(path.parent)

    def written(self, fd: int) -> None:
        """What was written to the open file `fd` is durable after the next `sync`, before which it stays open."""
        if not self._whole:
            flush(fd)

    def touched(self, folder: Path) -> None:
        """Names in `folder` were added, removed or renamed: the next `sync` makes that durable."""
        if not self._whole:
            self._folders.add(folder)

    def sync(self) -> None:
        """Make all of it durable; `StorageFailed`, for good, when that fails."""
        if self._whole:
            _final(_syncfs, self._fd)
            return
        for folder in self._folders:
            flush_folder(folder)
        self._folders.clear()


def write_synced(path: Path | str, data: bytes, mode: int = 0o444) -> None:
    """Write one new file, whose bytes are durable on return; its name is not. `FileExistsError` when something is there."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        write_all(fd, data)
        flush(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte: one call may take fewer."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def flush(fd: int) -> None:
    """Make the file or folder behind `fd` durable; `StorageFailed`, for good, when that fails."""
    _final(_full_fsync, fd)


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flush(fd)
    finally:
        os.close(fd)


def write_new(path: Path, data: bytes, mode: int = 0o444) -> None:
    """Write one new file, durable on return with its name. `FileExistsError` when something is there."""
    with Group(path.parent, 1) as group:
        group.write(path, data, mode)
        group.sync()


def replace(temporary: Path, path: Path) -> None:
    """Put the (synced) file `temporary` in place of `path`; durable on return."""
    temporary.replace(path)
    flush_folder(path.parent)


def move_folder(temporary: Path, path: Path) -> bool:
    """Rename a folder into place unless something is there; False then.

    POSIX lets a folder replace an empty folder only, so a plain rename cannot overwrite a sealed one.
    """
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True


def move_file(temporary: Path, path: Path, *, copy: bool = False) -> bool:
    """Put the (synced) file `temporary` at `path` unless something is there; False then, and `temporary` is gone
    either way.

    A hard link does this on every filesystem that has them; others know a rename that does not replace. What knows
    neither (exFAT through FUSE) is unsuitable, except for a `copy` on a disk of this machine: whoever else brings it up
    to date is kept out by a lock, and what it is a copy of is there to make it again.
    """
    for way in (_linked, _renamed, _renamed_alone) if copy else (_linked, _renamed):
        done = way(temporary, path)
        if done is not None:
            temporary.unlink(missing_ok=True)
            return done
    raise _unsuitable()


def _linked(temporary: Path, path: Path) -> bool | None:
    """Whether it got the name; None where there are no hard links."""
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return None
    return True


def _renamed(temporary: Path, path: Path) -> bool | None:
    """As `_linked`, by a rename that does not replace; None where it is not known."""
    rename = getattr(_libc, "renameat2", None)
    if rename is None:
        return None
    source, target = os.fsencode(temporary), os.fsencode(path)
    if rename(_AT_FDCWD, source, _AT_FDCWD, target, _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EEXIST:
        return False
    if number not in _NO_LINKS:
        raise OSError(number, os.strerror(number))
    return None


def _renamed_alone(temporary: Path, path: Path) -> bool | None:
    """As `_linked`, under a lock of the folder; None where other machines could write to it, whom no lock of ours keeps out."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.major(os.fstat(folder).st_dev) == 0:  # no disk of this machine
            return None
        fcntl.flock(folder, fcntl.LOCK_EX)
        if os.path.lexists(path):
            return False
        temporary.rename(path)
    finally:
        os.close(folder)
    return True


def require_suitable(folder: Path) -> None:
    """`NotReady` (`storage.unsuitable`) where no installation can live in `folder`: names could be overwritten, or files
    cannot be kept from other people on the machine. Leaves nothing there.
    """
    with writing():
        place = folder / f".{secrets.token_hex(8)}"
        place.mkdir(0o700)
        try:
            one, other = place / "1", place / "2"
            write_new(one, b"1", 0o600)
            private = not any(stat.S_IMODE(each.stat().st_mode) & 0o077 for each in (place, one))
            named = _linked(one, other) or _renamed(one, other)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    if not named:
        raise _unsuitable()
    if not private:
        raise NotReady(
            f"フォルダー {folder} のファイルシステムは権限を保てず、この機械のだれでも鍵と目録を読めてしまいます。ext4、XFS などに置くか、ほかの人が"
            "読めないように（umask=077 で）接続し直してください。控えは置けます。",
            f"The filesystem of {folder} keeps no permissions: everybody on this machine could read keys and catalogue. Use ext4, XFS or the like, "
            "or mount it so that nobody else can read it (umask=077). Backups may lie there.",
            code="storage.unsuitable",
        )


def _unsuitable() -> NotReady:
    return NotReady(
        "このファイルシステムには、上書きしないで名前を付ける手段がありません。ext4、XFS などに置いてください。USB メモリーなどこの機械の媒体なら、控えは置けます。",
        "This filesystem cannot name a file without overwriting. Put it on ext4, XFS or the like. Backups may lie on a medium of this machine, as a USB stick.",
        code="storage.unsuitable",
    )


def read_regular(path: Path | str) -> bytes:
    """The bytes of a regular file. A link or device in its place, or a disk that cannot read it, is `DigestMismatch`.

    `FileNotFoundError` passes through: what a missing file means, the caller knows.
    """
    # A journal is millions of small files: no file object, no context, one read for each.
    try:
        fd, size = _regular(path)
        try:
            data = os.read(fd, size + 1)
            if len(data) != size:  # it has just been written to, or is too long for one read
                pieces = [data]
                while pieces[-1]:
                    pieces.append(os.read(fd, _READ))
                data = b"".join(pieces)
            return data
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unread(error) from error


def open_regular(path: Path | str) -> io.FileIO:
    """A regular file to be read, unbuffered; errors as `read_regular`, within `reading`."""
    fd, _ = _regular(path)
    return io.FileIO(fd)


def _regular(path: Path | str) -> tuple[int, int]:
    """The descriptor of an opened regular file, and its size."""
    # O_NONBLOCK: a named pipe put in a file's place must not hang the reader.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise unreadable("not a file")
    return fd, status.st_size


def uncached(fd: int) -> None:
    """Let what is read of a synced file come from the disk, where the system lets us drop what it remembers."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # a filesystem without a cache of its own
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def reading() -> Iterator[None]:
    """Around reads of the store: turns an `OSError` into a coded error, but for `FileNotFoundError`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unread(error) from error


def _unread(error: OSError) -> Exception:
    """What is raised of an error of the system while something is read."""
    if isinstance(error, NotADirectoryError):
        return FileNotFoundError(errno.ENOENT, "no such file")
    if error.errno in _DENIED:
        return NotReady(
            "保管庫を読む権限がありません。daicho を動かす利用者にフォルダーの所有権を与えてください。",
            "No permission to read the store. Give the folder to the user daicho runs as.",
            code="storage.denied",
        )
    return unreadable(_name(error))


def unreadable(why: str) -> DigestMismatch:
    """The error for a file that the disk does not give back."""
    return DigestMismatch(
        f"保管庫のファイルを読めません（{why}）。ディスクを確かめ、控えから復元してください。",
        f"A file of the store cannot be read ({why}). Check the disk and restore the file from the backup.",
        code="storage.unreadable",
    )


def _full_fsync(fd: int) -> None:
    if sys.platform == "darwin":
        # There fsync stops at the drive's own cache.
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL):
                raise
        else:
            return
    os.fsync(fd)


def _syncfs(fd: int) -> None:
    if _libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _syncfs_believed(fd: int) -> bool:
    """Whether syncfs flushes everything here and tells of lost writes: a known filesystem on Linux 5.8 or later."""
    if sys.platform != "linux":
        return False
    release = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    answer = ctypes.create_string_buffer(512)
    if release < (5, 8) or _libc.fstatfs(fd, answer) != 0:
        return False
    return ctypes.c_long.from_buffer(answer).value in _SYNCFS_BELIEVED  # f_type is the first field


def _final(sync: Callable[[int], None], fd: int) -> None:
    global _failed
    if _failed:
        raise _stop()
    try:
        sync(fd)
    except OSError as error:
        _failed = True
        raise _stop() from error
