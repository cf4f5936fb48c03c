"""`daicho locks`: for every day, and for whoever wants to know that the days were kept."""

from __future__ import annotations

from cli.main import Invocation, command, daicho
from storage.port import Finding


@daicho.group("locks")
def locks() -> None:
    """保管庫のロック / Locks of the store."""


@command(locks, "extend")
def locks_extend(run: Invocation) -> None:
    """封印済みのもののロックのうち、今日の分を延ばします。毎日行います / Lengthen the locks whose turn it is; for every day."""
    from records.locks import extend_locks

    done = extend_locks(run.unindexed, run.settings, run.out.progress)
    _tell(run, done.failed)
    run.out.row(
        {
            "objects": done.objects,
            "due": done.due,
            "lengthened": done.lengthened,
            "until": done.until,
            "failed": len(done.failed),
        },
        run.out.word(
            f"オブジェクト {done.objects} のうち、今日の {done.due} を {done.until[:10]} までロックしました。延ばしたファイル {done.lengthened}",
            f"Locked until {done.until[:10]}: {done.due} of {done.objects} objects had their turn, {done.lengthened} files lengthened",
        ),
    )
    if done.failed:
        raise SystemExit(74)


@command(locks, "check")
def locks_check(run: Invocation) -> None:
    """すべてのロックがいつ切れるかを保管庫に聞き、まもなく切れるものを示します / Ask the store when all locks end, and name those that are about to."""
    from records.locks import ending_locks

    found = ending_locks(run.unindexed, run.settings, all_of_them=True, progress=run.out.progress)
    _tell(run, found.short)
    last, soonest = found.extended or "―", found.soonest[:10] or "―"
    run.out.row(
        {"extended": found.extended, "asked": found.asked, "soonest": found.soonest, "short": len(found.short)},
        run.out.word(
            f"聞いたオブジェクト {found.asked}、最初に切れる日 {soonest}、最後に延ばした日 {last}",
            f"{found.asked} objects asked; the first lock ends {soonest}; last lengthened {last}",
        ),
    )
    if found.alarm:
        raise found.alarm


def _tell(run: Invocation, findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        run.out.row(
            {"finding": finding.code, "object": finding.object_id, "detail": finding.detail},
            f"! {finding.code}  {finding.object_id or 'journal'}  {finding.detail}",
        )
