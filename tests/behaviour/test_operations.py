"""Running it: health, reflection, graceful stop, renewed certificates, restarts."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import suppress

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from grpc_health.v1 import health_pb2

from gateway.api.v1 import exchange_service_pb2
from gateway.client import ClientError
from gateway.config import GatewayConfig, MetricsConfig, ServerConfig
from gateway.demo.world import COMPANIES
from gateway.deployment.layout import gateway_uri
from gateway.errors import ConfigError
from gateway.model import EntryKind, Operation
from tests.simulators.caller import STREAM, wire
from tests.simulators.outcome import reason_of, refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.mark.parametrize(
    "service",
    ["", "gateway.api.v1.ExchangeService", "gateway.api.v1.AuditService", "gateway.api.v1.CatalogService"],
)
async def test_health_is_told_for_the_server_and_for_each_service(
    world: SimulatedWorld, service: str
) -> None:
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    answer = await world.caller().unary(HEALTH, request)
    assert health_pb2.HealthCheckResponse.FromString(answer).status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_is_off_unless_it_is_asked_for(world: SimulatedWorld, tmp_path) -> None:
    list_services = b"\x3a\x00"

    async def listed(caller) -> bytes:
        call = caller._channel.stream_stream(REFLECTION)(iter([list_services]), timeout=5)
        return b"".join([message async for message in call])

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await listed(world.caller())
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    other = await SimulatedWorld(tmp_path / "other", company_count=3, reflection=True).start()
    try:
        assert b"gateway.api.v1.ExchangeService" in await listed(other.caller())
    finally:
        await other.stop()


async def test_start_and_stop_leave_entries(own_world: SimulatedWorld) -> None:
    await own_world.stop_node()
    described = [EntryKind.DATASET_DESCRIBED] * len(list(own_world.config.catalogue.glob("*.yaml")))
    assert [entry.kind for entry in own_world.log.entries()][-2 - len(described) :] == [
        EntryKind.GATEWAY_STARTED,
        *described,
        EntryKind.GATEWAY_STOPPED,
    ]
    own_world.log.verify()
    lines = [json.loads(line) for line in own_world.output.getvalue().splitlines()]
    [stopped] = [line for line in lines if line["event"] == "gateway.stopped"]
    assert stopped["entry"] == own_world.log.size() - 1


async def test_a_graceful_stop_lets_a_running_stream_finish(own_world: SimulatedWorld) -> None:
    own_world.registry.gate.clear()
    caller = own_world.caller()
    late = own_world.caller("northern-bank")
    await late.query(late.statement(COMPANIES, "public-lookup", filters={"kind": "none"}))
    stream = caller.stream(caller.statement(COMPANIES, "public-lookup", Operation.STREAM), page_size=10)
    received = [await anext(stream), await anext(stream)]
    stopping = asyncio.create_task(own_world.stop_node())
    # From the moment the stop begins, nobody new is served.
    await until(lambda: is_refused(late))
    assert not stopping.done()
    own_world.registry.gate.set()
    received.extend([message async for message in stream])
    assert received[-1].HasField("receipt")
    assert sum(message.page.record_count for message in received) == len(own_world.companies)
    await stopping
    own_world.log.verify()


async def is_refused(caller) -> bool:
    query = caller.statement(COMPANIES, "public-lookup", filters={"kind": "none"})
    return await reason_of(caller.query(query, timeout_s=2)) == "UNAVAILABLE"


async def test_a_stream_that_outlasts_the_grace_is_cut_and_recorded(own_world: SimulatedWorld) -> None:
    def impatient(config: GatewayConfig) -> GatewayConfig:
        server = config.server.model_copy(update={"shutdown_grace_s": 0.2})
        assert isinstance(server, ServerConfig)
        return config.model_copy(update={"server": server})

    await own_world.stop_node()
    await own_world.start_node(impatient)
    own_world.registry.gate.clear()
    caller = own_world.caller()
    stream = caller.stream(caller.statement(COMPANIES, "public-lookup", Operation.STREAM), page_size=10)
    await anext(stream)
    await anext(stream)
    await own_world.stop_node()
    with pytest.raises(grpc.aio.AioRpcError):
        await anext(stream)
    kinds = [entry.kind for entry in own_world.log.entries()]
    assert kinds[-1] is EntryKind.GATEWAY_STOPPED
    [failed] = [entry for entry in own_world.log.entries() if entry.kind is EntryKind.EXCHANGE_FAILED]
    assert (failed.reasons, failed.pages) == (("CANCELLED",), 2)
    own_world.log.verify()


async def test_renewed_certificates_are_served_while_a_client_calls_throughout(
    own_world: SimulatedWorld,
) -> None:
    world = own_world
    steady = world.client()
    calls = 0
    done = asyncio.Event()

    async def call_throughout() -> None:
        nonlocal calls
        while not done.is_set():
            await steady.query(COMPANIES, purpose="public-lookup", filters={"kind": "none"})
            calls += 1

    calling = asyncio.create_task(call_throughout())
    served = set()
    for _ in range(3):
        issued = world.authority.issue(
            "gateway", uri=gateway_uri(), dns=["localhost"], ips=["127.0.0.1"], valid_days=30
        )
        world.config.tls.key.unlink()
        issued.save(world.config.tls.certificate, world.config.tls.key)
        fresh = world.client("northern-bank")
        await fresh.query(COMPANIES, purpose="public-lookup", filters={"kind": "none"})
        served.add(await certificate_served(world))
        assert await certificate_served(world) == issued.cert_pem.strip()
        before = calls
        await until(lambda before=before: calls >= before + 3)
    done.set()
    await calling
    assert len(served) == 3


async def certificate_served(world: SimulatedWorld) -> bytes:
    """Return the certificate (PEM) that a new connection is shown."""
    files = world.members["harbour-bank"]
    context = ssl.create_default_context(cafile=files.directory / "ca.pem")
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(files.certificate, files.tls_key)
    _, writer = await asyncio.open_connection("127.0.0.1", world.node.port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).strip()


async def test_half_a_renewal_keeps_the_old_certificate(own_world: SimulatedWorld) -> None:
    old = await certificate_served(own_world)
    issued = own_world.authority.issue("gateway", uri=gateway_uri(), ips=["127.0.0.1"], valid_days=30)
    own_world.config.tls.certificate.write_bytes(issued.cert_pem)
    assert await certificate_served(own_world) == old
    await own_world.works()


async def test_half_a_renewal_keeps_providers_reachable(own_world: SimulatedWorld) -> None:
    """What is shown to providers is what was read and checked, whatever the files are by then."""
    own_world.config.tls.certificate.write_bytes(b"not a certificate")
    own_world.config.tls.key.unlink()
    assert own_world.registry.orders == []
    caller = own_world.caller()
    await caller.query(caller.statement(COMPANIES, "public-lookup"))
    assert len(own_world.registry.orders) == 1


def renew(world: SimulatedWorld) -> bytes:
    """Put a renewed certificate and key in place; return the certificate."""
    issued = world.authority.issue("gateway", uri=gateway_uri(), ips=["127.0.0.1"], valid_days=30)
    world.config.tls.key.unlink()
    issued.save(world.config.tls.certificate, world.config.tls.key)
    return issued.cert_pem.strip()


async def test_a_renewal_is_shown_to_providers_though_every_connection_stands(
    own_world: SimulatedWorld, monkeypatch
) -> None:
    monkeypatch.setattr("gateway.node.CERTIFICATE_INTERVAL_S", 0.05)
    await own_world.restart_node()
    caller = own_world.caller()
    query = "public-lookup"
    await caller.query(caller.statement(COMPANIES, query))
    before = own_world.registry.seen_certificate.strip()
    renewed = renew(own_world)

    async def is_shown() -> bool:
        await caller.query(caller.statement(COMPANIES, query))
        return own_world.registry.seen_certificate.strip() == renewed

    await until(is_shown)
    assert before != renewed


async def test_a_stream_goes_on_over_the_connection_of_the_old_certificate(own_world: SimulatedWorld) -> None:
    own_world.registry.gate.clear()
    caller = own_world.caller()
    stream = caller.stream(caller.statement(COMPANIES, "public-lookup", Operation.STREAM), page_size=10)
    received = [await anext(stream), await anext(stream)]
    before = own_world.registry.seen_certificate.strip()
    renewed = renew(own_world)
    await own_world.works("northern-bank")
    assert own_world.registry.seen_certificate.strip() == renewed != before
    own_world.registry.gate.set()
    received.extend([message async for message in stream])
    assert sum(message.page.record_count for message in received) == len(own_world.companies)
    assert received[-1].HasField("receipt")


async def test_a_renewed_certificate_is_shown_to_providers_as_well(own_world: SimulatedWorld) -> None:
    await own_world.works()
    issued = own_world.authority.issue("gateway", uri=gateway_uri(), ips=["127.0.0.1"], valid_days=30)
    own_world.config.tls.key.unlink()
    issued.save(own_world.config.tls.certificate, own_world.config.tls.key)
    await own_world.registry.stop()
    await own_world.registry.start()
    caller = own_world.caller()

    async def is_answered() -> bool:
        return not await reason_of(caller.query(caller.statement(COMPANIES, "public-lookup")))

    await until(is_answered)
    assert own_world.registry.seen_certificate.strip() == issued.cert_pem.strip()


async def test_a_port_that_is_taken_stops_the_start(world: SimulatedWorld, tmp_path) -> None:
    def same_port(config: GatewayConfig) -> GatewayConfig:
        server = config.server.model_copy(update={"listen": f"127.0.0.1:{world.node.port}"})
        return config.model_copy(update={"server": server, "metrics": MetricsConfig(enabled=False)})

    other = SimulatedWorld(tmp_path / "other", company_count=3)
    with pytest.raises(ConfigError):
        await other.start(same_port)
    other.log.verify()


async def test_a_client_that_leaves_mid_stream_is_forgotten(world: SimulatedWorld) -> None:
    """Twenty streams are dropped by closing their connections; each one ends with an entry."""
    first = world.log.size()
    world.registry.gate.clear()
    for _ in range(20):
        caller = world.caller()
        body = exchange_service_pb2.StreamQueryRequest(
            envelope=wire(caller.seal(caller.statement(COMPANIES, "public-lookup", Operation.STREAM))),
            page_size=10,
        ).SerializeToString()
        call = caller.streaming(STREAM, body)
        await call.read()
        await caller._channel.close()
    async with asyncio.timeout(5):
        await world.registry.ended.wait()

    def closed() -> list[tuple[str, ...]]:
        return [entry.reasons for entry in world.log.entries(first) if entry.reasons]

    await until(lambda: len(closed()) == 20)
    assert set(closed()) == {("CANCELLED",)}
    await until(lambda: "sluicegate_open_streams 0.0" in world.metrics_text())


async def test_an_answer_cannot_be_had_of_a_gateway_that_is_down(own_world: SimulatedWorld) -> None:
    client = own_world.client()
    await own_world.stop_node()
    with pytest.raises(ClientError) as raised:
        await client.query(COMPANIES, purpose="public-lookup")
    assert raised.value.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert (await refused(own_world.caller().unary(HEALTH, b""))).code == "UNAVAILABLE"
