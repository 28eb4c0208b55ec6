"""A migrated PostgreSQL database that tests use one after the other, as if each had a new one.

A new database costs a quarter of a second of CPU, most of it in its first session. Emptying one costs milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import attrs
import psycopg

if TYPE_CHECKING:
    from tests.support.postgres import Server

__all__ = ["ReusedDatabase"]

# Whatever a test can leave but rows: if it differs, the next test gets a new database.
_OBJECTS: Final = """
    select md5(string_agg(object, E'\\n' order by object)) from (
        select format('%s %s %s', n.nspname, n.nspacl, n.nspowner) as object from pg_namespace n
         where n.nspname !~ '^pg_(temp|toast_temp)'
        union all select format('%s %s %s %s %s', c.oid, c.relname, c.relacl, c.reloptions, c.relowner) from pg_class c
         where c.oid >= 16384 and c.relkind <> 't'
        union all select format('%s %s %s %s %s', a.attrelid, a.attnum, a.attname, a.atttypid, a.attacl)
          from pg_attribute a where a.attrelid >= 16384
        union all select format('%s %s %s', t.oid, t.tgname, t.tgenabled) from pg_trigger t
        union all select format('%s %s %s', p.oid, md5(p.prosrc), p.proacl) from pg_proc p where p.oid >= 16384
        union all select format('%s %s', t.oid, t.typname) from pg_type t where t.oid >= 16384
        union all select format('%s %s', e.oid, e.enumlabel) from pg_enum e
        union all select format('%s %s', k.oid, k.convalidated) from pg_constraint k where k.oid >= 16384
        union all select format('%s %s', s.setrole, s.setconfig) from pg_db_role_setting s
         where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))) o
"""
_TABLES: Final = """
    select format('%I.%I', t.schemaname, t.tablename) from pg_tables t
     where t.schemaname not in ('pg_catalog', 'information_schema') order by 1
"""
_SEQUENCES: Final = """
    select format('%I.%I', s.schemaname, s.sequencename), s.last_value, s.start_value from pg_sequences s order by 1
"""
_LARGE: Final = 256 * 1024
"""Bytes from which on a table is truncated. For small ones, deleting all rows is quicker."""


@attrs.define(eq=False)
class ReusedDatabase:
    """The database, made from `template` when a test needs one."""

    server: Server
    template: str
    name: str | None = None
    _objects: str = ""
    _rows: dict[str, list[Any]] = attrs.field(factory=dict[str, list[Any]])
    _sequences: list[tuple[str, int | None, int]] = attrs.field(factory=list["tuple[str, int | None, int]"])

    def lend(self) -> str:
        """Return the URL of the database, which is as new."""
        if self.name is None:
            self.name = f"jobrt_test_{uuid4().hex}"
            url = self.server.create_database(self.name, template=self.template)
            with psycopg.connect(url, autocommit=True) as session:
                self._objects = self._seen(session)
                self._rows = {name: self._all(session, name) for (name,) in session.execute(_TABLES)}
                self._sequences = session.execute(_SEQUENCES).fetchall()
        return self.server.url(self.name)

    def take_back(self) -> None:
        """Empty the database, or drop it if more than rows has changed."""
        if self.name is None:
            return
        try:
            with psycopg.connect(self.server.url(self.name), autocommit=True) as session:
                session.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )
                same = self._seen(session) == self._objects and self._emptied(session)
        except psycopg.Error:
            same = False
        if not same:
            self.drop()

    def drop(self) -> None:
        """Drop the database."""
        if self.name is not None:
            self.server.drop_database(self.name)
            self.name = None

    def _seen(self, session: psycopg.Connection[Any]) -> str:
        return str(session.execute(_OBJECTS).fetchall())

    def _all(self, session: psycopg.Connection[Any], name: str) -> list[Any]:
        return sorted(session.execute(f"select t::text from {name} t".encode()).fetchall())

    def _emptied(self, session: psycopg.Connection[Any]) -> bool:
        """Delete all rows that were not there at first; return whether those are still there."""
        empty = [name for name, rows in self._rows.items() if not rows]
        sizes = session.execute(
            "select n, pg_relation_size(n::regclass) from unnest(%s::text[]) n", [empty]
        ).fetchall()
        if large := [name for name, size in sizes if size >= _LARGE]:
            session.execute(f"truncate {', '.join(large)}".encode())
        with session.transaction():
            for name, size in sizes:
                if 0 < size < _LARGE:
                    session.execute(f"delete from {name}".encode())
            for name, last, first in self._sequences:
                session.execute(
                    "select setval(%s::regclass, %s, %s)",
                    [name, first if last is None else last, last is not None],
                )
        return all(self._all(session, name) == rows for name, rows in self._rows.items() if rows)
