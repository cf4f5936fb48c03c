"""Makes a sample of the formats: a small installation with something of everything, as the version at hand writes it, and what that version says it holds.

    .venv/bin/python -m tests.formats.make NAME
    .venv/bin/python -m tests.formats.make NAME --source CHECKOUT    # as an older version wrote them: a checkout of it

Everything goes through the installed command, or through the functions that the pages call; what the version does not know yet is left out. Nobody in
it is real. Needs faketime, for what happened in other years.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw, ImageFont

from tests.installed import HIDES, HOUSE
from tests.machine import need

HERE = Path(__file__).resolve().parent
LONG_AGO, THEN = "2019-06-03 10:00:00", "2026-04-06 10:00:00"
"""The clock of the sample: search terms of the first year are destroyed in the second. The last moment lies behind us on every machine."""

DPI = 150
CARD = {"width": 105, "height": 148}
"""Of the form, in mm: small, as everything here."""

MARKS = ((15, 15), (90, 15), (90, 133), (15, 133))
ZONES = (
    ("number", "No.", 32, 30, 56, 10),
    ("name", "Name", 32, 50, 56, 10),
    ("opened_on", "Opened", 32, 70, 56, 10),
)
"""Item, caption, x, y, width, height in mm."""

TITLE = {"ja": "見本カード", "en": "Sample card"}

KEPT = ("data/store", "data/log", "data-keys", "witness", "backup", "backup-keys")
"""What of the folder is kept: catalogue and index are made again."""

LOOKED = ("batches_viewed", "batch_viewed", "queue_viewed")
"""Events that say only that somebody looked; tests/content.py leaves them out."""

GIVEN = """
import sys
from pathlib import Path
from core.settings import load
from wiring.setup import set_up
settings = load(Path(sys.argv[1]))
set_up(settings)
from access.decide import Actor
from records.capture import edit, refuse, settle
from records.found import person_by_login
from wiring.open import open_installation
stores = open_installation(settings)
actor = Actor(person_by_login("officer"), "web")
"""
"""What the pages do, for which there is no command; `argv[2:]` are its arguments."""

SETTLED = 'settle(stores, actor, sys.argv[2], {"number": sys.argv[3], "name": sys.argv[4], "opened_on": "2019-05-07"}, "card")'
EDITED = 'edit(stores, actor, sys.argv[2], 1, {"name": sys.argv[3]}, "婚姻のため")'
REFUSED = 'refuse(stores, actor, sys.argv[2], "rescan")'
DESTROYED = 'stores.keys.destroy(f"{sys.argv[2]}.number")'


class Version:
    """A version of daicho at work in a folder: `source` is its checkout."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source = source
        self.folder = folder
        self.clock = LONG_AGO
        self._commands: dict[str, bool] = {}

    def has(self, *words: str) -> bool:
        """Whether it has such a command."""
        return self._python(["-c", "from cli.main import main; main()", *words, "--help"]).returncode == 0

    def done(self, *words: str | Path, data: str = "data") -> list[dict[str, Any]]:
        """A command's rows."""
        told = [*map(str, words), "--json", "--data", str(self.folder / data)]
        ended = self._python(["-c", "from cli.main import main; main()", *told])
        if ended.returncode:
            raise SystemExit(f"{words}: {ended.stdout}{ended.stderr}")
        return [json.loads(line) for line in ended.stdout.splitlines()]

    def refused(self, *words: str) -> None:
        """A command that somebody may not give, which is journalled."""
        told = [*words, "--json", "--data", str(self.folder / "data")]
        if not self._python(["-c", "from cli.main import main; main()", *told]).returncode:
            raise SystemExit(f"{words}: not refused")

    def given(self, statement: str, *words: str) -> None:
        """What a page does."""
        ended = self._python(["-c", f"{GIVEN}\n{statement}", str(self.folder / "data"), *words])
        if ended.returncode:
            raise SystemExit(f"{statement}: {ended.stderr}")

    def content(self, data: str) -> Any:
        """What an installation holds, as this version tells it."""
        ended = self._python([str(self.source / "tests/content.py"), str(self.folder / data)])
        if ended.returncode:
            raise SystemExit(ended.stderr)
        return json.loads(ended.stdout)

    def waiting(self) -> str:
        """The record that waits."""
        [row] = self.done("queue")
        return str(row["record"])

    def _python(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name not in HIDES}
        return subprocess.run(
            ["faketime", "-f", f"@{self.clock}", sys.executable, *words],
            env=environment | {"PYTHONPATH": str(self.source), "TZ": "UTC"},
            cwd=self.source,
            capture_output=True,
            text=True,
        )


