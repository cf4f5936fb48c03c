"""Verifying an installation in one go, in parts over many days, or on after a break; a store alone; and putting damage right from a copy.

How far a verification has come, and how the last whole one ended, lies in the data folder (`verified.json`), not in the store. Losing it costs
a verification from the beginning.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from access.decide import Actor, require_administrator
from core.clock import Clock, SystemClock, day_in_japan, stamp
from core.errors import BadInput, Conflict, NotReady, StorageFull
from core.settings import Settings
from pipelines.backups import place_name, reading_of
from pipelines.noted import note, noted
from pipelines.progress import Progress
from pipelines.rebuild import only_read
from records import queries
from records.check import Folded, Pace, Pins, Reading, Verified, link, read_journal, verify, verify_copy
from records.found import person_by_login
from records.operation import note_alone
from records.stores import Stores
from storage.mending import LooseJournal, Mended, Places, mend_journal, mend_object, mend_root
from storage.places import STORE_PLACE, described
from storage.port import Finding, Pacer, Pin, unhurried
from storage.readonly import read_only
from wiring import catalogue
from wiring.engines import open_objects, open_places
from wiring.open import named_store, open_installation

FILE = "verified.json"

SAVED = 20.0
"""Seconds between two notes of how far a verification has come."""


@dataclass(frozen=True)
class Speed:
    """`jobs`: objects read at a time. `rate`: bytes a second in all, 0 for as many as come."""

    jobs: int
    rate: float = 0.0


def verify_installation(
    settings: Settings,
    stores: Stores,
    speed: Speed,
    *,
    resume: bool = False,
    within: int = 0,
    progress: Progress = lambda step, done, total: None,
    clock: Clock | None = None,
) -> Verified:
    """Read the installation's store, or as much of it as is due. Findings are those of the whole round so far.

    A round is a verification of everything. Objects are read in the order of their ids; journal and keys are read in every run.

    Args:
        resume: go on with the round that was broken off, where there is one, instead of beginning a new one.
        within: (days) go on with the round as far as it must be today so that it ends so many days after it began: for a daily job.
    """
    clock = clock or SystemClock()
    state = noted(settings, FILE)
    begun, before = _round(state) if resume or within else ("", Verified())
    begun = begun or stamp(clock.now())
    days = (day_in_japan(clock.now()) - day_in_japan(datetime.fromisoformat(begun))).days + 1
    share = min(days / within, 1.0) if within else 1.0
    so_far, saved = before, time.monotonic()

    def told(read: Verified) -> None:
        nonlocal so_far, saved
        so_far = read
        if time.monotonic() - saved > SAVED:
            _note(settings, state | {"round": _kept(begun, read)})
            saved = time.monotonic()

    pace: Pacer = Pace(speed.rate) if speed.rate else unhurried
    reading = Reading(speed.jobs, pace, before, share, told)
    try:
        result = verify(stores, lambda done, total: progress("verify", done, total), reading)
    except BaseException:
        _note(settings, state | {"round": _kept(begun, so_far)})
        raise
    if not result.whole:
        _note(settings, state | {"round": _kept(begun, so_far)})
    else:
        _note(settings, {"last": _ended(begun, stamp(clock.now()), result)})
    return result


def verify_unopened(settings: Settings, speed: Speed, progress: Progress = lambda step, done, total: None) -> Verified:
    """Read the store of an installation that does not open, since its journal has a gap: without its catalogue and keys."""
    return _verified_alone(settings, speed, progress)


def verify_store(
    settings: Settings, place: Path, speed: Speed, progress: Progress = lambda step, done, total: None
) -> Verified:
    """Read a store alone: a copy, a backup, a bucket. Needs no installation and no keys, and writes nothing.

    Raises:
        NotReady: (`store.missing`, `store.newer`, `store.damaged`) there is none that can be read.
    """
    return _verified_alone(reading_of(settings, place), speed, progress)


def _verified_alone(told: Settings, speed: Speed, progress: Progress) -> Verified:
    places = open_places(told)
    described(places.read(STORE_PLACE))
    pace: Pacer = Pace(speed.rate) if speed.rate else unhurried
    reading = Reading(speed.jobs, pace)
    return verify_copy(
        LooseJournal(places), open_objects(told), lambda done, total: progress("verify", done, total), reading
    )


@dataclass(frozen=True)
class Repaired:
    """What was put back (places within the store), and what a verification finds after that."""

    places: tuple[str, ...]
    result: Verified


def repair(
    settings: Settings, place: Path, speed: Speed, progress: Progress = lambda step, done, total: None
) -> Repaired:
    """Verify, and put back from a copy what is damaged or missing, as far as digests prove it. Every file put back is journalled before.

    The journal comes first, since without it nothing opens: of its own mending it can tell only afterwards.

    Args:
        place: the copy: a backup, the folder of a store, or a file whose `[store]` names a bucket.

    Raises:
        NotPermitted: the person of the settings is no administrator.
        Conflict: (`repair.foreign`) the copy is of another store. BadInput: (`repair.same`) it is the store itself.
    """
    if not catalogue.exists(settings):
        open_installation(settings, index=False)  # says what is missing
    actor = Actor(person_by_login(settings.person), "cli")
    require_administrator(actor)
    if only_read(settings):
        raise read_only()
    told = reading_of(settings, place)
    here, copy = open_places(settings), open_places(told)
    if place_name(told) == place_name(settings):
        raise BadInput(
            "これは保管庫そのものです。別の場所にある写しを指定してください。",
            "This is the store itself. Name a copy that lies elsewhere.",
            code="repair.same",
        )
    ours = named_store(settings)
    if described(copy.read(STORE_PLACE)) != ours:
        raise Conflict(
            "これは別の保管庫の写しです。この保管庫の控えを指定してください。",
            "This is a copy of another store. Name a backup of this one.",
            code="repair.foreign",
        )
    first = _together(
        mend_root(ours, here, lambda places: None), mend_journal(here, copy, Folded(), link, lambda places: None)
    )
    stores = open_installation(settings, index=False)
    if first.repaired:
        note_alone(stores, actor, "repaired", data={"object": "", "places": list(first.repaired)})
    result = verify_installation(settings, stores, speed, progress=progress)
    mended = _mend_objects(stores, actor, result, here, copy)
    if mended.repaired:
        state = noted(settings, FILE)
        with suppress(KeyError):
            last = state["last"]
            _note(settings, {"last": _ended(last["begun"], last["ended"], result)})
    return Repaired((*first.repaired, *mended.repaired), result)


def _mend_objects(stores: Stores, actor: Actor, result: Verified, here: Places, copy: Places) -> Mended:
    """Mend the objects with findings; those are replaced by what is found afterwards."""
    mended = Mended()
    left: list[Finding] = []
    with closing(Pins()) as pins:
        read_journal(stores.journal, pins, Verified())
        pins.add(Pin(*row) for row in queries.pins())
        for object_id, findings in groupby(result.findings, key=lambda each: each.object_id):
            wanted = pins.of(object_id)
            kept = [each for each in findings if not wanted or each.code.startswith("keys.")]
            left += kept
            if not wanted:
                continue

            def announce(places: tuple[str, ...], object_id: str = object_id) -> None:
                record = object_id if object_id.startswith("r-") else ""
                data = {"object": object_id, "places": list(places)}
                note_alone(stores, actor, "repaired", record=record, data=data)

            digests = {pin.number: pin.digest for pin in wanted}
            mended = _together(mended, mend_object(object_id, digests, here, copy, announce))
            left += stores.objects.check(object_id, wanted).findings
    result.findings = []
    result.note(left)
    result.sort()
    return mended


def _together(one: Mended, other: Mended) -> Mended:
    return Mended((*one.repaired, *other.repaired), (*one.lost, *other.lost))


def last_verification(settings: Settings) -> dict[str, Any] | None:
    """How the last whole verification ended: `begun`, `ended`, `objects`, `bytes`, `findings` and their `codes`; None where there was none."""
    last: dict[str, Any] | None = noted(settings, FILE).get("last")
    return last


def _ended(begun: str, ended: str, result: Verified) -> dict[str, Any]:
    return {
        "begun": begun,
        "ended": ended,
        "objects": result.objects,
        "bytes": result.bytes,
        "findings": len(result.findings),
        "codes": dict(sorted(Counter(finding.code for finding in result.findings).items())),
    }


def _kept(begun: str, read: Verified) -> dict[str, Any]:
    return {
        "begun": begun,
        "reached": read.reached,
        "objects": read.objects,
        "files": read.files,
        "bytes": read.bytes,
        "findings": [
            [each.object_id, each.path, each.code, each.detail] for each in (*read.findings, *read.unacknowledged)
        ],
    }


def _round(state: dict[str, Any]) -> tuple[str, Verified]:
    """When the round began and what it has read; nothing where none was begun or what was noted cannot be read."""
    with suppress(KeyError, TypeError, ValueError):
        kept = state["round"]
        datetime.fromisoformat(kept["begun"])
        read = Verified(kept["objects"], kept["files"], kept["bytes"], reached=kept["reached"])
        read.note(Finding(*each) for each in kept["findings"])
        return kept["begun"], read
    return "", Verified()


def _note(settings: Settings, state: dict[str, Any]) -> None:
    with suppress(NotReady, StorageFull):  # a data folder that cannot be written must not end what takes days
        note(settings, FILE, state)
