"""What PostgreSQL and its driver say went wrong, as our errors. By SQLSTATE alone: texts come in the server's language."""

from __future__ import annotations

import psycopg
from django.db.utils import OperationalError

from core.errors import BadInput, Busy, DaichoError, NotReady, StorageFull, Unreachable
from core.settings import PostgresSettings


class _Unreachable(Unreachable, OperationalError):
    pass


class _Full(StorageFull, OperationalError):
    pass


class _Busy(Busy, OperationalError):
    pass


BOTH: dict[type[DaichoError], type[DaichoError]] = {Unreachable: _Unreachable, StorageFull: _Full, Busy: _Busy}
"""What a commit or a rollback may end with is Django's error too: Django drops the connection after its own alone."""


def for_django(error: DaichoError) -> DaichoError:
    """The error as Django must see it."""
    kind = BOTH.get(type(error), type(error))
    return kind(error.ja, error.en, code=error.code)


def unreachable() -> Unreachable:
    return Unreachable(
        "目録のデータベースサーバー（PostgreSQL）が応答しません。サーバーとネットワークを確かめ、同じ操作をもう一度行ってください。受け付けた記録は無事です。",
        "The catalogue's database server (PostgreSQL) does not answer. Check the server and the network and do the same again; what was acknowledged is safe.",
        code="catalogue.unreachable",
    )


def credentials() -> NotReady:
    return NotReady(
        "目録のデータベースサーバーが接続か操作を許しません。設定 [catalogue] の利用者名とパスワード、サーバーの pg_hba.conf と権限を確かめてください。",
        "The catalogue's database server does not let us in, or not do this. Check names and passwords of [catalogue] in the settings, and the server's pg_hba.conf and rights.",
        code="catalogue.credentials",
    )


def unsuitable(ja: str, en: str) -> NotReady:
    """The server or database is not fit; the two texts say why and what to do."""
    return NotReady(
        f"目録のデータベースはこのままでは使えません。{ja}",
        f"The catalogue's database cannot be used as it is. {en}",
        code="catalogue.unsuitable",
    )


def no_database(where: PostgresSettings) -> NotReady:
    line = database_line(where)
    return unsuitable(
        f"データベース {where.database} がありません。サーバーの管理者が次の行で作ります: {line}",
        f"There is no database {where.database}. An administrator of the server makes it with: {line}",
    )


def no_encryption() -> NotReady:
    return unsuitable(
        "サーバーと暗号化した接続を結べません。設定 [catalogue] の sslmode と ca、サーバーの証明書を確かめてください。",
        "An encrypted connection to the server cannot be made. Check sslmode and ca of [catalogue] in the settings, and the server's certificate.",
    )


def in_use() -> Busy:
    return Busy(
        "ほかの daicho が動いています。終わるのを待つか、`daicho serve` を止めてから、もう一度実行してください。",
        "Another daicho is at work here. Wait for it, or stop `daicho serve`, and run the command again.",
        code="installation.in_use",
    )


def translated(error: psycopg.Error) -> DaichoError | None:
    """Our error for one of the driver's; None where it stays Django's."""
    if error.sqlstate is not None:
        return of_state(error.sqlstate)
    if isinstance(error, psycopg.OperationalError):
        return unreachable()
    # The driver itself refuses U+0000, which no text of PostgreSQL can hold.
    return _bad_text() if isinstance(error, psycopg.DataError) else None


def of_state(state: str) -> DaichoError | None:
    """Our error for an SQLSTATE; None for those that callers do not treat differently."""
    if state in GONE or state.startswith("08"):
        return unreachable()
    if state in REFUSED:
        return credentials()
    if state in FULL:
        return StorageFull(
            "目録のデータベースサーバーのディスクがいっぱいです。空きを作ってから、同じ操作をもう一度行ってください。受け付けた記録は無事です。",
            "The disk of the catalogue's database server is full. Make room and do the same again; what was acknowledged is safe.",
        )
    if state in BUSY:
        return Busy(
            "ほかの書き込みが終わりません。しばらくしてから、同じ操作をもう一度行ってください。",
            "Another write does not end. Do the same again in a while.",
        )
    return _bad_text() if state in ("22021", "22P05") else None


GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "57014", "25P03", "25006", "53300"})
"""Shut down, crashed, starting up, idle or cancelled by the administrator's limits, a standby, no connection left."""

REFUSED = frozenset({"28000", "28P01", "42501"})
"""Wrong name or password, not in pg_hba.conf, no right."""

FULL = frozenset({"53100"})

BUSY = frozenset({"55P03", "40001", "40P01"})
"""Waited too long for a lock, or lost against another transaction."""


def _bad_text() -> BadInput:
    return BadInput(
        "目録に書けない文字（U+0000 など）があります。取り除いてください。",
        "There is a character that the catalogue cannot hold, such as U+0000. Remove it.",
    )


def database_line(where: PostgresSettings) -> str:
    """The statement with which an administrator makes the database."""
    return (
        f"CREATE DATABASE {where.database} OWNER {where.owner} "
        "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;"
    )
