"""Archive a folder: one job a file, which takes its checksum and compresses it, the largest files first.

    python examples/archive.py DIR [TARGET]

The compressed files go to TARGET, which is DIR-archive unless said; what became of each file stays in archive.db.
"""

import gzip
import hashlib
import sys
from pathlib import Path
from typing import TypedDict

from sqlalchemy import text

from schedfactory import Call, Scheduler, WaitTimeout, current_job

scheduler = Scheduler("archive.db")

SLOWEST = text("""
    SELECT json_extract(args, '$.file') AS file, run_ms, json_extract(result, '$.size') AS size,
        json_extract(result, '$.packed') AS packed
    FROM schedfactory_history
    WHERE task = 'archive.pack' AND status = 'succeeded'
    ORDER BY run_ms DESC
    LIMIT 5
""")


class Packed(TypedDict):
    sha256: str
    size: int
    packed: int


@scheduler.task(name="archive.pack")
def pack(file: Path, target: Path) -> Packed:
    job = current_job()
    size, done, checksum = file.stat().st_size, 0, hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with file.open("rb") as source, gzip.open(part, "wb") as packed:
        while block := source.read(1 << 20):
            job.raise_if_cancelled()
            checksum.update(block)
            packed.write(block)
            done += len(block)
            job.set_progress(min(done / size, 1), file.name)
    part.replace(target)
    return {"sha256": checksum.hexdigest(), "size": done, "packed": target.stat().st_size}


def calls(folder: Path, target: Path) -> list[Call[Packed]]:
    # archive.db is left out: to open and close a database file that is in use drops SQLite's locks on it.
    files = [file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("archive.db")]
    sizes = {file: file.stat().st_size for file in files}
    return [  # one step of priority for each doubling in size; jobs of one priority run in the order of this list
        pack.options(priority=sizes[file].bit_length()).call(file, target / f"{file.relative_to(folder)}.gz")
        for file in sorted(files, key=sizes.__getitem__, reverse=True)
    ]


def is_busy() -> bool:
    try:
        scheduler.wait_idle(timeout="500ms")
    except WaitTimeout:
        return True
    return False


def main(folder: Path, target: Path) -> None:
    jobs = scheduler.enqueue_many(calls(folder, target))
    if len(jobs) > 1:
        smallest = jobs[-1].cancel()
        print(f"{smallest.args['file']} is not worth it: {smallest.status}\n")

    with scheduler.running(workers=4):
        while is_busy():
            for job in scheduler.jobs(status="running"):
                print(f"{job.progress or 0:5.0%}  {job.progress_message or job.task}", flush=True)

    for job in (job.refresh() for job in jobs):
        outcome = job.result["sha256"] if job.result else job.error or job.reason
        print(f"{job.status:9}  priority {job.priority:2}  {job.args['file']}  {outcome}")

    print("\nThe slowest:")
    with scheduler.reading() as connection:
        for row in connection.execute(SLOWEST):
            print(f"{row.run_ms:8.1f} ms  {row.size:>13,} -> {row.packed:,} bytes  {row.file}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    folder = Path(sys.argv[1]).resolve()
    main(folder, Path(sys.argv[2]).resolve() if len(sys.argv) == 3 else folder.with_name(f"{folder.name}-archive"))
