"""`daicho audit`: checkpoints of the journal, witnesses, proofs, and what an auditor may see."""

from __future__ import annotations

import os
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from cli.main import Invocation, command, daicho

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
DAY = click.DateTime(["%Y-%m-%d"])


@daicho.group("audit")
def audit() -> None:
    """記録簿の証明と監査 / Proofs of the journal, and audits."""


@command(audit, "checkpoint")
@click.option(
    "--new-key",
    is_flag=True,
    help="署名鍵を失ったので、新しい鍵で続ける / go on with a new key: the old one is lost for good",
)
def audit_checkpoint(run: Invocation, new_key: bool) -> None:
    """記録簿の今までの全体に署名します。毎日行います / Sign a checkpoint of the whole journal; for every day."""
    kept = _checkpoint(run, new_key=new_key)
    run.out.row(
        {
            "origin": kept.said.origin,
            "size": kept.said.size,
            "root": kept.said.root.hex(),
            "entry": kept.entry,
            "key": kept.key,
            "note": kept.note,
        },
        run.out.word(
            f"{kept.said.size} 件までのチェックポイントです（記録簿の {kept.entry} 番に保存）。\n{kept.note}公開鍵: {kept.key}\n"
            "別の場所へも渡してください: daicho audit witness フォルダー、daicho audit print ファイル",
            f"A checkpoint of {kept.said.size} entries (kept as entry {kept.entry}).\n{kept.note}Public key: {kept.key}\n"
            "Bring it elsewhere: daicho audit witness FOLDER, daicho audit print FILE",
        ),
    )


def _checkpoint(run: Invocation, *, new_key: bool = False) -> Any:
    from access.decide import Actor
    from wiring.audit import make_checkpoint

    return make_checkpoint(run.settings, run.unindexed, Actor("", "cli"), new_key=new_key)


@command(audit, "witness")
@click.argument("folder", type=FOLDER)
def audit_witness(run: Invocation, folder: Path) -> None:
    """別の場所のフォルダーに、続きであることを確かめて渡します / Show a checkpoint to a folder elsewhere, which takes only what continues."""
    from access.decide import Actor
    from records.audit import note_shown
    from storage.notes import verifier
    from storage.witness import witness
    from wiring.audit import log_folder

    kept = _checkpoint(run)
    done = witness(folder, kept.note, verifier(kept.key), log_folder(run.settings).roots(kept.said.size))
    note_shown(run.unindexed, Actor("", "cli"), "witnessed", kept)
    run.out.row(
        {"file": str(done.file), "size": kept.said.size, "before": done.before, "checkpoints": done.checkpoints},
        run.out.word(
            f"{done.file} に渡しました。前の {done.before} 件の続きであることを確かめました（立会い {done.checkpoints} 回）",
            f"Witnessed in {done.file}: it continues the {done.before} entries before ({done.checkpoints} checkpoints there)",
        ),
    )


@command(audit, "print")
@click.argument("file", type=FILE)
def audit_print(run: Invocation, file: Path) -> None:
    """チェックポイントを印刷用の一枚（PDF、QR コード付き）にします / A page to print (PDF) with the checkpoint as text and QR code."""
    from access.decide import Actor
    from core.errors import Conflict
    from ingest.proofsheet import proof_sheet
    from records.audit import note_shown
    from records.found import municipality_name

    kept = _checkpoint(run)
    note_shown(run.unindexed, Actor("", "cli"), "printed", kept)
    page = proof_sheet(
        ("記録簿のチェックポイント", "Checkpoint of the journal"),
        (
            municipality_name(),
            f"記録簿の 1 番から {kept.said.size} 番までの記入を、この一枚が証明します。鍵のかかる所に保管してください。",
            f"This sheet proves entries 1 to {kept.said.size} of the journal. Keep it locked away from the system.",
            "確かめ方: QR コードを読み取り（daicho codes）、文面をファイルにして、",
            "daicho audit verify --checkpoint に渡します。",
            "To check: read the QR code (daicho codes), save the text as a file, give it to daicho audit verify --checkpoint.",
        ),
        (("Checkpoint", kept.note), ("Public key", kept.key)),
    )
    try:
        with file.open("xb") as made:
            made.write(page)
    except FileExistsError as error:
        raise Conflict(
            f"ファイル {file} はもうあります。別の名前を指定してください。",
            f"The file {file} exists already. Give another name.",
            code="audit.file_exists",
        ) from error
    run.out.row(
        {"file": str(file), "size": kept.said.size},
        run.out.word(
            f"{file} に書きました。印刷して、この機械とは別の所に保管してください。",
            f"Written to {file}. Print it and keep it away from this machine.",
        ),
    )


