"""The port of the index, and the values that cross it.

Texts given to the port are as people wrote them; adapters normalise documents and queries alike with
`search.normalise`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Document:
    """What the index knows of one generation of one record.

    `items`: item id -> texts as written (several for repeated items or pages). `facets`: facet name (`ledger`, `year`,
    `section`, or an item id of type choice) -> values, compared exactly; the first three are open to all who may see
    the partition, so no item may have such an id. Dates in `items` are written as ISO days (1979-03-02). `sort`: a
    number that orders lists (for instance the day as yyyymmdd), 0 <= sort < 2**31. `latest`: whether this is the
    record's newest generation.
    """

    record: str
    generation: int
    partition: str
    items: Mapping[str, Sequence[str]]
    facets: Mapping[str, Sequence[str]]
    sort: int
    latest: bool = True


@dataclass(frozen=True)
class Contains:
    """The normalised text occurs, unbroken, in one text of item `item` (None: of any permitted item). From one
    character up.

    A text of which normalising leaves nothing finds nothing.
    """

    text: str
    item: str | None = None


@dataclass(frozen=True)
class Equals:
    """The whole text of item `item` is this, after normalisation."""

    text: str
    item: str


@dataclass(frozen=True)
class Has:
    """Facet `facet` has exactly this value."""

    facet: str
    value: str


@dataclass(frozen=True)
class All:
    """Every part holds. `All(())` holds for everything."""

    parts: tuple[Query, ...]


@dataclass(frozen=True)
class Any:
    """At least one part holds. `Any(())` holds for nothing."""

    parts: tuple[Query, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Query


Query = Contains | Equals | Has | All | Any | Not


@dataclass(frozen=True)
class Scope:
    """What the asker may see: partition -> permitted items, or None for all items of that partition.

    Partitions that are not named do not exist for this query; items that are not named can be neither searched nor
    faceted. An empty scope finds nothing. There is no query without a scope.
    """

    partitions: Mapping[str, frozenset[str] | None]


@dataclass(frozen=True)
class Hit:
    """A found generation: ids only."""

    record: str
    generation: int
    partition: str


@dataclass(frozen=True)
class Page:
    """One page of hits in the order (sort descending, record, generation descending); `total` counts all; `cursor` asks
    for the next.
    """

    hits: tuple[Hit, ...]
    total: int
    cursor: str | None


class SearchIndex(Protocol):
    """Finds ids. One writer, many readers; readers see whole commits only.

    Raises `IndexOutdated` when opened on an index made by another normaliser version or layout, and `BadInput` for a
    cursor that is not its own or belongs to another query or scope.
    """

    def write(self, documents: Iterable[Document], gone: Iterable[str], upto: int) -> None:
        """Replace all generations of each document's record by the given ones, remove the records in `gone`, remember
        `upto`.

        One commit: visible and durable together on return, or not at all. Repeating a call changes nothing. All
        generations of a record come in one call; a record both given and in `gone` is removed. `BadInput`
        (`index.document`) for a document that cannot be written, `Busy` while another process writes, `StorageFull`:
        nothing has changed then.
        """
        ...

    def upto(self) -> int:
        """The `upto` of the last commit (a journal entry number), 0 for an empty index."""
        ...

    def search(
        self, query: Query, scope: Scope, *, past: bool = False, limit: int = 50, cursor: str | None = None
    ) -> Page:
        """A page of hits inside `scope`; `past` also finds superseded generations. `limit`: 1 to 1,000, else
        `BadInput`.
        """
        ...

    def facet(self, facet: str, query: Query, scope: Scope, *, past: bool = False) -> dict[str, int]:
        """Exact counts of hits per value of `facet` inside `scope`, zero counts left out. An item not permitted: as if
        it had no values.
        """
        ...

    def count(self) -> int:
        """Documents in the index, all generations: for checks, not for people."""
        ...
