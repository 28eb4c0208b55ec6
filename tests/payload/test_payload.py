# ruff: noqa: D101, DTZ001, PYI024, PYI030, PYI051, PYI061, UP007, UP045 - the classes of the tests need no words; naive times and
# each way to write an annotation are what is tested
"""Payloads: what is stored for which annotation, what is refused both ways, and with which message."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import socket
import types
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest
import typing_extensions

from jobrt._payload.payload import Payload
from jobrt._registry import definition_of, make_function_job
from jobrt.errors import InvalidJob, UndecodablePayload
from tests.registry.making import make_job, make_value, payload_of


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = enum.auto()


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Shape(enum.Enum):
    POINT = (0, 0)
    TRUE = True


class Renamed(enum.Enum):
    NEW = "new"

    @classmethod
    def _missing_(cls, value: object) -> Renamed | None:
        return cls.NEW if value == "old" else None


@attrs.frozen
class Point:
    x: int
    y: int = 0


@attrs.frozen
class Point3(Point):
    z: int = 0


@dataclasses.dataclass
class Row:
    when: datetime
    points: list[Point] = dataclasses.field(default_factory=list)
    note: str = "none"
    length: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass(frozen=True)
class Node:
    value: int
    left: Node | None = None
    others: tuple[Node, ...] = ()


class Pair(NamedTuple):
    first: int
    second: str = "x"


class Movie(TypedDict):
    name: str
    year: NotRequired[int]


class Partial(TypedDict, total=False):
    name: Required[str]
    year: int


class Extended(typing_extensions.TypedDict):
    name: str


T = TypeVar("T")


@attrs.frozen
class Box(Generic[T]):
    value: T
    more: list[T] = attrs.field(factory=list)


@attrs.frozen
class IntBox(Box[int]):
    pass


@attrs.frozen
class Keywords:
    converter: int
    cl: int
    attrs: int


Cents = NewType("Cents", int)
S = TypeVar("S")
Numbers = typing_extensions.TypeAliasType("Numbers", list[Cents])
Pairs = typing_extensions.TypeAliasType("Pairs", list[tuple[T, S, T]], type_params=(S, T))


def lazy_alias(name: str, value: Callable[[Any], Any]) -> Any:
    """Return what `type name = value` makes, whose value is evaluated when it is needed."""
    body = {"__value__": property(value), "__type_params__": (), "__repr__": lambda _: name}
    return type("TypeAliasType", (), body)()


Nowhere = lazy_alias("Nowhere", lambda _: nowhere)  # type: ignore[name-defined]  # noqa: F821
Endless = lazy_alias("Endless", lambda self: list[self])
Spaced = dataclasses.make_dataclass("a b", [("x", int)])
Untyped = namedtuple("Untyped", "a b")
Odd = TypedDict("Odd", {"in": int, "x-y": NotRequired[str]})
UUID_TEXT = "12345678-1234-5678-1234-567812345678"
BERLIN = datetime(2026, 7, 1, 12, 30, 0, 5, tzinfo=ZoneInfo("Europe/Berlin"))


STORED: list[tuple[Any, Any, str]] = [
    (str, "ä\n\u2028", '"ä\\n\u2028"'),
    (str, "\\u0000", '"\\\\u0000"'),
    (int, -3, "-3"),
    (int, 10**30, "1" + 30 * "0"),
    (bool, True, "true"),
    (None, None, "null"),
    (float, 1.5, "1.5"),
    (float, 1e300, "1e+300"),
    (Any, {"a": [1, 2.5, None, True, "x"]}, '{"a":[1,2.5,null,true,"x"]}'),
    (UUID, UUID(UUID_TEXT), f'"{UUID_TEXT}"'),
    (Decimal, Decimal("1.50"), '"1.50"'),
    (Decimal, Decimal("1E+5"), '"1E+5"'),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 6), '"2026-01-02T03:04:05.000006"'),
    (datetime, datetime(2026, 1, 2, tzinfo=UTC), '"2026-01-02T00:00:00+00:00"'),
    (datetime, BERLIN, '"2026-07-01T12:30:00.000005+02:00"'),
    (date, date(2026, 1, 2), '"2026-01-02"'),
    (time, time(3, 4, 5), '"03:04:05"'),
    (time, time(3, 4, tzinfo=timezone(timedelta(hours=-2))), '"03:04:00-02:00"'),
    (timedelta, timedelta(days=1, seconds=2), "86402"),
    (timedelta, timedelta(milliseconds=-500), "-0.5"),
    (timedelta, timedelta.max - timedelta(microseconds=999999), "86399999999999"),
    (bytes, b"\x00\xff", '"AP8="'),
    (Path, Path("/tmp/ä"), '"/tmp/ä"'),
    (Path, Path("/\udcff"), '{"base64":"L/8="}'),
    (PurePosixPath, PurePosixPath("a/b"), '"a/b"'),
    (Color, Color.RED, '"red"'),
    (Level, Level.HIGH, "2"),
    (Word, Word.YES, '"yes"'),
    (Access, Access.READ | Access.WRITE, "3"),
    (Shape, Shape.POINT, '"POINT"'),
    (Shape, Shape.TRUE, '"TRUE"'),
    (list, [1, {"a": []}], '[1,{"a":[]}]'),
    (list[int], [3, 1], "[3,1]"),
    (list[list[str]], [["b"], []], '[["b"],[]]'),
    (tuple, (1, "x"), '[1,"x"]'),
    (tuple[int, ...], (3, 1), "[3,1]"),
    (tuple[int, str], (3, "x"), '[3,"x"]'),
    (tuple[()], (), "[]"),
    (set, {3}, "[3]"),
    (set[str], {"b", "a", "c"}, '["a","b","c"]'),
    (set[int], {10, 9}, "[9,10]"),
    (set[int | str | None], {1, "1", None}, '["1",1,null]'),
    (frozenset[date], frozenset({date(2026, 2, 1), date(2026, 1, 1)}), '["2026-01-01","2026-02-01"]'),
    (frozenset[Point], frozenset({Point(2), Point(1, 5)}), '[{"x":1,"y":5},{"x":2,"y":0}]'),
    (frozenset[tuple[int, ...]], frozenset({(2,), (1, 2)}), "[[1,2],[2]]"),
    (dict, {"b": 1, "a": [2]}, '{"a":[2],"b":1}'),
    (dict[str, int], {"b": 1, "a": 2}, '{"a":2,"b":1}'),
    (dict[int, str], {10: "x", -9: "y"}, '{"-9":"y","10":"x"}'),
    (dict[Level, int], {Level.HIGH: 1}, '{"2":1}'),
    (dict[Color, date], {Color.RED: date(2026, 1, 1)}, '{"red":"2026-01-01"}'),
    (dict[UUID, int], {UUID(UUID_TEXT): 1}, f'{{"{UUID_TEXT}":1}}'),
    (dict[tuple[int, int], str], {(2, 1): "b", (1, 2): "a"}, '[[[1,2],"a"],[[2,1],"b"]]'),
    (dict[bool, int], {True: 1, False: 2}, "[[false,2],[true,1]]"),
    (Literal["a", 1, None, True], 1, "1"),
    (Literal["a", 1, None], None, "null"),
    (Cents, 5, "5"),
    (Annotated[int, "metres"], 5, "5"),
    (Numbers, [5], "[5]"),
    (Pairs[str, int], [(1, "x", 2)], '[[1,"x",2]]'),
    (Point, Point(1, 2), '{"x":1,"y":2}'),
    (
        Row,
        Row(datetime(2026, 1, 1), [Point(1)]),
        '{"note":"none","points":[{"x":1,"y":0}],"when":"2026-01-01T00:00:00"}',
    ),
    (
        Node,
        Node(1, Node(2), (Node(3),)),
        '{"left":{"left":null,"others":[],"value":2},"others":[{"left":null,"others":[],"value":3}],"value":1}',
    ),
    (Pair, Pair(1), '{"first":1,"second":"x"}'),
    (Movie, {"name": "x"}, '{"name":"x"}'),
    (Movie, {"year": 1, "name": "x"}, '{"name":"x","year":1}'),
    (Partial, {"name": "x"}, '{"name":"x"}'),
    (Extended, {"name": "x"}, '{"name":"x"}'),
    (Odd, {"in": 1, "x-y": "z"}, '{"in":1,"x-y":"z"}'),
    (Box[int], Box(1, [2]), '{"more":[2],"value":1}'),
    (Box[list[date]], Box([date(2026, 1, 1)]), '{"more":[],"value":["2026-01-01"]}'),
    (IntBox, IntBox(1), '{"more":[],"value":1}'),
    (Keywords, Keywords(1, 2, 3), '{"attrs":3,"cl":2,"converter":1}'),
    (Spaced, Spaced(1), '{"x":1}'),
    (Spaced | int, Spaced(1), '{"a b":{"x":1}}'),
    (Optional[int], None, "null"),
    (int | None, 3, "3"),
    (Point | None, Point(1), '{"x":1,"y":0}'),
    (Any | None, [1], "[1]"),
    (Union[int, str], 3, "3"),
    (int | str, "3", '"3"'),
    (int | float, 3, "3"),
    (int | float, 3.0, "3.0"),
    (float | str, 2.5, "2.5"),
    (bool | int, True, "true"),
    (bool | int, 1, "1"),
    (Literal["auto"] | str, "x", '"x"'),
    (Literal["auto"] | int, "auto", '"auto"'),
    (datetime | str, "2026", '"2026"'),
    (datetime | str, datetime(2026, 1, 1), '{"datetime":"2026-01-01T00:00:00"}'),
    (date | datetime, datetime(2026, 1, 1), '{"datetime":"2026-01-01T00:00:00"}'),
    (date | datetime | None, date(2026, 1, 1), '{"date":"2026-01-01"}'),
    (date | datetime | None, None, "null"),
    (UUID | int, UUID(UUID_TEXT), f'"{UUID_TEXT}"'),
    (Path | int, Path("x"), '{"Path":"x"}'),
    (Color | str, Color.RED, '{"Color":"red"}'),
    (Word | str, Word.YES, '{"Word":"yes"}'),
    (Point | Row, Point(1), '{"Point":{"x":1,"y":0}}'),
    (Point | int, Point(1), '{"Point":{"x":1,"y":0}}'),
    (Point | Point3, Point3(1), '{"Point3":{"x":1,"y":0,"z":0}}'),
    (list[int] | dict[str, int], [1], "[1]"),
    (list[int] | dict[str, int], {"a": 1}, '{"dict":{"a":1}}'),
    (list[int] | dict[str, int], {"dict": 1}, '{"dict":{"dict":1}}'),
    (list[int] | tuple[int, ...] | None, (1,), '{"tuple":[1]}'),
    (dict[str, int | list[Point | None]], {"a": [None, Point(1)]}, '{"a":[null,{"x":1,"y":0}]}'),
    (int | Any | None, "x", '"x"'),
]


def named(cases: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return an id for each case: its number and its annotation."""
    return [f"{number}-{getattr(case[0], '__name__', case[0])}" for number, case in enumerate(cases)]


