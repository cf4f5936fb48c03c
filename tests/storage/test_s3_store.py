"""The store in a bucket: contracts on two servers, what nobody can change for a reader, locks, the probe, OCFL.

Nothing of the contracts is left out for either server. What versitygw does otherwise and the store copes with: its GET does
not tell of locks, its listing does not encode keys and begins with the marker, and it refuses to put behind a delete marker.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from minio.credentials import StaticProvider
from minio.minioadmin import MinioAdmin

from core.clock import FixedClock
from core.errors import BadInput, Conflict, DigestMismatch, NotFound, NotReady, StoreDamaged, Unreachable
from core.settings import S3Settings
from storage import bucket as bucket_module
from storage.bucket import Bucket, Lock
from storage.inventory import NAME, SIDECAR
from storage.places import ROOT_FILES, ROOT_PLACES, STORE_PLACE, derivative_place, object_place, segment_place
from storage.port import NewVersion, Pin
from storage.s3 import S3Derivatives, S3Journal, S3Objects, create_s3_store, open_s3_store
from tests.contracts.storage_contracts import (
    BIG,
    Damage,
    DerivativeStoreContract,
    Generated,
    JournalContract,
    LocksContract,
    ObjectStoreContract,
    later,
    read_through,
    version,
)
from tests.servers.proxy import Answer, Forward, HttpFront, Request, compliance_in_name_only, drop, s3_error
from tests.servers.running import HOST, S3Server
from tests.storage.buckets import damaging, lock_ends, opened, remove, removed, sealed, through


@pytest.fixture(scope="module", params=["minio", "versitygw"])
def server(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def where(server: S3Server) -> S3Settings:
    """A store that an administrator, who may go round GOVERNANCE, can damage."""
    where = server.new(lock_mode="GOVERNANCE", timeout=10)
    create_s3_store(where, "s-1")
    return where


@pytest.fixture
def bucket(where: S3Settings) -> Bucket:
    return opened(where)


@pytest.fixture
def objects(where: S3Settings) -> S3Objects:
    return S3Objects(where)


@pytest.fixture
def damage(bucket: Bucket) -> Damage:
    return damaging(bucket)


@pytest.fixture
def journal(where: S3Settings) -> S3Journal:
    return S3Journal(where)


@pytest.fixture
def derivatives(where: S3Settings) -> S3Derivatives:
    return S3Derivatives(where)


@pytest.fixture
def locks(objects: S3Objects) -> S3Objects:
    return objects


@pytest.fixture
def ends(bucket: Bucket) -> Callable[[str], list[datetime]]:
    return partial(lock_ends, bucket)


@pytest.fixture(name="removed")
def _removed(bucket: Bucket) -> Callable[[str], bool]:
    return partial(removed, bucket)


class TestS3Objects(ObjectStoreContract):
    pass


class TestS3Journal(JournalContract):
    pass


class TestS3Derivatives(DerivativeStoreContract):
    pass


class TestS3Locks(LocksContract):
    pass


# What others do to names changes nothing for a reader


def hide(bucket: Bucket, place: str) -> None:
    bucket.delete(place)


def overlay(bucket: Bucket, place: str) -> None:
    bucket.put(place, b"forged")


def overlay_often(bucket: Bucket, place: str) -> None:
    for turn in range(5):
        bucket.put(place, b"forged %d" % turn)
        bucket.delete(place)
        bucket.put(place, b"forged again %d" % turn)


@pytest.mark.parametrize(("attack", "code"), [(hide, "hidden"), (overlay, "overlaid"), (overlay_often, "overlaid")])
def test_no_marker_and_no_overlay_changes_what_is_read(
    where: S3Settings,
    bucket: Bucket,
    objects: S3Objects,
    journal: S3Journal,
    attack: Callable[[Bucket, str], None],
    code: str,
) -> None:
    pins = objects.seal([version(a=b"1", b=b"2"), version(number=2, c=b"3", carried=("a",))])
    journal.append(1, b"one")
    journal.append(2, b"two")
    attacked = [*sealed(bucket, "r-1"), segment_place(1), segment_place(2), STORE_PLACE, *ROOT_PLACES]
    for place in attacked:
        attack(bucket, place)
    for fresh, told in ((S3Objects(where), S3Journal(where)), (objects, journal)):
        assert [fresh.read(pins[0], path) for path in "ab"] == [b"1", b"2"]
        assert [fresh.read(pins[1], path) for path in "ca"] == [b"3", b"1"]
        assert fresh.read(pins[1], "c") == b"3"  # now from the version that was remembered
        assert fresh.exported(pins[0]).files == {"a": b"1", "b": b"2"}
        assert [fresh.pin("r-1", number) for number in (1, 2)] == pins
        assert (fresh.head("r-1"), list(fresh.objects())) == (2, ["r-1"])
        assert list(told.segments()) == [(1, b"one"), (2, b"two")]
        assert (told.last(), told.read(2)) == (2, b"two")
        with pytest.raises(Conflict):
            told.append(2, b"forged")
        told.append(2, b"two")
    assert open_s3_store(where) == "s-1"
    found = objects.check("r-1", pins).findings
    home = f"{object_place('r-1')}/"
    assert {(f.path, f.code) for f in found} == {(place.removeprefix(home), code) for place in sealed(bucket, "r-1")}
    assert {(f.path, f.code) for f in objects.strays()} == {
        (place, code) for place in (segment_place(1), segment_place(2), STORE_PLACE, *ROOT_PLACES)
    }
    # It goes on behind what was done, too.
    [third] = objects.seal([version(number=3, d=b"4", carried=("c",))])
    assert objects.read(third, "c") == b"3"
    journal.append(3, b"three")
    assert S3Journal(where).last() == 3


@pytest.mark.parametrize("attack", [hide, overlay, overlay_often])
def test_nor_does_it_change_what_is_read_in_pieces(
    where: S3Settings, bucket: Bucket, objects: S3Objects, attack: Callable[[Bucket, str], None]
) -> None:
    [pin] = objects.seal([version(whole=Generated(BIG))])
    place = f"{object_place('r-1')}/v1/content/whole"
    [kept] = bucket.of_key(place)
    lock = bucket.lock_of(place, kept.version)
    assert lock is not None and lock.until > datetime.now(UTC) + timedelta(days=where.lock_days - 1)
    attack(bucket, place)
    forged = Generated(BIG + 1).open().read()
    for turn in range(2):
        assert read_through(objects.open(pin, "whole")) == read_through(Generated(BIG).open())
        assert read_through(objects.exported(pin).files["whole"].open())[0] == BIG  # type: ignore[union-attr]
        if not turn:
            bucket.put(place, forged)  # as large as ours, and newer than what was remembered
    assert read_through(S3Objects(where).open(pin, "whole"))[0] == BIG
    remove(bucket, place)
    with pytest.raises(DigestMismatch):
        S3Objects(where).open(pin, "whole")


def uploads(where: S3Settings, place: str) -> int:
    """How many uploads of parts were begun under a name and neither completed nor given up."""
    bucket = opened(where)
    answer = bucket._request("GET", query={"uploads": "", "prefix": place})
    return answer.data.count(b"<UploadId>")


def test_an_upload_that_fails_is_given_up(server: S3Server, where: S3Settings, objects: S3Objects) -> None:
    place = f"{object_place('r-1')}/v1/content/whole"
    seen: list[int] = []

    def change(request: Request, forward: Forward) -> Answer:
        if request.method == "POST" and "uploadId" in request.query:
            seen.append(uploads(where, place))
            # As S3 does: the answer begins as a success, and the failure comes behind it.
            return Answer(200, {"content-type": "application/xml"}, b"<Error><Code>InternalError</Code></Error>")
        return forward(request)

    with HttpFront(HOST, server.port, change) as front, pytest.raises(Unreachable):
        S3Objects(through(front, where)).seal([version(whole=Generated(BIG))])
    with pytest.raises(NotFound):
        objects.seal([version(whole=Generated(BIG, NotFound("だめ", "no")))])
    assert (seen, uploads(where, place)) == ([1], 0)
    assert objects.head("r-1") == 0


def test_a_segment_put_behind_a_marker_is_no_segment(where: S3Settings, bucket: Bucket, journal: S3Journal) -> None:
    """Some servers let a conditional put through where a marker hides what is there: the first one counts."""
    late = S3Journal(where)
    journal.append(1, b"one")
    bucket.delete(segment_place(1))
    late._last = 0
    with pytest.raises(Conflict):
        late.append(1, b"other")
    assert S3Journal(where).read(1) == b"one"


def test_what_is_gone_is_missing(bucket: Bucket, objects: S3Objects) -> None:
    pins = objects.seal([version(a=b"1", b=b"2"), version(number=2, c=b"3", carried=("a",)), version("r-2", a=b"1")])
    home = object_place("r-1")
    remove(bucket, f"{home}/v1/content/a")
    remove(bucket, f"{home}/v2/{SIDECAR}")
    with pytest.raises(DigestMismatch) as caught:
        objects.read(pins[1], "a")
    assert caught.value.code == "file.missing"
    assert {(f.path, f.code) for f in objects.check("r-1", pins[:2]).findings} == {
        ("v1/content/a", "missing"),
        (f"v2/{SIDECAR}", "damaged"),
    }
    remove(bucket, f"{object_place('r-2')}/v1/{NAME}")
    with pytest.raises(NotFound):
        objects.paths(Pin("r-2", 1, pins[2].digest))
    assert (f"v1/{NAME}", "missing") not in {(f.path, f.code) for f in objects.check("r-2", pins[2:]).findings}
    assert [f.code for f in objects.check("r-2", pins[2:]).findings] == ["missing"]
    assert [(f.object_id, f.code) for f in objects.strays()] == [("r-2", "unacknowledged")]


def test_files_that_do_not_belong_are_found(bucket: Bucket, objects: S3Objects, journal: S3Journal) -> None:
    [pin] = objects.seal([version(a=b"1")])
    journal.append(1, b"one")
    home = object_place("r-1")
    odd = "x/&<%20 ü+\u3042"
    for place in (f"{home}/v1/content/zz", odd, "journal/x", "objects/zz", f"{home}/odd"):
        bucket.put(place, b"x")
    assert {(f.path, f.code) for f in objects.check("r-1", [pin]).findings} == {
        ("v1/content/zz", "extra"),
        ("odd", "extra"),
    }
    assert {(f.path, f.code) for f in objects.strays()} == {
        (place, "stray") for place in (odd, "journal/x", "objects/zz", f"{home}/odd")
    }
    assert (list(objects.objects()), S3Journal(objects._where).last()) == (["r-1"], 1)


def test_the_copies_at_the_root_are_made_again(bucket: Bucket, objects: S3Objects) -> None:
    pins = objects.seal([version(a=b"1"), version(number=2, a=b"2")])
    home = object_place("r-1")
    old = bucket.get(f"{home}/v1/{NAME}")
    assert old is not None
    bucket.put(f"{home}/{NAME}", old.data)
    assert [(f.path, f.code) for f in objects.check("r-1", pins).findings] == [(NAME, "stale")]
    remove(bucket, f"{home}/{NAME}")
    assert [(f.path, f.code) for f in objects.check("r-1", pins).findings] == [(NAME, "damaged")]
    objects.seal([version(number=2, a=b"2")])
    assert objects.check("r-1", pins).findings == []


def test_a_gap_in_the_journal_is_damage(where: S3Settings, bucket: Bucket, journal: S3Journal) -> None:
    for number in range(1, 5):
        journal.append(number, b"%d" % number)
    remove(bucket, segment_place(3))
    with pytest.raises(StoreDamaged):
        S3Journal(where)
    with pytest.raises(StoreDamaged):
        journal.read(3)
    with pytest.raises(StoreDamaged):
        list(journal.segments())


@pytest.mark.slow
# Sealing without asking first


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of requests from now on."""
    asked, real = [], Bucket._request

    def counted(self: Bucket, method: str, *rest: object, **told: object) -> object:
        asked.append(method)
        return real(self, method, *rest, **told)  # type: ignore[arg-type]

    monkeypatch.setattr(Bucket, "_request", counted)
    return asked


