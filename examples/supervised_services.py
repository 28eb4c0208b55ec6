"""Hang services of your own into a supervisor: restarted when they fail, stopped in reverse order.

A flaky meter measures how late the event loop wakes it, a server tells the latest reading to whoever connects.
The meter has a supervisor of its own, so that its failures do not reach the server; if it failed too often, that
supervisor would give up, and the server, which was added after it and so depends on it, would restart with it.

Run it with ``python examples/supervised_services.py``; it ends by itself after a second or so.
"""

import functools

import attrs
import trio

import jobrt
from jobrt import SupervisorStatistics

ENOUGH = 25  # readings, then the program ends


@attrs.define
class Board:
    """Where the latest reading is written down."""

    readings: int = 0
    late: float = 0.0
    port: int = 0


async def measure(board: Board) -> None:
    """Note every 20 ms how late we were woken; like any real meter, fail now and then."""
    while True:
        due = trio.current_time() + 0.02
        await trio.sleep_until(due)
        board.late = trio.current_time() - due
        board.readings += 1
        if board.readings % 10 == 0:
            raise OSError("the meter does not answer")


async def serve(board: Board, closing: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    """Tell the latest reading to each connection, until asked to close."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(f"reading {board.readings}: {board.late * 1000:.1f} ms late".encode())

    async with trio.open_nursery() as nursery:
        listen = functools.partial(trio.serve_tcp, answer, 0, host="127.0.0.1")
        listeners = await nursery.start(listen)
        board.port = listeners[0].socket.getsockname()[1]
        task_status.started()  # only now does it count as up
        await closing.wait()
        nursery.cancel_scope.cancel()


async def ask(port: int) -> str:
    """Return what the server says."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        return b"".join([chunk async for chunk in stream]).decode()


def show(tree: SupervisorStatistics, *, depth: int = 0) -> None:
    """Print a tree as it was when its statistics were taken."""
    print(f"{'    ' * depth}{tree.name}: {tree.state} ({tree.strategy})")
    for child in tree.children:
        if child.nested is not None:
            show(child.nested, depth=depth + 1)
        else:
            error = f", last error {child.last_error}" if child.last_error else ""
            print(f"{'    ' * depth}    {child.name}: {child.state}, {child.restarts} restarts{error}")


async def main() -> None:
    """Run both services, ask the server a few times, and stop everything."""
    board, closing = Board(), trio.Event()
    metering = jobrt.Supervisor("metering", on_event=print)
    metering.add(measure, board)
    services = jobrt.Supervisor("services", strategy="rest_for_one", on_event=print)
    services.add(metering)
    services.add(serve, board, closing, name="server", stop=closing.set)

    async with trio.open_nursery() as nursery:
        await nursery.start(services.run)
        while board.readings < ENOUGH:
            print(await ask(board.port))
            await trio.sleep(0.1)
        show(services.statistics())
        services.stop()
    show(services.statistics())


if __name__ == "__main__":
    trio.run(main)
