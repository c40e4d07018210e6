"""The comparison with the peers runs, says who is missing and why, and notices a peer that loses a job or runs one twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers.goals import DISTANCES, GOALS, judge
from benchmarks.peers.report import Results, tables, write_between_marks
from benchmarks.peers.scenarios import LIMITS, SCENARIOS

ROOT = Path(__file__).parents[2]
DRIVERS = ROOT / "benchmarks" / "peers" / "drivers"
PEERS = ["huey", "APScheduler", "persist-queue", "litequeue", "honker", "plainjob", "Procrastinate", "PgQueuer"]

SLOPPY = """
from peer import TASKS, Queue, Threads
from serve import serve


class Sloppy(Queue):
    def put(self, task, value):
        self.jobs = [*getattr(self, "jobs", []), (task, value)]

    def start(self, workers):
        jobs, self.jobs = self.jobs, []
        self.threads = Threads(lambda over: [TASKS[task](value) for task, value in (jobs * 2)[:RUNS]], 1)

    def stop(self):
        self.threads.stop()

    def level(self):
        return {}


serve(Sloppy)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "peers", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.timeout(320)
def test_without_a_network_schedfactory_and_the_machine_are_measured_and_every_peer_is_named(tmp_path: Path) -> None:
    work, file, page = tmp_path / "work", tmp_path / "figures.json", tmp_path / "page.md"
    work.mkdir()
    done = run(
        *("--offline", "--environments", str(tmp_path / "none"), "--directory", str(work)),
        *(
            "--rounds",
            "1",
            "--scale",
            "0.001",
            "--json",
            str(file),
            "--markdown",
            str(page),
            "--plots",
            str(tmp_path / "plots"),
        ),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    skipped = {one["name"]: one["skipped"] for one in report["participants"]}
    assert set(skipped) == {"schedfactory", "machine", "PostgreSQL", *PEERS}
    for name in PEERS:
        assert f"skipped: {skipped[name]}" in done.stdout
    assert skipped["schedfactory"] is skipped["machine"] is None
    _check_the_answers({(row["scenario"], row["who"]): row for row in report["results"]})
    assert {goal["what"]: goal["reached"] for goal in report["goals"]}["drained, full, to huey"] is None
    assert all(distance["value"] > 0 for distance in report["distances"])
    assert page.read_text() == done.stdout
    assert "no plots: not installed, and --offline" in done.stderr
    assert list(work.iterdir()) == []


def _check_the_answers(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    asked = [(one, "schedfactory") for one in SCENARIOS] + [(one, "machine") for one in LIMITS if one.by == "machine"]
    assert rows.keys() == {(scenario.key, who) for scenario, who in asked}
    for scenario, who in asked:
        row = rows[scenario.key, who]
        assert row["failed"] == []
        assert row["cannot"] is None
        assert row["level"] == {"journal": "wal", "synchronous": scenario.durability.upper()}
        for figure in scenario.rows:
            found = row["figures"][figure.figure]
            assert found["lowest"] <= found["median"] <= found["highest"]


def test_an_unknown_peer_and_an_unknown_scenario_are_refused() -> None:
    for arguments, said in (
        (["celery"], "celery is none of huey, "),
        (["--scenarios", "speed"], "speed is none of drain-full, "),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert said in done.stderr


def test_a_drain_in_which_every_job_runs_once_has_a_rate(tmp_path: Path) -> None:
    assert drained(tmp_path, runs=20)["figures"]["done"] == 1


def test_a_peer_that_runs_a_job_twice_has_failed(tmp_path: Path) -> None:
    assert "20 jobs were enqueued, and 21 ran" in drained(tmp_path, runs=21)["failed"]


def test_a_peer_that_loses_jobs_is_measured_by_what_ran_until_the_limit(tmp_path: Path) -> None:
    figures = drained(tmp_path, runs=10, limit_s=0.5)["figures"]
    assert figures["done"] == 0.5
    assert figures["rate"] <= 10 / 0.5


def drained(folder: Path, runs: int, limit_s: float = 60) -> dict[str, Any]:
    """Let a peer that runs so many of 20 jobs drain them."""
    script = folder / "sloppy.py"
    script.write_text(SLOPPY.replace("RUNS", str(runs)))
    parameters = {"jobs": 20, "workers": 1, "limit_s": limit_s}
    request = {"scenario": "drain", "place": str(folder / "q.db"), "durability": "full", "parameters": parameters}
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(request) + "\n",
        env={"PYTHONPATH": str(DRIVERS)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_goal_is_reached_missed_or_unknown() -> None:
    rates = {("schedfactory", "drain-full", "rate"): 30_000.0, ("huey", "drain-full", "rate"): 4_000.0}
    verdicts = {row["what"]: row["reached"] for row in judge(GOALS, lambda *key: rates.get(key))}
    assert verdicts["drained, full"] is True
    assert verdicts["drained, full, to huey"] is False
    assert verdicts["drained, full, to APScheduler"] is None
    assert all(row["reached"] is None for row in judge(DISTANCES, lambda *key: 1.0))


def test_threads_are_compared_with_the_best_peer_on_sqlite() -> None:
    rates = {"schedfactory": 9_000.0, "huey": 2_000.0, "persist-queue": 4_500.0, "PgQueuer": 90_000.0}
    rows = judge(GOALS, lambda who, scenario, figure: rates.get(who) if scenario == "threads-8" else None)
    (found,) = (row for row in rows if row["value"] is not None)
    assert (found["value"], found["reached"]) == (2.0, True)


def test_the_table_shows_medians_spread_losses_and_what_somebody_cannot() -> None:
    results = Results()
    for rate in (1_000, 3_000, 2_000):
        results.add("drain-full", "schedfactory", {"figures": {"rate": rate}, "level": {"journal": "wal"}})
    results.add("drain-full", "huey", {"figures": {"rate": 5_000, "done": 0.5}, "level": {"journal": "wal"}})
    results.add("drain-full", "honker", {"figures": {}, "failed": "a | b"})
    results.add("drain-full", "plainjob", {"figures": {}, "cannot": "no"})
    names = ("schedfactory", "huey", "honker", "plainjob")
    participants = [{"name": name, "packages": [], "skipped": None, "syncs": {}} for name in names]
    text = tables(results, participants, "heading")
    assert "drained by 4 workers, full (jobs/s) | 2,000 (1,000 … 3,000) | 5,000* | failed | – |" in text
    assert "* not all jobs ran within 15 s" in text
    assert "- honker, drain-full: a | b" in text
    assert "| drained, full, to huey (x) | ≥ 10 | 0.4 | **not reached** |" in text


def test_the_tables_are_put_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- peers: begin -->\nold\n<!-- peers: end -->\nafter\n")
    write_between_marks(page, "new\n")
    write_between_marks(page, "newer\n")
    assert page.read_text() == "before\n<!-- peers: begin -->\n\nnewer\n\n<!-- peers: end -->\nafter\n"
