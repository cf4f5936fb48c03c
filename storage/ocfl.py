"""What an OCFL object or storage root in a folder must be, by the specification (1.0 and 1.1, https://ocfl.io) and in its codes:
E001 … where something must not be so, W001 … where it should not. Findings, never errors.

For whoever holds a copy and nothing else: a bucket mirrored to a disk, a backup, the archive of another system. No key, pin or catalogue is
known here, and everything that the specification allows is accepted. What daicho reads itself goes through `storage/inventory.py` and
`storage/fixity.py` instead, which believe only what daicho writes and compare it with the pins that were acknowledged: an object can be faultless
OCFL and still not be the one that was sealed. The two share the names of files and the shape of findings; one reader with a switch between
"as the specification" and "as we wrote it" would be wrong sooner or later at the place where records are read.

Not judged: hard links (a copy may share files with another), and whether ids are unique in a root (by layout they are in daicho's).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from storage.fixity import Found
from storage.inventory import NAME
from storage.port import Checked, Finding

UNREADABLE = "unreadable"
"""The one code that is not of the specification: the machine cannot give what lies there, so nothing can be said of it."""

LAYOUT = "ocfl_layout.json"

_SPECIFICATIONS = ("1.0", "1.1")  # oldest first
_TYPE = re.compile(r"https://ocfl\.io/([0-9]+\.[0-9]+)/spec/#inventory")
_OBJECT = "0=ocfl_object_"
_ROOT = "0=ocfl_"
_VERSION = re.compile(r"v(0*)([1-9][0-9]{0,8})")
_SIDECAR = re.compile(rb"([0-9A-Fa-f]+)[ \t]+inventory\.json[\r\n]*")
_SIDECAR_SIZE = 4096  # bytes; a longer one is none
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
# The registry of extensions grows; its names look like this (https://ocfl.github.io/extensions/).
_REGISTERED = re.compile(r"[0-9]{4}-[a-z0-9-]+|initial")
_READ = 1 << 20  # bytes at a time

_INVENTORY_KEYS = {"id", "type", "digestAlgorithm", "head", "contentDirectory", "manifest", "versions", "fixity"}
_VERSION_KEYS = {"created", "state", "message", "user"}
_USER_KEYS = {"name", "address"}


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Size:
    """The "digest" `size` of extension 0009: the number of bytes."""

    def __init__(self) -> None:
        self._size = 0

    def update(self, data: bytes) -> None:
        self._size += len(data)

    def hexdigest(self) -> str:
        return str(self._size)


# Those of the specification, and of the extensions 0001 and 0009.
_ALGORITHMS: Mapping[str, Callable[[], _Digest]] = {
    "sha512": hashlib.sha512,
    "sha256": hashlib.sha256,
    "sha1": partial(hashlib.sha1, usedforsecurity=False),
    "md5": partial(hashlib.md5, usedforsecurity=False),
    "blake2b-512": hashlib.blake2b,
    "blake2b-160": partial(hashlib.blake2b, digest_size=20),
    "blake2b-256": partial(hashlib.blake2b, digest_size=32),
    "blake2b-384": partial(hashlib.blake2b, digest_size=48),
    "sha512/256": partial(hashlib.new, "sha512_256"),
    "size": _Size,
}


def is_error(code: str) -> bool:
    """Whether a finding of this code makes the object or root invalid; else it is a warning."""
    return not code.startswith("W")


def kind(folder: Path) -> str:
    """What the folder seems to be: "object", "root", or "" when nothing in it says so (also when it cannot be listed)."""
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return ""
    if _holds_object(names):
        return "object"
    return "root" if LAYOUT in names or any(name.startswith(_ROOT) for name in names) else ""


def check_object(folder: Path, name: str = "") -> Checked:
    """Read every byte of the object in `folder`, and say what is wrong.

    Args:
        name: what findings call the object while its id cannot be read.
    """
    return _Object(folder, name).run()


def check_root(folder: Path) -> Iterator[Checked]:
    """Every object of the storage root in `folder`, in the order of their folders, and last (`object_id` "") the root itself.

    An object whose id cannot be read is named by its folder within the root.
    """
    root = Checked("")

    def found(path: str, code: str, detail: str) -> None:
        root.findings.append(Finding("", _printable(path), code, detail))

    specification = _root_files(folder, found)
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        folders, files = _entries(folder, inner, found)
        if inner and _holds_object(files):
            read = _Object(folder / inner, inner)
            checked = read.run()
            if specification and read.specification > specification:
                found(inner, "E081", f"the object follows {read.specification}, later than the root's {specification}")
            yield checked
            continue
        if inner:
            for name in files:
                found(f"{inner}/{name}", "E072", "a file that belongs to no object")
            if not folders and not files:
                found(inner, "E073", "an empty folder")
        elif "extensions" in folders:
            folders.remove("extensions")
            _extensions(folder, "extensions", "E112", "W016", found)
        waiting += [f"{inner}/{name}" if inner else name for name in reversed(folders)]
    yield root


def _root_files(folder: Path, found: Found) -> str:
    """Check declaration and layout of a storage root; its version of the specification, "" when it names none that we know."""
    _, files = _entries(folder, "", lambda *_: None)
    declarations = [name for name in files if name.startswith("0=")]
    if len(declarations) != 1:
        found("", "E076" if declarations else "E069", "not exactly one declaration of a storage root")
    specification = ""
    for name in declarations:
        version = name.removeprefix(_ROOT)
        if not name.startswith(_ROOT) or version not in _SPECIFICATIONS:
            found(name, "E079", "the name is not 0=ocfl_ and a version of the specification that is known here")
        else:
            specification = max(specification, version)
        if _bytes(folder / name, _SIDECAR_SIZE) != os.fsencode(name.removeprefix("0=")) + b"\n":
            found(name, "E080", "the file does not hold what its name declares")
    if LAYOUT in files:
        value = _json(_bytes(folder / LAYOUT))
        if not isinstance(value, dict) or not all(
            isinstance(value.get(key), str) for key in ("extension", "description")
        ):
            found(LAYOUT, "E070", "not a JSON object with extension and description")
        elif not _REGISTERED.fullmatch(value["extension"]):
            found(LAYOUT, "E071", "the extension is not named as registered ones are")
    return specification


def _extensions(folder: Path, place: str, stray: str, unknown: str, found: Found) -> None:
    """Check an `extensions` folder: nothing in it but folders, named as registered extensions are."""
    folders, files = _entries(folder, place, found)
    for name in files:
        found(f"{place}/{name}", stray, "a file among the extensions")
    for name in folders:
        if not _REGISTERED.fullmatch(name):
            found(f"{place}/{name}", unknown, "not named as registered extensions are")


class _Object:
    """One run over an object. `specification`: the version that it declares, or else the newest we know."""

    def __init__(self, folder: Path, name: str) -> None:
        self.specification = _SPECIFICATIONS[-1]
        self._folder = folder
        self._name = name
        self._files: set[str] = set()
        self._listed: dict[str, tuple[list[str], list[str]]] = {}  # folder -> names of the folders and the files in it
        self._found: dict[tuple[str, str, str], None] = {}
        self._warned: set[tuple[str, str]] = set()

    def run(self) -> Checked:
        self._walk()
        self._declaration()
        root = self._inventory("", self.specification)
        names = self._top(root)
        inventories = [root] if root else []
        if root:
            if set(root.names) != set(names) or len(root.names) != len(root.blocks):
                self._tell(NAME, "E046", "the versions of the inventory are not those that have folders")
                _numbered(root.names, NAME, self._tell)
            inventories += self._earlier(root, names)
        content = root.content_folder if root else "content"
        for name in names:
            self._version_folder(name, content)
        for path in sorted(self._files):
            first, _, rest = path.partition("/")
            if first in names and rest.startswith(f"{content}/"):
                for each in inventories:
                    if path not in each.contents and (each is root or _number(each.head) >= _number(first)):
                        self._tell(path, "E023", f"not in the manifest of {each.place}")
        checked = Checked(root.id if root and root.id else self._name)
        self._digests(inventories, checked)
        checked.findings += [Finding(checked.object_id, *found) for found in self._found]
        return checked

    def _tell(self, path: str, code: str, detail: str) -> None:
        """Note a finding once; a warning that several inventories share, once for all of them."""
        if not is_error(code):
            if (code, detail) in self._warned:
                return
            self._warned.add((code, detail))
        self._found[_printable(path), code, detail] = None

    def _walk(self) -> None:
        waiting = [""]
        while waiting:
            inner = waiting.pop()
            folders, files = _entries(self._folder, inner, self._tell)
            beginning = f"{inner}/" if inner else ""
            self._listed[inner] = folders, files
            self._files |= {beginning + name for name in files}
            waiting += [beginning + name for name in folders]

    def _declaration(self) -> None:
        names = [name for name in self._listed[""][1] if name.startswith("0=")]
        if len(names) != 1:
            self._tell("", "E003", "not exactly one declaration of an object")
        for name in names:
            version = name.removeprefix(_OBJECT)
            if not name.startswith(_OBJECT):
                self._tell(name, "E006", "the name is not 0=ocfl_object_ and a version")
            elif version in _SPECIFICATIONS:
                self.specification = version
            else:
                self._tell(name, "E004", "a version of the specification that is not known here")
            if _bytes(self._folder / name, _SIDECAR_SIZE) != os.fsencode(name.removeprefix("0=")) + b"\n":
                self._tell(name, "E007", "the file does not hold what its name declares")

    def _top(self, root: _Inventory | None) -> list[str]:
        """Check what lies at the object's root; the version folders in order."""
        folders, files = self._listed[""]
        for name in files:
            sidecar = name == root.sidecar if root else name.startswith(f"{NAME}.")
            if not name.startswith("0=") and name != NAME and not sidecar:
                self._tell(name, "E001", "a file that has no place at the root of an object")
        names = []
        for name in folders:
            if _VERSION.fullmatch(name):
                names.append(name)
            elif name not in ("logs", "extensions"):
                self._tell(name, "E001", "a folder that has no place at the root of an object")
        if "extensions" in folders:
            _extensions(self._folder, "extensions", "E067", "W013", self._tell)
        names.sort(key=_number)
        _numbered(names, "", self._tell)
        return names

    def _inventory(self, folder: str, specification: str = "", known: _Inventory | None = None) -> _Inventory | None:
        """The inventory in this folder of the object, with its sidecar checked; None where there is none to be read.

        Args:
            known: given back when its bytes lie here too.
        """
        beginning = f"{folder}/" if folder else ""
        place = beginning + NAME
        if place not in self._files:
            if not folder:
                self._tell("", "E063", "the object has no inventory")
            return None
        data = _bytes(self._folder / place)
        if data is None:
            self._tell(place, UNREADABLE, "the inventory cannot be read")
            return None
        if known is None or known.data != data:
            value = _json(data)
            if not isinstance(value, dict):
                self._tell(place, "E033", "not a JSON object in UTF-8, each key of which stands once")
                return None
            known = _Inventory(value, data, place, specification, self._tell)
        self._sidecar(folder, known)
        return known

    def _sidecar(self, folder: str, read: _Inventory) -> None:
        names = self._listed[folder][1]
        place = f"{folder}/{read.sidecar}" if folder else read.sidecar
        if not read.algorithm or read.sidecar not in names:
            code = "E059" if any(name.startswith(f"{NAME}.") for name in names) else "E058"
            self._tell(place.removesuffix(f".{read.algorithm}"), code, "no sidecar of the digest algorithm")
            return
        match = _SIDECAR.fullmatch(_bytes(self._folder / place, _SIDECAR_SIZE) or b"")
        if not match:
            self._tell(place, "E061", "not a digest, a space and inventory.json")
        elif read.algorithm in _ALGORITHMS:
            digest = _ALGORITHMS[read.algorithm]()
            digest.update(read.data)
            if digest.hexdigest() != match[1].decode().lower():
                self._tell(place, "E060", "not the digest of the inventory beside it")

    def _earlier(self, root: _Inventory, names: list[str]) -> list[_Inventory]:
        """Check the inventories of the version folders against the root's; those that are not the same as it."""
        read = []
        before = _SPECIFICATIONS[0]
        for name in names:
            each = self._inventory(name, known=root)
            if each is None:
                if f"{name}/{NAME}" not in self._files:
                    self._tell(name, "W010", f"{name} has no inventory")
                continue
            place = f"{name}/{NAME}"
            if each is not root:
                read.append(each)
                self._compared(each, root)
                if name == names[-1]:
                    self._tell(place, "E064", "the inventory of the latest version is not the one at the root")
            if each.head != name:
                self._tell(place, "E040", "the head is not the version in whose folder the inventory lies")
            elif set(each.names) != {other for other in root.names if _number(other) <= _number(name)}:
                self._tell(place, "E046", "the versions are not those up to this one")
            if each.specification:
                if each.specification < before:
                    self._tell(place, "E103", f"follows {each.specification}, earlier than a version before it")
                before = each.specification
        return read

    def _compared(self, each: _Inventory, root: _Inventory) -> None:
        """Check what an earlier inventory says of the object and of its versions against what the root's says."""
        if each.id != root.id:
            self._tell(each.place, "E037", "another id than in the root inventory")
        if each.content_directory != root.content_directory:
            self._tell(each.place, "E019", "another contentDirectory than in the root inventory")
        for name in each.names:
            if name not in root.states:
                continue
            if not each.same_state(root, name):
                self._tell(each.place, "E066", f"{name} has another state than in the root inventory")
            for key in ("created", "message", "user"):
                if each.blocks[name].get(key) != root.blocks[name].get(key):
                    self._tell(each.place, "W011", f"{name} has another {key} than in the root inventory")

    def _version_folder(self, name: str, content: str) -> None:
        """Check what lies directly in a version folder, and that no folder of its content is empty."""
        folders, files = self._listed[name]
        for file in files:
            if file != NAME and not (NAME in files and file.startswith(f"{NAME}.")):
                self._tell(f"{name}/{file}", "E015", "a file beside the inventory of a version")
        for folder in folders:
            if folder != content:
                self._tell(f"{name}/{folder}", "W002", f"{name} has another folder than its content")
        waiting = [f"{name}/{content}"] if content in folders else []
        while waiting:
            inner = waiting.pop()
            deeper, held = self._listed[inner]
            if not deeper and not held:
                code = "E024" if inner != f"{name}/{content}" else "W003"
                self._tell(inner, code, f"an empty folder in {name}")
            waiting += [f"{inner}/{each}" for each in deeper]

    def _digests(self, inventories: list[_Inventory], checked: Checked) -> None:
        """Read every content file once and compare it with what all inventories say of it."""
        wanted: dict[str, set[tuple[str, str, str, str]]] = {}
        for each in inventories:
            for path, digest in each.contents.items():
                wanted.setdefault(path, set()).add((each.algorithm, digest, "E092", each.place))
            for path, algorithm, digest in each.fixity:
                wanted.setdefault(path, set()).add((algorithm, digest, "E093", each.place))
        for path, told in sorted(wanted.items()):
            if path not in self._files:
                for _, _, code, place in sorted(told):
                    self._tell(path, code, f"the file is not there, though {place} names it")
                continue
            made = {name: _ALGORITHMS[name]() for name, *_ in told if name in _ALGORITHMS}
            size = _read_through(self._folder / path, made.values())
            if size is None:
                self._tell(path, UNREADABLE, "the file cannot be read")
                continue
            checked.files += 1
            checked.bytes += size
            digests = {name: each.hexdigest() for name, each in made.items()}
            for algorithm, digest, code, place in sorted(told):
                if digests.get(algorithm, digest) != digest:
                    self._tell(path, code, f"the bytes do not have the {algorithm} that {place} gives")


