"""Claims under limits for the whole cluster: of a queue, of keys, by rates, in turns (``design/limits.md``)."""

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import attrs

from jobrt._core.job import Claimed, JobRef, Outcome
from jobrt._core.keys import key_range
from jobrt._core.limits import Demand
from jobrt._core.looks import Look
from jobrt._core.rates import Rate
from jobrt._storage.apart import Aside
from jobrt._storage.contract import Exchange
from jobrt._storage.postgres.encode import numbers, texts
from jobrt._storage.postgres.finish import ended_values, refused_of
from jobrt._storage.postgres.keys import find_missing, search_is_due
from jobrt._storage.postgres.names import Schema, Statement
from jobrt._storage.postgres.rows import claimed_jobs
from jobrt._storage.postgres.session import Session


async def limited_exchange(
    session: Session,
    outcomes: Sequence[Outcome],
    demand: Demand,
    *,
    look: Look,
    since: int | None,
    aside: Aside,
) -> tuple[Exchange, Sequence[str], Look]:
    """Write outcomes and claim as the limits allow.

    `since` is that of `Beats`. Returns the reply, the queues that have due jobs again, and what to remember.
    """
    if demand.key is not None and search_is_due(look, demand.key):
        look = await find_missing(session, demand.queue, path=demand.key, look=look, aside=aside)
    ended, values = ended_values(outcomes)
    statement = _statement(session.schema, ended)
    values |= _ask(session.schema, demand, look, since=since)
    rows = await session.run(statement, **values)
    count, _, about, _, _, _, written, _, _, _, _, _, woken, *_ = rows[0]
    refused: tuple[JobRef, ...] = ()
    if count != len(outcomes):
        refused = await refused_of(session, outcomes, landed=set(map(tuple, json.loads(written or "[]"))))
    reply: dict[str, Any] = json.loads(about)
    jobs = _jobs(rows[1:], demand, reply)
    waits = [look.claim_in, None if reply["next_due"] is None else float(reply["next_due"])]
    due = min((wait for wait in waits if wait is not None), default=None)
    look = attrs.evolve(look, many=reply["many"], turn=reply["turn"], served=reply["served"])
    held_back = reply["held_back"] or (look.hurries and not jobs)
    undeclared: bool = reply["undeclared"]
    if undeclared:  # the row of the queue was deleted: the next claim stores its key again
        look = Look()
    keys = {int(job_id): key for job_id, key in (reply["keys"] or {}).items()}
    exchange = Exchange(refused, jobs, due, reply["at"], reply["cut"] or undeclared, held_back, keys)
    return exchange, json.loads(woken or "[]"), look


def _jobs(rows: Sequence[Any], demand: Demand, reply: dict[str, Any]) -> tuple[Claimed, ...]:
    jobs = claimed_jobs(rows, queue=demand.queue, starting=reply["started"], now=_moment(reply["at"]))
    starts: dict[str, int] | None = reply["starts"]
    if starts is None:
        return jobs if reply["begun"] is None else _begun(jobs, frozenset(reply["begun"]), at=reply["at"])
    return tuple(job._replace(started_at=_moment(starts[str(job.id)])) for job in jobs)


def _begun(jobs: Sequence[Claimed], begun: Collection[int], *, at: int) -> tuple[Claimed, ...]:
    """Return the jobs of which these begin at once."""
    now = _moment(at)
    return tuple(job._replace(started_at=now if job.id in begun else None) for job in jobs)


def _moment(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def _ask(schema: Schema, demand: Demand, look: Look, *, since: int | None) -> dict[str, str | None]:
    """Return the arguments of the function, see the migration."""
    capped = [
        (member, number)
        for number, (name, _) in enumerate(demand.capped, start=1)
        for member in demand.members(name)
    ]
    low, high = (None, None) if demand.key is None else key_range(demand.key)
    ask = {
        "turn_name": f"{schema.name} {demand.queue}",
        "queue": demand.queue,
        "worker": demand.worker,
        "since": since,
        "limit": demand.limit,
        "starting": demand.starting,
        "fits": json.loads(demand.fits),
        "cluster_limit": demand.cluster_limit,
        "low": low,
        "high": high,
        "per_key": demand.per_key,
        "ahead": demand.tokens_ahead,
        "claim_ahead": demand.ahead,
        "fair": demand.fair,
        "many": look.many,
        "turn": look.turn,
        "served": look.served,
        "parked": demand.parked,
    }
    return {
        "ask": json.dumps(ask),
        "names": texts(demand.names),
        "cap_names": texts([name for name, _ in capped]),
        "cap_numbers": numbers([number for _, number in capped]),
        "caps": numbers([cap for _, cap in demand.capped]),
        "rate": _rate(demand.rate),
        "key_rate": _rate(demand.per_key_rate),
    }


def _rate(rate: Rate | None) -> str | None:
    return None if rate is None else numbers([rate.gain, rate.unit, rate.burst])


@lru_cache(maxsize=64)
def _statement(schema: Schema, ended: str) -> Statement:
    mixed = ended == "attempts/finish_mixed"
    none = ended == "attempts/finish_none"
    return schema.statement(
        "attempts/exchange_limited",
        ended=ended,
        woken="attempts/exchange_woken" if mixed else "null",
        written_if_not_all="null::text" if none else "attempts/exchange_written_if_not_all",
    )
