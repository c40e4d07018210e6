"""A PostgreSQL server of this run's own, where Debian's or another package has put one; stopped and deleted at the end."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

_PLACES = ("/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb", "/opt/homebrew/opt/postgresql*/bin/initdb")
_ROLE = "benchmarks"


class NoServer(Exception):
    """There is none, or it does not start here."""


class Server:
    """Listens on a socket in its own folder only. Everything is as PostgreSQL ships it, but for fsync, which is said."""

    def __init__(self, directory: Path) -> None:
        self._programs = _programs()
        self._user = _unprivileged()
        self._folder = Path(tempfile.mkdtemp(prefix="schedfactory-postgresql-", dir=directory))
        self._numbers = itertools.count()
        self._is_running = False
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        try:
            self._do("initdb", "-D", "data", "-U", _ROLE, "-A", "trust", "-E", "UTF8", "--locale=C")
            options = f"-c listen_addresses='' -c unix_socket_directories='{self._folder}' -c fsync=on -c max_connections=200"
            self._do("pg_ctl", "-D", "data", "-l", "log", "-w", "-t", "60", "-o", options, "start")
            self._is_running = True
        except BaseException:
            self.stop()
            raise

    def version(self) -> str:
        return self._do("postgres", "--version").split()[2]

    def make_database(self) -> str:
        """Return the URL of an empty one."""
        name = f"round_{next(self._numbers)}"
        self._do("createdb", "-h", str(self._folder), "-U", _ROLE, name)
        return f"postgresql://{_ROLE}@/{name}?host={self._folder}"

    def drop_database(self, url: str) -> None:
        name = url.split("/")[3].split("?")[0]
        self._do("dropdb", "-h", str(self._folder), "-U", _ROLE, "--force", name)

    def stop(self) -> None:
        if self._is_running:
            self._is_running = False
            self._do("pg_ctl", "-D", "data", "-m", "fast", "-w", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _do(self, program: str, *arguments: str) -> str:
        with tempfile.TemporaryFile("w+") as output:  # no pipe: the server would keep it open
            done = subprocess.run(
                [self._programs / program, *arguments],
                cwd=self._folder,
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=120,
            )
            output.seek(0)
            said = output.read().strip()
        if done.returncode != 0:
            raise NoServer(f"{program}: {said.splitlines()[-1] if said else done.returncode}")
        return said


def _programs() -> Path:
    """Return the folder of the newest server's programs."""
    found = [path for pattern in _PLACES for path in Path("/").glob(pattern.lstrip("/"))]
    on_path = shutil.which("initdb")
    if on_path is not None:
        found.append(Path(on_path).resolve())
    if not found:
        raise NoServer("no PostgreSQL server (initdb, pg_ctl) on this machine")
    return max(found, key=lambda path: [int(part) for part in path.as_posix().split("/") if part.isdigit()]).parent


def _unprivileged() -> str | None:
    """Return the name of somebody else where this is root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoServer("no unprivileged user to run PostgreSQL as")
