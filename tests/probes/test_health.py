"""Tests of who is dead, and who does not work now."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import jobrt
from jobrt.probes.health import Health, health_of, walk
from tests.support.worker_info import worker_info

DOWN = {"children": [{"name": "queues", "nested": {"children": [{"name": "mail", "state": "waiting"}]}}]}


def test_a_process_without_a_worker_lives() -> None:
    """It may be starting, and wait for its database."""
    assert health_of([]) == Health(unready=("no worker runs in this process",))


def test_a_worker_that_works_has_no_problems() -> None:
    """A process lives and is ready if all of its workers are."""
    assert health_of([(True, worker_info(tree={})), (True, worker_info())]) == Health()


@pytest.mark.parametrize("registered", [True, False])
def test_an_outage_makes_a_worker_unready_and_never_dead(registered: bool) -> None:
    """A restart would not bring the database back."""
    health = health_of([(registered, worker_info(outage="connection refused"))])
    assert health == Health(unready=("the database is unavailable: connection refused",))


def test_a_worker_that_lost_its_registration_is_not_ready() -> None:
    """Until it is registered again it claims nothing."""
    health = health_of([(False, worker_info())])
    assert (health.dead, health.unready) == ((), ("the worker is not registered in the database",))


@pytest.mark.parametrize(
    ("child", "line"),
    [
        ({"state": "waiting", "last_error": "OSError: no"}, "fetcher is down: OSError: no"),
        ({"state": "failed"}, "fetcher is down: it ended"),
    ],
)
def test_an_actor_that_is_down_makes_a_worker_dead(child: dict[str, str], line: str) -> None:
    """Its line names the actor and its last error. A dead worker is not ready either."""
    health = health_of([(True, worker_info(tree={"children": [{"name": "fetcher", **child}]}))])
    assert health.dead == health.problems == (line,)


def test_an_actor_is_named_with_its_supervisors() -> None:
    """The path leads from the top of the tree to the actor."""
    assert health_of([(True, worker_info(tree=DOWN))]).dead == ("queues/mail is down: it ended",)
    assert [path for path, _ in walk(worker_info(tree=DOWN).tree)] == ["queues", "queues/mail"]


def test_a_worker_that_stops_is_unready_and_alive() -> None:
    """Its actors end one after the other, and it must not be killed in its grace."""
    health = health_of([(False, worker_info(stopping=True, tree=DOWN))])
    assert health == Health(unready=("the worker is stopping",))


async def test_an_actor_that_crashes_again_and_again_is_down_between_two_tries() -> None:
    """The tree of a real supervisor tells it, with the error."""

    async def crash() -> None:
        raise LookupError("no such table")

    supervisor = jobrt.Supervisor("worker", escalation="retry", intensity=1)
    supervisor.add(crash, name="fetcher")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await trio.testing.wait_all_tasks_blocked()
        info = worker_info(tree=supervisor.statistics().to_dict())
        nursery.cancel_scope.cancel()
    assert health_of([(True, info)]).dead == ("fetcher is down: LookupError: no such table",)