def same(left: Any, right: Any) -> bool:
    """Return whether two values are equal, with the same types throughout; 1, 1.0 and True are not the same."""
    if type(left) is not type(right):
        return False
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left == right and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


@pytest.mark.parametrize(("annotation", "value", "text"), STORED, ids=named(STORED))
def test_what_is_stored(annotation: Any, value: Any, text: str) -> None:
    """A value of each supported annotation is stored as the table says, and comes back the same."""
    job = make_value(make_job({"it": annotation}), it=value)
    definition = definition_of(job)
    assert definition.encode(job) == f'{{"it":{text}}}'
    back = definition.decode(f'{{"it":{text}}}').it
    expected = BERLIN.replace(tzinfo=timezone(timedelta(hours=2))) if value is BERLIN else value
    assert same(back, expected)
    assert same(definition.decode(json.loads(f'{{"it":{text}}}')).it, back)


# --------------------------------------------------------------------------------------------------- refusals


UNSUPPORTED: list[tuple[Any, str]] = [
    (socket.socket, "X.it: socket cannot be stored in a payload; use JSON values, enums, times"),
    (list[socket.socket], "X.it: socket cannot be stored"),
    (dict[str, set[socket.socket]], "X.it: socket cannot be stored"),
    (object, "X.it: object cannot be stored in a payload; use typing.Any, for plain JSON"),
    (bytearray, "X.it: bytearray cannot be stored in a payload; use bytes"),
    (Sequence[int], "cannot be stored in a payload; use list[…] or tuple[…, …]"),
    (Iterable[int], "cannot be stored in a payload; use list[…] or tuple[…, …]"),
    (Mapping[str, int], "cannot be stored in a payload; use dict[…, …]"),
    (OrderedDict[str, int], "cannot be stored in a payload"),
    (
        int | UUID | Any,
        "X.it: Any in int | UUID | Any matches any JSON, so the other members cannot be recognized",
    ),
    (complex, "X.it: complex cannot be stored"),
    (Endless, "X.it: the alias Endless contains itself; use typing.Any for plain JSON, or a class"),
    (list[[1]], "X.it: [1] cannot be stored"),  # type: ignore[misc]
    (T, "X.it: the type variable T has no value"),
    (Box, "X.it.value: the type variable T has no value"),
    (type[int], "cannot be stored"),
    (3, "X.it: "),
    (Untyped, "X.it.a: has no annotation, so it cannot be stored"),
    (Literal[Color.RED], "X.it: Literal[<Color.RED: 'red'>] cannot be stored; use str, int, bool or None"),
    (Literal[b"x"], "X.it: Literal[b'x'] cannot be stored"),
    (list[int] | list[str], "X.it: list[int] and list[str] cannot be distinguished in a union"),
    (Box[int] | Box[str], "X.it: Box and Box cannot be distinguished in a union"),
    (Movie | dict[str, int], "X.it: Movie and dict[str, int] cannot be distinguished in a union"),
    (attrs.make_class("Bad", {"a": attrs.field(type=socket.socket)}), "X.it.a: socket cannot be stored"),
    (attrs.make_class("Bad", ["a"]), "X.it.a: has no annotation"),
    (
        Point | attrs.make_class("Point", {"a": attrs.field(type=int)}),
        "X.it: two members of Point | Point have the same name and so the same tag",
    ),
    (
        dataclasses.make_dataclass("Bad", [("a", dataclasses.InitVar[int])]),
        "X.it.a: is a parameter of the class but not a field, so it cannot be stored",
    ),
]


