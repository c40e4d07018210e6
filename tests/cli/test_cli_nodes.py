"""`nodes`: who is there, live on a terminal, and the orders that are given by it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

import pytest

APP = ("--app", "app:scheduler")
FILE = ("--database", "jobs.db")


@pytest.fixture
def working(begin):
    """Start `run`, and return the process once its node is there."""

    def start(*arguments):
        process = begin(*APP, "run", *arguments)
        assert any(said.startswith("Node ") for said in process.stderr)
        return process

    return start


@pytest.fixture
def listed(cli):
    """Return the nodes as `nodes --json` prints them."""
    return lambda *arguments: json.loads(cli(*FILE, "nodes", "--json", *arguments).stdout)


def test_nodes_lists_them_as_lines_where_there_is_no_terminal(cli, working, folder):
    working("--workers", "2", "--queue", "mail", "--queue", "default")
    heads, node = cli(*FILE, "nodes").stdout.splitlines()
    assert heads.split() == ["id", "status", "host", "pid", "started_at", "(UTC)", "workers", "busy", "queues", "tasks"]
    assert node.split()[:2] == ["1", "running"]
    assert " 2        0     mail, default  add, fail, mail.welcome, once, slow, sum, sync, welcome" in node


def test_nodes_without_any_says_so(cli):
    cli(*APP, "enqueue", "add", "x=1")
    done = cli(*FILE, "nodes")
    assert (done.stdout, done.stderr) == ("", "No node has worked on this database within a week.\n")


@pytest.mark.parametrize("others", [("--queue", "*=1"), ("--workers", "1")])
def test_nodes_as_json_has_the_columns_as_keys_and_slots_by_queue(working, listed, others):
    process = working("--queue", "mail=2", *others)
    [node] = listed()
    assert list(node) == ["id", "host", "pid", "started_at", "status", "workers", "busy", "queues", "tasks"]
    assert (node["id"], node["pid"], node["status"], node["workers"]) == (1, process.pid, "running", 3)
    assert node["queues"] == {"mail": 2, "*": 1}
    assert listed("--limit", "1") == [node]


@pytest.mark.parametrize("columns", ["200", "50"])  # on the narrow one the right side is missing
def test_on_a_terminal_the_list_stays_and_shows_what_changes_until_ctrl_c(cli, working, folder, columns):
    working()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "schedfactory", *FILE, "nodes"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": columns}
    with subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = ""
        while "running" not in shown:
            shown += os.read(ours, 4096).decode()
        assert cli(*FILE, "nodes", "pause", "--wait").stdout == "pause of all nodes: done\n"
        while "paused" not in shown:
            shown += os.read(ours, 4096).decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    os.close(ours)


def test_once_prints_it_once_on_a_terminal_too(working, folder):
    working()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "schedfactory", *FILE, "nodes", "--once"]
    with subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        assert process.wait(60) == 0
    assert b"running" in os.read(ours, 4096)
    os.close(ours)


def test_pause_and_resume_name_a_node_or_mean_all(cli, working, listed):
    working()
    assert cli(*FILE, "nodes", "pause", "1", "--wait").stdout == "pause of node 1: done\n"
    assert [node["status"] for node in listed()] == ["paused"]
    assert cli(*FILE, "nodes", "resume", "--timeout", "20s").stdout == "resume of all nodes: done\n"
    assert [node["status"] for node in listed()] == ["running"]


def test_without_wait_an_order_is_given_and_carried_out_later(cli, working, until, listed):
    working("--workers", "1")
    said = cli(*FILE, "nodes", "scale", "1", "--workers", "3").stdout
    assert said in ("scale of node 1: given\n", "scale of node 1: done\n")  # the node may be that quick
    until(lambda: listed()[0]["workers"] == 3)


def test_quit_of_a_worker_leaves_the_others(cli, working, listed):
    working("--workers", "3")
    assert cli(*FILE, "nodes", "quit", "1", "--worker", "2", "--wait").stdout == "quit of worker 2 of node 1: done\n"
    assert listed()[0]["workers"] == 2
    said = "quit of worker 2 of node 1: node 1 has no worker 2; its workers: 1, 3\n"
    assert cli(*FILE, "nodes", "quit", "1", "--worker", "2", "--wait", code=1).stdout == said


def test_after_quit_run_ends_with_0(cli, working):
    process = working()
    assert cli(*FILE, "nodes", "quit", "1", "--wait").stdout == "quit of node 1: done\n"
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.endswith("Stopped.\n")


def test_forced_to_quit_run_does_not_wait_for_code_that_does_not_listen(cli, working, until, folder):
    cli(*APP, "enqueue", "slow")
    process = working()
    until((folder / "started").exists)
    assert cli(*FILE, "nodes", "quit", "1", "--force").stdout == "quit of node 1: given\n"
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize("order", [("pause",), ("resume",), ("scale", "--workers", "2"), ("quit",)])
def test_an_undeliverable_order_exits_1_and_does_not_hang(cli, working, order):
    process = working()
    process.kill()
    process.wait(60)
    name, *rest = order
    assert cli(*FILE, "nodes", name, "1", *rest, "--wait", code=1).stdout == f"{name} of node 1: undeliverable\n"
    assert cli(*FILE, "nodes", name, *rest, code=1).stdout == f"{name} of all nodes: undeliverable\n"


def test_an_order_that_takes_longer_than_the_timeout_exits_1_and_stands(cli, working, until, folder, listed):
    cli(*APP, "enqueue", "slow")
    process = working("--workers", "1")
    until((folder / "started").exists)
    said = cli(*FILE, "nodes", "quit", "1", "--timeout", "100ms", code=1).stderr
    assert said == "Error: quit has no result after 0.1 s. The order stands; wait again.\n"
    (folder / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("scale", "1"), "Missing option '--workers'"),
        (("scale", "1", "--workers", "0"), "0 is not in the range"),
        (("pause", "one"), "'one' is not a valid integer"),
        (("quit", "--worker", "2"), "worker=2 of which node"),
        (("pause", "1", "--timeout", "soon"), "'--timeout': 'soon' is not understood"),
        (("stop",), "No such command 'stop'"),
    ],
)
def test_bad_usage_is_told(cli, folder, arguments, said):
    cli(*APP, "enqueue", "add", "x=1")
    assert said in " ".join(cli(*FILE, "nodes", *arguments, code=2).stderr.split())


def test_a_mistyped_path_leaves_no_file(cli, folder):
    assert "Error" in cli("--database", "no.db", "nodes", "quit", code=1).stderr
    assert not (folder / "no.db").exists()