class _Inventory:
    """What an inventory says, with a finding for each thing that it must or should not say.

    `contents`: content path -> digest; `states`: version -> logical path -> digest; `blocks`: version -> its block; `fixity`: (content path,
    algorithm, digest). Digests are in small letters. What cannot be read is left out of these, or empty.
    """

    def __init__(self, value: dict[str, Any], data: bytes, place: str, specification: str, found: Found) -> None:
        """`specification`: the version that the object declares, for the inventory at its root; "" for another."""
        self.data = data
        self.place = place
        self._value = value
        self._tell = partial(found, place)
        for key in ("id", "type", "digestAlgorithm", "head"):
            if key not in value:
                self._tell("E036", f"no {key}")
        self._only(value, _INVENTORY_KEYS, "the inventory")
        self.id = self._id()
        self.specification = self._type(specification)
        self.algorithm = self._algorithm()
        self.sidecar = f"{NAME}.{self.algorithm}"
        self.content_directory = value.get("contentDirectory")
        self.content_folder = self._content_folder()
        self.blocks = self._blocks()
        self.names = sorted((name for name in self.blocks if _VERSION.fullmatch(name)), key=_number)
        self.head = self._head()
        self._digests: set[str] = set()  # of the manifest, as written
        self.contents = self._manifest()
        self.states = {name: self._state(name, block) for name, block in self.blocks.items()}
        self._unused()
        self.fixity = self._fixity()

    def same_state(self, other: _Inventory, name: str) -> bool:
        """Whether both describe the same state of a version; where the digest algorithm changed, by the files behind the digests."""
        ours, theirs = self.states[name], other.states[name]
        if self.algorithm == other.algorithm:
            return ours == theirs
        behind, there = self._files_behind(), other._files_behind()
        return ours.keys() == theirs.keys() and all(
            digest in behind and behind[digest] <= there.get(theirs[path], set()) for path, digest in ours.items()
        )

    def _files_behind(self) -> dict[str, set[str]]:
        files: dict[str, set[str]] = {}
        for path, digest in self.contents.items():
            files.setdefault(digest, set()).add(path)
        return files

    def _only(self, value: dict[str, Any], keys: set[str], what: str) -> None:
        for key in sorted(set(value) - keys):
            self._tell("E102", f"{what} has a key that the specification does not know: {_printable(key)}")

    def _id(self) -> str:
        told = self._value.get("id", "")
        if "id" in self._value and (not isinstance(told, str) or not told):
            self._tell("E037", "the id is not a text")
            return ""
        if told and not _URI.fullmatch(told):
            self._tell("W005", "the id is not a URI")
        return str(told)

    def _type(self, specification: str) -> str:
        told = self._value.get("type")
        match = _TYPE.fullmatch(told) if isinstance(told, str) else None
        known = match[1] if match and match[1] in _SPECIFICATIONS else ""
        if "type" in self._value and (not known or (specification and known != specification)):
            self._tell("E038", "the type is not the address of the specification that the object declares")
        return known

    def _algorithm(self) -> str:
        told = self._value.get("digestAlgorithm")
        if "digestAlgorithm" in self._value and told not in ("sha512", "sha256"):
            self._tell("E025", "the digest algorithm is neither sha512 nor sha256")
        if told == "sha256":
            self._tell("W004", "the digest algorithm is not sha512")
        return told if isinstance(told, str) else ""

    def _content_folder(self) -> str:
        told = self.content_directory
        if told is None and "contentDirectory" not in self._value:
            return "content"
        if not isinstance(told, str) or not told or "/" in told:
            self._tell("E017", "contentDirectory is not the name of one folder")
            return "content"
        if told in (".", ".."):
            self._tell("E018", "contentDirectory is . or ..")
        return told

    def _blocks(self) -> dict[str, dict[str, Any]]:
        if "versions" not in self._value:
            self._tell("E043", "no versions")
            return {}
        told = self._value["versions"]
        if not isinstance(told, dict):
            self._tell("E044", "versions is not a JSON object")
            return {}
        if not told:
            self._tell("E008", "not one version")
        blocks = {}
        for name, block in told.items():
            if not _VERSION.fullmatch(name):
                self._tell("E046", f"not the name of a version: {_printable(name)}")
            if isinstance(block, dict):
                blocks[name] = block
                self._block(_printable(name), block)
            else:
                self._tell("E047", f"{_printable(name)} is not a JSON object")
        return blocks

    def _block(self, name: str, block: dict[str, Any]) -> None:
        self._only(block, _VERSION_KEYS, name)
        for key in ("created", "state"):
            if key not in block:
                self._tell("E048", f"{name} has no {key}")
        if "created" in block and not _is_moment(block["created"]):
            self._tell("E049", f"created of {name} is not a date and time of RFC 3339 with its zone")
        for key in ("message", "user"):
            if key not in block:
                self._tell("W007", f"{name} has no {key}")
        if not isinstance(block.get("message", ""), str):
            self._tell("E094", f"the message of {name} is not a text")
        if "user" not in block:
            return
        user = block["user"]
        if not isinstance(user, dict) or not isinstance(user.get("name"), str) or not user["name"]:
            self._tell("E054", f"the user of {name} has no name")
            return
        self._only(user, _USER_KEYS, f"the user of {name}")
        if "address" not in user:
            self._tell("W008", f"the user of {name} has no address")
        elif not isinstance(user["address"], str) or not _URI.fullmatch(user["address"]):
            self._tell("W009", f"the address of the user of {name} is not a URI")

    def _head(self) -> str:
        told = self._value.get("head")
        if "head" in self._value and (not self.names or told != self.names[-1]):
            self._tell("E040", "the head is not the name of the highest version")
        return told if isinstance(told, str) and _VERSION.fullmatch(told) else ""

    def _manifest(self) -> dict[str, str]:
        if "manifest" not in self._value:
            self._tell("E041", "no manifest")
            return {}
        told = self._value["manifest"]
        if not isinstance(told, dict):
            self._tell("E106" if self.specification != "1.0" else "E041", "the manifest is not a JSON object")
            return {}
        self._digests = set(told)
        self._once(told, "E096", "the manifest")
        contents: dict[str, str] = {}
        paths = []
        for digest, path in self._pairs(told, "E092", "the manifest"):
            paths.append(path)
            if self._straight(path, "E100", "E099", "content path"):
                self._within(path)
                contents[path] = digest
        self._apart(paths, "E101", "content paths")
        return contents

    def _within(self, path: str) -> None:
        """A content path leads into the content folder of a version, by the name that the version has."""
        first, _, rest = path.partition("/")
        if first in self.blocks and rest.startswith(f"{self.content_folder}/"):
            return
        number = _number(first)
        code = "E014" if first not in self.blocks and number and number in map(_number, self.names) else "E042"
        self._tell(code, f"not a path into the content of a version: {_printable(path)}")

    def _state(self, name: str, block: dict[str, Any]) -> dict[str, str]:
        told = block.get("state", {})
        name = _printable(name)
        if not isinstance(told, dict):
            self._tell("E050", f"the state of {name} is not a JSON object")
            return {}
        for digest in told:
            if digest not in self._digests:
                self._tell("E050", f"the state of {name} has a digest that the manifest does not have")
        state = {}
        paths = []
        for digest, path in self._pairs(told, "E051", f"the state of {name}"):
            paths.append(path)
            if self._straight(path, "E053", "E052", f"logical path of {name}"):
                state[path] = digest
        self._apart(paths, "E095", f"logical paths of {name}")
        return state

    def _unused(self) -> None:
        if self.specification == "1.0":
            return  # which says nothing of it
        used = {
            digest
            for block in self.blocks.values()
            if isinstance(block.get("state"), dict)
            for digest in block["state"]
        }
        for digest in sorted(self._digests - used):
            self._tell("E107", f"the manifest has a digest that no state has: {_printable(digest[:16])}…")

    def _fixity(self) -> list[tuple[str, str, str]]:
        told = self._value.get("fixity", {})
        if not isinstance(told, dict):
            self._tell("E111" if self.specification != "1.0" else "E057", "fixity is not a JSON object")
            return []
        found = []
        for algorithm, block in told.items():
            what = f"fixity of {_printable(algorithm)}"
            if algorithm not in _ALGORITHMS:
                self._tell("E056", f"{what}: not a digest algorithm of the specification or a registered extension")
            if not isinstance(block, dict):
                self._tell("E057", f"{what} is not a JSON object")
                continue
            self._once(block, "E097", what)
            for digest, path in self._pairs(block, "E057", what):
                if self._straight(path, "E100", "E099", "content path"):
                    found.append((path, algorithm, digest))
        return found

    def _once(self, block: dict[str, Any], code: str, what: str) -> None:
        if len({digest.lower() for digest in block}) != len(block):
            self._tell(code, f"{what} has a digest twice, in large and small letters")

    def _pairs(self, block: dict[str, Any], code: str, what: str) -> Iterator[tuple[str, str]]:
        """(digest in small letters, path) of a block; a finding with `code` where a value is not a list of texts."""
        for digest, paths in block.items():
            if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
                self._tell(code, f"{what} does not give a list of paths for each digest")
                continue
            for path in paths:
                yield digest.lower(), path

    def _straight(self, path: str, at_ends: str, within: str, what: str) -> bool:
        """Whether a path neither begins nor ends with `/` and has no element that is empty, `.` or `..`."""
        ends = path.startswith("/") or path.endswith("/")
        crooked = not {"", ".", ".."}.isdisjoint(path.removeprefix("/").removesuffix("/").split("/"))
        if ends:
            self._tell(at_ends, f"a {what} begins or ends with /: {_printable(path)}")
        if crooked:
            self._tell(within, f"a {what} has an element that is empty, . or ..: {_printable(path)}")
        return not ends and not crooked

    def _apart(self, paths: list[str], code: str, what: str) -> None:
        """No path twice, and none the folder of another: sorted by elements, a folder stands right before what lies in it."""
        ordered = sorted(path.split("/") for path in paths)
        for one, other in pairwise(ordered):
            if other[: len(one)] == one:
                self._tell(code, f"two {what} are the same, or one lies in the other: {_printable('/'.join(one))}")


