"""Starts programs by forking: a process that has loaded what every command loads, so that thousands of them begin at once.

What is loaded knows no installation: modules with models, and Django's settings, are left to the program. The fork runs the very file, as when
the installed `daicho` is started: its arguments, environment, folder, standard output and error are its own, and it ends as a process ends.

    python tests/starter.py FD    FD: a socket that brings requests and takes answers (`tests/installed.py`)
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import sys

LOADED = (
    "cli.main",
    "django.core.management",
    "django.core.serializers.json",
    "django.db.models",
    "django.http",
    "django.template",
    "django.urls",
    "ingest.confine",
    "ingest.form",
    "ingest.pages",
    "lxml.etree",
    "pyrage",
    "search.embedded",
    "storage.filesystem",
    "storage.keycopies",
    "storage.keys",
    "storage.mending",
    "storage.notes",
    "storage.ocfl",
    "storage.tiles",
    "yaml",
)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in LOADED:
        importlib.import_module(name)
    from cli.main import load_commands

    load_commands()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 2)
        if not message:
            return
        child = os.fork()
        if not child:
            break
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(str(child).encode())
        control.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
    control.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, place in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    asked = json.loads(message)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = asked["command"]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
