"""How long work tells how far it is. Nothing else belongs here: whoever imports this must not load what reads pages."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the step (`survey`, `read`, `verify` …), how many are done, and how many there are."""
