"""Cost of a job in jobrt with a snapshot held open, a backlog, or many finished jobs."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import psycopg
from tests.bench.measuring.parts import run_down
from tests.bench.measuring.processes import MeasurementError
from tests.bench.measuring.rounds import say
from tests.bench.measuring.tables import Spread, markdown
from tests.bench.measuring.targets import flat

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from tests.bench.measuring.databases import PostgresDatabase, PostgresDatabases
    from tests.bench.measuring.parts import Figures
    from tests.bench.measuring.processes import Bench, Contestant

__all__ = ["backlog", "snapshot"]

WARM_UP = 2_000
SAMPLE = 20_000
SLOWER = 1.25
"""Limit of time per job: a quarter more time is a fifth fewer jobs per second."""
DEARER = 1.2
"""Limit of CPU per job: about the spread of equal runs on a shared machine."""

# Copies a waiting and a finished job of jobrt. Finished copies ended a millisecond apart, up to an hour ago. The newest
# waiting job is copied, so that its copies are claimed last.
MULTIPLY = """
    insert into jobrt.job ({columns}, args, finished_at)
    select {columns}, '{{"number":' || {first} + g || ',"pad":"' || repeat('x', 64) || '"}}',
           finished_at - interval '1 h' - g * interval '1 ms'
      from (select * from jobrt.job where {finished} = (finished_at is not null) order by id desc limit 1) one,
           generate_series(1, {number}) g
     order by g
"""
COLUMNS = """
    select string_agg(quote_ident(column_name), ', ') from information_schema.columns
     where table_schema = 'jobrt' and table_name = 'job' and column_name not in ('id', 'args', 'finished_at')
