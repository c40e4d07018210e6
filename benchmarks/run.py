"""The rounds, the table and the JSON file."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import cost, drain, enqueue, growth, latency, stages
from benchmarks.figures import Bench, Figure, Scenario, short
from benchmarks.machine import describe

_DESCRIPTION = "Measure schedfactory on this machine. `python -m benchmarks peers --help`: beside its peers."
GROUPS = {"drain": drain.SCENARIOS, "enqueue": enqueue.SCENARIOS, "cost": cost.SCENARIOS, "latency": latency.SCENARIOS}
MORE = {"stages": stages.SCENARIOS, "growth": growth.SCENARIOS}  # if they are named


def main(arguments: list[str] | None = None) -> None:
    chosen = _parse(arguments)
    scenarios = [scenario for group in chosen.groups or GROUPS for scenario in (GROUPS | MORE)[group]]
    measured: dict[str, list[Figure]] = {}
    for number in range(1, chosen.rounds + 1):
        for scenario in scenarios:
            print(f"round {number}: {scenario.__module__}.{scenario.__name__}", file=sys.stderr)
            for figure in _measure(scenario, chosen.directory, chosen.scale):
                measured.setdefault(figure.name, []).append(figure)
    machine = describe(chosen.directory)
    rows = [_summary(figures) for figures in measured.values()]
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"median of {chosen.rounds} rounds, with the lowest and the highest\n")
    for row in rows:
        print(_line(row))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"machine": machine, "scale": chosen.scale, "figures": rows}, indent=2) + "\n")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=_DESCRIPTION)
    parser.add_argument(
        "groups", nargs="*", metavar="GROUP", help=f"{', '.join(GROUPS)}; these if none is named; {', '.join(MORE)}"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1, help="share of the jobs and seconds of a full run")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="where the databases are made")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    chosen = parser.parse_args(arguments)
    for group in chosen.groups:
        if group not in GROUPS | MORE:
            parser.error(f"{group} is none of {', '.join(GROUPS | MORE)}")
    return chosen


def _measure(scenario: Scenario, directory: Path, scale: float) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="schedfactory-benchmarks-", dir=directory) as folder:
        figures = scenario(Bench(Path(folder), scale))
    gc.collect()
    return figures


def _summary(figures: list[Figure]) -> dict[str, Any]:
    values = [figure.value for figure in figures]
    first = figures[0]
    return {
        "name": first.name,
        "unit": first.unit,
        "median": statistics.median(values),
        "lowest": min(values),
        "highest": max(values),
        "values": values,
        "at_least": first.at_least,
        "at_most": first.at_most,
    }


def _line(row: dict[str, Any]) -> str:
    numbers = f"{short(row['median']):>9} {row['unit']:<10}"
    spread = f"{short(row['lowest'])} … {short(row['highest'])}"
    return f"{row['name']:<44}{numbers} {spread:<22}{_verdict(row)}".rstrip()


def _verdict(row: dict[str, Any]) -> str:
    for bound, sign in (("at_least", ">="), ("at_most", "<=")):
        if row[bound] is not None:
            is_met = row["median"] >= row[bound] if bound == "at_least" else row["median"] <= row[bound]
            return f"{sign} {short(row[bound])} {'yes' if is_met else 'NO'}"
    return ""
