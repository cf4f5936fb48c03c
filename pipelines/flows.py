"""Prefect flows over the functions of this package: `ingest-batch`, `fixity-check`, `extend-locks`, `reindex`. When, again, and on which machine; never what.

Nothing else imports this module, and it imports nothing that needs a catalogue before an installation is opened. The flows keep no truth: what was
sealed stands in the journal, and a run that died is followed by the same run again. Results are not persisted.

Prefect's database is not one of ours: what is written there (parameters, states, logs, artefacts) holds codes, counts and ids, nothing of a page,
no name of a file. Parameters are as whoever starts a run types them: folders of scans should not be named for people.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed
from prefect.tasks import Task

from core import logs
from core.errors import DaichoError
from core.settings import Settings, load

if TYPE_CHECKING:
    from access.decide import Actor
    from records.stores import Stores

T = TypeVar("T")

SHEETS = 100
"""Sheets of one task. A task costs the server some forty milliseconds and twenty kilobytes: one a sheet would cost more than the sheet."""

DELAYS = [5.0, 30.0, 120.0]
"""Seconds before a task is tried again, each stretched or shortened at random by up to half, so that runs do not come back together."""

EVERY = 3.0
"""Seconds between two writings of the progress artefact."""


class Stopped(Exception):
    """Why a task ended, as Prefect may show and keep it: code and message in both languages, nothing of the cause.

    `retryable`: trying again may help. `of_a_case`: single cases failed for a reason of ours; whatever else there was to do is done or can be.
    """

    def __init__(self, error: Exception) -> None:
        if not isinstance(error, DaichoError):
            # Only the class: a message could quote a page.
            name = type(error).__name__
            error, self.of_a_case = (
                DaichoError(
                    f"思わぬ失敗（{name}）です。もう一度実行し、続くときは保守担当に連絡してください。",
                    f"Unexpected failure ({name}). Run it again, and tell support if it stays.",
                ),
                False,
            )
        else:
            self.of_a_case = error.code == DaichoError.code
        super().__init__(f"[{error.code}] {error.ja} / {error.en}")
        self.retryable = error.retryable


def _may_help(_: Task[Any, Any], __: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.data, Stopped) and state.data.retryable


@task(
    retries=len(DELAYS),
    retry_delay_seconds=DELAYS,
    retry_jitter_factor=0.5,
    retry_condition_fn=_may_help,
    persist_result=False,
    cache_policy=NO_CACHE,
)
def _attempt(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        logs.raised(error)
        raise Stopped(error) from None


def _step(name: str, work: Callable[[], T]) -> T:
    """Do `work` as one Prefect task, in this process: no argument travels. Tried again while its error says that this may help.

    Raises: `Stopped`.
    """
    # Prefect's types do not tell tasks that are called from those that are awaited; the same below.
    return cast(T, _attempt.with_options(name=name)(work))


class _Progress:
    """The progress artefact of a flow run; called as `pipelines.progress.Progress` is. It shows the present step."""

    def __init__(self, key: str) -> None:
        self._artefact = cast(UUID, create_progress_artifact(0.0, key=key))
        self._next = 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        if done < total and time.monotonic() < self._next:
            return
        pause = 20 * EVERY
        # That nobody can look on must not end the work.
        with contextlib.suppress(Exception):
            update_progress_artifact(
                self._artefact, 100.0 * done / total if total else 100.0, f"{step}: {done} / {total}"
            )
            pause = EVERY
        self._next = time.monotonic() + pause

    def part(self, before: int, total: int, step: str, done: int, _: int) -> None:
        """As part of a whole of `total`, `before` of which came earlier."""
        self(step, before + done, total)


def _opened(data: str, login: str = "", *, index: bool = True) -> tuple[Settings, Stores]:
    """The installation in this folder ("": of the worker's environment), opened as the command line opens it."""
    from wiring.setup import set_up

    settings = load(Path(data) if data else None, person=login or None)
    set_up(settings)
    from wiring.open import open_installation

    return settings, open_installation(settings, index=index)


@flow(name="ingest-batch", persist_result=False)
def ingest_batch(
    paths: list[str],
    ledger: str,
    login: str = "",
    data: str = "",
    name: str = "",
    jobs: int = 0,
    text: bool = True,
) -> State[None]:
    """スキャンを取り込みます / Bring in files and folders of scans, as `daicho ingest` does. The same run again goes on where one stopped.

    Args:
        paths: files and folders, as the worker's machine sees them.
        ledger: the ledger of sheets whose codes name none.
        login: on whose behalf; the person of the installation's settings when empty.
        data: the data folder; that of the worker's environment (`DAICHO_DATA`) when empty.
        name: what people call the batch; it stands in Prefect's database, so it should name nobody.
        jobs: worker processes; 0 for what the settings say.
        text: also read whole pages where the ledger wants it.
    """
    tell = _Progress("ingest-batch")
    workers = jobs or None

    def opened() -> tuple[Settings, Stores, Actor]:
        settings, stores = _opened(data, login)
        from access.decide import Actor
        from records.found import person_by_login

        # A flow stands in for the command line.
        return settings, stores, Actor(person_by_login(settings.person), "cli")

    try:
        settings, stores, actor = _step("open", opened)
        from pipelines.ingest import prepare, read_part
        from pipelines.texts import read_texts
        from records.batches import balance

        files = [Path(path) for path in paths]
        counting = partial(prepare, settings, stores, actor, files, ledger, name=name, jobs=workers, progress=tell)
        prepared = _step("count-sheets", counting)
        failed: Stopped | None = None
        for number, part in enumerate(prepared.parts(SHEETS), 1):
            progress = partial(tell.part, part.start, len(prepared.cases))
            reading = partial(read_part, settings, stores, actor, prepared, part, jobs=workers, progress=progress)
            try:
                _step(f"read-sheets-{number}", reading)
            except Stopped as stopped:
                if not stopped.of_a_case:
                    raise
                # A sheet over which we stumble every time must not keep those behind it from being read.
                failed = failed or stopped
        if failed:
            raise failed
        if text:
            _step("read-texts", partial(read_texts, settings, stores, actor, jobs=workers, progress=tell))
        balances = _step("balance", lambda: [balance(actor, batch) for batch in prepared.batches])
    except Stopped as stopped:
        return Failed(message=str(stopped))
    return Completed(
        message="; ".join(
            f"{one.batch}: {one.total} = {one.sealed} sealed + {one.waiting} waiting + {one.refused} refused"
            for one in balances
        )
    )


@flow(name="fixity-check", persist_result=False)
def fixity_check(data: str = "", within: int = 0, rate: float = 0.0) -> State[None]:
    """保管庫を1バイト残らず確かめます / Read every byte of the store, as `daicho verify` does; Failed when something is wrong.

    Args:
        data: the data folder; that of the worker's environment (`DAICHO_DATA`) when empty.
        within: (days) read only as much as is due today, so that all is read in so many days; 0 for all at once.
        rate: MB a second at most, 0 for as many as come.
    """
    tell = _Progress("fixity-check")

    def verified() -> Verified:
        # What a run that died has read is not read again when this one comes after it.
        speed = Speed(settings.jobs, rate * 1e6)
        return verify_installation(settings, stores, speed, resume=True, within=within, progress=tell)

    try:
        settings, stores = _step("open", partial(_opened, data, index=False))
        from pipelines.verification import Speed, verify_installation
        from records.check import Verified

        result = _step("verify", verified)
    except Stopped as stopped:
        return Failed(message=str(stopped))
    if result.findings:
        counted = Counter(finding.code for finding in result.findings)
        codes = ", ".join(f"{code} × {count}" for code, count in sorted(counted.items()))
        return Failed(
            message=f"問題が {len(result.findings)} 件あります。`daicho verify` で場所を確かめてください / "
            f"{len(result.findings)} findings; `daicho verify` says where: {codes}"
        )
    part = "" if result.whole else "a part of the round: "
    return Completed(
        message=f"{part}{result.objects} objects, {result.files} files, {result.bytes} bytes, nothing wrong"
    )


@flow(name="extend-locks", persist_result=False)
def extend_locks(data: str = "") -> State[None]:
    """ロックのうち今日の分を延ばします / Lengthen the locks whose turn it is, as `daicho locks extend` does; Failed when one could not be, or is about to end.

    Args:
        data: the data folder; that of the worker's environment (`DAICHO_DATA`) when empty.
    """
    tell = _Progress("extend-locks")

    def asked() -> Ending:
        found = ending_locks(stores, settings, all_of_them=False)
        if found.alarm:
            raise found.alarm
        return found

    try:
        settings, stores = _step("open", partial(_opened, data, index=False))
        from records.locks import Ending, ending_locks
        from records.locks import extend_locks as lengthen

        done = _step("extend", partial(lengthen, stores, settings, tell))
        found = _step("ask", asked)
    except Stopped as stopped:
        return Failed(message=str(stopped))
    if done.failed:
        counted = Counter(finding.code for finding in done.failed)
        codes = ", ".join(f"{code} × {count}" for code, count in sorted(counted.items()))
        return Failed(
            message=f"{len(done.failed)} 件のロックを延ばせませんでした。`daicho locks extend` で確かめてください / "
            f"{len(done.failed)} could not be locked; `daicho locks extend` says which: {codes}"
        )
    return Completed(
        message=f"{done.due} of {done.objects} objects, {done.lengthened} files until {done.until[:10]}; the first lock asked ends {found.soonest[:10]}"
    )


@flow(name="reindex", persist_result=False)
def reindex(data: str = "") -> State[None]:
    """索引を作り直します / Make the index again, as `daicho reindex` does; the present one answers until then.

    Args:
        data: the data folder; that of the worker's environment (`DAICHO_DATA`) when empty.
    """
    tell = _Progress("reindex")
    try:
        settings, stores = _step("open", partial(_opened, data, index=False))
        from pipelines.rebuild import reindex as renew

        records = _step("reindex", partial(renew, settings, stores))
    except Stopped as stopped:
        return Failed(message=str(stopped))
    tell("reindex", records, records)
    return Completed(message=f"{records} records")
