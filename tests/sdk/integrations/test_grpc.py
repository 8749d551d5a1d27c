"""The contract of every integration, for grpcio: its channels and its servers, with threads, asyncio and uvloop."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import grpc
import pytest
from integration_contract.loops import LoopThread
from integration_contract.pair import Exchange, Pair

from authsec_sdk.integrations.grpc import (
    mtls_aio_channel,
    mtls_aio_server,
    mtls_channel,
    mtls_server,
    peer_spiffe_id,
)
from authsec_sdk.spiffe import SpiffeID

Row = Callable[[Pair], None]
WHO = "/test.Who/Am"


class GrpcPair(Pair):
    """A grpcio channel calling a grpcio server, each with threads or on a loop of its own.

    A channel connects once: for new connections there are new channels.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    @contextmanager
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None) -> Iterator[Any]:
        served = SimpleNamespace(hits=0)

        def who(_request: bytes, context: Any) -> bytes:
            served.hits += 1
            return str(peer_spiffe_id(context)).encode()

        async def aio_who(request: bytes, context: Any) -> bytes:
            return who(request, context)

        def register(server: Any, handler: Any) -> None:
            handlers = {"Am": grpc.unary_unary_rpc_method_handler(handler)}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Who", handlers),))
            server.add_registered_method_handlers("test.Who", handlers)
            served.port = server.add_mtls_port("127.0.0.1:0")

        if self.kind == "threads":
            with ThreadPoolExecutor(4) as pool:
                server = mtls_server(pool, source, authorizer, on_rejected=on_rejected)
                register(server, who)
                server.start()
                try:
                    yield served
                finally:
                    server.stop(0).wait()
            return

        async def start() -> Any:
            server = mtls_aio_server(source, authorizer, on_rejected=on_rejected)
            register(server, aio_who)
            await server.start()
            return server

        with LoopThread(self.kind) as thread:
            aio_server = thread.run(start)
            try:
                yield served
            finally:
                thread.run(aio_server.stop, 0)

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        target, options = f"localhost:{port}", {"on_rejected": on_rejected}

        def call() -> Exchange:
            with mtls_channel(target, source, authorizer, **options) as channel:
                text = channel.unary_unary(WHO)(b"", timeout=20)
                return Exchange(channel.peer_spiffe_id, SpiffeID.parse(text.decode()))

        async def aio_call() -> Exchange:
            async with mtls_aio_channel(target, source, authorizer, **options) as channel:
                text = await channel.unary_unary(WHO)(b"", timeout=20)
                return Exchange(channel.peer_spiffe_id, SpiffeID.parse(text.decode()))

        if self.kind == "threads":
            yield call
            return
        with LoopThread(self.kind) as thread:
            yield lambda: thread.run(aio_call)


class GrpcServerPair(GrpcPair):
    """The same, for what holds of the server only."""

    cannot: ClassVar[dict[str, str]] = {
        "no_certificate_is_refused": "grpcio's core refuses in the handshake and tells nobody; see "
        "test_grpc_calls.test_a_client_without_a_certificate_is_refused_in_the_handshake",
    }


@pytest.fixture(params=["threads", "asyncio", "uvloop"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_client_contract(client_row: Row, kind: str) -> None:
    client_row(GrpcPair(kind))


def test_server_contract(server_row: Row, kind: str) -> None:
    server_row(GrpcServerPair(kind))


def test_rotation_under_load(load_row: Row, kind: str) -> None:
    load_row(GrpcPair(kind))
