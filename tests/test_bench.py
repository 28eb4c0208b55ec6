"""The benchmarks work: without a network, without peers, on a few jobs. What they measure is not looked at."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.bench import peers, postgres
from tests.bench.measuring import rounds
from tests.bench.measuring.databases import PostgresDatabases
from tests.bench.measuring.processes import Bench, Contestant
from tests.bench.measuring.rounds import Results, Sizes, enter
from tests.bench.measuring.tables import Spread, markdown, number, spreads
from tests.bench.measuring.targets import OURS, Target, judge, report
from tests.bench.peers import PEERS
from tests.bench.peers.harness import Marks
from tests.support.postgres import Server

pytestmark = pytest.mark.unmeasured

BENCH = Path(__file__).parent / "bench"
TINY = ("--repeat=1", "--jobs=200", "--pulses=5", "--seconds=0.2", "--idle=0.1")


def run(script: str, *arguments: str) -> str:
    """Run a benchmark and return its tables."""
    command = [sys.executable, str(BENCH / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=220)
    assert done.returncode == 0, done.stderr
    return done.stdout


def only_round(file: Path) -> dict[str, Any]:
    """Return what a run of one round measured."""
    measured = json.loads(file.read_text(encoding="utf-8"))["rounds"]
    (figures,) = measured[OURS] if isinstance(measured, dict) else measured
    return dict(figures)


linux = pytest.mark.skipif(
    sys.platform != "linux", reason="processes are measured by what Linux tells of them"
)


@linux
@pytest.mark.process
def test_postgres_benchmark(postgres_server: Server, tmp_path: Path) -> None:
    """The PostgreSQL benchmark drains all jobs, measures everything that must be reached, and judges what it can."""
    file = tmp_path / "figures.json"
    said = run("postgres.py", f"--conninfo={postgres_server.admin}", "--peers=", f"--json={file}", *TINY)
    figures = only_round(file)
    assert figures["drained %"] == 100
    assert all(
        figures[name] > 0 for name in ("one /s", "bulk /s", "drain /s", "call p99 ms", "WAL B", "commits")
    )
    assert figures["dead rows"] == pytest.approx(2, abs=0.5)
    assert "| commits per job" in said
    assert "not measured" in said  # no peer, no ratio


def test_peer_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """A peer that cannot be installed is a row that says so, and jobrt is measured without it."""
    results = Results()
    wanted = [PEERS["jobrt"], attrs.evolve(PEERS["oban"], python=(3, 99))]
    assert [one.name for one in enter(wanted, ["default", "best"], results)] == [OURS]
    postgres.show(results)
    assert "| oban   | cannot be installed: needs Python 3.99 or newer" in capsys.readouterr().out


def test_client_that_fails(postgres_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contestant whose process fails is one line that says why, and nothing else of it is measured."""
    (tmp_path / "adapter_broken.py").write_text("raise SystemExit('no such table')", encoding="utf-8")
    monkeypatch.setattr(peers, "HERE", tmp_path)
    broken = Contestant(attrs.evolve(PEERS["jobrt"], name="broken"), "best", sys.executable)
    results = Results()
    rounds.run(Bench(PostgresDatabases(postgres_server), tmp_path), [broken], Sizes(repeat=1), results)
    assert results.failures == {"broken best": "one: setup: no such table"}
    assert results.rounds == {"broken best": [{}]}


@linux
@pytest.mark.process
def test_sqlite_benchmark(tmp_path: Path) -> None:
    """The SQLite benchmark drains all jobs and judges them."""
    file = tmp_path / "figures.json"
    said = run("sqlite.py", f"--json={file}", *TINY)
    figures = only_round(file)
    assert figures["drained %"] == 100
    assert all(figures[name] > 0 for name in ("one /s", "bulk /s", "drain /s", "own p50 ms", "call p99 ms"))
    assert "| drained per second" in said


