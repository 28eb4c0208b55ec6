"""Retrying: which failures are tried again, after how long, and what a user's strategy cannot break."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st
from tenacity.wait import wait_base

from jobrt._core.job import JobRecord
from jobrt._core.retry import Answer, Delay, as_backoff, as_retry, default_delay, delay_for, should_retry
from jobrt._core.states import State
from jobrt.backoff import LONGEST, CallState, bounded, jittered, polynomial
from jobrt.errors import InvalidJob

WEEK = timedelta(days=7)
NOW = datetime(2026, 3, 1, tzinfo=UTC)

attempts = st.integers(1, 100) | st.sampled_from([1_000, 10_000, 10**6, 10**9, 10**18])
chances = st.floats(0, 1, exclude_max=True)


def middle() -> float:
    """Draw what leaves a value where it is."""
    return 0.5


def lowest() -> float:
    """Draw the least."""
    return 0.0


def highest() -> float:
    """Draw the most that is drawn."""
    return math.nextafter(1.0, 0.0)


def record(*, attempt: int = 1, **changes: Any) -> JobRecord:
    """Return the record of a running job."""
    values: dict[str, Any] = {
        "id": 1,
        "name": "send",
        "queue": "default",
        "state": State.EXECUTING,
        "priority": 0,
        "attempt": attempt,
        "max_attempts": 5,
        "args": {},
        "metadata": {},
        "tags": (),
        "context": None,
        "created_at": NOW,
        "schedule_at": NOW,
    }
    return JobRecord(**values | changes)


def delay(
    backoff: Any,
    *,
    attempt: int = 1,
    error: BaseException | None = None,
    chance: Callable[[], float] = middle,
) -> Delay:
    """Ask for the delay after a failure."""
    error = error or ValueError("no")
    return delay_for(backoff, attempt=attempt, error=error, record=record(attempt=attempt), chance=chance)


def seconds(backoff: Any, *, attempt: int = 1, chance: Callable[[], float] = middle) -> float:
    """Ask for the delay after a failure, in seconds, and insist that nothing was wrong."""
    answer = delay(backoff, attempt=attempt, chance=chance)
    assert answer.warning is None
    return answer.wait.total_seconds()


# ------------------------------------------------------------------ the default


def test_default_table() -> None:
    """The default doubles from 2 s, and is a week from the twentieth attempt on."""
    table = [default_delay(attempt, chance=middle).total_seconds() for attempt in range(1, 23)]
    assert table == [2.0**n for n in range(1, 20)] + [604_800.0] * 3


@pytest.mark.parametrize(("chance", "factor"), [(lowest, 0.9), (middle, 1.0), (highest, 1.1)])
def test_default_jitter(chance: Callable[[], float], factor: float) -> None:
    """Chance moves the default by ten percent either way."""
    assert seconds(None, attempt=5, chance=chance) == pytest.approx(32 * factor)


@pytest.mark.parametrize("attempt", [19, 20, 10_000, 10**9])
def test_default_is_capped_after_the_jitter(attempt: int) -> None:
    """No draw makes the default more than seven days."""
    assert default_delay(attempt, chance=highest) <= WEEK
    assert default_delay(10_000, chance=highest) == WEEK


def test_late_attempts_still_spread() -> None:
    """Jobs that fail for long do not all come back at one moment."""
    assert default_delay(10_000, chance=lowest) == WEEK * 0.9


@pytest.mark.parametrize("attempt", [0, -3])
def test_attempts_below_one_count_as_the_first(attempt: int) -> None:
    """A count that somebody has lowered makes no shorter delay than the first failure's."""
    assert default_delay(attempt, chance=middle) == timedelta(seconds=2)


@given(attempt=attempts, chance=chances)
def test_default_bounds(attempt: int, chance: float) -> None:
    """The default is within ten percent of its table, finite, and at most a week, at any attempt."""
    center = min(2.0 ** min(attempt, 100), WEEK.total_seconds())
    wait = default_delay(attempt, chance=lambda: chance).total_seconds()
    assert 0.9 * center - 1e-6 <= wait <= min(1.1 * center, WEEK.total_seconds()) + 1e-6


