"""The command: who can take part, the rounds, and what is written at the end."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.peers.catalogue import PEERS, PLOTTER, US, YARDSTICKS, Participant
from benchmarks.peers.environments import Environments, NotInstalled, default_folder
from benchmarks.peers.report import Results, tables, write_between_marks
from benchmarks.peers.scenarios import LIMITS, SCENARIOS, Scenario
from benchmarks.peers.syncs import count_syncs
from benchmarks.peers.work import Workplace, find_node_version

_NAMES = {peer.name.lower(): peer for peer in PEERS}


def main(arguments: list[str] | None = None) -> None:
    chosen = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped and the folders go
    environments = Environments(chosen.environments, chosen.offline)
    workplace = Workplace(chosen.directory, environments)
    try:
        participants = _prepare(workplace, chosen.names)
        results = Results()
        running = [participant for participant, skipped in participants if skipped is None]
        _measure(workplace, running, results, chosen)
        syncs = {one.name: {level: count_syncs(workplace, one, level) for level in ("full", "normal")} for one in running}
        machine = {**describe(chosen.directory), "Node": find_node_version(), "PostgreSQL": workplace.postgresql()}
    finally:
        workplace.close()
    who = [
        {"name": one.name, "packages": list(one.packages), "skipped": skipped, "syncs": syncs.get(one.name, {})}
        for one, skipped in participants
    ]
    about = ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)
    heading = f"{about}; medians of {chosen.rounds} rounds (lowest … highest), scale {chosen.scale:g}, seed {chosen.seed}"
    text = tables(results, who, heading)
    print(text, end="")
    if chosen.markdown is not None:
        write_between_marks(chosen.markdown, text)
    report = {
        "machine": machine,
        "rounds": chosen.rounds,
        "scale": chosen.scale,
        "seed": chosen.seed,
        "participants": who,
        "results": results.summary(),
        "goals": results.goals(),
        "distances": results.distances(),
    }
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if chosen.plots is not None:
        _plot(workplace, environments, report, chosen.plots)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks peers",
        description="Measure schedfactory, its peers and the machine's limit with the same scenarios, taking turns.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="PEER", help=f"{', '.join(_NAMES)}; all if none is named; none: schedfactory alone"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1, help="share of the jobs, rows and seconds of a full run")
    parser.add_argument("--seed", type=int, default=1, help="of the order in which they take turns")
    parser.add_argument("--scenarios", nargs="+", metavar="KEY", help=f"{', '.join(one.key for one in (*SCENARIOS, *LIMITS))}")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="where the databases are made")
    parser.add_argument("--environments", type=Path, default=default_folder(), help="where the peers are installed, and kept")
    parser.add_argument("--offline", action="store_true", help="install nothing: who is not there is skipped")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables there, between its marks if it has them")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the plots there, as SVG")
    chosen = parser.parse_args(arguments)
    chosen.names = [name.lower() for name in chosen.names]
    for name in chosen.names:
        if name not in (*_NAMES, "none"):
            parser.error(f"{name} is none of {', '.join(_NAMES)}")
    known = [scenario.key for scenario in (*SCENARIOS, *LIMITS)]
    for key in chosen.scenarios or ():
        if key not in known:
            parser.error(f"{key} is none of {', '.join(known)}")
    return chosen


def _prepare(workplace: Workplace, names: list[str]) -> list[tuple[Participant, str | None]]:
    """Return each with the reason why it is skipped, or None."""
    peers = [_NAMES[name] for name in _NAMES if not names or name in names]
    found = []
    for participant in (US, *peers, *YARDSTICKS):
        print(f"preparing {participant.name}", file=sys.stderr)
        skipped = workplace.prepare(participant)
        if skipped is not None:
            print(f"skipped {participant.name}: {skipped}", file=sys.stderr)
        found.append((participant, skipped))
    return found


def _measure(workplace: Workplace, running: list[Participant], results: Results, chosen: argparse.Namespace) -> None:
    """Within each scenario they take turns, in another order each round."""
    order = random.Random(chosen.seed)
    for number in range(1, chosen.rounds + 1):
        for scenario in (*SCENARIOS, *LIMITS):
            if chosen.scenarios and scenario.key not in chosen.scenarios:
                continue
            able = [one for one in running if (one.name if one in YARDSTICKS else "") == scenario.by]
            for participant in order.sample(able, len(able)):
                if _is_known_to_be_unable(results, scenario, participant):
                    continue
                answer = workplace.run(participant, scenario, chosen.scale)
                results.add(scenario.key, participant.name, answer)
                print(f"round {number}: {scenario.key}, {participant.name}: {_brief(answer)}", file=sys.stderr)


def _is_known_to_be_unable(results: Results, scenario: Scenario, participant: Participant) -> bool:
    return any("cannot" in answer for answer in results.of(scenario.key, participant.name))


def _brief(answer: dict[str, Any]) -> str:
    for key in ("cannot", "failed"):
        if key in answer:
            return f"{key}: {answer[key]}"
    return ", ".join(f"{name} {value:,.4g}" for name, value in answer["figures"].items() if value is not None)


def _plot(workplace: Workplace, environments: Environments, report: dict[str, Any], folder: Path) -> None:
    try:
        python = environments.python("plots", PLOTTER)
    except NotInstalled as reason:
        print(f"no plots: {reason}", file=sys.stderr)
        return
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(report, file)
        file.flush()
        workplace.plot(python, Path(file.name), folder)
