"""The program in a process that is forked where the library is imported already, which is most of what a short command does."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import time
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

from schedfactory.cli import main

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["schedfactory.cli"])


def run(arguments: list[str], folder: Path, environment: dict[str, str], said: Path, timeout_s: float) -> CompletedProcess[str]:
    """Run a command to its end in `folder`; what it prints passes through files beside `said`."""
    files = [said.with_suffix(".out"), said.with_suffix(".err")]
    process = _PROCESSES.Process(target=_be_the_program, args=(arguments, folder, environment, files))
    process.start()
    process.join(timeout_s)
    if process.is_alive():
        process.kill()
        raise TimeoutExpired(arguments, timeout_s)
    assert process.exitcode is not None
    return CompletedProcess(arguments, process.exitcode, *(file.read_text() for file in files))


def _be_the_program(arguments: list[str], folder: Path, environment: dict[str, str], files: list[Path]) -> None:
    for number, file in enumerate((Path(os.devnull), *files)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing has put another one there
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.path[0:0] = [str(folder)]
    sys.argv = ["schedfactory", *arguments]
    try:
        main()
    finally:
        atexit._run_exitfuncs()
