"""How the workers of one gateway reach each other: made before they part, the same in all."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.local_socket import StrangerError, listen_locally, verify_own_user
from gateway.telemetry.last_told import LastTold

# Loaded by the supervisor, and by the log process with it: nothing of Prometheus' library here.

_log: Final = structlog.get_logger()

ANSWER_TIMEOUT_S: Final = 1.0
"""How long all siblings together may take to answer."""

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""An answer takes about 100 bytes a series, and a registry holds far fewer than 100,000."""

_CHUNK_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Siblings:
    """One worker's place among all. Workers are numbered from 0, for the life of the supervisor."""

    own: int
    listener: socket.socket
    """Where this worker answers. It stands while the worker is started anew: who asks then waits."""
    addresses: tuple[bytes, ...]
    last_told: tuple[LastTold, ...]

    def ask(self) -> Mapping[int, bytes]:
        """Ask every other worker at once; return the answers that were whole within `ANSWER_TIMEOUT_S`.

        An answer is everything up to the end of the connection; one without content is none.
        """
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        received: dict[int, bytearray] = {}
        whole: dict[int, bytes] = {}
        with selectors.DefaultSelector() as selector, ExitStack() as open_sockets:
            for number, address in enumerate(self.addresses):
                if number == self.own:
                    continue
                channel = open_sockets.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                if _connect(channel, address):
                    selector.register(channel, selectors.EVENT_READ, number)
                    received[number] = bytearray()
            while selector.get_map() and (left_s := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left_s):
                    so_far = received[key.data]
                    chunk = _receive(key)
                    if chunk and len(so_far) <= MAX_ANSWER_BYTES:
                        so_far += chunk
                        continue
                    selector.unregister(key.fileobj)
                    if chunk == b"" and so_far:
                        whole[key.data] = bytes(so_far)
        return whole

    def close(self) -> None:
        """Let go of this worker's socket. The memory is shared with the others' places; see `close_all`."""
        self.listener.close()


def make_siblings(count: int) -> tuple[Siblings, ...]:
    """Return the places of `count` workers, to be handed to them when they are forked."""
    listening = [listen_locally() for _ in range(count)]
    addresses = tuple(address for _, address in listening)
    last_told = tuple(LastTold() for _ in range(count))
    return tuple(Siblings(own, listener, addresses, last_told) for own, (listener, _) in enumerate(listening))


def close_all(places: tuple[Siblings, ...]) -> None:
    """Let go of everything that `make_siblings` made, in this process."""
    for place in places:
        place.close()
        place.last_told[place.own].close()


def _connect(channel: socket.socket, address: bytes) -> bool:
    """Connect without waiting; tell whether somebody of our own user listens."""
    channel.setblocking(False)
    try:
        channel.connect(address)
        verify_own_user(channel)
    except OSError:
        # Nobody there, or so many before us that it cannot answer in time (unix(7): EAGAIN).
        return False
    except StrangerError as error:
        _log.error("metrics.stranger", pid=error.pid)
        return False
    return True


def _receive(key: selectors.SelectorKey) -> bytes | None:
    """Return what has come, nothing at the end, None if the connection broke."""
    assert isinstance(key.fileobj, socket.socket)
    try:
        return key.fileobj.recv(_CHUNK_BYTES)
    except OSError:
        return None
