"""OCFL 1.1 inventories: built from one version and the inventory before it, and read back with distrust.

Pure: bytes in, bytes out. The same version on the same predecessor always gives the same bytes, whose SHA-512 is the
pin's digest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import BadInput, NotFound
from storage.canonical import canonical, sha512_hex
from storage.port import Content, NewVersion

OBJECT_DECLARATION = ("0=ocfl_object_1.1", b"ocfl_object_1.1\n")
ROOT_DECLARATION = ("0=ocfl_1.1", b"ocfl_1.1\n")
NAME = "inventory.json"
SIDECAR = "inventory.json.sha512"

_TYPE = "https://ocfl.io/1.1/spec/#inventory"
_OBJECT_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,99}")
_PATH = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}(/[a-z0-9][a-z0-9._-]{0,127}){0,7}")
_CONTENT = re.compile(r"v[1-9][0-9]{0,8}/content/(.+)")
_DIGEST = re.compile(r"[0-9a-f]{128}")
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True)
class Inventory:
    """What an inventory says. `manifest`: digest -> content paths; `versions`: `v1` -> its block; `state`: logical
    path -> digest (head).
    """

    object_id: str
    number: int
    manifest: Mapping[str, tuple[str, ...]]
    versions: Mapping[str, Any]
    state: Mapping[str, str]

    def content(self, path: str) -> tuple[str, str]:
        """(content path within the object, its SHA-512) of logical `path` in the head version; `NotFound`."""
        digest = self.state.get(path)
        if digest is None:
            raise missing("path")
        return self.manifest[digest][0], digest


def is_object_id(text: str) -> bool:
    """Whether `text` may name an object."""
    # The storage layout keeps a name of up to 100 characters as it is, and percent-encodes the dot.
    return _OBJECT_ID.fullmatch(text) is not None and len(text) + 2 * text.count(".") <= 100


def content_path(number: int, path: str) -> str:
    """Where version `number` keeps its new file `path`, within the object."""
    return f"v{number}/content/{path}"


def validated(version: NewVersion) -> None:
    """`BadInput` (code `object.bad`) unless id, number, time and logical paths can be sealed."""
    paths = [*version.files, *version.carried]
    folders = {path[:end] for path in paths for end in range(len(path)) if path[end] == "/"}
    for wrong, what in (
        (not is_object_id(version.object_id), "object id"),
        (not 0 < version.number < 10**9, "version number"),
        (not all(_PATH.fullmatch(path) for path in paths), "logical path"),
        (len(set(paths)) != len(paths), "logical path given twice"),
        (not folders.isdisjoint(paths), "logical path that is also a folder"),
        (not _CREATED.fullmatch(version.created), "time"),
        (not version.user or not version.message, "user or message"),
        (version.number == 1 and bool(version.carried), "path carried into the first version"),
    ):
        if wrong:
            raise BadInput(
                f"この版は封印できません（{what}）。呼び出し側の値を直してください。",
                f"This version cannot be sealed (bad {what}). Correct what the caller gives.",
                code="object.bad",
            )


def groups(versions: Sequence[NewVersion]) -> Iterator[list[NewVersion]]:
    """The versions, `validated`, in runs that can be sealed together: a version rests on the one of its object before it."""
    for version in versions:
        validated(version)
    group: list[NewVersion] = []
    for version in versions:
        if any(other.object_id == version.object_id for other in group):
            yield group
            group = []
        group.append(version)
    if group:
        yield group


def built(version: NewVersion, previous: Inventory | None, digests: Mapping[str, str]) -> bytes:
    """The inventory's bytes for `version` on top of `previous` (None for the first).

    Args:
        digests: logical path -> SHA-512 of each of the version's own files.
    """
    manifest = {digest: list(paths) for digest, paths in previous.manifest.items()} if previous else {}
    for path in version.files:
        manifest.setdefault(digests[path], []).append(content_path(version.number, path))
    state: dict[str, list[str]] = {}
    carried = {path: previous.state[path] for path in version.carried if path in previous.state} if previous else {}
    if len(carried) != len(version.carried):
        raise BadInput(
            "前の版にないファイルは引き継げません。呼び出し側の値を直してください。",
            "A file that the version before does not have cannot be carried over. Correct what the caller gives.",
            code="object.bad",
        )
    for path, digest in sorted({**digests, **carried}.items()):
        state.setdefault(digest, []).append(path)
    versions = dict(previous.versions) if previous else {}
    versions[f"v{version.number}"] = {
        "created": version.created,
        "message": version.message,
        "state": state,
        "user": {"name": version.user},
    }
    return _written(version.object_id, version.number, manifest, versions)


def earlier(newest: Inventory, number: int) -> bytes:
    """The bytes of the inventory of version `number`, as a later one tells them: exactly those, when `built` made both."""
    manifest = {
        digest: kept
        for digest, paths in newest.manifest.items()
        if (kept := [path for path in paths if int(path[1 : path.index("/")]) <= number])
    }
    versions = {f"v{n}": newest.versions[f"v{n}"] for n in range(1, number + 1)}
    return _written(newest.object_id, number, manifest, versions)


def _written(object_id: str, number: int, manifest: Mapping[str, list[str]], versions: Mapping[str, Any]) -> bytes:
    value = {
        "digestAlgorithm": "sha512",
        "head": f"v{number}",
        "id": object_id,
        "manifest": manifest,
        "type": _TYPE,
        "versions": versions,
    }
    return canonical(value) + b"\n"


def unbuilt(inventory: Inventory, read: Callable[[str], Content]) -> NewVersion:
    """The newest version of `inventory` as it was handed to `seal`; `read` gives the file of a logical path."""
    block = inventory.versions[f"v{inventory.number}"]
    own = {
        path
        for path, digest in inventory.state.items()
        if content_path(inventory.number, path) in inventory.manifest[digest]
    }
    return NewVersion(
        inventory.object_id,
        inventory.number,
        {path: read(path) for path in sorted(own)},
        block["created"],
        block["user"]["name"],
        block["message"],
        tuple(sorted(set(inventory.state) - own)),
    )


def sidecar(inventory: bytes) -> bytes:
    """The sidecar file's bytes."""
    return f"{sha512_hex(inventory)} {NAME}\n".encode()


def parsed(data: bytes) -> Inventory:
    """Read an inventory that we may not have written; `ValueError` when anything in it is not as `built` makes it."""
    try:
        value = json.loads(data)
        manifest = {digest: tuple(paths) for digest, paths in value["manifest"].items()}
        versions, head, object_id = value["versions"], value["head"], value["id"]
        state = {path: digest for digest, paths in versions[head]["state"].items() for path in paths}
        contents = [_CONTENT.fullmatch(path) for paths in manifest.values() for path in paths]
        number = int(head[1:])
        sound = (
            value["digestAlgorithm"] == "sha512"
            and value["type"] == _TYPE
            and is_object_id(object_id)
            and all(match and _PATH.fullmatch(match[1]) for match in contents)
            and all(paths and _DIGEST.fullmatch(digest) for digest, paths in manifest.items())
            and all(_PATH.fullmatch(path) for path in state)
            and set(state.values()) <= set(manifest)
            and set(versions) == {f"v{n}" for n in range(1, number + 1)}
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not an inventory") from error
    if not sound:
        raise ValueError("not an inventory")
    return Inventory(object_id, number, manifest, versions, state)


def missing(what: str) -> NotFound:
    """The one error for an unknown object, version or path."""
    return NotFound(
        "指定されたものは保管庫にありません。番号を確かめてください。",
        f"The store has no such {what}. Check the number given.",
        code="object.missing",
    )
