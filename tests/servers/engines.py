"""A file that names three engines, as `daicho demo --engines FILE` reads it."""

from __future__ import annotations

from pathlib import Path

from core.settings import ElasticsearchSettings, PostgresSettings, S3Settings, Settings, engines_toml


def write_engines(file: Path, store: S3Settings, catalogue: PostgresSettings, index: ElasticsearchSettings) -> Path:
    """Write the tables of these engines; the file holds passwords and is readable by us alone (0600). Returns it."""
    settings = Settings(
        data=file.parent,
        keys=file.parent,
        language="ja",
        person="",
        host="",
        port=0,
        jobs=1,
        store_engine=store,
        catalogue_engine=catalogue,
        index_engine=index,
    )
    file.touch(0o600)
    file.chmod(0o600)
    file.write_text(engines_toml(settings), "utf-8")
    return file
