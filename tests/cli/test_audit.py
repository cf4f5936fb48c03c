"""`daicho audit` as people run it: signing, witnesses, a printed page, a copy on another desk, and refusals that are entries."""

from __future__ import annotations

import shutil
from pathlib import Path

import pypdfium2
import pytest

from ingest.letters import LACKING
from tests.installed import Installation, copied, done, made, run


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An installation with a person who may do nothing, two checkpoints, and a witness and a printed page of the first."""
    folder = tmp_path_factory.mktemp("office")
    office = made(folder / "data", [], [("clerk", "")])
    (folder / "witness").mkdir()
    rows = done("audit", "witness", folder / "witness", data=office.data)
    rows += done("audit", "print", folder / "checkpoint.pdf", data=office.data)
    done("person", "list", data=office.data)
    for refused in (("person", "list"), ("audit", "show"), ("record", "show", "山田太郎"), ("audit", "expire")):
        assert run(*refused, "--as", "clerk", data=office.data).code in (66, 77)
    assert run("person", "list", "--as", "nobody-here", data=office.data).code == 66
    rows += done("audit", "checkpoint", data=office.data)
    return Installation(office.data, tuple(rows))


def elsewhere(office: Installation) -> Path:
    return next((office.data.parent / "witness").glob("checkpoint-*.txt"))


def test_a_copy_is_proved_with_what_lies_elsewhere(office: Installation, tmp_path: Path) -> None:
    """Without the installation, its keys and its catalogue."""
    shutil.copytree(office.data / "store" / "journal", tmp_path / "copy" / "journal")
    key = str(office.rows[-1]["key"])
    rows = done("audit", "verify", "--copy", tmp_path / "copy", "--checkpoint", elsewhere(office), "--key", key)
    first, last = rows
    assert (first["size"], first["trusted"], first["fault"]) == (office.rows[0]["size"], True, "")
    assert last["ok"] and last["proven"] == first["size"] < last["entries"] and last["key_given"]
    keyless = done("audit", "verify", "--copy", office.data / "log", "--checkpoint", elsewhere(office), "--entry", "2")
    assert not any(row.get("trusted") for row in keyless)
    assert keyless[-1]["proof"].startswith("c2sp.org/tlog-proof@v1\nindex 1\n")
    assert keyless[-2]["proven"] == keyless[-2]["entries"]


def test_what_was_put_back_is_found(office: Installation, tmp_path: Path) -> None:
    journal = tmp_path / "copy" / "journal"
    shutil.copytree(office.data / "store" / "journal", journal)
    for segment in sorted(journal.rglob("*.json"))[1:]:
        segment.unlink()
    found = run("audit", "verify", "--copy", tmp_path / "copy", "--checkpoint", elsewhere(office), plain=True)
    assert found.code == 74 and "! checkpoint.ahead" in found.out
    # The control.
    assert run("audit", "verify", "--copy", tmp_path / "copy").code == 0
    shutil.copyfile(journal / "0000" / "000001.json", journal / "0000" / "000003.json")
    assert run("audit", "verify", "--copy", tmp_path / "copy").error == "journal.gap"


def test_the_printed_page_reads_back(office: Installation, tmp_path: Path) -> None:
    (row,) = done("codes", office.data.parent / "checkpoint.pdf")
    note, key = (code["text"] for code in row["codes"])
    printed = pypdfium2.PdfDocument(office.data.parent / "checkpoint.pdf")[0].get_textpage().get_text_range()
    assert "みどり野市" in printed and LACKING not in printed
    (tmp_path / "note").write_text(note, "utf-8")
    (tmp_path / "key").write_text(key, "utf-8")
    assert note.encode() == elsewhere(office).read_bytes()
    rows = done("audit", "verify", "--checkpoint", tmp_path / "note", "--key", tmp_path / "key", data=office.data)
    assert [row["trusted"] for row in rows if "checkpoint" in row] == [True, True]
    assert run("audit", "print", office.data.parent / "checkpoint.pdf", data=office.data).error == "audit.file_exists"


def test_refusals_are_entries_before_they_are_told(office: Installation) -> None:
    refused = [row for row in done("audit", "show", "--refused", data=office.data) if row["login"] == "clerk"]
    assert [(row["data"]["door"], row["data"]["code"]) for row in refused] == [
        ("person list", "not_permitted"),
        ("audit show", "not_permitted"),
        ("record show", "record.not_found"),
        ("audit expire", "not_permitted"),
    ]
    assert [row["personal"]["asked"] for row in refused] == ["", "", "山田太郎", ""]
    (nobody,) = done("audit", "show", "--refused", "--event", "access_refused", data=office.data)[len(refused) :]
    assert (nobody["person"], nobody["personal"]) == ("", {"asked": "nobody-here"})
    viewed = done("audit", "show", "--event", "audit_viewed", "--person", "officer", data=office.data)
    assert {"refused": True} in [row["personal"]["asked"] for row in viewed]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--key", "nothing+here"), "note.key"),
        (("--key", "no-such-file"), "audit.file"),
        (("--checkpoint", "no-such-file"), "audit.file"),
        (("--copy", "."), "audit.nothing"),
        (("--entry", "999999"), "audit.no_entry"),
    ],
)
def test_bad_input_gets_its_code(args: tuple[str, ...], told: str, office: Installation) -> None:
    assert run("audit", "verify", *args, data=office.data).error == told


def test_a_damaged_signing_key_signs_nothing(office: Installation, tmp_path: Path) -> None:
    here = copied(office, tmp_path)
    key = here.keys / "log.key"
    key.chmod(0o600)
    key.write_bytes(key.read_bytes()[:-10])
    assert run("audit", "checkpoint", data=here.data).error == "log_key.damaged"
    key.unlink()
    assert run("audit", "checkpoint", data=here.data).error == "log_key.missing"
    (made_new,) = done("audit", "checkpoint", "--new-key", data=here.data)
    assert made_new["key"] != office.rows[-1]["key"]
    assert done("audit", "verify", data=here.data)[-1]["ok"]
