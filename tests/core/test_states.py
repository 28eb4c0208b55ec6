"""`jobrt._core.states`: the one table of what may follow what."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrt._core.states import (
    ALL,
    FINAL,
    HELD,
    INCOMPLETE,
    TRANSITIONS,
    UNSTARTED,
    State,
    Transition,
    mermaid,
    transition,
)
from jobrt.errors import InternalError

DIAGRAM = Path(__file__).parents[2] / "design" / "state-machine.md"

events = st.sampled_from(Transition)


def test_the_table_says_all() -> None:
    """A pair in the table leads where it says; any other is a bug, and the error names both halves."""
    for state, event in product(ALL, Transition):
        if (state, event) in TRANSITIONS:
            assert transition(state, event) is TRANSITIONS[state, event]
        else:
            with pytest.raises(InternalError, match=f"{state.value} cannot {event.value}"):
                transition(state, event)


@given(st.sampled_from(sorted(UNSTARTED)), st.lists(events, max_size=30))
def test_any_history_is_sound(state: State, history: list[Transition]) -> None:
    """Whatever happens to a job: it runs only by a claim and a start, and what is final stays so until a rerun."""
    for event in history:
        if (state, event) not in TRANSITIONS:
            continue
        after = transition(state, event)
        assert (after is State.CLAIMED) == (event is Transition.CLAIM)
        assert (
            (after is State.EXECUTING)
            == (event is Transition.START)
            == (state is State.CLAIMED and after in HELD)
        )
        assert (state in FINAL) == (event is Transition.RERUN)
        assert after in FINAL or after in INCOMPLETE
        state = after


@pytest.mark.parametrize("event", [Transition.SNOOZE, Transition.SUSPEND])
def test_only_a_running_attempt_can_go_on_later(event: Transition) -> None:
    """It is executing."""
    assert [state for state, one in TRANSITIONS if one is event] == [State.EXECUTING]


@pytest.mark.parametrize("event", [Transition.COMPLETE, Transition.RETRY])
def test_only_a_running_attempt_can_end(event: Transition) -> None:
    """At once, or when its children are over."""
    assert [state for state, one in TRANSITIONS if one is event] == [State.EXECUTING, State.CLOSING]


def test_every_job_can_miss_its_deadline() -> None:
    """One that is claimed starts first, and is told."""
    discarded = {state for state, event in TRANSITIONS if event is Transition.DISCARD}
    assert discarded == INCOMPLETE - {State.CLAIMED}


def test_what_has_not_started_can_only_start_or_go_back() -> None:
    """A claimed job is given back, or cancelled; nothing else can be said of it."""
    events = {event for state, event in TRANSITIONS if state is State.CLAIMED}
    assert events == {Transition.START, Transition.GIVE_BACK, Transition.CANCEL}


def test_every_live_job_can_be_cancelled() -> None:
    """Waiting or running; final ones are left alone."""
    assert {state for state, event in TRANSITIONS if event is Transition.CANCEL} == INCOMPLETE


def test_every_waiting_job_can_be_claimed() -> None:
    """Also one that is still stored as scheduled: due is a matter of the clock, not of a write."""
    assert {state for state, event in TRANSITIONS if event is Transition.CLAIM} == UNSTARTED


def test_every_state_can_be_reached_and_left() -> None:
    """No state is a trap, and none is unreachable."""
    reached = set(TRANSITIONS.values())
    assert reached == ALL
    assert {state for state, _ in TRANSITIONS} == ALL


def test_the_groups_are_all_there_is() -> None:
    """Waiting, held, between attempts, final: each state in one of them."""
    assert UNSTARTED | HELD | {State.SUSPENDED, State.CLOSING} == INCOMPLETE
    assert not UNSTARTED & HELD
    assert INCOMPLETE | FINAL == ALL == set(State) - {State.UNKNOWN}
    assert not INCOMPLETE & FINAL


def test_the_diagram_has_every_transition() -> None:
    """One line each, and the two ways in."""
    lines = mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert len(lines) == 3 + len(TRANSITIONS)
    assert "    executing --> retryable: retry" in lines


def test_the_page_is_not_stale() -> None:
    """``design/state-machine.md`` shows the table as it is; the page says how to draw it anew."""
    assert f"```mermaid\n{mermaid()}```\n" in DIAGRAM.read_text(encoding="utf-8")
