"""How a dispatcher sleeps, with the system's watch on the log and without it."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from schedfactory import Scheduler
from schedfactory.running import inotify
from schedfactory.running.wake import Wake

LONG_S = 20.0  # a sleep that only a hang would let pass


@pytest.fixture(params=["watch", "blind"])
def log(request, monkeypatch, tmp_path):
    """A log file, on a system that tells of writes to it and on one that does not."""
    if request.param == "blind":
        monkeypatch.setattr(inotify, "watch", lambda path: None)
    elif not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells of writes")
    file = tmp_path / "jobs.db-wal"
    file.write_bytes(b"")
    return file


class Version:
    """What the database would say; it counts how often it is asked, and may do something then."""

    def __init__(self):
        self.now = 1
        self.asked = 0
        self.when_asked = lambda: None

    def __call__(self):
        self.asked += 1
        self.when_asked()
        return self.now


@pytest.fixture
def version():
    return Version()


@pytest.fixture
def wake(log, version):
    made = Wake(log, version)
    yield made
    made.close()


def test_a_sleep_ends_by_itself_and_says_that_nothing_happened(wake):
    assert wake.sleep(0.01, 1) is False
    assert wake.sleep(0.0, 1) is False
    assert wake.sleep(-1.0, 1) is False


def test_a_ring_during_the_sleep_ends_it(wake):
    threading.Timer(0.05, wake.ring).start()
    assert wake.sleep(LONG_S, 1) is True


def test_a_ring_before_the_sleep_ends_it_at_once(wake):
    wake.ring()
    assert wake.sleep(LONG_S, 1) is True


def test_one_ring_ends_one_sleep(wake):
    wake.ring()
    wake.ring()
    assert wake.sleep(LONG_S, 1) is True
    assert wake.sleep(0.01, 1) is False


def test_a_ring_that_comes_as_a_sleep_ends_by_itself_ends_the_next_one(wake, version):
    version.when_asked = wake.ring  # asked for the last time when the time is over
    first = wake.sleep(0.0, 1)
    version.when_asked = lambda: None
    assert first is True or wake.sleep(0.2, 1) is True


def test_many_rings_from_many_threads_do_no_harm(wake):
    threads = [threading.Thread(target=lambda: [wake.ring() for _ in range(5_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        wake.sleep(0.01, 1)
    wake.sleep(0.0, 1)
    assert wake.sleep(0.01, 1) is False


def test_a_ring_after_the_close_does_no_harm(wake):
    wake.close()
    wake.close()
    wake._is_asleep = True
    wake.ring()


def test_a_commit_of_others_during_the_sleep_ends_it(wake, version, log):
    def commit():
        version.now = 2
        with log.open("ab") as file:
            file.write(b"frame")

    threading.Timer(0.05, commit).start()
    assert wake.sleep(LONG_S, 1) is True


def test_a_commit_that_is_visible_only_after_its_write_ends_the_sleep_too(wake, version, log):
    def commit():
        with log.open("ab") as file:
            file.write(b"frame")
        asked = version.asked

        def becomes_visible():
            if version.asked > asked + 3:
                version.now = 2

        version.when_asked = becomes_visible

    threading.Timer(0.05, commit).start()
    assert wake.sleep(LONG_S, 1) is True


def test_a_commit_before_the_sleep_is_told_of_at_its_end_at_the_latest(wake, version):
    version.now = 2
    assert wake.sleep(0.05, 1) is True


def test_a_version_that_cannot_be_told_counts_as_unchanged(wake, version):
    version.now = None
    assert wake.sleep(0.05, 1) is False


def test_a_write_that_changes_nothing_does_not_end_the_sleep(wake, log):
    threading.Timer(0.01, lambda: log.open("ab").close()).start()
    with log.open("ab") as file:
        file.write(b"frame")
    assert wake.sleep(0.3, 1) is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells of writes")
def test_a_watched_sleep_does_not_look_at_the_database_while_nothing_happens(tmp_path, version):
    file = tmp_path / "jobs.db-wal"
    file.write_bytes(b"")
    wake = Wake(file, version)
    if wake._watch is None:
        pytest.skip("this user's watchers are used up")
    assert wake.sleep(0.3, 1) is False
    assert version.asked == 1
    wake.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells of writes")
def test_a_log_that_is_missing_cannot_be_watched(tmp_path):
    assert inotify.watch(tmp_path / "missing") is None


def test_without_a_watch_a_node_still_sees_what_another_process_enqueues(scheduler, path, monkeypatch):
    monkeypatch.setattr(inotify, "watch", lambda path: None)

    @scheduler.task(name="noop")
    def noop() -> int:
        return 1

    scheduler.start(workers=1)
    assert noop.enqueue().get_result("20s") == 1
    source = "import sys; from schedfactory import Scheduler; print(Scheduler(sys.argv[1]).remote('noop').enqueue().id)"
    ran = subprocess.run([sys.executable, "-c", source, str(path)], capture_output=True, text=True, check=True, timeout=60)
    assert scheduler.get(int(ran.stdout)).get_result("20s") == 1


def test_the_version_of_a_database_changes_with_commits_of_other_connections(path):
    one, other = Scheduler(path), Scheduler(path)
    one.remote("x").enqueue()
    before = one._house.database.version()
    other.remote("x").enqueue()
    assert one._house.database.version() != before
    one.close()
    other.close()
