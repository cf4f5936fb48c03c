"""Where things lie in a store and what its fixed files hold: the same in every engine that keeps files under names.

Names within the store, with `/` between folders. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import hashlib
import json
import re

from core.errors import BadInput, NotReady
from storage.canonical import canonical
from storage.inventory import NAME, OBJECT_DECLARATION, ROOT_DECLARATION, SIDECAR, is_object_id

STORE_FORMAT = 1

LAYOUT = "0003-hash-and-id-n-tuple-storage-layout"
LAYOUT_WORDS = f"OCFL 1.1, {LAYOUT} (SHA-256, 2 x 2), SHA-512"
# 65,536 folders: 150 objects in each at ten million, and one new folder at most for an object in a small store.
_LAYOUT_CONFIG = {
    "digestAlgorithm": "sha256",
    "extensionName": LAYOUT,
    "numberOfTuples": 2,
    "tupleSize": 2,
}


def _pretty(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


# The files that make `objects/` an OCFL storage root, within the store.
ROOT_FILES = {
    f"objects/{ROOT_DECLARATION[0]}": ROOT_DECLARATION[1],
    "objects/ocfl_layout.json": _pretty(
        {"description": "Two pairs of the SHA-256 of the id, then the id itself.", "extension": LAYOUT}
    ),
    f"objects/extensions/{LAYOUT}/config.json": _pretty(_LAYOUT_CONFIG),
}
ROOT_PLACES = tuple(ROOT_FILES)
STORE_PLACE = "store.json"

SEGMENTS_A_FOLDER = 1000
DERIVATIVE = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")
_HOME = re.compile(r"objects/[0-9a-f]{2}/[0-9a-f]{2}/([a-z0-9%-]{1,300})/(.+)")
_SEGMENT = re.compile(r"journal/[0-9]{4,}/([0-9]{6,})\.json")
_DERIVED = re.compile(r"derived/[0-9a-f]{2}/[0-9a-f]{2}/([^/]+)")
_VERSION_FILE = re.compile(r"v([1-9][0-9]{0,8})/(.+)")


def object_place(object_id: str) -> str:
    """Folder of an object within the store."""
    digest = hashlib.sha256(object_id.encode()).hexdigest()
    # The layout percent-encodes all but letters, digits, - and _; what no object can be called finds no folder.
    name = object_id.replace(".", "%2e") if is_object_id(object_id) else "%"
    return f"objects/{digest[:2]}/{digest[2:4]}/{name}"


def object_at(place: str) -> tuple[str, str] | None:
    """(object id, path within the object) of a file in an object's folder; None for any other place."""
    match = _HOME.fullmatch(place)
    if not match:
        return None
    object_id = match[1].replace("%2e", ".")
    return (object_id, match[2]) if place == f"{object_place(object_id)}/{match[2]}" else None


def version_at(path: str) -> tuple[int, str] | None:
    """(version number, path within the version's folder) of a file of an object; None for those at its root."""
    match = _VERSION_FILE.fullmatch(path)
    return (int(match[1]), match[2]) if match else None


def is_root_copy(path: str) -> bool:
    """Whether a file of an object is the inventory or sidecar at its root: replaced by every version, read by nobody here."""
    return path in (NAME, SIDECAR)


def belongs(path: str) -> bool:
    """Whether an object may hold a file of this path."""
    return path == OBJECT_DECLARATION[0] or is_root_copy(path) or version_at(path) is not None


def segment_place(number: int) -> str:
    """Path of a journal segment within the store."""
    return f"journal/{number // SEGMENTS_A_FOLDER:04d}/{number:06d}.json"


def segment_at(place: str) -> int | None:
    """Number of the segment at this place; None where no segment can lie."""
    match = _SEGMENT.fullmatch(place)
    return int(match[1]) if match and place == segment_place(int(match[1])) else None


def derivative_place(name: str) -> str:
    """Path of a derivative within the store."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"derived/{digest[:2]}/{digest[2:4]}/{name}"


def derivative_at(place: str) -> str | None:
    """Name of the derivative at this place; None where none can lie."""
    match = _DERIVED.fullmatch(place)
    return match[1] if match and DERIVATIVE.fullmatch(match[1]) and place == derivative_place(match[1]) else None


def derivative_name(name: str) -> str:
    """The name itself; `BadInput` (code `object.bad`) when no derivative can be called that."""
    if not DERIVATIVE.fullmatch(name):
        raise BadInput(
            "派生物の名前に使えない文字があります。呼び出し側の値を直してください。",
            "The name of a derivative has characters it may not have. Correct what the caller gives.",
            code="object.bad",
        )
    return name


def description(store_id: str) -> bytes:
    """What `store.json` holds."""
    return canonical({"format": STORE_FORMAT, "id": store_id}) + b"\n"


def described(data: bytes | None) -> str:
    """The id in the bytes of a `store.json`, None for a store that has none.

    `NotReady`: code `store.missing` (none here), `store.newer` (made by a later daicho), `store.damaged` (its
    description cannot be read).
    """
    if data is None:
        raise NotReady(
            "ここには保管庫がありません。フォルダーを確かめるか、`daicho init` で作ってください。",
            "There is no store here. Check the folder, or make one with `daicho init`.",
            code="store.missing",
        )
    try:
        value = json.loads(data)
        number, store_id = value["format"], value["id"]
        if not isinstance(number, int) or not isinstance(store_id, str):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise NotReady(
            "保管庫の store.json が壊れています。控えから復元してください。",
            "The store's store.json is damaged. Restore it from the backup.",
            code="store.damaged",
        ) from error
    if number > STORE_FORMAT:
        raise NotReady(
            "この保管庫は、より新しい daicho で作られています。daicho を更新してください。",
            "This store was made by a later daicho. Update daicho.",
            code="store.newer",
        )
    return store_id
