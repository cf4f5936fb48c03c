"""Which sheets belong to one case: codes and counts, and that no side is ever lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.form import Code, PageSurvey
from ingest.sheetcode import Kind, SheetCode, encode, parse
from records.spans import Side, Span, plan

LEDGER, FORM = "clients", "form-a"


def text(kind: Kind, case: str = "c-1", total: int = 1, ledger: str = LEDGER, sequence: int = 1) -> str:
    return encode(SheetCode(kind, ledger, FORM, case, 0 if kind == "cover" else sequence, total))


def sides(*pages: str | tuple[str, ...], file: str = "a.pdf", alone: bool = False) -> list[Side]:
    """Pages of one file, each told by its codes: "" none, "blank" an empty page."""
    made = []
    for index, page in enumerate(pages):
        codes = () if page in ("", "blank") else (page,) if isinstance(page, str) else page
        found = tuple(Code("QRCode", code, (0, 0, 1, 1)) for code in codes)
        survey = PageSurvey(index, "image/jpeg", f"{file}{index}", 10, 10, 200.0, found, page == "blank")
        made.append(Side(file, survey, alone))
    return made


def shape(spans: list[Span]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(case, [(kind, reason) of each sheet])."""
    return [(span.case, [(sheet.kind, sheet.reason) for sheet in span.sheets]) for span in spans]


def test_sheets_without_codes_are_cases_of_their_own() -> None:
    assert shape(plan(sides("", ""))) == [("", [("form", "")]), ("", [("form", "")])]


def test_a_blank_page_between_cases_is_seen_by_a_person() -> None:
    assert shape(plan(sides("", "blank"))) == [("", [("form", "")]), ("", [("blank", "blank")])]


def test_a_cover_takes_as_many_sheets_as_it_says() -> None:
    [case, after] = plan(sides(text("cover", total=2), "", "", ""))
    assert shape([case]) == [("c-1", [("cover", ""), ("form", ""), ("page", "")])]
    assert (case.ledger, case.form) == (LEDGER, FORM)
    assert (after.ledger, after.case) == ("", "")


def test_a_cover_whose_sheets_are_missing_waits_whole() -> None:
    wrong = "count_mismatch"
    assert shape(plan(sides(text("cover", total=3), "", ""))) == [
        ("c-1", [("cover", wrong), ("form", wrong), ("page", wrong)])
    ]
    assert shape(plan(sides(text("cover", total=1)))) == [("c-1", [("cover", wrong)])]


def test_a_cover_and_the_label_of_its_own_case_are_one_case() -> None:
    spans = plan(sides(text("cover", total=2), text("sheet", total=2), text("sheet", total=2, sequence=2)))
    assert shape(spans) == [("c-1", [("cover", ""), ("form", ""), ("page", "")])]


def test_another_case_under_a_cover_is_believed_on_neither_side() -> None:
    spans = plan(sides(text("cover", total=2), "", text("sheet", "c-2"), ""))
    assert shape(spans) == [
        ("c-1", [("cover", "count_mismatch"), ("form", "count_mismatch")]),
        ("c-2", [("form", "case_mismatch")]),
        ("", [("form", "")]),
    ]


def test_the_same_case_of_another_ledger_is_another_case() -> None:
    spans = plan(sides(text("cover", total=1), text("sheet", ledger="other")))
    assert [(span.ledger, span.sheets[0].reason) for span in spans] == [
        (LEDGER, "count_mismatch"),
        ("other", "case_mismatch"),
    ]


def test_a_separator_lasts_until_the_next_code() -> None:
    spans = plan(sides(text("separator", total=0), "", text("separator", "c-2", 0), "", "blank"))
    assert shape(spans) == [
        ("c-1", [("separator", ""), ("form", "")]),
        ("c-2", [("separator", ""), ("form", ""), ("blank", "")]),
    ]


def test_uncounted_sheets_behind_a_separator_wait() -> None:
    """A separator that went missing would look the same: two cases as one."""
    [(_, sheets)] = shape(plan(sides(text("separator", total=0), "", "")))
    assert {reason for _, reason in sheets} == {"uncounted"}


def test_a_separator_with_nothing_behind_it_waits() -> None:
    spans = plan(sides(text("separator", total=0), text("separator", "c-2", 0), ""))
    assert shape(spans)[0] == ("c-1", [("separator", "no_sheet")])


