"""What can be done in a ledger. Plain words, so that definitions can be read without a catalogue."""

from __future__ import annotations

from typing import Literal, get_args

Action = Literal["view", "capture", "settle", "edit", "define"]
"""view: search and see records. capture: bring in batches. settle: decide waiting sheets. edit: new generations. define: the ledger itself."""

ACTIONS: tuple[Action, ...] = get_args(Action)
