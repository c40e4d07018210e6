"""A line between a worker thread and its process: messages both ways, and neither end can be held up by the other."""

from __future__ import annotations

import os
import pickle
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

_LENGTH = struct.Struct("<Q")
_ATONCE = 1 << 18


class Line:
    """The parent's end. What is said waits until the other end takes it; what is heard, until it is whole.

    Both ends are one program, so pickle is as safe here as it is between the processes of `multiprocessing`.
    """

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours
        self._socket.setblocking(False)
        self._to_say = bytearray()
        self._heard = bytearray()
        self.has_ended = False

    def say(self, what: object) -> None:
        """Hand over a message, as far as that goes by now; `hear` does the rest."""
        data = pickle.dumps(what)
        self._to_say += _LENGTH.pack(len(data)) + data
        self._write()

    def hear(self, seconds: float) -> Iterator[Any]:
        """Wait so long at most, and return what has come meanwhile; `has_ended` tells of the other end's death."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._to_say else 0))
        for _, events in poll.poll(seconds * 1000):
            if events & select.POLLOUT:
                self._write()
            if events & ~select.POLLOUT:
                self._read()
        while len(self._heard) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._heard)[0]
            if len(self._heard) < end:
                break
            data = bytes(self._heard[_LENGTH.size : end])
            del self._heard[:end]
            yield pickle.loads(data)

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        try:
            while data := self._socket.recv(_ATONCE):
                self._heard += data
            self.has_ended = True
        except BlockingIOError:
            pass  # that is all, for now
        except OSError:
            self.has_ended = True

    def _write(self) -> None:
        with suppress(OSError):  # full, or ended, which `hear` finds out
            while self._to_say:
                del self._to_say[: self._socket.send(self._to_say)]


class ChildLine:
    """The child's end, which waits: it has nothing else to do. A forked copy of the child has no part in it."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._owner = os.getpid()
        os.register_at_fork(after_in_child=self._socket.close)

    @property
    def is_ours(self) -> bool:
        """False in a forked copy of the child."""
        return os.getpid() == self._owner

    def say(self, what: object) -> None:
        """Send a message. In a forked copy that has come back this far, end it instead.

        Raises:
            OSError: the parent has gone.
        """
        if not self.is_ours:
            os._exit(1)
        data = pickle.dumps(what)
        self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def hear(self) -> Any:
        """Wait for the next message.

        Raises:
            EOFError, OSError: the parent has gone.
        """
        return pickle.loads(self._take(_LENGTH.unpack(self._take(_LENGTH.size))[0]))

    def _take(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            data = self._socket.recv(min(length - len(parts), _ATONCE))
            if not data:
                raise EOFError
            parts += data
        return bytes(parts)
