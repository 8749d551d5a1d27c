"""Every way to write a handler for grpc.aio passes the verdict, and knows the caller; reflection works as natively."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.integrations.grpc import mtls_aio_channel, mtls_aio_server, peer_spiffe_id

MEMBERS = authorize_member_of("example.org")


def who(context: Any) -> bytes:
    return str(peer_spiffe_id(context)).encode()


def plain(_request: bytes, context: Any) -> bytes:
    return who(context)


async def awaited(_request: bytes, context: Any) -> bytes:
    return who(context)


def iterated(_request: bytes, context: Any) -> Iterator[bytes]:
    for _ in range(3):
        yield who(context)


async def generated(_request: bytes, context: Any) -> AsyncIterator[bytes]:
    for _ in range(3):
        yield who(context)


async def written(_request: bytes, context: Any) -> None:
    for _ in range(3):
        await context.write(who(context))


@pytest.mark.parametrize("accepted", [True, False])
def test_handlers_of_every_kind(world: Any, accepted: bool) -> None:
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    handlers = {each.__name__: unary(each) for each in (plain, awaited)}
    handlers |= {each.__name__: stream(each) for each in (iterated, generated, written)}

    async def run() -> None:
        server = mtls_aio_server(world.payments, MEMBERS if accepted else authorize_id("spiffe://example.org/other"))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.A", handlers),))
        reflection.enable_server_reflection(("t.A",), server)
        port = server.add_mtls_port("127.0.0.1:0")
        await server.start()
        async with mtls_aio_channel(f"127.0.0.1:{port}", world.frontend, MEMBERS) as channel:
            refusals: list[Any] = []
            for name, handler in handlers.items():
                answers = []
                try:
                    if handler.response_streaming:
                        answers = [answer async for answer in channel.unary_stream(f"/t.A/{name}")(b"", timeout=20)]
                    else:
                        answers = [await channel.unary_unary(f"/t.A/{name}")(b"", timeout=20)]
                except grpc.aio.AioRpcError as error:
                    refusals.append(error.code())
                assert set(answers) == ({str(world.frontend_id).encode()} if accepted else set()), name
            assert refusals == ([] if accepted else [grpc.StatusCode.PERMISSION_DENIED] * len(handlers))
            with pytest.raises(grpc.aio.AioRpcError) as info:
                await channel.unary_unary("/t.A/none")(b"", timeout=20)
            wanted = grpc.StatusCode.UNIMPLEMENTED if accepted else grpc.StatusCode.PERMISSION_DENIED
            assert info.value.code() is wanted
            if accepted:
                request = reflection_pb2.ServerReflectionRequest(list_services="")
                call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
                assert [each.list_services_response.service[0].name async for each in call] == ["t.A"]
        await server.stop(0)

    asyncio.run(run())
