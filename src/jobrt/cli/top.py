"""The `top` command: queues, running jobs and workers on a terminal, again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import attrs
import click
import trio
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

import jobrt
from jobrt._client import Client
from jobrt._core.escape import printable
from jobrt._storage.contract import WorkerRow
from jobrt._views.findings import COUNT_LIMIT
from jobrt._views.status import QueueView, cancel_phase, cancel_phases, view_queues
from jobrt._views.words import age, count_in_words, progress_in_words
from jobrt.cli.output import console, on_terminal
from jobrt.cli.queues import COLUMNS, queue_row
from jobrt.cli.selection import Seconds
from jobrt.cli.setting import Setting, in_trio
from jobrt.cli.terminal import resizes, single_keys
from jobrt.cli.workers import TREE_OPTION, draw_trees
from jobrt.errors import StorageUnavailable

_RUNNING_LIMIT: Final = 100
"""Running jobs that are read. Those that fit are shown."""
_ONCE_LIMIT: Final = 15
"""Running jobs that `--once` shows."""
_LEAST_ROWS: Final = 3
"""Rows that each table keeps on a small terminal."""

_QUEUE_ORDERS: Final[Mapping[str, Callable[[QueueView], Any]]] = {
    "name": lambda view: view.status.name,
    "due": lambda view: -view.status.available,
    "oldest": lambda view: -(view.status.oldest_due or 0.0),
    "running": lambda view: -view.status.executing,
}
_JOB_ORDERS: Final[Mapping[str, Callable[[jobrt.JobRecord], Any]]] = {
    "time": lambda job: (job.started_at is None, job.started_at, job.id),
    "name": lambda job: (job.name, job.id),
    "queue": lambda job: (job.queue, job.id),
}


@attrs.frozen
class View:
    """How the tables are shown. Keys change it."""

    paused: bool = False
    tree: bool = False
    queues: str = "name"
    jobs: str = "time"


def press(view: View, key: str) -> View | None:
    """Return the view after a key; None if it ends the command."""
    match key:
        case "q":
            return None
        case "p" | " ":
            return attrs.evolve(view, paused=not view.paused)
        case "t":
            return attrs.evolve(view, tree=not view.tree)
        case "s":
            return attrs.evolve(view, queues=_next(view.queues, tuple(_QUEUE_ORDERS)))
        case "j":
            return attrs.evolve(view, jobs=_next(view.jobs, tuple(_JOB_ORDERS)))
        case _:
            return view


def _next(value: str, values: Sequence[str]) -> str:
    return values[(values.index(value) + 1) % len(values)]


@attrs.frozen(kw_only=True)
class Scene:
    """What the database tells at one moment; ``problem`` is why there is nothing newer."""

    now: datetime
    queues: Sequence[QueueView]
    running: Sequence[jobrt.JobRecord]
    workers: Sequence[WorkerRow]
    problem: str = ""


async def take_scene(jobs: Client, *, limit: int) -> Scene:
    """Return the current scene, with at most `limit` running jobs."""
    running = await jobs.query(jobrt.where.state("executing"), order_by="schedule_at", limit=limit)
    workers = await jobs.workers()
    queues = view_queues(await jobs.queues(limit=COUNT_LIMIT), workers)
    return Scene(now=await jobs.now(), queues=queues, running=running, workers=workers)


# ---------------------------------------------------------------------- drawing


def draw(scene: Scene, view: View, *, height: int | None = None) -> Group:
    """Draw a scene; with a `height`, so that all parts have a place on a terminal of that many lines."""
    queues = sorted(scene.queues, key=_QUEUE_ORDERS[view.queues])
    running = sorted(scene.running, key=_JOB_ORDERS[view.jobs])
    rows, jobs = _shares(len(queues), len(running), height=height)
    phases = cancel_phases(scene.workers)
    parts: list[Any] = [] if height is None else [_bar(scene, view)]
    parts += [_queue_table(queues[:rows]), *_more(len(queues) - rows, "queue"), ""]
    parts += [
        _running_table(running[:jobs], phases, now=scene.now),
        *_more(len(running) - jobs, "running job"),
        "",
    ]
    left = None if height is None else height - rows - jobs - len(parts) - 2
    return Group(*parts, draw_trees(scene.workers, now=scene.now, whole=view.tree, height=left))


def _shares(queues: int, jobs: int, *, height: int | None) -> tuple[int, int]:
    """Return how many queues and jobs are shown: each at most a third of the lines, or more if others need less."""
    if height is None:
        return queues, jobs
    third = max(_LEAST_ROWS, (height - 8) // 3)
    rows = min(queues, third + max(0, third - jobs))
    return rows, min(jobs, third + max(0, third - rows))


def _more(count: int, noun: str) -> list[Text]:
    return [Text(f" … and {count_in_words(count, noun)} more", style="dim")] if count > 0 else []


def _bar(scene: Scene, view: View) -> Text:
    """Return the first line: what the keys do, and what holds the tables back."""
    bar = Text(no_wrap=True, overflow="ellipsis")
    if scene.problem:
        bar.append(f" {printable(scene.problem)} ", style="white on red")
    if view.paused:
        bar.append(" paused ", style="black on yellow")
    tree = "fold" if view.tree else "whole"
    bar.append(
        f" q quit   p pause   s queues by {view.queues}   j jobs by {view.jobs}   t {tree} tree", style="dim"
    )
    return bar


def _queue_table(views: Sequence[QueueView]) -> Table:
    table = Table(*COLUMNS, box=None, header_style="bold")
    for view in views:
        table.add_row(
            *[Text(printable(str(cell)), no_wrap=True, overflow="ellipsis") for cell in queue_row(view)]
        )
    return table


def _running_table(running: Sequence[jobrt.JobRecord], phases: Mapping[int, str], *, now: datetime) -> Table:
    table = Table("id", "running job", "queue", "attempt", "for", "progress", box=None, header_style="bold")
    for job in running:
        since = age((now - job.started_at).total_seconds()) if job.started_at else "-"
        progress = progress_in_words(job.progress) if job.progress is not None else ""
        if phase := cancel_phase(job, phases):
            progress += f"  cancelling: {phase}"
        cells = (str(job.id), job.name, job.queue, str(job.attempt), since, progress)
        table.add_row(*[Text(printable(cell), no_wrap=True, overflow="ellipsis") for cell in cells])
    return table


# ---------------------------------------------------------------------- the command


@click.command()
@click.option("--once", is_flag=True, help="Print once and exit.")
@click.option(
    "--every",
    type=Seconds(0.1),
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    help="Time between updates.",
)
@TREE_OPTION
@in_trio
async def top(setting: Setting, once: bool, every: float, tree: bool) -> None:
    """Watch queues, running jobs and workers. Press q or Ctrl-C to exit.

    Keys: p or space pauses, s sorts the queues, j sorts the jobs, t shows the whole supervision trees.
    """
    async with setting.app().open_client() as jobs:
        if once or not on_terminal():
            console().print(draw(await take_scene(jobs, limit=_ONCE_LIMIT), View(tree=tree)))
            return
        scene = await take_scene(jobs, limit=_RUNNING_LIMIT)
        with single_keys() as keys, Live(console=console(), screen=True, auto_refresh=False) as live:
            screen = _Screen(live, scene, View(tree=tree))
            await screen.run(jobs, every=every, keys=keys)


@attrs.define(eq=False)
class _Screen:
    """Terminal that shows a scene, again after each change."""

    live: Live
    scene: Scene
    view: View

    async def run(self, jobs: Client, *, every: float, keys: Callable[[], AsyncIterator[str]] | None) -> None:
        """Show the newest scene until a key ends it, or forever."""
        self._show()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._refresh, jobs, every)
            nursery.start_soon(self._follow_size)
            if keys is not None:
                await self._follow(keys())
                nursery.cancel_scope.cancel()

    def _show(self) -> None:
        self.live.update(draw(self.scene, self.view, height=self.live.console.size.height), refresh=True)

    async def _refresh(self, jobs: Client, every: float) -> None:
        """Read the database again and again; while it is away, the last scene stays, and the problem is told."""
        while True:
            await trio.sleep(every)
            if not self.view.paused:
                try:
                    self.scene = await take_scene(jobs, limit=_RUNNING_LIMIT)
                except StorageUnavailable as error:
                    self.scene = attrs.evolve(self.scene, problem=f"database unavailable: {error}")
                self._show()

    async def _follow_size(self) -> None:
        async for _ in resizes():
            self._show()

    async def _follow(self, keys: AsyncIterator[str]) -> None:
        """Follow the keys; return at the one that ends the command, or sleep when there are no more."""
        async for key in keys:
            view = press(self.view, key)
            if view is None:
                return
            self.view = view
            self._show()
        await trio.sleep_forever()


COMMANDS = (top,)
