"""Proving that the store is what the journal says: every byte, every segment, every key; and the digest over the catalogue."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from core.errors import DaichoError
from records import queries
from records.operation import opened
from records.stores import Stores
from storage.canonical import canonical, sha256_hex
from storage.port import Finding, Pin


@dataclass
class Verified:
    """What a verification read and what it found wrong."""

    objects: int = 0
    files: int = 0
    bytes: int = 0
    segments: int = 0
    keys: int = 0
    findings: list[Finding] = field(default_factory=list)
    unacknowledged: list[Finding] = field(default_factory=list)


def verify(stores: Stores, progress: Callable[[int], None] = lambda done: None) -> Verified:
    """Read every object, segment and key. Damage becomes findings; objects that a broken-off write left are told apart.

    Args:
        progress: called with the number of objects read so far.
    """
    result = Verified()
    previous = ""
    last = queries.last_segment()
    try:
        for number, segment in stores.journal.segments():
            opened(number, segment, previous)
            previous = sha256_hex(segment)
            result.segments = number
            if number == last.number and previous != last.digest:
                result.findings.append(
                    Finding("journal", str(number), "journal.rewritten", "not what the catalogue folded")
                )
    except DaichoError as error:
        result.findings.append(Finding("journal", str(result.segments + 1), error.code, error.en))
    if result.segments < last.number:
        result.findings.append(Finding("journal", str(last.number), "journal.short", "segments are missing at the end"))
    known = set()
    for object_id, pins in _pinned():
        known.add(object_id)
        _object(stores, result, object_id, pins)
        progress(result.objects)
    for object_id in stores.objects.objects():
        if object_id not in known:
            _object(stores, result, object_id, [])
    try:
        for finding in stores.objects.strays():
            _sort(result, finding)
    except DaichoError as error:  # at the end of hours of reading: what was found must not be lost
        result.findings.append(Finding("", "", error.code, error.en))
    result.findings.extend(stores.keys.check())
    living = set(stores.keys.ids())
    result.keys = len(living)
    result.findings.extend(
        Finding(object_id, "", "keys.gone", "the key of this object is missing") for object_id in sorted(known - living)
    )
    return result


def _object(stores: Stores, result: Verified, object_id: str, pins: list[Pin]) -> None:
    checked = stores.objects.check(object_id, pins)
    result.objects += 1
    result.files += checked.files
    result.bytes += checked.bytes
    for finding in checked.findings:
        _sort(result, finding)


def _sort(result: Verified, finding: Finding) -> None:
    (result.unacknowledged if finding.code == "unacknowledged" else result.findings).append(finding)


def _pinned() -> Iterator[tuple[str, list[Pin]]]:
    for object_id, rows in groupby(queries.pins(), key=lambda row: row[0]):
        yield object_id, [Pin(*row) for row in rows]


def catalogue_digest() -> str:
    """SHA-256 (hex) over every catalogue table but sessions and password hashes, rows in canonical form and order."""
    digest = hashlib.sha256()
    for table, row in queries.digest_rows():
        digest.update(canonical([table, row]) + b"\n")
    return digest.hexdigest()
