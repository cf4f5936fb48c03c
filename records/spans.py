"""Spans: which sheets of a stream of pages belong to one case (件), told by their codes. Pure: codes and counts in, spans out. Needs no catalogue.

A cover sheet opens a case and says how many sheets follow; a separator opens a case that lasts until the next code; a sheet's own label
says its case; and what reading a span gave. A sheet's attributes never leak to its neighbours: what codes and counts do not settle waits for a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from core.errors import BadInput
from ingest.form import ItemReading, PageSurvey
from ingest.sheetcode import SheetCode, parse


@dataclass(frozen=True)
class Side:
    """A page of a file in the order of the batch. `alone`: the file is one page, so the next file may go on with the case."""

    file: str
    survey: PageSurvey
    alone: bool


@dataclass(frozen=True)
class SpanSheet:
    """A sheet of a span: `kind` form, cover, separator, page or blank; `reason`: why a person must look, or ""."""

    side: Side
    kind: str
    reason: str = ""


@dataclass(frozen=True)
class Span:
    """The sheets of one case. `ledger` and `form` are what codes say ("" where none does)."""

    ledger: str
    form: str
    case: str
    sheets: tuple[SpanSheet, ...]


@dataclass
class _Open:
    code: SheetCode
    sheets: list[SpanSheet] = field(default_factory=list)
    followers: int = 0


def plan(sides: Iterable[Side], *, whole_files: bool = False) -> list[Span]:
    """Group the sides of a batch into spans.

    Args:
        sides: in the order of the batch.
        whole_files: a ledger without forms: every file is one span, whatever codes its pages bear.
    """
    return _files(list(sides)) if whole_files else _cases(list(sides))


def _files(sides: Sequence[Side]) -> list[Span]:
    spans: list[list[SpanSheet]] = []
    for index, side in enumerate(sides):
        if index == 0 or side.file != sides[index - 1].file:
            spans.append([])
        spans[-1].append(SpanSheet(side, "blank" if side.survey.blank else "page"))
    return [Span("", "", "", tuple(sheets)) for sheets in spans]


def _cases(sides: Sequence[Side]) -> list[Span]:
    spans: list[Span] = []
    current: _Open | None = None

    def close() -> None:
        nonlocal current
        if current is not None:
            spans.append(_closed(current))
        current = None

    for index, side in enumerate(sides):
        if index and side.file != sides[index - 1].file and not (side.alone and sides[index - 1].alone):
            close()
        code, damaged = _code(side.survey)
        if damaged:
            close()
            spans.append(Span("", "", "", (SpanSheet(side, "page", damaged),)))
        elif code is not None and code.kind != "sheet":
            close()
            current = _Open(code, [SpanSheet(side, code.kind)])
        elif code is not None and (
            current is None or code.case != current.code.case or code.ledger != current.code.ledger
        ):
            if current is not None and current.code.kind == "cover" and current.followers < current.code.total:
                # The cover still expects sheets of its own case: this label says another. Neither is believed unseen.
                close()
                spans.append(Span(code.ledger, code.form, code.case, (SpanSheet(side, "form", "case_mismatch"),)))
                continue
            close()
            if code.total > 1:
                current = _Open(code, [SpanSheet(side, "form")], 1)
            else:
                spans.append(Span(code.ledger, code.form, code.case, (SpanSheet(side, "form"),)))
        elif current is None:
            kind, reason = ("blank", "blank") if side.survey.blank else ("form", "")
            spans.append(Span("", "", "", (SpanSheet(side, kind, reason),)))
        else:
            first = current.followers == 0 and not side.survey.blank
            current.sheets.append(SpanSheet(side, "blank" if side.survey.blank else "form" if first else "page"))
            current.followers += 1
            if current.code.kind in ("cover", "sheet") and current.followers == current.code.total:
                close()
    close()
    return spans


def _closed(span: _Open) -> Span:
    code, sheets = span.code, span.sheets
    if code.kind in ("cover", "sheet") and span.followers != code.total:
        sheets = [replace(sheet, reason=sheet.reason or "count_mismatch") for sheet in sheets]
    elif span.followers == 0:
        sheets = [replace(sheet, reason="no_sheet") for sheet in sheets]
    elif code.kind == "separator" and sum(sheet.kind != "blank" for sheet in sheets[1:]) > 1:
        # No count was told and no label stands on the sheets: a separator that went missing would look the same.
        sheets = [replace(sheet, reason="uncounted") for sheet in sheets]
    return Span(code.ledger, code.form, code.case, tuple(sheets))


def _code(survey: PageSurvey) -> tuple[SheetCode | None, str]:
    """The page's own sheet code, or why its codes cannot be believed."""
    found: set[SheetCode] = set()
    for code in survey.codes:
        try:
            parsed = parse(code.text)
        except BadInput:
            return None, "code_damaged"
        if parsed is not None:
            found.add(parsed)
    return (None, "codes_differ") if len(found) > 1 else (next(iter(found), None), "")


@dataclass(frozen=True)
class WholePage:
    """A page as it was scanned, of which people see a masked one: where it stands, under the keys of which items, and the SHA-256 (hex)
    of its bytes.
    """

    path: str
    media_type: str
    digest: str
    under: tuple[str, ...]


@dataclass(frozen=True)
class CapturedPage:
    """A page side in a span: the sheet it is, what it is, and where its encrypted image stands in the object.

    `digest`: SHA-256 (hex) of the image's bytes. `reason`: why a person must look at it, or "". `under`: items under whose keys it lies, since
    nobody knows where on it they stand; none for the record's key. `whole`: this page is masked, and that one is not.
    """

    sheet: int
    path: str
    media_type: str
    digest: str
    width: int
    height: int
    dpi: float
    kind: str
    blank: bool
    reason: str = ""
    under: tuple[str, ...] = ()
    whole: WholePage | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """Where its images stand in the object."""
        return (self.path,) if self.whole is None else (self.path, self.whole.path)


@dataclass(frozen=True)
class Captured:
    """A span that has been read. `files`: logical path -> encrypted page; `derived`: its encrypted archive of derivatives.

    `matrix`, `dpi`, `method`, `rotation` as in `ingest.form.SheetReading`, of the page at `form_page` (index into `pages`).
    """

    record: str
    form: str
    case: str
    pages: tuple[CapturedPage, ...]
    items: tuple[ItemReading, ...]
    files: Mapping[str, bytes]
    derived: bytes
    matrix: tuple[float, ...] = ()
    dpi: float = 0.0
    method: str = ""
    rotation: int = 0
    form_page: int = 0
