"""Triggers that record every change of a job in the database, and tables for the jobs' own writes.

A trigger runs in the transaction of the change, so nothing that was committed is missing, and nothing that was rolled
back is recorded. Changes of one job are in order. ``alive`` says whether the worker that held the job was registered,
and half a second ago already: a heartbeat of the last moment may be committed after the snapshot of a rescue. Its
worker has given up its jobs itself by then.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import attrs
import psycopg

from jobrt._storage.sqlite.states import STATES
from tests.chaos.history import Change, Row

__all__ = ["Stored", "install", "read"]

_COLUMNS = (
    "seq, at, job, before, after, lease_before, lease, attempt_before, attempt, max_attempts, worker, alive,"
    " cancel, queue, name, priority, due, args, context, tx"
)

_SQLITE = """
create table chaos_audit (
    seq integer primary key autoincrement, at real, job integer, before integer, after integer,
    started_before integer, started integer, lease_before integer, lease integer, attempt_before integer,
    attempt integer, max_attempts integer, worker text, alive integer, cancel integer, queue text, name text,
    priority integer, due real, args text, context text, tx integer
);
create table chaos_completed (job integer, lease integer, primary key (job, lease));
create table chaos_written (
    job integer, lease integer,
    foreign key (job, lease) references chaos_completed (job, lease) deferrable initially deferred
);
create trigger chaos_insert after insert on jobrt_job begin
    insert into chaos_audit (at, job, after, lease, attempt, max_attempts, queue, name, priority, due, args, context)
    values ((julianday('now') - 2440587.5) * 86400, new.id, new.state, new.lease, new.attempt, new.max_attempts,
            new.queue, new.name, new.priority, new.schedule_at / 1e6, new.args, new.context);
end;
create trigger chaos_update after update on jobrt_job
when (old.state, old.lease, old.attempt, old.schedule_at, old.priority, old.cancel_reason, old.started_at)
  is not (new.state, new.lease, new.attempt, new.schedule_at, new.priority, new.cancel_reason, new.started_at) begin
    insert into chaos_audit (at, job, before, after, started_before, started, lease_before, lease, attempt_before,
                             attempt, max_attempts, worker, alive, cancel, queue, name, priority, due, args)
    values ((julianday('now') - 2440587.5) * 86400, new.id, old.state, new.state, old.started_at is not null,
            new.started_at is not null, old.lease, new.lease, old.attempt, new.attempt, new.max_attempts, new.worker,
            exists (select 1 from jobrt_worker w where w.id = old.worker
                     and w.expires_at > (julianday('now') - 2440587.5) * 86400e6 + 2000  -- it counts in ms
                     and w.beat_at < (julianday('now') - 2440587.5) * 86400e6 - 500000),
            old.cancel_reason is not null or new.cancel_reason is not null, new.queue, new.name, new.priority,
            new.schedule_at / 1e6, new.args);
    insert or ignore into chaos_completed select new.id, -new.lease where new.state = 4 and new.name = 'Exact';
end;
create trigger chaos_delete after delete on jobrt_job begin
    insert into chaos_audit (at, job, before) values ((julianday('now') - 2440587.5) * 86400, old.id, old.state);
