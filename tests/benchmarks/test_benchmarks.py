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


def test_an_unknown_group_is_refused(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks", "speed"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert "speed is none of drain, enqueue, cost, latency" in done.stderr
