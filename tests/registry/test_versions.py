"""What a class can read of payloads that other versions of it have stored."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobrt
from jobrt._registry import Registry, UndecodablePayload, changed_job, definition_of, new_job, tick_job
from jobrt.errors import DuplicateJobName, InvalidJob
from tests.registry.making import make_job


class Letter(jobrt.Job):
    """The third version of a job."""

    NAME = "letter"
    ALIASES = ("mail", "note")
    VERSION = 3
    REMOVED = ("cc", "bcc")
    UNIQUE = jobrt.Unique()

    to: list[str]
    urgent: bool = False

    @classmethod
    def upgrade(cls, args: dict[str, Any], version: int) -> dict[str, Any]:
        """Turn one recipient into a list, and a text into a flag."""
        if version < 2:
            args["to"] = [args["to"]]
        return args | {"urgent": args.get("urgent") in {"yes", True}}

    async def run(self, ctx: jobrt.Context) -> None: ...


LETTER = definition_of(Letter)


@pytest.mark.parametrize(
    ("stored", "version", "value"),
    [
        ({"to": "a"}, None, Letter(["a"])),
        ({"to": "a", "urgent": "yes", "cc": "b"}, 1, Letter(["a"], urgent=True)),
        ({"to": ["a", "b"], "urgent": "no", "bcc": None}, 2, Letter(["a", "b"])),
        ({"to": [], "urgent": True, "cc": 1}, 3, Letter([], urgent=True)),
    ],
)
def test_an_older_payload_is_upgraded(stored: dict[str, Any], version: int | None, value: Letter) -> None:
    """`upgrade` gets the payload and its version; what it returns, without the removed fields, is decoded."""
    assert LETTER.read(stored, version) == value
    assert LETTER.read(json.dumps(stored), version) == value


@given(st.integers(4, 1 << 20), st.dictionaries(st.text(), st.integers()))
def test_a_newer_payload_is_for_newer_code(version: int, stored: dict[str, Any]) -> None:
    """Whatever is in it, even what this class could decode."""
    with pytest.raises(
        UndecodablePayload, match=rf"has version {version}, and the class has VERSION 3"
    ) as caught:
        LETTER.read({"to": [], **stored}, version)
    assert caught.value.problem == "fields"


@given(
    st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef"))
)
def test_a_payload_is_read_if_each_field_is_known_or_removed(
    stored: set[str], known: set[str], removed: set[str]
) -> None:
    """Any other field makes it a payload of newer code; nothing is lost in silence."""
    removed -= known
    fields = dict.fromkeys(sorted(known), "int")
    job = definition_of(make_job(fields, **dict.fromkeys(known, 0), REMOVED=tuple(removed)))
    payload = dict.fromkeys(stored, 1)
    if stored <= known | removed:
        assert attrs.asdict(job.read(payload, None)) == {name: int(name in stored) for name in known}
    else:
        with pytest.raises(UndecodablePayload, match="is not a field") as caught:
            job.read(payload, None)
        assert caught.value.problem == "fields"


def test_a_failing_upgrade_harms_its_payload_alone() -> None:
    """It raises, or returns something else than fields: the payload is undecodable, and the message says why."""
    with pytest.raises(
        UndecodablePayload, match=r"Letter.upgrade of a payload of version 1: KeyError: 'to'"
    ) as caught:
        LETTER.read("{}", None)
    assert caught.value.problem == "value"
    broken = definition_of(make_job(VERSION=2, upgrade=classmethod(lambda _cls, _args, _version: None)))
    with pytest.raises(UndecodablePayload, match=r"X.upgrade .*: it returned a NoneType: return a dict"):
        broken.read("{}", 1)
    for text in ("[]", "nonsense", "[" * 500):
        with pytest.raises(UndecodablePayload) as caught:
            LETTER.read(text, 1)
        assert caught.value.problem == "text"


def test_a_version_without_upgrade() -> None:
    """Old payloads are decoded as they are: the version alone says what is too new for whom."""
    assert definition_of(make_job({"a": int}, a=5, VERSION=2)).read("{}", None).a == 5


def test_new_jobs_have_the_version_of_their_class() -> None:
    """The first version is stored as none, so that its rows are no wider; updates and ticks store today's."""
    registry = Registry()
    registry.add(Letter)
    assert new_job(registry, Letter([])).version == 3
    assert new_job(Registry(), make_job()()).version is None
    assert changed_job(registry, "note", {"args": {"to": []}})["version"] == 3
    ticked = tick_job(registry, "mail", args={"to": "a"}, options={})
    assert ticked is not None
    tick = new_job(registry, ticked)
    assert (tick.name, tick.args, tick.version) == ("letter", '{"to":["a"],"urgent":false}', 3)


