"""Archives of derivatives: plain ZIP files, to be encrypted. Needs no catalogue, so that workers can write them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from core.errors import DigestMismatch


def pack(files: Mapping[str, bytes]) -> bytes:
    """Derivatives as one plain archive, to be encrypted: stored, not compressed, with fixed times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name), files[name])
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """Name -> bytes; `DigestMismatch` (`derived.damaged`) for what is no such archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise DigestMismatch(
            "画像の控えが壊れています。元の紙の画像から作り直されます。",
            "An archive of derivatives is damaged; it is made again from the originals.",
            code="derived.damaged",
        ) from error
