"""Retries: which failures are retried, after which delay, and what a faulty strategy cannot break."""

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
from jobrt._core.retry import (
    Delay,
    RetryDecision,
    as_backoff,
    as_retry,
    default_delay,
    delay_for,
    should_retry,
)
from jobrt._core.states import State
from jobrt.backoff import MAX_DELAY, CallState, bounded, jittered, polynomial
from jobrt.errors import InvalidJob

WEEK = timedelta(days=7)
NOW = datetime(2026, 3, 1, tzinfo=UTC)

attempts = st.integers(1, 100) | st.sampled_from([1_000, 10_000, 10**6, 10**9, 10**18])
chances = st.floats(0, 1, exclude_max=True)


def middle() -> float:
    """Return the random number that means no jitter."""
    return 0.5


def lowest() -> float:
    """Return the lowest random number."""
    return 0.0


def highest() -> float:
    """Return the highest random number."""
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
    """Return the delay after a failure."""
    error = error or ValueError("no")
    return delay_for(backoff, attempt=attempt, error=error, record=record(attempt=attempt), chance=chance)


def seconds(backoff: Any, *, attempt: int = 1, chance: Callable[[], float] = middle) -> float:
    """Return the delay after a failure, in seconds; there must be no warning."""
    decided = delay(backoff, attempt=attempt, chance=chance)
    assert decided.warning is None
    return decided.wait.total_seconds()


# ------------------------------------------------------------------ the default


def test_default_table() -> None:
    """The default starts at 2 s, doubles, and is a week from the twentieth attempt on."""
    table = [default_delay(attempt, chance=middle).total_seconds() for attempt in range(1, 23)]
    assert table == [2.0**n for n in range(1, 20)] + [604_800.0] * 3


@pytest.mark.parametrize(("chance", "factor"), [(lowest, 0.9), (middle, 1.0), (highest, 1.1)])
def test_default_jitter(chance: Callable[[], float], factor: float) -> None:
    """Jitter changes the default by at most ten percent either way."""
    assert seconds(None, attempt=5, chance=chance) == pytest.approx(32 * factor)


@pytest.mark.parametrize("attempt", [19, 20, 10_000, 10**9])
def test_default_is_capped_after_the_jitter(attempt: int) -> None:
    """No random number makes the default longer than seven days."""
    assert default_delay(attempt, chance=highest) <= WEEK
    assert default_delay(10_000, chance=highest) == WEEK


def test_late_attempts_still_spread() -> None:
    """Jobs that have failed for a long time are not all due at the same moment."""
    assert default_delay(10_000, chance=lowest) == WEEK * 0.9


@pytest.mark.parametrize("attempt", [0, -3])
def test_attempts_below_one_count_as_the_first(attempt: int) -> None:
    """An attempt number below 1 gives the delay of the first attempt."""
    assert default_delay(attempt, chance=middle) == timedelta(seconds=2)


@given(attempt=attempts, chance=chances)
def test_default_bounds(attempt: int, chance: float) -> None:
    """At any attempt the default is within ten percent of its table, and at most a week."""
    center = min(2.0 ** min(attempt, 100), WEEK.total_seconds())
    wait = default_delay(attempt, chance=lambda: chance).total_seconds()
    assert 0.9 * center - 1e-6 <= wait <= min(1.1 * center, WEEK.total_seconds()) + 1e-6


@given(attempt=attempts, more=st.integers(0, 10**6), chance=chances)
def test_default_never_shrinks(attempt: int, more: int, chance: float) -> None:
    """With the same random number a later attempt waits at least as long."""
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
    """Each kind of backoff gives exactly its table; attempts count from 1."""
    assert [seconds(backoff, attempt=attempt) for attempt in (1, 2, 3)] == table


@pytest.mark.parametrize(
    "inner",
    [tenacity.wait_fixed(10), LINEAR, polynomial(), EXPONENTIAL],
    ids=["constant", "linear", "poly", "exp"],
)
@given(attempt=attempts, chance=chances)
def test_every_kind_has_max_min_and_jitter(inner: wait_base, attempt: int, chance: float) -> None:
    """Both kinds of jitter stay within their range, and limits around them hold for any random number."""
    plain = seconds(bounded(inner, max=10**6), attempt=attempt)

    def ask(wait: wait_base) -> float:
        return seconds(wait, attempt=attempt, chance=lambda: chance)

    capped = bounded(inner, max=10**6)
    assert abs(ask(jittered(capped, relative=0.25)) - plain) <= 0.25 * plain + 1e-6
    assert abs(ask(jittered(capped, absolute=timedelta(seconds=3))) - plain) <= 3 + 1e-6
    assert 5 <= ask(bounded(jittered(inner, relative=1), min=5, max=7)) <= 7
    assert ask(jittered(bounded(inner, max=1), absolute=50)) >= 0


