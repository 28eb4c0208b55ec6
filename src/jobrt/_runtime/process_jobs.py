"""Jobs in other processes, as the worker sees them: started, listened to, told to stop, killed."""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import pickle
import secrets
import signal
import socket
import tempfile
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any, Final

import attrs
import trio

from jobrt._core.attempts import Stop
from jobrt._core.interrupt import from_signal
from jobrt._core.text import Described, in_one_line, message_of, type_name
from jobrt._registry import JobDefinition, JobWithOptions
from jobrt._runtime.context import Context, running_of, saves_of
from jobrt._runtime.job_log import log_level
from jobrt._runtime.remote import Place, Raised, Returned, WasStopped, run
from jobrt.errors import InvalidJob, ProcessDied

_SHUTDOWN: Final = 1.0
"""Seconds that a job has to end when its worker stops, however long its grace is."""
_LONGEST_PATH: Final = 100
"""Bytes of a socket's path; the limit of the system is 104 or 108."""
_LONGEST_LINE: Final = 64 * 1024 * 1024

_logger = logging.getLogger("jobrt")


async def run_in_process(definition: JobDefinition, job: Any, ctx: Context) -> Any:
    """Run a job in a worker process, which is killed if it does not stop when the attempt is cancelled."""
    try:
        import trio_parallel  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidJob(
            f'{definition.name}: RUN_IN = "process" needs trio-parallel: pip install "jobrt[process]"'
        ) from error
    deadline = ctx.deadline
    if deadline != math.inf:
        deadline += time.monotonic() - trio.current_time()
    async with _listening(ctx) as link:
        args = run, definition.run, job, (ctx.job, link.place, deadline)
        call = _Call(trio_parallel.run_sync, args, link)
        await call.run()
    problem = call.problem
    if isinstance(problem, trio_parallel.BrokenWorkerError):
        raise ProcessDied(f"{definition.name}: its process {_end_of(problem)}") from problem
    return await _unpacked(call, definition)


def _end_of(problem: BaseException) -> str:
    """Return how a process ended, as its last words say that it died."""
    code = getattr(problem.args[-1], "exitcode", None)
    if code is None:
        return "died"
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


async def _unpacked(call: _Call, definition: JobDefinition) -> Any:
    """Return what the job returned, or raise what it raised."""
    if isinstance(call.problem, Exception):  # the call itself raises nothing, so it could not be sent
        raise InvalidJob(
            f"{definition.name}: it could not be sent to a process: {in_one_line(call.problem)}; its class must be at "
            f"the top of a module that can be imported"
        ) from call.problem
    if call.problem is not None:
        raise call.problem
    match call.ended:
        case Returned(verdict, text):
            return verdict if text is None else json.loads(text)
        case Raised(description, pickled):
            raise Described(description, _unpickled(pickled))
        case _:  # it was stopped or killed, so this raises
            await trio.lowlevel.checkpoint_if_cancelled()
            raise ProcessDied(f"{definition.name}: its process lost the connection to the worker")


def _unpickled_job(text: str) -> JobWithOptions[Any]:
    """Return a job that its process wants to enqueue; its class may not be what the worker knows."""
    try:
        job: JobWithOptions[Any] = pickle.loads(base64.b64decode(text))  # noqa: S301 - from a process of the worker's
    except Exception as error:
        raise InvalidJob(
            f"ctx.enqueue: the worker cannot read the job: {in_one_line(error)}; its class must be at the top of a "
            f"module that the worker can import"
        ) from error
    return job


def _unpickled(text: bytes | None) -> BaseException | None:
    """Return the job's exception, for RETRY; its class may not be what the worker knows."""
    try:
        error: Any = None if text is None else pickle.loads(text)  # noqa: S301 - from a process of the worker's
    except BaseException as problem:
        if from_signal(problem):
            raise
        return None
    return error if isinstance(error, BaseException) else None


