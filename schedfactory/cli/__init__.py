"""The command line: `schedfactory` and `python -m schedfactory`. It speaks to the public interface only.

Exit codes: 0 done, 1 failed, 2 bad usage, 70 from `run` when its dispatcher cannot be kept alive, 128 + n after signal n.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from functools import partial
from typing import Any

import click

from schedfactory import SchedfactoryError
from schedfactory.cli.care import backup, doctor
from schedfactory.cli.demo import demo
from schedfactory.cli.jobs import explain, jobs, show, wait
from schedfactory.cli.moves import cancel, enqueue, migrate, prune, requeue
from schedfactory.cli.nodes import nodes
from schedfactory.cli.queues import queues
from schedfactory.cli.run import run
from schedfactory.cli.source import with_source
from schedfactory.cli.stats import stats
from schedfactory.cli.tail import tail


class Commands(click.Group):
    """A group whose commands end with one line, not with a traceback, where the library says no."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except SchedfactoryError as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader has left: click ends quietly
                raise
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands in the order of a first visit."""
        return list(self.commands)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="schedfactory", message="schedfactory %(version)s")
@partial(with_source, is_group=True)
def commands() -> None:
    """A durable job queue in one SQLite file.

    --database and --app may also follow the command. Without them it is ./schedfactory.db.
    """


for command in (
    demo, run, enqueue, jobs, show, explain, wait, stats, tail, cancel, requeue, queues, nodes, prune, backup, doctor, migrate,
):  # fmt: skip
    commands.add_command(command)


def main() -> None:
    """Run the command line of this process."""
    if sys.stdout is None:  # type: ignore[unreachable,unused-ignore]  # closed by the shell's >&-
        sys.stdout = open(os.devnull, "w")  # type: ignore[unreachable,unused-ignore]  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a narrow encoding garbles a letter, and ends nothing
    commands(prog_name="schedfactory")
