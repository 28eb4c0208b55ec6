"""Names in PostgreSQL: the schema, its channel, and the statements with these names inserted.

A statement in ``sql/`` is written with ``:name`` for a parameter and ``{schema}`` before every table. It is
converted once to PostgreSQL's own ``$1`` form, so that no driver has to parse it again. Parameters are texts
(see `jobrt._storage.postgres.encode`) that the statement casts, so each statement has one prepared form.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final
from unicodedata import category

import attrs

from jobrt._storage.postgres.encode import Value
from jobrt._storage.sql_files import load_statements
from jobrt.errors import StorageError

_FILES: Final = load_statements("jobrt._storage.postgres")

CONTROL: Final = "c"
"""Payload that tells workers of cancel requests or settings."""

_LONGEST_NAME: Final = 63
"""Bytes of an identifier or a channel; PostgreSQL truncates longer identifiers and rejects longer channels."""

_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")
_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
_SPACE: Final = re.compile(r"\s+")


@attrs.frozen
class Statement:
    """A statement as PostgreSQL takes it, and the parameter names that its ``$1``, ``$2`` … stand for."""

    name: str
    text: bytes
    parameters: tuple[str, ...]

    def arguments(self, values: Mapping[str, Value]) -> list[Value]:
        """Return the values in the statement's order."""
        return list(map(values.__getitem__, self.parameters))


@attrs.frozen
class Run:
    """A statement and its values, to run on any connection; as a step it receives the rows."""

    statement: Statement
    values: dict[str, str | None]


@attrs.frozen
class Copy:
    """Rows for a COPY statement; as a step it receives an empty list."""

    statement: Statement
    blocks: Iterable[str]


def _checked(_self: object, _field: object, name: str) -> None:
    # In a migration, a line break would end a comment, and $$ the body of a function.
    odd = "$$" in name or any(category(character) in {"Cc", "Cs"} for character in name)
    if not name or odd or len(name.encode()) > _LONGEST_NAME:
        raise StorageError(
            f"schema={name!a} is not a valid name: use 1 to {_LONGEST_NAME} bytes without $$ and control characters"
        )


@attrs.frozen(cache_hash=True)  # statements with variants are found by its hash
class Schema:
    """The PostgreSQL schema that holds the tables; any name without $$ and control characters.

    Raises:
        StorageError: that name is not allowed.

    """

    name: str = attrs.field(validator=_checked)

    @property
    def quoted(self) -> str:
        """Return the name as an identifier."""
        return '"' + self.name.replace('"', '""') + '"'

    @property
    def channel(self) -> str:
        """Return the channel on which workers are woken: one per schema."""
        name = f"jobrt.{self.name}"
        if len(name.encode()) > _LONGEST_NAME:
            name = "jobrt." + hashlib.sha256(self.name.encode()).hexdigest()[:32]
        return name

    def fill(self, text: str, **more: str) -> str:
        """Replace the placeholders of a text by this schema's names, and by ``more``."""
        names = {
            "schema": self.quoted,
            "literal": self.quoted.replace("'", "''"),
            "channel": "'" + self.channel.replace("'", "''") + "'",
            **more,
        }
        return _PLACEHOLDER.sub(lambda found: names.get(found[1], found[0]), text)

    def statement(self, name: str, **parts: str) -> Statement:
        """Return the statement of a file; each of ``parts`` is a file or a text to insert for ``{part}``."""
        return _statement(self.name, name, tuple(sorted(parts.items())) if parts else ())


@lru_cache(maxsize=1024)
def _statement(schema: str, name: str, parts: tuple[tuple[str, str], ...]) -> Statement:
    text = _FILES[name]
    for part, value in parts:
        text = text.replace(f"{{{part}}}", _FILES.get(value, value))
    numbers: dict[str, int] = {}
    text = _PARAMETER.sub(lambda found: f"${numbers.setdefault(found[1], len(numbers) + 1)}", text)
    text = Schema(schema).fill(_SPACE.sub(" ", text))
    return Statement(name, text.encode(), tuple(numbers))