def test_a_label_that_counts_opens_a_case() -> None:
    assert shape(plan(sides(text("sheet", total=2), "", ""))) == [
        ("c-1", [("form", ""), ("page", "")]),
        ("", [("form", "")]),
    ]
    assert shape(plan(sides(text("sheet", total=2)))) == [("c-1", [("form", "count_mismatch")])]


def test_a_damaged_code_ends_the_case_and_waits() -> None:
    broken = text("sheet", "c-2")[:-1] + ("A" if text("sheet", "c-2")[-1] != "A" else "B")
    spans = plan(sides(text("separator", total=0), "", broken, ""))
    assert shape(spans) == [
        ("c-1", [("separator", ""), ("form", "")]),
        ("", [("page", "code_damaged")]),
        ("", [("form", "")]),
    ]


def test_two_codes_that_differ_are_not_believed() -> None:
    assert shape(plan(sides((text("sheet"), text("sheet", "c-2"))))) == [("", [("page", "codes_differ")])]
    assert shape(plan(sides((text("sheet"), text("sheet"))))) == [("c-1", [("form", "")])]


def test_codes_of_others_mean_nothing() -> None:
    assert shape(plan(sides("https://example.jp/", ("4901234567894",)))) == [
        ("", [("form", "")]),
        ("", [("form", "")]),
    ]


def test_a_case_ends_with_its_file() -> None:
    pages = [*sides(text("cover", total=2), "", file="a.pdf"), *sides("", "", file="b.pdf")]
    assert shape(plan(pages)) == [
        ("c-1", [("cover", "count_mismatch"), ("form", "count_mismatch")]),
        ("", [("form", "")]),
        ("", [("form", "")]),
    ]


def test_a_case_goes_on_over_files_of_one_page() -> None:
    pages = [*sides(text("cover", total=2), file="1.jpg", alone=True)]
    pages += [*sides("", file="2.jpg", alone=True), *sides("", file="3.jpg", alone=True)]
    assert shape(plan(pages)) == [("c-1", [("cover", ""), ("form", ""), ("page", "")])]
    mixed = [*sides(text("cover", total=1), file="1.jpg", alone=True), *sides("", "", file="b.pdf")]
    assert shape(plan(mixed))[0] == ("c-1", [("cover", "count_mismatch")])


def test_whole_files_are_cases_whatever_their_codes_say() -> None:
    pages = [*sides(text("cover", total=9), "blank", "broken", file="a.pdf"), *sides("", file="b.jpg", alone=True)]
    assert shape(plan(pages, whole_files=True)) == [
        ("", [("page", ""), ("blank", ""), ("page", "")]),
        ("", [("page", "")]),
    ]


page = st.one_of(
    st.sampled_from(["", "", "", "blank", "DC1:damaged"]),
    st.builds(
        text,
        st.sampled_from(["cover", "separator", "sheet"]),
        st.sampled_from(["c-1", "c-2"]),
        st.integers(0, 3),
        st.sampled_from([LEDGER, "other"]),
    ),
    st.tuples(st.just(text("sheet")), st.just(text("sheet", "c-2"))),
)
files = st.lists(st.lists(page, min_size=1, max_size=4), max_size=5)


@given(files, st.booleans())
def test_every_side_is_in_exactly_one_span_in_order(pages: list[list[str]], whole: bool) -> None:
    stream = [side for n, file in enumerate(pages) for side in sides(*file, file=f"{n}", alone=len(file) == 1)]
    spans = plan(stream, whole_files=whole)
    assert [sheet.side for span in spans for sheet in span.sheets] == stream
    assert all(span.sheets for span in spans)


@given(files)
def test_what_is_not_in_doubt_has_one_case_only(pages: list[list[str]]) -> None:
    """A span that may be sealed unseen bears no code of another case, and holds as many sheets as its cover says."""
    stream = [side for n, file in enumerate(pages) for side in sides(*file, file=f"{n}", alone=len(file) == 1)]
    for span in plan(stream):
        if any(sheet.reason for sheet in span.sheets):
            continue
        told = [parse(code.text) for sheet in span.sheets for code in sheet.side.survey.codes]
        assert {(code.ledger, code.case) for code in told if code} <= {(span.ledger, span.case)}
        counted = [code.total for code in told if code and code.kind == "cover"]
        assert not counted or len(span.sheets) == counted[0] + 1
