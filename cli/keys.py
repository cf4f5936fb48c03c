"""`daicho keys`: the key folder."""

from __future__ import annotations

from collections.abc import Sequence

from cli.main import Invocation, command, daicho
from storage.port import Finding


@daicho.group("keys")
def keys() -> None:
    """鍵フォルダー / The key folder."""


@command(keys, "check")
def keys_check(run: Invocation) -> None:
    """すべての鍵を開け、保管庫と突き合わせます / Open every key and compare keys with objects: damaged, missing, idle ones."""
    from records.keys import check_keys

    done = check_keys(run.unindexed)
    _tell(run, done.findings)
    for key in done.idle:
        run.out.row({"idle": key}, run.out.word(f"使われていない鍵  {key}", f"idle  {key}"))
    run.out.row(
        {"ok": not done.findings, "keys": done.keys, "findings": len(done.findings), "idle": len(done.idle)},
        run.out.word(
            f"鍵 {done.keys}: " + (f"問題 {len(done.findings)} 件" if done.findings else "問題はありません"),
            f"{done.keys} keys: " + (f"{len(done.findings)} findings" if done.findings else "nothing wrong"),
        ),
    )
    if done.findings:
        raise SystemExit(74)


@command(keys, "rotate")
def keys_rotate(run: Invocation) -> None:
    """マスター鍵を新しくします。止まっても、もう一度で続きから / A new master key for all keys; the same command goes on after a break."""
    from pipelines.keys import rotate

    done = rotate(run.settings, run.stores, run.actor, run.out.progress)
    _tell(run, done.findings)
    run.out.row(
        {"ok": not done.findings, "keys": done.keys, "wrapped": done.wrapped, "findings": len(done.findings)},
        run.out.word(
            f"開けない鍵が {len(done.findings)} 件あるので、前のマスター鍵を残しました。鍵の控えからそのファイルを戻し、もう一度実行してください。",
            f"{len(done.findings)} keys cannot be opened, so the old master key stays. Restore these files from the backup of the keys and run it again.",
        )
        if done.findings
        else run.out.word(
            f"マスター鍵を新しくしました。鍵 {done.keys}（今回包み直したもの {done.wrapped}）。\n"
            "すぐに鍵の控えを取り直してください（daicho backup）。前の控えがある間、前のマスター鍵も生きています。",
            f"There is a new master key. {done.keys} keys, {done.wrapped} of them wrapped anew this time.\n"
            "Back up the keys now (daicho backup). As long as older copies of the key folder exist, so does the old master key.",
        ),
    )
    if done.findings:
        raise SystemExit(74)


def _tell(run: Invocation, findings: Sequence[Finding]) -> None:
    for finding in findings:
        run.out.row(
            {"finding": finding.code, "object": finding.object_id, "path": finding.path, "detail": finding.detail},
            f"! {finding.code}  {finding.object_id}  {finding.path}  {finding.detail}",
        )
