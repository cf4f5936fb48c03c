"""Engines in the settings: read, overruled by the environment, refused when wrong, written back as they were."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from core.errors import BadInput
from core.settings import FILE, ElasticsearchSettings, PostgresSettings, S3Settings, engines_toml, load

ENGINES = """
[store]
engine = "s3"
endpoint = "https://store.example:9000"
bucket = "daicho"
access_key = "app"
secret_key = "from the \\"file\\""
lock_days = 70

[catalogue]
engine = "postgresql"
host = "db.example"
database = "daicho"
user = "app"
password = "p"
owner = "owner"
owner_password = "o"

[index]
engine = "elasticsearch"
url = "http://one:9200,http://two:9200"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "engines.toml"
    place.write_text(ENGINES, "utf-8")
    return place


def test_without_tables_everything_is_embedded(tmp_path: Path) -> None:
    settings = load(tmp_path, environment={})
    assert (settings.store_engine, settings.catalogue_engine, settings.index_engine) == (None, None, None)
    assert engines_toml(settings) == ""


def test_engines_are_read_and_written_back_the_same(tmp_path: Path, file: Path) -> None:
    settings = load(tmp_path, environment={}, engines=file)
    assert settings.store_engine == S3Settings(
        "https://store.example:9000", "daicho", "app", 'from the "file"', lock_days=70
    )
    assert settings.catalogue_engine == PostgresSettings("db.example", "daicho", "app", "p", "owner", "o")
    assert settings.index_engine == ElasticsearchSettings("http://one:9200,http://two:9200")
    (tmp_path / FILE).write_text(engines_toml(settings), "utf-8")
    assert load(tmp_path, environment={}) == settings


def test_the_environment_wins_and_secrets_are_not_shown(tmp_path: Path, file: Path) -> None:
    environment = {"DAICHO_STORE_SECRET_KEY": "hidden-one", "DAICHO_CATALOGUE_PORT": "6543"}
    settings = load(tmp_path, environment=environment, engines=file)
    assert settings.store_engine is not None and settings.store_engine.secret_key == "hidden-one"
    assert settings.catalogue_engine is not None and settings.catalogue_engine.port == 6543
    assert "hidden-one" not in repr(settings) and "owner_password" not in repr(settings)


def test_what_the_environment_gave_is_not_written(tmp_path: Path, file: Path) -> None:
    file.write_text(ENGINES.replace('password = "p"\n', ""), "utf-8")
    environment = {"DAICHO_CATALOGUE_PASSWORD": "only-in-the-environment"}
    text = engines_toml(load(tmp_path, environment=environment, engines=file), environment)
    assert "only-in-the-environment" not in text and "owner_password" in text
    (tmp_path / FILE).write_text(text, "utf-8")
    assert (
        load(tmp_path, environment=environment).catalogue_engine
        == load(tmp_path, environment=environment, engines=file).catalogue_engine
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('engine = "s3"', 'engine = "tape"'),
        ('bucket = "daicho"', ""),
        ("lock_days = 70", 'lock_days = "many"'),
        ("lock_days = 70", "lock_days = 0"),
        ("lock_days = 70", "lock_days = 30"),
        ("lock_days = 70", 'lock_mode = "WISH"'),
        ('host = "db.example"', "host = 5"),
        ('host = "db.example"', 'host = "db.example"\nhots = "x"'),
        ("lock_days = 70", "timeout = 0"),
        ('url = "http://one:9200,http://two:9200"', 'url = "http://user:word@one:9200"'),
        ("[index]", "[index"),
        ('engine = "elasticsearch"', ""),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, file: Path, before: str, after: str) -> None:
    assert before in ENGINES
    file.write_text(ENGINES.replace(before, after), "utf-8")
    with pytest.raises(BadInput) as caught:
        load(tmp_path, environment={}, engines=file)
    assert caught.value.code in ("settings.value", "settings.broken")
    assert "from the" not in caught.value.en


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        load(tmp_path, environment={}, engines=tmp_path / "none.toml")


def test_what_is_written_is_toml(tmp_path: Path, file: Path) -> None:
    tables = tomllib.loads(engines_toml(load(tmp_path, environment={}, engines=file)))
    assert set(tables) == {"store", "catalogue", "index"}
