"""The commands, in the order in which somebody meets them."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click

from cli.main import Invocation, command, daicho, engines_option, pairs, program_left_out
from core.errors import DaichoError
from ingest.form import ItemType

FILES = click.Path(path_type=Path)


@command(daicho, "init")
@engines_option
@click.option("--municipality", default="（名前のない自治体）", help="自治体の名前 / name of the municipality")
@click.option("--login", default="officer", help="最初の人のログイン名 / login of the first person")
@click.option("--name", default="文書管理担当", help="その人の名前 / that person's name")
def init(run: Invocation, municipality: str, login: str, name: str) -> None:
    """新しい導入を作ります / Make a new installation: store, keys, catalogue, its first person."""
    from records.found import found
    from wiring.open import create, founding

    stores = create(run.settings, login)
    with founding(run.settings):
        found(stores, municipality, login, name)
    run.out.row(
        {"store": stores.id, "data": str(run.settings.data), "keys": str(run.settings.keys), "person": login},
        run.out.word(
            f"導入しました。データ: {run.settings.data}  鍵: {run.settings.keys}\n"
            "鍵フォルダーを失うと、すべての記録が読めなくなります。別の媒体にも保管してください。\n"
            "次は: daicho ledger apply フォルダー",
            f"Done. Data: {run.settings.data}  keys: {run.settings.keys}\n"
            "Whoever loses the key folder loses every record: keep a copy on other media.\n"
            "Next: daicho ledger apply FOLDER",
        ),
    )


@command(daicho, "demo")
@engines_option
@click.option("--serve/--no-serve", default=True, help="終わったらウェブ画面を開く / serve the web page at the end")
@click.option("--port", type=int, default=None, help="ウェブ画面のポート / port of the web page")
@click.option("--jobs", type=int, default=None, help="並列数 / worker processes")
def demo(run: Invocation, serve: bool, port: int | None, jobs: int | None) -> None:
    """見本の自治体で、スキャンから検索までを一通り行います / The whole way from scans to search, on a sample municipality."""
    from pipelines.demo import run_demo

    stores, passwords = run_demo(run.settings, run.out, jobs, program_left_out())
    if serve:
        from cli.serving import serve_pages

        serve_pages(run, stores, port, passwords)


@daicho.group("ledger")
def ledger() -> None:
    """台帳の定義 / Definitions of ledgers."""


@command(ledger, "apply")
@click.argument("folder", type=FILES)
def ledger_apply(run: Invocation, folder: Path) -> None:
    """フォルダーの定義を台帳にします / Make the definition in FOLDER the newest of its ledger."""
    from records.found import define
    from records.template import read_folder

    template = read_folder(folder)
    version = define(run.stores, run.actor, template)
    name = run.out.label(template.definition.name)
    run.out.row(
        {"ledger": template.definition.id, "version": version, "name": template.definition.name},
        run.out.word(
            f"台帳「{name}」({template.definition.id}) の定義は第 {version} 版です。",
            f'Ledger "{name}" ({template.definition.id}) has definition version {version}.',
        ),
    )


@command(ledger, "list")
def ledger_list(run: Invocation) -> None:
    """台帳の一覧 / The ledgers that you may use."""
    from records.found import visible_ledgers

    actor = run.actor
    for definition, version in visible_ledgers(actor):
        run.out.row(
            {
                "ledger": definition.id,
                "version": version,
                "name": definition.name,
                "forms": [f.id for f in definition.forms],
            },
            f"{definition.id:<20} v{version}  {run.out.label(definition.name)}",
        )


@daicho.group("person")
def person() -> None:
    """人と所属 / People and their posts."""


@command(person, "list")
def person_list(run: Invocation) -> None:
    """人の一覧 / Everybody with their posts."""
    from records.found import people
    from records.operation import note_alone

    listed = people(run.actor)
    note_alone(run.stores, run.actor, "people_viewed")
    for login, name, posts in listed:
        run.out.row({"login": login, "name": name, "posts": posts}, f"{login:<16} {name}  {' '.join(posts)}")


@command(person, "add")
@click.argument("login")
@click.option("--name", required=True, help="名前 / name")
@click.option("--post", "posts", multiple=True, help="所属（何度でも） / a post (may be repeated)")
def person_add(run: Invocation, login: str, name: str, posts: tuple[str, ...]) -> None:
    """人を登録するか、名前と所属を改めます / Register a person, or give them this name and exactly these posts."""
    from records.found import save_person

    save_person(run.stores, run.actor, login, name, posts)
    run.out.row(
        {"login": login, "posts": sorted(posts)}, run.out.word(f"{login} を登録しました。", f"Registered {login}.")
    )


@command(person, "password")
@click.argument("login")
def person_password(run: Invocation, login: str) -> None:
    """新しいパスワードを作り、一度だけ表示します / Make a new random password and print it once."""
    from records.found import new_password

    password = new_password(run.stores, run.actor, login)
    run.out.row(
        {"login": login, "password": password},
        run.out.word(
            f"{login} の新しいパスワード: {password}（もう表示されません）",
            f"New password of {login}: {password} (not shown again)",
        ),
    )


@command(daicho, "ingest")
@click.argument("paths", type=FILES, nargs=-1, required=True)
@click.option("--ledger", "ledger_id", required=True, help="台帳 / ledger of sheets whose codes name none")
@click.option("--name", default="", help="束の呼び名 / what people call the batch")
@click.option("--jobs", type=click.IntRange(1, 256), default=None, help="並列数 / worker processes")
@click.option(
    "--text/--no-text", default=True, help="ページ全体の文字も読む / also read whole pages where the ledger wants it"
)
def ingest(run: Invocation, paths: tuple[Path, ...], ledger_id: str, name: str, jobs: int | None, text: bool) -> None:
    """スキャンを取り込みます / Bring in files and folders of scans. The same command again goes on where it stopped."""
    from ingest.pages import refusal
    from pipelines.ingest import ingest as bring_in
    from pipelines.texts import read_texts
    from records.batches import balance

    done = bring_in(
        run.settings, run.stores, run.actor, paths, ledger_id, name=name, jobs=jobs, progress=run.out.progress
    )
    if done.left_out:
        names = ", ".join(done.left_out[:10]) + (" …" if len(done.left_out) > 10 else "")
        run.out.say(f"スキャンでないので数えなかったファイル: {names}", f"Not scans, not counted: {names}")
    for batch in done.batches:
        one = balance(run.actor, batch)
        for sheet in one.sheets:
            if sheet.state == "refused":
                run.out.error(refusal(sheet.reason), sheet.file, sheet.page)
        _print_balance(run, one, sheets=False, again=batch in done.again)
    if text:
        read_texts(run.settings, run.stores, run.actor, jobs=jobs, progress=run.out.progress)


@daicho.group("batch")
def batch() -> None:
    """バッチ（一度に取り込んだ束） / Batches: what was brought in together."""


@command(batch, "list")
def batch_list(run: Invocation) -> None:
    """バッチの一覧 / Batches with their balance."""
    from records.batches import list_batches
    from records.operation import note_alone

    listed = list_batches(run.actor)
    note_alone(run.stores, run.actor, "batches_viewed")
    for each in listed:
        _print_balance(run, each, sheets=False)


@command(batch, "show")
@click.argument("batch_id", metavar="BATCH")
def batch_show(run: Invocation, batch_id: str) -> None:
    """バッチの紙を一枚ずつ示します / The balance of a batch, every sheet by name with its outcome."""
    from records.batches import balance
    from records.operation import note_alone

    one = balance(run.actor, batch_id)
    note_alone(run.stores, run.actor, "batch_viewed", ledger=one.ledger, batch=one.batch)
    _print_balance(run, one, sheets=True)


@command(batch, "close")
@click.argument("batch_id", metavar="BATCH")
def batch_close(run: Invocation, batch_id: str) -> None:
    """確認の終わったバッチを締めます / Close a batch in which nothing waits."""
    from records.batches import close_batch

    _print_balance(run, close_batch(run.stores, run.actor, batch_id), sheets=False)


def _print_balance(run: Invocation, one: Any, *, sheets: bool, again: bool = False) -> None:
    value = {
        "batch": one.batch,
        "name": one.name,
        "ledger": one.ledger,
        "opened": one.opened_at,
        "closed": one.closed_at,
        "sheets": one.total,
        "sealed": one.sealed,
        "waiting": one.waiting,
        "refused": one.refused,
        "unread": one.unread,
        "balanced": one.balanced,
    }
    out = run.out
    if again:
        value["notice"] = "batch.again"
        out.say(
            "[batch.again] 同じ束は取り込み済みです。二重には登録していません。`daicho batch show` で確かめられます。",
            "[batch.again] The same sheets were brought in before; nothing was sealed twice. See `daicho batch show`.",
        )
    state = out.word("締め済み", "closed") if one.closed_at else out.word("未了", "open")
    line = out.word(
        f"{one.batch}  {out.label(one.ledger_name)}  {one.name}  入 {one.total} = 封印 {one.sealed} + 確認待ち {one.waiting} + 不受理 {one.refused}"
        + (f" + 未読 {one.unread}" if one.unread else "")
        + f"  [{state}]",
        f"{one.batch}  {out.label(one.ledger_name)}  {one.name}  in {one.total} = sealed {one.sealed} + waiting {one.waiting} + refused {one.refused}"
        + (f" + unread {one.unread}" if one.unread else "")
        + f"  [{state}]",
    )
    if sheets:
        value["by_name"] = [
            {
                "number": sheet.number,
                "file": sheet.file,
                "page": sheet.page,
                "kind": sheet.kind,
                "state": sheet.state or "unread",
                "reason": sheet.reason,
                "record": sheet.record_id,
            }
            for sheet in one.sheets
        ]
    out.row(value, line)
    if sheets and not out.as_json:
        for sheet in one.sheets:
            click.echo(
                f"  {sheet.number:>4}  {sheet.state or 'unread':<8} {sheet.reason or '-':<16} {sheet.kind:<9} {sheet.file} p.{sheet.page}"
            )


@command(daicho, "queue")
@click.option("--batch", "batch_id", default=None, help="バッチ / only of this batch")
def queue(run: Invocation, batch_id: str | None) -> None:
    """人の確認を待っているもの / Cases that wait for a person."""
    from records.batches import waiting_cases
    from records.operation import note_alone

    cases = waiting_cases(run.actor, batch_id)
    note_alone(run.stores, run.actor, "queue_viewed", batch=batch_id or "")
    for case in cases:
        items = [
            {"item": each.item, "reason": each.reason, "confidence": each.confidence / 1000} for each in case.items
        ]
        run.out.row(
            {
                "record": case.record,
                "ledger": case.ledger,
                "batch": case.batch,
                "reason": case.reason,
                "sheets": list(case.sheets),
                "items": items,
            },
            f"{case.record}  {case.ledger}  {case.reason}  {', '.join(case.sheets)}  "
            + " ".join(f"{each['item']}:{each['reason']}" for each in items),
        )


@command(daicho, "read")
@click.argument("images", type=FILES, nargs=-1, required=True)
@click.option(
    "--type", "item_type", type=click.Choice(get_args(ItemType)), default="text", help="項目の型 / type of item"
)
def read(run: Invocation, images: tuple[Path, ...], item_type: str) -> None:
    """切り出した文字の画像を読みます / Read images of one item each."""
    from ingest.pages import LimitedPageSource
    from ingest.readers import PaddleReader
    from ingest.sheet import read_image

    reader = PaddleReader()
    failed: DaichoError | None = None
    with LimitedPageSource() as source:
        for image in images:
            try:
                value, confidence = read_image(source.page(image, 0).pixels, item_type, reader)  # type: ignore[arg-type]
            except DaichoError as error:
                failed = error
                run.out.error(error, str(image))
                continue
            run.out.row(
                {"file": str(image), "value": value, "confidence": round(confidence, 4)},
                f"{image}: {value}  ({confidence:.3f})",
            )
    if failed is not None:
        raise SystemExit(failed.exit_code)


@command(daicho, "codes")
@click.argument("files", type=FILES, nargs=-1, required=True)
def codes(run: Invocation, files: tuple[Path, ...]) -> None:
    """バーコードと二次元コードを読みます / Read bar codes and 2D codes, page by page."""
    from ingest.codes import CodeReaders
    from ingest.pages import LimitedPageSource, read_codes

    reader = CodeReaders.installed()
    failed: DaichoError | None = None
    with LimitedPageSource() as source:
        for file in files:
            try:
                for index, found in read_codes(source, reader, file):
                    rows = [{"format": each.format, "text": each.text, "box": list(each.box)} for each in found]
                    run.out.row(
                        {"file": str(file), "page": index + 1, "codes": rows},
                        f"{file} p.{index + 1}: " + ("; ".join(f"{each.format} {each.text}" for each in found) or "-"),
                    )
            except DaichoError as error:
                failed = error
                run.out.error(error, str(file))
    if failed is not None:
        raise SystemExit(failed.exit_code)


@command(daicho, "search")
@click.argument("text", nargs=-1)
@click.option("--ledger", "ledger_id", default=None, help="台帳 / only in this ledger")
@click.option(
    "--facet", "facets", multiple=True, help="件数を数える切り口 / count hits per value: ledger, year, a choice item"
)
@click.option("--where", multiple=True, metavar="ITEM=VALUE", help="項目が値を含む / the item contains the value")
@click.option("--has", multiple=True, metavar="FACET=VALUE", help="切り口の値で絞る / only hits with this facet value")
@click.option("--past", is_flag=True, help="過去の世代も / also past generations")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, help="件数 / hits a page")
@click.option("--cursor", default=None, help="続きの印 / cursor of the next page")
def search(
    run: Invocation,
    text: tuple[str, ...],
    ledger_id: str | None,
    facets: tuple[str, ...],
    where: tuple[str, ...],
    has: tuple[str, ...],
    past: bool,
    limit: int,
    cursor: str | None,
) -> None:
    """台帳を横断して探します / Search all ledgers that you may see."""
    from records.find import find
    from records.values import shown

    results = find(
        run.stores,
        run.actor,
        " ".join(text),
        ledger=ledger_id,
        where=pairs(where, "--where"),
        has=pairs(has, "--has"),
        facets=facets,
        past=past,
        limit=limit,
        cursor=cursor,
    )
    for hit in results.hits:
        title = {name: value for name, value in hit.title.items() if value}
        words = []
        for name, value in title.items():
            item = hit.definition.item(name)
            words.append(shown(item, value) if item else value)
        run.out.row(
            {
                "record": hit.record,
                "ledger": hit.ledger,
                "generation": hit.generation,
                "title": title,
                "form": hit.form,
                "sheets": list(hit.sheets),
            },
            f"{hit.record}  {run.out.label(hit.definition.name)}  第{hit.generation}世代  {'  '.join(words)}  {', '.join(hit.sheets)}",
        )
    for facet, counted in results.facets.items():
        run.out.row(
            {"facet": facet, "counts": dict(counted)},
            f"{facet}: " + ", ".join(f"{value} {count}" for value, count in sorted(counted.items())),
        )
    if results.cursor:
        run.out.row(
            {"cursor": results.cursor, "total": results.total},
            run.out.word(f"続き: --cursor {results.cursor}", f"More: --cursor {results.cursor}"),
        )
    if not run.out.as_json:
        run.out.say(f"{results.total} 件", f"{results.total} hits")


@daicho.group("record")
def record() -> None:
    """記録 / Records."""


@command(record, "show")
@click.argument("record_id", metavar="RECORD")
@click.option("--version", "number", type=click.IntRange(1), default=None, help="世代 / generation")
def record_show(run: Invocation, record_id: str, number: int | None) -> None:
    """記録の中身と保存期間 / A record: its values, pages and retention."""
    from records.attachments import listed
    from records.show import show, values_as_read
    from records.values import shown

    one = show(run.stores, run.actor, record_id, number)
    rows, attachments = values_as_read(one), listed(one.content)
    retention = {
        "state": one.row.retention_state,
        "start": one.row.retention_start,
        "due": one.row.retention_due,
        "action": one.row.retention_action,
        "schedule": one.ledger.schedule.title,
    }
    value = {
        "record": one.record,
        "ledger": one.ledger.id,
        "generation": one.generation,
        "newest": one.newest,
        "form": one.row.form,
        "at": one.row.at,
        "by": one.by,
        "values": {row["item"]: row["value"] for row in rows},
        "items": rows,
        "pages": one.content.body["pages"],
        "attachments": [asdict(each) for each in attachments],
        "retention": retention,
        "sheets": list(one.sheets),
    }
    out = run.out
    lines = [
        f"{one.record}  {out.label(one.ledger.name)}  第{one.generation}世代（最新 {one.newest}）  {', '.join(one.sheets)}"
    ]
    for row in rows:
        item = one.ledger.item(row["item"])
        assert item is not None
        value_line = out.word("（廃棄済み）", "(destroyed)") if "destroyed" in row else shown(item, row["value"])
        lines.append(f"  {_padded(out.label(row['label']), 20)} {value_line}")
    lines += [f"  {out.word('添付', 'attached')}  {each.id}  {each.name}  {each.size:,}" for each in attachments]
    lines.append("  " + _retention_line(out, retention))
    out.row(value, "\n".join(lines))


def _padded(text: str, width: int) -> str:
    """Padded to a width in terminal cells: full-width characters take two."""
    cells = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
    return text + " " * max(0, width - cells)


def _retention_line(out: Any, retention: dict[str, Any]) -> str:
    title = out.label(retention["schedule"])
    if retention["state"] == "running":
        return out.word(
            f"保存期間: {title}  起算 {retention['start']}  満了 {retention['due']}  満了後 {retention['action']}",
            f"Retention: {title}  from {retention['start']}  until {retention['due']}  then {retention['action']}",
        )
    if retention["state"] == "living":
        return out.word(
            f"保存期間: {title}  常用（まだ起算していません）", f"Retention: {title}  living, not started yet"
        )
    return out.word(f"保存期間: {title}  永年", f"Retention: {title}  permanent")


@command(record, "history")
@click.argument("record_id", metavar="RECORD")
def record_history(run: Invocation, record_id: str) -> None:
    """記録の履歴 / What has happened to a record, oldest first."""
    from records.show import history

    for change in history(run.stores, run.actor, record_id):
        run.out.row(
            {
                "entry": change.number,
                "at": change.at,
                "event": change.event,
                "generation": change.generation,
                "by": change.by,
                "why": change.why,
            },
            f"{change.at}  {change.event:<10} 第{change.generation}世代  {change.by}  {change.why}",
        )


@command(daicho, "verify")
@click.option(
    "--store",
    type=FILES,
    default=None,
    help="導入なしに、この保管庫・控えだけを確かめる / only this store or backup, no installation",
)
@click.option(
    "--repair-from",
    "copy",
    type=FILES,
    default=None,
    help="壊れたもの・欠けたものを、この写しから戻す / put back from this copy what is damaged or missing",
)
@click.option("--resume", is_flag=True, help="途中で止まった確認の続きから / go on where a verification was broken off")
@click.option(
    "--within",
    type=click.IntRange(1, 3650),
    default=None,
    metavar="DAYS",
    help="この日数で一巡するように、今日の分だけ / only today's part, so that all is read in so many days",
)
@click.option("--jobs", type=click.IntRange(1, 256), default=None, help="並列数 / objects read at a time")
@click.option(
    "--rate", type=click.FloatRange(0.001), default=None, metavar="MB", help="毎秒の上限（MB） / MB a second at most"
)
def verify(
    run: Invocation,
    store: Path | None,
    copy: Path | None,
    resume: bool,
    within: int | None,
    jobs: int | None,
    rate: float | None,
) -> None:
    """保管庫を1バイト残らず確かめます / Read every byte of the store and say what is wrong, and where."""
    from core.errors import BadInput, StoreDamaged
    from pipelines.verification import Speed, repair, verify_installation, verify_store, verify_unopened

    if sum((store is not None, copy is not None, resume or within is not None)) > 1:
        raise BadInput(
            "--store、--repair-from、--resume（または --within）は、どれか一つだけ指定できます。",
            "Give only one of --store, --repair-from, --resume (or --within).",
            code="verify.options",
        )
    speed = Speed(jobs or run.settings.jobs, (rate or 0.0) * 1e6)
    repaired: tuple[str, ...] = ()
    if store is not None:
        result = verify_store(run.settings, store, speed, run.out.progress)
    elif copy is not None:
        mended = repair(run.settings, copy, speed, run.out.progress)
        repaired, result = mended.places, mended.result
    else:
        try:
            stores = run.suspect
        except StoreDamaged:
            result = verify_unopened(run.settings, speed, run.out.progress)
        else:
            result = verify_installation(
                run.settings, stores, speed, resume=resume, within=within or 0, progress=run.out.progress
            )
    for place in repaired:
        run.out.row({"repaired": place}, run.out.word(f"+ 戻しました  {place}", f"+ put back  {place}"))
    for finding in result.findings:
        run.out.row(
            {"finding": finding.code, "object": finding.object_id, "path": finding.path, "detail": finding.detail},
            f"! {finding.code}  {finding.object_id}  {finding.path}  {finding.detail}",
        )
    run.out.row(
        {
            "ok": not result.findings,
            "whole": result.whole,
            "objects": result.objects,
            "files": result.files,
            "bytes": result.bytes,
            "segments": result.segments,
            "keys": result.keys,
            "findings": len(result.findings),
            "unacknowledged": len(result.unacknowledged),
        },
        run.out.word(
            f"オブジェクト {result.objects}、ファイル {result.files}、{result.bytes:,} バイト、記録簿 {result.segments} 区切り、鍵 {result.keys}: "
            + (f"問題 {len(result.findings)} 件" if result.findings else "問題はありません")
            + ("" if result.whole else "（一巡の途中です。続きは次の回に）"),
            f"{result.objects} objects, {result.files} files, {result.bytes:,} bytes, {result.segments} journal segments, {result.keys} keys: "
            + (f"{len(result.findings)} findings" if result.findings else "nothing wrong")
            + ("" if result.whole else " (a part of the round; the next run goes on)"),
        ),
    )
    if result.findings:
        raise SystemExit(74)


@command(daicho, "rebuild")
@click.option(
    "--from",
    "store",
    type=FILES,
    default=None,
    help="読むだけの保管庫のフォルダー（写し・控えの store）。--data は新しいフォルダー / folder of a store that is only read, a copy or a backup's "
    "store; --data names a new folder",
)
def rebuild(run: Invocation, store: Path | None) -> None:
    """目録と索引を保管庫から作り直します。止まっても、もう一度で続きから / Make catalogue and index again from store and keys."""
    from pipelines.rebuild import read_from
    from pipelines.rebuild import rebuild as make_again

    done = make_again(read_from(run.settings, store) if store else run.settings, run.out.progress)
    for finding in done.findings:
        run.out.row(
            {"finding": finding.code, "object": finding.object_id, "path": finding.path, "detail": finding.detail},
            f"! {finding.code}  {finding.object_id}  {finding.path}  {finding.detail}",
        )
    run.out.row(
        {
            "segments": done.segments,
            "records": done.records,
            "texts": done.texts,
            "passwords": done.passwords,
            "findings": len(done.findings),
        },
        run.out.word(
            f"作り直しました。記録簿 {done.segments} 区切り、索引 {done.records} 件、引き継いだパスワード {done.passwords} 人",
            f"Rebuilt: {done.segments} journal segments, {done.records} records indexed, {done.passwords} passwords carried over",
        ),
    )
    if done.passwords == 0:
        run.out.say(
            "パスワードは引き継げませんでした。`daicho person password ログイン名` で作り直してください。",
            "No passwords could be carried over. Make new ones with `daicho person password LOGIN`.",
        )
    if done.findings:
        run.out.say(
            f"目録は作れましたが、保管庫か鍵に {len(done.findings)} 件の欠けや傷があります。控えから復元してください。",
            f"The catalogue is made, but {len(done.findings)} things are missing or damaged in the store or among the keys. Restore them from a backup.",
        )
        raise SystemExit(74)


@command(daicho, "reindex")
def reindex(run: Invocation) -> None:
    """索引だけを作り直します。その間も今の索引で探せます / Make the index again; searches go on meanwhile."""
    from pipelines.rebuild import reindex as make_again

    records = make_again(run.settings, run.unindexed)
    run.out.row(
        {"records": records},
        run.out.word(f"索引を作り直しました。{records} 件", f"The index is made again: {records} records"),
    )


@command(daicho, "migrate")
@click.option(
    "--to",
    "to",
    type=FILES,
    default=None,
    help="移す先のエンジンを書いたファイル。書いたものだけを移します / file that names the engines; only what it names moves",
)
@click.option(
    "--embedded", is_flag=True, help="すべてデータフォルダーの中へ戻す / move all of it back into the data folder"
)
def migrate(run: Invocation, to: Path | None, embedded: bool) -> None:
    """保管庫・目録・索引を別のエンジンへ移します。途中で止まっても、もう一度で続きから / Move store, catalogue and index to other engines."""
    from dataclasses import replace

    from core.errors import BadInput
    from core.settings import load
    from pipelines.migrate import migrate as move

    if (to is None) != embedded:
        raise BadInput(
            "--to ファイル か --embedded の、どちらか一つを指定してください。",
            "Give either --to FILE or --embedded.",
            code="migrate.where",
        )
    if to is None:
        target = replace(run.settings, store_engine=None, catalogue_engine=None, index_engine=None)
    else:
        told = load(run.settings.data, run.settings.keys, engines=to, language=run.settings.language)
        target = replace(
            run.settings,
            store_engine=told.store_engine or run.settings.store_engine,
            catalogue_engine=told.catalogue_engine or run.settings.catalogue_engine,
            index_engine=told.index_engine or run.settings.index_engine,
        )
    done = move(run.settings, target, run.out.progress)
    copied = done.copied
    run.out.row(
        {
            "moved": list(done.moved),
            "objects": copied.objects if copied else 0,
            "versions": copied.versions if copied else 0,
            "written": copied.versions_written if copied else 0,
            "segments": copied.segments if copied else 0,
            "records": done.records,
            "digest": done.digest,
        },
        run.out.word(
            f"移しました（{'、'.join(done.moved)}）。目録のダイジェストは前と同じ {done.digest} です。\n"
            "移す前のものは、そのまま残っています。ほかの機械の設定も新しくし、古い先への権限を外してください（docs/operate.md）。",
            f"Moved ({', '.join(done.moved)}). The catalogue's digest is the same as before: {done.digest}.\n"
            "What was there before still lies there. Give other machines the new settings, and take the rights on the old place away (docs/operate.md).",
        ),
    )


@command(daicho, "backup")
@click.argument("target", type=FILES)
@click.option("--keys-target", type=FILES, default=None, help="鍵を別に置く先 / where the keys go, apart from the rest")
@click.option("--full", is_flag=True, help="控えも全部読み、傷みを直す / also read the whole copy and mend it")
def backup(run: Invocation, target: Path, keys_target: Path | None, full: bool) -> None:
    """保管庫と鍵の控えを取ります / Copy store and keys to a folder or bucket; what is there already is not copied again."""
    from core.clock import day_in_japan
    from pipelines.backups import back_up

    report = back_up(run.settings, target, keys_target, run.out.progress, full=full)
    done, keys = report.store, report.keys
    for finding in report.damaged:
        run.out.row(
            {"finding": "backup.damaged", "object": finding.object_id, "path": finding.path, "detail": finding.detail},
            f"! backup.damaged  {finding.object_id}  {finding.path}  {finding.detail}",
        )
    for key_id in keys.gone:
        run.out.row(
            {"finding": "keys.gone", "object": key_id},
            run.out.word(
                f"! keys.gone  {key_id}  前の控えにはありました。廃棄したのでなければ、前の控えから戻してください",
                f"! keys.gone  {key_id}  the copy before has it; unless it was destroyed, bring it back from there",
            ),
        )
    until = day_in_japan(keys.until).isoformat()
    run.out.row(
        {
            "store": report.store_id,
            "segments": done.segments,
            "new_segments": done.new_segments,
            "versions": done.versions,
            "files": done.files,
            "bytes": done.bytes,
            "repaired": report.repaired,
            "damaged": len(report.damaged),
            "keys": keys.keys,
            "keys_copied": keys.copied,
            "keys_gone": len(keys.gone),
            "generation": keys.name,
            "expired": keys.expired,
            "keys_until": until,
        },
        run.out.word(
            f"控えを取りました。記録簿 {done.segments} 区切り（今回 {done.new_segments}）、新しい版 {done.versions}（{done.files} ファイル、{done.bytes:,} バイトを読み返し）、"
            f"鍵 {keys.keys}（今回 {keys.copied}）\n今日廃棄する鍵が、この保存先の控えから消える日: {until} の次の控え",
            f"Copied: {done.segments} journal segments ({done.new_segments} new), {done.versions} new versions ({done.files} files, {done.bytes:,} bytes read back), "
            f"{keys.keys} keys ({keys.copied} copied)\nA key destroyed today is gone from this target with the first backup after {until}",
        ),
    )
    if report.damaged:
        raise SystemExit(74)


@command(daicho, "restore")
@click.argument("source", type=FILES)
@click.option("--keys-source", type=FILES, default=None, help="鍵の控えの場所 / where the copy of the keys lies")
def restore(run: Invocation, source: Path, keys_source: Path | None) -> None:
    """控えから空のフォルダーへ戻し、目録と索引を作ります / Bring a backup back into empty folders and rebuild."""
    from pipelines.backups import restore as bring_back

    report, done = bring_back(run.settings, source, keys_source, run.out.progress)
    for finding in report.store.damaged:
        run.out.row(
            {"finding": "backup.damaged", "object": finding.object_id, "path": finding.path, "detail": finding.detail},
            f"! backup.damaged  {finding.object_id}  {finding.path}  {finding.detail}",
        )
    told = {finding.object_id for finding in report.store.damaged}
    lacking = [finding for finding in done.findings if finding.object_id not in told]  # a key, for one
    for finding in lacking:
        run.out.row(
            {"finding": finding.code, "object": finding.object_id, "path": finding.path, "detail": finding.detail},
            f"! {finding.code}  {finding.object_id}  {finding.path}  {finding.detail}",
        )
    run.out.row(
        {
            "store": report.store_id,
            "segments": done.segments,
            "versions": report.store.versions,
            "files": report.store.files,
            "bytes": report.store.bytes,
            "damaged": len(report.store.damaged) + len(lacking),
            "records": done.records,
        },
        run.out.word(
            f"戻しました。記録簿 {done.segments} 区切り、版 {report.store.versions}、索引 {done.records} 件\n"
            "パスワードは控えに含まれません。`daicho person password ログイン名` で作り直してください。",
            f"Restored: {done.segments} journal segments, {report.store.versions} versions, {done.records} records indexed\n"
            "Passwords are not part of a backup. Make new ones with `daicho person password LOGIN`.",
        ),
    )
    if report.store.damaged or lacking:
        run.out.say(
            "控えに傷みがあり、上の記録は戻せていません。別の控えがあれば `daicho verify --repair-from` で戻せます。",
            "The backup is damaged: what is named above was not brought back. Another copy may have it: `daicho verify --repair-from`.",
        )
        raise SystemExit(74)


@command(daicho, "drill")
@click.argument("source", type=FILES)
@click.option("--keys-source", type=FILES, default=None, help="鍵の控えの場所 / where the copy of the keys lies")
def drill(run: Invocation, source: Path, keys_source: Path | None) -> None:
    """控えから戻せるかを試し、結果を報告して片付けます / Try a backup out: restore, rebuild, verify, compare, open records; then remove it all."""
    from pipelines.backups import drill as try_out

    done = try_out(run.settings, run.stores, run.actor, source, keys_source)
    for finding in done.findings:
        run.out.row(
            {"finding": finding.code, "object": finding.object_id, "path": finding.path, "detail": finding.detail},
            f"! {finding.code}  {finding.object_id}  {finding.path}  {finding.detail}",
        )
    same = done.digest == done.expected
    run.out.row(
        {
            "passed": done.passed,
            "segment": done.segment,
            "lacking": done.lacking,
            "objects": done.objects,
            "opened": done.opened,
            "findings": len(done.findings),
            "digest": done.digest,
            "same": same,
            "seconds": dict(done.seconds),
        },
        run.out.word(
            ("訓練は成功です。" if done.passed else "訓練は失敗です。")
            + f"記録簿 {done.segment} 区切り（その後 {done.lacking}）、オブジェクト {done.objects}、開いた記録 {done.opened}、"
            + ("目録は一致" if same else "目録が一致しません")
            + f"、問題 {len(done.findings)} 件  {dict(done.seconds)} 秒",
            ("The drill passed. " if done.passed else "The drill failed. ")
            + f"{done.segment} journal segments ({done.lacking} since), {done.objects} objects, {done.opened} records opened, "
            + ("the catalogue is the same" if same else "the catalogue differs")
            + f", {len(done.findings)} findings; seconds: {dict(done.seconds)}",
        ),
    )
    if not done.passed:
        raise SystemExit(74)


@command(daicho, "serve")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="ポート（0 は空き） / port, 0 for a free one")
def serve(run: Invocation, port: int | None) -> None:
    """ウェブ画面を出します / Serve the web pages."""
    from cli.serving import serve_pages

    serve_pages(run, run.stores, port, {})


@command(daicho, "info")
def info(run: Invocation) -> None:
    """導入の様子と目録のダイジェスト / The installation and a digest over its catalogue."""
    from pipelines.inform import ask_engines, inform

    failed = [(each.part, each.error) for each in ask_engines(run.settings) if each.error is not None]
    for part, error in failed:
        run.out.error(error, part=part)
    if failed:
        raise SystemExit(failed[0][1].exit_code)
    value = inform(run.settings, run.stores)
    left_out = program_left_out()
    value["left_out"] = left_out
    lines = [
        run.out.word(f"自治体   {value['municipality']}", f"Municipality  {value['municipality']}"),
        f"store    {value['store']}  {value['engine']}",
        f"engines  {value['catalogue']}, {value['index']}",
        f"WORM     {value['worm']}" + (f" (asked {value['probed']})" if value["probed"] else ""),
        *_locks_line(run, value["locks"]),
        "decoder  " + ", ".join(f"{name} {state}" for name, state in value["decoder"].items()),
        f"digest   {value['digest']}",
        f"journal  {value['entries']} entries, {value['segments']} segments, signed up to {value['signed']}",
        f"index    {value['index_documents']} documents, upto {value['index_upto']} of {value['entries']}",
        *_care_lines(run, value),
        "tables   " + ", ".join(f"{name} {count}" for name, count in value["tables"].items()),
        *(run.out.word("ない道具 ", "left out ") + line for line in left_out),
    ]
    run.out.row(value, "\n".join(lines))


def _locks_line(run: Invocation, locks: dict[str, Any]) -> list[str]:
    if not locks:
        return []
    last, soonest = locks["extended"] or "―", locks["soonest"][:10] or "―"
    line = run.out.word(
        f"ロック   最後に延ばした日 {last}、聞いた {locks['asked']} 件のうち最初に切れる日 {soonest}",
        f"locks    last lengthened {last}; of {locks['asked']} objects asked the first lock ends {soonest}",
    )
    alarm = run.out.word(
        f"! {locks['alarm']}  まもなく切れるロックがあります。`daicho locks extend` を実行してください。",
        f"! {locks['alarm']}  locks are about to end. Run `daicho locks extend`.",
    )
    return [line, alarm] if locks["alarm"] else [line]


def _care_lines(run: Invocation, value: dict[str, Any]) -> list[str]:
    """When everything was last read, when it was last copied, and how long copies keep a key that is destroyed now."""
    verified, copied, until = value["verified"], value["backup"], value["keys_until"]
    never = run.out.word("まだありません", "never")
    found = run.out.word(f"問題 {verified['findings']} 件", f"{verified['findings']} findings") if verified else ""
    owed = run.out.word(f"写せなかった版 {copied['owed']}", f"{copied['owed']} versions owed") if copied else ""
    lines = [
        "verified " + (f"{verified['ended']}  {found}" if verified else never),
        "backup   " + (f"{copied['at']}  {owed}" if copied else never),
    ]
    if until:
        today = run.out.word("今日廃棄する鍵が控えから消える日", "a key destroyed today is gone from the copies after")
        lines.append(f"keys     {today} {until}")
    return lines