def test_what_is_new_is_put_without_asking(objects: S3Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first version, and one on a version that was read under its pin."""
    asked = counting(monkeypatch)
    [first] = objects.seal([version(a=b"1", b=b"2")])
    # The sidecar; two files, declaration; the inventory; two copies at the root.
    assert asked == ["PUT"] * 7
    objects.read(first, "a")
    asked.clear()
    [second] = objects.seal([version(number=2, a=b"3", carried=("b",))])
    assert asked == ["PUT"] * 5
    assert (objects.read(second, "a"), objects.read(second, "b")) == (b"3", b"2")
    assert objects.check("r-1", [first, second]).findings == []


@pytest.mark.parametrize("number", [1, 2])
def test_what_lies_there_already_is_left_as_it_is(where: S3Settings, bucket: Bucket, number: int) -> None:
    """A version that nobody acknowledged, sealed by a process that is gone: the supposition was wrong, and nothing was put over it."""
    ours, theirs = S3Objects(where), S3Objects(where)
    [first] = theirs.seal([version(a=b"1", b=b"2")])
    pins = [first]
    if number == 2:
        ours.read(first, "a")
        pins += theirs.seal([version(number=2, a=b"other", carried=("b",))])
    before = {place: len(bucket.of_key(place)) for place in sealed(bucket, "r-1")}
    with pytest.raises(Conflict):
        ours.seal(
            [version("r-2", x=b"new"), version(number=number, a=b"ours", c=b"ours", carried=("b",) * (number - 1))]
        )
    assert {place: len(bucket.of_key(place)) for place in sealed(bucket, "r-1")} == before
    assert ours.check("r-1", pins).findings == []
    # The same bytes again, and the number behind.
    same = version(a=b"1", b=b"2") if number == 1 else version(number=2, a=b"other", carried=("b",))
    assert ours.seal([same]) == pins[-1:]
    assert ours.head("r-1") == number
    pins += ours.seal([version(number=number + 1, a=b"ours", carried=("b",))])
    assert ours.check("r-1", pins).findings == []


def test_what_was_begun_is_completed_with_other_bytes(where: S3Settings, bucket: Bucket) -> None:
    objects, home = S3Objects(where), object_place("r-1")
    bucket.put(f"{home}/v1/content/a", b"torn", Lock("GOVERNANCE", datetime.now(UTC) + timedelta(days=1)))
    pins = objects.seal([version("r-2", a=b"x"), version(a=b"1", b=b"2")])
    assert [objects.read(pins[1], path) for path in "ab"] == [b"1", b"2"]
    assert [objects.check(pin.object_id, [pin]).findings for pin in pins] == [[], []]


def test_more_than_a_page_of_a_listing(where: S3Settings, bucket: Bucket, objects: S3Objects) -> None:
    files = {f"p/{number}": b"%d" % number for number in range(1100)}
    [pin] = objects.seal([NewVersion("r-1", 1, files, "2026-04-01T00:00:00Z", "u-1", "m")])
    assert (objects.head("r-1"), objects.read(pin, "p/1099")) == (1, b"1099")
    checked = objects.check("r-1", [pin])
    assert (checked.files, checked.findings) == (1100, [])
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: bucket.put(segment_place(number), b"%d" % number), range(1, 1205)))
    journal = S3Journal(where)
    assert journal.last() == 1204
    assert [number for number, segment in journal.segments(996) if segment == b"%d" % number] == list(range(996, 1205))
    journal.append(1205, b"1205")
    assert S3Journal(where).read(1205) == b"1205"


# Two writers, and a writer that dies


def test_another_process_is_seen(where: S3Settings) -> None:
    ours, theirs = S3Journal(where), S3Journal(where)
    theirs.append(1, b"theirs")
    with pytest.raises(Conflict):
        ours.append(1, b"ours")
    ours.append(2, b"ours")
    assert theirs.last() == 2
    assert theirs.read(2) == b"ours"


def test_of_two_processes_exactly_one_gets_a_number(where: S3Settings) -> None:
    begin, go = os.pipe()
    children = []
    for name in ("a", "b"):
        answer, tell = os.pipe()
        child = os.fork()
        if child == 0:
            journal, won = S3Journal(where), []
            os.close(go)
            os.read(begin, 1)  # both wait here until the parent closes its end
            for number in range(1, 61):
                try:
                    journal.append(number, f"{name}{number}".encode())
                    won.append(number)
                except Conflict:
                    pass
            os.write(tell, json.dumps(won).encode())
            os._exit(0)
        os.close(tell)
        children.append((child, answer))
    os.close(go)
    won = []
    for child, answer in children:
        with os.fdopen(answer, "rb") as file:
            won.append(json.loads(file.read()))
        assert os.waitpid(child, 0)[1] == 0
    os.close(begin)
    assert sorted(won[0] + won[1]) == list(range(1, 61))
    journal = S3Journal(where)
    for name, numbers in zip("ab", won, strict=True):
        assert all(journal.read(number) == f"{name}{number}".encode() for number in numbers)


def test_of_two_writers_of_a_version_one_wins(where: S3Settings) -> None:
    """Whoever loses has put its bytes over the winner's; the winner's are read."""

    def attempt(name: str, number: int) -> Pin | None:
        try:
            return S3Objects(where).seal([version(f"r-{number}", a=name.encode() * 100, b=b"same")])[0]
        except Conflict:
            return None

    with ThreadPoolExecutor(2) as threads:
        for number in range(20):
            pins = list(threads.map(attempt, ("x", "y"), (number, number)))
            won = [name for name, pin in zip("xy", pins, strict=True) if pin]
            assert len(won) == 1
            objects, [pin] = S3Objects(where), [pin for pin in pins if pin]
            assert objects.read(pin, "a") == won[0].encode() * 100
            codes = {finding.code for finding in objects.check(f"r-{number}", [pin]).findings}
            assert codes <= {"overlaid"}, codes


def killed_at(point: int, after: bool, work: Callable[[], object]) -> bool:
    """Run `work` in a child that is killed at its `point`-th put, before it or when it was acknowledged; whether it came
    that far.
    """
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == signal.SIGKILL
    left, real = point, bucket_module.Bucket.put

    def counted(*arguments: object, **named: object) -> object:
        nonlocal left
        left -= 1
        dies = left == 0
        if dies and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*arguments, **named)  # type: ignore[arg-type]
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    try:
        bucket_module.Bucket.put = counted  # type: ignore[assignment, method-assign]
        work()
    finally:
        os._exit(0)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["minio"], indirect=True)
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_put_of_a_seal(where: S3Settings, bucket: Bucket, after: bool) -> None:
    """Complete or absent, and the rerun converges, with the same bytes or, as encryption makes them, with others."""
    point, states = 0, set()
    while True:
        point += 1
        [a, b] = [f"a-{point}", f"b-{point}"]
        objects = S3Objects(where)
        [first] = objects.seal([version(a, a=b"1")])

        def group(text: bytes, a: str = a, b: str = b) -> list[NewVersion]:
            return [version(a, 2, b=text, carried=("a",)), version(b, a=text), version(a, 3, c=text)]

        came = killed_at(point, after, lambda group=group: S3Objects(where).seal(group(b"2")))  # type: ignore[misc]
        heads = (objects.head(a), objects.head(b))
        states.add(heads)
        for name in (a, b):
            if objects.head(name):
                # A root copy left behind is closed by the next seal.
                assert {f.code for f in objects.check(name).findings} <= {"stale", "damaged", "unacknowledged"}
                assert not [f for f in objects.check(name).findings if "content" in f.path]
        assert {f.code for f in objects.strays()} <= {"unacknowledged"}
        text = b"other" if heads == (1, 0) else b"2"
        pins = objects.seal(group(text))
        assert objects.check(a, [first, pins[0], pins[2]]).findings == []
        assert objects.check(b, [pins[1]]).findings == []
        assert (objects.read(pins[0], "b"), objects.read(pins[1], "a")) == (text, text)
        if not came:
            break
    assert point > 14
    assert {(1, 0), (2, 1), (3, 1)} <= states
    assert objects.strays() == []


# Locks


def test_everything_sealed_is_locked_from_the_first_moment(server: S3Server) -> None:
    where = server.new(lock_days=40)
    create_s3_store(where, "s-1")
    bucket, objects = opened(where), S3Objects(where)
    [pin] = objects.seal([version(a=b"1")])
    S3Journal(where).append(1, b"one")
    for place in (*sealed(bucket, "r-1"), segment_place(1), STORE_PLACE, *ROOT_PLACES):
        [kept] = bucket.of_key(place)
        lock = bucket.lock_of(place, kept.version)
        assert lock is not None and lock.mode == "COMPLIANCE"
        assert timedelta(days=39, hours=23) < lock.until - datetime.now(UTC) <= timedelta(days=40)
        assert not bucket.lets_delete(place, kept.version, bypass=True)
    assert objects.check("r-1", [pin]).findings == []


def test_a_file_without_a_lock_is_found(bucket: Bucket, objects: S3Objects) -> None:
    pins = objects.seal([version(a=b"1", b=b"2", c=b"3"), version(number=2, d=b"4")])
    home = object_place("r-1")
    [unlocked, short, held] = [bucket.of_key(f"{home}/v1/content/{path}")[0] for path in "abc"]
    for kept, bytes_ in ((unlocked, b"1"), (held, b"3")):  # what an administrator might put back
        remove(bucket, kept.key)
        bucket.put(kept.key, bytes_)
    [again] = bucket.of_key(held.key)
    bucket.hold(held.key, again.version, on=True)
    soon = datetime.now(UTC) + timedelta(seconds=2)
    assert bucket.lets_lock(short.key, short.version, Lock("GOVERNANCE", soon), bypass=True)
    time.sleep(2.1)
    found = {(f.path, f.code) for f in objects.check("r-1", pins[:1]).findings}
    assert found == {("v1/content/a", "unlocked"), ("v1/content/b", "unlocked"), ("v2", "unacknowledged")}
    assert objects.extend("r-1", later(5)) == 3  # the rest is locked for longer
    assert objects.check("r-1", pins).findings == []


def test_segments_have_their_turn(where: S3Settings, bucket: Bucket, objects: S3Objects) -> None:
    journal = S3Journal(where)
    for number in range(1, 5):
        journal.append(number, str(number).encode())
    assert objects.extend_rest(later(90), lambda number: number == 2) == 1 + 1 + len(ROOT_PLACES)

    def end(number: int) -> datetime:
        [kept] = bucket.of_key(segment_place(number))
        lock = bucket.lock_of(kept.key, kept.version)
        assert lock is not None
        return lock.until

    assert [end(number) > datetime.now(UTC) + timedelta(days=80) for number in range(1, 5)] == [
        False,
        True,
        False,
        False,
    ]
    assert datetime.fromisoformat(objects.rest_ends(lambda number: number == 2)) > datetime.now(UTC) + timedelta(
        days=80
    )
    assert datetime.fromisoformat(objects.rest_ends()) == min(end(number) for number in (1, 3, 4))


def test_what_is_not_locked_has_no_end_to_tell_and_a_hold_has_none(bucket: Bucket, objects: S3Objects) -> None:
    objects.seal([version(a=b"1")])
    before = objects.ends("r-1")
    [kept] = bucket.of_key(f"{object_place('r-1')}/v1/content/a")
    remove(bucket, kept.key)
    bucket.put(kept.key, b"1")
    assert before and objects.ends("r-1") == ""
    [again] = bucket.of_key(kept.key)
    bucket.hold(kept.key, again.version, on=True)
    assert objects.ends("r-1") == before


def test_lengthening_asks_once_for_the_list_and_twice_for_each_file(
    objects: S3Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures of docs/operate.md rest on it."""
    objects.seal([version(a=b"1", b=b"2")])
    asked = counting(monkeypatch)
    until = later(900)
    # Two files, inventory, sidecar, declaration.
    assert objects.extend("r-1", until) == 5 and (asked.count("GET"), asked.count("PUT")) == (1 + 5, 5)
    asked.clear()
    assert objects.extend("r-1", until) == 0 and (asked.count("GET"), asked.count("PUT")) == (1 + 5, 0)
    asked.clear()
    assert objects.ends("r-1") and asked == ["GET"] * 6


def test_a_lock_keeps_its_mode_when_it_is_lengthened(where: S3Settings, bucket: Bucket, objects: S3Objects) -> None:
    objects.seal([version(a=b"1")])
    # Content, inventory, sidecar, declaration.
    assert S3Objects(replace(where, lock_mode="COMPLIANCE")).extend("r-1", later(60)) == 4
    [kept] = bucket.of_key(f"{object_place('r-1')}/v1/content/a")
    lock = bucket.lock_of(kept.key, kept.version)
    assert lock is not None and lock.mode == "GOVERNANCE" and lock.until > datetime.now(UTC) + timedelta(days=59)


# The probe


def test_a_bucket_that_keeps_its_locks_is_worm(server: S3Server) -> None:
    where = server.new()
    create_s3_store(where, "s-1")
    objects = S3Objects(where)
    assert objects.worm()
    told = objects.describe()
    assert (told["engine"], told["server"].lower()) == ("s3", "minio" if server.name == "minio" else "versitygw")
    assert told["worm"].startswith("yes: ") and "COMPLIANCE for 60 days" in told["worm"]
    assert datetime.now(UTC) - datetime.fromisoformat(told["probed"]) < timedelta(minutes=5)
    assert objects.strays() == []


def test_governance_that_we_may_go_round_is_not(where: S3Settings) -> None:
    objects = S3Objects(where)
    assert not objects.worm()
    told = objects.describe()["worm"]
    assert told.startswith("no: the server lets this account shorten, ") and "delete what is locked" in told


def test_a_bucket_without_locks_is_not(server: S3Server) -> None:
    where = server.new()
    opened(where).make(locks=False)
    objects = S3Objects(where)
    assert not objects.worm()
    assert objects.describe()["worm"].startswith("no: the bucket lacks versioning")


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (compliance_in_name_only, "shorten, clear, delete"),
        (lambda where: drop(where, "x-amz-object-lock"), "does not put the lock that is asked for"),
    ],
)
def test_a_server_that_lies_is_not(minio: S3Server, lie: Callable[[S3Settings], object], words: str) -> None:
    where = minio.new()
    create_s3_store(where, "s-1")
    with HttpFront(HOST, minio.port, lie(where)) as front:  # type: ignore[arg-type]
        objects = S3Objects(through(front, where))
        assert not objects.worm()
        assert words in objects.describe()["worm"], objects.describe()["worm"]


