"""Supervised services: they are restarted when they fail, and stopped in reverse order.

An unreliable meter measures how late the event loop wakes it. A server sends the latest reading to each client. The
meter has its own supervisor, so its failures do not restart the server. If it failed too often, that supervisor would
fail. Then the server, which was added later and so depends on the meter, would also restart.

Run it with ``python examples/supervised_services.py``. It ends after about a second.
"""

import functools

import attrs
import trio

import jobrt
from jobrt import SupervisorStatistics

ENOUGH = 25  # readings until the program ends


@attrs.define
class Board:
    """Latest reading of the meter, and the port of the server."""

    readings: int = 0
    late: float = 0.0
    port: int = 0


async def measure(board: Board) -> None:
    """Measure every 20 ms how late the event loop wakes this task; fail at every tenth reading."""
    while True:
        due = trio.current_time() + 0.02
        await trio.sleep_until(due)
        board.late = trio.current_time() - due
        board.readings += 1
        if board.readings % 10 == 0:
            raise OSError("the meter does not answer")


async def serve(board: Board, closing: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    """Send the latest reading to each client until asked to close."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(f"reading {board.readings}: {board.late * 1000:.1f} ms late".encode())

    async with trio.open_nursery() as nursery:
        listen = functools.partial(trio.serve_tcp, answer, 0, host="127.0.0.1")
        listeners = await nursery.start(listen)
        board.port = listeners[0].socket.getsockname()[1]
        task_status.started()  # the supervisor now considers the server started
        await closing.wait()
        nursery.cancel_scope.cancel()


async def ask(port: int) -> str:
    """Return the server's answer."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        return b"".join([chunk async for chunk in stream]).decode()


def show(tree: SupervisorStatistics, *, depth: int = 0) -> None:
    """Print the statistics of a supervision tree."""
    print(f"{'    ' * depth}{tree.name}: {tree.state} ({tree.strategy})")
    for child in tree.children:
        if child.nested is not None:
            show(child.nested, depth=depth + 1)
        else:
            error = f", last error {child.last_error}" if child.last_error else ""
            print(f"{'    ' * depth}    {child.name}: {child.state}, {child.restarts} restarts{error}")


async def main() -> None:
    """Run both services, query the server a few times, and stop both."""
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