@given(attempt=attempts, more=st.integers(0, 10**6), chance=chances)
def test_default_never_shrinks(attempt: int, more: int, chance: float) -> None:
    """With the same draw a later attempt waits at least as long."""
    earlier = default_delay(attempt, chance=lambda: chance)
    assert default_delay(attempt + more, chance=lambda: chance) >= earlier


# ------------------------------------------------------------------ what a BACKOFF may be

LINEAR = tenacity.wait_incrementing(start=3, increment=3)
EXPONENTIAL = tenacity.wait_exponential(multiplier=4, exp_base=4)


@pytest.mark.parametrize(
    ("backoff", "table"),
    [
        pytest.param(tenacity.wait_none(), [0, 0, 0], id="none"),
        pytest.param(tenacity.wait_fixed(5), [5, 5, 5], id="constant"),
        pytest.param(LINEAR, [3, 6, 9], id="linear"),
        pytest.param(polynomial(), [1, 4, 9], id="polynomial"),
        pytest.param(polynomial(2, 3), [2, 16, 54], id="cubic"),
        pytest.param(EXPONENTIAL, [4, 16, 64], id="exponential"),
        pytest.param(tenacity.wait_fixed(1) + polynomial(), [2, 5, 10], id="sum"),
        pytest.param(polynomial() + tenacity.wait_fixed(1), [2, 5, 10], id="sum-turned"),
        pytest.param(sum([polynomial(), LINEAR]), [4, 10, 18], id="builtin-sum"),
        pytest.param(tenacity.wait_chain(tenacity.wait_fixed(7), polynomial()), [7, 4, 9], id="chain"),
        pytest.param(bounded(EXPONENTIAL, max=20), [4, 16, 20], id="max"),
        pytest.param(bounded(EXPONENTIAL, min=timedelta(seconds=10)), [10, 16, 64], id="min"),
        pytest.param(bounded(polynomial(), min=2, max=8), [2, 4, 8], id="min-max"),
        pytest.param(jittered(LINEAR, relative=0.5), [3, 6, 9], id="relative"),
        pytest.param(lambda job: timedelta(minutes=job.attempt), [60, 120, 180], id="function"),
        pytest.param(lambda job: job.attempt * 1.5, [1.5, 3, 4.5], id="function-in-seconds"),
    ],
)
def test_tables(backoff: Any, table: list[float]) -> None:
    """Each kind of backoff gives exactly its table, attempts counted from 1."""
    assert [seconds(backoff, attempt=attempt) for attempt in (1, 2, 3)] == table


@pytest.mark.parametrize(
    "inner",
    [tenacity.wait_fixed(10), LINEAR, polynomial(), EXPONENTIAL],
    ids=["constant", "linear", "poly", "exp"],
)
@given(attempt=attempts, chance=chances)
def test_every_kind_has_max_min_and_jitter(inner: wait_base, attempt: int, chance: float) -> None:
    """Jitter of both kinds stays within its reach, and bounds written around it hold for any draw."""
    plain = seconds(bounded(inner, max=10**6), attempt=attempt)

    def ask(wait: wait_base) -> float:
        return seconds(wait, attempt=attempt, chance=lambda: chance)

    capped = bounded(inner, max=10**6)
    assert abs(ask(jittered(capped, relative=0.25)) - plain) <= 0.25 * plain + 1e-6
    assert abs(ask(jittered(capped, absolute=timedelta(seconds=3))) - plain) <= 3 + 1e-6
    assert 5 <= ask(bounded(jittered(inner, relative=1), min=5, max=7)) <= 7
    assert ask(jittered(bounded(inner, max=1), absolute=50)) >= 0


def test_jitter_reaches_both_ends() -> None:
    """Least and greatest draw give the wait minus and plus the whole reach."""
    relative, absolute = jittered(LINEAR, relative=0.1), jittered(LINEAR, absolute=1)
    assert [seconds(relative, attempt=10, chance=c) for c in (lowest, highest)] == pytest.approx([27, 33])
    assert [seconds(absolute, attempt=10, chance=c) for c in (lowest, highest)] == pytest.approx([29, 31])