def test_a_server_that_only_says_no_is_not(minio: S3Server) -> None:
    """It refuses, and does it all the same."""

    def change(request: Request, forward: Forward) -> Answer:
        answer = compliance_in_name_only(where)(request, forward)
        if request.method == "DELETE" and request.query.get("versionId") in locked:
            refusal = b"<Error><Code>AccessDenied</Code><Message>locked</Message></Error>"
            return Answer(403, {"content-type": "application/xml"}, refusal)
        if "x-amz-object-lock-mode" in request.headers:
            locked.add(answer.headers["x-amz-version-id"])
        if request.method == "PUT" and "retention" in request.query and len(asked := [*asks, request]) > 1:
            asks[:] = asked
            return Answer(400, {"content-type": "application/xml"}, b"<Error><Code>InvalidRequest</Code></Error>")
        if request.method == "PUT" and "retention" in request.query:
            asks.append(request)
        return answer

    locked: set[str] = set()
    asks: list[Request] = []
    where = minio.new()
    create_s3_store(where, "s-1")
    with HttpFront(HOST, minio.port, change) as front:
        objects = S3Objects(through(front, where))
        assert not objects.worm()
        assert "and yet it changed" in objects.describe()["worm"], objects.describe()["worm"]


# What the account of an installation needs in a bucket that was made for it; docs/operate.md says the same in words.
NEEDED = {
    "{bucket}": ["GetBucketVersioning", "GetBucketObjectLockConfiguration", "ListBucketVersions"],
    "{bucket}/*": [
        "GetObject",
        "GetObjectVersion",
        "PutObject",
        "GetObjectRetention",
        "PutObjectRetention",
        "GetObjectLegalHold",
        "PutObjectLegalHold",
    ],
    "{bucket}-derived": ["GetBucketVersioning", "ListBucketVersions"],
    "{bucket}-derived/*": ["GetObject", "PutObject", "DeleteObject", "DeleteObjectVersion"],
}
TO_PROBE = {"{bucket}/probe/*": ["DeleteObjectVersion", "DeleteObject"]}


