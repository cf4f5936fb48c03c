"""`python -m bench audit|backup|engines|ingest|parity|read|rebuild|seal|verify|all [--json] [--small]`."""

from __future__ import annotations

import argparse
import json
from importlib import import_module

from bench.machine import machine

NAMES = ("seal", "read", "ingest", "engines", "parity", "verify", "backup", "audit", "rebuild")
SMALL = {
    "audit": {"entries": 5000, "rounds": 1, "appends": 20},
    "seal": {"records": 50, "edits": 10, "rounds": 1},
    "read": {"sheets": 6},
    "ingest": {"sheets": 4, "rounds": 1},
    "engines": {"sheets": 4, "rounds": 1},
    "parity": {"records": 2000},
    "rebuild": {"records": 400},
    "verify": {"records": 40, "rounds": 1},
    "backup": {"records": 200},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--json", action="store_true", help="one JSON object a measure")
    parser.add_argument("--small", action="store_true", help="so few that it only shows that the measure runs")
    told = parser.parse_args()
    for name in NAMES if told.name == "all" else (told.name,):
        around = machine()
        figures = import_module(f"bench.{name}").run(**(SMALL[name] if told.small else {}))
        value = {"bench": name, **figures, "small": told.small, "machine": around}
        print(
            json.dumps(value, ensure_ascii=False) if told.json else json.dumps(value, ensure_ascii=False, indent=2),
            flush=True,
        )


if __name__ == "__main__":
    main()
