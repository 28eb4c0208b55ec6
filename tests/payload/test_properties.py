# ruff: noqa: PYI061 - each way to write an annotation is tested
"""Payloads of any type: what is stored comes back, and all errors are jobrt's own."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Hashable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import attrs
from hypothesis import given
from hypothesis import strategies as st

from jobrt._registry import definition_of, encode_result
from jobrt.errors import InvalidJob, InvalidResult, UndecodablePayload
from tests.payload.test_payload import Color, Level, Movie, Node, Pair, Point, Row, same
from tests.registry.making import make_job, make_value


@attrs.frozen
class Kind:
    """An annotation, and a strategy for its values."""

    annotation: Any
    values: st.SearchStrategy[Any]
    hashable: bool = True


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
ZONES = st.none() | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
POINTS = st.builds(Point, st.integers(), st.integers())
NODES = st.recursive(
    st.builds(Node, st.integers()),
    lambda nodes: st.builds(Node, st.integers(), st.none() | nodes, st.lists(nodes, max_size=2).map(tuple)),
    max_leaves=5,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(TEXT, parts, max_size=3),
    max_leaves=10,
)
LEAVES = [
    Kind(str, TEXT),
    Kind(int, st.integers()),
    Kind(bool, st.booleans()),
    Kind(float, st.floats(allow_nan=False, allow_infinity=False)),
    Kind(UUID, st.uuids()),
    Kind(Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    Kind(datetime, st.datetimes(timezones=ZONES)),
    Kind(date, st.dates()),
    Kind(time, st.times(timezones=ZONES)),
    Kind(timedelta, st.timedeltas(timedelta(days=-99_000), timedelta(days=99_000))),
    Kind(bytes, st.binary()),
    Kind(Path, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).map(Path)),
    Kind(
        Path,
        st.binary()
        .filter(lambda name: 0 not in name)
        .map(lambda name: Path(name.decode(errors="surrogateescape"))),
    ),
    Kind(Color, st.sampled_from(Color)),
    Kind(Level, st.sampled_from(Level)),
    Kind(Literal["a", 1, True, None], st.sampled_from(["a", 1, True, None])),
    Kind(Point, POINTS),
    Kind(Node, NODES),
    Kind(Pair, st.builds(Pair, st.integers(), TEXT)),
    Kind(Row, st.builds(Row, st.datetimes(), st.lists(POINTS, max_size=2), TEXT), hashable=False),
    Kind(Movie, st.fixed_dictionaries({"name": TEXT}, optional={"year": st.integers()}), hashable=False),
    Kind(Any, JSON, hashable=False),
]


def _composed(kinds: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    """Give kinds of containers, made of other kinds."""
    hashable = kinds.filter(lambda kind: kind.hashable)
    return st.one_of(
        kinds.map(
            lambda kind: Kind(list[kind.annotation], st.lists(kind.values, max_size=3), hashable=False)
        ),
        kinds.map(
            lambda kind: Kind(
                tuple[kind.annotation, ...], st.lists(kind.values, max_size=3).map(tuple), kind.hashable
            )
        ),
        kinds.map(lambda kind: Kind(kind.annotation | None, st.none() | kind.values, kind.hashable)),
        st.lists(kinds, max_size=3).map(
            lambda members: Kind(
                tuple[*(kind.annotation for kind in members)],
                st.tuples(*(kind.values for kind in members)),
                all(kind.hashable for kind in members),
            )
        ),
        hashable.map(
            lambda kind: Kind(set[kind.annotation], st.sets(kind.values, max_size=3), hashable=False)
        ),
        hashable.map(lambda kind: Kind(frozenset[kind.annotation], st.frozensets(kind.values, max_size=3))),
        st.tuples(hashable, kinds).map(
            lambda pair: Kind(
                dict[pair[0].annotation, pair[1].annotation],
                st.dictionaries(pair[0].values, pair[1].values, max_size=3),
                hashable=False,
            )
        ),
    )


KINDS = st.recursive(st.sampled_from(LEAVES), _composed, max_leaves=4)
UNIONS = st.lists(
    st.sampled_from(LEAVES[:-1]), min_size=2, max_size=4, unique_by=lambda kind: str(kind.annotation)
).map(
    lambda members: Kind(
        _union([kind.annotation for kind in members]), st.one_of([kind.values for kind in members])
    )
)


def _union(annotations: list[Any]) -> Any:
    union = annotations[0]
    for annotation in annotations[1:]:
        union = union | annotation
    return union


@given(st.data())
def test_what_is_stored_comes_back(data: st.DataObject) -> None:
    """A value of any supported type, nested in any way, comes back equal and of the same types."""
    kind = data.draw(KINDS | UNIONS)
    value = data.draw(kind.values)
    job = make_value(make_job({"it": kind.annotation}), it=value)
    definition = definition_of(job)
    text = definition.encode(job)
    back = definition.decode(text)
    assert same(back.it, value)
    assert definition.encode(back) == text


@given(st.data())
def test_equal_values_have_equal_text(data: st.DataObject) -> None:
    """The text does not depend on the order in which sets and dicts were filled."""
    kind = data.draw(st.sampled_from([kind for kind in LEAVES if kind.hashable]))
    items = data.draw(st.lists(kind.values, max_size=8, unique=True))
    shuffled = data.draw(st.permutations(items))
    job_class = make_job({"a": set[kind.annotation], "b": dict[kind.annotation, int]})  # type: ignore[name-defined]
    first, second = (
        make_value(job_class, a=set(filled), b=dict.fromkeys(filled, 1)) for filled in (items, shuffled)
    )
    assert definition_of(job_class).encode(first) == definition_of(job_class).encode(second)


ANYTHING = (
    JSON
    | st.sampled_from([kind.values for kind in LEAVES]).flatmap(lambda values: values)
    | st.floats()
    | st.text()
    | st.builds(lambda: 10**5000)
    | st.sampled_from([object(), 1j, int, Ellipsis, b"", bytearray(), range(3), enum.Enum, lambda: None])
)
NESTED = st.recursive(
    ANYTHING,
    lambda parts: st.one_of(
        st.lists(parts, max_size=3),
        st.lists(parts, max_size=3).map(tuple),
        st.dictionaries(TEXT | st.integers(), parts, max_size=3),
    ),
    max_leaves=5,
)


@given(KINDS | UNIONS, NESTED)
def test_any_value_is_stored_or_refused_with_its_path(kind: Kind, value: Any) -> None:
    """Whatever somebody puts into a field, it is refused with the field's path, or comes back equal."""
    job = make_value(make_job({"it": kind.annotation}), it=value)
    definition = definition_of(job)
    try:
        text = definition.encode(job)
    except InvalidJob as error:
        assert str(error).startswith("X.it")  # noqa: PT017 - either is right
    else:
        assert definition.decode(text) == job