def test_jitter_reaches_both_ends() -> None:
    """The lowest and the highest random number give both ends of the range."""
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
def test_random_waits_of_tenacity(backoff: wait_base, attempt: int) -> None:
    """The random waits of tenacity work unchanged, at any attempt."""
    assert 0 <= seconds(backoff, attempt=attempt) <= 60


def test_strategies_see_a_real_call_state() -> None:
    """A wait is called with tenacity's own state: attempt, failed outcome with its error, and the job's record."""
    seen: list[tenacity.RetryCallState] = []

    class Recorder(wait_base):
        def __call__(self, retry_state: tenacity.RetryCallState) -> float:
            seen.append(retry_state)
            return 1

    error = KeyError("x")
    delay(Recorder(), attempt=3, error=error)
    (state,) = seen
    assert isinstance(state, tenacity.RetryCallState)
    assert state.attempt_number == 3
    assert state.outcome is not None
    assert state.outcome.failed
    assert state.outcome.exception() is error
    assert state.args == (record(attempt=3),)
    assert state.seconds_since_start is not None


def test_wait_by_exception() -> None:
    """A wait can use the exception, for example its Retry-After."""
    backoff = tenacity.wait_exception(lambda error: float(str(error)))
    assert delay(backoff, error=ValueError("17")).wait == timedelta(seconds=17)


def test_functions_get_the_record() -> None:
    """A function that is not a tenacity wait is called with the job's record."""
    seen: list[object] = []

    def backoff(job: JobRecord) -> timedelta:
        seen.append(job)
        return timedelta(0)

    assert seconds(backoff, attempt=2) == 0
    assert seen == [record(attempt=2)]


def test_function_of_a_call_state_inside_a_wait() -> None:
    """A function of a call state can be added to a wait, or wrapped."""

    def by_attempt(retry_state: tenacity.RetryCallState) -> float:
        return 2.0 * retry_state.attempt_number

    assert seconds(by_attempt + tenacity.wait_none(), attempt=4) == 8
    assert seconds(bounded(by_attempt, max=5), attempt=4) == 5


# ------------------------------------------------------------------ what a BACKOFF cannot break


def fail(_job: JobRecord) -> timedelta:
    """Raise, as a faulty backoff does."""
    raise RuntimeError("two\nlines")


class Unprintable(Exception):
    """An exception whose ``__str__`` raises."""

    def __str__(self) -> str:
        raise RuntimeError


def fail_unprintably(_job: JobRecord) -> timedelta:
    """Raise an exception that cannot be printed."""
    raise Unprintable


@pytest.mark.parametrize(
    ("backoff", "problem"),
    [
        pytest.param(fail, "raised RuntimeError: two lines", id="raises"),
        pytest.param(fail_unprintably, "Unprintable", id="unprintable"),
        pytest.param(tenacity.wait_fixed(-1), "returned -1", id="negative"),
        pytest.param(tenacity.wait_fixed(math.nan), "returned nan", id="nan"),
        pytest.param(tenacity.wait_fixed(math.inf), "returned inf", id="inf"),
        pytest.param(lambda _: -math.inf, "returned -inf", id="-inf"),
        pytest.param(lambda _: timedelta(seconds=-1), "returned datetime.time", id="negative-timedelta"),
        pytest.param(lambda _: None, "returned None, which is not a duration", id="none"),
        pytest.param(lambda _: "5", "returned '5'", id="text"),
        pytest.param(lambda _: True, "returned True", id="bool"),
        pytest.param(tenacity.wait_exception(lambda _: 1 / 0), "raised ZeroDivisionError", id="wait-raises"),
        pytest.param(lambda: 1, "raised TypeError", id="takes-nothing"),
    ],
)
def test_a_faulty_backoff_gives_the_default_and_a_warning(backoff: Any, problem: str) -> None:
    """A backoff that raises or returns an invalid value neither stops the retry nor makes it immediate."""
    decided = delay(backoff, attempt=3)
    assert decided.wait == timedelta(seconds=8)
    assert decided.warning is not None
    assert decided.warning.startswith("BACKOFF of 'send' ")
    assert problem in decided.warning
    assert decided.warning.endswith("; the default of 8 s is used")


@pytest.mark.parametrize(
    "value",
    [MAX_DELAY + timedelta(microseconds=1), timedelta.max, 10**400, 1e300],
    ids=["us", "max", "int", "float"],
)
def test_a_delay_is_limited_to_ten_years(value: Any) -> None:
    """A delay that does not fit into a date becomes ten years, with a warning."""
    warning = "BACKOFF of 'send' is longer than ten years; ten years are used"
    assert delay(lambda _: value) == Delay(MAX_DELAY, warning)
    assert delay(lambda _: MAX_DELAY) == Delay(MAX_DELAY)


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
    """Waits without a limit give a delay from 0 to ten years at any attempt."""
    assert timedelta(0) <= delay(backoff, attempt=attempt, chance=lambda: chance).wait <= MAX_DELAY