def account(where: S3Settings, rights: dict[str, list[str]]) -> S3Settings:
    """The same bucket for a new account with these rights (place -> actions) and no others."""
    admin = MinioAdmin(
        endpoint=where.endpoint.removeprefix("http://"),
        credentials=StaticProvider(where.access_key, where.secret_key),
        secure=False,
    )
    name = f"a{secrets.token_hex(6)}"
    statements = [
        {
            "Effect": "Allow",
            "Action": [f"s3:{action}" for action in actions],
            "Resource": [f"arn:aws:s3:::{place.format(bucket=where.bucket)}"],
        }
        for place, actions in rights.items()
    ]
    admin.policy_add(name, policy={"Version": "2012-10-17", "Statement": statements})
    admin.user_add(name, name * 2)
    admin.policy_set(name, user=name)
    return replace(where, access_key=name, secret_key=name * 2)


def test_an_account_with_no_more_than_it_needs(minio: S3Server) -> None:
    """It can do all that the store does, and nothing to what is sealed."""
    administrator = minio.new()
    create_s3_store(administrator, "s-1")
    where = account(administrator, NEEDED | TO_PROBE)
    assert open_s3_store(where) == "s-1"
    objects, journal, derivatives = S3Objects(where), S3Journal(where), S3Derivatives(where)
    pins = objects.seal([version(a=b"1"), version(number=2, b=b"2", carried=("a",))])
    journal.append(1, b"one")
    assert (objects.read(pins[1], "a"), list(journal.segments())) == (b"1", [(1, b"one")])
    derivatives.put({"x": b"1"})
    derivatives.delete("x")
    assert list(derivatives.names()) == []
    assert objects.extend("r-1", later(60)) > 0 and objects.extend_rest(later(60)) > 0
    objects.hold("r-1")
    objects.release("r-1")
    assert objects.check("r-1", pins).findings == [] and objects.strays() == []
    assert objects.worm(), objects.describe()
    with pytest.raises(NotReady) as caught:
        opened(where).delete(segment_place(1))
    assert caught.value.code == "store.credentials"


