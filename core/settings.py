"""Settings: one commented TOML file in the data folder, the environment over the file. Every field is described in docs/settings.md."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from core.errors import BadInput

FILE = "daicho.toml"

TEMPLATE = """\
# daicho の設定 / settings of this installation. 環境変数が優先 / the environment wins (DAICHO_LANGUAGE, DAICHO_PERSON …).

# 画面とメッセージの言語 / language of messages: "ja", "en"
language = "ja"

# コマンドを実行する人のログイン名 / login of the person on whose behalf commands act (--as wins)
person = {person}

# ウェブ画面の待受 / where the web pages are served (loopback only unless a reverse proxy stands before it)
host = "127.0.0.1"
port = 8321

# 読取りの並列数。0 は CPU の数 / worker processes of an ingest; 0 is one a core
jobs = 0

# 記録簿の検索語などを保存する年数（年度の翌年度から）。5 以上 / years that search terms in the journal are kept, from the next fiscal year; 5 or more
audit_years = 5

# 鍵の控えを残す日数。廃棄した鍵は、この日数の後に控えからも消える / days for which a copy of the keys is kept; a destroyed key is gone after them
key_backup_days = 30
"""

ENGINES_NOTE = """
# 保管庫・目録・検索索引を置く先。表がなければ、このフォルダーの中（既定）。移すには `daicho migrate`
# Where the store, the catalogue and the index live; without a table, in this folder. `daicho migrate` moves them.
"""


@dataclass(frozen=True)
class S3Settings:
    """A bucket with Object Lock, of any server that speaks S3.

    `endpoint`: `https://host:port` (http on trusted networks alone). `bucket` holds objects and journal, `bucket`-derived what can be made
    again. `lock_mode`: COMPLIANCE or GOVERNANCE; `lock_days`: how long what is sealed is locked at first, and again each time its lock is
    lengthened; `alarm_days`: a lock that ends sooner should have been lengthened long ago. `ca`: file with the certificates to trust.
    `timeout`: seconds without an answer.
    """

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    lock_mode: str = "COMPLIANCE"
    lock_days: int = 60
    alarm_days: int = 30
    ca: str = ""
    timeout: int = 30

    @property
    def derived(self) -> str:
        return f"{self.bucket}-derived"


@dataclass(frozen=True)
class FolderSettings:
    """A store in a folder that is only read: a copy, a backup's `store`, a read-only mount. `path`: that folder."""

    path: str


@dataclass(frozen=True)
class PostgresSettings:
    """A database of PostgreSQL 14 or later, of its own, made with `LC_COLLATE 'C'` and UTF-8.

    `owner` makes tables and alone can change the past; it is used by `init`, `migrate` and `rebuild`. `user` is what everything else runs as.
    `sslmode`, `ca`: as libpq has them. `timeout`: seconds to wait for a connection.
    """

    host: str
    database: str
    user: str
    password: str = field(repr=False)
    owner: str
    owner_password: str = field(repr=False)
    port: int = 5432
    sslmode: str = "prefer"
    ca: str = ""
    timeout: int = 10


@dataclass(frozen=True)
class ElasticsearchSettings:
    """An Elasticsearch 8 cluster.

    `url`: addresses, comma between them. `name`: what names of indices begin with. `user`, `password`: empty for a cluster without. `ca`: file
    with the certificates to trust. `shards`, `replicas`: of a new index. `timeout`: seconds without an answer.
    """

    url: str
    name: str = "daicho"
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    shards: int = 1
    replicas: int = 0
    timeout: int = 10


@dataclass(frozen=True)
class LogSettings:
    """The machine's log (`core/logs.py`). `file`: where it is written, None for nowhere but what `daicho serve` writes to standard error.
    `level`: "info", "warning" or "error".
    """

    file: Path | None = None
    level: str = "info"


@dataclass(frozen=True)
class Settings:
    """Where an installation lives and how it behaves.

    `data`: the data folder. `keys`: the key folder (beside the data folder unless told). `language`: "ja" or "en". `person`: login on whose
    behalf the command line acts. `host`, `port`: of the web pages. `jobs`: worker processes of an ingest, at least 1. `store_engine`,
    `catalogue_engine`, `index_engine`: where these live, None for the data folder. `log`: the machine's log. `key_backup_days`: how long a copy
    of the key folder is kept, at least 1.
    `audit_years`: how long the journal's own personal content (search terms, refused logins) is kept, at least 5 (U-3).
    """

    data: Path
    keys: Path
    language: str
    person: str
    host: str
    port: int
    jobs: int
    store_engine: S3Settings | FolderSettings | None = None
    catalogue_engine: PostgresSettings | None = None
    index_engine: ElasticsearchSettings | None = None
    log: LogSettings = LogSettings()
    key_backup_days: int = 30
    audit_years: int = 5

    @property
    def store(self) -> Path:
        return self.data / "store"

    @property
    def catalogue(self) -> Path:
        return self.data / "catalogue.sqlite3"

    @property
    def index(self) -> Path:
        return self.data / "index"

    @property
    def scratch(self) -> Path:
        return self.data / "scratch"


