"""Makes the modules beside it importable, and the installation of doc_town.py a fixture."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from doc_town import town

__all__ = ["town"]
