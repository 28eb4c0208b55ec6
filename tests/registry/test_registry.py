"""The table from names to definitions, and what can be enqueued."""

from __future__ import annotations

from typing import Any

import pytest

from jobrt._registry import JobWithOptions, Registry, definition_of, make_function_job, take_apart
from jobrt._registry.options import EnqueueOptions
from jobrt.errors import DuplicateJobName, InvalidJob, UnknownJob
from tests.registry.making import make_job, make_value


async def _resize(ctx: object, path: str) -> None: ...


resize = make_function_job(_resize, name="resize")


def test_jobs_are_found_by_name() -> None:
    """Job classes and job functions are found under the name that is stored with their jobs."""
    registry, mail = Registry(), make_job(NAME="mail")
    assert registry.add(mail) is definition_of(mail)
    registry.add(resize)
    assert registry.get("mail").job_class is mail
    assert registry.get("resize").job_class is resize.job_class
    assert registry.names == ("mail", "resize")
    assert [one.name for one in registry] == ["mail", "resize"]
    assert ("mail" in registry, "post" in registry, len(registry)) == (True, False, 2)


def test_adding_twice_changes_nothing() -> None:
    """The same class under the same name is no duplicate."""
    registry, mail = Registry(), make_job()
    assert registry.add(mail) is registry.add(mail)
    assert len(registry) == 1


def test_two_jobs_of_one_name_are_refused() -> None:
    """A second class with a name that is taken is refused, and both are named."""
    registry = Registry()
    first = registry.add(make_job(NAME="resize", __qualname__="First"))
    with pytest.raises(DuplicateJobName) as caught:
        registry.add(resize)
    assert str(caught.value) == (
        "two jobs have the name 'resize': tests.registry.making.First and tests.registry.test_registry._resize; "
        "use another NAME for one of them"
    )
    assert registry.get("resize") is first


def test_unknown_names_come_with_a_hint() -> None:
    """A name that nobody has is refused with what comes close, or with what there is."""
    registry = Registry()
    with pytest.raises(UnknownJob, match=r"there is no job 'x'; the jobs are: none"):
        registry.get("x")
    registry.add(make_job(NAME="send_email"))
    registry.add(make_job(NAME="resize"))
    with pytest.raises(UnknownJob, match=r"there is no job 'send_mail'; did you mean 'send_email'\?"):
        registry.get("send_mail")
    with pytest.raises(UnknownJob, match=r"there is no job 'zzz'; the jobs are: resize, send_email"):
        registry.get("zzz")


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (3, "3 cannot be registered: use a jobrt.Job class or an @app.job function"),
        (make_value(make_job()), "X() cannot be registered: use the class X"),
        (resize.new("x"), "cannot be registered"),
        (int, "<class 'int'> cannot be registered"),
        (make_job(run=None), "X is abstract"),
        (make_job({"x": "Nowhere"}), "X.x: the annotation 'Nowhere' cannot be resolved"),
    ],
)
def test_what_is_no_job_class_is_refused(job: Any, message: str) -> None:
    """Only classes and functions are registered, and only those that can run."""
    registry = Registry()
    with pytest.raises(InvalidJob) as caught:
        registry.add(job)
    assert message in str(caught.value)
    assert len(registry) == 0


def test_what_is_enqueued_is_taken_apart() -> None:
    """A job value has no options of its own; one with options has those."""
    value = resize.new("x")
    definition = definition_of(resize.job_class)
    assert take_apart(value) == (definition, value, EnqueueOptions())
    with_options = value.with_options(priority=3)
    assert isinstance(with_options, JobWithOptions)
    assert take_apart(with_options) == (definition, value, EnqueueOptions(priority=3))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (resize, "<job function _resize> is not a job value: write _resize.new(…)"),
        (make_job(), "X is a class, not a job value: write X(…)"),
        (
            "resize",
            "'resize' is not a job value: create one with a jobrt.Job class, or with .new(…) of an @app.job function",
        ),
    ],
)
def test_what_is_no_job_value_is_refused(value: Any, message: str) -> None:
    """The mistakes that suggest themselves are answered with what to write instead."""
    with pytest.raises(InvalidJob) as caught:
        take_apart(value)
    assert str(caught.value) == message