def load(
    data: Path | None = None,
    keys: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    engines: Path | None = None,
    **told: str | None,
) -> Settings:
    """Settings from what was told, else the environment, else the file, else the defaults.

    Args:
        data, keys: folders given on the command line.
        engines: a file whose tables `[store]`, `[catalogue]`, `[index]` count instead of those in the settings file: while an
            installation is made or moved.
        told: `language` or `person` given on the command line.

    Raises:
        BadInput: the file is not TOML, or a value does not fit.
    """
    folder = (data or Path(environment.get("DAICHO_DATA", "daicho-data"))).absolute()
    file = folder / FILE
    written = _parsed(file) if file.is_file() else {}
    tables = _parsed(engines) if engines else written

    def value(name: str, default: str) -> str:
        return str(told.get(name) or environment.get(f"DAICHO_{name.upper()}") or written.get(name) or default)

    def number(name: str, default: int, low: int, high: int) -> int:
        text = value(name, str(default))
        if not text.isdigit() or not low <= int(text) <= high:
            raise BadInput(
                f"設定 {name} の値「{text}」が正しくありません。{low} から {high} までの整数にしてください。",
                f'The setting {name} is "{text}"; give a whole number from {low} to {high}.',
                code="settings.value",
            )
        return int(text)

    language = value("language", "ja")
    if language not in ("ja", "en"):
        raise BadInput(
            f"設定 language の値「{language}」が正しくありません。ja か en にしてください。",
            f'The setting language is "{language}"; give ja or en.',
            code="settings.value",
        )
    told_keys = keys or (Path(environment["DAICHO_KEYS"]) if environment.get("DAICHO_KEYS") else None)
    jobs = number("jobs", 0, 0, 256)
    return Settings(
        data=folder,
        keys=(told_keys or folder.with_name(folder.name + "-keys")).absolute(),
        language=language,
        person=value("person", "officer"),
        host=value("host", "127.0.0.1"),
        port=number("port", 8321, 0, 65535),
        jobs=jobs or os.cpu_count() or 1,
        store_engine=_store_engine(tables, environment),
        catalogue_engine=_engine(PostgresSettings, "catalogue", "postgresql", tables, environment),
        index_engine=_engine(ElasticsearchSettings, "index", "elasticsearch", tables, environment),
        log=_log(folder, written.get("log"), environment),
        audit_years=number("audit_years", 5, 5, 100),
        key_backup_days=number("key_backup_days", 30, 1, 3650),
    )


def _log(folder: Path, written: object, environment: Mapping[str, str]) -> LogSettings:
    """The table `[log]`; a path in it is meant from the data folder."""
    table = {} if written is None else written
    if not isinstance(table, dict) or not set(table) <= {"file", "level"}:
        raise BadInput(
            "設定 [log] に書けるのは file と level だけです。名前を確かめてください。",
            "[log] in the settings can hold file and level alone. Check the names.",
            code="settings.value",
        )
    file = environment.get("DAICHO_LOG_FILE") or table.get("file") or ""
    level = environment.get("DAICHO_LOG_LEVEL") or table.get("level") or LogSettings.level
    if not isinstance(file, str) or level not in LOG_LEVELS:
        raise BadInput(
            f"設定 [log] の file は文字列、level は {'・'.join(LOG_LEVELS)} のどれかにしてください。",
            f"In [log] of the settings, file is a string and level one of {', '.join(LOG_LEVELS)}.",
            code="settings.value",
        )
    return LogSettings(folder / file if file else None, level)


