"""Sockets between the processes of one gateway: made before they part, open to one user only."""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

from gateway.errors import GatewayError

_BACKLOG: Final = 128

_PEER: Final = struct.Struct("3i")
"""`struct ucred` (unix(7)): process, user, group."""


class StrangerError(GatewayError):
    """The process at the other end belongs to another user."""

    def __init__(self, pid: int) -> None:
        super().__init__("A process of another user is at the other end of a local socket; hang up.", pid=pid)
        self.pid = pid


def listen_locally() -> tuple[socket.socket, bytes]:
    """Return a listening socket, and the address at which processes of this machine reach it.

    The address is an abstract one (unix(7)) that the kernel chooses: there is no file to leave
    behind, and none whose mode could keep others out. Whoever accepts calls `verify_own_user`.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("")
    listener.listen(_BACKLOG)
    return listener, listener.getsockname()


def verify_own_user(connection: socket.socket) -> None:
    """Raise `StrangerError` unless the other end was opened by this process's user (SO_PEERCRED, unix(7))."""
    pid, user, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    if user != os.geteuid():
        raise StrangerError(pid)
