"""Working: `run`."""

from __future__ import annotations

import logging

import click

from schedfactory import StatusReport
from schedfactory.cli import render
from schedfactory.cli.source import Source, bad_usage, pass_source, with_source

Queues = list[str] | dict[str, int] | None


def _queues(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> Queues:
    pairs = [one.partition("=") for one in given]
    if not any(equals for _, equals, _ in pairs):
        return list(given) or None
    slots: dict[str, int] = {}
    for said, (name, _, number) in zip(given, pairs):
        if not name or not number.isdecimal() or name in slots:
            raise click.BadParameter(
                f"{said!r} gives no slots to a queue of its own. Pass each as NAME=SLOTS, such as --queue mail=2 --queue "
                "'*=4'; or names alone, and --workers says how many jobs run at once."
            )
        slots[name] = int(number)
    return slots


@click.command()
@click.option("--workers", type=click.IntRange(min=1), help="How many jobs run at the same time.  [default: 4]")
@click.option(
    "--queue",
    "queues",
    metavar="NAME[=SLOTS]",
    multiple=True,
    callback=_queues,
    help="Serve only this queue, with at most so many of its jobs at the same time; may be repeated. '*=4', or --workers 4 "
    "beside them: all others.",
)
@with_source
@pass_source
def run(source: Source, /, workers: int | None, queues: Queues) -> None:
    """Run the jobs of --app until Ctrl-C, SIGTERM or `nodes quit`.

    What runs then has 30 s to end, and is asked to stop after that (`cancelled`). What goes on all the same is started
    again by another node, which counts as a crash. A second signal ends the process at once; the jobs that ran start again
    later, too.
    """
    if isinstance(queues, dict) and workers is not None:
        if "*" in queues:
            raise click.UsageError(
                "--workers and --queue '*=...' both say how many jobs of all other queues may run. Pass one."
            )
        queues["*"] = workers
        workers = None
    if source.app is None:
        raise click.UsageError(
            "run needs --app module:scheduler (or SCHEDFACTORY_APP): a database has no code, so a worker without an app "
            "could run nothing."
        )

    def tell(report: StatusReport) -> None:
        if report.status == "start":
            count, what = _served(workers, queues)
            render.remark(f"Node {report.id} runs {source.app}. Workers: {count}, queues: {what}. Ctrl-C stops it.")

    with source.scheduler() as scheduler:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        _hush("alembic")
        scheduler.listen(tell, "node")
        with bad_usage():
            scheduler.run(workers=workers, queues=queues)
    render.remark("Stopped.")


def _hush(name: str) -> None:
    """Let a logger tell of what is wrong only, unless the app has said what it is to tell."""
    logger = logging.getLogger(name)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)


def _served(workers: int | None, queues: Queues) -> tuple[int, str]:
    """Return how many workers that makes, and for which queues."""
    if isinstance(queues, dict):
        return sum(queues.values()), ", ".join(f"{name}={slots}" for name, slots in queues.items())
    return workers or 4, ", ".join(queues) if queues else "all"