def test_governance_is_as_good_as_the_server_guards_it(minio: S3Server) -> None:
    """At MinIO, who may set a lock may also claim to go round GOVERNANCE, without the right that S3 has for this."""
    administrator = minio.new(lock_mode="GOVERNANCE")
    create_s3_store(administrator, "s-1")
    where = account(administrator, NEEDED | TO_PROBE)
    assert not S3Objects(where).worm()
    claims = s3_error(403, "AccessDenied", when=lambda request: "x-amz-bypass-governance-retention" in request.headers)
    with HttpFront(HOST, minio.port, claims) as front:
        assert S3Objects(through(front, where)).worm()


def test_an_account_that_may_delete_nothing_proves_nothing(minio: S3Server) -> None:
    administrator = minio.new()
    create_s3_store(administrator, "s-1")
    objects = S3Objects(account(administrator, NEEDED))
    assert not objects.worm()
    assert "prove nothing" in objects.describe()["worm"]


def test_the_server_is_asked_once_a_day(minio: S3Server) -> None:
    where, clock = minio.new(), FixedClock(datetime.now(UTC))
    create_s3_store(where, "s-1")
    with HttpFront(HOST, minio.port) as front:
        objects = S3Objects(through(front, where), clock=clock)
        assert objects.worm()
        asked = len(front.requests)
        clock.moment += timedelta(hours=23)
        assert objects.worm() and len(front.requests) == asked
        clock.moment += timedelta(hours=2)
        assert objects.worm() and len(front.requests) > asked
        front.change = compliance_in_name_only(where)
        clock.moment += timedelta(hours=25)
        assert not objects.worm()