def _holds_object(names: Iterable[str]) -> bool:
    return any(name.startswith(_OBJECT) or name == NAME for name in names)


def _number(name: str) -> int:
    """The number of a version's name, 0 for any other name."""
    match = _VERSION.fullmatch(name)
    return int(match[2]) if match else 0


def _numbered(names: list[str], place: str, found: Found) -> None:
    """Check the names of versions, in order: 1, 2, 3 …, all padded with zeros to one length or none at all."""
    numbers = [_number(name) for name in names]
    if not names:
        found(place, "E008", "not one version")
        return
    if numbers[0] != 1:
        found(place, "E009", "the versions do not begin with 1")
    if set(range(numbers[0], numbers[-1] + 1)) != set(numbers):
        found(place, "E010", "a version is missing")
    first = names[0]
    if not first.startswith("v0"):
        if any(name.startswith("v0") for name in names):
            found(place, "E012", "some versions are padded with zeros, and some are not")
            found(place, "E013", "a later version does not keep to the naming of the first")
        return
    found(place, "W001", "the names of versions are padded with zeros")
    if any(not name.startswith("v0") for name in names):
        found(place, "E011", "a name among padded ones does not begin with v0")
    if any(len(name) != len(first) or not name.startswith("v0") for name in names):
        found(place, "E013", "a later version does not keep to the naming of the first")
    if any(len(name) != len(first) for name in names):
        found(place, "E012", "the names of versions are padded to different lengths")


