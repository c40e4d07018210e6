"""A job with a unique key is stored only where nobody holds that key; else the job that is there answers for it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from schedfactory.model.clock import optional_stamp, stamp, standard
from schedfactory.model.errors import DuplicateJob
from schedfactory.model.job import read_optional_moment
from schedfactory.model.registry import TaskRegistry
from schedfactory.model.task import Call
from schedfactory.model.unique import Unique
from schedfactory.storage import claim, enqueue, unique
from schedfactory.storage.seams import Feature, Intake

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Uniqueness(Feature):
    """It looks at each call that has a key, in the transaction that stores it.

    Args:
        tasks: knows the older names of a task, whose rows may hold a key, too.
    """

    def __init__(self, tasks: TaskRegistry) -> None:
        self._tasks = tasks

    def enqueuing(self, conn: Connection, intake: Intake, now: datetime) -> None:
        """Find who answers for each call that is not to be stored.

        Raises:
            DuplicateJob: a call that wants to be the only one is not.
        """
        new: dict[tuple[str, str], int] = {}
        for index, call in enumerate(intake.calls):
            if call.unique_key is not None and call.options.unique is not None:
                names = self._names(call.task)
                twin = new.setdefault((names[0], call.unique_key), index)
                if twin != index:
                    _meet_twin(intake, index, twin, call.options.unique, now)
                elif found := _find(conn, names, call.unique_key, call.options.unique, now):
                    del new[names[0], call.unique_key]
                    _meet(conn, intake, index, found, call.options.unique, now)

    def _names(self, name: str) -> tuple[str, ...]:
        task = self._tasks.find(name)
        return (name,) if task is None or not task.aliases else (task.name, *task.aliases)


def _find(conn: Connection, names: tuple[str, ...], key: str, rule: Unique, now: datetime) -> unique.Found | None:
    for name in names:
        found = unique.holder(conn, name, key)
        if found is not None and claim.expire(conn, now, found.id):  # which nobody was there to see to
            found = unique.holder(conn, name, key)
        if found is not None:
            return found
    if rule.window is None:
        return None
    ended = (unique.finished(conn, name, key, now - rule.window) for name in names)
    return next((found for found in ended if found is not None), None)


def _meet(conn: Connection, intake: Intake, index: int, found: unique.Found, rule: Unique, now: datetime) -> None:
    call = intake.calls[index]
    if rule.on_conflict == "raise":
        raise _duplicate(call, f"job {found.id} ({found.status})", found.id)
    if rule.on_conflict != "keep" and found.waits:
        since = read_optional_moment(found.created_at)
        unique.take_over(conn, found.id, _taken_over(call, rule, None if since is None else standard(since), now))
    intake.existing[index] = found.id


def _meet_twin(intake: Intake, index: int, twin: int, rule: Unique, now: datetime) -> None:
    call = intake.calls[index]
    if rule.on_conflict == "raise":
        raise _duplicate(call, "another call of this enqueue_many()", None)
    if rule.on_conflict != "keep":
        intake.rows[twin] = enqueue.changed(intake.rows[twin], _taken_over(call, rule, now, now))
    intake.twins[index] = twin


def _taken_over(call: Call[Any], rule: Unique, since: datetime | None, now: datetime) -> dict[str, Any]:
    """Return the columns that a waiting job takes over from a later call; `since` is when it was enqueued."""
    options = call.options
    run_at = options.starts_at(now)
    if since is not None and rule.longest is not None and run_at - since > rule.longest:
        run_at = since + rule.longest
    found = {
        "args": call.args,
        "run_at": stamp(run_at),
        "status": "queued" if run_at <= now else "scheduled",
        "expires_at": optional_stamp(options.expires_at(run_at)),
    }
    return found | ({"priority": options.priority} if rule.on_conflict == "replace" else {})


def _duplicate(call: Call[Any], who: str, job_id: int | None) -> DuplicateJob:
    return DuplicateJob(
        f"{call.task} is to be unique, and {who} has its key {call.unique_key!r}. Nothing was stored. "
        'Pass on_conflict="keep" to get that job, or unique=False for one more.',
        call.task,
        call.unique_key or "",
        job_id,
    )
