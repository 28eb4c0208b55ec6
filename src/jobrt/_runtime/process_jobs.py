"""Jobs in other processes, as the worker sees them: started, listened to, told to stop, killed."""

from __future__ import annotations

import json
import logging
import os
import pickle
import secrets
import socket
import tempfile
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from jobrt._core.attempts import Stop
from jobrt._core.interrupt import from_signal
from jobrt._core.text import Described, in_one_line, message_of, type_name
from jobrt._registry import JobDefinition
from jobrt._runtime.context import Context
from jobrt._runtime.remote import Place, Raised, Returned, WasStopped, run
from jobrt.errors import InvalidJob

_GRACE: Final = 1.0
"""Seconds between telling a job to stop and killing its process; less than a worker's stop allows for a clean-up."""
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
    async with _listening(ctx) as link:
        call = _Call(trio_parallel.run_sync, (run, definition.run, job, (ctx.job, link.place)), link)
        await call.run()
    return await _unpacked(call, definition)


async def _unpacked(call: _Call, definition: JobDefinition) -> Any:
    """Return what the job returned, or raise what it raised."""
    if call.problem is not None:
        raise call.problem
    match call.ended:
        case Returned(verdict, text):
            return verdict if text is None else json.loads(text)
        case Raised(description, pickled):
            raise Described(description, _unpickled(pickled))
        case _:  # it was stopped or killed, so this raises
            await trio.lowlevel.checkpoint_if_cancelled()
            raise RuntimeError(f"{definition.name}: its process lost the connection to the worker")


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
                with trio.move_on_after(_GRACE, shield=True):
                    if await self.link.tell_cancelled():
                        await self.over.wait()
                self.killing.cancel()


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
            yield _Link(ctx, trio.SocketListener(place), Place(address, secrets.token_hex(16)))


@attrs.define(eq=False)
class _Link:
    """The worker's end of the connection to one job."""

    ctx: Context
    listener: trio.SocketListener
    place: Place
    _stream: trio.SocketStream | None = None
    _sending: trio.Lock = attrs.Factory(trio.Lock)

    async def serve(self) -> None:
        """Answer until cancelled. What a job sends can harm its own connection only."""
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._serve_safely, await self.listener.accept())

    async def _serve_safely(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await self._serve(stream)
            except trio.BrokenResourceError:
                pass  # the process ended
            except Exception as error:  # noqa: BLE001 - the job then finds its connection closed
                job = self.ctx.job
                _logger.warning(
                    "%s %d: its process sent what is no message: %s", job.name, job.id, in_one_line(error)
                )

    async def _serve(self, stream: trio.SocketStream) -> None:
        lines = _Lines(stream)
        token = await lines.next()
        if token is None or not secrets.compare_digest(token, self.place.token.encode()):
            return
        self._stream = stream
        if self.ctx.cancelled is not None:
            await self.tell_cancelled()
        while (line := await lines.next()) is not None:
            message = json.loads(line)
            if "progress" in message:
                self.ctx.progress(*message["progress"])
            elif "checkpoint" in message:
                await self._send(await self._saved(message["checkpoint"]))

    async def _saved(self, text: str) -> dict[str, Any]:
        try:
            await self.ctx.store_checkpoint(text)
        except Exception as error:  # noqa: BLE001 - the job raises it
            return {"error": [type_name(error), message_of(error)]}
        return {"saved": None}

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