def test_aliases_are_names_of_the_same_job() -> None:
    """They share uniqueness with the oldest name, which programs before the renaming use."""
    registry = Registry()
    assert registry.add(Letter) is registry.get("mail") is registry.get("note")
    assert registry.names == ("letter", "mail", "note")
    assert (len(registry), list(registry)) == (1, [LETTER])
    before = make_job({"to": list[str], "urgent": bool}, NAME="mail", UNIQUE=jobrt.Unique(), urgent=False)
    new, old = new_job(registry, Letter(["a"])), new_job(Registry(), before(["a"]))
    assert new.unique is not None
    assert new.unique == old.unique


@pytest.mark.parametrize("order", [1, -1])
def test_an_alias_that_another_job_has_is_refused(order: int) -> None:
    """The message names both classes, in whatever order they come, and nothing of the second is kept."""
    registry = Registry()
    first, second = [make_job(NAME="new", ALIASES=("old",)), make_job(NAME="old", ALIASES=("older",))][
        ::order
    ]
    registry.add(first)
    with pytest.raises(
        DuplicateJobName, match=r"name or alias 'old': .*X and .*X; remove it from the ALIASES"
    ):
        registry.add(second)
    assert set(registry) == {definition_of(first)}
    assert len(registry.names) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"VERSION": 0}, r"X.VERSION is 0: use an int from 1 to 32767"),
        ({"VERSION": "2"}, r"X.VERSION is '2': use an int"),
        ({"VERSION": True}, r"X.VERSION is True"),
        ({"VERSION": 1 << 15}, r"X.VERSION is 32768"),
        ({"ALIASES": "old"}, r"X.ALIASES is 'old': use a list of names"),
        ({"ALIASES": ("X",)}, r"X.ALIASES has 'X', the name of the job itself"),
        ({"REMOVED": "cc"}, r"X.REMOVED is 'cc': use a list of names"),
        ({"REMOVED": ("kept",)}, r"X.REMOVED has 'kept', but the class has this field"),
        ({"VERSION": 2, "upgrade": lambda cls, args, version: args}, r"X.upgrade must be a class method"),
        (
            {"upgrade": classmethod(lambda cls, args, version: args)},
            r"X.upgrade is never called: set VERSION = 2",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(body: dict[str, Any], message: str) -> None:
    """The message names the constant and the remedy."""
    with pytest.raises(InvalidJob, match=message):
        make_job({"kept": "int"}, kept=0, **body)


def test_an_upgrade_option_must_be_a_function() -> None:
    """A function job has the class method as an option."""
    decorator: Any = jobrt.App("sqlite:///:memory:").job(version=2, upgrade=3)  # type: ignore[call-overload]

    def send(ctx: jobrt.Context) -> None: ...

    with pytest.raises(InvalidJob, match="send: option upgrade is 3: use a function of args and version"):
        decorator(send)


def test_anything_else_may_be_called_upgrade() -> None:
    """Classes from before there were versions have fields and methods of that name."""
    assert definition_of(make_job({"upgrade": "bool"}, upgrade=True)).read("{}", None).upgrade is True
    make_job(upgrade=classmethod(lambda cls: 3))
    assert definition_of(make_job({"upgrade": "bool"}, upgrade=True, VERSION=2)).versions.upgrade is None


def test_aliases_are_not_inherited() -> None:
    """Two classes cannot have the same one; version and removed fields describe inherited fields too."""

    class Child(Letter):
        NAME = "child"

    assert definition_of(Child).versions == attrs.evolve(LETTER.versions, aliases=(), upgrade=Child.upgrade)


@attrs.frozen
class Inner:
    """A record in a payload."""

    a: int


def test_the_shape_changes_with_what_can_be_read() -> None:
    """Claims pass by what a shape could not read, so a class that can read more must have another one."""
    shapes = [
        definition_of(make_job(fields, **body)).shape
        for fields, body in [
            ({}, {}),
            ({"a": int}, {}),
            ({"a": Any}, {}),
            ({"a": list[int]}, {}),
            ({"a": list[Any]}, {}),
            ({"a": Inner}, {}),
            ({"a": attrs.make_class("Inner", {"a": attrs.field(type=int), "b": attrs.field(type=int)})}, {}),
            ({"a": int}, {"REMOVED": ("b",)}),
            ({"a": int}, {"VERSION": 2}),
        ]
    ]
    assert len(set(shapes)) == len(shapes)
    assert definition_of(make_job({"a": int})).shape == shapes[1]
