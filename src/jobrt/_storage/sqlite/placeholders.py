"""Placeholders of psycopg in statements for SQLite, so that the same line of a job runs on both engines."""

import re
from functools import lru_cache
from typing import Final

_QUOTED: Final = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/""", re.DOTALL
)
_PLACEHOLDER: Final = re.compile(r"%s\b|%\(\w+\)s\b")
_TOKEN: Final = re.compile(r"%(%|s\b|\((\w+)\)s\b)")


@lru_cache(maxsize=256)
def native(sql: str) -> str:
    """Return a statement that has parameters with SQLite's placeholders.

    One without ``%s`` or ``%(name)s`` outside of quotes is SQLite's own, and stays as it is. In others ``%%`` is a
    percent sign, in quotes as well, as it is for psycopg.
    """
    if not _PLACEHOLDER.search(_QUOTED.sub("", sql)):
        return sql
    return _TOKEN.sub(_translated, sql)


def _translated(found: re.Match[str]) -> str:
    if found[1] == "%":
        return "%"
    return "?" if found[2] is None else f":{found[2]}"
