"""The jobs that a node has in hand."""

from __future__ import annotations

from collections.abc import Sequence

from schedfactory.model.clock import Monotonic
from schedfactory.model.running_job import RunningJob

LINGER_S = 0.002  # for more ends to come, while there is work ahead


class Hand:
    """What was claimed and has not ended, and what ended by a timeout while its code runs on.

    Attributes:
        in_flight: claimed jobs by id, until their end is stored.
        leftovers: jobs whose code has outlived its timeout.
    """

    def __init__(self) -> None:
        self.in_flight: dict[int, RunningJob] = {}
        self.leftovers: dict[int, RunningJob] = {}

    def flag(self, job_ids: Sequence[int]) -> None:
        """Ask those of these jobs to stop that are in hand, because someone has cancelled them."""
        for job_id in job_ids:
            running = self.in_flight.get(job_id)
            if running is not None and running.cause is None:
                running.cause = "user"

    def flag_all(self, worker: int | None = None) -> None:
        """Ask all running jobs, or the one of that worker, to stop, so that they can go back."""
        for job in list(self.in_flight.values()):
            if job.cause is None and worker in (None, job.worker):
                job.cause = "shutdown"

    def drop(self, job: RunningJob) -> bool:
        """Let go of a job, and tell whether it was in hand.

        An attempt that lost its job may end beside the next one
        (test_the_second_run_on_the_same_node_is_still_in_its_hand_after_the_late_end).
        """
        is_there = self.in_flight.get(job.id) is job
        if is_there:
            del self.in_flight[job.id]
        return is_there

    def release(self, job: RunningJob) -> None:
        """Forget left-over code that has ended."""
        if self.leftovers.get(job.id) is job:
            del self.leftovers[job.id]

    def unlabelled(self) -> list[RunningJob]:
        """Return the jobs that were claimed ahead and have been running for a while, whose rows do not say so yet."""
        found = []
        before = Monotonic.now() - LINGER_S
        for job in self.in_flight.values():
            if job.is_ahead and not job.settled and job.began is not None and job.began < before:
                job.is_ahead = False
                found.append(job)
        return found

    @property
    def has_unlabelled(self) -> bool:
        """True while there are jobs of which the rows do not say which worker runs them."""
        return any(job.is_ahead for job in self.in_flight.values())
