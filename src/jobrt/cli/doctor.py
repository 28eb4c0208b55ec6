"""The `doctor` command: it looks at the database and the workers, and changes nothing."""

import shlex
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

import attrs
import click
import trio

from jobrt._core.attempts import only_leaf
from jobrt._core.database_url import safe_url
from jobrt._storage.contract import Storage
from jobrt._storage.sql_files import Unmigrated
from jobrt._views.findings import COUNT_LIMIT, Finding, Snapshot, examine, read_loads
from jobrt._views.payloads import examine_crons, examine_payloads
from jobrt.app import App
from jobrt.cli.output import JSON_OPTION, print_json, say
from jobrt.cli.setting import Setting, in_trio, missing_file
from jobrt.errors import JobrtError, StorageError

_PATIENCE: Final = 3.0
"""Seconds to wait for a lock. Healthy writers hold it for milliseconds."""
_SECONDS: Final = 20.0
"""Seconds that all questions to the database may take."""


@click.command(short_help="Find out why nothing is running.")
@JSON_OPTION
@in_trio
async def doctor(setting: Setting, as_json: bool) -> int:
    """Find out why nothing is running. Exit with status 1 if something is wrong.

    It writes to the database in a transaction that it rolls back, and changes nothing. It makes no database.
    """
    findings = [finding async for finding in _examine(setting)]
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            say(f"{'!!' if finding.wrong else 'ok'}  {finding.text}")
    return int(any(finding.wrong for finding in findings))


async def _examine(setting: Setting) -> AsyncIterator[Finding]:
    app = setting.app()  # a missing database is a finding
    if (missing := missing_file(app.url)) is not None:
        yield Finding(wrong=True, text=f"there is no database {missing}: {setting.remedy(app)}")
        return
    app.leave_schema()
    place = safe_url(app.url)
    try:
        with trio.fail_after(_SECONDS):
            snapshot = await _take_snapshot(app)
    except trio.TooSlowError:
        yield Finding(wrong=True, text=f"the database {place} did not answer within {_SECONDS:g} s")
    except Exception as raised:
        error = only_leaf(raised)
        if not isinstance(error, JobrtError):
            raise
        problem = f"{error.problem}: {setting.remedy(app)}" if isinstance(error, Unmigrated) else str(error)
        yield Finding(wrong=True, text=f"the database cannot be used: {problem}")
    else:
        if snapshot.refusal is None:
            yield Finding(wrong=False, text=f"the database {place} is available, writable and up to date")
        queues = None if setting.address is None else app.queues
        address = shlex.quote(setting.address or "MODULE:ATTR")
        for finding in examine(snapshot, names=app.registry.names, queues=queues, address=address):
            yield finding


async def _take_snapshot(app: App) -> Snapshot:
    async with app.open_storage() as storage:
        await storage.schema.check()
        before = datetime.now(UTC)
        now = await storage.schema.now()
        after = datetime.now(UTC)
        snapshot = Snapshot(
            workers=await storage.workers.all(),
            queues=await storage.queues.all(limit=COUNT_LIMIT),
            crons=await storage.crons.all(),
            now=now,
            local=min(max(now, before), after),  # a slow answer is no difference
            refusal=await _try_write(storage),
            vitals=await storage.health.vitals(),
        )
        loads = await read_loads(storage, snapshot)
        payloads = await examine_payloads(storage.jobs, app.registry)
        payloads += examine_crons(snapshot.crons, app.registry, declared=app.crons)
        return attrs.evolve(snapshot, loads=loads, payloads=payloads)


async def _try_write(storage: Storage) -> str | None:
    """Return why the database cannot be written, or None if it can."""
    try:
        await storage.health.try_write(seconds=_PATIENCE)
    except StorageError as error:
        return str(error)
    return None


COMMANDS = (doctor,)
