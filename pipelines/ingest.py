"""Ingest: files -> pages and codes -> cases -> readings -> sealed or waiting. Resumes where it was broken off.

Order of steps: survey every page (in parallel), plan the cases, count the sheets in the journal (`prepare`); read case by case (in parallel; the
worker encrypts what it read), seal in groups (here, one writer), feed the index (`read_part`). Nothing of a page is on disk unencrypted.

The command line reads everything as one part (`ingest`); flows read parts of about a hundred sheets, so that each can be tried again alone.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

from access.decide import Actor, ledgers
from core.errors import BadFile, BadInput, DaichoError
from core.settings import Settings
from ingest.form import Form
from ingest.pool import run
from pipelines.progress import Progress
from pipelines.reading import Context, Surveyed, Task, read_span, reading_context, survey_context, survey_file
from records import queries
from records.alone import key_of
from records.batches import NewSheet, open_batch
from records.capture import refuse_sheets, seal_spans
from records.content import mark
from records.found import MARKS_KEY, definition_of, images, unknown_ledger
from records.indexing import feed
from records.spans import Captured, Side, Span, plan
from records.stores import Stores

SCANS = frozenset([".pdf", ".tif", ".tiff", ".jpg", ".jpeg", ".png", ".jp2", ".j2k", ".webp"])
BESIDE = frozenset([".xml", ".txt", ".md", ".csv", ".json", ".db", ".ini"])
"""Endings of files that lie beside scans in a folder; they are told, not counted."""

GROUP = 16
GROUP_BYTES = 64 << 20
"""Cases sealed together: so many, or so many bytes of pages."""

WINDOW = 64
FEED_EVERY = 2.0


@dataclass(frozen=True)
class Ingested:
    """What an ingest did. `batches`: ids, one a ledger; `again`: those of them that had been brought in before; `left_out`: files beside."""

    batches: tuple[str, ...]
    again: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """What an ingest is to read: sheets counted, batches open, nothing read yet. Holds no image but the blank forms.

    `batches`, `again`, `left_out` as in `Ingested`. `cases`: those without an outcome, in the order of the batches. `forms`: ledger -> its
    forms with their blank images (PNG).
    """

    batches: tuple[str, ...]
    again: tuple[str, ...]
    left_out: tuple[str, ...]
    cases: tuple[Task, ...]
    forms: Mapping[str, Sequence[tuple[Form, bytes]]]

    def parts(self, sheets: int) -> list[slice]:
        """`cases` cut into runs of whole cases, of `sheets` sheets or as many as the last case of each brings; at least one, be it empty."""
        cuts, counted = [0], 0
        for index, case in enumerate(self.cases, 1):
            counted += len(case.numbers)
            if counted >= sheets or index == len(self.cases):
                cuts.append(index)
                counted = 0
        return [slice(start, end) for start, end in pairwise(cuts)] or [slice(0, 0)]


def ingest(
    settings: Settings,
    stores: Stores,
    actor: Actor,
    paths: Sequence[Path],
    ledger: str,
    *,
    name: str = "",
    jobs: int | None = None,
    progress: Progress = lambda step, done, total: None,
) -> Ingested:
    """Bring in files and folders of scans: `prepare` and `read_part` of all, with their arguments and errors."""
    prepared = prepare(settings, stores, actor, paths, ledger, name=name, jobs=jobs, progress=progress)
    read_part(settings, stores, actor, prepared, slice(None), jobs=jobs, progress=progress)
    return Ingested(prepared.batches, prepared.again, prepared.left_out)


def prepare(
    settings: Settings,
    stores: Stores,
    actor: Actor,
    paths: Sequence[Path],
    ledger: str,
    *,
    name: str = "",
    jobs: int | None = None,
    progress: Progress = lambda step, done, total: None,
) -> Prepared:
    """Look at every page, plan the cases, and count the sheets in the journal.

    Args:
        paths: files, or folders that are searched to the bottom, in name order.
        ledger: the ledger of sheets whose codes name none; sheets whose codes name another ledger into which the actor may bring sheets
            make a batch of that ledger.
        name: what people call the batch; made of the files' names when empty.
        jobs: worker processes.

    Raises:
        NotFound, NotPermitted: the ledger is unknown to the actor, or may not be written.
        BadInput: (`ingest.empty`) there is no file.
    """
    if ledger not in ledgers(actor, "capture"):
        raise unknown_ledger()
    files, left_out = collect(paths)
    surveyed = _survey(files, jobs or settings.jobs, progress)
    batches = _planned(stores, actor, files, surveyed, ledger)
    name = name.strip() or (paths[0].name if len(paths) == 1 else f"{paths[0].name} +{len(paths) - 1}")
    opened, again, cases = [], [], []
    for batch_ledger, (spans, refused) in batches.items():
        batch, known = _opened(stores, actor, batch_ledger, name, spans, refused)
        opened.append(batch)
        todo = _todo(stores, batch, batch_ledger, spans, files, settings.scratch / batch)
        cases += todo
        if known and not todo:
            again.append(batch)
    return Prepared(tuple(opened), tuple(again), tuple(left_out), tuple(cases), _forms(stores, batches))


def read_part(
    settings: Settings,
    stores: Stores,
    actor: Actor,
    prepared: Prepared,
    part: slice,
    *,
    jobs: int | None = None,
    progress: Progress = lambda step, done, total: None,
) -> None:
    """Read and seal cases of a prepared ingest, then feed the index. May be called again: cases that have an outcome are let be.

    One call at a time for a batch: the scratch folders of the batches are emptied at the end.

    Args:
        part: which of `prepared.cases`.
        jobs: worker processes.

    Raises:
        StorageFull and others of the store: what was sealed stays; the same call goes on later.
        DaichoError: (`internal`) a case could not be read for a reason of ours; it has no outcome yet, all others have.
    """
    try:
        cases = _still_open(prepared.cases[part])
        _read(stores, actor, cases, jobs or settings.jobs, partial(reading_context, prepared.forms), progress)
    except BaseException:
        # What was sealed is to be found; that the index cannot be written either must not hide why the ingest ended.
        with contextlib.suppress(DaichoError):
            feed(stores)
        raise
    else:
        feed(stores)
    finally:
        for batch in prepared.batches:
            shutil.rmtree(settings.scratch / batch, ignore_errors=True)


def collect(paths: Sequence[Path]) -> tuple[dict[str, Path], list[str]]:
    """Name -> file for every file to be counted, in order, and the names of those left beside. Names are relative to what was given."""
    files: dict[str, Path] = {}
    beside: list[str] = []
    for path in paths:
        if path.is_dir():
            for file in sorted(each for each in path.rglob("*") if each.is_file()):
                relative = file.relative_to(path).as_posix()
                if any(part.startswith(".") for part in Path(relative).parts) or file.suffix.lower() in BESIDE:
                    beside.append(relative)
                else:
                    files[_free(relative, files)] = file
        elif path.exists():
            files[_free(path.name, files)] = path
        else:
            raise BadInput(
                f"{path} がありません。名前を確かめてください。",
                f"There is no {path}. Check the name.",
                code="ingest.missing",
            )
    if not files:
        raise BadInput(
            "取り込むファイルがありません。PDF・TIFF・JPEG などの入ったフォルダーを指定してください。",
            "There is nothing to bring in. Name a folder with PDF, TIFF, JPEG or other scans.",
            code="ingest.empty",
        )
    return files, beside


def _free(name: str, taken: Mapping[str, Path]) -> str:
    """A name that is not taken: two folders may hold files of one name."""
    return (
        name if name not in taken else next(made for n in range(2, 1 << 20) if (made := f"{name} ({n})") not in taken)
    )


def _survey(files: Mapping[str, Path], jobs: int, progress: Progress) -> dict[str, Surveyed]:
    found: dict[str, Surveyed] = {}
    progress("survey", 0, len(files))
    for (name, _), result in run(files.items(), survey_file, jobs, survey_context):
        found[name] = Surveyed(error=result.code) if isinstance(result, DaichoError) else result
        progress("survey", len(found), len(files))
    return found


_Refused = tuple[str, int, str]
"""(file, page from 1 or 0 for the file, error code)."""


def _planned(
    stores: Stores, actor: Actor, files: Mapping[str, Path], surveyed: Mapping[str, Surveyed], default: str
) -> dict[str, tuple[list[Span], list[_Refused]]]:
    """Ledger -> its spans and, for the default ledger, the files and pages that cannot be read."""
    sides, refused = [], []
    for name in files:
        one = surveyed[name]
        if one.error:
            refused.append((name, 0, one.error))
        refused += [(name, index + 1, code) for index, code in one.bad.items()]
        sides += [Side(name, page, one.count == 1) for page in one.pages]
    definition, _ = definition_of(default)
    permitted = ledgers(actor, "capture")
    batches: dict[str, tuple[list[Span], list[_Refused]]] = {default: ([], refused)}
    for span in plan(sides, whole_files=not definition.forms):
        home, reason = default, ""
        if span.ledger and span.ledger != default:
            known = span.ledger in permitted and definition_of(span.ledger)[0].form(span.form) is not None
            home, reason = (span.ledger, "") if known else (default, "unknown_ledger")
        elif span.form and definition.form(span.form) is None:
            reason = "unknown_form"
        if reason:
            span = replace(span, sheets=tuple(replace(sheet, reason=sheet.reason or reason) for sheet in span.sheets))
        batches.setdefault(home, ([], []))[0].append(span)
    return {home: parts for home, parts in batches.items() if parts[0] or parts[1]}


def _opened(
    stores: Stores, actor: Actor, ledger: str, name: str, spans: Sequence[Span], refused: Sequence[_Refused]
) -> tuple[str, bool]:
    counted = [
        NewSheet(sheet.side.file, sheet.side.survey.index + 1, sheet.side.survey.digest, sheet.kind)
        for span in spans
        for sheet in span.sheets
    ]
    counted += [NewSheet(file, page, "", "file" if page == 0 else "page", code) for file, page, code in refused]
    return open_batch(stores, actor, ledger, name, counted)


def _todo(
    stores: Stores, batch: str, ledger: str, spans: Sequence[Span], files: Mapping[str, Path], folder: Path
) -> list[Task]:
    """The spans that have no outcome yet, duplicates of sheets already there marked for a person."""
    states = {sheet.number: sheet.state for sheet in queries.sheets(batch)}
    secret = stores.keys.get(MARKS_KEY).secret.encode()
    numbered, number = [], 1
    for span in spans:
        numbered.append((span, tuple(range(number, number + len(span.sheets)))))
        number += len(span.sheets)
    open_spans = [(span, numbers) for span, numbers in numbered if any(not states[each] for each in numbers)]
    marks = {
        sheet.side.survey.digest: mark(stores, sheet.side.survey.digest)
        for span, _ in open_spans
        for sheet in span.sheets
    }
    seen = set(queries.sealed_marks(ledger, marks.values()))
    tasks = []
    for span, numbers in open_spans:
        sheets = []
        for sheet in span.sheets:
            own = marks[sheet.side.survey.digest]
            again = sheet.kind in ("form", "page") and own in seen
            sheets.append(replace(sheet, reason=sheet.reason or "duplicate") if again else sheet)
            seen.add(own)
        name = f"{batch}\n{numbers[0]}\n{span.sheets[0].side.survey.digest}"
        told = hmac.new(secret, name.encode(), hashlib.sha256).digest()[:16]
        record = f"r-{base64.b32encode(told).decode().rstrip('=').lower()}"
        tasks.append(Task(batch, record, "", ledger, replace(span, sheets=tuple(sheets)), numbers, files, folder))
    return tasks


def _still_open(cases: Sequence[Task]) -> list[Task]:
    """The cases without an outcome: a part that is read again has lost none of what it sealed the first time."""
    numbers: dict[str, list[int]] = {}
    for case in cases:
        numbers.setdefault(case.batch, []).extend(case.numbers)
    done = {(batch, number) for batch, wanted in numbers.items() for number in queries.finished(batch, wanted)}
    return [case for case in cases if any((case.batch, number) not in done for number in case.numbers)]


def _forms(stores: Stores, batches: Iterable[str]) -> dict[str, list[tuple[Form, bytes]]]:
    found = {}
    for ledger in batches:
        row = queries.ledger_version(ledger)
        assert row is not None
        blank = images(stores, row)
        found[ledger] = [(form, blank[form.id]) for form in definition_of(ledger)[0].forms]
    return found


def _read(
    stores: Stores,
    actor: Actor,
    tasks: Sequence[Task],
    jobs: int,
    context: Callable[[], Context],
    progress: Progress,
) -> None:
    fed = time.monotonic()
    failed: DaichoError | None = None
    progress("read", 0, len(tasks))
    ready: dict[str, list[Captured]] = {}

    def seal(batch: str) -> None:
        nonlocal fed
        seal_spans(stores, actor, batch, ready.pop(batch))
        if time.monotonic() - fed > FEED_EVERY:
            feed(stores)
            fed = time.monotonic()

    for done, (task, result) in enumerate(run(_with_keys(stores, tasks), read_span, jobs, context), 1):
        if isinstance(result, BadFile):
            refuse_sheets(stores, actor, task.batch, task.numbers, result.code)
        elif isinstance(result, DaichoError) and result.code == DaichoError.code:
            # Ours, not the sheet's: it has no outcome, the others go on, and the same call tries it again.
            failed = result
        elif isinstance(result, DaichoError):
            # Of the machine: nothing goes on, and nothing is decided.
            raise result
        else:
            ready.setdefault(task.batch, []).append(_collected(task, result))
            group = ready[task.batch]
            if len(group) >= GROUP or sum(len(data) for one in group for data in one.files.values()) >= GROUP_BYTES:
                seal(task.batch)
        progress("read", done, len(tasks))
    for batch in list(ready):
        seal(batch)
    if failed is not None:
        raise failed


def _with_keys(stores: Stores, tasks: Sequence[Task]) -> Iterator[Task]:
    """The tasks, each with the recipients of its keys; keys are made durable a window at a time, before any sheet is read under them."""
    alone = {ledger: definition_of(ledger)[0].alone for ledger in {task.ledger for task in tasks}}
    queue = iter(tasks)
    while window := list(islice(queue, WINDOW)):
        wanted = [
            key for task in window for key in (task.record, *(key_of(task.record, item) for item in alone[task.ledger]))
        ]
        keys = {key.id: key.recipient for key in stores.keys.create(wanted)}
        for task in window:
            task.folder.mkdir(parents=True, exist_ok=True)
            used = {sheet.side.file for sheet in task.span.sheets}
            yield replace(
                task,
                recipient=keys[task.record],
                files={name: task.files[name] for name in used},
                alone={item: keys[key_of(task.record, item)] for item in alone[task.ledger]},
            )


def _collected(task: Task, result: Captured) -> Captured:
    """The worker's result with the encrypted bytes it left in scratch."""
    files = {}
    for path in (path for page in result.pages for path in page.paths):
        place = task.folder / f"{task.record}.{path}"
        files[path] = place.read_bytes()
        place.unlink()
    place = task.folder / f"{task.record}.derived"
    derived = place.read_bytes()
    place.unlink()
    return replace(result, files=files, derived=derived)
