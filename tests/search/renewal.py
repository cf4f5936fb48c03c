"""What `renewed` must do for every engine that has it. A test file gives the fixture `site` and an empty class deriving from
`RenewalContract`.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.errors import IndexOutdated, StoreDamaged
from search.port import Contains, Document, SearchIndex
from tests.contracts.index_contract import OPEN, doc, found


@dataclass(frozen=True)
class Site:
    """Where an index lives: `kind(*at)` opens it; `places` lists what is there, in use or not; `hurt(how)` does what it says.

    `at` must be something that its `repr` makes again in another process.
    """

    kind: Any
    at: tuple[Any, ...]
    places: Callable[[], list[str]]
    hurt: Callable[[str], None]

    def open(self) -> SearchIndex:
        index: SearchIndex = self.kind(*self.at)
        return index

    def renewed(self, fill: Callable[[SearchIndex], None]) -> SearchIndex:
        index: SearchIndex = self.kind.renewed(*self.at, fill)
        return index


CHILD = """
import sys, time
from pathlib import Path, PosixPath
from core.settings import ElasticsearchSettings
from search.{module} import {kind}
from search.port import Document
def fill(index):
    index.write([Document("r-8", 1, "p1", {{"name": ["山"]}}, {{}}, 1)], [], 8)
    print("filled", flush=True)
    time.sleep(60)
{kind}.renewed(*{at!r}, fill)
"""


class RenewalContract:
    def test_the_present_one_answers_until_the_new_one_does(self, site: Site) -> None:
        before = site.open()
        before.write([doc("r-1", "山")], (), 1)
        seen = []

        def fill(fresh: SearchIndex) -> None:
            assert (fresh.upto(), fresh.count()) == (0, 0)
            fresh.write([doc("r-2", "山"), doc("r-3", "山")], (), 5)
            seen.extend([found(before, "山"), found(site.open(), "山")])
            # The old one still takes what comes; the new one learns it when it is fed from where it stands.
            before.write([doc("r-4", "山")], (), 6)
            seen.append(found(site.open(), "山"))

        after = site.renewed(fill)
        assert seen == [["r-1"], ["r-1"], ["r-1", "r-4"]]
        for index in (after, before, site.open()):
            assert (found(index, "山"), index.upto(), index.count()) == (["r-2", "r-3"], 5, 2)
        before.write([doc("r-4", "山")], (), 6)
        assert found(after, "山") == ["r-2", "r-3", "r-4"]
        assert len(site.places()) == 1

    def test_readers_never_fail_nor_see_half_of_it(self, site: Site) -> None:
        index = site.open()

        def corpus(number: int) -> list[Document]:
            return [doc(f"r-{number}-{n}", "山", sort=number) for n in range(20)]

        index.write(corpus(0), (), 1)
        over = threading.Event()

        def read() -> int:
            own, asked = site.open(), 0
            while not over.is_set():
                page = own.search(Contains("山"), OPEN)
                assert (page.total, len({hit.record.split("-")[1] for hit in page.hits})) == (20, 1)
                asked += 1
            return asked

        with ThreadPoolExecutor(2) as threads:
            readers = [threads.submit(read) for _ in range(2)]
            try:
                for number in range(1, 7):
                    site.renewed(lambda fresh, number=number: fresh.write(corpus(number), (), number))  # type: ignore[misc]
            finally:
                over.set()
            assert all(reader.result() > 6 for reader in readers)
        assert found(index, "山") == found(site.open(), "山")
        assert index.upto() == 6

    def test_a_renewal_that_fails_leaves_nothing(self, site: Site) -> None:
        index = site.open()
        index.write([doc("r-1", "山")], (), 1)
        before = site.places()

        def broken(fresh: SearchIndex) -> None:
            fresh.write([doc("r-2", "山")], (), 2)
            raise OSError("no more")

        with pytest.raises(OSError, match="no more"):
            site.renewed(broken)
        assert site.places() == before
        assert (found(index, "山"), site.open().upto()) == (["r-1"], 1)

    def test_killed_before_the_exchange_the_old_one_answers(self, site: Site) -> None:
        index = site.open()
        index.write([doc("r-1", "山")], (), 1)
        code = CHILD.format(module=site.kind.__module__.partition(".")[2], kind=site.kind.__name__, at=site.at)
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "filled\n"
        child.kill()
        child.wait()
        child.stdout.close()
        assert len(site.places()) == 2
        assert (found(index, "山"), found(site.open(), "山"), site.open().upto()) == (["r-1"], ["r-1"], 1)
        renewed = site.renewed(lambda fresh: fresh.write([doc("r-2", "山")], (), 2))
        assert (found(index, "山"), found(renewed, "山")) == (["r-2"], ["r-2"])
        assert len(site.places()) == 1

    @pytest.mark.parametrize("how", ["missing", "outdated", "damaged"])
    def test_whatever_the_present_one_is(self, site: Site, how: str) -> None:
        site.open().write([doc("r-1", "山")], (), 1)
        site.hurt(how)
        if how != "missing":
            with pytest.raises(IndexOutdated if how == "outdated" else StoreDamaged):
                site.open().search(Contains("山"), OPEN)
        renewed = site.renewed(lambda fresh: fresh.write([doc("r-2", "山")], (), 2))
        assert (found(renewed, "山"), found(site.open(), "山"), site.open().upto()) == (["r-2"], ["r-2"], 2)
        assert len(site.places()) == 1
