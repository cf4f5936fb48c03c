"""The catalogue under suspicion: is every row what the journal gives? What differs is told by table, key and column.

The journal is folded afresh into a scratch catalogue, which stands beside the live one; both are read in the order of their keys, a row of each
at a time. What lives in the database alone (password hashes, sessions) has nothing to be compared with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.errors import StoreDamaged
from records import queries
from records.rebuild import fold_some
from records.stores import Stores
from storage.port import Finding

MOST = 1000
"""Findings told of one catalogue: more than that say no more."""

_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")


def compare(stores: Stores) -> list[Finding]:
    """Compare the live catalogue, as it is at the start, with the journal. Findings by table and key, at most `MOST` and one that says so.

    Their codes: `catalogue.differs` (object `catalogue`; path: the table and the row's key; detail: the column, or that the row is missing or too
    many) and `catalogue.damaged` (the database cannot read its file, or contradicts itself). No value is told, since values may name people.
    None of a journal that ends before the catalogue does, which `check.verify` tells: all behind its end would be too many.

    Raises:
        StoreDamaged: the journal cannot be folded as far as the catalogue goes.
    """
    findings: list[Finding] = []
    try:
        with queries.snapshot(), queries.scratch() as fresh:
            with queries.readable():
                upto = queries.last_segment().number
            if stores.journal.last() < upto:
                return findings
            while fold_some(stores, fresh, upto):
                pass
            for finding in _differences(fresh):
                findings.append(finding)
                if len(findings) == MOST:
                    findings.append(Finding("catalogue", "", "catalogue.differs", "and more"))
                    break
            with queries.readable():
                if (complaint := queries.integrity(indexes=True)) != "ok":
                    findings.append(Finding("catalogue", "", "catalogue.damaged", complaint))
    except StoreDamaged as error:
        if error.code != "catalogue.damaged":
            raise
        findings.append(Finding("catalogue", "", error.code, error.en))
    return findings


def _differences(fresh: str) -> Iterator[Finding]:
    for table, key in queries.tables():
        live, right = queries.table_rows(table), queries.table_rows(table, fresh)
        here, there = next(live, None), next(right, None)
        while here is not None or there is not None:
            place = _place(here, key), _place(there, key)
            if there is None or (here is not None and place[0] < place[1]):
                assert here is not None
                yield _finding(table, here, key, "a row that the journal does not give")
                here = next(live, None)
            elif here is None or place[1] < place[0]:
                yield _finding(table, there, key, "the row is missing")
                there = next(right, None)
            else:
                for column, value in there.items():
                    if not _same(here[column], value):
                        yield _finding(table, there, key, f"column {column} is not what the journal gives")
                here, there = next(live, None), next(right, None)


def _place(row: Mapping[str, Any] | None, key: Sequence[str]) -> tuple[tuple[int, Any], ...]:
    """Where a row stands in the order of its key; SQLite puts numbers before text, and nothing before both, whatever the column should hold."""
    if row is None:
        return ()
    values = (row[column] for column in key)
    return tuple(
        (0, 0) if value is None else (1, value) if isinstance(value, int | float) else (2, str(value))
        for value in values
    )


def _same(one: object, other: object) -> bool:
    """Whether readers get the same: 1, 1.0 and true are three values, and so they are inside of JSON."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict | list):
        return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    return one == other


def _finding(table: str, row: Mapping[str, Any], key: Sequence[str], detail: str) -> Finding:
    told = (str(row[column]) for column in key)
    # What somebody wrote into a key may be anything; ours are ids and words.
    shown = (each if _WORD.fullmatch(each) else "…" for each in told)
    return Finding("catalogue", " ".join((table, *shown)), "catalogue.differs", detail)
