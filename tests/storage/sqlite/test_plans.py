"""Frequent statements use the index made for them, and scan no more of it than necessary."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from jobrt._core import where
from jobrt._core.job import NewJob
from jobrt._core.walks import walk_of
from jobrt._storage.sqlite import open_blocking, query
from jobrt._storage.sqlite.filters import condition
from jobrt._storage.sqlite.insert import insert
from jobrt._storage.sqlite.look import look
from jobrt._storage.sqlite.transaction import SQL, Transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def tx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transaction]:
    """A transaction in a database with ten thousand jobs, a tenth of them waiting, and no statistics."""
    path: Path = tmp_path_factory.mktemp("plans") / "jobs.db"
    with open_blocking(path) as storage:

        def fill(tx: Transaction) -> Transaction:
            insert(
                tx,
                [
                    NewJob(name=f"n{n % 7}", args="{}", queue=f"q{n % 3}", priority=n % 4)
                    for n in range(10_000)
                ],
            )
            tx.run(
                "UPDATE jobrt_job SET state = 4, finished_at = created_at, started_at = created_at WHERE id % 10"
            )
            return tx

        yield storage.write(fill)


def plan(tx: Transaction, sql: str) -> str:
    """Return SQLite's query plan, a line per step; parameters have no values yet, and no filter is set."""
    sql = sql.replace("{where}", "1").replace("{way}", "DESC").replace("{behind}", "")
    named = dict.fromkeys(re.findall(r":(\w+)", sql))
    parameters = named or [None] * sql.count("?")
    return "\n".join(row[3] for row in tx.rows(f"EXPLAIN QUERY PLAN {sql}", parameters))


_RANGE = "(queue=? AND priority=? AND schedule_at>? AND schedule_at<?)"
_RECORDS = "USING COVERING INDEX sqlite_autoindex_jobrt_attempt_1"

SEARCHES = {
    "attempts/exchange_page": f"SEARCH jobrt_job USING COVERING INDEX jobrt_job_waiting {_RANGE}",
    "attempts/exchange_looked": f"SEARCH jobrt_job USING COVERING INDEX jobrt_job_waiting {_RANGE}",
    "attempts/exchange_priority": "SEARCH jobrt_job USING COVERING INDEX jobrt_job_waiting (queue=? AND priority<?)",
    "attempts/limited_chain": "SEARCH jobrt_job USING INDEX jobrt_job_keyed "
    "(queue=? AND priority=? AND limit_key=? AND schedule_at<?)",
    "attempts/exchange_take": "SEARCH jobrt_job USING INTEGER PRIMARY KEY (rowid=?)",
    "attempts/finish_clean": "SEARCH jobrt_job USING INTEGER PRIMARY KEY (rowid=?)",
    "attempts/finish_landed": "SEARCH jobrt_job USING INTEGER PRIMARY KEY (rowid=?)",
    "attempts/finish_jobs": "SEARCH jobrt_job USING INTEGER PRIMARY KEY (rowid=?)",
    "attempts/finish_owned": "SEARCH jobrt_job USING INTEGER PRIMARY KEY (rowid=?)",
    "attempts/record_trim": f"SEARCH attempt {_RECORDS} (job_id=? AND lease<?)",
    "jobs/insert_equal": "SEARCH jobrt_job USING INDEX jobrt_job_digest (digest=? AND state=?)",
    "attempts/exchange_next_due": f"SEARCH job USING COVERING INDEX jobrt_job_waiting {_RANGE}",
    "workers/rescue_find": "USING INDEX jobrt_job_executing",
    "workers/rescue_clean": "SEARCH jobrt_job USING INDEX jobrt_job_executing (worker=?)",
    "workers/changes_cancels": "SEARCH jobrt_job USING INDEX jobrt_job_executing (worker=?)",
    "attempts/release_unknown": "SEARCH jobrt_job USING INDEX jobrt_job_executing (worker=? AND queue=?)",
    "queues/all_waiting": "SEARCH j USING COVERING INDEX jobrt_job_waiting (queue=? AND priority=? AND schedule_at<?)",
    "queues/all_executing": "SCAN jobrt_job USING INDEX jobrt_job_executing",
    "jobs/prune_names": "SEARCH job USING COVERING INDEX jobrt_job_final (state=? AND name>?)",
    "jobs/prune_old": "SEARCH jobrt_job USING INDEX jobrt_job_final (state=? AND name=? AND finished_at<?",
    "jobs/prune_kept": "SEARCH jobrt_job USING INDEX jobrt_job_final (state=? AND name=?)",
    "attempts/records": "SEARCH jobrt_attempt USING INDEX",
    "attempts/release_parents_waiting": "SEARCH jobrt_dependency USING PRIMARY KEY (child_id=?)",
    "jobs/delete_roll_up": "SEARCH attempt USING INDEX",
    "jobs/ended": "SEARCH jobrt_job USING INDEX jobrt_job_final (state=? AND name=? AND finished_at>? AND",
    "jobs/look_names": "SEARCH job USING COVERING INDEX jobrt_job_final (state=? AND name>?)",
    "jobs/look_priorities": "SEARCH job USING COVERING INDEX jobrt_job_waiting (queue=? AND priority<?)",
    "jobs/look_ends": "SEARCH jobrt_job USING COVERING INDEX jobrt_job_final (state=? AND name=? AND finished_at>?)",
    "jobs/look_due": "SEARCH jobrt_job USING COVERING INDEX jobrt_job_waiting (queue=? AND priority=?)",
    "jobs/look_held": "SCAN jobrt_job USING INDEX jobrt_job_executing",
    "jobs/look_children": "SEARCH jobrt_member USING INDEX sqlite_autoindex_jobrt_member_1 (job_id=?)",
    "jobs/look_matching": "SEARCH jobrt_job USING INTEGER PRIMARY KEY (rowid=?)",
    "jobs/stats": "SEARCH jobrt_job USING INDEX jobrt_job_final (state=? AND name=? AND finished_at>?)",
    "scopes/ended_members": "SEARCH m USING INDEX jobrt_member_child (child_id=?)",
    "scopes/end_members": "SEARCH jobrt_member USING INDEX jobrt_member_child (child_id=?)",
    "scopes/under_ending": "SEARCH m USING INDEX jobrt_member_child (child_id=?)",
}


