"""Others hold the write lock for seconds and pin an old state: nothing fails before `lock_timeout`, and the log shrinks again.

The hostile ones are plain SQLite programs that know nothing of this library: one takes the write lock again and again
and holds it, one keeps a read transaction open, behind which no frame of the log may be overwritten.
"""

from __future__ import annotations

import time

import pytest
from seats import Seats
from witnesses import count

MIB = 1 << 20
LIMIT = 64 * MIB  # the log, after the reader has gone
CHECKPOINT_S = 2.0
MIX = {"bulky": 6, "slow": 2, "flaky": 1, "snoozy": 1}
BALLAST = 60_000


class LockStorm(Seats):
    """Processes that enqueue and work, beside a writer that hogs the lock and a reader that pins the log.

    Args:
        grown: bytes that the log must have reached before the reader lets go.
    """

    def __init__(self, *where, jobs, longest, grown, lock_timeout="30s", sabotage=None):
        super().__init__(*where)
        self.log = self.folder / "jobs.db-wal"
        self.jobs, self.longest, self.grown = jobs, longest, grown
        self.options = {
            "scheduler": {"lock_timeout": lock_timeout},
            "constants": [["schedfactory.storage.checkpoint", "_EVERY_S", CHECKPOINT_S]],
            "mix": MIX,
            "ballast": BALLAST,
        }
        if sabotage is not None:
            self.options["sabotage"] = sabotage
        self.highest = 0

    def rage(self):
        self.start("reader", "pin")
        self.wait_for(lambda: self.said_by("pinned"), "the log is pinned")
        self.start("hog", "hog", longest=self.longest)
        for number in range(4):
            self.start(f"w{number}", "both", threads=4, quota=self.jobs // 4, **self.options)
        self.wait_for(self.is_done, "all jobs have ended", 90)

    def is_done(self):
        for seat, process in self.processes.items():
            assert process.poll() is None, f"{seat} has ended: {self.errors()}"
        self.highest = max(self.highest, self.log.stat().st_size)
        acknowledged = sum(count(file) for file in self.folder.glob("acks.*"))
        return acknowledged >= self.jobs // 4 * 4 and self.has_settled()

    def let_go(self, seconds=20):
        """End the reader; return how long the log took to shrink. Nobody enqueues any more: the workers see to it."""
        assert self.highest > self.grown, f"the log grew to {self.highest} bytes only"
        reader = self.processes["reader"]
        reader.stdin.close()
        reader.wait(10)
        since = time.monotonic()
        while self.log.stat().st_size > LIMIT // 4:
            assert time.monotonic() < since + seconds, f"the log still has {self.log.stat().st_size} bytes"
            time.sleep(0.02)
        return time.monotonic() - since

    def said_by(self, what):
        return [words for words in self.effects() if words[0] == what]


@pytest.fixture
def storm(tmp_path, launch, scheduler):
    return lambda **size: LockStorm(tmp_path, launch, scheduler, **size)


def test_a_hog_and_a_pinned_reader_cost_time_and_nothing_else(storm, factor, figures):
    raging = storm(jobs=600 * factor, longest=3.0, grown=LIMIT)
    raging.rage()
    shrunk_s = raging.let_go()
    history = raging.leave()
    held = [float(words[2]) for words in raging.said_by("held")]
    assert history.violations() == []
    assert {words[2] for words in raging.said_by("WARNING")} <= {str(raging.log)}  # that the log grows, they may say
    assert {row["crashes"] for row in history.jobs.values()} == {0}
    assert max(held) > 1
    figures(
        jobs=len(history.jobs),
        lock_held_s=f"{sum(held):.0f} in {len(held)} times, longest {max(held):.1f}",
        errors=0,
        log_MiB=f"{raging.highest / MIB:.0f} while pinned, {raging.log.stat().st_size / MIB:.0f} after",
        shrunk_after_s=f"{shrunk_s:.1f}",
        lost=0,
        double=0,
    )


def test_the_harness_catches_who_does_not_wait_long_enough(storm):
    raging = storm(jobs=5_000, longest=2.0, grown=0, lock_timeout="0.3s")  # too many to be done between two long holds
    with pytest.raises(AssertionError, match="DatabaseBusy"):
        raging.rage()


def test_the_harness_catches_a_log_that_never_shrinks(storm):
    raging = storm(jobs=300, longest=0.1, grown=LIMIT // 4, sabotage="never_checkpoint")
    raging.rage()
    with pytest.raises(AssertionError, match="the log still has"):
        raging.let_go(2 * CHECKPOINT_S)
