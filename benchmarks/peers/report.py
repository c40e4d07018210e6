"""The report of a run: medians and spread of everything, as JSON's tree and as tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import short
from benchmarks.peers.catalogue import YARDSTICKS
from benchmarks.peers.goals import DISTANCES, GOALS, Median, judge
from benchmarks.peers.scenarios import LIMIT_S, LIMITS, SCENARIOS, Scenario

_NONE = "–"
_LIMITED = f"\\* not all jobs ran within {LIMIT_S:.0f} s: by what had run until then."
_BEGIN, _END = "<!-- peers: begin -->", "<!-- peers: end -->"


class Results:
    """All answers, by scenario and participant."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def add(self, scenario: str, who: str, answer: dict[str, Any]) -> None:
        self._answers.setdefault((scenario, who), []).append(answer)

    def of(self, scenario: str, who: str) -> list[dict[str, Any]]:
        return self._answers.get((scenario, who), [])

    def values(self, scenario: str, who: str, figure: str) -> list[float]:
        found = (answer["figures"].get(figure) for answer in self.of(scenario, who))
        return [value for value in found if value is not None]

    def median(self, who: str, scenario: str, figure: str) -> float | None:
        values = self.values(scenario, who, figure)
        return statistics.median(values) if values else None

    def notes(self, who: str) -> str:
        return next(
            (
                answer["note"]
                for (_, name), rounds in self._answers.items()
                if name == who
                for answer in rounds
                if answer.get("note")
            ),
            "",
        )

    def summary(self) -> list[dict[str, Any]]:
        """Return one tree for each scenario and participant."""
        rows = []
        for (scenario, who), rounds in self._answers.items():
            figures = {name for answer in rounds for name in answer["figures"]}
            row: dict[str, Any] = {"scenario": scenario, "who": who, "figures": {}}
            for figure in sorted(figures):
                values = self.values(scenario, who, figure)
                if values:
                    row["figures"][figure] = {
                        "median": statistics.median(values),
                        "lowest": min(values),
                        "highest": max(values),
                        "values": values,
                    }
            row["samples"] = [round(sample, 4) for answer in rounds for sample in answer.get("samples", [])]
            row["level"] = next((answer["level"] for answer in rounds if "level" in answer), None)
            row["cannot"] = next((answer["cannot"] for answer in rounds if "cannot" in answer), None)
            row["failed"] = [answer["failed"] for answer in rounds if "failed" in answer]
            rows.append(row)
        return rows

    def goals(self) -> list[dict[str, Any]]:
        return judge(GOALS, _as_median(self))

    def distances(self) -> list[dict[str, Any]]:
        return judge(DISTANCES, _as_median(self))


def _as_median(results: Results) -> Median:
    return results.median


def tables(results: Results, participants: Sequence[dict[str, Any]], heading: str) -> str:
    """Return all of it in Markdown."""
    ran = [participant["name"] for participant in participants if participant["skipped"] is None]
    peers = [name for name in ran if name not in {one.name for one in YARDSTICKS}]
    parts = [heading, _comparison(results, peers), _goals(results), _limits(results), _who(results, participants)]
    failures = _failures(results, ran)
    return "\n\n".join([*parts, *([failures] if failures else [])]) + "\n"


def write_between_marks(file: Path, text: str) -> None:
    """Put the text into a page, where its two marks are, or make it the file."""
    page = file.read_text(encoding="utf-8") if file.exists() else ""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    file.write_text(f"{before}{begin}\n\n{text}\n{end}{after}" if end else text, encoding="utf-8")


def _comparison(results: Results, peers: list[str]) -> str:
    rows = []
    for scenario in SCENARIOS:
        for row in scenario.rows:
            cells = [_cell(results, scenario, name, row.figure) for name in peers]
            if any(results.of(scenario.key, name) for name in peers):
                rows.append([f"{row.title} ({row.unit})", *cells])
    table = _table(["", *peers], rows)
    return f"{table}\n\n{_LIMITED}" if any(cell.endswith("*") for row in rows for cell in row) else table


def _limits(results: Results) -> str:
    rows = [
        [f"{row.title} ({row.unit})", _cell(results, scenario, scenario.by, row.figure)]
        for scenario in LIMITS
        for row in scenario.rows
        if results.of(scenario.key, scenario.by)
    ]
    known = [distance for distance in results.distances() if distance["value"] is not None]
    reached = [[distance["what"], _number(distance["value"])] for distance in known]
    return _table(["the machine", ""], rows) + "\n\n" + _table(["schedfactory", "share of it"], reached)


def _goals(results: Results) -> str:
    rows = []
    for goal in results.goals():
        bound = f"≥ {short(goal['at_least'])}" if goal["at_least"] is not None else f"≤ {short(goal['at_most'])}"
        verdict = {True: "reached", False: "**not reached**", None: _NONE}[goal["reached"]]
        rows.append([f"{goal['what']} ({goal['unit']})", bound, _number(goal["value"]), verdict])
    return _table(["reach", "", "", ""], rows)


def _who(results: Results, participants: Sequence[dict[str, Any]]) -> str:
    rows = []
    for participant in participants:
        name = participant["name"]
        syncs = participant["syncs"]
        levels = [f"{_level(results, name, level)}; {_number(syncs.get(level))}" for level in ("full", "normal")]
        remark = f"skipped: {participant['skipped']}" if participant["skipped"] is not None else results.notes(name)
        rows.append([name, ", ".join(participant["packages"]), *levels, remark])
    return _table(["", "version", "full: its connection; syncs an enqueue", "normal", ""], rows)


def _level(results: Results, who: str, durability: str) -> str:
    """Return what the connection said of itself."""
    scenarios = [scenario.key for scenario in (*SCENARIOS, *LIMITS) if scenario.durability == durability]
    found = {", ".join(answer["level"].values()) for key in scenarios for answer in results.of(key, who) if "level" in answer}
    return " / ".join(sorted(found)) or _NONE


def _failures(results: Results, ran: Iterable[str]) -> str:
    found = [
        f"- {who}, {scenario.key}: {answer['failed']}"
        for scenario in (*SCENARIOS, *LIMITS)
        for who in ran
        for answer in results.of(scenario.key, who)
        if "failed" in answer
    ]
    return "Failed:\n\n" + "\n".join(found) if found else ""


def _cell(results: Results, scenario: Scenario, who: str, figure: str) -> str:
    values = results.values(scenario.key, who, figure)
    if not values:
        return "failed" if any("failed" in answer for answer in results.of(scenario.key, who)) else _NONE
    middle = short(statistics.median(values))
    cell = middle if len(values) == 1 else f"{middle} ({short(min(values))} … {short(max(values))})"
    return f"{cell}*" if any(share < 1 for share in results.values(scenario.key, who, "done")) else cell


def _number(value: float | None) -> str:
    return _NONE if value is None else short(value)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
