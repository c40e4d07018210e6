"""The benchmarks run; how fast they are is no matter here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_scenario_gives_its_figures_on_tiny_sizes(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--rounds", "2", "--scale", "0.001"]
    done = subprocess.run(
        [*command, "--directory", str(tmp_path), "--json", str(file)], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert {"Python", "SQLite", "CPUs"} <= report["machine"].keys()
    assert len(report["figures"]) == 20
    for figure in report["figures"]:
        assert len(figure["values"]) == 2
        assert figure["lowest"] <= figure["median"] <= figure["highest"]
        assert figure["name"] in done.stdout
    assert list(tmp_path.iterdir()) == [file]


def test_the_stages_of_a_job_add_up_to_the_whole(tmp_path: Path) -> None:
    figures = run(tmp_path, "stages")
    for what in ("one enqueue", "enqueue_many", "a job claimed, run and stored"):
        parts = {name: value for name, value in figures.items() if name.startswith(f"{what}: ")}
        whole = parts.pop(f"{what}: in all")
        assert abs(sum(parts.values()) - whole) < 0.01 * whole + 0.01
        assert all(value >= 0 for value in parts.values())


def test_growth_is_measured_over_rows_threads_processes_payloads_memory_and_limits(tmp_path: Path) -> None:
    names = run(tmp_path, "growth")
    for part in (
        "succeeded jobs",
        "scheduled jobs",
        "64 workers",
        "8 processes",
        "1,000,000 bytes",
        "have added",
        "blocked jobs",
    ):
        assert any(part in name for name in names)


def run(tmp_path: Path, group: str) -> dict[str, float]:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", group, "--rounds", "1", "--scale", "0.0005", "--directory", str(tmp_path)]
    done = subprocess.run([*command, "--json", str(file)], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return {figure["name"]: figure["median"] for figure in json.loads(file.read_text())["figures"]}


def test_an_unknown_group_is_refused(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks", "speed"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert "speed is none of drain, enqueue, cost, latency, stages, growth" in done.stderr
