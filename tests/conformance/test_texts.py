"""Texts of any kind in every place where a text can enter: what is said is written, what is a key is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrt import Job
from jobrt._client import Client, open_client
from jobrt._core import where
from jobrt._core.job import JobRef
from jobrt._core.states import End, State, Transition
from jobrt._core.text import is_storable, storable
from jobrt._core.where import Where, matches
from jobrt._registry import Registry
from jobrt._storage.contract import Storage
from jobrt.errors import InvalidFilter, JobrtError
from jobrt.events import EventBus
from tests.conformance.build import add, ask, end, job, look, start
from tests.conformance.drive import drive, wait
from tests.conformance.harness import Engine
from tests.support.hostile import hostile

SETTINGS = settings(max_examples=25, suppress_health_check=list(HealthCheck))


async def _every(check: Callable[..., Awaitable[None]], *drawn: Any) -> None:
    """Run a check for texts drawn at random."""

    @SETTINGS
    @given(st.tuples(*drawn))
    def run(values: tuple[Any, ...]) -> None:
        wait(check, *[str.__str__(value) if isinstance(value, str) else value for value in values])

    await drive(run)


async def test_whatever_an_outcome_says_is_written_escaped(storage: Storage) -> None:
    """Class, message and traceback of an error; neighbours in the batch are not touched."""

    async def check(error_type: str, message: str, traceback: str) -> None:
        good, bad = await start(storage), await start(storage)
        said = end(bad, Transition.DISCARD, error_type=error_type, message=message, traceback=traceback)
        assert await storage.attempts.finish([end(good), said]) == ()
        assert (await look(storage, good.id)).state is State.COMPLETED
        (attempt,) = (await look(storage, bad.id)).attempts
        found = (attempt.error_type, attempt.message, attempt.traceback)
        assert found == (storable(error_type), storable(message), storable(traceback))

    # Longer texts than a worker writes are cut when they are read.
    await _every(check, hostile(size=2_000), hostile(size=2_000), hostile(size=2_000))


async def test_whatever_is_given_as_a_reason_is_written_escaped(storage: Storage) -> None:
    """By an operator for a waiting job and a running one, and by the job itself."""

    async def check(reason: str) -> None:
        running = await start(storage)
        (waiting,) = await add(storage, job())
        await storage.jobs.cancel(where.id_in([running.id, waiting]), reason)
        await storage.attempts.finish([end(running, Transition.GIVE_BACK)])
        own = await start(storage)
        await storage.attempts.finish([end(own, Transition.CANCEL, message=reason)])
        found = [(await look(storage, one)).cancel_reason or "" for one in (running.id, waiting, own.id)]
        assert all(text.endswith(storable(reason[-5:])) for text in found)
        assert all(map(is_storable, found))

    await _every(check, hostile())


def _filters(text: str) -> dict[str, Where]:
    made: dict[str, Where] = {
        "queue": where.queue(text),
        "name": where.name(text),
        "worker": where.worker(text),
        "any": where.tagged_any([text]),
        "all": where.tagged_all([text, "t"]),
        "args": where.args("v", text),
        "whole": where.metadata({"m": text}),
    }
    with contextlib.suppress(InvalidFilter):  # no field has such a name
        made["field"] = where.args(text, 1)
    return made


async def test_a_filter_takes_any_text(engine: Engine) -> None:
    """It means what `matches` says, alone and negated; a text that no row can have is in no row."""
    storage = engine.storage
    await add(storage, job(args={"v": "x"}, tags=("t",), metadata={"m": 1}))
    population = await storage.jobs.query(where.everything())
    now = await storage.schema.now()

    async def check(text: str) -> None:
        for name, made in _filters(text).items():
            for filter in (made, ~made):
                wanted = sum(matches(filter, one, now=now) for one in population)
                assert await storage.jobs.count(filter) == wanted, name

    await _every(check, hostile(size=5_000))


class Keeper(Job):
    """Have a text in its payload."""

    text: str = ""

    async def run(self, ctx: object) -> None: ...


async def test_a_client_refuses_what_cannot_be_stored(storage: Storage) -> None:
    """Payload, options, names of queues and cron entries: one error of jobrt and nothing stored, or all is well."""
    registry = Registry()
    registry.add(Keeper)

    async def check(text: str) -> None:
        async with open_client(storage, registry, rules=(), emit=EventBus()) as client:
            (kept,) = await add(storage, job("Keeper"))
            for call in _calls(client, kept, text):
                before = await client.count()
                try:
                    await call()
                except JobrtError:
                    assert await client.count() == before

    await _every(check, hostile(size=5_000))


def _calls(client: Client, kept: int, text: str) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: client.enqueue(Keeper(text)),
        lambda: client.enqueue(Keeper(), queue=text),
        lambda: client.enqueue(Keeper(), tags=[text]),
        lambda: client.enqueue(Keeper(), metadata={text: text}),
        lambda: client.enqueue(Keeper(), context=text),
        lambda: client.update(kept, args={"text": text}),
        lambda: client.update(kept, context=text),
        lambda: client.update(kept, queue=text),
        lambda: client.pause(text),
        lambda: client.resume(text),
        lambda: client.scale(text, 3),
        lambda: client.pause_cron(text),
        lambda: client.delete_cron(text),
        lambda: client.update_cron(text, args={"x": 1}),
        lambda: client.query(order_by=text),
        lambda: client.cancel(kept, text),
    ]


async def test_what_a_running_job_says_is_kept(storage: Storage) -> None:
    """Notes of its progress, checkpoints, steps: through the same `ctx` that jobs have."""
    from jobrt._runtime.checked import checked_progress, checkpoint_text

    async def check(text: str) -> None:
        claimed = await start(storage)
        ref = JobRef(claimed.id, claimed.lease)
        progress = checked_progress("Keeper", 1, total=None, note=text)
        saved = checkpoint_text("Keeper", {text: text})
        note = checkpoint_text("Keeper", [progress.done, progress.note])
        assert is_storable(progress.note)
        assert await storage.attempts.save(ref, saved=saved)
        assert await storage.attempts.save_step(ref, "step", note)
        # Two lone surrogates that would be a pair are one character in JSON.
        assert (await look(storage, claimed.id)).saved == json.loads(json.dumps({text: text}))
        assert (await storage.attempts.steps(ref))["step"] == note
        await storage.attempts.finish([end(claimed, end=End.FINISHED)])

    await _every(check, hostile(size=20_000))
    assert await storage.attempts.exchange((), ask()) is not None


async def test_a_path_finds_its_job(storage: Storage) -> None:
    """Whatever bytes a file name has, `where.args` takes the path as it is."""
    import os
    from pathlib import PurePath, PurePosixPath

    class Reader(Job):
        path: PurePosixPath

        async def run(self, ctx: object) -> None: ...

    registry = Registry()
    registry.add(Reader)

    async def check(name: bytes) -> None:
        path = PurePosixPath(os.fsdecode(name.replace(b"\0", b"")) or "x")
        async with open_client(storage, registry, rules=(), emit=EventBus()) as client:
            handle = await client.enqueue(Reader(path))
            found = await client.query(where.args("path", PurePath(path)) & where.id(handle.id))
            assert [one.id for one in found] == [handle.id]

    await _every(check, st.binary(max_size=40))