@attrs.define(eq=False)
class _Call:
    """One call of a process, which outlives the cancellation of its attempt by the time that the job needs to stop."""

    function: Any
    args: tuple[Any, ...]
    link: _Link
    ended: Returned | Raised | WasStopped | None = None
    problem: BaseException | None = None
    killing: trio.CancelScope = attrs.Factory(trio.CancelScope)
    over: trio.Event = attrs.Factory(trio.Event)

    async def run(self) -> None:
        """Run it to its end; afterwards the caller looks whether the attempt is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_when_cancelled)
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as serving:
                    serving.start_soon(self.link.serve)
                    with self.killing:
                        await self._call()
                    self.over.set()
                    serving.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    async def _call(self) -> None:
        try:
            self.ended = await self.function(*self.args, kill_on_cancel=True)
        except BaseException as error:  # kept: a nursery would put it into a group
            if from_signal(error) or isinstance(error, trio.Cancelled):
                raise
            self.problem = error

    async def _stop_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        except (
            trio.Cancelled
        ):  # not raised again: how the job ends counts, and `_unpacked` looks when it was stopped
            if not self.over.is_set():
                with trio.move_on_after(time_to_stop(self.link.ctx), shield=True) as grace:
                    await self._stop_softly(grace)
                self.killing.cancel()

    async def _stop_softly(self, grace: trio.CancelScope) -> None:
        """Tell the job to stop and wait until it has ended; if the worker begins to stop, for a second more."""
        if not await self.link.tell_cancelled():
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._shorten, grace)
            await self.over.wait()
            nursery.cancel_scope.cancel()

    async def _shorten(self, grace: trio.CancelScope) -> None:
        await self.link.ctx.shutting_down.wait()
        grace.deadline = min(grace.deadline, trio.current_time() + _SHUTDOWN)


def time_to_stop(ctx: Context) -> float:
    """Return the seconds that a job still has to end, now that it is cancelled.

    A stopping worker has given it time before, and after a lost lease another worker may run the job.
    """
    running = running_of(ctx)
    timed_out = (
        running.stop is None and running.scope.cancel_called
    )  # else a scope around the worker is cancelled
    has_time = timed_out or running.stop in {Stop.OPERATOR, Stop.PARENT}
    return saves_of(ctx).services.grace if has_time and not ctx.shutting_down.is_set() else _SHUTDOWN


# ------------------------------------------------------------------ listening


@asynccontextmanager
async def _listening(ctx: Context) -> AsyncGenerator[_Link]:
    """Listen for one attempt: on a socket in a folder of its own, which nobody else can enter."""
    with tempfile.TemporaryDirectory(prefix="jobrt-") as folder:
        path = os.path.join(folder, "ctx")  # noqa: PTH118 - a text is wanted
        if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= _LONGEST_PATH:
            place = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            await place.bind(path)
            address: Any = path
        else:
            place = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            await place.bind(("127.0.0.1", 0))
            address = place.getsockname()
        place.listen(8)
        with place:
            yield _Link(ctx, trio.SocketListener(place), Place(address, secrets.token_hex(16), log_level()))


@attrs.define(eq=False)
class _Link:
    """The worker's end of the connection to one job."""

    ctx: Context
    listener: trio.SocketListener
    place: Place
    _stream: trio.SocketStream | None = None
    _sending: trio.Lock = attrs.Factory(trio.Lock)
    _steps: dict[str, ExitStack] = attrs.Factory(dict)

    async def serve(self) -> None:
        """Answer until cancelled. What a job sends can harm its own connection only."""
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._serve_safely, await self.listener.accept(), nursery)

    async def _serve_safely(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        async with stream:
            try:
                await self._serve(stream, nursery)
            except trio.BrokenResourceError:
                pass  # the process ended
            except Exception as error:  # noqa: BLE001 - the job then finds its connection closed
                job = self.ctx.job
                _logger.warning(
                    "%s %d: its process sent what is no message: %s", job.name, job.id, in_one_line(error)
                )
            finally:
                for name in tuple(self._steps):
                    self._fail_step(name)

    async def _serve(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        lines = _Lines(stream)
        token = await lines.next()
        if token is None or not secrets.compare_digest(token, self.place.token.encode()):
            return
        self._stream = stream
        if self.ctx.cancelled is not None:
            await self.tell_cancelled()
        nursery.start_soon(self._tell_shutting_down)
        while (line := await lines.next()) is not None:
            await self._take(json.loads(line))

    async def _take(self, message: dict[str, Any]) -> None:
        match message:
            case {"progress": [done, total, note]}:
                self.ctx.progress(done, total, note)
            case {"step_failed": name}:
                self._fail_step(name)
            case {"log": values}:
                saves_of(self.ctx).stream.log_told(values)
            case {"number": number}:
                await self._send({**await self._answer(message), "number": number})
            case _:
                raise ValueError(f"unknown: {message}")

    async def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"answer": await self._do(message)}
        except Exception as error:  # noqa: BLE001 - the job raises it
            return {"error": [type_name(error), message_of(error)]}

    async def _do(self, message: dict[str, Any]) -> Any:
        saves = saves_of(self.ctx)
        match message:
            case {"checkpoint": [text, forget]}:
                await saves.checkpoint(text, forget=forget)
            case {"emit": [text, key]}:
                await saves.emit(text, key)
            case {"enqueue": pickled}:
                handle = await self.ctx.enqueue(_unpickled_job(pickled))
                return [handle.id, handle.duplicate]
            case {"step": name}:
                step = await saves.find_step(name)
                if not step.todo:
                    return [step.value]
                self._steps[name] = ExitStack()
                self._steps[name].enter_context(saves.around_step(name))
            case {"step_done": [name, text]}:
                self._steps.pop(name).close()
                await saves.store_step(name, text)
            case _:
                raise ValueError(f"unknown: {message}")
        return None

    def _fail_step(self, name: str) -> None:
        """Leave the scope of a step that failed; see `Context.around_steps`."""
        scope = self._steps.pop(name, None)
        if scope is not None:
            error = RuntimeError(f"step {name!r} failed in its process")
            try:
                scope.__exit__(RuntimeError, error, None)
            except Exception:
                _logger.exception("%s: the scope of step %r failed", self.ctx.job.name, name)

    async def _tell_shutting_down(self) -> None:
        await self.ctx.shutting_down.wait()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._send({"shutting_down": True})

    async def tell_cancelled(self) -> bool:
        """Tell the job that it is to stop; return whether it was there to hear that."""
        if self._stream is None:
            return False
        stop, reason = self.ctx.cancelled or (Stop.SHUTDOWN, "the worker stops")
        try:
            await self._send({"cancelled": [stop.value, reason]})
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True

    async def _send(self, message: dict[str, Any]) -> None:
        if self._stream is not None:
            async with self._sending:
                await self._stream.send_all(json.dumps(message).encode() + b"\n")


@attrs.define(eq=False)
class _Lines:
    """Lines that arrive on a stream."""

    stream: trio.SocketStream
    _ready: deque[bytes] = attrs.Factory(deque)
    _part: bytearray = attrs.Factory(bytearray)

    async def next(self) -> bytes | None:
        """Return the next line, or None at the end."""
        while not self._ready:
            received = await self.stream.receive_some()
            if not received:
                return None
            self._part += received
            if b"\n" in received:
                *lines, self._part = self._part.split(b"\n")
                self._ready += map(bytes, lines)
            elif len(self._part) > _LONGEST_LINE:
                raise ValueError("a message is too long")
        return self._ready.popleft()
