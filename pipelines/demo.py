"""The demo: a sample municipality, its people and ledgers, a batch of sample scans for each ledger, then what somebody would do with them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import yaml

from access.decide import Actor
from access.signin import random_password, set_password
from core.errors import Conflict
from core.settings import Settings
from pipelines.ingest import ingest
from pipelines.texts import read_texts
from records.batches import balance
from records.check import verify
from records.find import find
from records.found import define, found, save_person
from records.show import show, values_as_read
from records.stores import Stores
from records.template import read_folder
from records.values import shown
from wiring.open import create, founding

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
TEMPLATES = ("care-clients", "vacant-houses", "dv-support", "whole-pages")


class Teller(Protocol):
    """Tells people what happens; the command line's output is one."""

    language: str

    def row(self, value: dict[str, Any], line: str) -> None: ...

    def word(self, ja: str, en: str) -> str: ...

    def progress(self, step: str, done: int, total: int) -> None: ...


def run_demo(settings: Settings, tell: Teller, jobs: int | None, left_out: list[str]) -> tuple[Stores, dict[str, str]]:
    """Create the sample municipality in an empty data folder and take the sample scans the whole way.

    Returns the open stores and, for each login, the random password made for it.

    Raises:
        Conflict: (`demo.exists`) the data folder is in use.
    """
    began = time.monotonic()
    if settings.data.exists() and any(settings.data.iterdir()):
        raise Conflict(
            f"{settings.data} には、もう導入されています。`daicho serve` で画面を開くか、別のフォルダーを --data で指定してください。",
            f"{settings.data} is in use already. Open its pages with `daicho serve`, or name another folder with --data.",
            code="demo.exists",
        )
    town = yaml.safe_load((SAMPLES / "municipality.yaml").read_text("utf-8"))
    first = town["people"][0]
    stores = create(settings, first["login"])
    with founding(settings):
        officer = Actor(found(stores, town["name"]["ja"], first["login"], first["name"]["ja"]), "cli")
    for name in TEMPLATES:
        define(stores, officer, read_folder(SAMPLES / "templates" / name))
    passwords: dict[str, str] = {}
    for person in town["people"]:
        posts = [*person["posts"], *(["administrators"] if person is first else [])]
        set_password(
            save_person(stores, officer, person["login"], person["name"]["ja"], posts),
            passwords.setdefault(person["login"], random_password()),
        )
    tell.row(
        {"step": "founded", "municipality": town["name"]["ja"], "people": len(passwords), "ledgers": list(TEMPLATES)},
        tell.word(
            f"自治体「{town['name']['ja']}」を作りました。人 {len(passwords)} 人、台帳 {len(TEMPLATES)} 冊（架空）",
            f'Made the municipality "{town["name"]["en"]}": {len(passwords)} people, {len(TEMPLATES)} ledgers (invented)',
        ),
    )
    for line in left_out:
        tell.row(
            {"step": "left_out", "tool": line},
            tell.word(f"この機械にない道具（なくても動きます）: {line}", f"Not on this machine (not needed): {line}"),
        )
    for ledger in TEMPLATES:
        scans = sorted((SAMPLES / "batch").glob(f"*-{ledger}.*"))
        if ledger == "whole-pages":
            scans = sorted(
                file for file in (SAMPLES / "batch" / "real-pages").iterdir() if file.suffix in (".jpg", ".png")
            )
        done = ingest(
            settings,
            stores,
            officer,
            scans,
            ledger,
            name=tell.word("見本", "samples"),
            jobs=jobs,
            progress=tell.progress,
        )
        for batch in done.batches:
            _tell_balance(tell, officer, batch)
    texts = read_texts(settings, stores, officer, jobs=jobs, progress=tell.progress)
    tell.row(
        {"step": "texts", "records": texts},
        tell.word(f"様式のない資料 {texts} 件の全文を読みました", f"Read the whole text of {texts} form-less records"),
    )
    _search(stores, officer, tell)
    _verify(stores, tell)
    seconds = time.monotonic() - began
    tell.row(
        {"step": "done", "seconds": round(seconds, 1)},
        tell.word(f"ここまで {seconds:.0f} 秒", f"{seconds:.0f} s so far"),
    )
    return stores, passwords


def _tell_balance(tell: Teller, actor: Actor, batch: str) -> None:
    one = balance(actor, batch)
    name = one.ledger_name.get(tell.language) or one.ledger_name["ja"]
    tell.row(
        {
            "step": "batch",
            "batch": batch,
            "ledger": one.ledger,
            "sheets": one.total,
            "sealed": one.sealed,
            "waiting": one.waiting,
            "refused": one.refused,
            "balanced": one.balanced,
        },
        tell.word(
            f"{name}: 入 {one.total} 枚 = 封印 {one.sealed} + 確認待ち {one.waiting} + 不受理 {one.refused}",
            f"{name}: {one.total} sheets in = {one.sealed} sealed + {one.waiting} waiting + {one.refused} refused",
        ),
    )


def _search(stores: Stores, actor: Actor, tell: Teller) -> None:
    """Search as somebody would: by the name of whoever was sealed first, and by text of a real page; show the first hit."""
    everybody = find(stores, actor, "", ledger="care-clients", limit=1)
    name = everybody.hits[0].title.get("name_kana", "") if everybody.hits else ""
    for text in (name, REAL_TEXT):
        results = find(stores, actor, text)
        tell.row(
            {"step": "search", "text": text, "total": results.total, "records": [hit.record for hit in results.hits]},
            tell.word(f"検索「{text}」: {results.total} 件", f'Search "{text}": {results.total} hits'),
        )
    if not everybody.hits:
        return
    one = show(stores, actor, everybody.hits[0].record)
    for row in values_as_read(one):
        item = one.ledger.item(row["item"])
        assert item is not None
        label = row["label"].get(tell.language) or row["label"]["ja"]
        tell.row(
            {"step": "record", "record": one.record, "item": row["item"], "value": row["value"]},
            f"    {label}: {shown(item, row['value'])}",
        )
    kept = one.row
    period = f" {kept.retention_start} – {kept.retention_due}" if kept.retention_start else ""
    schedule = one.ledger.schedule.title.get(tell.language) or one.ledger.schedule.title["ja"]
    tell.row(
        {
            "step": "retention",
            "record": one.record,
            "state": kept.retention_state,
            "start": kept.retention_start,
            "due": kept.retention_due,
            "action": kept.retention_action,
        },
        tell.word(
            f"    保存期間: {schedule}（{RETENTION[kept.retention_state][0]}）{period}",
            f"    Retention: {schedule} ({RETENTION[kept.retention_state][1]}){period}",
        ),
    )


REAL_TEXT = "次世代システム開発研究室"
"""Words that stand on one of the real pages."""

RETENTION = {"living": ("常用", "living"), "running": ("起算済み", "running"), "permanent": ("永年", "permanent")}


def _verify(stores: Stores, tell: Teller) -> None:
    result = verify(stores)
    tell.row(
        {
            "step": "verify",
            "ok": not result.findings,
            "objects": result.objects,
            "files": result.files,
            "bytes": result.bytes,
        },
        tell.word(
            f"保管庫を確かめました: オブジェクト {result.objects}、{result.bytes:,} バイト、問題 {len(result.findings)} 件",
            f"Verified the store: {result.objects} objects, {result.bytes:,} bytes, {len(result.findings)} findings",
        ),
    )
