"""Query plans at a million rows: only wanted rows are read, and no table or index completely."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
import trio

from jobrt._core import where
from jobrt._core.job import JobRef, Outcome
from jobrt._core.keep import PruneRule
from jobrt._core.states import End, State, Transition
from jobrt._core.sweeps import LOOK
from jobrt._core.walks import walk_of
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.postgres import migration_sql, open_postgres
from jobrt._storage.postgres.database import _PLAN
from jobrt._storage.postgres.encode import Bigints, Value
from jobrt._storage.postgres.filters import condition
from jobrt._storage.postgres.names import Schema, Statement
from jobrt._storage.postgres.session import BigintsDumper, PreparedSession, Session
from tests.storage.postgres.build import ask
from tests.support.postgres import Server

pytestmark = pytest.mark.slow

MILLION: Final = 1_000_000
SCHEMA: Final = Schema("jobrt")

# 700 k finished, 100 k waiting now (five priorities), 150 k in the future (of the highest priority), 50 k waiting
# for a retry, 1000 executing: more than a table of this size usually has of each.
FILL: Final = """
insert into jobrt.job (lease, schedule_at, created_at, started_at, finished_at, priority, attempt, state,
                       queue, name, worker, args, records)
select case when k < 70 then -n when n % 1000 = 99 then n end,
       now() - interval '10 days' + n * interval '0.8 seconds'
           + case when k between 80 and 94 then interval '30 days' when k >= 95 then interval '20 days'
                  else interval '0' end,
       now() - interval '10 days' + n * interval '0.8 seconds',
       case when k < 70 or n % 1000 = 99 then now() - interval '10 days' + n * interval '0.8 seconds' end,
       case when k < 70 then now() - interval '10 days' + n * interval '0.8 seconds' end,
       case when k between 80 and 94 then 9 else n % 5 end, 0,
       (case when k < 69 then 'completed' when k = 69 then 'discarded' when n % 1000 = 99 then 'executing'
             when k < 80 then 'available' when k < 95 then 'scheduled' else 'retryable' end)::jobrt.job_state,
       case when n % 3 = 0 then 'mail' else 'default' end, 'job' || n % 7, 'w' || n % 10, '{"n": ' || n || '}', 0
  from (select n, n % 100 as k from generate_series(1, 1000000) n) numbers
"""


@pytest.fixture(scope="module")
def million(postgres_server: Server) -> Iterator[str]:
    """The URL of a database with a million jobs."""
    name = f"jobrt_test_million_{uuid4().hex[:12]}"  # pytest-xdist may give a module to several processes
    url = postgres_server.create_database(name)
    try:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(migration_sql().encode())
            indexes = conn.execute(
                "select indexname, indexdef from pg_indexes where schemaname = 'jobrt' and tablename = 'job'"
                " and indexname <> 'job_pkey'"
            ).fetchall()
            for index, _ in indexes:  # to fill a table and index it afterwards takes half the time
                conn.execute(f"drop index jobrt.{index}")
            conn.execute(FILL)
            for _, definition in indexes:
                conn.execute(definition)
            conn.execute("vacuum analyze jobrt.job")
        yield url
    finally:
        postgres_server.drop_database(name)


@pytest.fixture
def conn(million: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection whose changes are rolled back."""
    with psycopg.connect(million) as found:
        yield found
        found.rollback()


class Plan:
    """Execution plan of a statement, with its counts."""

    def __init__(self, nodes: list[dict[str, Any]]) -> None:
        self.nodes = nodes

    @property
    def whole_reads(self) -> list[str]:
        """Relations that were read completely."""
        return [node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"]

    @property
    def indexes(self) -> set[str]:
        """Indexes that were used."""
        return {node["Index Name"] for node in self.nodes if "Index Name" in node and node["Actual Loops"]}

    @property
    def removed(self) -> float:
        """Rows that were read and filtered out."""
        return sum(
            node.get(f"Rows Removed by {why}", 0) * node["Actual Loops"]
            for node in self.nodes
            for why in ("Filter", "Index Recheck")
        )

    @property
    def locked(self) -> int:
        """Rows that were locked; the plan shows an average over loops."""
        return round(
            sum(
                node["Actual Rows"] * node["Actual Loops"]
                for node in self.nodes
                if node["Node Type"] == "LockRows"
            )
        )

    @property
    def pages(self) -> int:
        """Total number of pages read."""
        return int(self.nodes[0]["Shared Hit Blocks"] + self.nodes[0]["Shared Read Blocks"])


def explain(conn: psycopg.Connection[Any], statement: Statement, *, hot: bool, **values: Value) -> Plan:
    """Run a statement as the storage does, and return its plan."""
    for name, value in _PLAN.items() if hot else ():
        conn.execute(f"set local {name} = '{value}'".encode())
    with psycopg.RawCursor(conn) as cursor:
        cursor.adapters.register_dumper(Bigints, BigintsDumper)
        cursor.execute(
            b"explain (analyze, buffers, timing off, format json) " + statement.text,
            statement.arguments(values),
            prepare=True,
        )
        row = cursor.fetchone()
    assert row is not None
    nodes: list[dict[str, Any]] = []
    look = [row[0][0]["Plan"]]
    while look:
        nodes.append(look.pop())
        look += nodes[-1].get("Plans", ())
    return Plan(nodes)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Statement, dict[str, Any], bool]]:
    """Record the statements that storages run."""
    ran: list[tuple[Statement, dict[str, Any], bool]] = []

    def spy(kind: type[Session]) -> None:
        original = kind.run

        async def run(self: Session, statement: Statement, /, **values: Value) -> Any:
            ran.append((statement, values, kind is PreparedSession))
            return await original(self, statement, **values)

        monkeypatch.setattr(kind, "run", run)

    spy(Session)
    spy(PreparedSession)
    return ran