def test_old_probes_are_removed(where: S3Settings, bucket: Bucket) -> None:
    bucket.put("probe/old", b"x", Lock("GOVERNANCE", datetime.now(UTC) + timedelta(seconds=2)))
    bucket.put("probe/young", b"x", Lock("GOVERNANCE", datetime.now(UTC) + timedelta(hours=1)))
    time.sleep(2.1)
    S3Objects(where).worm()
    places = {kept.key for kept in bucket.versions("probe/")}
    assert "probe/old" not in places and "probe/young" in places


def test_a_server_that_is_not_there_is_no_answer(where: S3Settings) -> None:
    objects = S3Objects(replace(where, endpoint=f"http://{HOST}:9"))
    with pytest.raises(Unreachable):
        objects.worm()
    assert objects.describe()["worm"].startswith("unknown: ")


# The store's description


def test_a_store_is_made_once_and_known_by_its_id(server: S3Server, where: S3Settings) -> None:
    assert open_s3_store(where) == "s-1"
    create_s3_store(where, "s-1")  # the answer to the last put got lost
    with pytest.raises(Conflict) as caught:
        create_s3_store(where, "s-2")
    assert caught.value.code == "store.exists"
    with pytest.raises(NotReady) as refused:
        open_s3_store(server.new())
    assert refused.value.code in ("store.missing", "store.unsuitable")  # MinIO speaks of the lock of no bucket