@pytest.mark.parametrize(("annotation", "message"), UNSUPPORTED, ids=named(UNSUPPORTED))
def test_annotations_that_cannot_be_stored(annotation: Any, message: str) -> None:
    """An annotation whose values cannot be stored is refused, with the field, when the class is created."""
    with pytest.raises(InvalidJob) as caught:
        make_job({"it": annotation})
    assert message in str(caught.value)


NESTED = Row(datetime(2026, 1, 1), [Point(1), Point(2, "y")])  # type: ignore[arg-type]

WRONG: list[tuple[Any, Any, str | None]] = [
    (str, 3, ".it: expected str, got int 3"),
    (str, None, ".it: expected str, got None"),
    (str, b"x", ".it: expected str, got bytes b'x'"),
    (int, "3", ".it: expected int, got str '3'"),
    (int, True, ".it: expected int, got bool True"),
    (int, 3.0, ".it: expected int, got float 3.0"),
    (int, 10**5000, ".it: expected an int of at most 4300 digits"),
    (bool, 1, ".it: expected bool, got int 1"),
    (float, "1", ".it: expected float, got str '1'"),
    (float, True, ".it: expected float, got bool True"),
    (float, math.nan, ".it: expected a finite float (JSON has no other), got float nan"),
    (float, math.inf, ".it: expected a finite float"),
    (float, 10**400, ".it: expected a number that fits a float, got int 1"),
    (None, 0, ".it: expected None, got int 0"),
    (str, "x" * 1000, None),
    (
        str,
        "a\0b",
        ".it: expected text without NUL characters (PostgreSQL cannot store them), got str 'a\\x00b'",
    ),
    (str, "\udcff", ".it: expected text without lone surrogates (they are not Unicode), got str '\\udcff'"),
    (Any, {"a": [1, object()]}, ".it['a'][1]: expected plain JSON"),
    (Any, {1: 2}, ".it: expected a str as key, got int 1"),
    (Any, (1,), ".it: expected plain JSON"),
    (Any, [math.nan], ".it[0]: expected a finite float"),
    (Any, Point(1), ".it: expected plain JSON"),
    (Any, {"\0": 1}, ".it['\\x00']: expected text without NUL"),
    (UUID, UUID_TEXT, ".it: expected UUID, got str '12345678-"),
    (Decimal, 1.5, ".it: expected Decimal, got float 1.5"),
    (Decimal, Decimal("NaN"), ".it: expected a finite Decimal, got Decimal Decimal('NaN')"),
    (datetime, date(2026, 1, 1), ".it: expected datetime, got date datetime.date(2026, 1, 1)"),
    (datetime, "2026-01-01", ".it: expected datetime, got str '2026-01-01'"),
    (date, datetime(2026, 1, 1), ".it: expected date, got datetime datetime.datetime(2026, 1, 1, 0, 0)"),
    (
        time,
        time(1, tzinfo=ZoneInfo("Europe/Berlin")),
        ".it: expected a time without a time zone, or with one of fixed offset",
    ),
    (timedelta, 3, ".it: expected timedelta, got int 3"),
    (timedelta, timedelta.max, ".it: expected a timedelta of whole seconds, or one shorter than 270 years"),
    (bytes, "x", ".it: expected bytes, got str 'x'"),
    (bytes, bytearray(b"x"), ".it: expected bytes, got bytearray bytearray(b'x')"),
    (Path, "x", ".it: expected Path, got str 'x'"),
    (Color, "red", ".it: expected Color, got str 'red'"),
    (Level, 1, ".it: expected Level, got int 1"),
    (list[int], (1,), ".it: expected list[int], got tuple (1,)"),
    (list[int], "12", ".it: expected list[int], got str '12'"),
    (list[int], [1, "x"], ".it[1]: expected int, got str 'x'"),
    (list[int], [1, True], ".it[1]: expected int, got bool True"),
    (list[str], ["ok", "\0"], ".it[1]: expected text without NUL"),
    (tuple[int, ...], (1, "x"), ".it[1]: expected int, got str 'x'"),
    (tuple[int, str], (1,), ".it: expected tuple[int, str], got 1 items"),
    (tuple[int, str], (1, 2), ".it[1]: expected str, got int 2"),
    (tuple[()], (1,), ".it: expected tuple[()], got 1 items"),
    (set[int], {"x"}, ".it[0]: expected int, got str 'x'"),
    (set[int], [1], ".it: expected set[int], got list [1]"),
    (frozenset[int], {1}, ".it: expected frozenset[int], got set {1}"),
    (dict[str, int], {"a": "x"}, ".it['a']: expected int, got str 'x'"),
    (dict[str, int], {3: 1}, ".it[3]: expected str, got int 3"),
    (dict[int, int], {"3": 1}, ".it['3']: expected int, got str '3'"),
    (dict[int, int], {10**5000: 1}, ".it[…]: "),
    (dict[str, int], [], ".it: expected dict[str, int], got list []"),
    (dict[tuple[int, int], int], {(1, "x"): 1}, ".it[0][0][1]: expected int, got str 'x'"),
    (dict[tuple[int, int], int], [], ".it: expected dict[tuple[int, int], int], got list []"),
    (Literal[1, "a"], True, ".it: expected Literal[1, 'a'], got bool True"),
    (Literal[1, "a"], [], ".it: expected Literal[1, 'a'], got list []"),
    (Point, {"x": 1}, ".it: expected Point, got dict {'x': 1}"),
    (Point, Point3(1), ".it: expected Point, got Point3 Point3(x=1, y=0, z=0)"),
    (Row, NESTED, ".it.points[1].y: expected int, got str 'y'"),
    (Node, Node(1, Node(2, None, (Node("x"),))), ".it.left.others[0].value: expected int, got str 'x'"),  # type: ignore[arg-type]
    (Pair, Pair("x"), ".it.first: expected int, got str 'x'"),  # type: ignore[arg-type]
    (Pair, (1, "x"), ".it: expected Pair, got tuple (1, 'x')"),
    (Movie, {}, ".it.name: is missing"),
    (Movie, {"name": "x", "yaer": 1, 3: 4}, "X.it.3: is not a field of the class; X.it.yaer: is not a field"),
    (Movie, {"name": 3}, ".it.name: expected str, got int 3"),
    (Movie, [], ".it: expected Movie, got list []"),
    (Partial, {"year": 1}, ".it.name: is missing"),
    (int | None, "x", ".it: expected int, got str 'x'"),
    (int | str, 1.5, ".it: expected int | str, got float 1.5"),
    (int | str, None, ".it: expected int | str, got None"),
    (float | str, True, ".it: expected float, got bool True"),
    (Literal["auto"] | int, "x", ".it: expected Literal['auto'], got str 'x'"),
    (Literal["a"] | Literal["b"] | int, "x", ".it: expected Literal['a'] | Literal['b'] | int, got"),
    (Point | Row, Point("x"), ".it.x: expected int, got str 'x'"),  # type: ignore[arg-type]
    (Point | Row, Pair(1), ".it: expected Point | Row, got Pair Pair(first=1, second='x')"),
]


