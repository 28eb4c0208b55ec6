"""Tests of each command, used from a shell or by a program."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from jobrt._core.text import user_frames
from jobrt.cli.output import in_one_line
from jobrt.errors import JobrtError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Command = Callable[..., Result]

pytestmark = pytest.mark.usefixtures("shop")


def test_enqueue_run_and_show(jobrt_command: Command) -> None:
    """A job can be enqueued, run and shown from the shell."""
    assert (
        jobrt_command("enqueue", "hello", "name=bob", "times=2", "--tag", "t", "--context", "a test").out
        == "1\n"
    )
    assert jobrt_command("worker", "--drain", "--quiet").status == 0
    shown = jobrt_command("show", "1").out
    assert "completed" in shown
    assert '"hello bobhello bob"' in shown
    record = json.loads(jobrt_command("show", "1", "--json").out)
    assert (record["state"], record["tags"], record["context"]) == ("completed", ["t"], "a test")
    assert record["args"] == {"name": "bob", "times": 2}


def test_values_are_parsed_by_the_types_of_their_fields(jobrt_command: Command) -> None:
    """The type of the field decides how KEY=VALUE is parsed."""
    assert jobrt_command("enqueue", "hello", "name=3").status == 0
    assert json.loads(jobrt_command("show", "1", "--json").out)["args"] == {"name": "3", "times": 1}


def test_jobs_lists_by_filters_as_lines_and_json(jobrt_command: Command) -> None:
    """In a pipe, the first line names the columns."""
    jobrt_command("enqueue", "hello", "name=a", "--tag", "x")
    jobrt_command("enqueue", "fail")
    lines = jobrt_command("jobs").out.splitlines()
    assert lines[0].split("\t")[:4] == ["id", "name", "queue", "state"]
    assert [line.split("\t")[1] for line in lines[1:]] == ["fail", "hello"]
    assert [job["id"] for job in json.loads(jobrt_command("jobs", "--json", "--queue", "mail").out)] == [2]
    assert jobrt_command("jobs", "--args", "name=a", "--count").out == "1\n"
    assert jobrt_command("jobs", "--tag", "y", "--count").out == "0\n"
    assert jobrt_command("jobs", "--since", "1h", "--state", "available", "--count").out == "2\n"


def test_a_failed_job_shows_its_traceback_and_can_be_rerun(jobrt_command: Command) -> None:
    """A dead letter keeps its errors and can run again."""
    jobrt_command("enqueue", "fail")
    jobrt_command("worker", "--drain", "--quiet")
    shown = jobrt_command("show", "1").out
    assert "LookupError: no such address" in shown
    assert "Traceback" in shown
    assert jobrt_command("rerun", "1").out == "1 job\n"
    assert (
        jobrt_command("rerun", "1").err
        == "jobrt: job 1 (fail) is available: only a job that has ended can be run again\n"
    )


def test_cancel_and_delete_by_id_and_by_filter(jobrt_command: Command) -> None:
    """With a filter, the command shows the matching jobs and requires --yes if nobody can answer."""
    for name in "abc":
        jobrt_command("enqueue", "hello", f"name={name}")
    assert jobrt_command("cancel", "1", "--reason", "no").out == "1 job\n"
    asked = jobrt_command("cancel", "--name", "hello", "--state", "available")
    assert asked.status == 2
    assert "cancel 2 jobs" in asked.err
    assert jobrt_command("cancel", "--state", "available", "--yes").out == "2 jobs\n"
    assert jobrt_command("delete", "--name", "hello", "--yes").out == "3 jobs\n"
    assert jobrt_command("cancel").status == 2


def test_waiting_jobs_are_changed_by_id_and_by_filter(jobrt_command: Command) -> None:
    """Only the given options change. A job that is not waiting is refused."""
    for name in "ab":
        jobrt_command("enqueue", "hello", f"name={name}", "--in", "1h")
    assert jobrt_command("update", "1", "--priority", "7", "--in", "0s", "--to", "mail").out == "1 job\n"
    assert jobrt_command("update", "--name", "hello", "--max-attempts", "2", "--yes").out == "2 jobs\n"
    first, second = (json.loads(jobrt_command("show", job_id, "--json").out) for job_id in "12")
    assert (first["priority"], first["state"], first["queue"]) == (7, "available", "mail")
    assert (second["priority"], second["state"], second["queue"]) == (0, "scheduled", "default")
    assert first["max_attempts"] == second["max_attempts"] == 2
    jobrt_command("cancel", "2")
    assert "only a waiting job can be changed" in jobrt_command("update", "2", "--priority", "1").err
    assert jobrt_command("update", "1").status == 2


def test_each_of_several_ids_gets_an_answer(jobrt_command: Command) -> None:
    """Valid jobs are changed. Each other id is reported in a line, and the exit status is 1."""
    jobrt_command("enqueue", "hello", "name=a")
    jobrt_command("enqueue", "hello", "name=b")
    done = jobrt_command("cancel", "1", "77", "1", "2")
    assert (done.status, done.out, done.err) == (1, "2 jobs\n", "jobrt: there is no job 77\n")
    again = jobrt_command("cancel", "1", "78")
    assert (again.status, again.out) == (1, "")
    assert again.err.splitlines() == [
        "jobrt: job 1 (hello) is cancelled already: there is nothing to cancel",
        "jobrt: there is no job 78",
    ]


def test_queues_can_be_paused_resumed_and_scaled(jobrt_command: Command) -> None:
    """The database stores the change."""
    jobrt_command("enqueue", "fail")
    assert "paused" in jobrt_command("queues", "pause", "mail").out
    assert "paused" in jobrt_command("queues").out
    jobrt_command("worker", "--drain", "--quiet")
    assert jobrt_command("jobs", "--state", "available", "--count").out == "1\n"
    jobrt_command("queues", "resume", "mail")
    jobrt_command("queues", "scale", "mail", "1")
    (queue,) = json.loads(jobrt_command("queues", "--json").out)
    assert (queue["name"], queue["paused"], queue["concurrency"], queue["available"]) == ("mail", False, 1, 1)
    assert jobrt_command("queues", "scale", "mail", "0").status == 1


def test_actions_say_who_did_what_and_why(jobrt_command: Command) -> None:
    """The database keeps what the commands have changed, the newest first."""
    jobrt_command("cron")
    assert jobrt_command("actions").out == "at\twho\twhat\twhy\n"
    jobrt_command("queues", "pause", "mail", "--reason", "relay down")
    jobrt_command("queues", "scale", "mail", "3")
    jobrt_command("cron", "pause", "nightly", "--reason", "moving")
    jobrt_command("cron", "set", "nightly", "--every", "90s")
    found = json.loads(jobrt_command("actions", "--json").out)
    assert [(one["subject"], one["name"], one["what"], one["why"]) for one in found] == [
        ("cron", "nightly", "changed cron entry nightly: interval 0:01:30", ""),
        ("cron", "nightly", "paused cron entry nightly", "moving"),
        ("queue", "mail", "scaled queue mail to 3", ""),
        ("queue", "mail", "paused queue mail", "relay down"),
    ]
    assert all("@" in one["who"] for one in found)
    _header, line = jobrt_command("actions", "--queue", "mail", "--limit", "1").out.splitlines()
    assert "\tscaled queue mail to 3\t" in line
    both = jobrt_command("actions", "--queue", "mail", "--cron", "nightly")
    refused = "jobrt: use --queue or --cron, not both (see jobrt actions --help)\n"
    assert (both.status, both.err) == (2, refused)


def test_changing_an_unknown_queue_warns(jobrt_command: Command) -> None:
    """The queue may be used later, or it may be a misspelling: the command warns and succeeds."""
    assert jobrt_command("queues", "pause", "mail").err == ""
    unknown = jobrt_command("queues", "pause", "mial")
    warning = "jobrt: warning: no job, worker or application uses queue 'mial' yet\n"
    assert (unknown.status, unknown.err) == (0, warning)


def test_cron_shows_the_next_tick_and_can_be_paused(jobrt_command: Command) -> None:
    """Entries that the code declares are shown even if no worker has run."""
    assert "0 3 * * * Europe/Berlin" in jobrt_command("cron").out
    jobrt_command("cron", "pause", "nightly")
    assert json.loads(jobrt_command("cron", "--json").out)[0]["paused"] is True
    assert jobrt_command("cron", "pause", "weekly").err == "jobrt: there is no cron entry 'weekly'\n"


def test_doctor_says_why_nothing_runs(jobrt_command: Command) -> None:
    """Each finding is one line with the remedy. The exit status is 1 for scripts."""
    jobrt_command("enqueue", "fail")
    jobrt_command("queues", "pause", "mail")
    found = jobrt_command("doctor")
    assert found.status == 1
    assert "queue mail is paused with 1 due job: resume it with `queues resume mail`" in found.out
    assert "no worker is alive: start a worker with" in found.out


def test_manifest_lists_what_the_code_declares(jobrt_command: Command) -> None:
    """The manifest lists the jobs and cron entries for deployment scripts."""
    manifest = json.loads(jobrt_command("manifest", "--json").out)
    assert {job["name"] for job in manifest["jobs"]} == {"hello", "fail", "wait_for", "stubborn", "large"}
    assert manifest["cron"][0]["name"] == "nightly"


def test_migrate_check_prune_workers_and_top(jobrt_command: Command) -> None:
    """These commands work on an empty database."""
    assert jobrt_command("migrate").out == "up to date\n"
    assert jobrt_command("migrate", "--check").status == 0
    assert jobrt_command("prune").out == "0 jobs deleted\n"
    assert jobrt_command("workers").out == "no worker is registered\n"
    assert jobrt_command("top", "--once").status == 0


def test_a_result_that_is_too_large_fails_the_attempt(jobrt_command: Command) -> None:
    """The error message contains the limit."""
    jobrt_command("enqueue", "large")
    jobrt_command("worker", "--drain", "--quiet")
    assert "262,144" in jobrt_command("show", "1").out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--app", "nowhere:app", "worker"), 1, "cannot import nowhere"),
        (("--app", "shop:nothing", "worker"), 1, "module 'shop' has no attribute 'nothing'"),
        (("--app", "shop", "worker"), 2, "shop.jobs:app"),
        (("enqueue", "helo", "name=x"), 1, "did you mean 'hello'?"),
        (("enqueue", "hello", "--json", "{"), 1, "not valid JSON"),
        (("enqueue", "hello", "--json", "[]"), 1, "an object"),
        (("enqueue", "hello", "times=2"), 1, "name"),
        (("enqueue", "hello", "name=x", "times=many"), 1, "times"),
        (("enqueue", "hello", "name=x", "nose=long"), 1, "nose"),
        (("enqueue", "hello", "name=x", "--in", "soon"), 2, "soon"),
        (("show", "77"), 1, "there is no job 77"),
        (("jobs", "--state", "done"), 1, "done"),
        (("jobs", "--args", "name"), 2, "FIELD=VALUE"),
        (("jobs", "--order-by", "color"), 1, "color"),
        (("demo", "no-such-folder"), 1, "no-such-folder"),
        (("worker", "--queue", "post"), 1, "no queue 'post'"),
        (("--url", "mysql://x/y", "jobs"), 1, "not a database URL"),
        (("--url", "sqlite:////no/such/folder/x.db", "jobs"), 1, "there is no folder /no/such/folder"),
        (("frobnicate",), 2, "frobnicate"),
        (("jobs", "--limit", "-1"), 2, "--limit"),
        (("worker", "--drain", "--grace", "-1"), 2, "--grace"),
        (("cron", "pause", "weekly"), 1, "there is no cron entry 'weekly'"),
    ],
)
def test_bad_input_gets_one_clear_line_and_a_status(
    jobrt_command: Command, arguments: tuple[str, ...], status: int, message: str
) -> None:
    """An error is one line that starts with ``jobrt:``, never a traceback."""
    done = jobrt_command(*arguments)
    assert done.status == status
    assert message in done.err
    assert done.err.startswith("jobrt: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("command", ["doctor", "migrate --check"])
def test_asking_makes_no_database(jobrt_command: Command, shop: Path, command: str) -> None:
    """At a path where nothing is, one line says so and names the command that makes a database."""
    url = f"sqlite:///{shop}/none.db"
    done = jobrt_command("--url", url, *command.split())
    printed = done.out + done.err
    assert done.status == 1
    assert printed.count("\n") == 1
    assert f"there is no database {shop}/none.db" in printed
    assert f"run `python -m jobrt --url {url} migrate`" in printed
    assert not (shop / "none.db").exists()


def test_a_check_migrates_nothing(jobrt_command: Command, shop: Path) -> None:
    """`migrate --check` and `doctor` make no tables. Their hint names the application as it was given."""
    (shop / "shop.db").unlink()
    (shop / "shop.db").touch()
    checked = jobrt_command("migrate", "--check")
    assert (checked.status, checked.out.splitlines()[0].split()[1:]) == (1, ["pending"])
    told = jobrt_command("doctor")
    assert told.status == 1
    assert "lacks migration 0001_first" in told.out
    assert told.out.endswith(": run `python -m jobrt --app shop:app migrate`\n")
    with closing(sqlite3.connect(shop / "shop.db")) as conn:
        assert conn.execute("select count(*) from sqlite_master").fetchone() == (0,)


def test_enqueue_prints_json(jobrt_command: Command) -> None:
    """``--json`` is the payload of `enqueue`, so ``--output json`` is the format of its output."""
    arguments = ("enqueue", "hello", "--json", '{"name": "x"}', "--unique-key", "k", "--output", "json")
    assert json.loads(jobrt_command(*arguments).out) == {"id": 1, "duplicate": False}
    assert json.loads(jobrt_command(*arguments).out) == {"id": 1, "duplicate": True}


def test_a_traceback_begins_with_the_frames_of_the_job(jobrt_command: Command) -> None:
    """Frames of jobrt before them are the same in every traceback."""
    jobrt_command("enqueue", "fail")
    jobrt_command("worker", "--drain", "--quiet")
    lines = jobrt_command("show", "1").out.splitlines()
    first = lines[lines.index("    Traceback (most recent call last):") + 1]
    assert "shop.py" in first
    assert user_frames("no traceback") == "no traceback"


def test_only_waiting_jobs_are_due(jobrt_command: Command) -> None:
    """A job that has ended is due no more."""
    jobrt_command("enqueue", "hello", "name=x")
    jobrt_command("enqueue", "hello", "name=y", "--in", "1h")
    jobrt_command("cancel", "1")
    lines = [line.split("\t") for line in jobrt_command("jobs").out.splitlines()]
    due = lines[0].index("due")
    assert lines[1][due].startswith("in 59 min")
    assert lines[2][due] == "-"


def test_an_error_in_a_group_is_one_line() -> None:
    """Of a group, each different error is printed once, without its frame of lines."""
    group = ExceptionGroup(
        "several", [JobrtError("a\nb"), ExceptionGroup("more", [JobrtError("a b"), KeyError("c")])]
    )
    assert in_one_line(group) == "a b; KeyError: 'c' (set JOBRT_DEBUG=1 to see the traceback)"


def test_unusable_databases_are_reported_in_one_line(jobrt_command: Command, shop: Path) -> None:
    """Each error is one line that names the problem."""
    (shop / "note.txt").write_text("not a database, but long enough to look like one" * 50)
    done = jobrt_command("--url", f"sqlite:///{shop}/note.txt", "jobs")
    assert done.status == 1
    assert "note.txt" in done.err
    url = f"sqlite:///{shop}/new.db"
    assert jobrt_command("--url", url, "migrate").out.startswith("applied 0001_first")
    assert jobrt_command("--url", url, "migrate").out == "up to date\n"
    with sqlite3.connect(shop / "new.db") as conn:
        conn.execute(
            "insert into jobrt_migration select '9999_future', applied_at from jobrt_migration limit 1"
        )
    conn.close()
    done = jobrt_command("--url", url, "jobs")
    assert done.status == 1
    assert "newer" in done.err


def test_a_drain_tells_of_due_jobs_that_it_leaves(jobrt_command: Command, shop: Path) -> None:
    """They may be for newer code, for instance."""
    (shop / "newer.py").write_text(
        'import jobrt\napp = jobrt.App(queues={"default": 1})\n@app.job\nasync def unheard_of(ctx): ...\n'
    )
    assert jobrt_command("--app", "newer:app", "enqueue", "unheard_of").status == 0
    done = jobrt_command("worker", "--drain")
    assert done.status == 0
    assert "queue default: due jobs that this worker cannot run now: 1; `python -m jobrt doctor`" in done.err
    assert jobrt_command("--app", "newer:app", "worker", "--drain").err.count("cannot run now") == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class A(jobrt.Job):\n    MAX_ATTEMPTS = 0\n    async def run(self, ctx): ...", "MAX_ATTEMPTS"),
        ("app = jobrt.App(queues={'mail': 0})", "mail"),
        (
            (
                "class A(jobrt.Job):\n    async def run(self, ctx): ...\n"
                "class B(jobrt.Job):\n    NAME = 'A'\n    async def run(self, ctx): ...\napp = jobrt.App(jobs=[A, B])"
            ),
            "'A'",
        ),
        (
            (
                "class A(jobrt.Job):\n    QUEUE = 'post'\n    async def run(self, ctx): ...\n"
                "app = jobrt.App(jobs=[A], queues={'mail': 1})"
            ),
            "queue 'post' is needed by A",
        ),
    ],
)
def test_an_invalid_application_is_reported_in_one_line(
    jobrt_command: Command, shop: Path, source: str, message: str, request: pytest.FixtureRequest
) -> None:
    """An invalid program is refused before any job runs."""
    name = f"broken_{abs(hash(request.node.name))}"
    (shop / f"{name}.py").write_text(f"import jobrt\n{source}\n")
    done = jobrt_command("--app", f"{name}:app", "worker", "--drain")
    assert done.status == 1
    assert message in done.err
    assert "Traceback" not in done.err
