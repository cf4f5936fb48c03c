"""Copying a whole store into another one of any engine, through the ports alone.

Everything keeps its place and its digests: the same ids, versions, pins and segments. What is there already is compared
and not written again, so a copy that was broken off goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.errors import Conflict, DigestMismatch
from storage.port import DerivativeStore, Journal, NewVersion, ObjectStore, Pin
from storage.streams import size_of

GROUP = 16
GROUP_BYTES = 32 << 20
"""Versions sealed together: so many, or so many bytes."""


@dataclass(frozen=True)
class Side:
    """The ports of one of the two stores."""

    objects: ObjectStore
    journal: Journal
    derivatives: DerivativeStore


@dataclass(frozen=True)
class Copied:
    """Objects, object versions, journal segments and derivatives that the target now holds; `versions_written` were new there."""

    objects: int
    versions: int
    versions_written: int
    segments: int
    derivatives: int


def copy_store(source: Side, target: Side, progress: Callable[[int], None] = lambda done: None) -> Copied:
    """Bring `target` up to `source` as it is at the beginning; durable on return. Nobody else may write to `target`.

    Objects come before the journal, so that a target cut short, or one whose source goes on, never names what it lacks. Versions that a broken-off
    write left unacknowledged are copied too: later versions may rest on them.

    Args:
        progress: called with the number of objects done.

    Raises:
        Conflict: (`copy.ahead`) the target's journal goes further than the source's; `Conflict` of the ports where the target
            holds other bytes.
        DigestMismatch: the source is damaged, or (`copy.differs`) the target made another inventory of the same version.
    """
    last = source.journal.last()
    if target.journal.last() > last:
        raise Conflict(
            "移し先の記録簿のほうが先へ進んでいます。移し元と移し先を取り違えていないか確かめてください。",
            "The target's journal goes further than the source's. Check that source and target are not mixed up.",
            code="copy.ahead",
        )
    objects = versions = written = 0
    group: list[tuple[Pin, NewVersion]] = []
    size = 0
    for object_id in source.objects.objects():
        head = source.objects.head(object_id)
        there = target.objects.head(object_id)
        if there > head:
            raise _differs(object_id)
        for number in range(1, head + 1):
            pin = source.objects.pin(object_id, number)
            if number <= there:
                if target.objects.pin(object_id, number) != pin:
                    raise _differs(object_id)
                continue
            version = source.objects.exported(pin)
            group.append((pin, version))
            size += sum(size_of(content) for content in version.files.values())
            if len(group) >= GROUP or size >= GROUP_BYTES:
                written += _seal(target.objects, group)
                group, size = [], 0
        objects += 1
        versions += head
        progress(objects)
    written += _seal(target.objects, group)
    for number, segment in source.journal.segments():
        if number > last:
            break  # somebody works on: objects it names may have come after we looked
        target.journal.append(number, segment)
    derivatives = 0
    for name in source.derivatives.names():
        data = source.derivatives.get(name)
        if data is not None:
            derivatives += 1
            if target.derivatives.get(name) != data:
                target.derivatives.put({name: data})
    return Copied(objects, versions, written, last, derivatives)


def _seal(objects: ObjectStore, group: list[tuple[Pin, NewVersion]]) -> int:
    made = objects.seal([version for _, version in group])
    for (pin, _), sealed in zip(group, made, strict=True):
        if sealed != pin:
            raise _differs(pin.object_id)
    return len(group)


def _differs(object_id: str) -> DigestMismatch:
    return DigestMismatch(
        f"移し先のオブジェクト {object_id} が、移し元のものと違います。移し先を空にしてやり直してください。",
        f"Object {object_id} in the target is not the one of the source. Empty the target and try again.",
        code="copy.differs",
    )