WRONG = {
    "journal.unreadable": ("記録簿の区切りとして読めません", "no segment of a journal"),
    "journal.misplaced": ("別の区切りがここに置かれています", "another segment lies here"),
    "journal.form": ("決まった形で書かれていません", "not in canonical form"),
    "journal.chain": (
        "前の区切りとつながりません。どちらかが変えられています",
        "does not follow the one before: one of them was changed",
    ),
    "entry.fields": ("記入の項目が決まりと違います", "not the fields of an entry"),
    "entry.number": (
        "番号が続きません。抜けたか、並べ替えられています",
        "numbers do not go on: entries were removed or reordered",
    ),
    "entry.time": ("前の記入より古い時刻です", "older than the entry before"),
    "checkpoint.malformed": ("チェックポイントとして読めません", "no checkpoint"),
    "checkpoint.key": ("公開鍵として読めません", "no public key"),
    "checkpoint.signature": ("署名が合いません", "the signature does not fit"),
    "checkpoint.other_log": ("別のログのチェックポイントです", "a checkpoint of another log"),
    "checkpoint.root": (
        "このチェックポイントが証明する記入と違います。書き換えられています",
        "the entries are not those it proves: they were rewritten",
    ),
    "checkpoint.ahead": (
        "記録簿がこのチェックポイントより短くなっています",
        "the journal is shorter than this checkpoint",
    ),
    "checkpoint.late": ("直前の記入のチェックポイントではありません", "not a checkpoint of the entries just before it"),
    "checkpoint.previous": (
        "保存したときの前の区切りと違います",
        "the segment before it is not the one it was kept after",
    ),
    "tile.missing": ("ログのファイルがありません", "a file of the log is missing"),
    "tile.differs": ("ログのファイルが記入と合いません", "a file of the log is not what follows from the entries"),
}
"""What each finding means, in Japanese and English."""


@command(audit, "verify")
@click.option(
    "--copy", type=FOLDER, default=None, help="写し（保管庫かログのフォルダー） / a copy: a store, or a log's folder"
)
@click.option(
    "--checkpoint",
    "checkpoints",
    type=FILE,
    multiple=True,
    help="別の場所にあったチェックポイント（何度でも） / a checkpoint from elsewhere (may be repeated)",
)
@click.option(
    "--key",
    "public_keys",
    multiple=True,
    help="ログの公開鍵（一行かファイル） / public key of the log, as a line or a file",
)
@click.option(
    "--entry",
    type=click.IntRange(1),
    default=None,
    help="この番号の記入が含まれることの証明を出す / also print the proof that this entry is included",
)
@click.option("--jobs", type=click.IntRange(1, 256), default=None, help="並列数 / worker processes")
def audit_verify(
    run: Invocation,
    copy: Path | None,
    checkpoints: tuple[Path, ...],
    public_keys: tuple[str, ...],
    entry: int | None,
    jobs: int | None,
) -> None:
    """記録簿を最初から確かめます。鍵も目録も要りません / Prove the journal from its beginning; needs neither keys nor a catalogue."""
    from records.proofs import verify
    from storage.notes import verifier
    from storage.tiles import LogFolder
    from wiring.engines import copied_journal, open_journal

    if copy is None:
        opening: Any = partial(open_journal, run.settings)
        log: LogFolder | None = LogFolder(run.settings.data / "log")
    elif (copy / "journal").is_dir():
        opening, log = partial(copied_journal, copy), None
        for beside in (copy / "log", copy.parent / "log"):
            if (beside / "checkpoint").is_file():
                log = LogFolder(beside)
                break
    else:
        opening, log = None, LogFolder(copy)
    done = verify(
        opening,
        log,
        [(str(file), _bytes_of(file)) for file in checkpoints],
        [verifier(_line(key)) for key in public_keys],
        entry=entry,
        jobs=jobs or os.cpu_count() or 1,
        progress=partial(run.out.progress, "verify"),
    )
    _tell(run, done, bool(public_keys))
    if done.faults:
        raise SystemExit(74)


def _line(key: str) -> str:
    """A key given as a line, or as the file that holds it."""
    return key if "+" in key else _bytes_of(Path(key)).decode("utf-8", "replace")


def _bytes_of(file: Path) -> bytes:
    from core.errors import BadInput

    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInput(
            f"ファイル {file} を読めません。名前を確かめてください。",
            f"The file {file} cannot be read. Check its name.",
            code="audit.file",
        ) from error


