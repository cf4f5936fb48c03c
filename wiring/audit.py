"""Where the journal's proofs lie: the log's folder beside the catalogue, the signing key in the key folder."""

from __future__ import annotations

from access.decide import Actor
from core.settings import FolderSettings, Settings
from records.audit import Kept, sign_checkpoint, the_signer
from records.stores import Stores
from storage.readonly import read_only
from storage.tiles import LogFolder


def log_folder(settings: Settings) -> LogFolder:
    """The log's tiles: a projection of the journal, in the data folder."""
    return LogFolder(settings.data / "log")


def make_checkpoint(settings: Settings, stores: Stores, actor: Actor, *, new_key: bool = False) -> Kept:
    """Sign a checkpoint of the whole journal; errors as `records.audit.the_signer` and `sign_checkpoint`, and `store.read_only`."""
    if isinstance(settings.store_engine, FolderSettings):
        raise read_only()  # before a signing key is made in a key folder that is not ours
    return sign_checkpoint(stores, actor, log_folder(settings), the_signer(stores, settings.keys, new=new_key))
