"""`daicho demo` does what it says, and what it leaves can be searched, proved, made again, and opened with other people's programs."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import unicodedata
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import models

from records import queries
from records.check import catalogue_digest
from tests.house import use_catalogue
from tests.installed import BATCH, Installation, balances, copied, digest, done, run

TRUTH: list[dict[str, Any]] = json.loads((BATCH / "truth.json").read_text("utf-8"))
LEDGERS = {"care-clients", "vacant-houses", "dv-support", "whole-pages"}


def sheet_name(page: dict[str, Any]) -> str:
    return f"{page['file']} p.{page['page'] + 1}"


def folded(text: str) -> str:
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text))


@pytest.fixture(scope="module")
def batches(demo: Installation) -> list[dict[str, Any]]:
    return balances(demo.data)


@pytest.fixture(scope="module")
def sheets(batches: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Sheet by name -> its row."""
    return {f"{row['file']} p.{row['page']}": row for batch in batches for row in batch["by_name"]}


def steps(demo: Installation, step: str) -> list[dict[str, Any]]:
    return [row for row in demo.rows if row.get("step") == step]


def test_the_batches_balance(demo: Installation, batches: list[dict[str, Any]]) -> None:
    assert {row["ledger"] for row in steps(demo, "batch")} == LEDGERS
    for told, batch in zip(steps(demo, "batch"), batches, strict=True):
        assert told["balanced"] and batch["balanced"] and batch["unread"] == 0
        assert told["sheets"] == batch["sheets"] == told["sealed"] + told["waiting"] + told["refused"]
        assert Counter(row["state"] for row in batch["by_name"]) == Counter(
            {state: batch[state] for state in ("sealed", "waiting", "refused") if batch[state]}
        )
    assert sum(batch["sheets"] for batch in batches) >= 24


def test_every_sheet_of_the_truth_is_there(sheets: dict[str, dict[str, Any]]) -> None:
    """Sheets of a known form are sealed or wait with a reason; nothing is refused; what has no form waits."""
    for page in TRUTH:
        row = sheets[sheet_name(page)]
        assert row["state"] in ("sealed", "waiting"), row
        assert (row["state"] == "waiting") == bool(row["reason"])
        if page["kind"] in ("blank", "unknown"):
            assert row["state"] == "waiting", row
    real = [name for name in sheets if name not in {sheet_name(page) for page in TRUTH}]
    assert len(real) == 3 and all(sheets[name]["state"] == "sealed" for name in real)
    assert sheets["01-care-clients.pdf p.9"]["reason"] == "blank"
    assert sheets["01-care-clients.pdf p.12"]["reason"] == "unknown_form"
    assert sheets["01-care-clients.pdf p.13"]["reason"] == "unknown_ledger"


def test_what_waits_is_in_the_queue(demo: Installation, sheets: dict[str, dict[str, Any]]) -> None:
    queue = done("queue", data=demo.data)
    waiting = {name for name, row in sheets.items() if row["state"] == "waiting"}
    assert {name for case in queue for name in case["sheets"]} == waiting
    assert all(case["reason"] and (case["items"] or case["reason"] != "items") for case in queue)


def test_what_is_sealed_unseen_is_true(demo: Installation, sheets: dict[str, dict[str, Any]]) -> None:
    """A record that no person has looked at says what stands on the paper, but for blanks and variants of characters."""
    checked = 0
    for page in TRUTH:
        row = sheets[sheet_name(page)]
        if page["kind"] != "form" or row["state"] != "sealed":
            continue
        values = done("record", "show", row["record"], data=demo.data)[0]["values"]
        for item, truth in page["values"].items():
            assert folded(values.get(item, "")) == folded(truth), (sheet_name(page), item)
            checked += 1
    assert checked >= 50


def hits(data: Path, *text: str) -> set[str]:
    return {name for row in done("search", *text, data=data) for name in row["sheets"]}


def sealed_forms(sheets: dict[str, dict[str, Any]], item: str) -> list[dict[str, Any]]:
    return [
        page
        for page in TRUTH
        if page["kind"] == "form" and page["values"].get(item) and sheets[sheet_name(page)]["state"] == "sealed"
    ]


def found_as_before(data: Path, sheets: dict[str, dict[str, Any]]) -> None:
    """A kana name, two characters of an address, and words on a real page each find their sheet, and only what holds them."""
    named = sealed_forms(sheets, "name_kana")[0]
    kana = named["values"]["name_kana"].split()[0]
    same = {sheet_name(page) for page in sealed_forms(sheets, "name_kana") if kana in page["values"]["name_kana"]}
    assert hits(data, kana) == same
    housed = sealed_forms(sheets, "address")[-1]
    pair = housed["values"]["address"].removeprefix("みどり野市")[:2]
    expected = {
        sheet_name(page)
        for item in ("address", "owner_address", "note")
        for page in sealed_forms(sheets, item)
        if pair in page["values"][item]
    }
    found = hits(data, pair)
    assert sheet_name(housed) in found
    assert expected <= found
    assert hits(data, "次世代システム開発研究室") == {"digidepo_11048278_po_geppo1803_00021.jpg p.1"}


