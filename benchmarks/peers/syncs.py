"""How many times an enqueue makes the disk sync, seen from outside, by strace: what durability is really had."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmarks.peers.catalogue import MACHINE, Participant
from benchmarks.peers.scenarios import Scenario
from benchmarks.peers.work import Workplace

_FEW, _MORE = 20, 70


def count_syncs(workplace: Workplace, participant: Participant, durability: str) -> float | None:
    """Return it for jobs enqueued one by one, or None where it cannot be seen."""
    if shutil.which("strace") is None or participant.needs_postgresql or participant.name == MACHINE:
        return None
    counts = [_count(workplace, participant, durability, jobs) for jobs in (_FEW, _MORE)]
    return None if None in counts else (counts[1] - counts[0]) / (_MORE - _FEW)  # type: ignore[operator]


def _count(workplace: Workplace, participant: Participant, durability: str, jobs: int) -> int | None:
    scenario = Scenario("syncs", "singles", durability, lambda _scale: {"jobs": jobs})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "calls"
        watch = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", "signal=none", "-o", str(file)]
        answer = workplace.run(participant, scenario, 1, watch)
        if "failed" in answer or "cannot" in answer or not file.exists():
            return None  # strace may be there and not allowed
        lines = file.read_text().splitlines()
    return sum("sync(" in line for line in lines)
