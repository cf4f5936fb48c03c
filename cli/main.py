"""The `daicho` command. Each command is a door: `access/doors.py` says what is decided there before it runs."""

from __future__ import annotations

import atexit
import errno
import functools
import gc
import importlib
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from access.doors import COMMANDS
from cli.output import Output
from core import logs
from core.errors import BadInput, DaichoError, NotFound, NotPermitted, StorageFailed, StorageFull
from core.settings import Settings, load

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Invocation:
    """What a command is run with. Stores and actor are opened when the command asks for them."""

    settings: Settings
    out: Output

    @functools.cached_property
    def stores(self) -> Any:
        from wiring.open import open_installation

        return open_installation(self.settings)

    @functools.cached_property
    def unindexed(self) -> Any:
        """Stores whose index is about to be made again, or not asked."""
        from wiring.open import open_installation

        return open_installation(self.settings, index=False)

    @functools.cached_property
    def suspect(self) -> Any:
        """Stores without their index, opened also where catalogue and journal contradict each other."""
        from wiring.open import open_installation

        return open_installation(self.settings, index=False, suspect=True)

    @functools.cached_property
    def actor(self) -> Any:
        from access.decide import Actor
        from records.found import person_by_login

        assert self.stores is not None
        return Actor(person_by_login(self.settings.person), "cli")

    def end(self) -> None:
        """When the result has been told: give the index what the command changed, and let go of the catalogue, which SQLite then leaves as one file."""
        if (queries := sys.modules.get("records.queries")) is None:
            return
        try:
            try:
                stores = vars(self).get("stores")
                if stores is not None and stores.outbox.waits.is_set():
                    from records.indexing import feed

                    feed(stores)  # where that fails, whoever opens the installation next does
            finally:
                queries.let_go()
        except (Exception, KeyboardInterrupt) as error:
            logs.raised(error)


COMMON = (
    click.option("--data", type=click.Path(path_type=Path), help="データフォルダー / data folder (DAICHO_DATA)"),
    click.option("--keys", type=click.Path(path_type=Path), help="鍵フォルダー / key folder (DAICHO_KEYS)"),
    click.option("--as", "person", metavar="LOGIN", help="だれとして行うか / on whose behalf (DAICHO_PERSON)"),
    click.option("--language", type=click.Choice(["ja", "en"]), help="言葉 / language (DAICHO_LANGUAGE)"),
    click.option("--json", "as_json", is_flag=True, help="1 行に 1 つの JSON / one JSON object a line"),
)
"""Options that every command takes, also before the command's name."""


def common(function: F) -> F:
    for option in reversed(COMMON):
        function = option(function)
    return function


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option("0.1.0", prog_name="daicho")
@common
@click.pass_context
def daicho(context: click.Context, **told: Any) -> None:
    """台帳: 紙の台帳を、探せて、信じられて、時が来れば廃棄できる記録にします。

    Turns paper ledgers into records that can be found, trusted and disposed of.
    """
    context.obj = told


