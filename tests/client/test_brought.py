"""Connections of other libraries as ``conn``: the insert is part of their transaction, and of what they commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg
import pytest
import sqlalchemy
import trio
from django.db import ConnectionHandler
from django.db import transaction as django_transaction
from django.utils.connection import ConnectionProxy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

import jobrt
from jobrt.blocking import Client
from tests.parity.jobs import JOBS, Echo
from tests.support.django_project import django_database, set_up_django

set_up_django()


class Brought:
    """A connection as a caller uses it: what is passed as ``conn``, and how its transaction ends."""

    def __init__(self, conn: Any, commit: Callable[[], object], rollback: Callable[[], object]) -> None:
        self.conn, self.commit, self.rollback = conn, commit, rollback


def engine_of(url: str, **options: Any) -> sqlalchemy.Engine:
    """Return SQLAlchemy's engine for a database of jobrt."""
    return sqlalchemy.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool, **options
    )


@contextmanager
def of_the_driver(url: str) -> Iterator[Brought]:
    """The connection of sqlite3 or of plain psycopg, which begins a transaction by itself."""
    conn: Any = (
        sqlite3.connect(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else psycopg.connect(url)
    )
    try:
        yield Brought(conn, conn.commit, conn.rollback)
    finally:
        conn.close()


@contextmanager
def of_sqlalchemy(url: str) -> Iterator[Brought]:
    """SQLAlchemy's Connection, which has not begun anything."""
    with engine_of(url).connect() as conn:
        yield Brought(conn, conn.commit, conn.rollback)


@contextmanager
def of_a_session(url: str) -> Iterator[Brought]:
    """SQLAlchemy's Session, which has not begun anything."""
    with Session(engine_of(url)) as session:
        yield Brought(session, session.commit, session.rollback)


@contextmanager
def of_a_scoped_session(url: str) -> Iterator[Brought]:
    """SQLAlchemy's scoped session, as Flask programs use it."""
    session = scoped_session(sessionmaker(engine_of(url)))
    try:
        yield Brought(session, session.commit, session.rollback)
    finally:
        session.remove()


@contextmanager
def of_django(url: str) -> Iterator[Brought]:
    """Django's connection in a transaction; like ``django.db.connection``, it stands for that of the thread."""
    handler = ConnectionHandler({"default": django_database(url)})
    conn = handler["default"]
    conn.set_autocommit(False)
    try:
        yield Brought(ConnectionProxy(handler, "default"), conn.commit, conn.rollback)
    finally:
        conn.close()


KINDS = [of_the_driver, of_sqlalchemy, of_a_session, of_a_scoped_session, of_django]
NAMES = [kind.__name__.removeprefix("of_") for kind in KINDS]


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
async def test_the_callers_commit_decides(kind: Any, database_url: str) -> None:
    """With the blocking client, a rollback removes the jobs and a commit keeps them, unique ones included."""
    await jobrt.App(database_url).migrate()
    unique = Echo("unique").with_options(unique=jobrt.Unique())
    with Client(database_url, jobs=JOBS) as jobs, kind(database_url) as brought:
        jobs.enqueue(Echo("rolled back"), conn=brought.conn)
        brought.rollback()
        first, second = jobs.enqueue_many([unique, unique], conn=brought.conn)
        assert jobs.count() == 0
        brought.commit()
        assert (first.duplicate, second.duplicate) == (False, True)
        assert [record.args for record in jobs.query()] == [{"value": "unique"}]


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
async def test_the_trio_client_takes_them_too(kind: Any, database_url: str) -> None:
    """A Trio program that uses a blocking library enqueues in its transaction."""
    app = jobrt.App(database_url, jobs=JOBS, migrate=True)
    with trio.fail_after(30):
        async with app.open_client() as jobs:
            with kind(database_url) as brought:
                await jobs.enqueue(Echo("rolled back"), conn=brought.conn)
                brought.rollback()
                await jobs.enqueue(Echo("committed"), conn=brought.conn)
                brought.commit()
            assert [record.args for record in await jobs.query()] == [{"value": "committed"}]


async def test_the_callers_rows_are_in_the_same_transaction(database_url: str) -> None:
    """What a session has flushed and what it enqueues are rolled back together."""
    await jobrt.App(database_url).migrate()
    engine = engine_of(database_url)
    with engine.begin() as conn:
        conn.execute(sqlalchemy.text("CREATE TABLE orders (id integer)"))
    with Client(database_url) as jobs:
        for fails in (True, False):
            with suppress(ZeroDivisionError), Session(engine) as session, session.begin():
                session.execute(sqlalchemy.text("INSERT INTO orders VALUES (1)"))
                jobs.enqueue(Echo("order"), conn=session)
                if fails:
                    raise ZeroDivisionError
        assert jobs.count() == 1
    with engine.connect() as conn:
        assert conn.execute(sqlalchemy.text("SELECT count(*) FROM orders")).scalar() == 1


async def test_django_decides_when_it_commits(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of ``atomic`` Django commits each statement, and so each enqueue. Inside, the block decides."""
    await jobrt.App(database_url).migrate()
    handler = ConnectionHandler({"default": django_database(database_url)})
    monkeypatch.setattr(django_transaction, "connections", handler)
    conn = handler["default"]
    with Client(database_url) as jobs:
        unique = Echo("alone").with_options(unique=jobrt.Unique())
        jobs.enqueue_many([unique, unique], conn=conn)
        assert jobs.count() == 1
        with suppress(ZeroDivisionError), django_transaction.atomic():
            jobs.enqueue(Echo("rolled back"), conn=conn)
            raise ZeroDivisionError
        with django_transaction.atomic():
            jobs.enqueue(Echo("together"), conn=conn)
            with suppress(ZeroDivisionError), django_transaction.atomic():
                jobs.enqueue(Echo("of the savepoint"), conn=conn)
                raise ZeroDivisionError
            assert jobs.count() == 1
        assert [record.args["value"] for record in jobs.query(order_by="id")] == ["alone", "together"]
    conn.close()


async def test_autocommit_keeps_a_batch_together(postgres_url: str) -> None:
    """In autocommit mode the jobs of a call are one transaction: a duplicate in the same call is found."""
    await jobrt.App(postgres_url).migrate()
    unique = Echo("same").with_options(unique=jobrt.Unique())
    engine = engine_of(postgres_url, isolation_level="AUTOCOMMIT")
    with Client(postgres_url) as jobs, psycopg.connect(postgres_url, autocommit=True) as conn:
        for brought in (conn, engine.connect()):
            first, second = jobs.enqueue_many([unique, unique], conn=brought)
            assert first.id == second.id
        assert jobs.count() == 1


def odd_connections() -> dict[str, Any]:
    """Return what is no connection of a kind that is known, by what the error calls it."""
    engine = sqlalchemy.create_engine("sqlite://")
    with closing(sqlite3.connect(":memory:")) as conn:
        cursor = conn.cursor()
    return {
        "object": object(),
        "str": "postgresql://localhost/jobs",
        "sqlalchemy.engine.base.Engine": engine,
        "type": Session,
        "sqlalchemy.ext.asyncio.session.AsyncSession": AsyncSession(),
        "sqlalchemy.ext.asyncio.engine.AsyncConnection": create_async_engine("sqlite+aiosqlite://").connect(),
        "sqlite3.Cursor": cursor,
    }


@pytest.mark.parametrize("name", odd_connections())
async def test_another_kind_is_refused(name: str, database_url: str) -> None:
    """One line names what was passed and the kinds that are possible; nothing was stored."""
    await jobrt.App(database_url).migrate()
    kinds = (
        r"pass a (sqlite3|psycopg)\.Connection.*, an SQLAlchemy Connection or Session .*Django's connection$"
    )
    with Client(database_url) as jobs:
        with pytest.raises(jobrt.StorageError, match=rf"^conn is of type {name}: {kinds}"):
            jobs.enqueue(Echo("x"), conn=odd_connections()[name])
        assert jobs.count() == 0


async def test_the_other_engine_is_refused(database_url: str, postgres_url: str, tmp_path: Any) -> None:
    """SQLAlchemy's connection to another engine than that of the jobs is named with the driver inside."""
    await jobrt.App(database_url).migrate()
    other = postgres_url if database_url.startswith("sqlite") else f"sqlite:///{tmp_path}/other.db"
    with Client(database_url) as jobs, of_sqlalchemy(other) as brought:
        inside = r"sqlalchemy\.engine\.base\.Connection over a (psycopg|sqlite3)\.Connection"
        with pytest.raises(jobrt.StorageError, match=rf"conn is of type {inside}: pass a"):
            jobs.enqueue(Echo("x"), conn=brought.conn)