@pytest.mark.parametrize(
    "backoff",
    [
        tenacity.wait_random(1, 3),
        tenacity.wait_random_exponential(multiplier=0.5, max=60),
        tenacity.wait_exponential_jitter(max=60),
        tenacity.wait_exponential(max=30) + tenacity.wait_random(0, 2),
    ],
    ids=["random", "random-exponential", "jitter", "product-page"],
)
@pytest.mark.parametrize("attempt", [1, 7, 10_000, 10**9])
def test_tenacitys_own_chance(backoff: wait_base, attempt: int) -> None:
    """The random waits of tenacity work as they are, at any attempt."""
    assert 0 <= seconds(backoff, attempt=attempt) <= 60


def test_strategies_see_a_real_call_state() -> None:
    """A wait gets tenacity's own state: attempt, failed outcome with its error, and the job's record."""
    seen: list[tenacity.RetryCallState] = []

    class Look(wait_base):
        def __call__(self, retry_state: tenacity.RetryCallState) -> float:
            seen.append(retry_state)
            return 1

    error = KeyError("x")
    delay(Look(), attempt=3, error=error)
    (state,) = seen
    assert isinstance(state, tenacity.RetryCallState)
    assert state.attempt_number == 3
    assert state.outcome is not None
    assert state.outcome.failed
    assert state.outcome.exception() is error
    assert state.args == (record(attempt=3),)
    assert state.seconds_since_start is not None


def test_wait_by_exception() -> None:
    """A wait that looks at the exception (a Retry-After) gets it."""
    backoff = tenacity.wait_exception(lambda error: float(str(error)))
    assert delay(backoff, error=ValueError("17")).wait == timedelta(seconds=17)


def test_functions_get_the_record() -> None:
    """What is no tenacity wait is called with the job's record, also if tenacity would take a function."""
    seen: list[object] = []

    def backoff(job: JobRecord) -> timedelta:
        seen.append(job)
        return timedelta(0)

    assert seconds(backoff, attempt=2) == 0
    assert seen == [record(attempt=2)]


def test_function_of_a_call_state_inside_a_wait() -> None:
    """A function that tenacity would take can be used in a sum, or wrapped."""

    def by_attempt(retry_state: tenacity.RetryCallState) -> float:
        return 2.0 * retry_state.attempt_number

    assert seconds(by_attempt + tenacity.wait_none(), attempt=4) == 8
    assert seconds(bounded(by_attempt, max=5), attempt=4) == 5


# ------------------------------------------------------------------ what a BACKOFF cannot break


def fail(_job: JobRecord) -> timedelta:
    """Fail as somebody's backoff might."""
    raise RuntimeError("two\nlines")


class Unprintable(Exception):
    """Fail to be printed."""

    def __str__(self) -> str:
        raise RuntimeError


def fail_unprintably(_job: JobRecord) -> timedelta:
    """Fail worse."""
    raise Unprintable


@pytest.mark.parametrize(
    ("backoff", "said"),
    [
        pytest.param(fail, "raised RuntimeError: two lines", id="raises"),
        pytest.param(fail_unprintably, "Unprintable", id="unprintable"),
        pytest.param(tenacity.wait_fixed(-1), "returned -1", id="negative"),
        pytest.param(tenacity.wait_fixed(math.nan), "returned nan", id="nan"),
        pytest.param(tenacity.wait_fixed(math.inf), "returned inf", id="inf"),
        pytest.param(lambda _: -math.inf, "returned -inf", id="-inf"),
        pytest.param(lambda _: timedelta(seconds=-1), "returned datetime.time", id="negative-timedelta"),
        pytest.param(lambda _: None, "returned None, which is no duration", id="none"),
        pytest.param(lambda _: "5", "returned '5'", id="text"),
        pytest.param(lambda _: True, "returned True", id="bool"),
        pytest.param(tenacity.wait_exception(lambda _: 1 / 0), "raised ZeroDivisionError", id="wait-raises"),
        pytest.param(lambda: 1, "raised TypeError", id="takes-nothing"),
    ],
)
def test_nonsense_gives_the_default_and_says_so(backoff: Any, said: str) -> None:
    """A backoff that raises or answers nonsense neither stops the retry nor makes it immediate."""
    answer = delay(backoff, attempt=3)
    assert answer.wait == timedelta(seconds=8)
    assert answer.warning is not None
    assert answer.warning.startswith("BACKOFF of 'send' ")
    assert said in answer.warning
    assert answer.warning.endswith("; the default of 8 s holds")