def _is_moment(told: object) -> bool:
    match = _MOMENT.fullmatch(told) if isinstance(told, str) else None
    if not match:
        return False
    year, month, day, hour, minute, second = (int(match[part]) for part in range(1, 7))
    try:
        datetime(year, month, day, hour, minute, min(second, 59))  # noqa: DTZ001  only whether there is such a day and time
    except ValueError:
        return False
    return second <= 60  # a leap second


def _entries(folder: Path, inner: str, found: Found) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, sorted; a finding for anything else that lies there."""
    folders, files = [], []
    beginning = f"{inner}/" if inner else ""
    try:
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                if entry.is_symlink():
                    found(beginning + entry.name, "E090", "a link")
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    files.append(entry.name)
                else:
                    found(beginning + entry.name, "E089", "neither a file nor a folder")
    except OSError as error:
        found(inner, UNREADABLE, f"the folder cannot be listed ({errno.errorcode.get(error.errno or 0, 'unknown')})")
    return sorted(folders), sorted(files)


def _read_through(place: Path, digests: Iterable[_Digest]) -> int | None:
    """Feed the digests with a file's bytes; how many there were, None where the file cannot be read."""
    size = 0
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb", buffering=0) as file:
            while data := file.read(_READ):
                size += len(data)
                for each in digests:
                    each.update(data)
    except OSError:
        return None
    return size


def _bytes(place: Path, most: int = -1) -> bytes | None:
    """The file's bytes, at most so many and one more; None where it cannot be read."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            return file.read(most + 1 if most >= 0 else -1)
    except OSError:
        return None


def _json(data: bytes | None) -> Any:
    """The value of JSON in UTF-8; None where it is none, or has a key twice."""
    try:
        return json.loads((data or b"").decode("utf-8"), object_pairs_hook=_once, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key twice")
    return made


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _printable(text: str) -> str:
    """The text with all that a terminal would not print written as an escape: names in a foreign archive may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
