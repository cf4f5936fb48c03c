"""What a form is: the paper's size, its marks, and the zones in which items are written. `records/` versions these values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ItemType = Literal["text", "kana", "name", "address", "date", "number", "phone", "choice", "yes_no"]


@dataclass(frozen=True)
class Zone:
    """Where one item is written. Millimetres from the top left corner of the upright form; `choices` for type choice."""

    item: str
    type: ItemType
    x: float
    y: float
    width: float
    height: float
    choices: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True)
class Form:
    """A printed form (様式).

    `marks`: centres, in mm, of the four printed corner marks (solid squares of 5 mm: top left, top right, bottom right, bottom left),
    or empty. `accept`: an item whose confidence is at or above this is accepted without a person.
    """

    id: str
    width: float
    height: float
    zones: tuple[Zone, ...]
    marks: tuple[tuple[float, float], ...] = ()
    accept: float = 0.98


@dataclass(frozen=True)
class Code:
    """A bar code or 2D code. `format` is zxing-cpp's name (QRCode, MicroQRCode, DataMatrix, Code128 …).

    `box`: x, y, width, height in pixels of the page as decoded.
    """

    format: str
    text: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class PageSurvey:
    """What the first look at one page finds. `index` counts from 0; `digest` is the SHA-256 (hex) of the page as scanned."""

    index: int
    media_type: str
    digest: str
    width: int
    height: int
    dpi: float
    codes: tuple[Code, ...]
    blank: bool


@dataclass(frozen=True)
class ItemReading:
    """One item as read. `raw` is what the reader saw, `value` the normalised value ("" when nothing was written).

    `confidence` is 0..1 and is what `Form.accept` is compared with (rules may lower it, nothing raises it above the reader's).
    `reason` is a stable word when a person should look: `low_confidence`, `not_a_date`, `not_a_choice`, `readers_disagree`, `ambiguous`,
    `missing`, `torn`, or "" . `box`: x, y, width, height in pixels of the upright page at `SheetReading.dpi`.
    """

    item: str
    raw: str
    value: str
    confidence: float
    reader: str
    box: tuple[int, int, int, int]
    second: str = ""
    reason: str = ""


@dataclass(frozen=True)
class SheetReading:
    """A form sheet as read. `matrix` (row-major 3x3) maps page pixels as decoded to upright-form pixels at `dpi`.

    `method`: `marks`, `akaze`; `rotation`: 0, 90, 180 or 270 degrees clockwise that made the page upright.
    """

    form: str
    items: tuple[ItemReading, ...]
    matrix: tuple[float, ...]
    dpi: float
    method: str
    rotation: int
