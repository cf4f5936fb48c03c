"""The tree against the vectors of others and against its definition; proofs from tiles against proofs from all hashes."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.merkle import (
    EMPTY,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
    verify_subtree,
)

VECTORS = Path(__file__).parents[3] / "shared" / "data" / "merkle-vectors" / "testdata"

LEAVES = [leaf_hash(str(number).encode()) for number in range(80)]


def verdict(kind: str, told: dict[str, Any]) -> bool:
    """Whether our own verification takes what a vector says."""

    def raw(name: str) -> bytes:
        return base64.b64decode(told[name])

    proof = [base64.b64decode(each) for each in told["proof"] or ()]
    match kind:
        case "inclusion":
            return verify_inclusion(raw("leafHash"), told["leafIdx"], told["treeSize"], proof, raw("root"))
        case "subtreeinclusion":
            return verify_inclusion(raw("leafHash"), told["leafIdx"], told["end"], proof, raw("root"), told["start"])
        case "consistency":
            return verify_consistency(told["size1"], told["size2"], proof, raw("root1"), raw("root2"))
        case "subtreeconsistency":
            return verify_subtree(told["start"], told["end"], told["size"], proof, raw("root1"), raw("root2"))
    raise AssertionError(kind)


def test_all_vectors_of_transparency_dev_get_their_verdict() -> None:
    wrong, seen = [], 0
    for file in sorted(VECTORS.rglob("*.json")):
        told = json.loads(file.read_bytes())
        seen += 1
        if verdict(file.relative_to(VECTORS).parts[0], told) == told["wantErr"]:
            wrong.append(str(file.relative_to(VECTORS)))
    assert seen == 518
    assert wrong == []


def defined(leaves: Sequence[bytes]) -> bytes:
    """MTH as section 2.1 of RFC 6962 defines it."""
    if not leaves:
        return EMPTY
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return node_hash(defined(leaves[:half]), defined(leaves[half:]))


def path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH as section 2.1.1 defines it."""
    if len(leaves) == 1:
        return []
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    if index < half:
        return [*path(index, leaves[:half]), defined(leaves[half:])]
    return [*path(index - half, leaves[half:]), defined(leaves[:half])]


def subproof(first: int, leaves: Sequence[bytes], known: bool) -> list[bytes]:
    """SUBPROOF as section 2.1.2 defines it."""
    if first == len(leaves):
        return [] if known else [defined(leaves)]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    if first <= half:
        return [*subproof(first, leaves[:half], known), defined(leaves[half:])]
    return [*subproof(first - half, leaves[half:], False), defined(leaves[:half])]


def over(begin: int, end: int) -> bytes:
    return defined(LEAVES[begin:end])


@pytest.mark.parametrize("size", range(len(LEAVES)))
def test_the_root_is_the_defined_one(size: int) -> None:
    assert root(LEAVES[:size]) == defined(LEAVES[:size])


@given(st.data())
def test_proofs_are_the_defined_ones_and_prove(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(LEAVES)))
    index = data.draw(st.integers(0, size - 1))
    leaves = LEAVES[:size]
    proof = inclusion_proof(index, size, over)
    assert proof == path(index, leaves)
    assert verify_inclusion(leaves[index], index, size, proof, defined(leaves))
    first = index + 1
    proof = consistency_proof(first, size, over)
    assert proof == subproof(first, leaves, True)
    assert verify_consistency(first, size, proof, defined(leaves[:first]), defined(leaves))


@given(st.data())
def test_nothing_else_is_proved(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, len(LEAVES)))
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1).filter(lambda each: each != index))
    whole = over(0, size)
    proof = inclusion_proof(index, size, over)
    assert not verify_inclusion(LEAVES[other], index, size, proof, whole)
    assert not verify_inclusion(LEAVES[index], other, size, proof, whole)
    assert not verify_inclusion(LEAVES[index], index, size, [*proof, EMPTY], whole)
    assert not verify_inclusion(LEAVES[index], index, size, proof[:-1], whole)
    at = data.draw(st.integers(0, len(proof) - 1))
    assert not verify_inclusion(
        LEAVES[index], index, size, [*proof[:at], node_hash(proof[at], EMPTY), *proof[at + 1 :]], whole
    )
    if index:
        rewritten = defined([EMPTY, *LEAVES[1:size]])
        assert not verify_consistency(index, size, consistency_proof(index, size, over), over(0, index), rewritten)
