"""Tests that every option and argument gets one clear line for a hostile value, never a traceback."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrt.cli import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Result

    Command = Callable[..., Result]

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = (
    "",
    " ",
    "None",
    "null",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e400",
    "1e308w",
    "nand",
    "9" * 20,
    "9" * 5000,
    "\u0661",
    "0001-01-01",
    "9999-12-31T23:59:59.999999",
    "\x1b]0;title\x07",
    "a\nb",
    "caf\udce9",
    "[red]",
    "=",
    "a=",
    "a=\udce9",
    "a=" + "9" * 5000,
    "a=" + "[" * 10_000,
    "{" * 10_000,
    '{"a": "\\ud800"}',
    "@never",
    "* * * * *",
    "x" * 2000,
)
LONG_RUNNING = frozenset({"bench", "dashboard", "demo", "top", "worker"})


def _leaves(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _leaves(command, (*path, name))
        elif name not in LONG_RUNNING:
            yield (*path, name), command


def _uses() -> Iterator[tuple[tuple[str, ...], tuple[str, ...], str]]:
    """Yield each option and argument: its command, the arguments before it, and how the value is passed."""
    yield ("jobs",), (), "--url={}"
    yield ("manifest",), (), "--app={}"
    for path, command in _leaves(cli):
        required = [p for p in command.params if isinstance(p, click.Argument) and p.required]
        fill = ["1" if "id" in str(p.name) else "hello" if p.name == "name" else "default" for p in required]
        for param in command.params:
            if isinstance(param, click.Argument):
                yield path, (), "{}"
            elif isinstance(param, click.Option) and not param.is_flag:
                yield path, tuple(fill), f"{param.opts[0]}={{}}"


USES = sorted(set(_uses()))


@given(st.data())
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_values_get_one_clear_line(jobrt_command: Command, shop: Path, data: st.DataObject) -> None:
    """A value is accepted, or refused in one line with a status of 1 or 2."""
    path, before, form = data.draw(st.sampled_from(USES))
    value = data.draw(st.sampled_from(HOSTILE))
    _check(jobrt_command, path, before, form.format(value))


def _check(jobrt_command: Command, path: tuple[str, ...], before: tuple[str, ...], argument: str) -> None:
    leading = argument.startswith(("--url", "--app"))
    arguments = (argument, *path) if leading else (*path, *before, argument)
    done = jobrt_command(*arguments)
    what = (arguments, done.status, done.err[:500])
    assert done.status in {0, 1, 2}, what
    assert not UNSAFE.search(done.out + done.err), what
    assert "Traceback" not in done.err, what
    assert "JOBRT_DEBUG" not in done.err, what
    if done.status:
        assert done.err.startswith(("jobrt: ", "no job matches")) or done.out, what
        assert done.err.count("\n") <= 2, what
        assert max(map(len, done.err.splitlines()), default=0) < 1500, what


@pytest.mark.parametrize("option", ["--grace", "--wait"])
@pytest.mark.parametrize("value", ["nan", "-1", "None", "-inf"])
def test_seconds_of_a_worker(jobrt_command: Command, shop: Path, option: str, value: str) -> None:
    """NaN is refused as other values are: a timer would never end, or end at once."""
    done = jobrt_command("worker", "--drain", f"{option}={value}")
    assert (done.status, done.err.count("\n")) == (2, 1)


def test_the_url_is_refused_without_its_password(jobrt_command: Command, shop: Path) -> None:
    """The line names neither the password nor a part of it."""
    for url in (
        "postgresql://u:a/S3cr1t@h/d",
        "u:S3cr1t@h",
        "postgresql://u:S3cr1t",
        "host=h password=S3cr1t",
    ):
        done = jobrt_command(f"--url={url}", "jobs")
        assert (done.status, done.err.count("\n")) == (1, 1)
        assert "S3cr1t" not in done.err
