"""Plans of claims under limits, at many rows: what waits behind a full key, or in the future, costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
import trio

from jobrt._core.rates import Rate
from jobrt._storage.postgres import migration_sql, open_postgres
from tests.storage.postgres.build import ask
from tests.storage.postgres.test_plans import Plan, explain, spied
from tests.support.postgres import Server

pytestmark = pytest.mark.slow

BY_TENANT: Final = {"key": "args.t"}

# Of 100 thousand jobs 60 thousand are of one tenant, which runs two of them. A thousand tenants share the others. Every
# third job is due in the future.
FILL: Final = """
insert into jobrt.job (lease, schedule_at, created_at, started_at, priority, attempt, state, queue, name, worker, args,
                       limit_key, records)
select case when n <= 2 then n end,
       now() + case when n > 2 and n % 3 = 0 then interval '1 day' else interval '-1 day' end
             + n * interval '1 millisecond',
       now(), case when n <= 2 then now() end, 0, 0,
       (case when n <= 2 then 'executing' when n % 3 = 0 then 'scheduled' else 'available' end)::jobrt.job_state,
       'default', 'a', case when n <= 2 then 'w1' end, '{"t": "' || k || '"}', 'args.t="' || k || '"', 0
  from (select n, case when n <= 60000 then 'big' else 't' || n % 1000 end as k from generate_series(1, 100000) n) o
"""


@pytest.fixture(scope="module")
def many(postgres_server: Server) -> Iterator[str]:
    """The URL of a database with many jobs that have keys."""
    name = f"jobrt_test_keyed_{uuid4().hex[:12]}"
    url = postgres_server.create_database(name)
    try:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(migration_sql().encode())
            conn.execute(FILL)
            conn.execute("insert into jobrt.queue (name, key) values ('default', 'args.t')")
            conn.execute("vacuum analyze jobrt.job")
        yield url
    finally:
        postgres_server.drop_database(name)


@pytest.fixture
def plan(many: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """A function that returns the plan of a claim. All its statements are in the function, and counted with it."""

    def of(**demand: Any) -> Plan:
        async def main() -> Any:
            with trio.fail_after(50):
                async with open_postgres(many) as storage:
                    monkeypatch.setattr(
                        "jobrt._storage.postgres.limited_claim.search_is_due", lambda *_: False
                    )
                    ran = spied(monkeypatch)
                    await storage.attempts.exchange((), ask(**{"limit": 10, **demand}))
                    (look,) = storage.attempts._looks.values()  # type: ignore[attr-defined]
                    if look.many:  # as the next claims
                        await storage.attempts.exchange((), ask(**{"limit": 10, **demand}))
                    return ran[-1]

        statement, values, hot = trio.run(main)
        with psycopg.connect(many) as conn:
            for _ in ("plans of the function are made", "and used"):
                found = explain(conn, statement, hot=hot, **values)
                conn.rollback()
        return found

    return of


@pytest.mark.parametrize(
    ("demand", "pages"),
    [
        ({"cluster_limit": 5_000}, 300),
        ({"rate": Rate(1000, burst=1000)}, 300),
        ({"rate": Rate(1000, burst=1000), "parked": tuple(range(100, 1100))}, 5_000),
        ({"key": "args.t", "per_key": 2}, 9_000),
        ({"key": "args.t", "per_key_rate": Rate(1000, burst=1000)}, 400),
        ({"key": "args.t", "per_key": 2, "fair": True}, 9_000),
        ({"key": "args.t", "per_key": 2, "cluster_limit": 2}, 40),
        ({"cluster_limit": 2, "ahead": 10, "worker": "w1"}, 300),
    ],
    ids=["cluster", "rate", "parked", "key", "key rate", "fair", "full", "ahead"],
)
def test_a_limited_claim_reads_little(plan: Callable[..., Plan], demand: dict[str, Any], pages: int) -> None:
    """Neither the 60 thousand jobs of a full key are read, nor those of the future.

    A thousand keys in turns are a thousand probes of the index, of four pages each, and their first jobs. So are a
    thousand parked jobs.
    """
    found = plan(**demand)
    assert found.pages < pages
