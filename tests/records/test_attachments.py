"""Files of any kind that belong to a record: sealed with a generation, carried on, read in pieces, and known to nobody else by name."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import BadFile, BadInput, Conflict, DaichoError, DigestMismatch, NotFound, NotPermitted
from records import queries
from records.attachments import Attachment, Given, attach, detach, file_at, listed, read
from records.capture import edit
from records.content import newest
from records.find import find
from records.models import Entry
from records.show import history, show
from storage.canonical import canonical
from storage.memory import MemoryObjects
from storage.streams import LARGE
from tests.contracts.storage_contracts import Generated
from tests.house import House, PowerCut, template

PDF = b"%PDF-1.7 an expert's opinion"


@pytest.fixture
def record(house: House) -> str:
    house.ledger()
    return house.sealed(house.batch(1), 1)


def given(name: str, data: bytes = PDF) -> Given:
    return Given(name, lambda: io.BytesIO(data))


@pytest.fixture
def add(house: House, record: str, tmp_path: Path) -> Callable[..., list[Attachment]]:
    """Attach to the newest generation; what the new one has."""

    def added(*files: Given, why: str = "届出の写し") -> list[Attachment]:
        base = show(house.stores, house.officer, record).newest
        return listed(attach(house.stores, house.officer, record, base, files, why, tmp_path / "scratch"))

    return added


Add = Callable[..., list[Attachment]]


def whole(house: House, record: str, each: str, number: int | None = None) -> bytes:
    return b"".join(read(house.stores, house.officer, record, each, number).pieces)


def test_an_attachment_makes_the_next_generation_and_is_carried_on(house: House, record: str, add: Add) -> None:
    house.later(days=1)
    [one] = add(given("意見書.pdf"))
    assert one == Attachment(one.id, f"{one.id}.age", "意見書.pdf", "application/pdf", len(PDF), sha(PDF))
    assert whole(house, record, one.id) == PDF
    edit(house.stores, house.officer, record, 2, {"name": "山本 一"}, "訂正")
    two = add(given("写真.dat", b"\x00" * 10), given("意見書.pdf", PDF + b"2"))
    assert [each.name for each in two] == ["意見書.pdf", "写真.dat", "意見書.pdf"]
    assert two[0] == one
    assert [whole(house, record, each.id) for each in two] == [PDF, b"\x00" * 10, PDF + b"2"]
    assert whole(house, record, one.id, 3) == PDF
    told = [(change.event, change.generation, change.why) for change in history(house.stores, house.officer, record)]
    assert told == [("sealed", 1, ""), ("edited", 2, "届出の写し"), ("edited", 3, "訂正"), ("edited", 4, "届出の写し")]
    with pytest.raises(NotFound) as caught:
        read(house.stores, house.officer, record, one.id, 1)
    assert caught.value.code == "attachment.not_found"
    one_record = show(house.stores, house.officer, record)
    assert one_record.content.values["name"] == "山本 一"  # values stay as they were
    assert one_record.row.retention_state == "living"
    assert find(house.stores, house.officer, "山本").hits[0].generation == 4


def test_what_is_taken_off_stays_in_the_generations_before(house: House, record: str, add: Add) -> None:
    one, two = add(given("a.pdf"), given("b.txt", b"b"))
    left = detach(house.stores, house.officer, record, 2, [one.id], " 別の人のもの ")
    assert listed(left) == [two]
    with pytest.raises(NotFound):
        read(house.stores, house.officer, record, one.id)
    assert whole(house, record, one.id, 2) == PDF
    assert listed(detach(house.stores, house.officer, record, 3, [two.id], "理由")) == []
    again = add(given("a.pdf"))  # it may come back
    assert [(each.name, each.id != one.id) for each in again] == [("a.pdf", True)]
    assert [change.why for change in history(house.stores, house.officer, record)][-3:] == [
        "別の人のもの",
        "理由",
        "届出の写し",
    ]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("申請書（令和七年）.pdf", "申請書（令和七年）.pdf"),
        ("か\u3099き.txt", "がき.txt"),  # as macOS writes it
        ("辻\U000e0100.pdf", "辻\U000e0100.pdf"),  # a variant of the character
        ("\ue000外字.doc", "\ue000外字.doc"),
        ("résumé – ελληνικά – שלום.pdf", "résumé – ελληνικά – שלום.pdf"),
        ("no ending", "no ending"),
        (" .pdf", " .pdf"),
        ("a" * 255, "a" * 255),
    ],
)
def test_names_in_any_script_are_kept(add: Add, name: str, kept: str) -> None:
    assert [each.name for each in add(given(name))] == [kept]


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "a/b",
        "../a",
        "..\\a",
        "a\nb",
        "a\x00b",
        "a\x7f",
        "a" * 256,
        "gnp\u202exe.exe",
        os.fsdecode(b"\xff.txt"),
    ],
)
def test_names_that_mislead_are_refused_before_anything_is_read(house: House, record: str, add: Add, name: str) -> None:
    def never() -> io.BytesIO:
        raise AssertionError

    with pytest.raises(BadInput) as caught:
        add(given("good.pdf"), Given(name, never)) if name else add(Given(name, never))
    assert caught.value.code == "attachment.name"
    assert house.stores.objects.head(record) == 1


def test_a_file_is_not_attached_twice(add: Add) -> None:
    add(given("a.pdf"))
    for files in ([given("a.pdf")], [given("c", b"c"), given("c", b"c")]):
        with pytest.raises(BadFile) as caught:
            add(*files)
        assert caught.value.code == "attachment.again"
    # The same bytes under another name, and other bytes under the same one, are other files.
    assert len(add(given("b.pdf"), given("a.pdf", PDF + b"2"))) == 3


def test_bad_files_are_refused(house: House, record: str, add: Add, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()

    class Torn(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "lost")

    for file, code in (
        (file_at(tmp_path / "empty"), "attachment.empty"),
        (file_at(tmp_path / "nothing"), "file.missing"),
        (file_at(tmp_path), "file.missing"),
        (file_at(tmp_path / "pipe"), "file.missing"),
        (Given("torn", Torn), "file.unreadable"),
    ):
        with pytest.raises(BadFile) as caught:
            add(given("good.pdf"), file)
        assert caught.value.code == code
    assert house.stores.objects.head(record) == 1
    for refused, code in (((), "edit.nothing"),):
        with pytest.raises(BadInput) as wrong:
            add(*refused)
        assert wrong.value.code == code
    with pytest.raises(BadInput) as wrong:
        add(given("a.pdf"), why=" ")
    assert wrong.value.code == "edit.why"


def test_who_was_first_wins(house: House, record: str, tmp_path: Path) -> None:
    def meanwhile() -> io.BytesIO:
        edit(house.stores, house.officer, record, 1, {"name": "先の人"}, "先")
        return io.BytesIO(PDF)

    with pytest.raises(Conflict) as caught:
        attach(house.stores, house.officer, record, 1, [Given("a.pdf", meanwhile)], "後", tmp_path)
    assert caught.value.code == "record.moved_on"
    assert [row.number for row in queries.generations(record)] == [1, 2]
    # What nobody acknowledged stands between, and harms nobody.
    after = attach(house.stores, house.officer, record, 2, [given("a.pdf")], "後", tmp_path)
    [one] = listed(after)
    assert after.pin.number > 3
    assert whole(house, record, one.id) == PDF
    edit(house.stores, house.officer, record, 3, {"name": "後の人"}, "後")
    assert whole(house, record, one.id, 4) == PDF
    for base in (1, 5):
        with pytest.raises(Conflict):
            detach(house.stores, house.officer, record, base, [one.id], "理由")


def test_of_two_that_attach_at_once_each_keeps_the_own_file(house: House, record: str, tmp_path: Path) -> None:
    """Control: under a name that both would choose, the second one's file would come out where the first one's was attached."""
    chosen = "attachment-" + "a" * 26

    def raced(house: House, record: str, base: int) -> bytes:
        def meanwhile() -> io.BytesIO:
            attach(house.stores, house.officer, record, base, [given("first", b"first")], "先", tmp_path)
            return io.BytesIO(b"second")

        with pytest.raises(Conflict):
            attach(house.stores, house.officer, record, base, [Given("second", meanwhile)], "後", tmp_path)
        edit(house.stores, house.officer, record, base + 1, {"name": f"名 {base}"}, "訂正")
        row = queries.record(record)
        assert row is not None
        return whole(house, record, listed(newest(house.stores, row))[-1].id)

    assert raced(house, record, 1) == b"first"

    class Same:
        def new(self, prefix: str) -> str:
            return chosen

    other = house.sealed(house.batch(1, name="別"), 1)
    with pytest.raises(DigestMismatch):
        raced(replace(house, stores=replace(house.stores, ids=Same())), other, 1)


def test_a_lost_race_to_take_one_off_leaves_it_with_the_record(house: House, record: str, add: Add) -> None:
    """A version that nobody acknowledged lacks what later ones need, unless all is carried on."""
    [one] = add(given("a.pdf"))
    row = queries.record(record)
    assert row is not None
    edit(house.stores, house.officer, record, 2, {"name": "先の人"}, "先")
    from records import capture

    stale = dict(newest(house.stores, row).body) | {"attachments": [], "generation": 3}
    capture._seal_next(house.stores, house.officer, row, stale, "detach")
    edit(house.stores, house.officer, record, 3, {"name": "後の人"}, "後")
    assert whole(house, record, one.id) == PDF


def test_rights(house: House, record: str, add: Add, tmp_path: Path) -> None:
    from records.found import define

    [one] = add(given("a.pdf"))
    base = template("clients", ("records-office", "viewers", "contractors"))
    rights = {"records-office": base.rights["records-office"], "viewers": ("view",), "contractors": ("capture",)}
    define(house.stores, house.officer, type(base)(base.definition, base.images, base.posts, rights))
    viewer, contractor = house.person("viewer", "viewers"), house.person("contractor", "contractors")
    outsider = house.person("outsider")
    assert b"".join(read(house.stores, viewer, record, one.id).pieces) == PDF
    for person, refused in ((viewer, NotPermitted), (contractor, NotFound), (outsider, NotFound)):
        with pytest.raises(refused):
            attach(house.stores, person, record, 2, [given("b.pdf")], "理由", tmp_path)
        with pytest.raises(refused):
            detach(house.stores, person, record, 2, [one.id], "理由")
    for person in (contractor, outsider):
        with pytest.raises(NotFound) as caught:
            read(house.stores, person, record, one.id)
        assert caught.value.code == "record.not_found"


def test_reads_are_journalled_before_the_first_byte_and_names_are_not(house: House, record: str, add: Add) -> None:
    [one] = add(given("山田花子の診断書.pdf"))
    opened = read(house.stores, house.officer, record, one.id)
    entry = Entry.objects.order_by("-number").first()
    assert entry is not None
    assert (entry.event, entry.data) == ("attachment_read", {"generation": 2, "attachment": one.id})
    assert b"".join(opened.pieces) == PDF
    for segment in (segment for _, segment in house.stores.journal.segments()):
        assert "診断書".encode() not in segment
    objects = house.stores.objects
    assert isinstance(objects, MemoryObjects)
    assert not [path for path, data in objects.files.items() if "診断書".encode() in data]
    assert all("診断書" not in canonical(row).decode() for row in map(str, Entry.objects.values()))


def test_damage_comes_instead_of_the_last_piece(house: House, record: str, add: Add) -> None:
    size = LARGE + 100_000
    [one] = add(Given("大きい.bin", lambda: Generated(size).open()))
    objects = house.stores.objects
    assert isinstance(objects, MemoryObjects)
    place = next(key for key in objects.files if key[1].endswith(one.path))
    sound = objects.files[place]
    for at in (len(sound) - 1, len(sound) // 2, 300, 30):
        objects.files[place] = sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :]
        read_so_far = 0
        with pytest.raises(DaichoError) as caught:
            for piece in read(house.stores, house.officer, record, one.id).pieces:
                read_so_far += len(piece)
        assert caught.value.code in ("digest.mismatch", "cipher.damaged", "keys.wrong")
        assert read_so_far < size
    del objects.files[place]
    with pytest.raises(DigestMismatch):
        read(house.stores, house.officer, record, one.id)
    objects.files[place] = sound
    assert hashlib.sha256(whole(house, record, one.id)).hexdigest() == one.digest


def test_scratch_is_left_as_it_was(house: House, record: str, add: Add, tmp_path: Path) -> None:
    seen: list[list[Path]] = []

    def looking() -> Iterator[bytes]:
        yield PDF
        seen.append(list((tmp_path / "scratch").iterdir()))

    class Looking(io.BytesIO):
        pieces = looking()

        def read(self, size: int | None = -1) -> bytes:
            return next(self.pieces, b"")

    add(Given("a.pdf", Looking))
    assert seen == [[]]  # it has no name even while it is there


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_any_write_attaches_once(
    house: House, record: str, add: Add, moment: str, blank_catalogue: Path, tmp_path: Path
) -> None:
    for breaks_at in range(1, 8):
        house.switch.seen.clear()
        house.switch.breaks_at, house.switch.moment = breaks_at, moment
        name = f"{breaks_at}.pdf"
        try:
            add(given(name, name.encode()))
            broke = False
        except PowerCut:
            broke = True
        house.switch.breaks_at = 0
        house.restarted()
        row = queries.record(record)
        assert row is not None
        if name not in [each.name for each in listed(newest(house.stores, row))]:
            assert broke
            add(given(name, name.encode()))
        if not broke:
            break
    assert not broke
    row = queries.record(record)
    assert row is not None
    found = listed(newest(house.stores, row))
    assert [each.name for each in found] == [f"{n}.pdf" for n in range(1, breaks_at + 1)]
    assert [whole(house, record, each.id) for each in found] == [each.name.encode() for each in found]