def command(group: click.Group, name: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command that takes the common options and gets an `Invocation` first; its errors become coded messages and exit codes.

    A command that `access/doors.py` does not list cannot be made.
    """

    def made(function: Callable[..., None]) -> click.Command:
        full = name if group is daicho else f"{group.name} {name}"
        decision = COMMANDS[full]

        @group.command(name, help=function.__doc__)
        @common
        @click.pass_context
        @functools.wraps(function)
        @_logged(full)
        def run(context: click.Context, /, **options: Any) -> None:
            above = context.find_root().obj or {}
            told = {
                key: options.pop(key) or above.get(key) for key in ("data", "keys", "person", "language", "as_json")
            }
            out = Output(bool(told["as_json"]), told["language"] or os.environ.get("DAICHO_LANGUAGE") or "ja")
            invocation: Invocation | None = None
            try:
                settings = load(
                    told["data"],
                    told["keys"],
                    engines=options.pop("engines", None),
                    language=told["language"],
                    person=told["person"],
                )
                out.language = settings.language
                logs.begin(settings.log)
                invocation = Invocation(settings, out)
                context.call_on_close(invocation.end)
                if decision != "anyone":
                    from wiring.setup import set_up

                    set_up(settings)
                if decision not in ("anyone", "installation"):
                    _admit(invocation, decision)
                function(invocation, **options)
            except DaichoError as error:
                known = error
                if invocation is not None and decision not in ("anyone", "installation"):
                    known = _refused(invocation, full, error, options)
                out.error(known)
                raise SystemExit(known.exit_code) from None
            except BrokenPipeError:  # whoever read our lines has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise SystemExit(141) from None
            except (OSError, sqlite3.Error) as error:
                logs.failed(error)
                known = _known(error)
                out.error(known)
                raise SystemExit(known.exit_code) from None
            except KeyboardInterrupt:
                out.say(
                    "中断しました。同じコマンドで続きから行えます。",
                    "Interrupted. The same command goes on where it stopped.",
                )
                raise SystemExit(130) from None
            except Exception as error:
                if os.environ.get("DAICHO_DEBUG"):
                    raise
                logs.failed(error)
                known = _known(error)
                out.error(known)
                raise SystemExit(known.exit_code) from None

        return run

    return made


@contextmanager
def _logged(name: str) -> Iterator[None]:
    """A line in the log when the command has ended: how, and how long it took."""
    begun, status = time.monotonic(), 0
    with logs.request():
        try:
            yield
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
            raise
        finally:
            logs.write("command", name=name, status=status, ms=(time.monotonic() - begun) * 1000)


def _admit(invocation: Invocation, decision: str) -> None:
    """The door's decision: a known person; for `administrator`, one that is; what a ledger right covers is decided inside."""
    from access.decide import require_administrator

    actor = invocation.actor
    if decision == "administrator":
        require_administrator(actor)


def _refused(run: Invocation, door: str, error: DaichoError, options: dict[str, Any]) -> DaichoError:
    """The error to be told. A refusal is journalled first, what is not there and what may not be known of alike; where it cannot be, why."""
    if not isinstance(error, NotFound | NotPermitted):
        return error
    from access.decide import Actor
    from records.operation import note_refusal

    asked = " ".join(str(value) for value in options.values() if isinstance(value, str))
    try:
        try:
            actor = run.actor
        except NotFound:  # nobody has the login that was given
            actor, asked = Actor("", "cli"), run.settings.person
        note_refusal(run.stores, actor, door, error, asked)
    except DaichoError as failed:
        return failed
    return error


def _known(error: BaseException) -> DaichoError:
    """An error of the machine or of the database as one of ours; nothing of its text is shown, since it may quote data."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return full()
        if isinstance(cause, sqlite3.OperationalError) and (
            "full" in str(cause) or getattr(cause, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE
        ):
            return (
                full()
            )  # the second: no room for the 32 KiB that it shares between processes, which it calls an I/O error
        if isinstance(cause, OSError) and cause.errno == errno.EIO:
            return failed()
        if isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_DISK:
            return failed()
        # Django's migrations do not say `from`.
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    name = type(error).__name__
    return DaichoError(
        f"思わぬ失敗（{name}）です。もう一度試し、続くときは DAICHO_DEBUG=1 を付けた出力を保守担当へ送ってください。",
        f"Unexpected failure ({name}). Try again; if it stays, send support what it prints with DAICHO_DEBUG=1.",
    )


_SQLITE_DISK = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""What SQLite answers when the disk does not; the extended codes have these in their low byte."""


def failed() -> StorageFailed:
    return StorageFailed(
        "ディスクの読み書きに失敗しました。ディスクを確かめてから、同じコマンドをもう一度実行してください。確定済みのものは無事です。",
        "Reading or writing the disk failed. Check the disk and run the same command again; what was acknowledged is safe.",
    )


def full() -> StorageFull:
    return StorageFull(
        "ディスクがいっぱいです。空きを作ってから、同じコマンドをもう一度実行してください。封印済みの記録は無事です。",
        "The disk is full. Make room and run the same command again; what was sealed is safe.",
    )


engines_option = click.option(
    "--engines",
    type=click.Path(path_type=Path, dir_okay=False),
    help="保管庫・目録・索引のエンジンを書いたファイル / file that names the engines of store, catalogue and index",
)
"""For the commands that make an installation."""


def pairs(values: tuple[str, ...], option: str) -> dict[str, str]:
    """`item=value` options as a mapping."""
    made = {}
    for value in values:
        name, sign, text = value.partition("=")
        if not sign or not name or not text:
            raise BadInput(
                f"{option} は「項目=値」の形で書いてください。", f"Write {option} as item=value.", code="option.pair"
            )
        made[name] = text
    return made


MODULES = ("cli.commands", "cli.attachments", "cli.locks", "cli.ocfl", "cli.keys", "cli.audit")
"""Where the commands are."""


def load_commands() -> None:
    """Make every command known."""
    for module in MODULES:
        importlib.import_module(module)


def main() -> None:
    """Entry point of the `daicho` command."""
    # What a start makes stays: looking through it for what could go, now and at the end, takes a fourth of a short command.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    load_commands()

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
        sys.stderr.reconfigure(encoding="utf-8")
    daicho(prog_name="daicho")


def program_left_out() -> list[str]:
    """Optional programs and libraries that this machine lacks, a bilingual line each; the work goes on without them."""
    left = []
    if shutil.which("tesseract") is None:
        left.append("tesseract（第二の読み手 / second opinion）: apt install tesseract-ocr tesseract-ocr-jpn")
    if shutil.which("pdftoppm") is None:
        left.append("poppler（PDF の最後の手段 / last resort for PDF）: apt install poppler-utils")
    if find_library("zbar") is None:
        left.append("zbar（コードの第二の読み手 / second reader of codes）: apt install libzbar0")
    return left