def card(file: Path, values: dict[str, str]) -> None:
    """Draw the form, blank without values."""

    def pixels(millimetres: float) -> int:
        return round(millimetres / 25.4 * DPI)

    sheet = Image.new("L", (pixels(CARD["width"]), pixels(CARD["height"])), 255)
    pen = ImageDraw.Draw(sheet)
    for x, y in MARKS:
        pen.rectangle([pixels(x - 2.5), pixels(y - 2.5), pixels(x + 2.5), pixels(y + 2.5)], fill=0)
    small, large = ImageFont.load_default(pixels(3.5)), ImageFont.load_default(pixels(5.5))
    pen.text((pixels(32), pixels(20)), "SAMPLE CARD", fill=0, font=small)
    for item, caption, x, y, width, height in ZONES:
        pen.rectangle([pixels(x - 1), pixels(y - 1), pixels(x + width + 1), pixels(y + height + 1)], outline=0)
        pen.text((pixels(x - 15), pixels(y + 2)), caption, fill=0, font=small)
        pen.text((pixels(x + 2), pixels(y + 2)), values.get(item, ""), fill=0, font=large)
    sheet.convert("1").save(file, dpi=(DPI, DPI))


def page(file: Path, lines: Sequence[str]) -> None:
    """Draw a page without a form."""
    sheet = Image.new("L", (300, 220), 255)
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        pen.text((20, 20 + 40 * number), line, fill=0, font=ImageFont.load_default(24))
    sheet.save(file, quality=60, dpi=(100, 100))


def template(folder: Path, ledger: str, *, apart: bool = False, more: bool = False) -> Path:
    """Write the definition of a ledger. `apart`: the number is destroyable alone; `more`: the second version, with another item."""

    def item(name: str, kind: str, ja: str, **told: Any) -> dict[str, Any]:
        label = {"ja": ja, "en": name}
        return {"id": name, "type": kind, "label": label, "required": False, "choices": [], "facet": False, **told}

    number = item("number", "number", "番号", **({"alone": True} if apart else {}))
    cards = [number, item("name", "name", "氏名", required=True), item("opened_on", "date", "受付日", required=True)]
    cards += [item("kind", "choice", "区分", choices=["甲", "乙"], facet=True)] if more else []
    everything = ["view", "capture", "edit", "settle", "define"]
    both = {"ja": "見本", "en": "Sample"}
    told = {
        "ledger.yaml": {
            "format": "daicho-ledger-1",
            "id": ledger,
            "name": {"cards": TITLE, "papers": {"ja": "見本資料", "en": "Sample papers"}}[ledger],
            **dict.fromkeys(("purpose", "legal_basis", "usage_rules"), both),
            "approval": {"body": both, "number": "1", "date": "2019-04-01", "note": both},
            "title": ["name"] if ledger == "cards" else ["title"],
            "whole_page_text": ledger == "papers",
        },
        "items.yaml": cards if ledger == "cards" else [item("title", "text", "表題")],
        "rights.yaml": {
            "posts": {
                "records-office": {"name": {"ja": "文書管理課", "en": "Records office"}, "actions": everything},
                **({"desk": {"name": {"ja": "窓口", "en": "Desk"}, "actions": ["view"]}} if ledger == "papers" else {}),
            }
        },
        "schedule.yaml": {
            "title": {"ja": "5年保存", "en": "Five years"},
            "mandate": "見本",
            "trigger": {"item": "opened_on"} if ledger == "cards" else {"event": "creation"},
            "start": "fiscal_year_after",
            "period": {"years": 5},
            "action": "destroy",
        },
    }
    if ledger == "cards":
        told["ledger.yaml"]["year_item"] = "opened_on"
        told["forms/card.yaml"] = {
            "id": "card",
            "title": TITLE,
            "page": CARD,
            "marks": [list(mark) for mark in MARKS],
            "accept": 1.0,  # so that a person looks at every card
            "zones": [{"item": name, "x": x, "y": y, "width": w, "height": h} for name, _, x, y, w, h in ZONES],
        }
    (folder / "forms").mkdir(parents=True)
    for name, value in told.items():
        (folder / name).write_text(yaml.safe_dump(value, allow_unicode=True), "utf-8")
    if ledger == "cards":
        card(folder / "forms/card.png", {})
    else:
        (folder / "forms").rmdir()
    return folder


