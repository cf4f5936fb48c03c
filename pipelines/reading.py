"""What a worker of an ingest does: look at a file's pages, read one case. Plain functions that pickle and need no catalogue.

Nothing of a page is left on disk unencrypted: the worker encrypts to the recipient of the record's key and cannot open it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from core.errors import BadFile
from core.settings import Settings
from ingest.codes import CodeReaders
from ingest.form import Form, PageSurvey, SheetReading
from ingest.geometry import Registration, recognise, register
from ingest.masking import masked
from ingest.pages import LimitedPageSource, survey_page
from ingest.pictures import pictures
from ingest.port import Pixels, ScannedPage, TextReader
from ingest.readers import PaddleReader, available_readers
from ingest.sheet import read_sheet
from ingest.wholepage import alto, read_page
from records.archive import pack
from records.spans import Captured, CapturedPage, Span, SpanSheet, WholePage
from storage.cipher import decrypt, encrypt
from storage.durable import writing
from storage.port import Pin
from wiring.engines import open_objects


@dataclass(frozen=True)
class Surveyed:
    """A file after the first look; `error`: why it cannot be opened at all; `bad`: page index -> why it cannot be read."""

    pages: tuple[PageSurvey, ...] = ()
    count: int = 0
    error: str = ""
    bad: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A case to be read: what travels to a worker. No image does.

    `alone`: the ledger's items that must be destroyable alone, each with the recipient of its key.
    """

    batch: str
    record: str
    recipient: str
    ledger: str
    span: Span
    numbers: tuple[int, ...]
    files: Mapping[str, Path]
    folder: Path
    alone: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Context:
    """What a worker keeps from task to task."""

    source: LimitedPageSource
    codes: CodeReaders | None = None
    readers: Sequence[TextReader] = ()
    forms: Mapping[str, Sequence[tuple[Form, Pixels]]] = field(default_factory=dict)

    def close(self) -> None:
        self.source.close()


def survey_context() -> Context:
    cv2.setNumThreads(1)
    return Context(LimitedPageSource(), codes=CodeReaders.installed())


def survey_file(context: Context, task: tuple[str, Path]) -> Surveyed:
    _, path = task
    assert context.codes is not None
    count = context.source.count(path)
    pages, bad = [], {}
    for index in range(count):
        try:
            pages.append(survey_page(context.source, context.codes, path, index))
        except BadFile as error:
            bad[index] = error.code
    return Surveyed(tuple(pages), count, "", bad)


def reading_context(forms: Mapping[str, Sequence[tuple[Form, bytes]]]) -> Context:
    cv2.setNumThreads(1)
    readers = available_readers()[0] if any(forms.values()) else []
    decoded = {
        ledger: [
            (form, np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8))
            for form, png in listed
        ]
        for ledger, listed in forms.items()
    }
    return Context(LimitedPageSource(), readers=readers, forms=decoded)


def read_span(context: Context, task: Task) -> Captured:
    """Read one case: every page encrypted into scratch, the form sheet's zones read. Runs in a worker."""
    pages: list[CapturedPage] = []
    made: dict[str, bytes] = {}
    reading: SheetReading | None = None
    form_page = 0
    for index, (sheet, number) in enumerate(zip(task.span.sheets, task.numbers, strict=True)):
        survey = sheet.side.survey
        scanned = context.source.page(task.files[sheet.side.file], survey.index)
        if hashlib.sha256(scanned.original).hexdigest() != survey.digest:
            raise BadFile(
                "読み取りの途中でファイルが変わりました。コピーが終わってから、もう一度取り込んでください。",
                "The file changed while it was being read. Bring it in again when it is complete.",
                code="file.changed",
            )
        reason = sheet.reason
        placed: tuple[Form, Registration] | None = None
        if sheet.kind == "form" and context.forms[task.ledger]:
            try:
                placed = _placed(context, task, sheet, scanned.pixels, scanned.dpi)
                if placed is not None:
                    reading = _read_form(context, scanned, placed)
                    form_page = index
            except (ArithmeticError, LookupError, TypeError, ValueError, cv2.error):
                # A fault of ours on this sheet: the page is safe, and a person reads it.
                placed, reading, reason = None, None, reason or "not_read"
            if placed is None:
                reason = reason or "unknown_form"
        page = CapturedPage(
            number,
            f"page-{index + 1:04}.age",
            scanned.media_type,
            survey.digest,
            survey.width,
            survey.height,
            scanned.dpi,
            sheet.kind,
            survey.blank,
            reason,
        )
        page, seen = _kept(context, task, page, scanned, placed)
        if seen is not None:
            items = [item for item in reading.items if item.reason and item.item not in task.alone] if reading else []
            made |= pictures(seen, index, placed, items if placed else [])
        pages.append(page)
    with writing():
        (task.folder / f"{task.record}.derived").write_bytes(encrypt(pack(made), task.recipient))
    if reading is None:
        return Captured(task.record, "", task.span.case, tuple(pages), (), {}, b"")
    return Captured(
        task.record,
        reading.form,
        task.span.case,
        tuple(pages),
        reading.items,
        {},
        b"",
        reading.matrix,
        reading.dpi,
        reading.method,
        reading.rotation,
        form_page,
    )


