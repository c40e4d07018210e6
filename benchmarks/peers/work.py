"""A driver's process: where it runs, what it is told, and what comes back of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.catalogue import Participant
from benchmarks.peers.environments import Environments, NotInstalled
from benchmarks.peers.postgresql import NoServer, Server
from benchmarks.peers.scenarios import Scenario, figures_of

_DRIVERS = Path(__file__).parent / "drivers"
_ROOT = Path(__file__).parents[2]
_PATIENCE_S = 900


class Workplace:
    """The environments, the PostgreSQL server if anybody needs one, and the folder in which all databases are made."""

    def __init__(self, directory: Path, environments: Environments) -> None:
        self._directory, self._environments = directory, environments
        self._server: Server | None = None
        self._commands: dict[str, tuple[list[str], dict[str, str]]] = {}

    def prepare(self, participant: Participant) -> str | None:
        """Make what it needs; return why it cannot take part, or None."""
        try:
            self._commands[participant.name] = self._command(participant)
            if participant.needs_postgresql and self._server is None:
                self._server = Server(self._directory)
        except (NotInstalled, NoServer) as reason:
            return str(reason)
        return None

    def postgresql(self) -> str | None:
        return None if self._server is None else self._server.version()

    def _command(self, participant: Participant) -> tuple[list[str], dict[str, str]]:
        script = str(_DRIVERS / participant.script)
        if participant.is_own:
            return [sys.executable, script], {
                "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
            }
        name = participant.name.lower()
        if participant.runs_on_node:
            return ["node", script], {"ENVIRONMENT": str(self._environments.node(name, participant.packages))}
        return [str(self._environments.python(name, participant.packages)), script], {"PYTHONPATH": ""}

    def run(self, participant: Participant, scenario: Scenario, scale: float, watch: Sequence[str] = ()) -> dict[str, Any]:
        """Return `figures`, `samples`, `level` and `note`, or `cannot` or `failed` with the reason; `watch` runs it all."""
        command, variables = self._commands[participant.name]
        with self._place(participant) as place:
            request = {
                "scenario": scenario.does,
                "place": place,
                "durability": scenario.durability,
                "parameters": scenario.parameters(scale),
            }
            answer = _ask([*watch, *command], variables, request)
        answer.setdefault("figures", {}).update(figures_of(answer.get("samples", [])))
        return answer

    @contextlib.contextmanager
    def _place(self, participant: Participant) -> Iterator[str]:
        if participant.needs_postgresql:
            assert self._server is not None
            url = self._server.make_database()
            try:
                yield url
            finally:
                self._server.drop_database(url)
        else:
            with tempfile.TemporaryDirectory(
                prefix="schedfactory-peers-", dir=self._directory, ignore_cleanup_errors=True
            ) as folder:
                yield str(Path(folder) / "queue.db")

    def plot(self, python: Path, report: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([python, _DRIVERS / "plot.py", report, folder], check=True, stdin=subprocess.DEVNULL)

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()


def _ask(command: list[str], variables: dict[str, str], request: dict[str, Any]) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **variables}
    try:
        done = subprocess.run(
            command, input=json.dumps(request) + "\n", capture_output=True, text=True, env=environment, timeout=_PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer within {_PATIENCE_S} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        said = done.stderr.strip().splitlines()
        return {"failed": f"ended with {done.returncode}: {said[-1] if said else 'nothing said'}"}
    answer: dict[str, Any] = json.loads(lines[-1])
    if "failed" in answer:
        sys.stderr.write(done.stderr)
    return answer


def find_node_version() -> str | None:
    node = shutil.which("node")
    return None if node is None else subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