def test_search_finds_the_right_sheets(demo: Installation, sheets: dict[str, dict[str, Any]]) -> None:
    found_as_before(demo.data, sheets)
    [told] = [row for row in steps(demo, "search") if "次世代" in row["text"]]
    assert told["total"] == 1


def test_search_narrows_and_counts(demo: Installation, sheets: dict[str, dict[str, Any]]) -> None:
    page = sealed_forms(sheets, "name_kana")[0]
    name, ledger = page["values"]["name_kana"].split()[0], page["ledger"]
    assert sheet_name(page) in hits(demo.data, "--where", f"name_kana={name}")
    assert sheet_name(page) not in hits(demo.data, "--where", f"address={name}")
    assert sheet_name(page) in hits(demo.data, name, "--ledger", ledger)
    assert hits(demo.data, name, "--ledger", "whole-pages") == set()
    rows = done("search", "--facet", "ledger", data=demo.data)
    [facet] = [row for row in rows if "facet" in row]
    assert facet["counts"] == dict(Counter(row["ledger"] for row in rows if "record" in row))
    some = done("search", "--limit", "2", data=demo.data)
    assert len(some) == 3 and some[-1]["total"] == sum(facet["counts"].values())
    rest = done("search", "--limit", "1000", "--cursor", some[-1]["cursor"], data=demo.data)
    assert len({row["record"] for row in [*some[:2], *rest]}) == some[-1]["total"]


def test_a_record_is_shown_with_its_retention(demo: Installation, sheets: dict[str, dict[str, Any]]) -> None:
    assert steps(demo, "record") and steps(demo, "retention")
    for page in sealed_forms(sheets, "opened_on" if sealed_forms(sheets, "opened_on") else "found_on"):
        one = done("record", "show", sheets[sheet_name(page)]["record"], data=demo.data)[0]
        kept = one["retention"]
        assert one["generation"] == one["newest"] == 1
        closed = page["values"].get("closed_on", "")
        if closed and page["ledger"] != "dv-support":
            year, month = int(closed[:4]), int(closed[5:7])
            first = year + (month >= 4)
            assert (kept["state"], kept["start"]) == ("running", f"{first}-04-01")
            years = 5 if page["ledger"] == "care-clients" else 10
            assert kept["due"] == f"{first + years}-03-31"
        elif page["ledger"] != "dv-support":
            assert (kept["state"], kept["start"], kept["due"]) == ("living", "", "")
    history = done("record", "history", one["record"], data=demo.data)
    assert [row["event"] for row in history] == ["sealed"]
    people = run("record", "show", one["record"], data=demo.data, plain=True).out
    assert "保存期間" in people
    assert "Retention" in run("record", "show", one["record"], "--language", "en", data=demo.data, plain=True).out


def test_verify_finds_nothing(demo: Installation) -> None:
    assert steps(demo, "verify")[0]["ok"]
    told = done("verify", data=demo.data)[-1]
    assert told["ok"] and told["findings"] == 0 and told["unacknowledged"] == 0 and told["objects"] > 20


def test_verify_names_what_is_wrong(demo: Installation, tmp_path: Path) -> None:
    here = copied(demo, tmp_path)
    victim = max(here.data.joinpath("store").rglob("page-0001.age"), key=lambda file: file.stat().st_size)
    victim.chmod(0o600)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    result = run("verify", data=here.data)
    assert result.code == 74
    findings = [row for row in result.rows if "finding" in row]
    assert len(findings) == 1 and findings[0]["object"] in str(victim) and "page-0001.age" in findings[0]["path"]
    assert not result.rows[-1]["ok"]


