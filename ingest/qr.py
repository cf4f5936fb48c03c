"""Drawing QR codes. What their text says is not decided here (`sheetcode` knows ours), nor where they are printed."""

from __future__ import annotations

import numpy as np
import zxingcpp

from ingest.port import Pixels


def qr_pixels(text: str, module: int = 6) -> Pixels:
    """A QR code of `text` (error correction M, quiet zone of four modules), `module` pixels a module, grey (height,
    width)."""
    symbol = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode, ec_level="M")
    return np.array(symbol.to_image(scale=module), dtype=np.uint8)
