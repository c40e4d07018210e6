"""What it costs to have it: the import, and a factory that has nothing to do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Bench, Figure
from schedfactory import Scheduler

_IMPORT = "import time; began = time.process_time(); import schedfactory; print(time.process_time() - began)"


def imported(bench: Bench) -> list[Figure]:
    answer = subprocess.run([sys.executable, "-c", _IMPORT], check=True, capture_output=True, text=True)
    return [Figure("import schedfactory", float(answer.stdout), "CPU s", at_most=0.35)]


def idle(bench: Bench) -> list[Figure]:
    """In a process of its own, because the counters are a process's."""
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.cost", str(bench.file()), str(bench.many(20))],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    seconds, cpu, written = map(float, answer.stdout.split())
    return [
        Figure("idle with 4 workers", cpu * 60 / seconds, "CPU s/min", at_most=0.2),
        Figure("written while idle", written * 60 / seconds, "bytes/min", at_most=0),
    ]


def _be_idle(path: Path, seconds: float) -> None:
    scheduler = Scheduler(path)
    job = scheduler.task(_nothing).enqueue()
    with scheduler.running(workers=4):
        job.wait("1m")
        time.sleep(1)  # for the last round of the dispatcher
        files, written, cpu, began = _files(path), _written(), time.process_time(), time.monotonic()
        time.sleep(seconds)
        cpu, took = time.process_time() - cpu, time.monotonic() - began
        written = _written() - written
        if written == 0 and _files(path) != files:
            written = sum(size for _, size, _ in _files(path))
    print(took, cpu, written)


def _nothing() -> None:
    pass


def _files(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of the last write of the database's files."""
    return [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in sorted(path.parent.glob(f"{path.name}*"))]


def _written() -> int:
    """Return how many bytes this process has had written; 0 where the system does not count them."""
    counts = Path(f"/proc/{os.getpid()}/io")
    if not counts.exists():
        return 0
    return int(dict(line.split(": ") for line in counts.read_text().splitlines())["write_bytes"])


SCENARIOS = [imported, idle]

if __name__ == "__main__":
    _be_idle(Path(sys.argv[1]), float(sys.argv[2]))
