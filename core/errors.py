"""The outcomes a caller treats differently, one class each, under one root.

An error carries a stable `code` (documented in docs/errors.md), the `exit_code` of the command line, whether trying again may
help (`retryable`), and a message in Japanese and English that says what to do next. Adapters translate vendors' errors into these
at their edge, with `from`. Text shown to people lives where the error is raised; nothing here knows what failed.
"""

from __future__ import annotations


class DaichoError(Exception):
    """Root of all coded errors.

    Args:
        ja: what happened and what to do next, in Japanese, without personal data.
        en: the same in English.
        code: stable code when the class's own is too coarse, for instance `file.encrypted`.
    """

    code = "internal"
    exit_code = 70
    retryable = False

    def __init__(self, ja: str, en: str, *, code: str | None = None) -> None:
        super().__init__(en)
        self.ja = ja
        self.en = en
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuilt, (type(self), self.ja, self.en, self.code))

    def message(self, language: str = "ja") -> str:
        """The message in `language` ("ja" or "en")."""
        return self.en if language == "en" else self.ja


def _rebuilt(kind: type[DaichoError], ja: str, en: str, code: str) -> DaichoError:
    return kind(ja, en, code=code)


class BadInput(DaichoError):
    """What was given cannot be used as it is: an option, a definition, a date."""

    code = "input.bad"
    exit_code = 64


class BadFile(DaichoError):
    """A file is not what its name says, is broken, encrypted, or beyond the limits of the decoder."""

    code = "file.bad"
    exit_code = 65


class NotFound(DaichoError):
    """There is no such thing, or the actor may not know of it: the two must not differ in any way."""

    code = "not_found"
    exit_code = 66


class NotSignedIn(DaichoError):
    """Nobody is signed in, or name and password do not match."""

    code = "sign_in"
    exit_code = 77


class NotPermitted(DaichoError):
    """The actor may know of the thing but may not do this to it."""

    code = "not_permitted"
    exit_code = 77


class Conflict(DaichoError):
    """Somebody else was first: the same key holds other bytes, or a record has moved on since it was read."""

    code = "conflict"
    exit_code = 75


class NotReady(DaichoError):
    """The installation is not set up, or set up twice."""

    code = "not_ready"
    exit_code = 78


class KeysMissing(DaichoError):
    """The key folder is missing, foreign to this store, or a key in it is gone."""

    code = "keys.missing"
    exit_code = 78


class DigestMismatch(DaichoError):
    """Bytes are not those whose digest was recorded: damage or alteration."""

    code = "digest.mismatch"
    exit_code = 74


class StoreDamaged(DaichoError):
    """The store is incomplete or contradicts itself in a way that is not one file's digest."""

    code = "store.damaged"
    exit_code = 74


class StorageFull(DaichoError):
    """No room, or the disk refuses writes; what was acknowledged is safe."""

    code = "storage.full"
    exit_code = 74
    retryable = True


class StorageFailed(DaichoError):
    """A write or sync failed in a way after which nothing on the disk may be believed: the process stops."""

    code = "storage.failed"
    exit_code = 74


class Busy(DaichoError):
    """Another process holds the installation's write lock; try again later."""

    code = "busy"
    exit_code = 75
    retryable = True


class Unreachable(DaichoError):
    """An engine (object storage, database, index) does not answer, or not in time; nothing says it will not soon."""

    code = "engine.unreachable"
    exit_code = 75
    retryable = True


class ToolMissing(DaichoError):
    """An optional program or library is not on this machine."""

    code = "tool.missing"
    exit_code = 69


class IndexOutdated(DaichoError):
    """The index was built by another normaliser or layout; it must be rebuilt."""

    code = "index.outdated"
    exit_code = 78