@pytest.mark.process
def test_shapes_benchmark(postgres_server: Server, tmp_path: Path) -> None:
    """The benchmark of shapes runs each of them on both engines, and judges their shares."""
    file = tmp_path / "figures.json"
    shapes = "--only=retry once,step,checkpoint,fan-in,unique bulk"
    arguments = (f"--conninfo={postgres_server.admin}", "--repeat=1", "--jobs=200", f"--json={file}", shapes)
    said = run("shapes.py", *arguments)
    measured = json.loads(file.read_text(encoding="utf-8"))["rounds"]
    assert {engine: len(rounds) for engine, rounds in measured.items()} == {"sqlite": 1, "postgres": 1}
    assert all(figure > 0 for rounds in measured.values() for figure in rounds[0].values())
    assert said.count("| retry once / noop") == 2


@pytest.mark.process
def test_families_benchmark(tmp_path: Path) -> None:
    """The benchmark of families measures its parts on SQLite; a figure that was not measured is not judged."""
    file = tmp_path / "figures.json"
    arguments = ("--engine=sqlite", "--repeat=1", "--scale=0.004", "--only=noop,family,tree,subtree")
    said = run("families.py", *arguments, f"--json={file}")
    ((figures,),) = json.loads(file.read_text(encoding="utf-8"))["rounds"].values()
    assert figures["family"] > 0
    assert figures["fenced"] == 0
    assert "| wake by the last child, p50 in ms" in said


def test_ratio_of_rounds() -> None:
    """A ratio is the median of the rounds' ratios, against the peer and setting with the best median."""
    measured = {
        OURS: [{"drain /s": 30.0}, {"drain /s": 10.0}, {"drain /s": 40.0}],
        "slow best": [{"drain /s": 9.0}, {"drain /s": 1.0}, {"drain /s": 9.0}],
        "quick best": [{"drain /s": 10.0}, {"drain /s": 5.0}, {"drain /s": 20.0}],
        "gone default": [{}, {}, {}],
    }
    (verdict,) = judge(measured, [Target("drain", "drain /s", least=2.5)])
    assert verdict.rival == "quick best"
    assert verdict.value == Spread(2.0, 2.0, 3.0)
    assert verdict.met is False


def test_smaller_is_better() -> None:
    """Where the target is a ceiling the best rival is the one with the lowest figure."""
    measured = {OURS: [{"ms": 2.0}], "a default": [{"ms": 4.0}], "b best": [{"ms": 8.0}]}
    (verdict,) = judge(measured, [Target("start", "ms", most=1.0)])
    assert (verdict.rival, verdict.value.median, verdict.met) == ("a default", 0.5, True)


def test_named_rival() -> None:
    """A target may name one peer, whose name may begin like another's."""
    measured = {OURS: [{"one /s": 2.0}], "oban default": [{"one /s": 1.0}], "obanpro best": [{"one /s": 9.0}]}
    (verdict,) = judge(measured, [Target("one", "one /s", least=1.3, rival="oban")])
    assert verdict.value.median == 2.0


def test_nothing_measured() -> None:
    """What was not measured is neither met nor missed."""
    verdicts = judge(
        {OURS: [{}]}, [Target("drain", "drain /s", least=2.5), Target("m", "MiB", most=70, rival=None)]
    )
    assert [one.met for one in verdicts] == [None, None]
    assert report(verdicts).count("not measured") == 2


def test_spreads() -> None:
    """Figures that a round lacks, or could not have, are left out of the median."""
    figures = spreads([{"a": 1.0, "b": math.nan}, {"a": 3.0, "b": 5.0}, {"a": 8.0}])
    assert figures == {"a": Spread(3.0, 1.0, 8.0), "b": Spread(5.0, 5.0, 5.0)}
    assert [str(one) for one in figures.values()] == ["3.00 (1.00-8.00)", "5.00"]


def test_markdown() -> None:
    """Names stand to the left and figures to the right, in columns."""
    assert markdown(("x", "y"), [("name", number(12345.6))]) == (
        "| x    |      y |\n|------|-------:|\n| name | 12,346 |"
    )


def test_marks(tmp_path: Path) -> None:
    """Marks made in one process are seen through another map of the file, in the order of time."""
    ours = Marks.make(tmp_path / "marks", 3)
    theirs = Marks(tmp_path / "marks")
    assert not ours.begun
    assert not ours.all_begun(1)
    for job in (2, 0, 1, 99):  # the last is of nobody's interest
        theirs.hit(job)
    assert ours.begun == ours.start(2)
    assert ours.all_begun(3)
    assert ours.starts() == sorted(ours.start(job) for job in range(3))
