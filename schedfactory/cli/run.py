"""Working: `run`."""

from __future__ import annotations

import logging

import click

from schedfactory import StatusReport
from schedfactory.cli.source import Source, bad_usage, pass_source, with_source


def _names(_ctx: click.Context, _param: click.Parameter, queues: tuple[str, ...]) -> list[str] | None:
    for queue in queues:
        if "=" in queue:
            name = queue.partition("=")[0] or "NAME"
            raise click.BadParameter(
                f"{queue!r} is no queue's name. Pass --queue {name}; --workers says how many jobs run at once."
            )
    return list(queues) or None


@click.command()
@click.option("--workers", default=4, show_default=True, type=click.IntRange(min=1), help="How many jobs run at the same time.")
@click.option("--queue", "queues", metavar="NAME", multiple=True, callback=_names, help="Serve only this; may be repeated.")
@with_source
@pass_source
def run(source: Source, /, workers: int, queues: list[str] | None) -> None:
    """Run the jobs of --app until Ctrl-C or SIGTERM.

    What runs then may end. A second signal ends the process at once; the jobs that ran start again later.
    """
    if source.app is None:
        raise click.UsageError(
            "run needs --app module:scheduler (or SCHEDFACTORY_APP): a database has no code, so a worker without an app "
            "could run nothing."
        )

    def tell(report: StatusReport) -> None:
        if report.status == "start":
            what = ", ".join(queues) if queues else "all"
            click.echo(f"Node {report.id} runs {source.app}. Workers: {workers}, queues: {what}. Ctrl-C stops it.", err=True)

    with source.scheduler() as scheduler:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        scheduler.listen(tell, "node")
        with bad_usage():
            scheduler.run(workers=workers, queues=queues)
    click.echo("Stopped.", err=True)
