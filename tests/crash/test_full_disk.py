"""A disk that fills up while jobs run: with room again every result is stored, and nothing was claimed meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import disk
import pytest

ROUNDS = 2
OF_ONE_SIZE, THAT_GROW = "2000", "2000 300000"
SLACK_S = 10.0  # for a busy machine, beside the 5 s in which claims resume
GROWN_MIB = 64  # since the first round, with what this harness keeps itself


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"mount cannot be run ({error}); the same with a shim is tested beside this")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted ({mounted.stderr.strip()}); the same with a shim is tested beside this")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def run(launch: Callable[..., Popen[str]], database: Path, how: str, *what: object, **process: Any) -> dict[str, Any]:
    program = Path(disk.__file__).with_name("disk_full.py")
    child = launch([sys.executable, program, database, how, *what], **process)
    out, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors
    for file in database.parent.glob(f"{database.name}*"):
        file.unlink()
    return json.loads(out)


def check(found: list[dict[str, Any]], sizes: str, figures: Callable[..., None]) -> None:
    for one in found:
        assert not one["objections"], one["objections"]
        assert one["refused"] > 0
        assert one["held_up"] or sizes == OF_ONE_SIZE  # which the log may have room for
        assert one["slowest_s"] < 5 + SLACK_S
        assert one["grown_mib"] < GROWN_MIB
    figures(
        jobs=sum(one["stored"] for one in found),
        rounds_held_up=sum(one["held_up"] for one in found),
        lost=0,
        refused=sum(one["refused"] for one in found),
        slowest_recovery=f"{max(one['slowest_s'] for one in found):.1f} s",
        memory=f"+{max(one['grown_mib'] for one in found)} MiB",
    )


SIZES = pytest.mark.parametrize("sizes", [OF_ONE_SIZE, THAT_GROW], ids=["of one size", "that grow"])


@SIZES
def test_results_survive_a_disk_that_was_full(
    launch: Callable[..., Popen[str]], small_disk: Path, factor: int, figures: Callable[..., None], sizes: str
) -> None:
    check([run(launch, small_disk / "jobs.db", "tmpfs", sizes, ROUNDS) for _ in range(factor)], sizes, figures)


@SIZES
def test_results_survive_a_disk_on_which_no_file_can_grow(
    launch: Callable[..., Popen[str]], path: Path, factor: int, figures: Callable[..., None], sizes: str
) -> None:
    process = {"env": disk.environment(disk.build(path.parent), path)}
    check([run(launch, path, "shim", sizes, ROUNDS, **process) for _ in range(factor)], sizes, figures)


def test_the_harness_catches_a_library_that_drops_results(launch: Callable[..., Popen[str]], path: Path) -> None:
    shim = disk.build(path.parent)
    found = run(launch, path, "shim", "300000", 1, "drop_results", env=disk.environment(shim, path))

    assert any("jobs due or running" in text for text in found["objections"]), found
