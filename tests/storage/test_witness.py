"""A witness takes what continues, and nothing else; what it has is never changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import DaichoError
from storage.merkle import RootOf, leaf_hash, root
from storage.notes import Checkpoint, Signer
from storage.tiles import PUBLIC_KEY
from storage.witness import witness

KEY = Signer("daicho/s-one", bytes(range(32)))
LEAVES = [leaf_hash(str(number).encode()) for number in range(40)]
FORGED = [*LEAVES[:3], leaf_hash(b"forged"), *LEAVES[4:]]


def over(leaves: list[bytes]) -> RootOf:
    return lambda begin, end: root(leaves[begin:end])


def note(size: int, leaves: list[bytes] = LEAVES, key: Signer = KEY) -> str:
    return key.sign(Checkpoint(key.name, size, root(leaves[:size])).text())


def show(folder: Path, size: int, leaves: list[bytes] = LEAVES, key: Signer = KEY) -> int:
    return witness(folder, note(size, leaves, key), key.verifier, over(leaves)).checkpoints


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_takes_what_continues_and_keeps_all(tmp_path: Path) -> None:
    assert [show(tmp_path, size) for size in (5, 5, 9, 40, 40)] == [1, 1, 2, 3, 3]
    assert files(tmp_path) == {
        PUBLIC_KEY: f"{KEY.verifier}\n".encode(),
        **{f"checkpoint-{size:012d}.txt": note(size).encode() for size in (5, 9, 40)},
    }


@pytest.mark.parametrize(
    ("told", "work"),
    [
        ("witness.rolled_back", lambda folder: show(folder, 8)),
        ("witness.forked", lambda folder: show(folder, 9, FORGED)),
        ("witness.forked", lambda folder: show(folder, 20, FORGED)),
        ("witness.other_log", lambda folder: show(folder, 20, key=Signer("daicho/s-two", bytes(32)))),
        ("witness.other_key", lambda folder: show(folder, 20, key=Signer("daicho/s-one", bytes(32)))),
        ("witness.missing", lambda folder: show(folder / "nowhere", 20)),
        ("note.unsigned", lambda folder: witness(folder, note(20), Signer("x", bytes(32)).verifier, over(LEAVES))),
    ],
)
def test_it_refuses_everything_else_and_changes_nothing(
    told: str, work: Callable[[Path], object], tmp_path: Path
) -> None:
    show(tmp_path, 9)
    before = files(tmp_path)
    with pytest.raises(DaichoError) as caught:
        work(tmp_path)
    assert caught.value.code == told
    assert files(tmp_path) == before


def test_tiles_that_are_missing_prove_nothing(tmp_path: Path) -> None:
    show(tmp_path, 9)

    def gone(begin: int, end: int) -> bytes:
        raise LookupError

    with pytest.raises(DaichoError) as caught:
        witness(tmp_path, note(20), KEY.verifier, gone)
    assert caught.value.code == "witness.forked"


def test_any_flipped_bit_of_what_it_keeps_is_found(tmp_path: Path) -> None:
    show(tmp_path, 9)
    for name in (PUBLIC_KEY, "checkpoint-000000000009.txt"):
        path = tmp_path / name
        whole = path.read_bytes()
        path.chmod(0o600)
        for bit in range(0, 8 * len(whole), 5):
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            path.write_bytes(data)
            with pytest.raises(DaichoError) as caught:
                show(tmp_path, 20)
            assert caught.value.code == "witness.damaged"
        path.write_bytes(whole)
    assert show(tmp_path, 20) == 2