def make(source: Path, folder: Path) -> dict[str, Any]:
    """Let the version of `source` fill `folder`; what it says of it afterwards."""
    version = Version(source, folder)
    apart, scans = version.has("keys", "rotate"), folder / "scans"
    scans.mkdir()

    def captured(ledger: str, name: str) -> None:
        version.done("ingest", scans / name, "--ledger", ledger, "--jobs", "1")

    version.done("init", "--municipality", "みどり野市（見本）")
    version.done("ledger", "apply", template(folder / "1/cards", "cards", apart=apart))
    version.done("ledger", "apply", template(folder / "1/papers", "papers"))
    version.done("person", "add", "desk", "--name", "見本 花子", "--post", "desk")
    card(scans / "1.png", {"number": "123456789018", "name": "AOKI", "opened_on": "2019/05/07"})
    captured("cards", "1.png")
    first = version.waiting()
    version.given(SETTLED, first, "123456789018", "青木 一郎")
    version.done("search", "青木")

    version.clock = THEN
    version.done("ledger", "apply", template(folder / "2/cards", "cards", apart=apart, more=True))
    for number, name in ((2, "BABA"), (3, "CHIBA"), (4, "DOI")):
        card(
            scans / f"{number}.png",
            {"number": f"12345678901{number}", "name": name, "opened_on": "2026/04/01"},
        )
    captured("cards", "2.png")
    second = version.waiting()
    version.given(SETTLED, second, "123456789012", "馬場 二郎")
    captured("cards", "4.png")
    version.given(REFUSED, version.waiting())
    captured("cards", "3.png")
    version.given(EDITED, first, "髙橋 一郎")
    page(scans / "paper.jpg", ("DAICHO 1984", "ledger of wells"))
    captured("papers", "paper.jpg")
    version.refused("record", "show", first, "--as", "desk")
    if version.has("record", "attach"):
        (scans / "意見書.txt").write_text("見本の意見書", "utf-8")
        version.done("record", "attach", first, scans / "意見書.txt", "--why", "添える")
    if version.has("record", "export"):
        version.done("record", "export", first, folder / "exported")
    if apart:
        version.given(DESTROYED, second)
        version.done("keys", "rotate")
    if version.has("audit", "checkpoint"):
        version.done("audit", "checkpoint")
        version.done("audit", "expire")
        (folder / "witness").mkdir()
        version.done("audit", "witness", folder / "witness")
        version.done("audit", "checkpoint")

    version.done("backup", folder / "backup", "--keys-target", folder / "backup-keys")
    content = version.content("data")
    for looked in LOOKED:
        content["events"].pop(looked, None)
    for name in KEPT:  # now: what is asked below is journalled
        if (folder / name).is_dir():
            shutil.copytree(folder / name, folder / "kept" / name)
    asked = []
    if version.has("audit", "verify"):  # before anything else is asked, since that is journalled
        [witnessed] = [file.name for file in (folder / "witness").glob("checkpoint-*")]
        asked += [["audit", "verify", "--checkpoint", f"{{here}}/witness/{witnessed}"]]
        asked += [["audit", "show", "--event", "searched"], ["audit", "show", "--event", "person_saved"]]
    asked += [["search", "高橋"], ["search", "ledger"], ["search", "馬場", "--past"]]
    asked += [["record", "show", first]]
    return {
        "content": content,
        "asked": [{"words": words, "rows": said(version.done, words, folder)} for words in asked],
        "record": first,
        "exported": digests(folder / "exported") if (folder / "exported").exists() else {},
    }


def said(done: Callable[..., list[dict[str, Any]]], words: Sequence[str], folder: Path) -> Any:
    """The rows of a command; `{here}` stands for the folder of the sample, in words and rows."""
    rows = done(*(word.replace("{here}", str(folder)) for word in words))
    return json.loads(json.dumps(rows, ensure_ascii=False).replace(str(folder), "{here}"))


def digests(folder: Path) -> dict[str, str]:
    """Path within a folder -> SHA-256 of the file."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def packed(folder: Path, file: Path, kept: Sequence[str]) -> None:
    """One archive: Git keeps neither modes nor empty folders. What the backup has twice costs nothing in it.

    Of what can be made again (`derived/`) the pages of `kept` stay: they are most of the bytes.
    """

    def plain(each: tarfile.TarInfo) -> tarfile.TarInfo | None:
        made_again = "/derived/" in each.name and each.isfile() and Path(each.name).name not in kept
        if made_again or "/scratch/" in each.name or each.name.endswith("/lock"):
            return None
        each.uid = each.gid = 0
        each.uname = each.gname = ""
        return each

    with tarfile.open(file, "x:xz", format=tarfile.PAX_FORMAT) as archive:
        for name in KEPT:
            if (folder / "kept" / name).exists():
                archive.add(folder / "kept" / name, name, filter=plain)


def main() -> None:
    """Make the sample, unless it is there: what an older version wrote is never written again."""
    asked = argparse.ArgumentParser(prog="python -m tests.formats.make", description=__doc__)
    asked.add_argument("name", help="name of the version")
    asked.add_argument("--source", type=Path, default=HOUSE, help="checkout of the version, this one unless told")
    told = asked.parse_args()
    need("faketime")
    archive, expected = HERE / f"{told.name}.tar.xz", HERE / f"{told.name}.json"
    if archive.exists() or expected.exists():
        raise SystemExit(f"{archive.name} is there already: a sample is never written again; give another name")
    folder = Path(tempfile.mkdtemp(prefix="daicho-formats-"))
    try:
        value = make(told.source.resolve(), folder)
        # The text of the page without a form is among what can be made again, and is searched for.
        paged = next(each["rows"] for each in value["asked"] if each["words"] == ["search", "ledger"])
        packed(folder, archive, [value["record"], *(hit["record"] for hit in paged)])
        expected.write_text(json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n", "utf-8")
    finally:
        shutil.rmtree(folder)
    print(f"{archive}: {archive.stat().st_size:,} bytes; {expected}")


if __name__ == "__main__":
    main()
