"""The child that decodes scans: `python -m ingest.decoder CONTROL OUT MEMORY SECONDS MODE`, started by
`ingest/pages.py` alone.

It is given descriptors, never names: CONTROL is a socket that brings requests (length, JSON, perhaps a descriptor or
raw bytes) and takes answers, OUT is shared memory for originals and pixels. It gives up network, other programs and the
file system before the first request. What is a page, and which bytes are its original, is decided here; whether to
believe the answer is decided by the parent.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before anything that could start a thread, so that the filter binds them all
    from ingest import confine

    confine.end_with_parent()
    confine.confined(memory=int(sys.argv[3]), file_size=confine.FILE_SIZE, programs=sys.argv[5] == "programs")

import io
import json
import os
import socket
import struct
from typing import Any, NoReturn, Protocol

from core.errors import BadFile
from ingest import tiff
from ingest.images import KIND, MAX_ORIGINAL, MAX_PAGES, MEDIA, RENDER_DPI, bad, decoded, kind_of
from ingest.port import Pixels, ScannedPage


class _Document(Protocol):
    count: int

    def page(self, index: int) -> ScannedPage: ...


class _ImageFile:
    """A file that is one image."""

    count = 1

    def __init__(self, data: bytes, kind: str) -> None:
        self.data, self.kind = data, kind

    def page(self, index: int) -> ScannedPage:
        pixels, dpi = decoded(self.data, self.kind)
        return ScannedPage(self.data, MEDIA[self.kind], pixels, dpi)


class _TiffFile:
    """A TIFF of any number of pages."""

    def __init__(self, read: tiff.Reader, size: int) -> None:
        self.read, self.size = read, size
        self.pages = tiff.directories(read, size, most=MAX_PAGES)
        self.count = len(self.pages)
        self.alone = len(self.pages) == 1
        if not self.pages:
            raise bad("file.empty")

    def page(self, index: int) -> ScannedPage:
        if self.alone:
            data = _whole(self.read, self.size)
        else:
            data = tiff.cut(self.read, self.size, self.pages[index], most=MAX_ORIGINAL)
        pixels, dpi = decoded(data, "TIFF")
        return ScannedPage(data, "image/tiff", pixels, dpi)


def _whole(read: tiff.Reader, size: int) -> bytes:
    if size > MAX_ORIGINAL:
        raise bad("file.too_large")
    data = read(0, size)
    if len(data) != size:
        raise bad("file.broken")
    return data


def _opened(descriptor: int) -> _Document:
    """The document behind a descriptor, by its content."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        raise bad("file.empty")

    def read(offset: int, length: int) -> bytes:
        return os.pread(descriptor, length, offset) if 0 <= offset < size else b""

    kind = kind_of(read(0, 1024))
    if kind == "PDF":
        from ingest.pdf import PdfFile  # 0.1 s and 40 MB that a site with TIFFs alone does not pay

        return PdfFile(os.fdopen(os.dup(descriptor), "rb"))
    if kind == "TIFF":
        return _TiffFile(read, size)
    return _ImageFile(_whole(read, size), kind)


def _decoded_original(original: bytes, media_type: str) -> ScannedPage:
    """The page whose original was kept."""
    kind = KIND.get(media_type)
    if kind is None or not original or kind_of(original[:1024]) != kind:
        raise bad("file.type")
    if kind == "PDF":
        from ingest.pdf import PdfFile

        page = PdfFile(io.BytesIO(original)).page(0)
        return ScannedPage(original, media_type, page.pixels, page.dpi)
    pixels, dpi = decoded(original, kind)
    return ScannedPage(original, media_type, pixels, dpi)


def _drawn_by_poppler(original: bytes) -> ScannedPage:
    """The first page as poppler draws it: another program, so this runs in a child of its own that may start
    programs."""
    import cv2
    import numpy as np
    import pdf2image

    # pdf2image wants a name or writes a temporary file: the standard input, which pdftoppm inherits, has a name.
    held = os.memfd_create("page", 0)
    os.write(held, original)
    os.dup2(held, 0)
    os.close(held)
    image = pdf2image.convert_from_path("/dev/stdin", dpi=int(RENDER_DPI), first_page=1, last_page=1, timeout=60)[0]
    pixels: Pixels = cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)
    return ScannedPage(original, "application/pdf", pixels, RENDER_DPI)


class _Child:
    """The loop of requests. One document stays open, since pages are asked for one after another."""

    def __init__(self, control: socket.socket, out: int, seconds: int) -> None:
        self.control, self.out, self.seconds = control, out, seconds
        self.document: _Document | None = None
        self.descriptor = -1

    def _receive(self, length: int) -> bytes:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            got = self.control.recv_into(view)
            if got == 0:
                sys.exit(0)  # the parent closed its end
            view = view[got:]
        return bytes(data)

    def request(self) -> tuple[dict[str, Any], bytes]:
        head, descriptors, _, _ = socket.recv_fds(self.control, 4, 1)
        if not head:
            sys.exit(0)
        head += self._receive(4 - len(head))
        asked = json.loads(self._receive(struct.unpack(">I", head)[0]))
        if descriptors:
            if self.descriptor >= 0:
                os.close(self.descriptor)
            self.document, self.descriptor = None, descriptors[0]
        return asked, self._receive(asked.get("bytes", 0))

    def answer(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        data = struct.pack(">I", len(body)) + body
        while data:
            data = data[os.write(self.control.fileno(), data) :]

    def _given(self, page: ScannedPage) -> dict[str, Any]:
        """Lay original and pixels into the shared memory."""
        os.ftruncate(self.out, 0)
        at = 0
        for part in (memoryview(page.original), memoryview(page.pixels.data).cast("B")):
            while part:
                wrote = os.pwrite(self.out, part, at)
                at, part = at + wrote, part[wrote:]
        return {
            "original": len(page.original),
            "media_type": page.media_type,
            "shape": page.pixels.shape,
            "dpi": page.dpi,
        }

    def done(self, asked: dict[str, Any], raw: bytes) -> dict[str, Any]:
        what = asked["do"]
        if what == "start":
            return {}
        if what == "decode":
            return self._given(_decoded_original(raw, asked["media_type"]))
        if what == "poppler":
            return self._given(_drawn_by_poppler(raw))
        if self.document is None:
            self.document = _opened(self.descriptor)
        if what == "count":
            return {"count": self.document.count}
        if not 0 <= asked["index"] < self.document.count:
            return {"error": "page"}
        return self._given(self.document.page(asked["index"]))

    def run(self) -> NoReturn:
        while True:
            asked, raw = self.request()
            confine.limit_cpu(self.seconds)
            try:
                answer = self.done(asked, raw)
            except BadFile as error:
                answer = {"error": error.code}
            except MemoryError:
                answer = {"error": "file.too_large"}
            except RecursionError:
                answer = {"error": "file.broken"}
            except Exception as error:
                # What libraries raise on broken input is not a fixed set; a page that pdfium refused may be drawn by
                # another program.
                original = getattr(error, "original", None)
                if isinstance(original, bytes) and len(original) <= MAX_ORIGINAL:
                    os.ftruncate(self.out, 0)
                    os.pwrite(self.out, original, 0)
                    answer = {"error": "unrendered", "original": len(original)}
                else:
                    answer = {"error": "file.broken", "kind": type(error).__name__}
            self.answer(answer)


if __name__ == "__main__":
    # recvmsg on the inherited socket is all of the network that is left.
    _Child(
        socket.socket(fileno=int(sys.argv[1])),
        int(sys.argv[2]),
        int(sys.argv[4]),
    ).run()
