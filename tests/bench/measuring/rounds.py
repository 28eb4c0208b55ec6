"""Rounds: contestants are measured alternately, so that disturbances affect all of them."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import attrs
from tests.bench.measuring.parts import drain, one_by_one, pulse
from tests.bench.measuring.processes import Contestant, MeasurementError
from tests.bench.peers.environments import NotInstalledError, interpreter, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.bench.measuring.parts import Figures
    from tests.bench.measuring.processes import Bench
    from tests.bench.peers import Peer

__all__ = ["Results", "Sizes", "enter", "run", "say"]


@attrs.frozen
class Sizes:
    """Sizes of the measurements."""

    repeat: int = 3
    jobs: int = 50_000
    pulses: int = 200
    seconds: float = 5.0
    """Duration of enqueueing one by one."""
    limit: float = 60.0
    """Maximum seconds of a drain; then the jobs done so far are measured."""
    idle: float = 3.0
    """Seconds to measure the CPU of an idle worker."""


@attrs.define(eq=False)
class Results:
    """Results of all rounds."""

    rounds: dict[str, list[Figures]] = attrs.Factory(dict)
    """Figures by contestant."""
    failures: dict[str, str] = attrs.Factory(dict)
    """Reasons why a contestant or a peer has no figures, or only some."""
    versions: dict[str, str] = attrs.Factory(dict)


def enter(peers: Iterable[Peer], settings: Sequence[str], results: Results) -> list[Contestant]:
    """Return the contestants that can be installed. jobrt always runs, with its defaults."""
    contestants = []
    for peer in peers:
        try:
            python = interpreter(peer)
            results.versions[peer.name] = version(peer, python)
        except NotInstalledError as error:
            results.failures[peer.name] = f"cannot be installed: {error}"
            say(f"{peer.name}: {results.failures[peer.name]}")
            continue
        chosen = [setting for setting in peer.settings if setting in settings or not peer.packages]
        contestants += [Contestant(peer, setting, python) for setting in chosen]
    return contestants


def run(bench: Bench, contestants: Sequence[Contestant], sizes: Sizes, results: Results) -> None:
    """Measure all contestants in each round; each round starts with another contestant."""
    for number in range(sizes.repeat):
        say(f"round {number + 1} of {sizes.repeat}, load {os.getloadavg()[0]:.1f}")
        turn = [*contestants[number % len(contestants) :], *contestants[: number % len(contestants)]]
        measured: dict[str, Figures] = {who.name: {} for who in turn}
        _enqueue(bench, turn, sizes=sizes, results=results, measured=measured)
        for what, measure in _parts(bench, sizes):
            for who in turn:
                if who.name not in results.failures:
                    measured[who.name] |= _try(what, measure, who=who, results=results)
        for name, figures in measured.items():
            results.rounds.setdefault(name, []).append(figures)


def _parts(bench: Bench, sizes: Sizes) -> tuple[tuple[str, Callable[[Contestant], Figures]], ...]:
    return (
        ("drain", lambda who: drain(bench, who, jobs=sizes.jobs, limit=sizes.limit)),
        ("start", lambda who: pulse(bench, who, jobs=sizes.pulses, idle=sizes.idle)),
    )


def _enqueue(
    bench: Bench, turn: Sequence[Contestant], *, sizes: Sizes, results: Results, measured: dict[str, Figures]
) -> None:
    """Measure enqueueing one by one, once for all settings of a peer, because it needs no worker."""
    for peer in dict.fromkeys(who.peer for who in turn):
        settings = [who for who in turn if who.peer == peer and who.name not in results.failures]
        if settings:
            figures = _try(
                "one",
                lambda who: one_by_one(bench, who, seconds=sizes.seconds),
                who=settings[0],
                results=results,
            )
            for who in settings:
                measured[who.name] |= figures


def _try(
    what: str, measure: Callable[[Contestant], Figures], *, who: Contestant, results: Results
) -> Figures:
    """Return the figures, or record why there are none; a contestant that failed is not measured again."""
    begin = time.monotonic()
    try:
        figures = measure(who)
    except (MeasurementError, TimeoutError) as error:
        results.failures[who.name] = f"{what}: {error}"
        say(f"  {who.name}: {results.failures[who.name]}")
        return {}
    shown = ", ".join(f"{key} {value:,.2f}" for key, value in list(figures.items())[:4])
    say(f"  {what:>5} {who.name:<22} {time.monotonic() - begin:>5.0f} s  {shown}")
    return figures


def say(text: str) -> None:
    """Print the progress."""
    print(text, file=sys.stderr, flush=True)