@pytest.mark.parametrize(("name", "wanted"), SEARCHES.items(), ids=SEARCHES)
def test_the_index_is_used(tx: Transaction, name: str, wanted: str) -> None:
    """Each statement has the intended plan."""
    assert wanted in plan(tx, SQL[name])


IN_ORDER = (
    "attempts/exchange_next_due",
    "attempts/exchange_looked",
    "attempts/exchange_page",
    "attempts/exchange_priority",
    "jobs/insert_equal",
    "jobs/look_due",
    "jobs/look_ends",
    "jobs/look_ids",
    "jobs/look_suspended",
    "jobs/prune_kept",
)


@pytest.mark.parametrize("name", IN_ORDER)
def test_nothing_is_sorted(tx: Transaction, name: str) -> None:
    """The index has the order already, so the first rows come without reading the others."""
    assert "ORDER BY" not in plan(tx, SQL[name])


@pytest.mark.parametrize("name", sorted(name for name in SQL if not name.startswith("shared/")))
def test_no_statement_reads_all_members(tx: Transaction, name: str) -> None:
    """An end, a claim and the retention meet the members of some jobs only, however many families there are."""
    steps = plan(tx, SQL[name]).splitlines()
    assert [line for line in steps if re.match(r"SCAN (jobrt_member|m|member)\b|.* AUTOMATIC ", line)] == []


@pytest.mark.parametrize("name", sorted(name for name in SQL if not name.startswith("shared/")))
def test_no_statement_reads_the_whole_table(tx: Transaction, name: str) -> None:
    """Whatever the filter, the millions of final jobs are not scanned, but for as many as a statement is told."""
    if name in {"jobs/look_ids", "jobs/query_edge"}:
        return
    steps = [
        line for line in plan(tx, SQL[name]).splitlines() if re.match(r"SCAN (jobrt_)?(job|attempt)\b", line)
    ]
    assert [
        line for line in steps if "jobrt_job_waiting" not in line and "jobrt_job_executing" not in line
    ] == []


@pytest.mark.parametrize(("found", "sorts"), [("completed", False), ("discarded", True)])
def test_the_first_of_many_are_found_without_sorting_them_all(
    tx: Transaction, monkeypatch: pytest.MonkeyPatch, found: str, sorts: bool
) -> None:
    """Nine thousand completed jobs are scanned by id; dead letters are few, so their index is used."""
    monkeypatch.setattr(query, "_FEW", 1000)
    said: list[str] = []
    array = Transaction.array

    def spy(self: Transaction, sql: str, values: Any = ()) -> Any:
        said.extend(row[3] for row in self.rows(f"EXPLAIN QUERY PLAN {sql}", values))
        return array(self, sql, values)

    monkeypatch.setattr(Transaction, "array", spy)
    ids = query.select(tx, condition(where.state(found), tx.now), order="id DESC", limit=50)
    assert len(ids) == (0 if sorts else 50)
    assert any("TEMP B-TREE FOR ORDER BY" in one for one in said) == sorts


@pytest.mark.parametrize("newest", [True, False])
@pytest.mark.parametrize(
    ("filter", "most"),
    [
        (where.tagged_any(["rare"]), 30_000),
        (where.args("n", 7), 30_000),
        (where.queue("nothing"), 30_000),
        (where.worker("nobody") & where.created_before(timedelta(days=-1)), 30_000),
        (where.state("completed") & where.queue("nothing"), 30_000),
        (where.state("completed") & where.tagged_any(["rare"]), 30_000),
        (where.state("available") & where.tagged_any(["rare"]), 30_000),
        (where.state("available"), 30_000),
        (where.state("discarded"), 1_000),
        (where.state("completed") & where.name("nothing"), 1_000),
        (where.state("executing"), 1_000),
        (where.parent(7), 1_000),
    ],
    ids=str,
)
def test_a_look_takes_steps_for_what_it_looks_at(
    tx: Transaction, filter: where.Where, most: int, *, newest: bool
) -> None:
    """Some hundred jobs out of ten thousand, whatever the filter; a count of them takes many times as many steps."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    tx.connection.set_progress_handler(count, 10)
    try:
        found = look(
            tx, where=filter, walk=walk_of(filter, newest=newest), needle=None, scan=500, limit=50, after=None
        )
    finally:
        tx.connection.set_progress_handler(None, 0)
    assert found.looked_at <= 530
    assert 10 * counted[0] < most