def engines_toml(settings: Settings, environment: Mapping[str, str] = os.environ) -> str:
    """The tables of the settings' engines, as the settings file has them; "" when all is embedded.

    What the environment gave is not written: whoever keeps a password there does not want it in a file.
    """
    parts = []
    for table, name, engine in (
        ("store", "folder" if isinstance(settings.store_engine, FolderSettings) else "s3", settings.store_engine),
        ("catalogue", "postgresql", settings.catalogue_engine),
        ("index", "elasticsearch", settings.index_engine),
    ):
        if engine is not None:
            rows = {"engine": name} | {
                each.name: getattr(engine, each.name)
                for each in fields(engine)
                if not environment.get(_variable(table, each.name))
            }
            # A JSON string is a TOML string.
            parts.append(f"\n[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items()))
    return ENGINES_NOTE + "".join(parts) if parts else ""


_Engine = TypeVar("_Engine", S3Settings, FolderSettings, PostgresSettings, ElasticsearchSettings)


def _store_engine(tables: Mapping[str, Any], environment: Mapping[str, str]) -> S3Settings | FolderSettings | None:
    """The one engine of which there are two kinds."""
    written = tables.get("store")
    if isinstance(written, dict) and written.get("engine") == "folder":
        return _engine(FolderSettings, "store", "folder", tables, environment)
    return _engine(S3Settings, "store", "s3", tables, environment)


def _engine(
    kind: type[_Engine], table: str, name: str, tables: Mapping[str, Any], environment: Mapping[str, str]
) -> _Engine | None:
    """The engine of a table; None where the table is missing or names no engine."""
    written = tables.get(table)
    if not written:
        return None
    if not isinstance(written, dict) or written.get("engine") != name:
        raise BadInput(
            f"設定 [{table}] の engine は「{name}」だけです。直すか、表を消してください。",
            f'The engine of [{table}] in the settings can only be "{name}". Correct it, or remove the table.',
            code="settings.value",
        )
    values: dict[str, Any] = {}
    known = {each.name: each for each in fields(kind)}
    for unknown in sorted(set(written) - set(known) - {"engine"}):
        raise BadInput(
            f"設定 [{table}] に知らない項目「{unknown}」があります。名前を確かめてください。",
            f'[{table}] in the settings has an unknown field "{unknown}". Check its name.',
            code="settings.value",
        )
    for each in known.values():
        value = environment.get(_variable(table, each.name)) or written.get(each.name)
        whole = each.type == "int"
        if value is None and each.default is not MISSING:
            continue
        if value is None or (whole and not str(value).isdigit()) or (not whole and not isinstance(value, str)):
            raise BadInput(
                f"設定 [{table}] の {each.name} がないか、正しくありません。{'整数' if whole else '文字列'}で書いてください。",
                f"{each.name} of [{table}] in the settings is missing or wrong; give a {'whole number' if whole else 'string'}.",
                code="settings.value",
            )
        low, high = RANGES.get(each.name, (0, 0))
        if (whole and not low <= int(value) <= high) or (each.name in ("url", "endpoint") and "@" in value):
            raise BadInput(
                f"設定 [{table}] の {each.name} が正しくありません（数は {low} から {high} まで。アドレスに利用者名とパスワードは書けません）。",
                f"{each.name} of [{table}] in the settings does not fit (numbers from {low} to {high}; no user or password in an address).",
                code="settings.value",
            )
        values[each.name] = int(value) if whole else value
    engine = kind(**values)
    if isinstance(engine, S3Settings) and (engine.lock_mode not in LOCK_MODES):
        raise BadInput(
            "設定 [store] の lock_mode は COMPLIANCE か GOVERNANCE にしてください。",
            "In [store] of the settings, lock_mode is COMPLIANCE or GOVERNANCE.",
            code="settings.value",
        )
    if isinstance(engine, S3Settings) and engine.alarm_days >= engine.lock_days:
        raise BadInput(
            "設定 [store] の lock_days は alarm_days より大きくしてください。そうでないと、延ばしたばかりのロックにも警報が出ます。",
            "In [store] of the settings, lock_days must be more than alarm_days; else a lock just lengthened would raise the alarm.",
            code="settings.value",
        )
    return engine


def _variable(table: str, field_name: str) -> str:
    return f"DAICHO_{table}_{field_name}".upper()


LOCK_MODES = ("COMPLIANCE", "GOVERNANCE")
LOG_LEVELS = ("info", "warning", "error")
RANGES = {
    "timeout": (1, 600),
    "lock_days": (2, 3650),
    "alarm_days": (1, 3649),
    "port": (1, 65535),
    "shards": (1, 100),
    "replicas": (0, 10),
}
"""Lowest and highest of the whole numbers in the tables of engines."""


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            f"設定ファイル {file} を読めません（{error}）。直してから、もう一度実行してください。",
            f"The settings file {file} cannot be read ({error}). Mend it and run the command again.",
            code="settings.broken",
        ) from error
