"""Reading ALTO 4.4, as `ingest.wholepage` writes it. Light, so that what only looks for words need not load what reads pages."""

from __future__ import annotations

from lxml import etree

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"


def text_of(alto_bytes: bytes) -> str:
    """The text of an ALTO file, one line of writing a line."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    root = etree.fromstring(alto_bytes, parser)
    rows = root.iter(f"{{{NAMESPACE}}}TextLine")
    return "\n".join("".join(each.get("CONTENT", "") for each in row.iter(f"{{{NAMESPACE}}}String")) for row in rows)
