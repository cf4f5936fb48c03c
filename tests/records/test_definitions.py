"""Templates of ledgers, as staff write them: read whole, or refused with the file's name and what to do; and values as people type them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import BadInput
from records.ledger import Item, from_json, to_json
from records.template import read_folder
from records.values import checked, shown
from storage.canonical import canonical
from tests.installed import TEMPLATES

NAME = Item("name", "name", {"ja": "氏名", "en": "Name"}, required=True)
DATE = Item("day", "date", {"ja": "日付", "en": "Day"})
CHOICE = Item("sex", "choice", {"ja": "性別", "en": "Sex"}, choices=("男", "女"))
NUMBER = Item("no", "number", {"ja": "番号", "en": "Number"})
PHONE = Item("tel", "phone", {"ja": "電話", "en": "Telephone"})
NOTE = Item("note", "text", {"ja": "備考", "en": "Note"})


@pytest.mark.parametrize("name", sorted(folder.name for folder in TEMPLATES.iterdir() if folder.is_dir()))
def test_a_sample_is_read_and_survives_the_journal(name: str) -> None:
    template = read_folder(TEMPLATES / name)
    assert template.definition.id == name
    assert from_json(to_json(template.definition)) == template.definition
    assert canonical(to_json(template.definition))
    assert set(template.images) == {form.id for form in template.definition.forms}
    assert set(template.rights) == set(template.posts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(TEMPLATES / "care-clients", tmp_path / "care-clients")
    return tmp_path / "care-clients"


def replaced(file: str, old: str, new: str) -> Callable[[Path], str]:
    def change(folder: Path) -> str:
        path = folder / file
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")
        return file

    return change


def gone(file: str, named: str = "") -> Callable[[Path], str]:
    def change(folder: Path) -> str:
        (folder / file).unlink()
        return named or file

    return change


def written(file: str, data: bytes) -> Callable[[Path], str]:
    def change(folder: Path) -> str:
        (folder / file).write_bytes(data)
        return file

    return change


FORM = "forms/care-basic.yaml"


@pytest.mark.parametrize(
    "change",
    [
        gone("ledger.yaml"),
        gone("items.yaml"),
        gone("schedule.yaml"),
        gone("rights.yaml"),
        gone("forms/care-basic.png", FORM),
        written("ledger.yaml", b"a: [1, 2"),
        written("ledger.yaml", b"- 1\n"),
        written("items.yaml", "氏名: 1".encode()),
        written("items.yaml", b"\xff\xfe"),
        written("items.yaml", b"- id: a\n"),
        replaced("ledger.yaml", "format: daicho-ledger-1", "format: daicho-ledger-9"),
        replaced("ledger.yaml", "id: care-clients", "id: ../other"),
        replaced("ledger.yaml", "id: care-clients", "id: 台帳"),
        replaced("ledger.yaml", "title: [name,", "title: [no_such,"),
        replaced("ledger.yaml", "year_item: opened_on", "year_item: name"),
        replaced("ledger.yaml", "number: 6緑審第12号", "number: ''"),
        replaced("items.yaml", "type: kana", "type: romaji"),
        replaced("items.yaml", "id: name_kana", "id: name"),
        replaced("items.yaml", "choices: [男, 女]", "choices: []"),
        replaced("items.yaml", "label: {ja: 氏名, en: Name}", "label: {en: Name}"),
        replaced("schedule.yaml", "{item: closed_on}", "{item: name}"),
        replaced("schedule.yaml", "{item: closed_on}", "{item: never}"),
        replaced("schedule.yaml", "{years: 5}", "{years: 0}"),
        replaced("schedule.yaml", "{years: 5}", "{years: five}"),
        replaced("schedule.yaml", "{years: 5}", "for ever"),
        replaced("schedule.yaml", "start: fiscal_year_after", "start: some_day"),
        replaced("schedule.yaml", "action: destroy", "action: burn"),
        replaced("rights.yaml", "actions: [view]", "actions: [see]"),
        replaced("rights.yaml", "actions: [view]", "actions: view"),
        replaced("rights.yaml", "dv-desk:", "支援:"),
        written("rights.yaml", b"posts: [a, b]\n"),
        written("rights.yaml", b"posts: {a: [view]}\n"),
        replaced("ledger.yaml", "title: [name, name_kana, birth_date]", "title: 5"),
        replaced("ledger.yaml", "title: [name, name_kana, birth_date]", "title: [[name]]"),
        replaced("items.yaml", "choices: [男, 女]", "choices: 男女"),
        replaced("schedule.yaml", "trigger: {item: closed_on}", "trigger: closed_on"),
        replaced(FORM, "page:", "page: A4\nformer:"),
        replaced(FORM, "marks:", "marks: [1, 2, 3, 4]\nformer:"),
        replaced(FORM, "marks:", "marks: [[1, 2], [3, 4]]\nformer:"),
        replaced(FORM, "zones:", "zones: 5\nformer:"),
        written(FORM, b"id: care-basic\n"),
        written("forms/care-basic.png", b"no picture"),
    ],
)
def test_a_mistake_is_named_with_its_file(folder: Path, change: Callable[[Path], str]) -> None:
    file = change(folder)
    with pytest.raises(BadInput) as caught:
        read_folder(folder)
    error = caught.value
    assert error.code == "ledger.definition"
    named = FORM if file.endswith(".png") else file
    for words in (error.ja, error.en):
        assert named in words and "daicho ledger apply" in words


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read_folder(tmp_path / "nowhere")
    assert "ledger.yaml" in caught.value.en


@pytest.mark.parametrize(
    ("item", "typed", "kept"),
    [
        (NAME, " 山田 花子 ", "山田 花子"),
        (NAME, "𠮷田 髙﨑", "𠮷田 髙﨑"),  # as written: what searches fold, records keep
        (DATE, "昭和64年1月7日", "1989-01-07"),
        (DATE, "H1.1.8", "1989-01-08"),
        (DATE, "令和元年5月1日", "2019-05-01"),
        (DATE, "2024-02-29", "2024-02-29"),
        (DATE, "", ""),
        (CHOICE, "女", "女"),
        (NUMBER, "０１２３", "0123"),
        (PHONE, "０９０－１２３４－５６７８", "090-1234-5678"),
        (NOTE, "一行目\n二行目", "一行目\n二行目"),
        (NOTE, "x" * 10_000, "x" * 10_000),
    ],
)
def test_a_value_is_kept_in_one_form(item: Item, typed: str, kept: str) -> None:
    assert checked(item, typed) == kept
    assert checked(item, kept) == kept


@pytest.mark.parametrize(
    ("item", "typed", "code"),
    [
        (NAME, "", "value.required"),
        (NAME, "　 ", "value.required"),
        (DATE, "昭和64年1月8日", "value.date"),
        (DATE, "平成31年5月1日", "value.date"),
        (DATE, "2023-02-29", "value.date"),
        (DATE, "54.3.2", "value.date"),
        (CHOICE, "男女", "value.choice"),
        (NUMBER, "十二", "value.number"),
        (PHONE, "090-1234-567O", "value.number"),
        (NOTE, "a\x07", "value.length"),
        (NOTE, "x" * 10_001, "value.length"),
    ],
)
def test_a_value_that_does_not_fit_is_said_so(item: Item, typed: str, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        checked(item, typed)
    assert caught.value.code == code
    assert item.label["ja"] in caught.value.ja and item.label["en"] in caught.value.en
    assert not typed.strip() or typed not in caught.value.ja  # no personal data in messages


def test_dates_are_shown_with_their_era() -> None:
    assert shown(DATE, "2019-05-01") == "令和元年5月1日"
    assert shown(DATE, "") == ""
    assert shown(NOTE, "2019-05-01") == "2019-05-01"
