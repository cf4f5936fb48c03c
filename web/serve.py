"""Serving the pages with waitress, and the installation that this process serves."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]

from access.decide import Actor
from core import logs
from core.errors import DaichoError
from core.settings import Settings
from records import queries
from records.found import municipality_name
from records.indexing import feed
from records.locks import ending_locks
from records.stores import Stores
from web.bodies import LARGEST, Parser
from wiring.audit import make_checkpoint

THREADS = 16
"""A page takes one for a moment, the download of a large file for as long as it lasts."""
FEED_EVERY = 5.0
"""Seconds."""
SIGN_EVERY = 600.0
"""Seconds; so much of the journal can lie there without a signature."""
A_DAY = 86400.0
"""Seconds."""


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


def keep_fed(stores: Stores, ended: threading.Event) -> None:
    """Feed the index as soon as something was changed here; and now and then, what another process wrote, or what waited while the index did
    not answer.
    """
    noted = ""
    while not ended.is_set():
        failed = ""
        try:
            feed(stores)
        except Exception as error:
            failed = error.code if isinstance(error, DaichoError) else type(error).__name__
            if failed != noted:  # once, not every few seconds
                logs.raised(error)
        finally:
            queries.let_go()
        noted = failed
        stores.outbox.waits.wait(FEED_EVERY)


def _look_after(settings: Settings, stores: Stores, ended: threading.Event) -> None:
    """At the start, and once a day: try whether the store's locks hold, and ask when they end."""
    while True:
        try:
            logs.write("probe", counts={"worm": int(stores.objects.worm())})
            if stores.locks is not None:
                found = ending_locks(stores, settings, all_of_them=False)
                logs.write("locks", counts={"asked": found.asked, "short": len(found.short)})
                if found.alarm:
                    logs.coded(found.alarm)
        except Exception as error:
            logs.raised(error)
        finally:
            queries.let_go()
        if ended.wait(A_DAY):
            return


def _keep_signed(settings: Settings, stores: Stores, ended: threading.Event) -> None:
    """Sign a checkpoint of the journal now and then, where something has come since the last."""
    while not ended.wait(SIGN_EVERY):
        try:
            make_checkpoint(settings, stores, Actor("", "web"))
        except Exception as error:
            logs.raised(error)
        finally:
            queries.let_go()


def serve(settings: Settings, stores: Stores, port: int, ready: Callable[[str], None]) -> None:
    """Serve the pages until the process is interrupted.

    Args:
        port: 0 takes a free one.
        ready: called with the address once connections are accepted.
    """
    logs.begin(settings.log, stderr=True)
    use(stores, settings)
    # Bodies of requests may lie on a disk for a moment: on the one that is meant for such data.
    settings.scratch.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(settings.scratch)
    HTTPChannel.parser_class = Parser
    call_command("clearsessions")
    server = create_server(
        get_wsgi_application(),
        host=settings.host,
        port=port,
        threads=THREADS,
        ident="",
        max_request_body_size=LARGEST,
        clear_untrusted_proxy_headers=True,
    )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    ready(f"http://{host}:{server.effective_port}/")
    ended = threading.Event()
    feeder = threading.Thread(target=keep_fed, args=(stores, ended), daemon=True)
    feeder.start()
    keeper = threading.Thread(target=_look_after, args=(settings, stores, ended), daemon=True)
    keeper.start()
    signer = threading.Thread(target=_keep_signed, args=(settings, stores, ended), daemon=True)
    signer.start()
    logs.write("started")
    try:
        server.run()
    finally:
        ended.set()
        stores.outbox.waits.set()
        server.close()
        feeder.join(FEED_EVERY)
        stores.outbox.waits.clear()  # nobody's end waits for the index: what is left, the next start feeds
        keeper.join(FEED_EVERY)
        signer.join(FEED_EVERY)
