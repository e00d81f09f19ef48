"""The bulk answer, end to end, and its floor: decode, the PRFs and encode alone."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import grpc
import msgspec

from gateway.api.v1 import exchange_service_pb2 as api
from gateway.identifiers import NATIONAL_ID
from gateway.pseudonym import Keyring, Pseudonymiser
from tests.bench.world import FIELDS, records

STREAM = "/gateway.api.v1.ExchangeService/StreamQuery"
PAGE = 1000


async def stream_once(channel: grpc.aio.Channel, request: bytes) -> tuple[int, float]:
    """Return (records, seconds) of one bulk answer, receipt included."""
    call = channel.unary_stream(STREAM)(request, timeout=600)
    received, finished = 0, False
    started = time.perf_counter()
    async for body in call:
        message = api.StreamQueryResponse.FromString(body)
        received += message.page.record_count
        finished = message.HasField("receipt")
    seconds = time.perf_counter() - started
    if not finished:
        raise RuntimeError("the stream ended without a receipt")
    return received, seconds


def floor_records_per_s(count: int) -> float:
    """Return how many records a second this machine's Python decodes, pseudonymises and encodes.

    Records, page size, libraries and the PRF are those of the gateway; there is no check of anything,
    no digest, no transport, no log.
    """
    _, lines = records(count)
    pages = [b"\n".join(lines[start : start + PAGE]) + b"\n" for start in range(0, count, PAGE)]
    record = msgspec.defstruct("Record", [(name, object) for name in FIELDS], gc=False)
    decode = msgspec.json.Decoder(record).decode_lines
    encode = msgspec.json.Encoder().encode
    now = datetime.now(UTC)
    pseudonymiser = Pseudonymiser(Keyring.generate(now)).for_exchange("bank", "statistics", now)
    columns = {
        name: [NATIONAL_ID.check_column([getattr(row, name) for row in decode(page)]) for page in pages]
        for name in ("representative_id", "owner_id")
    }
    started = time.perf_counter()
    for number, page in enumerate(pages):
        rows = decode(page)
        for name, checked in columns.items():
            for row, value in zip(rows, pseudonymiser.pseudonymise_column(checked[number]), strict=True):
                setattr(row, name, value)
        b"\n".join([encode(row) for row in rows])
    seconds = time.perf_counter() - started
    return count / seconds