def test_age_opens_a_page(demo: Installation, sheets: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """With the master key and Debian's `age`, as `storage/keys.py` and docs/formats.md say, and nothing of ours."""
    if shutil.which("age") is None:
        pytest.skip("age is not on this machine: apt install age")
    row = sheets["03-dv-support.jpg p.1"]
    record = row["record"]
    [wrapped] = (demo.keys / "wrapped").glob(f"*/{record}.age")
    key = tmp_path / "key"
    subprocess.run(["age", "-d", "-i", demo.keys / "master.key", "-o", key, wrapped], check=True)
    assert f"{record}\n" in key.read_text() and "\nAGE-SECRET-KEY-1" in key.read_text()
    [folder] = [
        each.parent
        for each in (demo.data / "store").rglob("0=ocfl_object_1.*")
        if each.parent.name.endswith(record) or record in str(each)
    ]
    page, said = tmp_path / "page", tmp_path / "said"
    subprocess.run(["age", "-d", "-i", key, "-o", page, next(folder.rglob("page-0001.age"))], check=True)
    assert page.read_bytes() == (BATCH / "03-dv-support.jpg").read_bytes()  # as scanned, not re-encoded
    subprocess.run(["age", "-d", "-i", key, "-o", said, next(folder.rglob("record.json.age"))], check=True)
    body = json.loads(said.read_bytes())
    assert (body["record"], body["generation"], body["ledger"]) == (record, 1, "dv-support")


def test_nothing_personal_lies_open(demo: Installation, sheets: dict[str, dict[str, Any]]) -> None:
    """No value of any record stands readable in the store, in the journal or in the catalogue."""
    words = {
        value.encode()
        for page in TRUTH
        for item, value in page["values"].items()
        if item in ("name", "name_kana", "address", "phone", "owner_name") and len(value) > 4
    }
    files = [file for file in (demo.data / "store").rglob("*") if file.is_file()]
    files += list(demo.data.glob("catalogue.sqlite3*"))
    files += [file for file in demo.keys.rglob("*") if file.is_file()]
    for file in files:
        data = file.read_bytes()
        assert not [word for word in words if word in data], file


def test_the_digest_does_not_move_by_looking(demo: Installation) -> None:
    assert digest(demo.data) == digest(demo.data)


def test_rebuild_gives_the_same_digest(demo: Installation, sheets: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    here = copied(demo, tmp_path)
    before = digest(here.data)
    for file in here.data.glob("catalogue.sqlite3*"):
        file.unlink()
    shutil.rmtree(here.data / "index")
    assert run("info", data=here.data).error == "catalogue.missing"
    done("rebuild", data=here.data)
    assert digest(here.data) == before
    found_as_before(here.data, sheets)


def test_restore_gives_the_same_digest(demo: Installation, sheets: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    before = digest(demo.data)
    told = done("backup", tmp_path / "copy", data=demo.data)[-1]
    assert told["versions"] > 20 and told["damaged"] == 0
    assert done("backup", tmp_path / "copy", data=demo.data)[-1]["versions"] == 0  # what is there is not copied again
    target = tmp_path / "restored" / "data"
    done("restore", tmp_path / "copy", data=target)
    assert digest(target) == before
    assert done("verify", data=target)[-1]["ok"]
    found_as_before(target, sheets)
    assert run("restore", tmp_path / "copy", data=target).error == "restore.not_empty"


def cells() -> list[tuple[str, str]]:
    """(table, column) of every digested column, the database's own running numbers aside."""
    return [
        (model._meta.db_table, field.column)
        for label in ("daicho_access", "daicho_records")
        for model in apps.get_app_config(label).get_models()
        if model.__name__ not in queries.UNDIGESTED
        for field in model._meta.concrete_fields
        if not isinstance(field, models.BigAutoField)
    ]


@pytest.fixture(scope="module")
def digested(demo: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's catalogue in one file, without the triggers that protect the past."""
    file = tmp_path_factory.mktemp("cells") / "catalogue.sqlite3"
    with closing(sqlite3.connect(demo.data / "catalogue.sqlite3")) as source, closing(sqlite3.connect(file)) as target:
        source.backup(target)
        for (name,) in target.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            target.execute(f"DROP TRIGGER {name}")
        target.commit()
        target.execute("PRAGMA journal_mode=DELETE")
    return file


def digest_of(file: Path) -> str:
    with use_catalogue(file):
        return catalogue_digest()


def test_the_digest_is_that_of_the_command(demo: Installation, digested: Path) -> None:
    assert digest_of(digested) == digest(demo.data)


@pytest.mark.parametrize(("table", "column"), cells())
def test_one_cell_changes_the_digest(digested: Path, tmp_path: Path, table: str, column: str) -> None:
    file = tmp_path / "catalogue.sqlite3"
    shutil.copyfile(digested, file)
    before = digest_of(file)
    with closing(sqlite3.connect(file)) as database:
        rows = database.execute(f"SELECT rowid, {column} FROM {table} ORDER BY rowid DESC LIMIT 1").fetchall()
        assert rows, f"{table} is empty: the sample does not show what it holds"
        [(row, value)] = rows
        changed: Any = value + 1 if isinstance(value, int) else (value or "") + "x"
        if isinstance(value, str) and value.startswith("{"):  # JSON stays JSON
            changed = json.dumps(json.loads(value) | {"x": 1})
        database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (changed, row))
        assert database.total_changes == 1
        database.commit()
    assert digest_of(file) != before


def test_passwords_are_not_in_the_digest(demo: Installation, tmp_path: Path) -> None:
    here = copied(demo, tmp_path)
    before = digest(here.data)
    with closing(sqlite3.connect(here.data / "catalogue.sqlite3")) as database:
        assert database.execute("UPDATE daicho_access_credential SET password = 'x'").rowcount == 5
        database.commit()
    assert digest(here.data) == before


PAST = ("generation", "ledgerversion", "segment", "entry")


@pytest.mark.parametrize("table", PAST)
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET rowid = rowid", "DELETE FROM {}", "DELETE FROM {} WHERE rowid = 1"]
)
def test_the_past_refuses_change(demo: Installation, table: str, statement: str) -> None:
    name = f"daicho_records_{table}"
    with closing(sqlite3.connect(f"file:{demo.data / 'catalogue.sqlite3'}?mode=rw", uri=True)) as database:
        with pytest.raises(sqlite3.IntegrityError, match="the past cannot be changed"):
            database.execute(statement.format(name))
        database.rollback()
