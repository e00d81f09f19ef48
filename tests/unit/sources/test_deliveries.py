"""A provider's own file of what it delivered: durable before a page leaves, and only ever added to."""

import resource

import pytest

from gateway.audit.holdings import HoldingsError, Outcome, decode_deliveries
from gateway.clock import system_clock
from gateway.errors import ConfigError, GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.delivery import DELIVERY_TYPE, build_delivery
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust, TrustedMember
from gateway.sources.deliveries import DeliveryFile

KEY = SigningKey(bytes(range(32)))
FOREIGN = SigningKey(bytes(32))


def delivery(exchange="exchange-1", page=0, key=KEY):
    statement = build_delivery(
        exchange=exchange,
        dataset="members/registry/datasets/companies",
        page=page,
        records=b'{"name":"Amber Trading Co."}\n',
        count=1,
        time=system_clock(),
        last=True,
    ).statement
    return dsse.sign(statement, DELIVERY_TYPE, [key])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deliveries.jsonl"


@pytest.fixture
def trust():
    member = TrustedMember(title="Registry", signing_keys={KEY.key_id: KEY.verify_key.public})
    return Trust(v=1, origin="a.example/log", log_keys=(), gateway_keys={}, members={"registry": member})


def read(path, trust, member="registry"):
    with path.open("rb") as file:
        return decode_deliveries(file, member, trust)


def test_what_was_delivered_comes_back_by_exchange(path, trust):
    with DeliveryFile(path) as file:
        file.add("harbour-bank", delivery("exchange-1", 0))
        file.add("harbour-bank", delivery("exchange-1", 1))
    with DeliveryFile(path) as file:
        file.add("northern-bank", delivery("exchange-2"))
    found = [(item.exchange, item.consumer, item.pages, item.outcome) for item in read(path, trust).items]
    assert found == [
        ("exchange-1", "harbour-bank", 2, Outcome.DELIVERED),
        ("exchange-2", "northern-bank", 1, Outcome.DELIVERED),
    ]


def test_neither_records_nor_their_salt_stand_in_it(path):
    with DeliveryFile(path) as file:
        file.add("harbour-bank", delivery())
    assert b"Amber" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_others_may_read_is_refused(path):
    path.touch(0o600)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        DeliveryFile(path)


def test_a_file_that_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be used"):
        DeliveryFile(tmp_path / "nowhere" / "deliveries.jsonl")


def test_a_line_that_a_crash_cut_off_is_taken_away(path, trust):
    with DeliveryFile(path) as file:
        file.add("harbour-bank", delivery())
    whole = path.read_bytes()
    for cut in (whole[:40], whole[:-1], b""):
        path.write_bytes(whole + cut)
        with DeliveryFile(path):
            assert path.read_bytes() == whole
    path.write_bytes(whole[:-1])
    with DeliveryFile(path) as file:
        assert path.read_bytes() == b""
        file.add("harbour-bank", delivery())
    assert len(read(path, trust).items) == 1


def test_on_a_full_disk_nothing_is_delivered_and_the_file_stays_whole(path, trust):
    """Control: with room again, the next delivery is recorded."""
    with DeliveryFile(path) as file:
        file.add("harbour-bank", delivery("exchange-1"))
        size = path.stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        try:
            with pytest.raises(GatewayError) as raised:
                file.add("harbour-bank", delivery("exchange-2"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert raised.value.reason is Reason.PROVIDER_REFUSED
        assert path.stat().st_size == size
        file.add("harbour-bank", delivery("exchange-3"))
    assert [item.exchange for item in read(path, trust).items] == ["exchange-1", "exchange-3"]


@pytest.mark.parametrize("key", [FOREIGN])
def test_a_statement_by_another_key_is_refused_by_its_line(path, trust, key):
    with DeliveryFile(path) as file:
        file.add("harbour-bank", delivery())
        file.add("harbour-bank", delivery(key=key))
    with pytest.raises(HoldingsError, match="Line 2 "):
        read(path, trust)


def test_a_malformed_line_is_refused_by_its_number(path, trust):
    path.write_bytes(b"{}\n")
    with pytest.raises(HoldingsError, match="Line 1 "):
        read(path, trust)