@given(KINDS | UNIONS, JSON)
def test_any_stored_payload_is_decoded_or_refused_with_its_path(kind: Kind, stored: Any) -> None:
    """Whatever a database holds, it makes a job that can be stored, or an error with the field's path."""
    definition = definition_of(make_job({"it": kind.annotation}))
    _decode_or_refuse(definition.decode, {"it": stored}, "X.it")


@given(st.data())
def test_a_damaged_payload_is_decoded_or_refused_with_its_path(data: st.DataObject) -> None:
    """A payload of which any part was replaced makes a job, or an error with a path."""
    kind = data.draw(KINDS | UNIONS)
    job = make_value(make_job({"it": kind.annotation}), it=data.draw(kind.values))
    definition = definition_of(job)
    stored = json.loads(definition.encode(job))
    _decode_or_refuse(definition.decode, _damage(stored, data), "X")


def _damage(stored: Any, data: st.DataObject) -> Any:
    """Replace some part of a JSON value."""
    if isinstance(stored, dict) and stored and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(stored)))
        return {**stored, data.draw(st.sampled_from([key, "other"])): _damage(stored[key], data)}
    if isinstance(stored, list) and stored and data.draw(st.booleans()):
        index = data.draw(st.integers(0, len(stored) - 1))
        return [*stored[:index], _damage(stored[index], data), *stored[index + 1 :]]
    return data.draw(JSON)


def _decode_or_refuse(decode: Callable[[Any], Any], stored: Any, path: str) -> None:
    try:
        job = decode(json.dumps(stored))
    except UndecodablePayload as error:
        assert str(error).startswith(path)  # noqa: PT017 - either is right
    else:
        definition = definition_of(job)
        assert definition.decode(definition.encode(job)) == job


@given(st.text())
def test_any_text_is_decoded_or_refused(text: str) -> None:
    """Text that is not a payload is refused with jobrt's own error."""
    _decode_text(text)


def _decode_text(text: str) -> None:
    try:
        definition_of(make_job({"it": int})).decode(text)
    except UndecodablePayload as error:
        assert str(error).startswith("X")  # noqa: PT017 - either is right


@given(NESTED)
def test_any_result_is_kept_or_refused(value: Any) -> None:
    """Whatever a job returns, it is kept as JSON or refused with the path of what is not."""
    try:
        text = encode_result(value)
    except InvalidResult as error:
        assert str(error).startswith("result")  # noqa: PT017 - either is right
    else:
        assert isinstance(value, Hashable | list | dict)
        json.loads(text)
