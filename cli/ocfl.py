"""`daicho ocfl`: what an auditor runs on a copy, without an installation, a key or a catalogue."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from cli.main import Invocation, command, daicho
from core.errors import BadInput
from storage.ocfl import check_object, check_root, is_error, kind
from storage.port import Checked


@daicho.group("ocfl")
def ocfl() -> None:
    """ほかのシステムのものも含む OCFL / OCFL, also of other systems."""


@command(ocfl, "check")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--warnings", is_flag=True, help="注意（W…）も 1 件ずつ示す / show each warning (W…) too")
def ocfl_check(run: Invocation, folder: Path, warnings: bool) -> None:
    """OCFL 1.0・1.1 の仕様どおりかを、1 バイト残らず確かめます / Check an OCFL object, or a whole storage root, against the specification."""
    found = kind(folder)
    if not found:
        raise BadInput(
            "このフォルダーは OCFL のオブジェクトでも保管庫でもありません。0=ocfl_ で始まるファイルのあるフォルダーを指定してください（daicho の保管庫では objects）。",
            "This folder is neither an OCFL object nor a storage root. Name the one that holds a file beginning with 0=ocfl_ (in a store of daicho: objects).",
            code="ocfl.none",
        )
    counted = Counter[str]()
    objects = files = size = 0
    for checked in check_root(folder) if found == "root" else [check_object(folder, folder.absolute().name)]:
        counted.update(finding.code for finding in checked.findings)
        _tell(run, checked, warnings)
        objects += bool(checked.object_id)
        files += checked.files
        size += checked.bytes
    errors = sum(count for code, count in counted.items() if is_error(code))
    noted = {code: count for code, count in sorted(counted.items()) if not is_error(code)}
    told = ", ".join(f"{code} × {count}" for code, count in noted.items())
    run.out.row(
        {
            "ok": not errors,
            "kind": found,
            "objects": objects,
            "files": files,
            "bytes": size,
            "errors": errors,
            "warnings": noted,
        },
        run.out.word(
            f"オブジェクト {objects}、ファイル {files}、{size:,} バイト: "
            + (f"誤り {errors} 件" if errors else "誤りはありません")
            + (f"（注意: {told}）" if told else ""),
            f"{objects} objects, {files} files, {size:,} bytes: "
            + (f"{errors} errors" if errors else "no errors")
            + (f" (warnings: {told})" if told else ""),
        ),
    )
    if errors:
        raise SystemExit(74)


def _tell(run: Invocation, checked: Checked, warnings: bool) -> None:
    for finding in checked.findings:
        if warnings or is_error(finding.code):
            run.out.row(
                {"finding": finding.code, "object": finding.object_id, "path": finding.path, "detail": finding.detail},
                f"{'!' if is_error(finding.code) else '-'} {finding.code}  {finding.object_id}  {finding.path}  {finding.detail}",
            )
