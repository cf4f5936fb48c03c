"""Reading whole pages, after the batch: text for the search, ALTO beside the object. Never holds a batch up; may be broken off at any time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from access.decide import Actor, ledgers
from core.errors import DaichoError
from core.settings import Settings
from ingest.pool import run
from pipelines.progress import Progress
from records import queries
from records.capture import note_pages_read
from records.content import newest
from records.found import definition_of
from records.indexing import derived, feed
from records.models import Record
from records.stores import Stores

if TYPE_CHECKING:
    from pipelines.reading import PagesTask

GROUP = 8


def read_texts(
    settings: Settings,
    stores: Stores,
    actor: Actor,
    *,
    jobs: int | None = None,
    progress: Progress = lambda step, done, total: None,
) -> int:
    """Read the pages of every sealed record that has no text yet, in ledgers that want it and into which the actor may bring sheets.

    Also those whose text was lost. Returns the number of records read; a page that cannot be read leaves its record for the next time.
    """
    wanted = [name for name in ledgers(actor, "capture") if definition_of(name)[0].whole_page_text]
    records = [record for record in queries.sealed(wanted) if not _has_text(stores, record)]
    read: list[tuple[str, int]] = []
    for record, pages in _read(settings, stores, records, jobs or settings.jobs, progress):
        read.append((record, pages))
        if len(read) >= GROUP:
            note_pages_read(stores, actor, read)
            read = []
    note_pages_read(stores, actor, read)
    feed(stores)
    return len(records)


def read_lost_texts(settings: Settings, stores: Stores, *, progress: Progress = lambda step, done, total: None) -> int:
    """Read again the pages of records whose text was read once, as the journal says, and lost since. For a rebuild; it shows nobody anything.

    The caller feeds the index. Returns how many there were.
    """
    lost = [record for record in queries.with_text() if not _has_text(stores, record)]
    for _ in _read(settings, stores, lost, settings.jobs, progress):
        pass
    return len(lost)


def _read(
    settings: Settings, stores: Stores, records: Sequence[Record], jobs: int, progress: Progress
) -> Iterator[tuple[str, int]]:
    """Read records, keep their texts beside them; (record, pages) of each that succeeded."""
    progress("text", 0, len(records))
    if not records:
        return
    # Here, since it takes longer to load than all else that a rebuild needs.
    from pipelines.reading import pages_context, read_pages
    from records.derive import ensured, keep

    tasks = _tasks(stores, records)
    for done, (task, result) in enumerate(run(tasks, read_pages, jobs, partial(pages_context, settings)), 1):
        if not isinstance(result, DaichoError):
            row = queries.record(task.record)
            assert row is not None
            keep(stores, task.record, {**ensured(stores, newest(stores, row)), **result})
            yield task.record, len(task.pages)
        progress("text", done, len(records))


def _has_text(stores: Stores, record: Record) -> bool:
    text = queries.page_text(record.id)
    return text is not None and (
        text.pages == 0 or any(name.startswith("text-") for name in derived(stores, record.id))
    )


def _tasks(stores: Stores, records: Sequence[Record]) -> Iterator[PagesTask]:
    from pipelines.reading import PagesTask

    for record in records:
        read = newest(stores, record)
        # Masked pages, never whole ones; what lies under keys of items is read by nobody but who settles it.
        pages = tuple(
            (number, page["path"], page["media_type"])
            for number, page in enumerate(read.body["pages"], 1)
            if "under" not in page
        )
        yield PagesTask(record.id, read.pin, stores.keys.get(record.id).secret, pages)
