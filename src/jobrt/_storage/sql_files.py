"""Loading of the packaged ``.sql`` files, and the choice of migrations to apply.

Each statement has a file, ``<engine>/sql/<role>/<method>.sql``, or ``<method>_<part>.sql`` if the method has several.
A comment in it gives the reasons for its form. ``<engine>/sql/shared/<part>.sql`` replaces ``{part}`` in any of them.
A migration is in ``<engine>/migrations/<number>_<name>.sql``. This module uses no driver: the engines carry out what
it decides.
"""

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import attrs

from jobrt.errors import SchemaError

_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
_SHARED: Final = "shared/"


def load_statements(package: str) -> dict[str, str]:
    """Return the statements of an engine by role and method, as ``"crons/fire"``, without their comments."""
    texts = {name: _without_comments(text) for name, text in _read(files(package).joinpath("sql"))}
    parts = {name.removeprefix(_SHARED): text for name, text in texts.items() if name.startswith(_SHARED)}

    def filled(text: str) -> str:
        return _PLACEHOLDER.sub(
            lambda found: filled(parts[found[1]]) if found[1] in parts else found[0], text
        )

    return {name: filled(text) for name, text in texts.items()}


def _read(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path without suffix, text) of the ``.sql`` files in a folder and those below it, by name."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            yield prefix + entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8")
        elif entry.is_dir():
            yield from _read(entry, f"{prefix}{entry.name}/")


def _without_comments(text: str) -> str:
    """Remove the comment lines, which would otherwise be sent or parsed with every call."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")


@attrs.frozen
class Migration:
    """One step of the schema; migrations are applied in the order of their names."""

    name: str
    sql: str


@attrs.frozen
class SchemaStatus:
    """Applied and pending migrations of a database; ``newer`` if it has some that this jobrt does not know."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    newer: bool = False


def load_migrations(package: str) -> tuple[Migration, ...]:
    """Return the migrations of an engine, in order."""
    return tuple(Migration(name, text) for name, text in _read(files(package).joinpath("migrations")))


def status(known: Sequence[Migration], applied: Sequence[str]) -> SchemaStatus:
    """Return which known migrations are applied and pending, and whether the database has others."""
    names = [migration.name for migration in known]
    missing = tuple(name for name in names if name not in applied)
    return SchemaStatus(tuple(applied), missing, newer=not set(applied) <= set(names))


def pending(known: Sequence[Migration], applied: Sequence[str], *, where: str) -> tuple[Migration, ...]:
    """Return the migrations to apply; `where` names the database in messages.

    Raises:
        SchemaError: the database has migrations that this jobrt does not know.

    """
    found = status(known, applied)
    if found.newer:
        unknown = ", ".join(sorted(set(applied) - {migration.name for migration in known}))
        raise SchemaError(
            f"{where} was made by a newer jobrt: it has migration {unknown}, this one ends with"
            f" {known[-1].name}; upgrade jobrt, or use another database"
        )
    return tuple(migration for migration in known if migration.name in found.pending)


class Unmigrated(SchemaError):
    """Raised when a database lacks migrations; ``problem`` is the message without the remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.problem = problem


def unmigrated(
    known: Sequence[Migration], applied: Sequence[str], *, where: str, remedy: str
) -> SchemaError | None:
    """Return an error with the cause and the remedy if the schema is not up to date, or None if it is."""
    try:
        missing = pending(known, applied, where=where)
    except SchemaError as error:
        return error
    if not missing:
        return None
    names = ", ".join(migration.name for migration in missing)
    return Unmigrated(f"{where} lacks migration {names}", remedy)
