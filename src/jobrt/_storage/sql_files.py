"""Load the packaged ``.sql`` files, and decide which migrations a database lacks.

A statement stands alone in ``<engine>/sql/<name>.sql``, with a comment that says why it has its shape; a
migration in ``<engine>/migrations/<number>_<name>.sql``. This module knows no driver: the engines do what it
decides.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import attrs

from jobrt._storage.contract import SchemaStatus
from jobrt.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Migration", "Statements", "load_migrations", "pending", "status", "unmigrated"]


def _read(package: str, folder: str) -> Iterator[tuple[str, str]]:
    """Yield (name without suffix, text) of the ``.sql`` files in a folder of a package, by name."""
    found = (one for one in files(package).joinpath(folder).iterdir() if one.name.endswith(".sql"))
    for one in sorted(found, key=lambda file: file.name):
        yield one.name.removesuffix(".sql"), one.read_text(encoding="utf-8")


class Statements:
    """Give the statements of an engine by name: ``sql["claim_take"]``, without their comments."""

    def __init__(self, package: str) -> None:
        self._texts = {name: _bare(text) for name, text in _read(package, "sql")}

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)


def _bare(text: str) -> str:
    """Drop the comment lines: they are for people, and would be sent or parsed each time."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")


@attrs.frozen
class Migration:
    """One step of the schema; names sort in the order in which the steps are taken."""

    name: str
    sql: str


def load_migrations(package: str) -> tuple[Migration, ...]:
    """Return the migrations of an engine, in order."""
    return tuple(Migration(name, text) for name, text in _read(package, "migrations"))


def status(known: Sequence[Migration], applied: Sequence[str]) -> SchemaStatus:
    """Say which of the known migrations a database has and lacks, and whether it has others."""
    names = [one.name for one in known]
    missing = tuple(name for name in names if name not in applied)
    return SchemaStatus(tuple(applied), missing, newer=not set(applied) <= set(names))


def pending(known: Sequence[Migration], applied: Sequence[str], *, where: str) -> tuple[Migration, ...]:
    """Return the migrations to apply; `where` names the database in messages.

    Raises:
        SchemaError: the database has migrations that this jobrt does not know.

    """
    found = status(known, applied)
    if found.newer:
        strange = ", ".join(sorted(set(applied) - {one.name for one in known}))
        msg = (
            f"{where} was made by a newer jobrt: it has migration {strange}, this one ends with"
            f" {known[-1].name}; upgrade jobrt, or use another database"
        )
        raise SchemaError(msg)
    return tuple(one for one in known if one.name in found.pending)


def unmigrated(known: Sequence[Migration], applied: Sequence[str], *, where: str) -> SchemaError | None:
    """Return the error that says what is wrong with the schema and what to do, or None if it is right."""
    try:
        missing = pending(known, applied, where=where)
    except SchemaError as error:
        return error
    if not missing:
        return None
    names = ", ".join(one.name for one in missing)
    return SchemaError(f"{where} lacks migration {names}: run `python -m jobrt migrate`")
