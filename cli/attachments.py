"""`daicho record attach`, `detach` and `export`: files that belong to a record, and a record as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.commands import FILES, record
from cli.main import Invocation, command
from core.errors import BadInput

why_option = click.option("--why", required=True, help="理由 / reason, kept with the generation")
base_option = click.option(
    "--generation",
    "base",
    type=click.IntRange(1),
    default=None,
    help="見た世代（なければ最新） / generation you have seen",
)


@command(record, "attach")
@click.argument("record_id", metavar="RECORD")
@click.argument("files", type=FILES, nargs=-1, required=True)
@why_option
@base_option
def record_attach(run: Invocation, record_id: str, files: tuple[Path, ...], why: str, base: int | None) -> None:
    """ファイルを添付します。次の世代になります / Attach FILES of any kind and size; they make the next generation."""
    from records.attachments import attach, file_at
    from records.show import visible

    base = base or visible(run.actor, record_id).generation
    given = [file_at(file) for file in files]
    _tell(run, attach(run.stores, run.actor, record_id, base, given, why, run.settings.scratch))


@command(record, "detach")
@click.argument("record_id", metavar="RECORD")
@click.argument("attachments", nargs=-1, required=True)
@why_option
@base_option
def record_detach(run: Invocation, record_id: str, attachments: tuple[str, ...], why: str, base: int | None) -> None:
    """添付を最新の世代から外します。前の世代には残ります / Take ATTACHMENTS off; the generations before keep them."""
    from records.attachments import detach
    from records.show import visible

    base = base or visible(run.actor, record_id).generation
    _tell(run, detach(run.stores, run.actor, record_id, base, attachments, why))


def _tell(run: Invocation, made: Any) -> None:
    """The generation that was sealed, with its attachments."""
    from dataclasses import asdict

    from records.attachments import listed

    rows, number = listed(made), made.body["generation"]
    lines = [
        run.out.word(
            f"{made.record} 第 {number} 世代を封印しました。添付 {len(rows)} 件",
            f"{made.record} generation {number} is sealed: {len(rows)} attachments",
        ),
        *(f"  {each.id}  {each.name}  {each.size:,}" for each in rows),
    ]
    value = {"record": made.record, "generation": number, "attachments": [asdict(each) for each in rows]}
    run.out.row(value, "\n".join(lines))


@command(record, "export")
@click.argument("record_id", metavar="RECORD")
@click.argument("folder", type=FILES)
@click.option("--generation", "number", type=click.IntRange(1), default=None, help="世代（なければ最新） / generation")
@click.option("--sealed", is_flag=True, help="暗号化したまま書き出す / as the encrypted files of the store")
@click.option(
    "--recipient", default="", metavar="AGE1…", help="開ける人の age の公開鍵 / age recipient who may open --sealed"
)
def record_export(
    run: Invocation, record_id: str, folder: Path, number: int | None, sealed: bool, recipient: str
) -> None:
    """記録を新しいフォルダーへ書き出します / Write a record, its pages and attachments into a new FOLDER."""
    from records.export import export

    if sealed != bool(recipient):
        raise BadInput(
            "--sealed と --recipient は、いっしょに指定してください。",
            "Give --sealed and --recipient together.",
            code="export.recipient",
        )
    done = export(run.stores, run.actor, record_id, folder, number, recipient=recipient)
    run.out.row(
        {
            "record": record_id,
            "generation": done.generation,
            "folder": str(folder),
            "files": done.files,
            "bytes": done.bytes,
        },
        run.out.word(
            f"第 {done.generation} 世代を {folder} へ書き出しました。{done.files} ファイル、{done.bytes:,} バイト。持ち出しは記録簿に残っています。",
            f"Generation {done.generation} lies in {folder}: {done.files} files, {done.bytes:,} bytes. The journal says so.",
        ),
    )
