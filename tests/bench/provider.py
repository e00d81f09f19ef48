"""The benchmark's provider process: the real servicer over records held in memory.

`python -m tests.bench.provider DIRECTORY PORT RECORDS` prints a line when it serves.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import uvloop

from gateway.api.v1 import provider_service_pb2
from gateway.clock import system_clock
from gateway.deployment.layout import gateway_uri
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust
from gateway.model import FieldType
from gateway.pki.reload import ReloadingCredentials
from gateway.rpc.provider import ProviderIdentity, ProviderServicer
from gateway.rpc.server import RpcServer
from gateway.sources.mapping import parse_mapping
from gateway.sources.source import FetchRequest, SourcePage
from tests.bench.world import FIELDS, records

MAPPING = """
member = "registry"
[datasets.bench]
file = "nothing.jsonl"
lookup = ["uscc"]
[datasets.bench.columns]
"""


class MemorySource:
    """Records that are there already, so that what is measured is not a database."""

    def __init__(self, count: int) -> None:
        keys, self._lines = records(count)
        self._by_key = dict(zip(keys, self._lines, strict=True))
        self._pages: dict[int, list[SourcePage]] = {}

    @property
    def fields(self) -> Mapping[str, FieldType]:
        return dict.fromkeys(FIELDS, FieldType.STRING)

    def fetch(self, request: FetchRequest) -> SourcePage:
        found = [self._by_key[key] for key in request.subject_values if key in self._by_key]
        return SourcePage(
            records=b"".join(line + b"\n" for line in found), count=len(found), next_cursor=None
        )

    def stream(self, request: FetchRequest) -> Iterator[SourcePage]:
        size = request.page_size
        if size not in self._pages:
            starts = range(0, len(self._lines), size)
            self._pages[size] = [
                SourcePage(
                    records=b"\n".join(self._lines[start : start + size]) + b"\n",
                    count=len(self._lines[start : start + size]),
                    next_cursor=b"more" if start + size < len(self._lines) else None,
                )
                for start in starts
            ]
        return iter(self._pages[size])

    def count_records(self) -> int:
        return len(self._lines)

    def close(self) -> None:
        self._pages.clear()


async def main(directory: Path, port: int, count: int) -> None:

    trust = Trust.load(directory / "trust.json")
    mapping = parse_mapping(MAPPING + "\n".join(f'{name} = "{name}"' for name in FIELDS), directory)
    servicer = ProviderServicer(
        ProviderIdentity(
            gateway=trust.origin,
            gateway_uri=gateway_uri(),
            gateway_keys=trust.gateway_verify_keys,
            signing_key=SigningKey.load(directory / "signing.key"),
        ),
        mapping,
        {"bench": MemorySource(count)},
        system_clock,
    )
    service = provider_service_pb2.DESCRIPTOR.services_by_name["ProviderService"]
    server = RpcServer({service: servicer}, with_reflection=False)
    credentials = ReloadingCredentials(
        directory / "member.pem", directory / "tls.key", directory / "ca.pem", demo=False
    )
    await server.start(f"127.0.0.1:{port}", credentials.server_credentials())
    print("serving", flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
