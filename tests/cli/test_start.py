"""What a command loads: whoever asks for a record need not wait for what reads pages."""

from __future__ import annotations

import re
import sys

import pytest

from tests.installed import DAICHO, Installation, run


@pytest.mark.parametrize(
    "command",
    [("info",), ("verify",), ("search", "みどり"), ("batch", "list"), ("reindex",), ("audit", "checkpoint")],
    ids=" ".join,
)
def test_nothing_that_reads_pages_is_loaded(small: Installation, command: tuple[str, ...]) -> None:
    told = run(*command, data=small.data, program=(sys.executable, "-X", "importtime", str(DAICHO)))
    assert told.code == 0
    loaded = set(re.findall(r"\| +(\S+)$", told.err, re.MULTILINE))
    assert "records.queries" in loaded and not loaded & {"numpy", "cv2", "onnxruntime", "rapidocr", "PIL"}
