"""The contract of every integration, for grpclib: its channel and its server, on asyncio and uvloop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpclib.client
import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from integration_contract.loops import LoopThread
from integration_contract.pair import Exchange, Pair

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations.grpclib import MTLSServer, mtls_channel, peer_spiffe_id
from authsec_sdk.proto import empty_pb2, wrappers_pb2
from authsec_sdk.spiffe import SpiffeID

Row = Callable[[Pair], None]
WHO, ADMIN = "/test.Who/Am", "/test.Who/Admin"
MEMBERS = authorize_member_of("example.org")


async def ask(channel: Any, method: str = WHO) -> Exchange:
    stub = grpclib.client.UnaryUnaryMethod(channel, method, empty_pb2.Empty, wrappers_pb2.StringValue)
    async with stub.open(timeout=20) as stream:
        await stream.send_message(empty_pb2.Empty(), end=True)
        peer = peer_spiffe_id(stream)
        answer: Any = await stream.recv_message()
        return Exchange(peer, SpiffeID.parse(answer.value))


class GrpclibPair(Pair):
    """grpclib calling grpclib, each on a loop of its own."""

    def __init__(self, loop: str) -> None:
        self.loop = loop

    @contextmanager
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None, methods: Any = None) -> Iterator[Any]:
        served = SimpleNamespace(hits=0)

        async def who(stream: Any) -> None:
            served.hits += 1
            await stream.recv_message()
            await stream.send_message(wrappers_pb2.StringValue(value=str(peer_spiffe_id(stream))))

        handler = Handler(who, Cardinality.UNARY_UNARY, empty_pb2.Empty, wrappers_pb2.StringValue)
        service = SimpleNamespace(__mapping__=lambda: {WHO: handler, ADMIN: handler})

        async def start() -> MTLSServer:
            server = MTLSServer([service], source, authorizer, methods=methods, on_rejected=on_rejected)
            await server.start("127.0.0.1", 0)
            inner: Any = server._server
            served.port = inner.sockets[0].getsockname()[1]
            return server

        async def stop(server: MTLSServer) -> None:
            server.close()
            await server.wait_closed()

        with LoopThread(self.loop) as thread:
            server = thread.run(start)
            try:
                yield served
            finally:
                thread.run(stop, server)

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        async def call() -> Exchange:
            async with mtls_channel("127.0.0.1", port, source, authorizer, on_rejected=on_rejected) as channel:
                return await ask(channel)

        with LoopThread(self.loop) as thread:
            yield lambda: thread.run(call)


@pytest.fixture(params=["asyncio", "uvloop"])
def pair(request: pytest.FixtureRequest) -> GrpclibPair:
    return GrpclibPair(request.param)


def test_client_contract(client_row: Row, pair: GrpclibPair) -> None:
    client_row(pair)


def test_server_contract(server_row: Row, pair: GrpclibPair) -> None:
    server_row(pair)


def test_rotation_under_load(load_row: Row, pair: GrpclibPair) -> None:
    load_row(pair)


def test_policy_per_method(world: Any, pair: GrpclibPair) -> None:
    methods = {"/test.Who/*": MEMBERS, ADMIN: authorize_id("spiffe://example.org/admin")}

    async def call(port: int) -> None:
        async with mtls_channel("127.0.0.1", port, world.frontend, MEMBERS) as channel:
            assert (await ask(channel)).caller == world.frontend_id
            with pytest.raises(GRPCError) as info:
                await ask(channel, ADMIN)
            assert info.value.status is Status.PERMISSION_DENIED

    with pair.serve(world.payments, MEMBERS, methods=methods) as served, LoopThread(pair.loop) as thread:
        thread.run(call, served.port)
    assert served.hits == 1


def test_nothing_goes_round_the_policy(world: Any) -> None:
    for option in ("ssl", "path"):
        with pytest.raises(CallerError):
            mtls_channel("a", 1, world.frontend, MEMBERS, **{option: None})
