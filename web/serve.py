"""Serving the pages with waitress, and the installation that this process serves."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from waitress.server import create_server  # type: ignore[import-untyped]

from core.errors import DaichoError
from core.settings import Settings
from records import queries
from records.found import municipality_name
from records.indexing import feed
from records.stores import Stores

THREADS = 4
FEED_EVERY = 5.0
"""Seconds."""
LARGEST_REQUEST = 2**21
"""Bytes; nothing is uploaded through the pages."""


@dataclass(frozen=True)
class _Served:
    settings: Settings
    stores: Stores
    municipality: str


_served: list[_Served] = []


def use(stores: Stores, settings: Settings) -> None:
    """Serve this installation from now on. A process serves one; the last call counts."""
    _served[:] = [_Served(settings, stores, municipality_name())]


def stores() -> Stores:
    """The installation's ports."""
    return _served[0].stores


def settings() -> Settings:
    """The installation's settings."""
    return _served[0].settings


def municipality() -> str:
    """The municipality's name."""
    return _served[0].municipality


def stop() -> None:
    """End the process once the answer has left: after a failed sync nothing on the disk may be believed."""
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()


def _keep_fed(stores: Stores, ended: threading.Event) -> None:
    """Feed the index now and then: what another process wrote, or what waited while the index did not answer."""
    told = ""
    while not ended.wait(FEED_EVERY):
        failed = ""
        try:
            feed(stores)
        except DaichoError as error:
            failed = f"[{error.code}] {error.ja} / {error.en}"
        except Exception as error:  # only its class: a text could quote data
            failed = f"[internal] {type(error).__name__}"
        finally:
            queries.let_go()
        if failed and failed != told:
            print(failed, file=sys.stderr, flush=True)
        told = failed


def serve(settings: Settings, stores: Stores, port: int, ready: Callable[[str], None]) -> None:
    """Serve the pages until the process is interrupted.

    Args:
        port: 0 takes a free one.
        ready: called with the address once connections are accepted.
    """
    use(stores, settings)
    call_command("clearsessions")
    server = create_server(
        get_wsgi_application(),
        host=settings.host,
        port=port,
        threads=THREADS,
        ident="",
        max_request_body_size=LARGEST_REQUEST,
        clear_untrusted_proxy_headers=True,
    )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    ready(f"http://{host}:{server.effective_port}/")
    ended = threading.Event()
    feeder = threading.Thread(target=_keep_fed, args=(stores, ended), daemon=True)
    feeder.start()
    try:
        server.run()
    finally:
        ended.set()
        server.close()
        feeder.join(FEED_EVERY)
