"""Tests of database URLs: what they name, and that their passwords are never shown."""

from __future__ import annotations

import shlex
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jobrt._core.database_url import Address, migrate_remedy, parse_url, safe_url
from jobrt.errors import StorageError

MARK = "S3cr1t"
"""Part of every password here. No part of it may be shown."""


@pytest.mark.parametrize(
    ("url", "engine", "target"),
    [
        ("sqlite:///jobs.db", "sqlite", "jobs.db"),
        ("sqlite:////var/jobs.db", "sqlite", "/var/jobs.db"),
        ("sqlite:///:memory:", "sqlite", ":memory:"),
        ("sqlite:///caf\udce9.db", "sqlite", "caf\udce9.db"),
        ("postgresql://h/d", "postgres", "postgresql://h/d"),
        ("postgres://u:p%40w@[::1]:5432,h2/d?sslmode=disable", "postgres", None),
        ("postgresql:///d?host=/tmp", "postgres", None),
        ("postgresql://", "postgres", None),
    ],
)
def test_urls_of_both_engines(url: str, engine: str, target: str | None) -> None:
    """A URL names an engine, and its file or conninfo."""
    assert parse_url(url) == Address(engine, url if target is None else target)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("jobs.db", "'jobs.db' is not a database URL: use sqlite:///FILE"),
        ("sqlite://", "'sqlite://' is not"),
        ("mysql://u:S3cr1t@h/d", "mysql://… is not"),
        ("u:S3cr1t@h/d", "the text is not"),
        ("host=h password=S3cr1t", "the text is not"),
        ("postgresql:/u:S3cr1t@h/d", "the text is not"),
        ("postgresql://u:a/S3cr1t@h/d", "it has an @ too many: write @ : / ?"),
        ("postgresql://u:a@S3cr1t@h/d", "it has an @ too many"),
        ("postgresql://u:S3cr1t", "a port is not a number"),
        ("postgresql://u:S3cr1t?x@h/d", "a port is not a number"),
        ("postgresql://u:12?S3cr1t@h/d", "its parameters are malformed"),
        ("postgresql://u:?host=S3cr1t@h/d", "its parameters are malformed"),
        ("postgresql://u:100%S3cr1t@h/d", "write % as %25"),
        ("postgresql://u:a S3cr1t@h/d", "write them as %20"),
        ("sqlite:///a\0b", "a file name has no"),
    ],
)
def test_malformed_urls(url: str, reason: str) -> None:
    """The message says what is wrong and the remedy, and contains no part of the password."""
    with pytest.raises(StorageError) as caught:
        parse_url(url)
    assert reason in str(caught.value)
    assert MARK not in str(caught.value)


_separators = st.text("@/:?#&=% \\\"'[]\n\x1b,é", max_size=3)
_passwords = st.builds(
    "".join, st.tuples(_separators, st.just(MARK), _separators, st.just(MARK), _separators)
)
_forms = st.sampled_from(
    [
        "postgresql://u:{}@h:5432/d",
        "postgres://u:{}@h1,h2:1/d?sslmode=disable",
        "postgresql://:{}@/d",
        "postgresql://u@h/d?password={}",
        "postgresql://u@h/d?x=1&p%61ssword={}&sslpassword={}",
        "postgresql://u:{}",
        "postgresql:/u:{}@h/d",
        "POSTGRESQL://u:{}@h/d",
        "u:{}@h/d",
        "host=h user=u password={}",
        "host=h user=u password='{}'",
        "mysql://u:{}@h/d",
    ]
)


@given(_forms, _passwords, st.booleans())
def test_no_url_shows_its_password(form: str, password: str, encoded: bool) -> None:
    """Whatever the form of the URL and the characters of the password, no part of it is shown."""
    assume(encoded or form != "postgresql://u:{}" or "@" not in password)  # what follows is a host then
    url = form.format(*[quote(password, safe="") if encoded else password] * 2)
    assert MARK not in safe_url(url)
    assert MARK not in migrate_remedy(url)
    assert MARK not in _parsed(url)


def _parsed(url: str) -> str:
    try:
        return repr(parse_url(url))
    except StorageError as error:
        return str(error)


def test_the_rest_of_a_url_is_shown() -> None:
    """User, hosts, database and other parameters are shown as they are."""
    url = "postgresql://u:{}@h1:1,h2/d?sslmode=disable&password={}"
    assert safe_url(url.format("a", "b")) == url.format("***", "***")
    assert safe_url("postgresql://u@h/d") == "postgresql://u@h/d"
    assert safe_url("sqlite:///a@b") == "sqlite:///a@b"


@given(st.text(min_size=1).filter(lambda text: not {"\0", "?"} & set(text)))  # which no URL of a file has
def test_the_remedy_can_be_typed(path: str) -> None:
    """The shell passes the URL of the remedy on as it is."""
    command = migrate_remedy(f"sqlite:////{path}").split("`")[1] if "`" not in path else None
    if command is not None:
        assert shlex.split(command) == ["python", "-m", "jobrt", "--url", f"sqlite:////{path}", "migrate"]


def test_the_remedy_for_another_schema_and_for_a_password() -> None:
    """A URL does not name a schema, so the application does. A password is not in the command."""
    assert "--app MODULE:ATTR migrate` with the application of the schema 'other'" in migrate_remedy(
        "x", "other"
    )
    remedy = migrate_remedy("postgresql://u:p@h/d")
    assert remedy == "run `python -m jobrt --url 'postgresql://u:***@h/d' migrate`, with the password for ***"
