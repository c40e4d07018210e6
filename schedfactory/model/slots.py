"""How many jobs of which queues one node runs at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schedfactory.model.options import check_count, check_queue

QueuesLike = Sequence[str] | Mapping[str, int]


@dataclass(frozen=True)
class Pool:
    """Slots that some queues share.

    Attributes:
        queues: their names; None: all but those of `others`.
        size: how many jobs of them run at the same time; None: as many as there are workers.
    """

    queues: tuple[str, ...] | None = None
    others: tuple[str, ...] = ()
    size: int | None = None

    def serves(self, queue: str) -> bool:
        """Tell whether jobs of this queue take its slots."""
        return queue not in self.others if self.queues is None else queue in self.queues


@dataclass(frozen=True)
class Slots:
    """The workers of a node, and the pools that share them; `said` is what the user wrote of the queues."""

    workers: int
    pools: tuple[Pool, ...] = (Pool(),)
    said: QueuesLike | None = None


def slots_of(workers: int | None, queues: QueuesLike | None) -> Slots:
    """Return the slots for what `start()` takes.

    Raises:
        ValueError: fewer than one worker or slot, no queue, or slots for each queue beside `workers`.
        TypeError: neither a list of names nor a mapping of names to numbers.
    """
    if isinstance(queues, Mapping):
        if workers is not None:
            raise ValueError(f"workers={workers} and queues={dict(queues)!r} both say how many jobs may run. Pass one of them.")
        return _by_queue(queues)
    count = check_count(4 if workers is None else workers, "workers", "workers")
    if queues is None:
        return Slots(count)
    if isinstance(queues, str) or not isinstance(queues, Sequence):
        raise TypeError(f'queues={queues!r} is no list of names. Pass one such as ["mail"], or slots such as {{"mail": 2}}.')
    if not queues:
        raise ValueError("queues=[] serves nothing. Pass names, or None for all queues.")
    names = [check_queue(name) for name in queues]
    return Slots(count, pools_of(names), names)


def _by_queue(queues: Mapping[str, int]) -> Slots:
    if not queues:
        raise ValueError('queues={} serves nothing. Pass slots such as {"mail": 2, "*": 4}, or None for all queues.')
    sizes = {
        name if name == "*" else check_queue(name): check_count(size, f"queues[{name!r}]", "slots")
        for name, size in queues.items()
    }
    return Slots(sum(sizes.values()), pools_of(sizes), sizes)


def pools_of(said: QueuesLike | None) -> tuple[Pool, ...]:
    """Return which slots a node has, by what it was told of queues."""
    if not isinstance(said, Mapping):
        return (Pool(None if said is None else tuple(said)),)
    named = tuple(name for name in said if name != "*")
    return tuple(Pool(None, named, size) if name == "*" else Pool((name,), (), size) for name, size in said.items())
