"""An installation made by the very commands of docs/start/, with a few sheets: what the documents say is tried on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from doc_sources import DOCS, ROOT

SHEETS = ("08-care-clients.jpg", "09-care-clients.jpg", "03-dv-support.jpg", "04-dv-support.jpg")
"""Two sheets that are read, and two of a form that the ledger does not have: they wait."""
_BLOCK = re.compile(r"<!-- tested(?:: (?P<name>[a-z]+))? -->\n```sh\n(?P<script>.*?)```", re.DOTALL)

SETTLE = """
import sys
from pathlib import Path
from core.settings import load
from wiring.setup import set_up
settings = load(Path(sys.argv[1]))
set_up(settings)
from access.decide import Actor
from records import queries
from records.batches import waiting_cases
from records.capture import edit, refuse, settle, waiting_content
from records.found import definition_of, person_by_login
from records.show import page_image, snippet
from wiring.open import open_installation
stores = open_installation(settings)
actor = Actor(person_by_login("officer"), "cli")
cases = waiting_cases(actor)
strangers = [case.record for case in cases if case.reason == "unknown_form"]
refuse(stores, actor, strangers[-1], "rescan")
for case in cases:
    if case.record == strangers[-1]:
        continue
    record, definition, content = waiting_content(stores, actor, case.record)
    for item in case.items[:1]:
        snippet(stores, actor, case.record, item.item)
    said = {item.id: content.values.get(item.id, "") for item in definition.items}
    fitting = {"date": "2024-04-01", "phone": "03-0000-0000", "number": "1", "kana": "アオキ"}
    for item in definition.items:
        doubtful = any(each.item == item.id for each in case.items)
        if doubtful or (item.required and not said[item.id]):
            said[item.id] = item.choices[0] if item.choices else fitting.get(item.type, "見本")
    settle(stores, actor, case.record, said, form=content.body["form"])
first = queries.sealed(["care-clients"])[0]
noted = next(item.id for item in definition_of("care-clients")[0].items if item.type == "text")
edit(stores, actor, first.id, first.generation, {noted: "書き直した値"}, "見本の修正")
page_image(stores, actor, first.id, 1, "view")
print(first.id)
"""


@dataclass
class Town:
    """An installation under test. `words`: what stands in place of the documents' placeholders."""

    folder: Path
    words: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "daicho-data"

    @property
    def keys(self) -> Path:
        return self.folder / "daicho-data-keys"

    @property
    def record(self) -> str:
        return self.words["記録番号"]

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DAICHO_", "DJANGO_"))}
        binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**kept, "PATH": binaries, "DAICHO_DATA": str(self.data), "DAICHO_JOBS": "1"}

    def run(self, script: str, extra: Mapping[str, str] | None = None, folder: Path = ROOT) -> str:
        """What a snippet prints; fails with what it said when a line of it fails."""
        for word in sorted(self.words, key=len, reverse=True):
            script = script.replace(word, self.words[word])
        environment = {**self.environment(), **(extra or {})}
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 0, f"{script}\nended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    def rows(self, command: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.run(f"daicho --json {command}").splitlines()]


def snippets(document: str) -> list[str]:
    """The snippets of a document that are marked as tested, in order."""
    return [match["script"] for match in _BLOCK.finditer((DOCS / document).read_text("utf-8"))]


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    """Installed by the administrator's first snippet, sheets brought in by the contractor's; waiting ones settled or
    refused, one record edited."""
    made = Town(tmp_path_factory.mktemp("town"))
    scans = made.folder / "scans"
    scans.mkdir()
    for sheet in SHEETS:
        shutil.copy(ROOT / "samples" / "batch" / sheet, scans)
    (scans / "99-broken.pdf").write_bytes(b"%PDF-1.7 cut short")
    (made.folder / "意見書.txt").write_text("意見", "utf-8")
    made.words |= {
        "スキャンのフォルダー": str(scans),
        "控えの場所": str(made.folder / "backup"),
        "鍵の控えの場所": str(made.folder / "backup-keys"),
        "戻す場所": str(made.folder / "restored"),
        "添付するファイル": str(made.folder / "意見書.txt"),
        "書出し先フォルダー": str(made.folder / "exported"),
    }
    made.run(snippets("start/administrator.md")[0])
    made.run(snippets("start/contractor.md")[0])
    (batch,) = made.rows("batch list")
    made.words |= {"済んだバッチ番号": str(batch["batch"]), "バッチ番号": str(batch["batch"])}
    ended = subprocess.run(
        [sys.executable, "-c", SETTLE, str(made.data)], cwd=ROOT, env=made.environment(), capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    made.words["記録番号"] = ended.stdout.strip()
    return made
