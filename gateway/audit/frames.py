"""What the gateway's processes and its log process tell each other over a local socket.

A frame is a length (4 bytes, big-endian) and a MessagePack array. Both ends are of one release and
run under one user; nothing here is stored or sent to another machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

import msgspec

from gateway.audit.blocks import IndexRow
from gateway.audit.store import Once

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""More than the answer to a full batch, whose entries are at most 16 KiB each when asked for."""

_LENGTH_BYTES: Final = 4


class AppendRequest(msgspec.Struct, array_like=True, frozen=True):
    """To the log: append one entry."""

    number: int
    """Chosen by the caller; the answer names it."""
    data: bytes
    """The leaf: canonical, at most 16 KiB; where it awaits a number, without that."""
    row: IndexRow
    once: Once | None
    sequence: int | None
    """0 if the log is to fill in the number that the leaf awaits."""


class Placed(msgspec.Struct, array_like=True, frozen=True):
    """Where an entry stands now."""

    number: int
    index: int
    proof: tuple[bytes, ...]
    """Inclusion proof under the note of the answer."""
    sequence: int | None
    """The number that was filled in."""


class Failed(msgspec.Struct, array_like=True, frozen=True):
    """Why an entry has no place."""

    number: int
    kind: str
    """`once`, `mismatch` or `unavailable`."""
    message: str


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """From the log: what became of one caller's part of a batch; without entries, how the log fares."""

    healthy: bool
    size: int = 0
    note: str = ""
    placed: tuple[Placed, ...] = ()
    failed: tuple[Failed, ...] = ()
    batch: tuple[int, float] | None = None
    """Entries and seconds of the whole transaction; told to one of those who had part in it."""
    vkey: str = ""
    """The verifier key of the log, as a note names it; in the first answer of a connection."""


_encoder: Final = msgspec.msgpack.Encoder()
_Frame = TypeVar("_Frame", AppendRequest, Answer)


def encode_frame(frame: AppendRequest | Answer) -> bytes:
    """Return `frame` as it travels."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class FrameReader(Generic[_Frame]):
    """Cuts a stream of bytes into frames of one type."""

    def __init__(self, frame_type: type[_Frame]) -> None:
        self._decoder: msgspec.msgpack.Decoder[_Frame] = msgspec.msgpack.Decoder(frame_type)
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[_Frame]:
        """Yield the frames that `data` completes; raise `ValueError` for what is none."""
        data = self._rest + data if self._rest else data
        start = 0
        while len(data) - start >= _LENGTH_BYTES:
            length = int.from_bytes(data[start : start + _LENGTH_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise ValueError("the frame is too long")
            end = start + _LENGTH_BYTES + length
            if end > len(data):
                break
            yield self._decoder.decode(data[start + _LENGTH_BYTES : end])
            start = end
        self._rest = data[start:]
