"""Who takes part, and with which packages."""

from __future__ import annotations

import sys
from dataclasses import dataclass

OURS, MACHINE, POSTGRESQL = "schedfactory", "machine", "PostgreSQL"


@dataclass(frozen=True)
class Participant:
    """One driver; `packages` are what pip, or npm, installs for it, the peer itself first."""

    name: str
    script: str
    packages: tuple[str, ...] = ()
    runs_on_node: bool = False
    needs_postgresql: bool = False

    @property
    def is_own(self) -> bool:
        """Whether the environment of this project runs it."""
        return not self.packages


US = Participant(OURS, "drive_schedfactory.py")
_PSYCOPG = "psycopg[binary,pool]==3.3.9"
YARDSTICKS = (  # no queues: what the machine and another database can do
    Participant(MACHINE, "drive_machine.py"),
    Participant(POSTGRESQL, "drive_postgresql.py", (_PSYCOPG,), needs_postgresql=True),
)
_LITEQUEUE = "litequeue==0.14" if sys.version_info >= (3, 12) else "litequeue==0.9"  # what that Python can have
PEERS = (
    Participant("huey", "drive_huey.py", ("huey==3.5.4",)),
    Participant("APScheduler", "drive_apscheduler.py", ("apscheduler==3.11.3", "sqlalchemy==2.1.9")),
    Participant("persist-queue", "drive_persist_queue.py", ("persist-queue==1.1.0",)),
    Participant("litequeue", "drive_litequeue.py", (_LITEQUEUE,)),
    Participant("honker", "drive_honker.py", ("honker==0.5.0",)),
    Participant("plainjob", "drive_plainjob.mjs", ("plainjob@0.0.14", "better-sqlite3@12.11.1"), runs_on_node=True),
    Participant(
        "Procrastinate",
        "drive_procrastinate.py",
        ("procrastinate==3.10.0", _PSYCOPG),
        needs_postgresql=True,
    ),
    Participant("PgQueuer", "drive_pgqueuer.py", ("pgqueuer==1.6.0", "asyncpg==0.32.0"), needs_postgresql=True),
)
PLOTTER = ("matplotlib==3.11.2",)