def test_a_store_cut_short_can_be_made_again(server: S3Server) -> None:
    where = server.new()
    bucket = opened(where)
    bucket.make(locks=True)
    bucket.put(ROOT_PLACES[0], ROOT_FILES[ROOT_PLACES[0]])
    bucket.put("probe/once-x", b"")
    with pytest.raises(NotReady) as caught:
        open_s3_store(where)
    assert caught.value.code == "store.missing"
    create_s3_store(where, "s-1")
    assert (open_s3_store(where), S3Objects(where).strays()) == ("s-1", [])


@pytest.mark.parametrize("place", [segment_place(1), f"{object_place('r-1')}/v1/{NAME}", "photos/holiday.jpg"])
def test_a_bucket_with_something_in_it_is_left_alone(server: S3Server, place: str) -> None:
    where = server.new()
    bucket = opened(where)
    bucket.make(locks=True)
    bucket.put(place, b"x")
    bucket.delete(place)
    with pytest.raises(Conflict):
        create_s3_store(where, "s-1")
    assert {kept.key for kept in bucket.versions("")} == {place}


def test_a_bucket_without_versions_or_locks_is_refused(server: S3Server) -> None:
    where = server.new()
    opened(where).make(locks=False)
    for attempt in (lambda: create_s3_store(where, "s-1"), lambda: open_s3_store(where)):
        with pytest.raises(NotReady) as caught:
            attempt()
        assert caught.value.code == "store.unsuitable"
    for write in (lambda: S3Objects(where).seal([version(a=b"1")]), lambda: S3Journal(where).append(1, b"one")):
        with pytest.raises(NotReady) as caught:
            write()
        assert caught.value.code == "store.unsuitable"


