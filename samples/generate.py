"""Makes the committed samples: the blank forms of the templates, and one batch of scans with the truth about it.

    python -m samples.generate --out samples/batch     the batch
    python -m samples.generate --forms                 the PNGs of the blank forms

The same seed gives the same sheets. What a sheet looks like is in `paper`, what stands on it in `people`; this module
says which sheets there are, in which files, with which faults.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pikepdf
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from ingest.sheetcode import Kind, SheetCode, encode
from samples.paper import (
    BENCH_FONTS,
    BLANK_DPI,
    GOTHIC,
    KLEE,
    MINCHO,
    SAMPLE_FONTS,
    Face,
    FontMissing,
    Picture,
    Style,
    bilevel,
    degrade,
    draw_blank,
    draw_code_page,
    draw_empty,
    draw_letter,
    draw_sheet,
)
from samples.people import Values, invent_values
from samples.template import TEMPLATES, Template, read_template, read_templates

__all__ = [
    "BENCH_FONTS",
    "SAMPLE_FONTS",
    "Face",
    "FontMissing",
    "Style",
    "bilevel",
    "degrade",
    "draw_blank",
    "draw_sheet",
    "invent_values",
    "make_batch",
    "make_sheet",
    "read_template",
    "read_templates",
    "write_forms",
]

DPI = 200
QUALITY = 62
SEED = 20240401
PDF_NAME = "01-care-clients.pdf"
TIFF_NAME = "02-vacant-houses.tif"


@dataclass(frozen=True)
class Plan:
    """One sheet to be made.

    `kind`: `form`, `cover`, `separator`, `attachment`, `blank`, `unknown` (a form no ledger has).
    `on`: ledger and form. `case`: what its own code or the code before it names, "" when it stands alone. `code`: kind
    of its own code, None for none. `known`: values set by hand over the invented ones. `coding`: how the TIFF keeps it,
    `g4`, `jpeg` or `deflate`.
    """

    kind: str
    on: tuple[str, str] = ("", "")
    case: str = ""
    code: Kind | None = None
    sequence: int = 0
    total: int = 0
    face: Face = MINCHO
    dates: str = "kanji"
    ink: tuple[int, int, int] = (45, 35, 30)
    seals: tuple[str, ...] = ()
    received: bool = False
    faults: tuple[str, ...] = ("scan",)
    known: Values = field(default_factory=dict)
    coding: str = "jpeg"
    title: str = ""
    rows: tuple[tuple[str, str], ...] = ()


BLUE = (120, 50, 25)
CARE = ("care-clients", "care-basic")
VACANT = ("vacant-houses", "vacant-house")
DV = ("dv-support", "dv-support")
STRANGE = ("outdoor-boards", "board")
"""A ledger and form that no municipality here has."""
YOSHIDA = {"name": "𠮷田 千代子", "name_kana": "ヨシダ チヨコ", "sex": "女"}
TAKAHASHI = {"name": "髙橋 美咲", "name_kana": "タカハシ ミサキ", "sex": "女"}
YAMAZAKI = {"name": "山﨑 清", "name_kana": "ヤマザキ キヨシ", "sex": "男"}
PROGRESS = (
    ("R5.4.12", "自宅を訪問。手すりの設置を相談"),
    ("R5.5.9", "住宅改修の見積もりを確認"),
    ("R5.6.20", "改修が完了。歩行は安定"),
    ("R5.9.1", "デイサービスの見学に同行"),
)
DOG = (
    ("種類", "柴犬"),
    ("名", "コタロウ"),
    ("毛色", "茶"),
    ("飼い主", "前田 隆"),
    ("住所", "みどり野市緑台3-12-5"),
)
BOARD = (
    ("広告物", "壁面看板 1面"),
    ("場所", "みどり野市本町1-4-2"),
    ("期間", "令和6年4月から1年"),
)
CLOSED = {"opened_on": "2017-05-10", "closed_on": "2020-02-14"}

LONG_NOTE = {"note": "週2回デイサービスを利用 長女が毎日訪問 服薬の確認が必要"}
RESOLVED = {"house_number": "20160214", "found_on": "2016-06-03", "closed_on": "2019-11-20"}
VISIT = (("R6.5.8", "門は施錠。郵便物がたまっている"), ("R6.5.22", "隣家から聞き取り"))
FOREIGN = {"other_name": "アンナ・サトウ"}

PDF_PLAN = (
    Plan("form", CARE, face=MINCHO, received=True, known=CLOSED),
    Plan("form", CARE, face=GOTHIC, faults=("skew", "scan")),
    Plan("form", CARE, face=KLEE, ink=BLUE, seals=("name",)),
    Plan("form", CARE, face=MINCHO, faults=("scan", "upside_down")),
    Plan("cover", CARE, "K-2023-0417", "cover", total=2),
    Plan("form", CARE, "K-2023-0417", face=KLEE, received=True, faults=("shift", "scan")),
    Plan("attachment", CARE, "K-2023-0417", face=KLEE, title="支援経過記録", rows=PROGRESS),
    Plan("form", CARE, face=GOTHIC, dates="dots", faults=("shift", "noise")),
    Plan("blank"),
    Plan("form", CARE, face=MINCHO, seals=("name",), known=YAMAZAKI, faults=("skew", "scan")),
    Plan("form", CARE, face=GOTHIC, known=LONG_NOTE, faults=("torn", "scan")),
    Plan("unknown", face=KLEE, title="犬の登録申請書", rows=DOG),
    Plan("unknown", STRANGE, "B-7", "sheet", 1, 1, title="屋外広告物 許可申請書", rows=BOARD),
    Plan("form", CARE, "K-2024-0088", "sheet", 1, 1, face=KLEE, faults=("skew", "scan")),
    Plan("form", CARE, face=MINCHO, known=YOSHIDA, received=True, faults=("shift", "scan")),
)
TIFF_PLAN = (
    Plan("form", VACANT, face=GOTHIC, coding="g4"),
    Plan("form", VACANT, face=MINCHO, faults=("skew", "scan"), coding="g4"),
    Plan("form", VACANT, face=KLEE, coding="jpeg"),
    Plan("form", VACANT, face=GOTHIC, dates="slash", faults=("shift", "noise"), coding="jpeg"),
    Plan("form", VACANT, face=MINCHO, known=RESOLVED, faults=("skew", "shift", "scan"), coding="g4"),
    Plan("separator", VACANT, "A-2024-031", "separator", coding="g4"),
    Plan("form", VACANT, "A-2024-031", face=MINCHO, seals=("owner_name",), coding="g4"),
    Plan("attachment", VACANT, "A-2024-031", face=KLEE, title="現地調査メモ", rows=VISIT, coding="deflate"),
    Plan("separator", VACANT, "A-2024-032", "separator", coding="g4"),
    Plan("form", VACANT, "A-2024-032", face=KLEE, faults=("skew", "scan"), coding="deflate"),
)
LOOSE_PLAN = (
    Plan("form", DV, face=MINCHO, seals=("name",), received=True),
    Plan("form", DV, face=KLEE, ink=BLUE, faults=("skew", "scan")),
    Plan("form", DV, face=GOTHIC, faults=("faint", "scan")),
    Plan("form", DV, face=KLEE, known=TAKAHASHI, seals=("name",), faults=("shift", "scan", "jpeg")),
    Plan("form", DV, "S-2024-005", "sheet", 1, 1, face=MINCHO, known=FOREIGN, faults=("fold", "scan")),
    Plan("form", CARE, face=MINCHO, seals=("name", "contact"), faults=("stain", "scan")),
    Plan("form", CARE, face=KLEE, ink=BLUE, faults=("blur", "scan")),
    Plan("form", VACANT, "A-2024-040", "sheet", 1, 1, face=KLEE, received=True, seals=("owner_name",)),
)


@dataclass(frozen=True)
class Truth:
    """What is known about one page of the batch; `values` as written, dates in ISO 8601."""

    file: str
    page: int
    kind: str
    ledger: str
    form: str
    case: str
    code: str
    values: Values
    defects: tuple[str, ...]


def make_sheet(plan: Plan, templates: dict[str, Template], rng: np.random.Generator) -> tuple[Picture, Values, str]:
    """(picture, values, code text) of a planned sheet."""
    ledger, form = plan.on
    code = encode(SheetCode(plan.code, ledger, form, plan.case, plan.sequence, plan.total)) if plan.code else ""
    style = Style(plan.face, DPI, plan.dates, plan.ink, plan.seals, code, plan.received)
    values: Values = {}
    if plan.kind == "form":
        template = templates[ledger]
        values = {**invent_values(template, rng), **plan.known}
        picture = draw_sheet(template, values, rng, style, form)
    elif plan.kind in ("cover", "separator"):
        name = templates[ledger].name
        lines = [f"台帳 {name}", f"案件番号 {plan.case}"]
        if plan.kind == "cover":
            lines.append(f"このあとの枚数 {plan.total} 枚")
        picture = draw_code_page("案件の表紙" if plan.kind == "cover" else "仕切り紙", lines, code, DPI)
    elif plan.kind == "blank":
        picture = draw_empty(DPI)
    else:
        heads = ("年月日", "内容") if plan.kind == "attachment" else ("項目", "記入欄")
        picture = draw_letter(plan.title, heads, list(plan.rows), rng, style)
    for fault in plan.faults:
        picture = degrade(picture, rng, fault)
    return picture, values, code


def make_batch(out: Path, seed: int = SEED) -> list[Truth]:
    """Write the batch into `out` and return the truth, which is also in `truth.json` there.

    Raises:
        FontMissing: a font is not on this machine.
    """
    templates = read_templates()
    out.mkdir(parents=True, exist_ok=True)
    truths: list[Truth] = []

    def made(file: str, page: int, plan: Plan) -> Picture:
        # Each sheet has a seed of its own, so that a sheet added later changes no other.
        rng = np.random.default_rng([seed, zlib.crc32(f"{file}#{page}".encode())])
        picture, values, code = make_sheet(plan, templates, rng)
        defects = tuple(fault for fault in plan.faults if fault != "scan") + (("seal",) if plan.seals else ())
        truths.append(Truth(file, page, plan.kind, *plan.on, plan.case, code, values, defects))
        return picture

    write_pdf(out / PDF_NAME, [_jpeg(made(PDF_NAME, number, plan)) for number, plan in enumerate(PDF_PLAN)])
    _write_tiff(out / TIFF_NAME, [(made(TIFF_NAME, n, plan), plan.coding) for n, plan in enumerate(TIFF_PLAN)])
    for number, plan in enumerate(LOOSE_PLAN):
        name = f"{number + 3:02d}-{plan.on[0]}.jpg"
        (out / name).write_bytes(_jpeg(made(name, 0, plan)))
    text = json.dumps([asdict(truth) for truth in truths], ensure_ascii=False, indent=1)
    (out / "truth.json").write_text(text + "\n", encoding="utf-8")
    return truths


def write_forms(folder: Path = TEMPLATES) -> list[Path]:
    """Draw the blank form of every template anew; returns the PNGs written."""
    written = []
    for template in read_templates(folder).values():
        for paper in template.papers:
            path = folder / template.id / "forms" / f"{paper.id}.png"
            grey = Image.fromarray(cv2.cvtColor(draw_blank(template, paper), cv2.COLOR_BGR2GRAY))
            # Sixteen greys are enough for print, and a third of the bytes.
            grey.point([level // 16 * 17 for level in range(256)]).save(path, dpi=(BLANK_DPI, BLANK_DPI), optimize=True)
            written.append(path)
    return written


def _jpeg(picture: Picture, quality: int = QUALITY) -> bytes:
    kept = io.BytesIO()
    image = Image.fromarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    image.save(kept, "JPEG", quality=quality, dpi=(DPI, DPI), optimize=True)
    return kept.getvalue()


def write_pdf(path: Path, pages: list[bytes], dpi: int = DPI) -> None:
    """One colour JPEG a page, as scanners write PDFs."""
    with pikepdf.new() as pdf:
        for scan in pages:
            with Image.open(io.BytesIO(scan)) as image:
                width, height = image.size
            points = (width * 72 / dpi, height * 72 / dpi)
            embedded = pikepdf.Stream(
                pdf,
                scan,
                Type=pikepdf.Name.XObject,
                Subtype=pikepdf.Name.Image,
                Width=width,
                Height=height,
                ColorSpace=pikepdf.Name.DeviceRGB,
                BitsPerComponent=8,
                Filter=pikepdf.Name.DCTDecode,
            )
            page = pdf.add_blank_page(page_size=points)
            page.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(Scan=embedded))
            page.Contents = pdf.make_stream(f"q {points[0]:.2f} 0 0 {points[1]:.2f} 0 0 cm /Scan Do Q".encode())
        pdf.save(path, deterministic_id=True)


def _write_tiff(path: Path, pages: list[tuple[Picture, str]]) -> None:
    """Pages of different codings in one TIFF, as office scanners write them."""
    with TiffImagePlugin.AppendingTiffWriter(str(path), new=True) as writer:
        for picture, coding in pages:
            grey: NDArray[np.uint8] = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.uint8)
            if coding == "g4":
                Image.fromarray(bilevel(picture)).save(writer, "TIFF", compression="group4", dpi=(DPI, DPI))
            elif coding == "deflate":
                # Sixteen greys: noise in the last bits would not compress.
                levels = Image.fromarray((grey // 16 * 17).astype(np.uint8))
                levels.save(writer, "TIFF", compression="tiff_adobe_deflate", dpi=(DPI, DPI))
            else:
                image = Image.fromarray(grey)
                image.save(writer, "TIFF", compression="jpeg", quality=QUALITY, dpi=(DPI, DPI))
            writer.newFrame()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m samples.generate", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of the batch")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--forms", action="store_true", help="draw the blank forms of the templates anew")
    options = parser.parse_args(arguments)
    if not options.forms and options.out is None:
        parser.error("--out or --forms")
    try:
        if options.forms:
            for path in write_forms():
                print(path)
        if options.out is not None:
            for truth in make_batch(options.out, options.seed):
                print(truth.file, truth.page, truth.kind, ",".join(truth.defects))
    except FontMissing as missing:
        print(missing, file=sys.stderr)
        return 69
    return 0


if __name__ == "__main__":
    sys.exit(main())
