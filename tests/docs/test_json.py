"""The table of JSON fields in docs/commands.md against what the commands print."""

from __future__ import annotations

import re

import pytest
from doc_sources import DOCS
from doc_town import Town

pytestmark = pytest.mark.slow

COMMANDS = {
    "ledger list": "ledger list",
    "person list": "person list",
    "batch list": "batch list",
    "codes": "codes samples/batch/10-vacant-houses.jpg",
    "search": "search --limit 1 --facet year",
    "record show": "record show 記録番号",
    "record history": "record history 記録番号",
    "verify": "verify",
    "info": "info",
}


def told(command: str) -> set[str]:
    """The fields that the table names for a command."""
    text = (DOCS / "commands.md").read_text("utf-8").split("## JSON, for programs")[1]
    (row,) = (line.split("|") for line in text.splitlines() if re.match(rf"\| `{command}`", line))
    return set(re.findall(r"`([a-z_]+)(?:\[\])?`", row[2]))


@pytest.mark.parametrize("command", COMMANDS)
def test_rows_have_the_fields_that_are_told(town: Town, command: str) -> None:
    rows = town.rows(COMMANDS[command])
    assert rows
    printed = {name for row in rows for name in row}
    assert printed <= told(command)
    if command not in ("search", "codes", "verify", "batch list", "info"):  # which tell of several kinds of rows
        assert printed == told(command)


def test_a_batch_by_name_has_the_fields_that_are_told(town: Town) -> None:
    (row,) = town.rows("batch show バッチ番号")
    sheets = row["by_name"]
    assert isinstance(sheets, list)
    assert {name for sheet in sheets for name in sheet} | {"by_name"} == told("batch show")
    assert set(row) - {"by_name"} == told("batch list") - {"notice"}
