import socket
from contextlib import ExitStack

import pytest

from gateway.errors import ConfigError
from gateway.process import reserve_port


def listen(port, *, shared):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def reserved(address):
    holder, address = reserve_port(address)
    return holder, int(address.rpartition(":")[2])


def test_several_processes_listen_on_a_reserved_port():
    with ExitStack() as stack:
        holder, port = reserved("127.0.0.1:0")
        stack.enter_context(holder)
        for _ in range(2):
            stack.enter_context(listen(port, shared=True))


def test_a_port_on_which_somebody_listens_is_refused_even_if_they_would_share_it():
    with listen(0, shared=True) as other:
        port = other.getsockname()[1]
        with listen(port, shared=True):  # the control: the kernel alone would allow it
            pass
        with pytest.raises(ConfigError, match="free"):
            reserve_port(f"127.0.0.1:{port}")


def test_a_port_is_to_be_had_while_old_connections_linger():
    """A server that closes first, as at the end of a scrape or at a stop, leaves TIME_WAIT behind."""
    with listen(0, shared=False) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            listener.accept()[0].close()
            assert caller.recv(1) == b""
    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind(("127.0.0.1", port))  # the control: it does linger
    holder, again = reserved(f"127.0.0.1:{port}")
    with holder:
        assert again == port


def test_an_address_that_is_not_ours_is_refused():
    with pytest.raises(ConfigError, match="Cannot listen"):
        reserve_port("192.0.2.1:0")