def test_a_server_that_writes_over_is_refused(minio: S3Server) -> None:
    where = minio.new()
    with HttpFront(HOST, minio.port, drop(where, "if-none-match")) as front:
        with pytest.raises(NotReady) as caught:
            create_s3_store(through(front, where), "s-1")
        assert (caught.value.code, "If-None-Match" in caught.value.en) == ("store.unsuitable", True)
    create_s3_store(where, "s-1")


@pytest.mark.parametrize(
    ("data", "code"), [(b"{", "store.damaged"), (b'{"format":99,"id":"s-9"}', "store.newer"), (b"[]", "store.damaged")]
)
def test_a_description_that_cannot_be_read(server: S3Server, data: bytes, code: str) -> None:
    where = server.new()
    bucket = opened(where)
    bucket.make(locks=True)
    bucket.put(STORE_PLACE, data)
    with pytest.raises(NotReady) as caught:
        open_s3_store(where)
    assert caught.value.code == code


# Derivatives


def test_a_derivative_is_gone_in_all_its_versions(where: S3Settings, derivatives: S3Derivatives) -> None:
    """Where somebody switched versions on for the second bucket, too."""
    versioned = Bucket(replace(where, bucket=f"{where.bucket}-versioned"), where.derived)
    enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    versioned._request("PUT", body=enabled, query={"versioning": ""})
    for data in (b"one", b"two"):
        derivatives.put({"r-1.1": data})
    derivatives.put({"r-1.10": b"other"})
    versioned.delete(derivative_place("r-1.1"))
    assert (derivatives.get("r-1.1"), list(derivatives.names())) == (None, ["r-1.10"])
    derivatives.put({"r-1.1": b"three"})
    derivatives.delete("r-1.1")
    assert [kept.key for kept in versioned.versions("")] == [derivative_place("r-1.10")]


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "a\n"])
def test_derivative_names_stay_in_their_folder(derivatives: S3Derivatives, name: str) -> None:
    with pytest.raises(BadInput):
        derivatives.put({name: b""})


# OCFL, as a third party sees it


@pytest.fixture
def downloaded(where: S3Settings, bucket: Bucket, objects: S3Objects, tmp_path: Path) -> Iterator[Path]:
    """What an administrator gets who copies the bucket to a folder with any tool."""
    objects.seal([version(a=b"1", b=b"2"), version(number=2, a=b"3", carried=("b",)), version(number=3, c=b"")])
    files = {f"p/{n}": b"%d" % (n % 7) for n in range(30)}
    objects.seal([NewVersion("r-2", 1, files, "2026-04-01T00:00:00Z", "u", "m"), version("r-3.x", a=b"1")])
    S3Journal(where).append(1, b"one")
    for kept in bucket.versions(""):
        if kept.latest and not kept.marker:
            there = bucket.get(kept.key)
            assert there is not None
            (tmp_path / kept.key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / kept.key).write_bytes(there.data)
    yield tmp_path


def tool(name: str) -> str:
    """A program of the environment the tests run in."""
    return str(Path(sys.executable).parent / name)


def test_a_third_party_accepts_what_is_downloaded(downloaded: Path) -> None:
    places = [str(downloaded / object_place(object_id)) for object_id in ("r-1", "r-2", "r-3.x")]
    answer = subprocess.run([tool("ocfl-validate.py"), "-q", *places], capture_output=True, text=True)
    assert (answer.returncode, answer.stdout.count(" is VALID")) == (0, 3), answer.stdout + answer.stderr
    root = str(downloaded / "objects")
    answer = subprocess.run([tool("ocfl-root.py"), "validate", "--root", root], capture_output=True, text=True)
    assert "is VALID" in answer.stdout, answer.stdout + answer.stderr
    (Path(places[0]) / "v1/content/b").write_bytes(b"x")  # the judge must be able to say no
    answer = subprocess.run([tool("ocfl-validate.py"), "-q", places[0]], capture_output=True, text=True)
    assert "INVALID" in answer.stdout


def test_what_is_downloaded_is_a_store_on_a_filesystem(downloaded: Path) -> None:
    from storage.filesystem import FilesystemJournal, FilesystemObjects, open_store

    (downloaded / "scratch").mkdir()
    assert open_store(downloaded) == "s-1"
    objects = FilesystemObjects(downloaded)
    assert {object_id: objects.check(object_id).findings for object_id in objects.objects()} == {
        "r-1": [],
        "r-2": [],
        "r-3.x": [],
    }
    assert list(FilesystemJournal(downloaded).segments()) == [(1, b"one")]
