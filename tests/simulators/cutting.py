"""A TCP proxy before PostgreSQL that cuts, swallows or stalls what goes through it, at a chosen point."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import Literal

Side = Literal["question", "answer"]


class CuttingProxy:
    """Passes messages between one client at a time and a server, until it is to cut.

    `cut_at(n, side)`: of the n-th chunk from the client from now on (0 is the next), either nothing
    reaches the server ("question"), or the server gets it and the client does not get the answer.
    `cut_at_text(text, side)`: the same of the next chunk from the client that has this text.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._countdown: int | None = None
        self._text = b""
        self._side: Side = "question"
        self._stalled = threading.Event()
        self._closed = threading.Event()
        self.cuts = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut_at(self, chunk: int, side: Side) -> None:
        with self._lock:
            self._countdown, self._text, self._side = chunk, b"", side

    def cut_at_text(self, text: bytes, side: Side) -> None:
        with self._lock:
            self._countdown, self._text, self._side = 0, text, side

    def spare(self) -> None:
        """Cut nothing more."""
        with self._lock:
            self._countdown = None

    def stall(self) -> None:
        """Pass nothing more of the connections that stand: both ends go on believing in them."""
        self._stalled.set()

    def close(self) -> None:
        self._closed.set()
        # Wakes the thread: asleep in `accept`, it would go on with whatever gets the number next.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass, args=(client, server), daemon=True).start()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, suppress(OSError):
            swallow = False
            while not self._closed.is_set():
                ready, _, _ = select.select([client, server], [], [], 0.5)
                if self._stalled.is_set():
                    self._closed.wait()
                    return
                if client in ready:
                    data = client.recv(1 << 20)
                    if not data:
                        return
                    cut = self._count(data)
                    if cut == "question":
                        return
                    server.sendall(data)
                    swallow = swallow or cut == "answer"
                if server in ready:
                    data = server.recv(1 << 20)
                    if not data or swallow:
                        # The server has done what it was asked; nobody hears of it.
                        return
                    client.sendall(data)

    def _count(self, data: bytes) -> Side | None:
        with self._lock:
            if self._countdown is None or self._text not in data:
                return None
            self._countdown -= 1
            if self._countdown >= 0:
                return None
            self._countdown = None
            self.cuts += 1
            return self._side
