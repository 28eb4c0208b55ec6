"""Make job classes out of parts, for tests that go through many."""

from __future__ import annotations

import types
from typing import Any

from jobrt._payload.payload import Payload
from jobrt._registry import Job, definition_of


async def run(self: Any, ctx: Any) -> None:
    """Do nothing, as a method of the class that is made."""


def make_job(fields: dict[str, Any] | None = None, /, **body: Any) -> type[Job]:
    """Make a job class called X with these annotated fields; the rest of its body as keywords."""
    namespace = {"__annotations__": fields or {}, "__module__": __name__, "run": run, **body}
    made: type[Job] = types.new_class("X", (Job,), {}, lambda own: own.update(namespace))
    return made


def payload_of(**fields: Any) -> Payload:
    """Return how a job class called X with these annotated fields is stored."""
    return definition_of(make_job(fields)).payload


def make_value(job_class: type[Job], **fields: Any) -> Any:
    """Make a job value, right or wrong, past the type checkers."""
    make: Any = job_class
    return make(**fields)
