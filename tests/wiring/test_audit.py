"""The journal is proved wherever it lies, by several processes; and `daicho serve` signs by itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from access.decide import Actor
from core.clock import FixedClock
from core.ids import RandomIds
from core.settings import load
from records import proofs
from records.audit import newest_kept, sign_checkpoint
from records.operation import note_alone
from records.proofs import verify
from records.stores import Stores
from search.memory import MemoryIndex
from storage.keys import create_keys
from storage.memory import MemoryKeys
from storage.notes import Signer
from storage.tiles import LogFolder
from tests.house import NOW, House
from tests.servers.running import S3Server
from web import serve
from wiring.audit import log_folder, make_checkpoint
from wiring.engines import create_store, open_journal, open_store

NOBODY = Actor("", "cli")


def test_a_journal_on_s3_is_proved(
    minio: S3Server, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "FEW", 0)
    monkeypatch.setattr(proofs, "AT_ONCE", 5)
    settings = replace(load(tmp_path / "data", environment={}), store_engine=minio.new())
    create_store(settings, "s-memory")
    store = open_store(settings)
    for number, segment in house.stores.journal.segments():
        store.journal.append(number, segment)
    index, keys = MemoryIndex(), MemoryKeys()
    stores = Stores(
        store.id, store.objects, keys, store.journal, store.derivatives, index, FixedClock(NOW), RandomIds()
    )
    for _ in range(12):
        note_alone(stores, house.officer, "history_viewed")
    signer, log = Signer("daicho/s-memory", bytes(32)), LogFolder(tmp_path / "log")
    note = sign_checkpoint(stores, NOBODY, log, signer).note
    notes = [("elsewhere", note.encode())]
    for jobs in (1, 2):
        done = verify(partial(open_journal, settings), log, notes, [signer.verifier], jobs=jobs)
        assert done.faults == []
        assert (done.segments, done.proven) == (store.journal.last(), done.entries - 1)


@pytest.mark.parametrize("key", ["whole", "damaged"])
def test_serving_signs_now_and_then(key: str, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(tmp_path / "data", environment={})
    settings.data.mkdir()
    create_keys(settings.keys, house.stores.id)
    first = make_checkpoint(settings, house.stores, NOBODY)
    note_alone(house.stores, house.officer, "history_viewed")
    if key == "damaged":  # it goes on serving, and says so in the log
        (settings.keys / "log.key").write_bytes(b"")
    ended = Event()
    monkeypatch.setattr(serve, "SIGN_EVERY", 0.01)
    monkeypatch.setattr(serve.queries, "let_go", ended.set)  # the end of the first round
    serve._keep_signed(settings, house.stores, ended)
    kept = newest_kept()
    assert kept is not None
    if key == "damaged":
        assert kept == first
        return
    assert kept.said.size > first.said.size and log_folder(settings).read("checkpoint") == kept.note.encode()
    assert verify(lambda: house.stores.journal, log_folder(settings)).faults == []