@pytest.mark.parametrize(("annotation", "value", "message"), WRONG, ids=named(WRONG))
def test_wrong_values_are_refused_at_enqueue(annotation: Any, value: Any, message: str | None) -> None:
    """A value that does not fit its annotation is refused before it is stored; the message has the path."""
    job = make_value(make_job({"it": annotation}), it=value)
    definition = definition_of(job)
    if message is None:
        assert definition.encode(job)
        return
    with pytest.raises(InvalidJob) as caught:
        definition.encode(job)
    assert message in str(caught.value)
    assert str(caught.value).startswith("X.it")


UNDECODABLE: list[tuple[Any, str, str]] = [
    (str, "3", ".it: expected str, got int 3"),
    (int, "true", ".it: expected int, got bool True"),
    (int, "1.0", ".it: expected int, got float 1.0"),
    (int, "NaN", ": the stored payload is not JSON (NaN is not JSON)"),
    (float, "-Infinity", ": the stored payload is not JSON (-Infinity is not JSON)"),
    (float, "1e999", ".it: expected a finite float"),
    (int, "1" * 5000, ": the stored payload is not JSON (Exceeds the limit"),
    (bool, "0", ".it: expected bool, got int 0"),
    (UUID, '"x"', ".it: expected UUID as text, got str 'x'"),
    (UUID, "3", ".it: expected UUID as text, got int 3"),
    (Decimal, '"x"', ".it: expected Decimal as text, got str 'x'"),
    (Decimal, '"Infinity"', ".it: expected Decimal as text, got str 'Infinity'"),
    (datetime, '"yesterday"', ".it: expected datetime as text, got str 'yesterday'"),
    (datetime, "0", ".it: expected datetime as text, got int 0"),
    (date, '"2026-02-30"', ".it: expected date as text, got str '2026-02-30'"),
    (time, '"25:00"', ".it: expected time as text, got str '25:00'"),
    (timedelta, '"1"', ".it: expected timedelta as seconds, got str '1'"),
    (timedelta, "1e300", ".it: expected timedelta as seconds, got float 1e+300"),
    (timedelta, "true", ".it: expected timedelta as seconds, got bool True"),
    (bytes, '"?"', ".it: expected bytes as text, got str '?'"),
    (bytes, '"ä"', ".it: expected bytes as text"),
    (Path, "3", ".it: expected Path as text, got int 3"),
    (Path, '{"base64":"?"}', ".it: expected Path as text, got dict {'base64': '?'}"),
    (Path, '{"base64":"AAAA","x":1}', ".it: expected Path as text"),
    (Color, '"green"', ".it: expected Color ('red', 'blue'), got str 'green'"),
    (Color, '"RED"', ".it: expected Color ('red', 'blue'), got str 'RED'"),
    (Color, "[]", ".it: expected Color"),
    (Level, "true", ".it: expected Level (1, 2), got bool True"),
    (Level, "3", ".it: expected Level (1, 2), got int 3"),
    (Access, "64", ".it: expected Access (1, 2), got int 64"),
    (Shape, '"ROUND"', ".it: expected Shape ('POINT', 'TRUE'), got str 'ROUND'"),
    (list[int], '"12"', ".it: expected list[int] as a list, got str '12'"),
    (list[int], '{"0":1}', ".it: expected list[int] as a list, got dict {'0': 1}"),
    (list[int], '[1,"x"]', ".it[1]: expected int, got str 'x'"),
    (tuple[int, str], "[1]", ".it: expected tuple[int, str], got 1 items"),
    (tuple[int, str], '["x","y"]', ".it[0]: expected int, got str 'x'"),
    (set, "[[]]", ".it: cannot be in a set: unhashable type: 'list'"),
    (set[int], "[null]", ".it[0]: expected int, got None"),
    (dict[str, int], "[]", ".it: expected dict[str, int] as an object, got list []"),
    (dict[int, int], '{"x":1}', ".it['x']: expected an int in decimal as key, got str 'x'"),
    (dict[int, int], '{"01":1}', ".it['01']: expected an int in decimal as key"),
    (dict[int, int], '{" 1":1}', ".it[' 1']: expected an int in decimal as key"),
    (dict[Level, int], '{"3":1}', ".it['3']: expected Level (1, 2), got int 3"),
    (dict[bool, int], "[[true,1],[true,2]]", ".it: expected dict[bool, int] as pairs, got a duplicate key"),
    (dict[bool, int], "[[true]]", ".it[0]: expected tuple[bool, int], got 1 items"),
    (dict[bool, int], "{}", ".it: expected list[tuple[bool, int]] as a list, got dict {}"),
    (dict[Any, int], "[[[],1]]", ".it: cannot be a key: unhashable type: 'list'"),
    (Literal[1], "true", ".it: expected Literal[1], got bool True"),
    (Point, "[]", ".it: expected Point as an object, got list []"),
    (Point, "{}", ".it.x: is missing"),
    (Point, '{"x":"a","y":"b","z":1}', "X.it.x: expected int, got str 'a'; X.it.y: expected int"),
    (Point, '{"x":1,"z":1}', ".it.z: is not a field of the class"),
    (Row, '{"when":"2026-01-01","points":[{"x":1},{"x":null}]}', ".it.points[1].x: expected int, got None"),
    (Row, '{"when":"2026-01-01","length":3}', ".it.length: is not a field of the class"),
    (Node, '{"value":1,"left":{"value":1,"others":[{}]}}', ".it.left.others[0].value: is missing"),
    (Pair, '{"first":"x"}', ".it.first: expected int, got str 'x'"),
    (Pair, "[1]", ".it: expected Pair as an object, got list [1]"),
    (Movie, '{"year":1}', ".it.name: is missing"),
    (Movie, '{"name":"x","year":null}', ".it.year: expected int, got None"),
    (Odd, '{"in":1,"x-y":2}', ".it.x-y: expected str, got int 2"),
    (Box[int], '{"value":"x"}', ".it.value: expected int, got str 'x'"),
    (int | None, '"x"', ".it: expected int, got str 'x'"),
    (int | str, "null", ".it: expected int | str, got None"),
    (int | str, "{}", ".it: expected int | str, got dict {}"),
    (datetime | str, '{"date":"2026-01-01"}', ".it: expected datetime | str or {'datetime': …}, got dict"),
    (datetime | str, '{"datetime":3}', ".it['datetime']: expected datetime as text, got int 3"),
    (Point | Row, '{"x":1}', ".it: expected Point | Row or {'Point': …} or {'Row': …}, got dict {'x': 1}"),
    (Point | Row, '{"Point":{"x":null}}', ".it['Point'].x: expected int, got None"),
]


