"""Records of `logging` that a task's code makes are kept with its job.

Where a record reaches the handlers of its logger, it passes here. That is no handler itself: one at the root would keep
`logging.basicConfig()` from doing anything, would silence the warnings that Python prints where nothing is configured, and
would be gone after the next `dictConfig`. So loggers call this in between, while a node of this process runs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from weakref import WeakSet

from schedfactory.model.outcome import describe, format_traceback
from schedfactory.running import context

_guard = threading.RLock()
_nodes: WeakSet[object] = WeakSet()
_go_on: Callable[[logging.Logger, logging.LogRecord], None] = logging.Logger.callHandlers  # or whose who was there before
_is_between = False
_handler = logging.Handler()


def begin(node: object) -> None:
    """Look at records from now on, until all that have begun have ended."""
    global _go_on, _is_between
    with _guard:
        _nodes.add(node)
        if not _is_between:
            _go_on, _is_between = logging.Logger.callHandlers, True
            logging.Logger.callHandlers = _pass  # type: ignore[method-assign,assignment]


def end(node: object) -> None:
    """Look no more on this one's behalf."""
    global _is_between
    with _guard:
        _nodes.discard(node)
        # Where another has come in between since, taking this away would take that away, too.
        if not _nodes and _is_between and logging.Logger.callHandlers is _pass:
            logging.Logger.callHandlers = _go_on  # type: ignore[method-assign,assignment]
            _is_between = False


def _pass(logger: logging.Logger, record: logging.LogRecord) -> None:
    """Keep a record where a job runs, and let it go its way."""
    found = context.capturing()
    if found is not None and record.levelno >= found[1] and not f"{record.name}.".startswith("schedfactory."):
        try:
            found[0].keep(record.levelname, record.name, _text(record))
        except Exception:  # noqa: BLE001 - told as logging tells of its handlers' mistakes, never raised into the user's code
            _handler.handleError(record)
    _go_on(logger, record)


def _text(record: logging.LogRecord) -> str:
    """Return the message with its traceback, and leave the record as it was: a formatter would write into it."""
    try:
        text = record.getMessage()
    except Exception as error:  # noqa: BLE001 - of the user's arguments; the handlers tell of it
        text = f"{record.msg!r} (could not be formatted: {describe(error)})"
    if record.exc_info and record.exc_info[1] is not None:
        text += f"\n{format_traceback(record.exc_info[1])}"
    if record.stack_info:
        text += f"\n{record.stack_info}"
    return text