def _kept(
    context: Context, task: Task, page: CapturedPage, scanned: ScannedPage, placed: tuple[Form, Registration] | None
) -> tuple[CapturedPage, ScannedPage | None]:
    """The page encrypted into scratch, whole or whole and masked, and what others than those who settle may see of it.

    Where the items that must be destroyable alone stand on the page, the form says; without one nobody knows, and nothing of it is shown.
    """
    alone = tuple(task.alone)
    if placed is not None:
        form, registration = placed
        zones = [zone for zone in form.zones if zone.item in task.alone]
        alone = tuple(item for item in alone if item in {zone.item for zone in zones})
        if zones:
            blank = next(image for each, image in context.forms[task.ledger] if each.id == form.id)
            over = masked(scanned, zones, registration.matrix, blank)
            whole = WholePage(page.path, page.media_type, page.digest, alone)
            _put(task, whole.path, scanned.original, alone)
            path = page.path.replace(".age", "-masked.age")
            _put(task, path, over.original, ())
            digest = hashlib.sha256(over.original).hexdigest()
            return replace(page, path=path, media_type=over.media_type, digest=digest, whole=whole), over
    elif alone and page.kind not in ("cover", "separator"):
        _put(task, page.path, scanned.original, alone)
        return replace(page, under=alone), None
    _put(task, page.path, scanned.original, ())
    return page, scanned


def _put(task: Task, path: str, data: bytes, under: tuple[str, ...]) -> None:
    """Encrypt a page into scratch: under the keys of these items, the first of them outermost, or under the record's."""
    for recipient in [task.alone[item] for item in reversed(under)] or [task.recipient]:
        data = encrypt(data, recipient)
    with writing():
        (task.folder / f"{task.record}.{path}").write_bytes(data)


def _read_form(context: Context, scanned: ScannedPage, placed: tuple[Form, Registration]) -> SheetReading:
    form, registration = placed
    first, *others = context.readers
    return read_sheet(scanned.pixels, scanned.dpi, form, registration, first, *others[:1])


def _placed(
    context: Context, task: Task, sheet: SpanSheet, pixels: Pixels, dpi: float
) -> tuple[Form, Registration] | None:
    """The form of a sheet and where it lies: the one its code says, or the one it looks like."""
    known = context.forms[task.ledger]
    for form, image in known:
        if form.id == task.span.form:
            registration = register(pixels, dpi, form, image)
            return None if registration is None else (form, registration)
    return recognise(pixels, dpi, known)


@dataclass(frozen=True)
class PagesTask:
    """A record's pages to read: (number from 1, logical path, media type) of each, under a pin, with the secret of its key."""

    record: str
    pin: Pin
    secret: str
    pages: tuple[tuple[int, str, str], ...]


@dataclass
class PagesContext:
    settings: Settings
    source: LimitedPageSource
    reader: PaddleReader

    def close(self) -> None:
        self.source.close()


def read_pages(context: PagesContext, task: PagesTask) -> dict[str, bytes]:
    """`text-NNNN.xml` (ALTO 4.4) of every page of a record. Runs in a worker."""
    objects = open_objects(context.settings)
    made = {}
    for number, path, media_type in task.pages:
        scanned = context.source.decode(decrypt(objects.read(task.pin, path), task.secret), media_type)
        text = read_page(scanned.pixels, context.reader)
        height, width = scanned.pixels.shape[:2]
        made[f"text-{number:04}.xml"] = alto(text, width, height, scanned.dpi)
    return made


def pages_context(settings: Settings) -> PagesContext:
    cv2.setNumThreads(1)
    return PagesContext(settings, LimitedPageSource(), PaddleReader())