@given(value=st.floats() | st.integers() | st.timedeltas() | st.none() | st.text())
def test_any_returned_value_gives_a_usable_delay(value: Any) -> None:
    """Whatever a backoff returns, the delay can be added to a date; it is that value, or there is a warning."""
    decided = delay(lambda _: value)
    assert timedelta(0) <= decided.wait <= MAX_DELAY
    returned = value if isinstance(value, timedelta) or decided.warning else timedelta(seconds=value)
    assert decided.warning or decided.wait == returned


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
def test_whatever_a_strategy_raises_is_a_warning(kind: type[BaseException]) -> None:
    """It was to be asked about a failure, which is recorded in any case."""

    def stop(_: object) -> Any:
        raise kind("from a strategy")

    assert f"raised {kind.__name__}: from a strategy" in str(delay(stop).warning)
    assert should_retry(stop, attempt=1, error=ValueError()).retry


# ------------------------------------------------------------------ RETRY

OS = tenacity.retry_if_exception_type(OSError)
NOT_KEY = tenacity.retry_if_not_exception_type(KeyError)


@pytest.mark.parametrize(
    ("predicate", "error", "expected"),
    [
        pytest.param(None, ValueError(), True, id="default"),
        pytest.param(None, SystemExit(), True, id="default-exit"),
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
    """Any tenacity predicate decides; without one every failure is retried."""
    decision = should_retry(predicate, attempt=2, error=error)
    assert decision == RetryDecision(expected)
    assert bool(decision) is expected


def test_predicate_sees_the_attempt() -> None:
    """A predicate can depend on the attempt number."""
    assert not should_retry(lambda state: state.attempt_number < 3, attempt=3, error=ValueError())


def test_a_failing_predicate_means_retry() -> None:
    """A predicate that raises costs an attempt and not the job, with a warning."""

    def broken(_: object) -> bool:
        raise LookupError("nobody home")

    decision = should_retry(broken, attempt=1, error=ValueError())
    warning = "RETRY raised LookupError: nobody home; the job is retried"
    assert decision == RetryDecision(retry=True, warning=warning)


# ------------------------------------------------------------------ where a job is defined


class CallableObject:
    """Object that can be called with one argument."""

    def __call__(self, job: object) -> timedelta:
        """Return a second."""
        return timedelta(seconds=1)


async def awaitable(_job: object) -> timedelta:
    """Return a delay, but only when awaited."""
    return timedelta(0)


@pytest.mark.parametrize(
    "value",
    [None, tenacity.wait_fixed(1), polynomial(), lambda job: job, CallableObject(), print],
    ids=lambda value: type(value).__name__,
)
def test_good_backoff(value: Any) -> None:
    """Waits and functions of one argument are accepted unchanged."""
    assert as_backoff(value, owner="Send") is value


@pytest.mark.parametrize(
    "value",
    [None, OS, OS | NOT_KEY, lambda state: True, CallableObject()],
    ids=lambda value: type(value).__name__,
)
def test_good_retry(value: Any) -> None:
    """Predicates and functions of one argument are accepted unchanged."""
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
    """A strategy that could never work is refused where the job is defined, with a remedy."""
    with pytest.raises(InvalidJob, match=r"Send\.BACKOFF is .*: use a tenacity wait such as"):
        as_backoff(value, owner="Send")
    with pytest.raises(InvalidJob, match=r"Send\.RETRY is .*: use a tenacity predicate such as"):
        as_retry(value, owner="Send")


def test_functions_without_a_signature_pass() -> None:
    """A function written in C, whose signature is unknown, is accepted."""
    smallest: Any = min
    assert as_backoff(smallest, owner="Send") is smallest


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: polynomial(-1), "factor is -1"),
        (lambda: polynomial(1, math.inf), "power is inf"),
        (lambda: jittered(LINEAR), "either relative= or absolute="),
        (lambda: jittered(LINEAR, relative=0.1, absolute=1), "not both"),
        (lambda: jittered(LINEAR, relative=1.1), "use a fraction of the wait, from 0 to 1"),
        (lambda: jittered(LINEAR, relative=-0.1), r"relative is -0\.1"),
        (lambda: jittered(LINEAR, absolute=timedelta(-1)), "absolute is datetime"),
        (lambda: bounded(LINEAR, min=math.nan), "min is nan"),
        (lambda: bounded(LINEAR, max=-1), "max is -1"),
        (lambda: bounded(LINEAR, min=5, max=4), "min=5 is greater than max=4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_waits_are_refused(make: Callable[[], object], message: str) -> None:
    """A wait with invalid arguments is refused when it is created."""
    with pytest.raises(InvalidJob, match=message):
        make()


# ------------------------------------------------------------------ outside jobrt


def test_waits_work_in_plain_tenacity() -> None:
    """The waits work in a plain tenacity loop, with tenacity's random numbers."""
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
    """Without `chance` the jitter uses tenacity's random numbers."""
    state = CallState(attempt=2, error=ValueError())
    assert 2 <= jittered(polynomial(), relative=0.5)(state) <= 6
