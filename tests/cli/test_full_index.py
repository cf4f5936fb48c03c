"""A cluster that is full: records are sealed all the same, `info` tells how far the index is behind, and it catches up by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from core.settings import Settings, engines_toml, load
from tests.installed import BATCH, Installation, copied, done
from tests.servers.running import ElasticsearchServer

pytestmark = pytest.mark.slow


def test_what_is_sealed_while_the_index_is_full_is_found_later(
    small: Installation, tmp_path: Path, elasticsearch: ElasticsearchServer
) -> None:
    place, where = copied(small, tmp_path), elasticsearch.new()
    plain = load(place.data, environment={})
    moved = Settings(**{**vars(plain), "index_engine": where})
    (tmp_path / "index.toml").write_text(engines_toml(moved, {}), "utf-8")
    done("migrate", "--to", tmp_path / "index.toml", data=place.data)
    before = done("info", data=place.data)[-1]["index_documents"]
    client = Elasticsearch(elasticsearch.url)

    def full(is_full: bool | None) -> None:
        # What Elasticsearch itself sets when a disk passes the flood stage.
        client.indices.put_settings(
            index=f"{where.name}-*", settings={"index.blocks.read_only_allow_delete": is_full}, expand_wildcards="all"
        )

    full(True)
    page = BATCH / "real-pages" / "digidepo_11048278_po_geppo1803_00021.jpg"
    sealed = done("ingest", page, "--ledger", "whole-pages", "--no-text", "--jobs", "1", data=place.data)[-1]
    assert sealed["balanced"] and sealed["sealed"] == 1
    told = done("info", data=place.data)[-1]
    assert told["index_documents"] == before and told["index_upto"] < told["entries"]
    full(None)
    assert done("info", data=place.data)[-1]["index_documents"] == before + 1
    client.close()