@pytest.mark.parametrize(
    "value",
    [LONGEST + timedelta(microseconds=1), timedelta.max, 10**400, 1e300],
    ids=["us", "max", "int", "float"],
)
def test_too_long_is_cut(value: Any) -> None:
    """A delay that no date could hold becomes ten years, and says so."""
    assert delay(lambda _: value) == Delay(LONGEST, "BACKOFF of 'send' is beyond ten years; ten years hold")
    assert delay(lambda _: LONGEST) == Delay(LONGEST)


@pytest.mark.parametrize(
    "backoff",
    [
        tenacity.wait_exponential(),
        tenacity.wait_exponential_jitter(),
        tenacity.wait_random_exponential(min=10**9),
        tenacity.wait_incrementing(),
        polynomial(1, 400),
        polynomial(10.0**300, 2),
        jittered(polynomial(1, 99), relative=1),
    ],
    ids=["exp", "exp-jitter", "random-exp", "linear", "poly", "poly-factor", "jittered"],
)
@given(attempt=attempts, chance=chances)
def test_nothing_overflows(backoff: wait_base, attempt: int, chance: float) -> None:
    """Unbounded waits give a finite delay from 0 to ten years at any attempt."""
    assert timedelta(0) <= delay(backoff, attempt=attempt, chance=lambda: chance).wait <= LONGEST


@given(value=st.floats() | st.integers() | st.timedeltas() | st.none() | st.text())
def test_any_answer_gives_a_usable_delay(value: Any) -> None:
    """Whatever a backoff returns, the delay can be added to a date; it is as asked, or there is a warning."""
    answer = delay(lambda _: value)
    assert timedelta(0) <= answer.wait <= LONGEST
    asked = value if isinstance(value, timedelta) or answer.warning else timedelta(seconds=value)
    assert answer.warning or answer.wait == asked


def test_exit_is_not_caught() -> None:
    """Only an `Exception` of a backoff or predicate is caught; an interrupt goes on."""

    def stop(_: object) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        delay(stop)
    with pytest.raises(KeyboardInterrupt):
        should_retry(stop, attempt=1, error=ValueError())


# ------------------------------------------------------------------ RETRY

OS = tenacity.retry_if_exception_type(OSError)
NOT_KEY = tenacity.retry_if_not_exception_type(KeyError)


@pytest.mark.parametrize(
    ("predicate", "error", "expected"),
    [
        pytest.param(None, ValueError(), True, id="default"),
        pytest.param(None, SystemExit(), False, id="default-exit"),
        pytest.param(OS, TimeoutError(), True, id="subclass"),
        pytest.param(OS, ValueError(), False, id="other"),
        pytest.param(NOT_KEY, KeyError(), False, id="not"),
        pytest.param(OS | tenacity.retry_if_exception_message("again"), ValueError("again"), True, id="or"),
        pytest.param(NOT_KEY & tenacity.retry_if_exception_type(LookupError), IndexError(), True, id="and"),
        pytest.param(
            NOT_KEY & tenacity.retry_if_exception_type(LookupError), KeyError(), False, id="and-not"
        ),
        pytest.param(
            tenacity.retry_if_exception(lambda e: "x" in str(e)), ValueError("x"), True, id="lambda"
        ),
        pytest.param(tenacity.retry_never, ValueError(), False, id="never"),
        pytest.param(tenacity.retry_always, ValueError(), True, id="always"),
        pytest.param(tenacity.retry_unless_exception_type(OSError), OSError(), False, id="unless"),
        pytest.param(tenacity.retry_if_result(bool), ValueError(), False, id="result"),
        pytest.param(lambda state: state.attempt_number < 3, ValueError(), True, id="function"),
    ],
)
def test_predicates(predicate: Any, error: BaseException, expected: bool) -> None:
    """Any tenacity predicate decides; without one every Exception is worth another try."""
    answer = should_retry(predicate, attempt=2, error=error)
    assert answer == Answer(expected)
    assert bool(answer) is expected


def test_predicate_sees_the_attempt() -> None:
    """A predicate may give up by count."""
    assert not should_retry(lambda state: state.attempt_number < 3, attempt=3, error=ValueError())


