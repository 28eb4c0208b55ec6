"""``python -m tests.simulation --seeds 1000``: simulate, and name each seed that fails; ``--first N`` replays."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback

from tests.simulation.simulate import simulate

_CPU_LIMIT = 60.0
"""Seconds of computing, a hundred times what a seed takes, after which a run is a busy loop in which no time passes."""


def main() -> int:
    """Run the simulations and return how the process is to exit."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--quiet", action="store_true", help="do not show tracebacks")
    given = parser.parse_args()
    began = time.monotonic()
    signal.signal(signal.SIGPROF, _busy)
    failed: list[int] = []
    runs = calls = crashes = 0
    for seed in range(given.first, given.first + given.seeds):
        signal.setitimer(signal.ITIMER_PROF, _CPU_LIMIT)
        try:
            summary = simulate(seed)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failed.append(seed)
            print(f"seed {seed} failed: {type(error).__name__}", flush=True)  # noqa: T201
            if not given.quiet:
                traceback.print_exc()
        else:
            runs, calls, crashes = runs + summary.runs, calls + summary.calls, crashes + summary.crashes
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.monotonic() - began
    print(  # noqa: T201
        f"{given.seeds} seeds in {seconds:.0f} s: {calls} calls, {runs} runs, {crashes} crashes and cuts,"
        f" {len(failed)} failed{': ' + ' '.join(map(str, failed)) if failed else ''}"
    )
    return 1 if failed else 0


def _busy(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"no end after {_CPU_LIMIT:g} s of computing")


if __name__ == "__main__":
    sys.exit(main())
