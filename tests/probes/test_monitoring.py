"""Tests of the files in `examples/monitoring`: they use what a worker tells, and what the commands take."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import promql_parser
import pytest
import trio
import yaml
from trio.testing import MockClock

import jobrt
from jobrt.cli import cli
from jobrt.probes.exposition import exposition
from jobrt.probes.families import Family
from jobrt.probes.report import Reporter
from jobrt.testing import open_app

FILES = Path(__file__).parents[2] / "examples" / "monitoring"


class Fail(jobrt.Job):
    """Job that fails."""

    async def run(self, ctx: jobrt.Context) -> None:
        raise LookupError("no")


def rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    (group,) = yaml.safe_load((FILES / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard."""
    found: list[dict[str, Any]] = json.loads((FILES / "grafana.json").read_text(encoding="utf-8"))["panels"]
    return found


def expressions() -> Iterator[str]:
    """Return all expressions, with an interval instead of Grafana's variable."""
    yield from (rule["expr"] for rule in rules())
    for panel in panels():
        yield from (target["expr"].replace("$__rate_interval", "5m") for target in panel["targets"])


async def families() -> list[Family]:
    """Return the families that a worker tells."""
    async with open_app(jobs=[Fail]) as (app, jobs):
        reporter, names = Reporter(app), list[Family]()
        await jobs.enqueue(Fail())
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            await worker.wait_idle()
            names += (await reporter.report()).families
            await worker.stop()
    return names


async def test_they_use_metrics_that_there_are(autojump_clock: MockClock) -> None:
    """Each name in an expression is that of a sample."""
    found = await families()
    known = {f"{family.name}_total" if family.kind == "counter" else family.name for family in found}
    known |= {sample[0] for family in found for sample in family.samples}
    used = {name for text in expressions() for name in re.findall(r"\bjobrt_\w+", text)}
    assert used <= known
    assert len(used) > 15


async def test_their_expressions_are_valid(autojump_clock: MockClock) -> None:
    """A parser of PromQL accepts each, types and functions included. Labels are those that the metrics have."""
    labels = defaultdict[str, set[str]](set)
    for family in await families():
        for name, known, _ in family.samples:
            labels[name] |= known.keys() | {"instance", "job"}  # Prometheus adds these two
    checked = 0
    for text in expressions():
        tree = promql_parser.parse(text.replace("$instance", ".*"))
        selectors, grouped = list[promql_parser.VectorSelector](), set[str]()
        promql_parser.walk(tree, partial(_collect, selectors=selectors, grouped=grouped))
        ours = [selector for selector in selectors if selector.name in labels]  # those that have samples here
        for selector in ours:
            assert {matcher.name for matcher in selector.matchers.matchers} <= labels[str(selector.name)], (
                text
            )
        if len(ours) == len(selectors):
            assert grouped <= set().union(*(labels[str(selector.name)] for selector in ours)), text
            checked += len(ours)
    assert checked > 15


def _collect(
    node: promql_parser.Expr, *, selectors: list[promql_parser.VectorSelector], grouped: set[str]
) -> None:
    """Note the selectors and the labels of groups in a part of an expression."""
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
        grouped.update(node.modifier.labels)
    if isinstance(node, promql_parser.MatrixSelector):
        selectors.append(node.vector_selector)
    if isinstance(node, promql_parser.VectorSelector):
        selectors.append(node)


def test_alerts_say_what_to_do() -> None:
    """Each has a severity, a summary and a remedy."""
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert {"summary", "remedy"} <= rule["annotations"].keys()


def test_panels_do_not_overlap() -> None:
    """Each has its own place, in 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.process
@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's package prometheus")
def test_promtool_accepts_them(tmp_path: Path) -> None:
    """The rules, the expressions of the dashboard, and the names and texts of the metrics."""
    recorded = [{"record": f"r{number}", "expr": text} for number, text in enumerate(expressions())]
    recorded = [{**rule, "expr": rule["expr"].replace("$instance", ".*")} for rule in recorded]
    (tmp_path / "all.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}))
    for file in (FILES / "alerts.yml", tmp_path / "all.yml"):
        subprocess.run(["promtool", "check", "rules", str(file)], check=True, capture_output=True)
    text = exposition(trio.run(families, clock=MockClock(autojump_threshold=0)), "")[0]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, check=False, capture_output=True)
    assert (done.returncode, done.stderr.decode()) == (0, "")


def check_command(words: list[str]) -> None:
    """Parse the words of a command line as jobrt does, without running anything."""
    assert words[1:3] == ["-m", "jobrt"]
    name, *arguments = words[3:]
    command = cli.commands[name]
    command.make_context(name, arguments, parent=click.Context(cli))


def test_the_unit_starts_what_there_is() -> None:
    """Its times fit each other: systemd waits for the grace period and five seconds."""
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(FILES / "jobrt.service", encoding="utf-8")
    service = unit["Service"]
    words = shlex.split(service["ExecStart"])
    check_command(words)
    assert service["Type"] == "notify"
    assert int(service["TimeoutStopSec"]) >= float(words[words.index("--grace") + 1]) + 5


def test_the_image_starts_and_checks_what_there_is() -> None:
    """Both commands are parsed."""
    text = (FILES / "Dockerfile").read_text(encoding="utf-8")
    lines = [json.loads(words) for words in re.findall(r"CMD (\[.+\])", text)]
    assert [words[3] for words in lines] == ["health", "worker"]
    for words in lines:
        check_command(words)
