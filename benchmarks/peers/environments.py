"""An environment of its own for each peer, made once and kept: a venv with pinned packages, or a folder of npm's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_MADE = "made-of.txt"


class NotInstalled(Exception):
    """It does not install here, and why."""


def default_folder() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "schedfactory-benchmarks"


class Environments:
    """They lie under one folder; an environment whose packages have changed is made anew."""

    def __init__(self, folder: Path, offline: bool) -> None:
        self._folder, self._offline = folder.absolute(), offline

    def python(self, name: str, packages: tuple[str, ...]) -> Path:
        """Return the interpreter of a venv that has these packages.

        Raises:
            NotInstalled: pip says no, or it would have to be asked and may not.
        """
        version = ".".join(map(str, sys.version_info[:2]))
        folder = self._folder / f"{name}-python{version}"
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        if not self._is_made(folder, packages):
            _run([sys.executable, "-m", "venv", "--clear", str(folder)], "venv")
            quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
            _run([str(python), "-m", "pip", "install", *quiet, *packages], "pip")
            self._keep(folder, packages)
        return python

    def node(self, name: str, packages: tuple[str, ...]) -> Path:
        """Return a folder with `node_modules`."""
        if shutil.which("node") is None or shutil.which("npm") is None:
            raise NotInstalled("no node and npm on this machine")
        folder = self._folder / f"{name}-node"
        if not self._is_made(folder, packages):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / "package.json").write_text('{"private": true}\n')
            _run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *packages], "npm")
            self._keep(folder, packages)
        return folder

    def _is_made(self, folder: Path, packages: tuple[str, ...]) -> bool:
        made = folder / _MADE
        if made.exists() and made.read_text() == "\n".join(packages):
            return True
        if self._offline:
            raise NotInstalled("not installed, and --offline")
        return False

    def _keep(self, folder: Path, packages: tuple[str, ...]) -> None:
        (folder / _MADE).write_text("\n".join(packages))


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{what} did not end within 15 minutes") from None
    if done.returncode != 0:
        raise NotInstalled(f"{what}: {_reason(done.stdout + done.stderr)}")


def _reason(said: str) -> str:
    """Return the line that tells most of what an installer says."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for wanted in ("No matching distribution", "failed to download", "ERR_", "Error", "error"):
        for line in lines:
            if wanted in line:
                return _brief(line)
    return _brief(lines[-1]) if lines else "no reason given"


def _brief(line: str) -> str:
    """Leave out where this machine gets its packages from."""
    return re.sub(r"`?\w+://\S+", "…", line.removeprefix("ERROR: "))[:160]
