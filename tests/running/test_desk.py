"""The lists between a dispatcher and its workers."""

from __future__ import annotations

from collections import deque

from schedfactory.running.desk import emptied


class Shrinking(deque[int]):
    """A line from which somebody else takes two after its length was asked for."""

    def __len__(self) -> int:
        return super().__len__() + 2


def test_a_line_that_others_take_from_is_emptied_without_loss():
    assert emptied(Shrinking([1, 2, 3])) == [1, 2, 3]
    assert emptied(deque([1, 2])) == [1, 2]
