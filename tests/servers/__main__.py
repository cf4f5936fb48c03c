"""`python -m tests.servers --out engines.toml`: the three real engines on this machine, for whoever wants to try them. Not for records of people."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.servers import running
from tests.servers.build import Missing
from tests.servers.engines import write_engines


def main(arguments: Sequence[str] | None = None) -> int:
    """Start MinIO, Elasticsearch and PostgreSQL, write the file that names them, and run until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("engines.toml"), help="the file to write (it has passwords: 0600)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="a folder for their data, kept with ports and passwords: run again on it, an --out that is there stays as it is",
    )
    told = parser.parse_args(arguments)
    ended = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: ended.set())
    try:
        with contextlib.ExitStack() as stack:
            folder = _kept(told.data) if told.data else _given_up(stack)
            print("起動しています。初めての時は数分かかります。", file=sys.stderr)
            print("Starting; the first time takes several minutes.", file=sys.stderr)
            minio = stack.enter_context(running.minio(folder))
            postgres = stack.enter_context(running.postgres(folder))
            elasticsearch = stack.enter_context(running.elasticsearch(folder))
            file = told.out.absolute()
            if not (told.data and file.exists()):
                write_engines(file, minio.new(), postgres.new(), elasticsearch.new())
            print(f"動いています。別の端末で: daicho demo --engines {file}\n終わるには Ctrl-C。", flush=True)
            print(f"Running. In another terminal: daicho demo --engines {file}\nCtrl-C ends them.", flush=True)
            # A wait without a time-out would let no signal handler run before it ends.
            while not ended.wait(1.0):
                for server in (minio, postgres, elasticsearch):
                    if not server.alive:
                        raise running.DidNotStart(f"{server.name} ended by itself; its log:\n{server.tail()}")
            print("止めています。 / Stopping.", flush=True)
    except (Missing, running.DidNotStart) as error:
        print(f"始められません / cannot run: {error}", file=sys.stderr)
        return 1
    return 0


def _kept(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0 and not running.reachable(folder, running.POSTGRES_USER):
        raise Missing(
            f"{running.POSTGRES_USER} は {folder} に入れません。/var/tmp の下など、ほかのフォルダーを指定してください。 / "
            f"PostgreSQL runs as {running.POSTGRES_USER}, who cannot reach {folder}: name another folder, as one under /var/tmp"
        )
    return folder.absolute()


def _given_up(stack: contextlib.ExitStack) -> Path:
    folder = Path(
        stack.enter_context(tempfile.TemporaryDirectory(prefix="daicho-servers-", ignore_cleanup_errors=True))
    )
    folder.chmod(0o711)
    return folder


if __name__ == "__main__":
    sys.exit(main())
