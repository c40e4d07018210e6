"""Caring for the file: `backup`, `doctor`."""

from __future__ import annotations

from typing import get_args, get_type_hints

import click

from schedfactory import Finding
from schedfactory.cli import render
from schedfactory.cli.jobs import as_json
from schedfactory.cli.source import Source, pass_source, with_source

CODES: tuple[str, ...] = get_args(get_type_hints(Finding)["code"])


@click.command()
@click.argument("target", metavar="TARGET", type=click.Path())
@with_source
@pass_source
def backup(source: Source, /, target: str) -> None:
    """Copy the database to the new file TARGET, while everything runs, and print its path."""
    with source.scheduler() as scheduler:
        click.echo(scheduler.backup(target))


@click.command()
@click.option("--ignore", multiple=True, type=click.Choice(CODES), help="Findings that are no news; may be repeated.")
@as_json
@with_source
@pass_source
@click.pass_context
def doctor(ctx: click.Context, source: Source, /, ignore: tuple[str, ...], is_json: bool) -> None:
    """Look for what is wrong with the database, and change nothing.

    With --app also for jobs whose task is missing, or no longer takes their arguments. Exits 1 with a finding."""
    with source.scheduler() as scheduler:
        found = [finding for finding in scheduler.doctor() if finding.code not in ignore]
    if is_json:
        render.print_json([{"code": finding.code, "text": finding.text} for finding in found])
    else:
        for finding in found:
            click.echo(f"{finding.code}: {finding}")
        if not found:
            render.remark("Nothing was found.")
    ctx.exit(1 if found else 0)