def _tell(run: Invocation, done: Any, keys_given: bool) -> None:
    out = run.out
    for fault in done.faults:
        out.row(
            {"finding": fault.code, "place": fault.place, "entry": fault.entry, "detail": fault.detail},
            f"! {fault.code}  {fault.place}{f'  #{fault.entry}' if fault.entry else ''}  {out.word(*WRONG[fault.code])}  ({fault.detail})",
        )
    for one in done.checkpoints:
        state = out.word("合いません", "does NOT fit") if one.fault else out.word("合います", "fits")
        whose = (
            out.word("渡された公開鍵", "the key given")
            if one.trusted
            else out.word("写しの中の公開鍵", "a key from the copy")
        )
        out.row(
            {"checkpoint": one.source, "size": one.size, "trusted": one.trusted, "fault": one.fault},
            out.word(
                f"{one.source}: {one.size} 件、{state}（{whose}）",
                f"{one.source}: {one.size} entries, {state} ({whose})",
            ),
        )
    if done.checkpoints and not keys_given and not out.as_json:
        out.say(
            "公開鍵は写しの中から取りました。だれが署名したかの証明にはなりません。監査人が保管している鍵を --key で渡してください。",
            "The public key was taken from the copy itself, so it does not prove who signed. Give the key that the auditor keeps with --key.",
        )
    behind = done.entries - done.proven
    out.row(
        {
            "ok": not done.faults,
            "origin": done.origin,
            "entries": done.entries,
            "segments": done.segments,
            "root": done.root.hex(),
            "from": done.began,
            "to": done.ended,
            "tiles": done.tiles,
            "kept": done.kept,
            "proven": done.proven,
            "key_given": keys_given,
            "findings": len(done.faults) + done.more,
        },
        out.word(
            f"記入 {done.entries} 件、区切り {done.segments}、保存済みのチェックポイント {done.kept}、ログのファイル {done.tiles}: "
            + (f"問題 {len(done.faults) + done.more} 件" if done.faults else "問題はありません")
            + (f"（外のチェックポイントが証明するのは {done.proven} 件まで、残り {behind} 件）" if behind else ""),
            f"{done.entries} entries, {done.segments} segments, {done.kept} checkpoints kept, {done.tiles} files of the log: "
            + (f"{len(done.faults) + done.more} findings" if done.faults else "nothing wrong")
            + (f" (checkpoints from outside prove {done.proven}, {behind} came later)" if behind else ""),
        ),
    )
    if done.proof:
        out.row({"proof": done.proof}, done.proof.removesuffix("\n"))


@command(audit, "show")
@click.option("--from", "since", type=DAY, default=None, help="この日から（日本時間） / from this day in Japan")
@click.option("--to", "until", type=DAY, default=None, help="この日まで / up to this day")
@click.option("--person", "login", default=None, help="だれが（ログイン名） / by whom (login)")
@click.option("--event", default=None, help="何を / what (an event of docs/formats.md)")
@click.option("--ledger", default=None, help="台帳 / in which ledger")
@click.option("--record", default=None, help="記録 / of which record")
@click.option("--batch", default=None, help="バッチ / of which batch")
@click.option("--refused", is_flag=True, help="拒んだものだけ / refusals alone")
def audit_show(
    run: Invocation,
    since: datetime | None,
    until: datetime | None,
    login: str | None,
    event: str | None,
    ledger: str | None,
    record: str | None,
    batch: str | None,
    refused: bool,
) -> None:
    """記録簿の記入を見ます。見たことも記録に残ります / Entries of the journal; that they were looked at is an entry too."""
    from records.audit import Asked, audit_entries
    from records.found import person_by_login

    assert run.stores
    asked = Asked(
        since.date() if since else None,
        until.date() if until else None,
        person_by_login(login) if login else None,
        event,
        ledger,
        record,
        batch,
        refused,
    )
    for shown in audit_entries(run.stores, run.actor, asked):
        row = shown.row
        value = {
            "entry": row.number,
            "at": row.at,
            "person": row.person,
            "login": shown.login,
            "via": row.via,
            "event": row.event,
            "ledger": row.ledger,
            "batch": row.batch,
            "record": row.record,
            "data": row.data,
            "personal": shown.personal,
            "forgotten": shown.forgotten,
        }
        about = " ".join(filter(None, (row.ledger, row.batch, row.record)))
        words = (
            shown.personal
            if shown.personal is not None
            else run.out.word("（鍵を廃棄済み）", "(key destroyed)")
            if shown.forgotten
            else ""
        )
        run.out.row(
            value, f"{row.number:>8}  {row.at}  {shown.login or '-':<12} {row.via:<3} {row.event:<18} {about}  {words}"
        )


@command(audit, "expire")
def audit_expire(run: Invocation) -> None:
    """保存年数の過ぎた年度の検索語などの鍵を廃棄します / Destroy the keys of search terms and refused logins whose years are over."""
    from records.audit import expire

    done = expire(run.stores, run.actor, run.settings.audit_years)
    run.out.row(
        {"destroyed": done, "years": run.settings.audit_years},
        run.out.word(
            f"廃棄した鍵: {'、'.join(done) or 'なし'}（保存 {run.settings.audit_years} 年）",
            f"Destroyed: {', '.join(done) or 'none'} (kept {run.settings.audit_years} years)",
        ),
    )