"""


def snapshot(bench: Bench, who: Contestant, *, jobs: int, repeat: int) -> dict[str, list[Figures]]:
    """Drain with and without a snapshot held open, alternately, and print the ratios."""
    measured: dict[str, list[Figures]] = {"free": [], "held": []}
    for number in range(repeat):
        for name in sorted(measured, reverse=number % 2 == 1):
            figures = _with_snapshot(bench, who, jobs=jobs, held=name == "held")
            say(f"  {name}: {figures['drain /s']:,.0f}/s, last fifth {figures['last fifth /s']:,.0f}/s")
            measured[name].append(figures)
    head = (f"{jobs:,} jobs while a snapshot is held", "before", "with it", "needed", "verdict")
    print(markdown(head, _compared(measured["free"], measured["held"])))
    return measured


def _compared(free: Sequence[Figures], held: Sequence[Figures]) -> Iterable[Sequence[str]]:
    whole, first, last, cpu = "drain /s", "first fifth /s", "last fifth /s", "server s/k"
    yield flat("ms per 1,000 jobs, to without", base=_ms(free, whole), now=_ms(held, whole), most=SLOWER)
    yield flat("ms per 1,000, last fifth to first", base=_ms(held, first), now=_ms(held, last), most=SLOWER)
    yield flat("server CPU s/k, to without", base=_of(free, cpu), now=_of(held, cpu), most=SLOWER)


def _with_snapshot(bench: Bench, who: Contestant, *, jobs: int, held: bool) -> Figures:
    with bench.database(who) as database, ExitStack() as stack:
        if held:
            reader = stack.enter_context(psycopg.connect(database.url, application_name="reader"))
            reader.execute("set transaction isolation level repeatable read")
            reader.execute("select count(*) from jobrt.job")
        bench.ask(who, "many", database.url, str(jobs))
        database.settle()
        return run_down(bench, who, database=database, jobs=jobs, limit=600, others=int(held))


def backlog(
    bench: Bench,
    databases: PostgresDatabases,
    who: Contestant,
    *,
    cases: Sequence[tuple[int, int]],
    repeat: int,
) -> dict[str, list[Figures]]:
    """Print the cost of a job with so many waiting and finished jobs."""
    measured: dict[tuple[int, int], list[Figures]] = {case: [] for case in cases}
    with ExitStack() as stack:
        past = {
            number: stack.enter_context(_history(bench, databases, who, finished=number))
            for number in {finished for _, finished in cases}
        }
        filled = {
            case: stack.enter_context(_filled(bench, databases, who, waiting=case[0], template=past[case[1]]))
            for case in cases
        }
        for _ in range(repeat):
            for case in cases:
                with databases.fresh(template=filled[case]) as database:
                    figures = _sample(bench, who, database=database)
                say(f"  {case[0]:,} waiting, {case[1]:,} finished: {figures['rate']:,.0f}/s")
                measured[case].append(figures)
    head = ("waiting", "finished", "/s", "client s/k", "server s/k", "CPU needed", "verdict")
    print(markdown(head, _cases(measured, base=_of(measured[cases[0]], "CPU"))))
    return {f"{case[0]} waiting, {case[1]} finished": runs for case, runs in measured.items()}


def _cases(measured: Mapping[tuple[int, int], Sequence[Figures]], *, base: Spread) -> Iterable[Sequence[str]]:
    for (waiting, finished), runs in measured.items():
        cells = (str(_of(runs, name)) for name in ("rate", "client s/k", "server s/k"))
        verdict = flat("", base=base, now=_of(runs, "CPU"), most=DEARER)[-2:]
        yield (f"{waiting:,}", f"{finished:,}", *cells, *verdict)


@contextmanager
def _history(bench: Bench, databases: PostgresDatabases, who: Contestant, *, finished: int) -> Generator[str]:
    """Create a template database with finished jobs."""
    begin = time.monotonic()
    with databases.fresh() as database:
        bench.ask(who, "setup", database.url)
        if finished:
            _run_one(bench, who, database=database)
            _multiply(database, finished, first=0, finished=True)
        database.watch.close()  # a template must have no connections
        say(f"{finished:,} finished jobs created in {time.monotonic() - begin:.0f} s")
        yield database.name


@contextmanager
def _filled(
    bench: Bench, databases: PostgresDatabases, who: Contestant, *, waiting: int, template: str
) -> Generator[str]:
    """Create a template database with waiting jobs after those of the sample."""
    begin = time.monotonic()
    with databases.fresh(template=template) as database:
        bench.ask(who, "many", database.url, str(WARM_UP + SAMPLE))
        _multiply(database, waiting, first=WARM_UP + SAMPLE, finished=False)
        database.settle()
        database.watch.close()
        say(f"{waiting:,} waiting jobs created in {time.monotonic() - begin:.0f} s")
        yield database.name


def _run_one(bench: Bench, who: Contestant, *, database: PostgresDatabase) -> None:
    bench.ask(who, "many", database.url, "1")
    run_down(bench, who, database=database, jobs=1, limit=60)


def _multiply(database: PostgresDatabase, number: int, *, first: int, finished: bool) -> None:
    (columns,) = database.ask(COLUMNS)
    database.watch.execute(
        MULTIPLY.format(columns=columns, first=first, finished=finished, number=number).encode()
    )


def _sample(bench: Bench, who: Contestant, *, database: PostgresDatabase) -> Figures:
    """Measure jobs in the middle of a drain."""
    deadline, last = time.monotonic() + 600, WARM_UP + SAMPLE
    with bench.working(who, database.url, jobs=last) as worker:
        if not worker.until(lambda: worker.marks.all_begun(WARM_UP), deadline=deadline):
            raise MeasurementError("the worker does not run the jobs")
        cpu, server, begin = worker.cpu(), bench.databases.cpu(), time.monotonic()
        if not worker.until(lambda: worker.marks.all_begun(last), deadline=deadline):
            raise MeasurementError("the worker does not run the jobs")
        client = (worker.cpu() - cpu) / SAMPLE * 1000
        served = (bench.databases.cpu() - server) / SAMPLE * 1000
        seconds = time.monotonic() - begin
    return {"rate": SAMPLE / seconds, "client s/k": client, "server s/k": served, "CPU": client + served}


def _of(runs: Sequence[Figures], name: str) -> Spread:
    return Spread.of(figures[name] for figures in runs)


def _ms(runs: Sequence[Figures], rate: str) -> Spread:
    return Spread.of(1e6 / figures[rate] for figures in runs)
