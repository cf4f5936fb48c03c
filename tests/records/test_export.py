"""A record as plain files, or as sealed ones for a recipient, opened with the programs that everybody has."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import records.export
from core.errors import BadInput, Conflict, DaichoError, DigestMismatch, NotFound
from records.alone import key_of
from records.attachments import Given, attach, detach, listed
from records.capture import edit, seal_spans
from records.export import MANIFEST, export, safe_name
from records.ledger import Item
from records.models import Entry
from records.show import show
from records.spans import WholePage
from storage import durable
from storage.canonical import canonical
from storage.cipher import decrypt, encrypt, new_identity
from storage.memory import MemoryObjects
from tests.house import ITEMS, House, PowerCut, sha
from tests.machine import need

NAMES = [
    "意見書.pdf",
    "CON",
    "写真?.jpg",
    "写真?.JPG",
    "長" * 200 + ".txt",
    "-rf",
    "a\u0301.txt",
    "b…  .",
    "x" * 40 + "." + "y" * 40,
]


@pytest.fixture(params=["sqlite"])
def engine(request: pytest.FixtureRequest) -> str:
    """What lies in a folder is the same with any catalogue."""
    return str(request.param)


@pytest.fixture
def record(house: House, tmp_path: Path) -> str:
    """Two pages' worth of nothing, then nine attachments, then one fewer."""
    house.ledger()
    record = house.sealed(house.batch(1), 1)
    files = [Given(name, lambda name=name: io.BytesIO(name.encode())) for name in NAMES]  # type: ignore[misc]
    attach(house.stores, house.officer, record, 1, files, "届出", tmp_path / "scratch")
    first = listed(show(house.stores, house.officer, record).content)[0]
    detach(house.stores, house.officer, record, 2, [first.id], "取下げ")
    return record


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sums_hold(folder: Path) -> bool:
    done = subprocess.run(["sha256sum", "--strict", "-c", MANIFEST], cwd=folder, capture_output=True, text=True)
    return done.returncode == 0


