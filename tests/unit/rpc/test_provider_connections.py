"""One connection to each provider, renewed with the gateway's identity, closed when nobody uses it."""

import grpc
import msgspec
import pytest

from gateway.model import Member, Role
from gateway.rpc.provider_client import GrpcProviders
from tests.simulators.waiting import until

SHUTDOWN = grpc.ChannelConnectivity.SHUTDOWN


class Identity:
    """An identity that a test renews."""

    generation = 0

    def channel_credentials(self):
        return grpc.ssl_channel_credentials()


def member(name, endpoint="127.0.0.1:1"):
    return Member(
        id=name,
        title=name,
        member_class="agency",
        roles=frozenset({Role.PROVIDER}),
        uri=f"spiffe://x/{name}",
        signing_keys={},
        endpoint=endpoint,
    )


@pytest.fixture
def identity():
    return Identity()


def state(connection):
    return connection._channel.get_state()


async def closed(connection):
    await until(lambda: state(connection) is SHUTDOWN)


@pytest.mark.asyncio
async def test_a_connection_is_kept_for_each_provider(identity):
    providers = GrpcProviders(identity)
    tax, registry = (providers._connection(member(name)) for name in ("tax", "registry"))
    assert tax is not registry
    assert providers._connection(member("tax")) is tax
    await providers.close()
    assert (state(tax), state(registry)) == (SHUTDOWN, SHUTDOWN)


@pytest.mark.asyncio
async def test_a_new_identity_opens_a_new_one_and_the_old_closes_after_its_calls(identity):
    providers = GrpcProviders(identity)
    used, idle = providers._connection(member("tax")), providers._connection(member("registry"))
    with used.call(), used.call():
        identity.generation += 1
        fresh = providers._connection(member("tax"))
        assert fresh not in {used, idle}
        await closed(idle)
        assert state(used) is not SHUTDOWN
    await closed(used)
    assert state(fresh) is not SHUTDOWN
    await providers.close()
    assert providers._retired == {}


@pytest.mark.asyncio
async def test_a_provider_that_moved_is_called_where_it_is_now(identity):
    providers = GrpcProviders(identity)
    before, other = providers._connection(member("tax")), providers._connection(member("registry"))
    after = providers._connection(msgspec.structs.replace(member("tax"), endpoint="127.0.0.1:2"))
    await closed(before)
    assert state(after) is not SHUTDOWN
    assert providers._connection(member("registry")) is other
    await providers.close()


@pytest.mark.asyncio
async def test_closing_does_not_wait_for_calls(identity):
    providers = GrpcProviders(identity)
    used = providers._connection(member("tax"))
    with used.call():
        identity.generation += 1
        fresh = providers._connection(member("tax"))
        await providers.close()
        assert (state(used), state(fresh)) == (SHUTDOWN, SHUTDOWN)
