"""Whole pages: three real ones, reading order, and ALTO."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import cv2
import pytest
from lxml import etree

from ingest import alto, readers, wholepage
from ingest.wholepage import PageText, TextLine

DATA = Path(__file__).parents[3] / "shared" / "data"
# ALTO imports xlink from the network; this is all it takes of it.
XLINK = """<xsd:schema xmlns:xsd="http://www.w3.org/2001/XMLSchema" targetNamespace="http://www.w3.org/1999/xlink">
<xsd:attributeGroup name="simpleLink"/></xsd:schema>"""


class _Local(etree.Resolver):
    def resolve(self, url, public_id, context):
        return self.resolve_string(XLINK, context) if url.endswith("xlink.xsd") else None


@pytest.fixture(scope="module")
def schema():
    parser = etree.XMLParser(no_network=True)
    parser.resolvers.add(_Local())
    return etree.XMLSchema(etree.parse(DATA / "schemas" / "alto-4-4.xsd", parser))


@pytest.fixture(scope="module")
def paddle():
    return readers.PaddleReader()


def plain(text):
    return "".join(unicodedata.normalize("NFKC", text).split())


def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        fresh = [i]
        for j, y in enumerate(b, 1):
            fresh.append(min(row[j] + 1, fresh[-1] + 1, row[j - 1] + (x != y)))
        row = fresh
    return row[-1]


@pytest.mark.parametrize(
    "name, vertical, bound",
    [
        # Measured 0.18 (writing inside a photograph counts as disagreement), 0.11 and 0.13 against the library's own
        # reading.
        ("digidepo_11048278_po_geppo1803_00021.jpg", True, 0.21),
        ("digidepo_2531162_0024.jpg", False, 0.14),
        ("yokogaki2026-04-24-103617.png", False, 0.19),
    ],
)
def test_real_pages(name, vertical, bound, paddle, schema):
    page = cv2.imread(str(DATA / "real-pages" / name))
    found = wholepage.read_page(page, paddle)
    reference = etree.parse((DATA / "real-pages" / name).with_suffix(".xml"))
    text = plain("".join(row.get("STRING") for row in reference.iter("LINE")))
    assert distance(plain("".join(line.text for line in found.lines)), text) / len(text) < bound
    assert (sum(line.vertical for line in found.lines) > len(found.lines) / 2) == vertical
    written = wholepage.alto(found, page.shape[1], page.shape[0], 150.0)
    schema.assertValid(etree.fromstring(written))
    assert alto.text_of(written) == "\n".join(line.text for line in found.lines)


def test_alto_keeps_any_text_and_an_empty_page(schema):
    lines = (TextLine('<&"山﨑', (1, 2, 3, 4), 0.5, True), TextLine("二行目", (5, 6, 7, 8), 1.0, False))
    written = wholepage.alto(PageText(lines), 100, 200, 300.0)
    schema.assertValid(etree.fromstring(written))
    assert alto.text_of(written) == '<&"山﨑\n二行目'
    empty = wholepage.alto(PageText(()), 100, 200, 300.0)
    schema.assertValid(etree.fromstring(empty))
    assert alto.text_of(empty) == ""


def test_reading_order():
    columns = [(10, 10 + 30 * n, 400, 20) for n in range(3)] + [(500, 12 + 30 * n, 400, 20) for n in range(3)]
    assert wholepage._ordered(columns[::-1], False) == [5, 4, 3, 2, 1, 0]
    titled = [(200, 10, 500, 30), *[(x, y + 60, w, h) for x, y, w, h in columns]]
    assert wholepage._ordered(titled, False) == list(range(7))
    vertical = [(700 - 30 * n, 10, 20, 300) for n in range(3)] + [(700 - 30 * n, 400, 20, 300) for n in range(3)]
    assert wholepage._ordered(vertical, True) == list(range(6))
