"""Settings: one commented TOML file in the data folder, the environment over the file. Every field is described in docs/settings.md."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.errors import BadInput

FILE = "daicho.toml"

TEMPLATE = """\
# daicho の設定 / settings of this installation. 環境変数が優先 / the environment wins (DAICHO_LANGUAGE, DAICHO_PERSON …).

# 画面とメッセージの言語 / language of messages: "ja", "en"
language = "ja"

# コマンドを実行する人のログイン名 / login of the person on whose behalf commands act (--as wins)
person = "{person}"

# ウェブ画面の待受 / where the web pages are served (loopback only unless a reverse proxy stands before it)
host = "127.0.0.1"
port = 8321

# 読取りの並列数。0 は CPU の数 / worker processes of an ingest; 0 is one a core
jobs = 0
"""


@dataclass(frozen=True)
class Settings:
    """Where an installation lives and how it behaves.

    `data`: the data folder. `keys`: the key folder (beside the data folder unless told). `language`: "ja" or "en". `person`: login on whose
    behalf the command line acts. `host`, `port`: of the web pages. `jobs`: worker processes of an ingest, at least 1.
    """

    data: Path
    keys: Path
    language: str
    person: str
    host: str
    port: int
    jobs: int

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
    data: Path | None = None, keys: Path | None = None, environment: Mapping[str, str] = os.environ, **told: str | None
) -> Settings:
    """Settings from what was told, else the environment, else the file, else the defaults.

    Args:
        data, keys: folders given on the command line.
        told: `language` or `person` given on the command line.

    Raises:
        BadInput: the file is not TOML, or a value does not fit.
    """
    folder = (data or Path(environment.get("DAICHO_DATA", "daicho-data"))).absolute()
    file = folder / FILE
    written: dict[str, object] = {}
    if file.is_file():
        try:
            written = tomllib.loads(file.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadInput(
                f"設定ファイル {file} を読めません（{error}）。直してから、もう一度実行してください。",
                f"The settings file {file} cannot be read ({error}). Mend it and run the command again.",
                code="settings.broken",
            ) from error

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
    )
