"""The client library: ask the gateway for records, and verify what comes back.

from gateway.client import Client, Subject

with Client.from_config("client.toml") as client:
    answer = client.query(
        "members/registry/datasets/companies", purpose="public-lookup",
        subjects=[Subject("uscc", "...")])
    print(answer.records)
"""

from gateway.client.aio import AsyncClient
from gateway.client.answers import Listed, Match, Page, StreamSummary
from gateway.client.contracts import PartyContract
from gateway.client.contributing import Contributed, record_line
from gateway.client.errors import (
    ClientError,
    ReceiptInvalidError,
    TransportError,
    error_class,
)
from gateway.client.sync import Client
from gateway.evidence.quality import Choice, QualityReport
from gateway.model import Actor, Subject

__all__ = [
    "Actor",
    "AsyncClient",
    "Choice",
    "Client",
    "ClientError",
    "Contributed",
    "Listed",
    "Match",
    "Page",
    "PartyContract",
    "QualityReport",
    "ReceiptInvalidError",
    "StreamSummary",
    "Subject",
    "TransportError",
    "error_class",
    "record_line",
]
