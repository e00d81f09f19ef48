import os
import socket

import pytest

from gateway.local_socket import StrangerError, listen_locally, verify_own_user


@pytest.fixture
def ends():
    one, other = socket.socketpair()
    with one, other:
        yield one


def test_who_knows_the_address_reaches_the_listener():
    listener, address = listen_locally()
    with listener, socket.socket(socket.AF_UNIX) as caller:
        caller.connect(address)
        accepted, _ = listener.accept()
        with accepted:
            verify_own_user(accepted)
            verify_own_user(caller)


def test_there_is_no_file():
    listener, address = listen_locally()
    with listener:
        assert address.startswith(b"\0")


def test_a_process_of_our_own_user_is_let_in(ends):
    verify_own_user(ends)


def test_a_process_of_another_user_is_a_stranger(ends, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StrangerError) as refused:
        verify_own_user(ends)
    assert refused.value.pid == os.getpid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take another user's place")
def test_even_root_does_not_let_in_another_user():
    listener, address = listen_locally()
    with listener, socket.socket(socket.AF_UNIX) as caller:
        os.seteuid(65534)
        try:
            caller.connect(address)
        finally:
            os.seteuid(0)
        accepted, _ = listener.accept()
        with accepted, pytest.raises(StrangerError):
            verify_own_user(accepted)
