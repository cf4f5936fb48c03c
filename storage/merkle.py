"""The Merkle tree of RFC 6962 and RFC 9162 over SHA-256: hashes, roots, proofs and their checking.

Pure: hashes in, hashes out. What a leaf says, and where hashes are kept, is decided elsewhere. Leaves are counted from 0; a hash has 32 bytes.
Subtrees `[start, end)` are those of draft-ietf-plants-merkle-tree-certs, of which a whole tree (`start` 0) is the ordinary case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

HASH = 32
EMPTY = hashlib.sha256(b"").digest()
"""Root of the tree without a leaf."""

RootOf = Callable[[int, int], bytes]
"""Root over the leaves `[begin, end)`, a range that RFC 6962's splitting comes upon."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf that holds `data`."""
    return hashlib.sha256(b"\0" + data).digest()


def leaf_hashes(held: Iterable[bytes]) -> bytes:
    """Hashes of leaves in a row, one after the other."""
    return b"".join([hashlib.sha256(b"\0" + data).digest() for data in held])  # `leaf_hash`, of millions


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """Root over subtrees of one size, of which the last alone may be smaller. (Over leaves: RFC 6962, section 2.1.)"""
    level = list(hashes)
    if not level:
        return EMPTY
    sha256 = hashlib.sha256
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [sha256(b"\1" + left + right).digest() for left, right in pairs] + odd  # `node_hash`, of millions
    return level[0]


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The ranges whose roots prove leaf `index` in a tree of `size` leaves, from the leaf up (RFC 6962, section 2.1.1)."""
    begin, end = 0, size
    ranges = []
    while end - begin > 1:
        middle = begin + split(end - begin)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    return ranges[::-1]


def consistency_ranges(first: int, size: int) -> list[tuple[int, int]]:
    """The ranges whose roots prove that a tree of `first` leaves (at least 1) is the beginning of one of `size` (RFC 6962, section 2.1.2)."""
    begin, end = 0, size
    ranges = []
    while end != first:
        middle = begin + split(end - begin)
        if first <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    if begin:
        ranges.append((begin, end))
    return ranges[::-1]


def inclusion_proof(index: int, size: int, root_of: RootOf) -> list[bytes]:
    """Hashes that lead from leaf `index` to the root of the tree of `size` leaves."""
    return [root_of(*each) for each in inclusion_ranges(index, size)]


def consistency_proof(first: int, size: int, root_of: RootOf) -> list[bytes]:
    """Hashes that lead from the tree of `first` leaves (at least 1) to that of `size`."""
    return [root_of(*each) for each in consistency_ranges(first, size)]


def verify_inclusion(
    leaf: bytes, index: int, end: int, proof: Sequence[bytes], expected: bytes, start: int = 0
) -> bool:
    """Whether `proof` leads from the leaf's hash at `index` to the root `expected` of the subtree `[start, end)` (RFC 9162, section 2.1.3.2)."""
    if not start <= index < end or not _is_subtree(start, end) or any(len(each) != HASH for each in (leaf, *proof)):
        return False
    at, last, found = index - start, end - start - 1, leaf
    for each in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(each, found)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, each)
        at, last = at >> 1, last >> 1
    return last == 0 and found == expected


def verify_consistency(first: int, size: int, proof: Sequence[bytes], first_root: bytes, size_root: bytes) -> bool:
    """Whether the tree of `first` leaves (at least 1) is the beginning of the one of `size` (RFC 9162, section 2.1.4.2)."""
    return first > 0 and verify_subtree(0, first, size, proof, first_root, size_root)


def verify_subtree(start: int, end: int, size: int, proof: Sequence[bytes], part: bytes, whole: bytes) -> bool:
    """Whether `part` is the root over the leaves `[start, end)` of the tree of `size` leaves with root `whole`.

    The empty subtree is part of every tree, and has the root `EMPTY`.
    """
    if not start <= end <= size or not _is_subtree(start, end) or any(len(each) != HASH for each in proof):
        return False
    if start == end:
        return part == EMPTY and not proof
    left, at, last = start, end - 1, size - 1
    while left != at and (at == last or at & 1):
        left, at, last = left >> 1, at >> 1, last >> 1
    rest = list(proof)
    if left == at:
        from_part = from_whole = part
    elif rest:
        from_part = from_whole = rest.pop(0)
    else:
        return False
    for each in rest:
        if last == 0:
            return False
        if at & 1 or at == last:
            if left < at:
                from_part = node_hash(each, from_part)
            from_whole = node_hash(each, from_whole)
            while at and not at & 1:
                left, at, last = left >> 1, at >> 1, last >> 1
        else:
            from_whole = node_hash(from_whole, each)
        left, at, last = left >> 1, at >> 1, last >> 1
    return last == 0 and from_part == part and from_whole == whole


def split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _is_subtree(start: int, end: int) -> bool:
    """Whether `start` is a multiple of the smallest power of two that is not below `end - start`."""
    return start % (1 << max(end - start - 1, 0).bit_length()) == 0