def test_a_record_becomes_plain_files(house: House, record: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    done = export(house.stores, house.officer, record, target)
    lie = files(target)
    assert (done.generation, done.files) == (3, len(lie) - 1)
    assert done.bytes == sum(map(len, lie.values())) - len(lie[MANIFEST])
    body = json.loads(lie["record.json"])
    assert lie["record.json"] == canonical(body)
    assert (body["record"], body["generation"]) == (record, 3)
    assert lie["pages/page-0001.jpg"].startswith(b"scan ")
    attached = [name.removeprefix("attachments/") for name in lie if name.startswith("attachments/")]
    assert sorted(lie[f"attachments/{name}"].decode() for name in attached) == sorted(NAMES[1:])
    assert len({name.casefold() for name in attached}) == len(NAMES) - 1
    assert "意見書.pdf" not in attached
    assert sums_hold(target)
    assert target.stat().st_mode & 0o077 == 0  # nobody else comes further than this
    assert [path for path in target.rglob("*") if path.is_file() and path.stat().st_mode & 0o077] == []
    assert not list(tmp_path.glob("*.part"))
    past = export(house.stores, house.officer, record, tmp_path / "past", 2)
    assert (past.generation, (tmp_path / "past/attachments/意見書.pdf").read_text()) == (2, "意見書.pdf")
    # A judge that can say no.
    (target / "pages/page-0001.jpg").write_bytes(b"scan")
    assert not sums_hold(target)


def test_the_journal_says_so_before(house: House, record: str, tmp_path: Path) -> None:
    _, recipient = new_identity()
    export(house.stores, house.officer, record, tmp_path / "out", recipient=recipient)
    last = Entry.objects.filter(event="exported").get()
    assert last.record == record
    assert last.data == {"generation": 3, "pages": 1, "attachments": 8, "recipient": recipient}
    # Where the journal cannot take it down, nothing leaves.
    house.switch.breaks_at, house.switch.moment = len(house.switch.seen) + 2, "before"
    with pytest.raises(PowerCut):
        export(house.stores, house.officer, record, tmp_path / "other")
    assert not (tmp_path / "other").exists() and not (tmp_path / "other.part").exists()


def test_a_standard_program_opens_a_sealed_one(house: House, record: str, tmp_path: Path) -> None:
    need("age")
    secret, recipient = new_identity()
    target = tmp_path / "out"
    export(house.stores, house.officer, record, target, recipient=recipient)
    (tmp_path / "mine").write_text(secret)
    lie = files(target)
    key = house.stores.keys.get(record).secret
    assert not [name for name, data in lie.items() if key.encode() in data]
    assert sums_hold(target)
    (tmp_path / "content.key").write_bytes(opened(tmp_path / "mine", target / "key.age"))
    body = json.loads(opened(tmp_path / "content.key", target / "record.json.age"))
    assert (body["record"], body["generation"]) == (record, 3)
    for row in (*body["pages"], *body["attachments"]):
        data = opened(tmp_path / "content.key", target / row["path"])
        assert data.startswith(b"scan ") or data.decode() in NAMES or data.decode() == row["name"]
    assert set(lie) == {MANIFEST, "key.age", "record.json.age"} | {
        row["path"] for row in (*body["pages"], *body["attachments"])
    }
    # Somebody else's identity opens nothing.
    (tmp_path / "other").write_text(new_identity()[0])
    assert subprocess.run(["age", "-d", "-i", tmp_path / "other", target / "key.age"], capture_output=True).returncode


def opened(identity: Path, file: Path) -> bytes:
    return subprocess.run(["age", "-d", "-i", identity, file], capture_output=True, check=True).stdout


def test_bad_places_and_recipients(house: House, record: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    entries = Entry.objects.count()
    for place, number, recipient, code in (
        ("there", None, "", "export.exists"),
        ("link", None, "", "export.exists"),
        ("no/such", None, "", "export.folder"),
        ("new", None, "age1nonsense", "export.recipient"),
        ("new", None, house.stores.keys.get(record).secret, "export.recipient"),
        ("new", 9, "", "record.not_found"),
    ):
        with pytest.raises(DaichoError) as caught:
            export(house.stores, house.officer, record, tmp_path / place, number, recipient=recipient)
        assert caught.value.code == code
        assert isinstance(caught.value, BadInput | Conflict | NotFound)
    assert Entry.objects.count() == entries
    assert sorted(path.name for path in tmp_path.iterdir() if "sqlite3" not in path.name) == [
        "link",
        "scratch",
        "there",
    ]


def test_damage_leaves_nothing_that_looks_whole(house: House, record: str, tmp_path: Path) -> None:
    objects = house.stores.objects
    assert isinstance(objects, MemoryObjects)
    attached = listed(show(house.stores, house.officer, record).content)[4]
    place = next(key for key in objects.files if key[1].endswith(attached.path))
    objects.files[place] = objects.files[place][:-1] + b"?"
    _, recipient = new_identity()
    for to in ("", recipient):
        with pytest.raises(DigestMismatch):
            export(house.stores, house.officer, record, tmp_path / "out", recipient=to)
        assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()


@pytest.mark.parametrize("protected", [True, False])
def test_an_export_that_was_killed_does_not_look_whole(
    house: House, record: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protected: bool
) -> None:
    """Killed at every file, it leaves no folder of that name, and the next one is whole. Control: written where it is wanted, it does."""
    target, count, half = tmp_path / "out", 0, 0
    write = durable.Group.write_pieces

    def dying(group: durable.Group, path: Path, *rest: object) -> None:
        nonlocal count
        count += 1
        if count == at:
            raise PowerCut
        write(group, path, *rest)  # type: ignore[arg-type]

    for at in range(1, 12):
        count = 0
        with monkeypatch.context() as patch:
            patch.setattr(durable.Group, "write_pieces", dying)
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # who is killed does not tidy up
            if not protected:
                patch.setattr(Path, "with_name", lambda self, name: self)
            with pytest.raises(PowerCut):
                export(house.stores, house.officer, record, target)
        half += target.exists()
        if not protected:
            shutil.rmtree(target)
        elif at < 11:
            shutil.rmtree(tmp_path / "out.part")
    assert half == (0 if protected else 11)
    export(house.stores, house.officer, record, target)
    assert sums_hold(target)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("意見書.pdf", "意見書.pdf"),
        ("a/b\\c:d*e?.txt", "a_b_c_d_e_.txt"),
        ("...", "_"),
        (" x. ", "x"),
        (".profile", "profile"),
        ("nul.tar.gz", "_nul.tar.gz"),
        ("COM1", "_COM1"),
        ("-v", "_-v"),
        ("~root", "_~root"),
        ("a\u202eb\ud800", "a_b_"),
        ("か\u3099", "が"),
    ],
)
def test_names_that_every_file_system_takes(name: str, safe: str) -> None:
    assert safe_name(name, set()) == safe