@pytest.mark.parametrize(("annotation", "text", "message"), UNDECODABLE, ids=named(UNDECODABLE))
def test_stored_values_that_do_not_fit_are_refused(annotation: Any, text: str, message: str) -> None:
    """A stored payload that no longer fits the class is an `UndecodablePayload`; the message has the path."""
    with pytest.raises(UndecodablePayload) as caught:
        payload_of(it=annotation).decode(f'{{"it":{text}}}')
    assert message in str(caught.value)
    assert str(caught.value).startswith("X")


# ------------------------------------------------------------------------------------------------ whole payloads


def mail() -> Payload:
    """Return the payload of a job with one field that is required and one that is not."""
    return definition_of(make_job({"to": str, "subject": str}, subject="Hello")).payload


def test_a_missing_field_takes_its_default() -> None:
    """A job that was stored before the class got a field with a default still runs."""
    assert mail().decode('{"to":"x"}').subject == "Hello"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"subject":"x"}', "X.to: is missing"),
        (
            '{"too":"x","b":1}',
            "X.to: is missing; X.b: is not a field of the class; X.too: is not a field of the class",
        ),
        ('{"to":1,"subject":2}', "X.to: expected str, got int 1; X.subject: expected str, got int 2"),
        ("{}", "X.to: is missing"),
        ("[]", "X: expected X as an object, got list []"),
        ("null", "X: expected X as an object, got None"),
        ('"x"', "X: expected X as an object, got str 'x'"),
        ("", "X: the stored payload is not JSON (Expecting value"),
        ('{"to":"x"', "X: the stored payload is not JSON (Expecting ',' delimiter"),
        ('{"to":"x"} x', "X: the stored payload is not JSON (Extra data"),
        ("[" * 100_000, "X: the stored payload is not JSON (nested more than 128 levels deep)"),
    ],
)
def test_an_error_names_every_problem(text: str, message: str) -> None:
    """One error names everything that is wrong with a payload; unknown fields are never dropped in silence."""
    with pytest.raises(UndecodablePayload) as caught:
        mail().decode(text)
    assert str(caught.value).startswith(message)


