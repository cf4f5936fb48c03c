"""Serving the web pages from the command line: the address, and passwords that are shown once."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from core.errors import Conflict
from web.serve import serve

if TYPE_CHECKING:
    from cli.main import Invocation


def serve_pages(run: Invocation, stores: Any, port: int | None, passwords: dict[str, str]) -> None:
    """Serve until interrupted; prints the address once the pages answer.

    Args:
        port: None for the settings' one, or a free one when that is taken.

    Raises:
        Conflict: (`serve.port`) the port asked for is taken.
    """

    def ready(url: str) -> None:
        for login, password in passwords.items():
            run.out.row({"login": login, "password": password}, f"    {login:<12} {password}")
        run.out.row(
            {"url": url},
            run.out.word(
                f"画面: {url}  （上のログイン名とパスワードで入れます。もう表示されません。終えるには Ctrl-C）"
                if passwords
                else f"画面: {url}  （終えるには Ctrl-C）",
                f"Pages: {url}  (sign in with a login and password above; they are not shown again. Ctrl-C ends)"
                if passwords
                else f"Pages: {url}  (Ctrl-C ends)",
            ),
        )

    try:
        serve(run.settings, stores, run.settings.port if port is None else port, ready)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        if port is None:
            serve(run.settings, stores, 0, ready)
            return
        raise Conflict(
            f"ポート {port} は使用中です。--port で別の番号（0 は空き）を指定してください。",
            f"Port {port} is taken. Name another with --port (0 for a free one).",
            code="serve.port",
        ) from error
