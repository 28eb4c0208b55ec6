"""``python -m tests.simulation --seeds 1000``: run simulations and print failed seeds; ``--first N`` replays one."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
import traceback

from tests.chaos.mutants import apply_from_environment
from tests.simulation.simulate import simulate

_CPU_LIMIT = 60.0
"""CPU seconds after which a run counts as a busy loop in which virtual time does not pass; a seed takes 0.45."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--families", action="store_true", help="most jobs have children, or wait")
    parser.add_argument("--quiet", action="store_true", help="do not show tracebacks")
    parser.add_argument("--stop-early", action="store_true", help="stop at the first seed that fails")
    return parser.parse_args()


def main() -> int:
    """Run the simulations and return the exit status."""
    options = _options()
    apply_from_environment()
    logging.basicConfig(level=logging.CRITICAL)  # what jobs and workers report is expected here
    began = time.monotonic()
    signal.signal(signal.SIGPROF, _busy)
    failed: list[int] = []
    runs = calls = crashes = 0
    for seed in range(options.first, options.first + options.seeds):
        signal.setitimer(signal.ITIMER_PROF, _CPU_LIMIT)
        try:
            summary = simulate(seed, families=options.families)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failed.append(seed)
            print(f"seed {seed} failed: {type(error).__name__}", flush=True)  # noqa: T201
            if not options.quiet:
                traceback.print_exc()
            if options.stop_early:
                break
        else:
            runs, calls, crashes = runs + summary.runs, calls + summary.calls, crashes + summary.crashes
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.monotonic() - began
    print(  # noqa: T201
        f"{options.seeds} seeds in {seconds:.0f} s: {calls} calls, {runs} runs, {crashes} crashes and cuts,"
        f" {len(failed)} failed{': ' + ' '.join(map(str, failed)) if failed else ''}"
    )
    return 1 if failed else 0


def _busy(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"the run did not end after {_CPU_LIMIT:g} s of CPU time")


if __name__ == "__main__":
    sys.exit(main())