def test_a_long_list_of_problems_is_cut() -> None:
    """The message of a payload with everything wrong shows five problems and counts the others."""
    payload = payload_of(**{f"f{i}": int for i in range(9)})
    with pytest.raises(UndecodablePayload, match=r"X\.f0: is missing; .*X\.f4: is missing; and 4 more$"):
        payload.decode({})


def test_spaces_around_a_payload_are_fine() -> None:
    """A payload that was written by hand need not look as jobrt writes it."""
    assert mail().decode(' { "to" : "x" } ').to == "x"


def test_a_dict_is_decoded_as_well() -> None:
    """A parsed payload is accepted as well as text, and is not changed."""
    stored = types.MappingProxyType({"to": "x"})
    assert mail().decode(stored).to == "x"


def test_a_value_of_another_class_is_refused() -> None:
    """A definition encodes values of its own class only."""
    with pytest.raises(InvalidJob, match=r"X: expected X, got str 'x'"):
        mail().encode("x")


def test_equal_values_have_equal_text() -> None:
    """The order of keys, the order of a set, and 1 for 1.0 make no difference to the stored text."""
    fields = {"a": dict[str, float], "b": set[str], "c": Any}
    words = [f"word{i}" for i in range(50)]
    backwards = [*reversed(words)]
    job = make_value(make_job(fields), a={"x": 1, "y": 2.0}, b=set(words), c={"p": 1, "q": 2})
    equal = make_value(type(job), a={"y": 2, "x": 1.0}, b=set(backwards), c={"q": 2, "p": 1})
    assert job == equal
    assert definition_of(job).encode(job) == definition_of(job).encode(equal)


