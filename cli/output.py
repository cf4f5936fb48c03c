"""What the command line prints: plain lines for people, one JSON object a line with `--json`, coded messages in both languages."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from core import logs
from core.errors import DaichoError


class Output:
    """Prints in one of two ways. `language` chooses the words of people's lines; messages of errors come in both."""

    def __init__(self, as_json: bool, language: str) -> None:
        self.as_json = as_json
        self.language = language
        self._bar: Any = None
        self._step = ""

    def row(self, value: dict[str, Any], line: str) -> None:
        """One thing: as JSON, or as the line."""
        click.echo(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")) if self.as_json else line)

    def say(self, ja: str, en: str) -> None:
        """A word to people on the side (standard error with `--json`)."""
        click.echo(self.word(ja, en), err=self.as_json)

    def word(self, ja: str, en: str) -> str:
        return en if self.language == "en" else ja

    def label(self, label: dict[str, str]) -> str:
        return label.get(self.language) or label["ja"]

    def error(self, error: DaichoError, file: str = "", page: int = 0, part: str = "") -> None:
        """A coded message in Japanese and English on standard error; with `--json` also as an object on standard output.

        Args:
            file, page: what it is about, where everything else goes on (page 0: the whole file).
            part: of the installation, where others are asked too.
        """
        logs.coded(error)
        if self.as_json:
            told = {"file": file, "page": page, "part": part}
            about: dict[str, Any] = {name: value for name, value in told.items() if value}
            click.echo(json.dumps({**about, "error": error.code, "ja": error.ja, "en": error.en}, ensure_ascii=False))
        name = f"{file} p.{page}: " if page else f"{file}: " if file else ""
        click.echo(f"[{error.code}] {name}{error.ja}\n[{error.code}] {name}{error.en}", err=True)

    def progress(self, step: str, done: int, total: int) -> None:
        """A progress bar on a terminal, a line now and then elsewhere (always on standard error)."""
        if total == 0:
            return
        if sys.stderr.isatty():
            self._draw(step, done, total)
        elif done == total or done % max(1, total // 10) == 0:
            click.echo(f"{self.word(*STEPS.get(step, (step, step)))} {done}/{total}", err=True)

    def _draw(self, step: str, done: int, total: int) -> None:
        width = 30
        full = width * done // total
        bar = "█" * full + "░" * (width - full)
        click.echo(f"\r{self.word(*STEPS.get(step, (step, step)))} {bar} {done}/{total} ", err=True, nl=done == total)


STEPS = {
    "copy": ("保管庫を写しています", "Copying the store"),
    "keys": ("鍵を包み直しています", "Wrapping keys anew"),
    "locks": ("ロックを延ばしています", "Lengthening locks"),
    "survey": ("ページとコードを見ています", "Looking at pages and codes"),
    "read": ("読み取って封印しています", "Reading and sealing"),
    "text": ("ページ全体の文字を読んでいます", "Reading whole pages"),
    "verify": ("確かめています", "Verifying"),
    "rebuild": ("作り直しています", "Rebuilding"),
    "check": ("記録があるか確かめています", "Looking whether all is there"),
}
