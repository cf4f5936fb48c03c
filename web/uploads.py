"""Files that a browser sends: kept in scratch without a name while the request lasts, so that none stays behind whatever happens.

Known gap: Django leaves characters out of their names that it cannot print, and with them gaiji of the private use area. By command they are kept.
"""

from __future__ import annotations

import tempfile
from typing import IO, Any

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler

from storage.durable import writing
from web import serve


class Spool(FileUploadHandler):
    """Takes one file of a form after the other."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        scratch = serve.settings().scratch
        with writing():
            scratch.mkdir(parents=True, exist_ok=True)
            self.spool: IO[bytes] = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        with writing():
            self.spool.write(raw_data)

    def file_complete(self, file_size: int) -> UploadedFile:
        with writing():
            self.spool.seek(0)
        return UploadedFile(self.spool, self.file_name, self.content_type, file_size, self.charset)