def test_subclasses_of_simple_types_are_stored_as_those() -> None:
    """A value of a subclass of str or int is accepted where a type checker accepts it."""

    class Name(str):
        __slots__ = ()

    job = make_value(
        make_job({"a": str, "b": int, "c": list[int], "d": dict[str, int]}),
        a=Name("x"),
        b=Level.HIGH,
        c=[Level.LOW],
        d=OrderedDict(a=1),
    )
    assert definition_of(job).encode(job) == '{"a":"x","b":2,"c":[1],"d":{"a":1}}'


@pytest.mark.parametrize("annotation", [float, float | None, float | str])
def test_a_float_may_come_back_without_its_point(annotation: Any) -> None:
    """PostgreSQL gives 1e20 back as an int; it is a float again where the annotation says so."""
    assert same(payload_of(it=annotation).decode('{"it":100000000000000000000}').it, 1e20)


def test_a_default_does_not_hide_a_type_of_its_name() -> None:
    """A field of a dataclass may have the name of its type, which is usual for dates."""

    @dataclasses.dataclass
    class Holiday:
        date: date = date(2026, 1, 1)

    job = make_value(make_job({"it": Holiday}), it=Holiday())
    assert definition_of(job).encode(job) == '{"it":{"date":"2026-01-01"}}'