@pytest.fixture
def plans(million: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes a call, repeats its statements to see their plans, and undoes the repetition."""

    def of(call: Any) -> list[Plan]:
        async def main() -> list[tuple[Statement, dict[str, Any], bool]]:
            with trio.fail_after(50):
                async with open_postgres(million) as storage:
                    ran = spied(monkeypatch)
                    await call(storage)
                    return ran

        found: list[Plan] = []
        for statement, values, hot in trio.run(main):
            with psycopg.connect(million) as conn:
                found.append(explain(conn, statement, hot=hot, **values))
                conn.rollback()
        return found

    return of


def test_a_claim_reads_what_it_claims(plans: Any) -> None:
    """A hundred jobs out of a hundred thousand due ones: their index entries, rows and a few pages more.

    The 150 thousand future jobs of a higher priority are not scanned.
    """
    claims = plans(
        lambda storage: storage.attempts.exchange((), ask(*(f"job{n}" for n in range(7)), limit=100))
    )
    assert claims[-1].locked == 100
    for claim in claims:
        assert claim.whole_reads == []
        assert "job_waiting" in claim.indexes
        assert claim.removed < 10
        assert claim.pages < 2_500  # some 15 for each job that is written


def test_an_empty_claim_reads_next_to_nothing(plans: Any) -> None:
    """Nothing due under these names in a queue full of future jobs, or in no queue at all."""
    for plan in plans(lambda storage: storage.attempts.exchange((), ask(queue="nothing"))):
        assert plan.whole_reads == []
        assert plan.pages < 40


def test_a_claim_looks_at_a_bounded_number_of_jobs_of_other_names(plans: Any) -> None:
    """Not at the 67 thousand due ones that are before what it wants, or at the end of which there is nothing."""
    for plan in plans(lambda storage: storage.attempts.exchange((), ask("unknown"))):
        assert plan.whole_reads == []
        assert plan.removed <= LOOK
        assert plan.pages < 1.5 * LOOK  # an index entry and a row for each


def test_a_claim_of_capped_names_locks_no_more_than_the_caps(plans: Any) -> None:
    """Each name's scan ends at its cap."""
    demand = ask("job0", limit=50, capped=(("job1", 2), ("job2", 3)))
    claim = plans(lambda storage: storage.attempts.exchange((), demand))[-1]
    assert claim.whole_reads == []
    assert 50 <= claim.locked <= 55


def test_finishing_goes_by_primary_key(plans: Any) -> None:
    """Not by an index on executing jobs, whose dead entries pile up while a snapshot is held."""
    outcomes = [Outcome(100 * n + 99, n) for n in range(100)]
    mixed = [
        Outcome(100 * n + 99, n, Transition.RETRY, End.FAILED, 5.0, message="m", result="1")
        for n in range(100)
    ]
    for batch in (outcomes, mixed):
        finish = plans(lambda storage, batch=batch: storage.attempts.finish(batch))[0]
        assert finish.whole_reads == []
        assert finish.indexes <= {"job_pkey", "attempt_pkey", "detail_pkey", "waiting_pkey"}
        assert finish.pages < 1_200


@pytest.mark.parametrize(
    ("name", "call", "pages"),
    [
        ("beat", lambda s: s.workers.beat("w1", lease=30, info=WorkerInfo()), 60),
        ("changes", lambda s: s.workers.changes("w1"), 30),
        ("rescue", lambda s: s.workers.rescue(limit=1), 1_500),
        ("get", lambda s: s.jobs.get(500_000), 30),
        ("await_final", lambda s: s.jobs.await_final([500_081, 5]), 60),
        ("release_unknown", lambda s: s.attempts.release_unknown("w7", "default", []), 3_000),
        ("save", lambda s: s.attempts.save(JobRef(99, 99), saved="1"), 60),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_small_calls_are_small(plans: Any, name: str, call: Any, pages: int) -> None:
    """Frequent statements read a few pages, whatever the size of the table."""
    for plan in plans(call):
        assert "job" not in plan.whole_reads
        assert plan.pages < pages


def test_pruning_reads_what_goes(plans: Any) -> None:
    """Reads the oldest by name, after the newest that are kept, and not the 690 thousand that are kept."""
    rules = [
        PruneRule(state=State.COMPLETED, keep_at_least=10),
        PruneRule(state=State.DISCARDED, queue="mail"),
    ]
    find, *_ = plans(lambda storage: storage.jobs.prune(rules, limit=500))
    assert set(find.whole_reads) <= {"member"}  # which is empty
    assert find.pages < 5_000


def test_listing_by_id_stops_at_the_limit(conn: psycopg.Connection[Any]) -> None:
    """A page of the newest jobs is read from the end of the primary key."""
    found = condition(~where.queue("x"))
    statement = SCHEMA.statement(
        "jobs/query", where=f"{found.text} order by c.id desc limit :limit::bigint", details="true"
    )
    plan = explain(conn, statement, hot=False, **found.values, limit="100")
    assert plan.whole_reads == []
    assert plan.pages < 2_000


def test_counting_waiting_jobs_uses_their_index(conn: psycopg.Connection[Any]) -> None:
    """States are literals in the statement, so that the planner can use a partial index."""
    found = condition(where.state("available") & where.queue("mail"))
    plan = explain(
        conn, SCHEMA.statement("jobs/count", where=found.text), hot=False, **found.values, limit=None
    )
    assert plan.whole_reads == []


@pytest.mark.parametrize("statement", ["jobs", "count"])
def test_few_finished_jobs_are_found_among_many(conn: psycopg.Connection[Any], statement: str) -> None:
    """A query for dead letters, of which there are none, does not read the millions of completed jobs."""
    found = condition(where.state("cancelled"))
    jobs = SCHEMA.statement("jobs/query", where=f"{found.text} order by c.id desc limit 50", details="false")
    count = SCHEMA.statement("jobs/count", where=found.text)
    more = {"limit": None} if statement == "count" else {}
    plan = explain(conn, count if statement == "count" else jobs, hot=False, **found.values, **more)
    assert plan.whole_reads == []
    assert plan.pages < 100


def test_statistics_of_an_hour_read_an_hour(plans: Any) -> None:
    """Not ten days: by the end of the primary key, and by name and time of the end."""
    since = datetime.now(UTC) - timedelta(days=2)
    for plan in plans(lambda storage: storage.jobs.stats(since=since)):
        assert plan.pages < 400_000
        assert "job" not in plan.whole_reads


def test_a_chart_reads_its_range(plans: Any) -> None:
    """And no more than asked of it."""
    now = datetime.now(UTC)
    for plan in plans(lambda storage: storage.jobs.ended(now - timedelta(days=2), now, step=60, limit=1000)):
        assert plan.pages < 10_000
        assert "job" not in plan.whole_reads


def test_the_overview_of_queues_leaves_finished_jobs_alone(plans: Any) -> None:
    """It counts by the partial indexes, or what they point to."""
    for plan in plans(lambda storage: storage.queues.all()):
        assert plan.pages < 400_000


def test_the_overview_of_queues_counts_no_further_than_asked(plans: Any) -> None:
    """By the index from end to end of what is counted: a million that wait cost no more than a thousand."""
    (plan,) = (
        one for one in plans(lambda storage: storage.queues.all(limit=100)) if "job_waiting" in one.indexes
    )
    assert "job" not in plan.whole_reads
    assert plan.pages < 5_000


def test_the_overview_of_queues_counts_a_part_in_order(conn: psycopg.Connection[Any], plans: Any) -> None:
    """A count that stops at ten thousand of 100,000 jobs does not read and sort them all."""
    whole = plans(
        lambda storage: storage.queues.all(limit=10_000)
    )  # without what the first statement has set
    conn.execute(SCHEMA.statement("queues/all_in_order").text)
    counted = SCHEMA.statement("queues/all", waiting="queues/all_waiting_limited")
    plan = explain(conn, counted, hot=False, limit="10000")
    reads = [node["Actual Rows"] for node in plan.nodes if node.get("Index Name") == "job_waiting"]
    assert max(reads) <= 10_000
    assert len(whole) == 3


@pytest.mark.parametrize("newest", [True, False])
@pytest.mark.parametrize(
    "filter",
    [
        where.tagged_any(["rare"]),
        where.args("n", -1),
        where.worker("nobody") & where.created_before(timedelta(days=-1)),
        where.state("completed") & where.queue("nothing"),
        where.state("scheduled"),
        where.state("scheduled", "claimed", "retryable") & where.tagged_any(["rare"]),
        where.state("available") & where.tagged_any(["rare"]),
        where.state("executing") & where.queue("nothing"),
        where.state("suspended"),
        where.parent(7),
    ],
    ids=str,
)
def test_a_look_reads_what_it_looks_at(plans: Any, filter: where.Where, *, newest: bool) -> None:
    """A thousand jobs, and a probe of the index for each name or priority, whatever the filter."""
    walk = walk_of(filter, newest=newest)
    found = plans(lambda storage: storage.jobs.look(filter, walk, scan=5000, limit=50))
    for plan in found:
        assert "job" not in plan.whole_reads
        assert plan.removed <= 10_000
        assert max((node["Actual Rows"] * node["Actual Loops"] for node in plan.nodes), default=0) <= 10_000
    assert sum(plan.pages for plan in found) < 40_000