end;
"""

_POSTGRES = """
create table chaos_audit (
    seq bigserial primary key, at double precision, job bigint, before text, after text, started_before boolean,
    started boolean, lease_before bigint, lease bigint, attempt_before integer, attempt integer, max_attempts integer,
    worker text, alive boolean, cancel boolean, queue text, name text, priority integer, due double precision,
    args text, context text, tx bigint default txid_current()
);
create table chaos_completed (job bigint, lease bigint, primary key (job, lease));
create table chaos_written (
    job bigint, lease bigint,
    foreign key (job, lease) references chaos_completed (job, lease) deferrable initially deferred
);
create function chaos_audit() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into public.chaos_audit (at, job, after, lease, attempt, max_attempts, queue, name, priority, due, args,
                                        context)
        values (extract(epoch from clock_timestamp()), new.id, new.state, new.lease, new.attempt, new.max_attempts,
                new.queue, new.name, new.priority, extract(epoch from new.schedule_at), new.args, new.context);
    elsif tg_op = 'DELETE' then
        insert into public.chaos_audit (at, job, before)
        values (extract(epoch from clock_timestamp()), old.id, old.state);
    elsif (old.state, old.lease, old.attempt, old.schedule_at, old.priority, old.cancel_reason, old.started_at)
       is distinct from
          (new.state, new.lease, new.attempt, new.schedule_at, new.priority, new.cancel_reason, new.started_at) then
        insert into public.chaos_audit (at, job, before, after, started_before, started, lease_before, lease,
                                        attempt_before, attempt, max_attempts, worker, alive, cancel, queue, name,
                                        priority, due, args)
        values (extract(epoch from clock_timestamp()), new.id, old.state, new.state, old.started_at is not null,
                new.started_at is not null, old.lease, new.lease, old.attempt, new.attempt, new.max_attempts,
                new.worker,
                exists (select from jobrt.worker w where w.id = old.worker and w.expires_at > clock_timestamp()
                           and w.beat_at < clock_timestamp() - interval '0.5 s'),
                old.cancel_reason is not null or new.cancel_reason is not null, new.queue, new.name, new.priority,
                extract(epoch from new.schedule_at), new.args);
        if new.state = 'completed' and new.name = 'Exact' then
            insert into public.chaos_completed values (new.id, -new.lease) on conflict do nothing;
        end if;
    end if;
    return null;
end $$;
create trigger chaos_audit after insert or update or delete on jobrt.job for each row execute function chaos_audit();
"""

_ERROR = "case when message like '%FOREIGN KEY constraint%' then 'IntegrityError' else error_type end"
"""The error of an attempt; SQLite's refusal of a commit is a `StorageError`."""


@attrs.frozen
class Stored:
    """What the database has after a run: the rows of jobs, all their changes, and what jobs have written."""

    rows: dict[int, Row]
    changes: tuple[Change, ...]
    written: tuple[int, ...]


def install(url: str) -> None:
    """Create the tables and triggers."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)) as conn:
            conn.executescript(_SQLITE)
    else:
        with psycopg.connect(url, autocommit=True) as postgres:
            postgres.execute(_POSTGRES.encode())


def read(url: str, *, offset: float) -> Stored:
    """Read everything; `offset` is the wall clock minus the monotonic clock, for the times of changes."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)) as conn:
            return _read(conn, tables="jobrt_", offset=offset)
    with psycopg.connect(url) as postgres:
        postgres.execute("set transaction isolation level repeatable read")
        return _read(postgres, tables="jobrt.", offset=offset)


def _read(conn: Any, *, tables: str, offset: float) -> Stored:
    ends: dict[int, dict[int, str]] = {}
    errors: dict[int, list[str]] = {}
    records = f'select job_id, lease, "end", {_ERROR} from {tables}attempt order by lease'
    for job, lease, end, error in conn.execute(records).fetchall():
        ends.setdefault(job, {})[lease] = end
        errors.setdefault(job, []).extend([error] if error else [])
    results = dict(conn.execute(f"select job_id, result from {tables}detail").fetchall())
    jobs = f"select id, name, state, lease, attempt, max_attempts from {tables}job"
    rows = {
        job: Row(
            state=_state(state),
            lease=None if lease is None else abs(lease),
            ends=ends.get(job, {}),
            name=name,
            result=None if results.get(job) is None else json.loads(results[job]),
            errors=tuple(errors.get(job, ())),
            attempt=attempt,
            max_attempts=max_attempts,
        )
        for job, name, state, lease, attempt, max_attempts in conn.execute(jobs).fetchall()
    }
    columns = f"started_before, started, {_COLUMNS}"
    changes = (
        _change(row, offset)
        for row in conn.execute(f"select {columns} from chaos_audit order by seq").fetchall()
    )
    written = tuple(job for (job,) in conn.execute("select job from chaos_written").fetchall())
    return Stored(rows, tuple(changes), written)


def _change(row: Any, offset: float) -> Change:
    started_before, started, seq, at, job, before, after, *rest = row
    change = Change(seq, at - offset, job, _shown(before, started_before), _shown(after, started), *rest)
    return attrs.evolve(change, due=float("-inf") if change.due is None else change.due - offset)


def _state(stored: Any) -> str:
    return stored if isinstance(stored, str) else STATES[stored].value


def _shown(stored: Any, started: Any) -> str | None:
    """Return the state that users see: a job that is held and has not started is claimed."""
    if stored is None:
        return None
    state = _state(stored)
    return "claimed" if state == "executing" and not started else state