def test_renamed_enum_values_can_be_caught() -> None:
    """An enum's `_missing_` is asked for values that no longer exist."""
    assert payload_of(it=Renamed).decode('{"it":"old"}').it is Renamed.NEW


def test_errors_of_a_class_are_reported_with_their_path() -> None:
    """An exception of a validator or constructor becomes an `UndecodablePayload` with the path, and its cause."""

    @dataclasses.dataclass
    class Strict:
        x: int

        def __post_init__(self) -> None:
            if self.x < 0:
                raise KeyError("x")

    payload = payload_of(it=list[Strict])
    with pytest.raises(UndecodablePayload, match=r"X\.it\[1\]: KeyError: 'x'") as caught:
        payload.decode('{"it":[{"x":1},{"x":-1}]}')
    assert isinstance(caught.value.__cause__, KeyError)


def test_values_that_contain_themselves_are_refused() -> None:
    """A list that contains itself cannot be stored."""
    endless: list[Any] = []
    endless.append(endless)
    for annotation in (Any, list):
        job = make_value(make_job({"it": annotation}), it=endless)
        with pytest.raises(InvalidJob, match="X: nested too deeply, or contains itself"):
            definition_of(job).encode(job)


def test_a_job_can_be_a_field_of_another() -> None:
    """A job value is a record like any other."""
    inner = make_job({"x": int})
    outer = make_job({"then": inner, "more": list[inner]})  # type: ignore[valid-type]
    job = make_value(outer, then=make_value(inner, x=1), more=[make_value(inner, x=2)])
    definition = definition_of(job)
    assert definition.encode(job) == '{"more":[{"x":2}],"then":{"x":1}}'
    assert definition.decode(definition.encode(job)) == job


# ------------------------------------------------------------------------------------------------------- words


async def _resize(
    ctx: object,
    path: str,
    width: int = 800,
    keep: bool = False,
    when: date | None = None,
    sizes: tuple[int, ...] = (),
) -> None: ...


def test_words_become_fields() -> None:
    """A word from a command line is taken as it is where the field takes a text; else it is JSON."""
    resize = make_function_job(_resize)
    payload = definition_of(resize.job_class).payload
    words = {"path": "3", "width": "640", "keep": "true", "when": "2026-01-01", "sizes": "[1, 2]"}
    assert payload.parse(words) == resize.new("3", 640, True, date(2026, 1, 1), (1, 2))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"path": "x", "width": "wide"}, "_resize.width: expected int, got str 'wide'"),
        ({"path": "x", "width": "1.5"}, "_resize.width: expected int, got float 1.5"),
        ({}, "_resize.path: is missing"),
        ({"path": "x", "heigth": "3"}, "_resize.heigth: is not a field of the class"),
    ],
)
def test_wrong_words_are_refused(words: dict[str, str], message: str) -> None:
    """A word that does not fit is refused with its field."""
    with pytest.raises(InvalidJob) as caught:
        definition_of(make_function_job(_resize).job_class).payload.parse(words)
    assert str(caught.value) == message


def test_an_alias_may_name_what_comes_later() -> None:
    """An alias that cannot be resolved yet does not break the class; asking for its definition raises."""
    with pytest.raises(InvalidJob, match=r"X\.it: the alias Nowhere cannot be resolved"):
        definition_of(make_job({"it": list[Nowhere]}))
