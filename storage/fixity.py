"""What the inventories of one object must say of each other and of its files, on any engine: findings, never errors.

The bytes come through a function that each engine gives; nothing here knows where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from storage.canonical import sha512_hex
from storage.inventory import NAME, OBJECT_DECLARATION, SIDECAR, Inventory, parsed, sidecar

# (path within the object, SHA-512 if it is known) -> its bytes, None where they cannot be had. An engine that keeps
# several bytes under one name gives those with the digest.
Read = Callable[[str, str | None], bytes | None]
# (path, code, words)
Found = Callable[[str, str, str], None]


@dataclass
class History:
    """What an object should hold, as far as its inventories tell.

    `inventories`: number -> the inventory, those that can be believed alone. `contents`: content path -> SHA-512.
    `expected`: all other files. `unknown`: folders of which nothing can be said, because their inventory is reported.
    """

    inventories: dict[int, Inventory] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    expected: set[str] = field(default_factory=lambda: {OBJECT_DECLARATION[0], NAME, SIDECAR})
    unknown: list[str] = field(default_factory=list)


def history(object_id: str, numbers: Sequence[int], pinned: Mapping[int, str], read: Read, found: Found) -> History:
    """Read the inventories of the versions `numbers` and compare them with their sidecars, with each other and with
    `pinned` (number -> SHA-512).
    """
    told = History()
    for number in range(1, max([*numbers, *pinned]) + 1):
        folder = f"v{number}"
        if number not in numbers:
            found(folder, "missing", "the version is not there")
            continue
        told.expected |= {f"{folder}/{NAME}", f"{folder}/{SIDECAR}"}
        if pinned and number > max(pinned):
            found(folder, "unacknowledged", "the version was sealed but never acknowledged")
        inventory = _inventory(object_id, number, pinned.get(number), read, found)
        if inventory is None:
            told.unknown.append(f"{folder}/content/")
            continue
        earlier = told.inventories.get(number - 1)
        if earlier and any(inventory.versions[name] != block for name, block in earlier.versions.items()):
            found(f"{folder}/{NAME}", "inventory", "the inventory tells another history than the version before")
        told.inventories[number] = inventory
        for digest, places in inventory.manifest.items():
            for place in places:
                if told.contents.setdefault(place, digest) != digest:
                    found(place, "inventory", "two inventories give different digests for this file")
    return told


def _inventory(object_id: str, number: int, pinned: str | None, read: Read, found: Found) -> Inventory | None:
    place = f"v{number}/{NAME}"
    data = read(place, pinned)
    if data is None:
        found(place, "missing", "the inventory is not there or cannot be read")
        return None
    if read(f"v{number}/{SIDECAR}", sha512_hex(sidecar(data))) != sidecar(data):
        found(f"v{number}/{SIDECAR}", "damaged", "the sidecar does not name the inventory's digest")
    if pinned is not None and sha512_hex(data) != pinned:
        found(place, "inventory", "the inventory is not the one whose digest is pinned")
        return None
    try:
        inventory = parsed(data)
    except ValueError:
        found(place, "inventory", "the inventory cannot be read as OCFL 1.1")
        return None
    if inventory.number != number or inventory.object_id != object_id:
        found(place, "inventory", "the inventory is that of another version or object")
        return None
    return inventory


def root(head: int, read: Read, found: Found) -> None:
    """Compare what lies at the object's root with its latest version `head`."""
    if read(OBJECT_DECLARATION[0], sha512_hex(OBJECT_DECLARATION[1])) != OBJECT_DECLARATION[1]:
        found(OBJECT_DECLARATION[0], "damaged", "the declaration is missing or altered")
    data = read(NAME, None)
    if data is None or data != read(f"v{head}/{NAME}", sha512_hex(data)):
        older = data is not None and any(data == read(f"v{n}/{NAME}", sha512_hex(data)) for n in range(1, head))
        found(NAME, "stale" if older else "damaged", "the root inventory is not that of the latest version")
    elif read(SIDECAR, sha512_hex(sidecar(data))) != sidecar(data):
        found(SIDECAR, "damaged", "the sidecar does not name the inventory's digest")
