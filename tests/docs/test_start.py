"""The quick starts: every command in them is run, in the order in which people meet."""

from __future__ import annotations

import re

import pytest
from doc_town import Town, snippets

pytestmark = pytest.mark.slow

PAGES = ("contractor", "staff", "records-officer", "auditor", "administrator")
RUN_BY_THE_FIXTURE = {"contractor": 1, "administrator": 1}


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_of_a_quick_start_works(town: Town, page: str) -> None:
    scripts = snippets(f"start/{page}.md")
    assert scripts
    for script in scripts[RUN_BY_THE_FIXTURE.get(page, 0) :]:
        assert town.run(script).strip()


def test_a_rebuild_leaves_the_digest_as_the_auditor_is_told(town: Town) -> None:
    (before,) = town.rows("info")
    town.run("daicho rebuild")
    (after,) = town.rows("info")
    assert before["digest"] == after["digest"]


def test_the_chain_is_what_the_auditor_is_shown(town: Town) -> None:
    digest, previous = town.run(snippets("start/auditor.md")[1]).split("\n")[:2]
    assert previous == f'"previous":"{digest.split()[0]}"'


def test_a_password_is_told_once_and_is_as_long_as_told(town: Town) -> None:
    password = town.rows("person password welfare1")[0]["password"]
    assert isinstance(password, str) and len(password) >= 12
    assert not any(password in path.read_text("utf-8", "ignore") for path in town.data.rglob("*") if path.is_file())


def test_a_finished_batch_balances(town: Town) -> None:
    row = town.rows("batch show " + town.words["バッチ番号"])[0]
    assert (row["sheets"], row["sealed"], row["waiting"], row["refused"]) == (5, 3, 0, 2)
    assert re.fullmatch(r"b-[a-z2-7]{26}", str(row["batch"]))
