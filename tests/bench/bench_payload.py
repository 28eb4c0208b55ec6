"""Benchmark of defining, encoding and decoding a job: ``python tests/bench/bench_payload.py``.

Each figure is the best of twenty rounds, in µs of CPU time, next to the time of `json` for the same text.
"""

from __future__ import annotations

import json
import platform
import time
import timeit
from datetime import UTC, datetime
from uuid import UUID

import attrs

from jobrt._registry import Job, definition_of, encode_result


class SendEmail(Job):
    """Job with two fields."""

    to: str
    width: int = 800

    async def run(self, ctx: object) -> None:
        """Do nothing."""


@attrs.frozen
class Row:
    """Part of a larger payload."""

    when: datetime
    amount: float
    tags: list[str]


class Import(Job):
    """Job with an id and several rows."""

    batch: UUID
    rows: list[Row]

    async def run(self, ctx: object) -> None:
        """Do nothing."""


def define() -> None:
    """Define a job class with two fields."""

    class Local(Job):
        to: str
        width: int = 800

        async def run(self, ctx: object) -> None: ...


def best(name: str, statement: object, *, number: int) -> None:
    """Print the best time of a call."""
    rounds = timeit.repeat(statement, number=number, repeat=20, timer=time.thread_time)  # type: ignore[arg-type]
    print(f"{name:<40} {min(rounds) / number * 1e6:>10.2f} µs")


def main() -> None:
    """Run the benchmark."""
    print(f"CPython {platform.python_version()}, {platform.machine()}")
    small = SendEmail("a@example.com", 640)
    rows = [Row(datetime(2026, 1, 1, tzinfo=UTC), 1.5, ["a", "b"]) for _ in range(10)]
    big = Import(UUID(int=1), rows)
    best("create a job of 2 fields", lambda: SendEmail("a@example.com", 640), number=20_000)
    for label, job, number in (("2 fields", small, 20_000), ("10 rows of 3 fields", big, 1_000)):
        definition = definition_of(job)
        text = definition.encode(job)
        stored = json.loads(text)
        best(f"encode {label}", lambda d=definition, j=job: d.encode(j), number=number)
        best("    json.dumps alone", lambda s=stored: json.dumps(s), number=number)
        best(f"decode {label}", lambda d=definition, t=text: d.decode(t), number=number)
        best("    json.loads alone", lambda t=text: json.loads(t), number=number)
    best("encode the result None", lambda: encode_result(None), number=20_000)
    best("encode a result of 3 keys", lambda: encode_result({"a": 1, "b": "x", "c": [1, 2]}), number=20_000)
    best("define a job class", define, number=50)


if __name__ == "__main__":
    main()