def test_safe_names_are_short_and_differ() -> None:
    taken: set[str] = set()
    for name in ["長い名前" * 60 + ".pdf", "長い名前" * 61 + ".PDF", "A", "a", "Ａ"] * 3:
        made = safe_name(name, taken)
        assert made.casefold() not in taken
        assert len(made.encode()) <= 200
        taken.add(made.casefold())
    assert len(taken) == 15


def test_what_an_edit_changed_is_not_in_the_generation_before(house: House, record: str, tmp_path: Path) -> None:
    edit(house.stores, house.officer, record, 3, {"name": "新しい 名"}, "訂正")
    export(house.stores, house.officer, record, tmp_path / "old", 3)
    export(house.stores, house.officer, record, tmp_path / "new")
    assert "新しい 名" not in (tmp_path / "old/record.json").read_text()
    assert "新しい 名" in (tmp_path / "new/record.json").read_text()


NUMBER = "123456789012"


@pytest.mark.parametrize("protected", [True, False])
def test_what_must_be_destroyable_alone_stays_behind(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protected: bool
) -> None:
    """Control: without the rule that leaves it out, it is found in the folder."""
    house.ledger(items=(*ITEMS, Item("number", "number", {"ja": "個人番号", "en": "Number"}, alone=True)))
    batch = house.batch(1)
    one = house.captured(batch, 1, number=NUMBER)
    own, key = house.stores.keys.create([key_of(one.record, "number"), one.record])
    whole, masked = b"scan that shows 123456789012", b"scan with a black bar"
    bearing = WholePage("page-0001.age", "image/jpeg", sha(whole), ("number",))
    page = replace(one.pages[0], path="page-0001-masked.age", media_type="image/png", digest=sha(masked), whole=bearing)
    boxes = {
        "page-0001.age": encrypt(whole, own.recipient),
        "page-0001-masked.age": encrypt(masked, key.recipient),
    }
    seal_spans(house.stores, house.officer, batch, [replace(one, pages=(page,), files=boxes)])
    if not protected:
        monkeypatch.setattr(records.export, "without_alone", dict)
    export(house.stores, house.officer, one.record, tmp_path / "plain")
    lie = files(tmp_path / "plain")
    assert lie["pages/page-0001-masked.png"] == masked
    assert any(NUMBER.encode() in data for data in lie.values()) != protected
    secret, recipient = new_identity()
    export(house.stores, house.officer, one.record, tmp_path / "sealed", recipient=recipient)
    lie = files(tmp_path / "sealed")
    given = decrypt(lie["key.age"], secret).decode()
    assert set(lie) == {MANIFEST, "key.age", "record.json.age", "page-0001-masked.age"}
    assert all(NUMBER.encode() not in decrypt(lie[name], given) for name in lie if name.startswith(("page", "record")))