def test_failing_predicate_means_yes() -> None:
    """A predicate that raises costs an attempt, not the job, and says so."""

    def broken(_: object) -> bool:
        raise LookupError("nobody home")

    answer = should_retry(broken, attempt=1, error=ValueError())
    assert answer == Answer(retry=True, warning="RETRY raised LookupError: nobody home; the job is retried")


# ------------------------------------------------------------------ where a job is defined


class Callable1:
    """Take one argument when called."""

    def __call__(self, job: object) -> timedelta:
        """Wait a second."""
        return timedelta(seconds=1)


async def awaitable(_job: object) -> timedelta:
    """Answer too late."""
    return timedelta(0)


@pytest.mark.parametrize(
    "value",
    [None, tenacity.wait_fixed(1), polynomial(), lambda job: job, Callable1(), print],
    ids=lambda value: type(value).__name__,
)
def test_good_backoff(value: Any) -> None:
    """Waits and functions of one argument pass, as they are."""
    assert as_backoff(value, owner="Send") is value


@pytest.mark.parametrize(
    "value", [None, OS, OS | NOT_KEY, lambda state: True, Callable1()], ids=lambda value: type(value).__name__
)
def test_good_retry(value: Any) -> None:
    """Predicates and functions of one argument pass, as they are."""
    assert as_retry(value, owner="Send") is value


BAD = [
    5,
    timedelta(1),
    "x",
    lambda: 1,
    lambda self, job: 1,
    awaitable,
    tenacity.wait_fixed,
    OSError,
    (OSError,),
]


@pytest.mark.parametrize("value", BAD, ids=range(len(BAD)))
def test_bad_definitions_are_refused(value: Any) -> None:
    """What would only fail in the middle of a failure is refused where the job is defined, with a remedy."""
    with pytest.raises(InvalidJob, match=r"Send\.BACKOFF is .*: use a tenacity wait such as"):
        as_backoff(value, owner="Send")
    with pytest.raises(InvalidJob, match=r"Send\.RETRY is .*: use a tenacity predicate such as"):
        as_retry(value, owner="Send")


def test_functions_without_a_signature_pass() -> None:
    """A function in C that cannot be asked what it takes is trusted."""
    smallest: Any = min
    assert as_backoff(smallest, owner="Send") is smallest


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: polynomial(-1), "factor is -1"),
        (lambda: polynomial(1, math.inf), "power is inf"),
        (lambda: jittered(LINEAR), "give relative= or absolute="),
        (lambda: jittered(LINEAR, relative=0.1, absolute=1), "one of them"),
        (lambda: jittered(LINEAR, relative=1.1), "share of the wait, from 0 to 1"),
        (lambda: jittered(LINEAR, relative=-0.1), r"relative is -0\.1"),
        (lambda: jittered(LINEAR, absolute=timedelta(-1)), "absolute is datetime"),
        (lambda: bounded(LINEAR, min=math.nan), "min is nan"),
        (lambda: bounded(LINEAR, max=-1), "max is -1"),
        (lambda: bounded(LINEAR, min=5, max=4), "min=5 is above max=4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_waits_are_refused(make: Callable[[], object], message: str) -> None:
    """A wait that makes no sense is refused when it is written down."""
    with pytest.raises(InvalidJob, match=message):
        make()


# ------------------------------------------------------------------ outside jobrt


def test_waits_work_in_plain_tenacity() -> None:
    """In a program's own tenacity loop the waits work, and chance is tenacity's."""
    slept: list[float] = []

    @tenacity.retry(
        wait=bounded(jittered(polynomial(), relative=0.5), max=6),
        stop=tenacity.stop_after_attempt(4),
        sleep=slept.append,
        reraise=True,
    )
    def flaky() -> None:
        raise OSError

    with pytest.raises(OSError, match=r"^$"):
        flaky()
    assert len(slept) == 3
    assert 0.5 <= slept[0] <= 1.5
    assert 2 <= slept[1] <= 6
    assert 4.5 <= slept[2] <= 6


def test_call_state_without_chance() -> None:
    """A call's state without a source of chance leaves it to tenacity."""
    state = CallState(attempt=2, error=ValueError())
    assert 2 <= jittered(polynomial(), relative=0.5)(state) <= 6
