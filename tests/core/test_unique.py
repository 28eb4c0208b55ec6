"""`jobrt._core.unique`: when two jobs count as the same one."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jobrt._core.states import ALL, INCOMPLETE, UNSTARTED, State
from jobrt._core.unique import Replace, Unique, UniqueKey, unique_key
from jobrt.errors import InvalidJob

JOB: dict[str, Any] = {
    "name": "send",
    "queue": "mail",
    "args": {"to": "a", "n": 1},
    "metadata": {"tenant": "t"},
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def digest(unique: Unique | None = None, **changes: Any) -> str:
    """Return the digest that a uniqueness gives to a job."""
    return key_of(unique or Unique(), **changes).digest


def key_of(unique: Unique, **changes: Any) -> UniqueKey:
    """Return a uniqueness applied to a job, whose args are JSON text as in the database."""
    values = {**JOB, **changes}
    args = json.dumps(values["args"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return unique_key(unique, **{**values, "args": args})


def test_the_defaults() -> None:
    """Name and args, while the job is not final, for ever, changing nothing."""
    key = key_of(Unique())
    assert key == UniqueKey(key.digest, None, INCOMPLETE, None)
    assert len(bytes.fromhex(key.digest)) == 16


@pytest.mark.parametrize(
    ("by", "change", "same"),
    [
        ("name", {"args": {"to": "b"}}, True),
        ("name", {"name": "other"}, False),
        ("queue", {"queue": "other"}, False),
        ("queue", {"name": "other", "args": {}}, True),
        ("args", {"args": {"n": 1, "to": "a"}}, True),
        ("args", {"args": {"n": 2, "to": "a"}}, False),
        ("args.to", {"args": {"n": 2, "to": "a"}}, True),
        ("args.to", {"args": {"n": 1, "to": "b"}}, False),
        ("metadata.tenant", {"metadata": {"tenant": "t", "x": 1}}, True),
        ("metadata.tenant", {"metadata": {"tenant": "u"}}, False),
        ("metadata.tenant", {"metadata": {}}, False),
        (("name", "args"), {"queue": "other"}, True),
        (["name", "queue"], {"queue": "other"}, False),
    ],
)
def test_what_is_compared(by: Any, change: dict[str, Any], same: bool) -> None:
    """What ``by`` names, and nothing else."""
    assert (digest(Unique(by)) == digest(Unique(by), **change)) == same


def test_metadata_that_is_not_there_compares_as_none() -> None:
    """Metadata are free, so a missing field is allowed and all jobs without it are alike."""
    unique = Unique("metadata.x")
    assert (
        digest(unique, metadata={})
        == digest(unique, metadata={"x": None})
        == digest(unique, metadata={"y": 1})
    )


def test_args_that_are_not_there_are_a_mistake() -> None:
    """The payload's fields are known, so a missing one is a slip; the error names it."""
    with pytest.raises(InvalidJob, match=r"'args\.nope'.*send has no field 'nope'"):
        digest(Unique("args.nope"))


@given(json_values, json_values)
def test_keys_are_equal_when_their_values_are(a: Any, b: Any) -> None:
    """A key of one's own is compared as JSON, with the job's name and instead of ``by``."""
    assume(a is not None and b is not None)
    one, other = digest(Unique(key=a)), digest(Unique("queue", key=a), queue="x", args={})
    assert one == other
    assert (one == digest(Unique(key=b))) == (repr(a) == repr(b) or _same(a, b))


