"""The ports of the store: objects, keys, journal, derivatives. Their docstrings are the contract that
tests/contracts/ checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, TypeAlias

Pacer: TypeAlias = Callable[[int], None]
"""Told of bytes that were read; may wait."""


def unhurried(size: int) -> None:
    """The pace that holds nobody up."""


class Source(Protocol):
    """Bytes of a file that is too large to hold, already encrypted: the same ones each time they are read."""

    @property
    def size(self) -> int:
        """How many bytes there are."""
        ...

    def open(self) -> BinaryIO:
        """Read them from the beginning; whoever asked closes it. Several may read at a time."""
        ...


Content: TypeAlias = bytes | Source
"""A file to be sealed."""


@dataclass(frozen=True)
class NewVersion:
    """One OCFL version to be sealed.

    `files` maps logical paths (opaque, no personal data) to bytes or a `Source` of them, already encrypted; `carried`
    names logical paths taken over unchanged from version `number - 1`. What is in neither is not part of the new
    version's state. `user` is an opaque id.
    """

    object_id: str
    number: int
    files: Mapping[str, Content]
    created: str
    user: str
    message: str
    carried: Sequence[str] = ()


@dataclass(frozen=True)
class Pin:
    """Names one version of one object for ever.

    `digest` is the SHA-512 (hex) of that version's inventory, so whoever holds a pin can check every byte beneath it,
    in any engine: an engine that keeps several bytes under one name finds those that have the digest.
    """

    object_id: str
    number: int
    digest: str


@dataclass(frozen=True)
class Finding:
    """Something wrong in a store: which object, which file in it (path within the object), a stable code, and words."""

    object_id: str
    path: str
    code: str
    detail: str


@dataclass
class Checked:
    """What a verification of one object read."""

    object_id: str
    files: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)


class ObjectStore(Protocol):
    """Sealed objects: written once, read by pin, never changed. There is no delete.

    Any number of readers; writers of different objects need not wait for each other; two writers of one version: one
    wins, the other gets `Conflict` unless the bytes are the same.
    """

    def seal(self, versions: Sequence[NewVersion]) -> list[Pin]:
        """Seal versions, in order; on return all of them are durable, complete or (on an error) each one complete or
        absent.

        The same version with the same bytes again succeeds and returns the same pin. With other bytes: `Conflict`. A
        number that is not head + 1: `Conflict`. No room: `StorageFull`, and what was sealed before stays. A failed
        sync: `StorageFailed`. A `Source` is read in pieces, and what reading it raises leaves its version absent.
        """
        ...

    def head(self, object_id: str) -> int:
        """The highest complete version of the object, 0 if there is none (never raises for an unknown id)."""
        ...

    def read(self, pin: Pin, path: str) -> bytes:
        """Bytes of logical path `path` in the pinned version, checked against the inventory's digest, the inventory
        against the pin.

        `NotFound` for an unknown object, version or path; `DigestMismatch` when the bytes are not those sealed.
        """
        ...

    def open(self, pin: Pin, path: str) -> BinaryIO:
        """The same bytes to be read in pieces, however many there are; whoever asked closes it. `NotFound` at once.

        Where the last read would tell the end, `DigestMismatch` is raised when the bytes are not those sealed. So
        nothing of them may be used for good before their end has been told: keep them apart until then.
        """
        ...

    def paths(self, pin: Pin) -> dict[str, str]:
        """Logical path -> SHA-512 (hex, of the encrypted bytes) for the pinned version; errors as `read`."""
        ...

    def pin(self, object_id: str, number: int) -> Pin:
        """The pin of a complete version as the store has it now, acknowledged or not: for copying a whole store.
        `NotFound` where there is none.
        """
        ...

    def exported(self, pin: Pin) -> NewVersion:
        """The pinned version as it was handed to `seal`: sealed in another store, on the same versions before it, it
        has the same pin. Large files come as a `Source` that reads this store. Errors as `read`.
        """
        ...

    def objects(self) -> Iterator[str]:
        """Ids of all objects with at least one complete version, in no particular order, while others write."""
        ...

    def check(self, object_id: str, pins: Sequence[Pin] = (), pace: Pacer = unhurried) -> Checked:
        """Read every byte of the object, without keys; damage becomes findings, never an exception.

        Inventories must have the digests of `pins`; versions above the highest pin are reported as `unacknowledged`.
        `pace` is called with the length of each piece of a content file (at most `streams.PIECE`) when it has been read,
        perhaps from several threads, and may hold up who reads; pieces read twice are told twice.
        """
        ...

    def strays(self) -> list[Finding]:
        """What lies in the store and belongs to no object (code `stray`), or was begun and never became one
        (`unacknowledged`); what of the storage root's own files is `missing` or `damaged`; on S3 also what hides the
        store's own files. Nothing is removed.
        """
        ...

    def worm(self) -> bool:
        """Whether what is sealed here resists everybody's hand until its lock ends, as far as a probe can tell.

        True only when an attempt to delete, to shorten and to weaken a lock of our own was refused, today; asks the
        engine at most once a day. Errors of the engine as everywhere.
        """
        ...

    def describe(self) -> dict[str, str]:
        """What `daicho info` says of this store: `engine`, `layout`, `worm` (what it truly resists), for people."""
        ...


def every(number: int) -> bool:
    """Chooses every segment of the journal."""
    return True


class Locks(Protocol):
    """Locks on what an `ObjectStore` sealed, of an engine that has them. A lock can be lengthened, never shortened."""

    def extend(self, object_id: str, until: str) -> int:
        """Lock every sealed file of the object at least until `until` (UTC, ISO 8601); how many files were lengthened.

        May be repeated; a file already locked for longer is left alone. `NotFound` for an unknown object.
        """
        ...

    def extend_rest(self, until: str, due: Callable[[int], bool] = every) -> int:
        """The same for what is locked and belongs to no object: the store's description, and the segments of the
        journal whose numbers `due` chooses.
        """
        ...

    def ends(self, object_id: str) -> str:
        """When the first of the object's locks with a date ends (UTC, ISO 8601), as the engine says it now; "" where
        nothing keeps some sealed file from being removed: no lock, no legal hold. A file on hold has no end.

        `NotFound` for an unknown object.
        """
        ...

    def rest_ends(self, due: Callable[[int], bool] = every) -> str:
        """The same for what `extend_rest` locks."""
        ...

    def hold(self, object_id: str) -> None:
        """Put a legal hold on every sealed file of the object: locked without an end, until `release`. Repeatable."""
        ...

    def release(self, object_id: str) -> None:
        """Take the legal hold away; locks with a date stay. Repeatable."""
        ...


@dataclass(frozen=True)
class Key:
    """A content key: an X25519 age identity. `secret` is `AGE-SECRET-KEY-1…`, `recipient` is `age1…`."""

    id: str
    secret: str = field(repr=False)
    recipient: str = ""


class KeyStore(Protocol):
    """Content keys, each wrapped under the master key, apart from the objects; destroying one destroys what it opened.

    Bound to one store by the store's id. Safe for one writer and many readers.
    """

    def create(self, key_ids: Sequence[str]) -> list[Key]:
        """Make (or return, where they exist) keys with these ids; all are durable on return, with one sync for the
        group.
        """
        ...

    def get(self, key_id: str) -> Key:
        """The key; `KeysMissing` (code `keys.gone`) when it was destroyed or never existed, `DigestMismatch` when its
        file is damaged.
        """
        ...

    def destroy(self, key_id: str) -> None:
        """Make the key unrecoverable in this key store; durable on return; destroying twice succeeds."""
        ...

    def ids(self) -> Iterator[str]:
        """Ids of all living keys, sorted."""
        ...

    def check(self) -> list[Finding]:
        """Unwrap every key; damaged ones become findings (`object_id` holds the key id)."""
        ...


@dataclass(frozen=True)
class Rotated:
    """What a rotation of the master key did: keys there are, those it wrapped anew, those that it could not open.

    With `findings` it is not finished, and the keys stay open to both master keys.
    """

    keys: int
    wrapped: int
    findings: tuple[Finding, ...]


class Journal(Protocol):
    """The append-only sequence of segments, numbered 1, 2, 3 … without a gap."""

    def append(self, number: int, segment: bytes) -> None:
        """Write segment `number`; durable on return.

        The same number with the same bytes succeeds; with other bytes `Conflict`; a number that would leave a gap:
        `Conflict`.
        """
        ...

    def last(self) -> int:
        """The highest segment number, 0 when empty. A gap beneath it: `StoreDamaged`."""
        ...

    def read(self, number: int) -> bytes:
        """The segment's bytes; `NotFound` beyond the last."""
        ...

    def segments(self, first: int = 1) -> Iterator[tuple[int, bytes]]:
        """(number, bytes) from `first` to the last, in order."""
        ...


class DerivativeStore(Protocol):
    """What can be made again (upright pages, thumbnails, whole-page text): one encrypted archive a name. Not locked,
    may be lost.
    """

    def put(self, archives: Mapping[str, bytes]) -> None:
        """Write or replace archives by their names, those of a group together. Each is atomic, but not awaited: it may be
        gone after a power loss. On an error some are there and others are not.
        """
        ...

    def get(self, name: str) -> bytes | None:
        """The bytes, or None when they are not there (they are remade then)."""
        ...

    def delete(self, name: str) -> None:
        """Remove; absent names are no error."""
        ...

    def names(self) -> Iterable[str]:
        """All names."""
        ...