def _same(a: Any, b: Any) -> bool:
    """Compare as JSON: True is not 1, and the order of keys does not matter."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize(
    ("unique", "args", "metadata", "expected"),
    [
        (Unique(), {"to": "a", "n": 1}, {}, "5e7ef63360a19aec82a87b14bd33682a"),
        (Unique(), {"to": '\x7fö\u2028"\\'}, {}, "442db6123b514594ba963edb4abf6658"),
        (Unique("args"), {"a": {"z": 1e22, "b": []}}, {}, "b6dd4bda5a6e01ec8fb5e37a5d50ebdc"),
        (Unique("args.to"), {"to": "ü"}, {}, "3701011fb10858573eb245a1f9abae9e"),
        (
            Unique(("queue", "metadata.t")),
            {"to": 1},
            {"t": [1, None, {"b": 1.5, "a": "é"}]},
            "5576b4efb82fa59c747f4f1f53ac46f8",
        ),
        (Unique(key={"b": "é", "a": [None]}), {}, {}, "5138074eba7500b57d96109583830244"),
    ],
)
def test_digests_never_change(unique: Unique, args: Any, metadata: Any, expected: str) -> None:
    """Stored jobs have them, and so have programs of another version that run at the same time."""
    assert digest(unique, name="sénd", args=args, metadata=metadata) == expected


@given(json_values)
def test_args_are_compared_as_json(value: Any) -> None:
    """However their text is written: the digest is that of the value, as ASCII."""
    text = json.dumps([["args", {"x": value}]], sort_keys=True, separators=(",", ":"))
    assert digest(Unique("args"), args={"x": value}) == hashlib.sha256(text.encode()).hexdigest()[:32]


def test_keys_are_per_name() -> None:
    """Two jobs with one key are different jobs."""
    assert digest(Unique(key=1)) != digest(Unique(key=1), name="other")


@pytest.mark.parametrize("key", [object(), {1, 2}, float("nan"), b"x", {"a": object()}])
def test_a_key_must_be_json(key: Any) -> None:
    """The error says what to use."""
    with pytest.raises(InvalidJob, match="strings, numbers, booleans, lists and dicts"):
        digest(Unique(key=key))


@pytest.mark.parametrize(
    ("value", "states"),
    [
        ("unstarted", UNSTARTED),
        ("incomplete", INCOMPLETE),
        ("all", ALL),
        (("completed", State.EXECUTING), {State.COMPLETED, State.CLAIMED, State.EXECUTING}),
        (("claimed",), {State.CLAIMED}),
        (["available"], {State.AVAILABLE}),
    ],
)
def test_states_are_words_or_states(value: Any, states: Any) -> None:
    """Three words, or any states by name."""
    assert Unique(states=value).states == states


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"states": "running"}, "'unstarted', 'incomplete', 'all'"),
        ({"states": ("running",)}, "use states: available, cancelled"),
        ({"states": ()}, "name at least one state"),
        ({"by": ()}, "by is empty"),
        ({"by": "size"}, "'size'"),
        ({"by": "args."}, "'args.'"),
        ({"by": "metadata"}, "'metadata'"),
        ({"by": ("name", "queue.x")}, "'queue.x'"),
        ({"by": ".x"}, "'.x'"),
        ({"within": 0}, "above zero"),
        ({"within": timedelta(seconds=-1)}, "above zero"),
    ],
)
def test_bad_uniqueness_is_refused(arguments: dict[str, Any], message: str) -> None:
    """When it is written, not when it is used; the message says what is possible."""
    with pytest.raises(InvalidJob, match=message):
        Unique(**arguments)


@pytest.mark.parametrize(
    ("within", "window"),
    [(None, None), (90, timedelta(seconds=90)), (0.5, timedelta(seconds=0.5)), (timedelta(1), timedelta(1))],
)
def test_windows_are_seconds_or_timedeltas(within: Any, window: Any) -> None:
    """Either, or none."""
    assert Unique(within=within).within == window
    assert key_of(Unique(within=within)).within == window


def test_replace_names_fields_and_states() -> None:
    """By default in every state in which a job can be changed."""
    rule = Replace("priority", "args")
    assert (rule.fields, rule.when) == (("priority", "args"), UNSTARTED)
    assert Replace("args", when=("scheduled",)).when == {State.SCHEDULED}
    assert key_of(Unique(on_conflict=rule)).replace == rule


@pytest.mark.parametrize(
    ("fields", "when", "message"),
    [
        ((), "unstarted", r"Replace\.fields is empty: use priority, args"),
        (("queue",), "unstarted", r"Replace\.fields is 'queue': use priority"),
        (("priority", "state"), "unstarted", "fields is 'state'"),
        (("priority",), "incomplete", "only waiting jobs"),
        (("priority",), ("completed",), "only waiting jobs"),
        (("priority",), "never", "'unstarted'"),
        (("priority",), (), "at least one state"),
    ],
)
def test_bad_replacements_are_refused(fields: tuple[str, ...], when: Any, message: str) -> None:
    """Running and final jobs are never changed, and only some fields can be."""
    with pytest.raises(InvalidJob, match=message):
        Replace(*fields, when=when)


@pytest.mark.parametrize(
    ("within", "age", "same"),
    [(None, 1e9, True), (timedelta(seconds=5), 4.999999, True), (timedelta(seconds=5), 5.0, False)],
)
def test_a_job_found_is_the_same_within_the_window(within: timedelta | None, age: float, same: bool) -> None:
    """In one of the states that count, and younger than the window is wide."""
    key = UniqueKey("", within, INCOMPLETE, None)
    assert key.matches(State.EXECUTING, age) is same
    assert not key.matches(State.COMPLETED, age)


def test_what_is_replaced_depends_on_the_state_of_the_job_found() -> None:
    """Nothing without a rule, and nothing in other states."""
    key = UniqueKey("", None, INCOMPLETE, Replace("args", "priority", when=("scheduled",)))
    assert key.replaced(State.SCHEDULED) == ("args", "priority")
    assert key.replaced(State.AVAILABLE) == ()
    assert UniqueKey("", None, INCOMPLETE, None).replaced(State.SCHEDULED) == ()
