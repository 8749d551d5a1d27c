"""grpcio channels and servers of `authsec_sdk.integrations.grpc` with grpc-go at the other end, over mutual TLS."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from authsec_sdk.authz import authorize_id
from authsec_sdk.integrations.grpc import mtls_aio_channel, mtls_channel, mtls_server, peer_spiffe_id
from authsec_sdk.proto import empty_pb2, status_pb2, wrappers_pb2
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import PeerVerificationError

GO, PYTHON = "spiffe://example.org/go", "spiffe://example.org/python"
BIG = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Identities:
    """A CA, ours as a source, and Go's as the flags that name its files."""

    def __init__(self, folder: Path) -> None:
        self.ca = TestCA("example.org")
        self.source = X509ContextHolder(X509Context((self.ca.svid("/python"),), BundleSet.of(self.ca.bundle())))
        svid = self.ca.svid("/go")
        key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        certificates = b"".join(each.public_bytes(Encoding.PEM) for each in svid.certificates)
        self.flags = []
        for name, content in (("cert", certificates), ("key", key), ("ca", self.ca.bundle().to_pem())):
            (folder / name).write_bytes(content)
            self.flags += [f"-{name}", str(folder / name)]


@pytest.fixture
def identities(tmp_path: Path) -> Identities:
    return Identities(tmp_path)


class Echo:
    """interop.Echo on grpcio, as far as the Go client's scenarios ask for it. Remembers who called."""

    def __init__(self) -> None:
        self.callers: set[str] = set()
        self.cancelled = threading.Event()

    def unary(self, request: Any, context: Any) -> Any:
        self.callers.add(str(peer_spiffe_id(context)))
        return request

    def fail(self, request: Any, context: Any) -> Any:
        detail = ("grpc-status-details-bin", request.SerializeToString())
        context.set_trailing_metadata((detail,))
        code = next(each for each in grpc.StatusCode if each.value[0] == request.code)
        context.abort(code, request.message)

    def sleep(self, request: Any, context: Any) -> Any:
        ended = threading.Event()
        context.add_callback(ended.set)
        if ended.wait(30):
            self.cancelled.set()
        return request

    def counts(self, _request: Any, _context: Any) -> Any:
        return wrappers_pb2.StringValue(value=json.dumps({"cancelled": int(self.cancelled.is_set())}))

    def metadata(self, _request: Any, context: Any) -> Any:
        context.send_initial_metadata((("early", "header"), ("early-bin", b"\x00\xff")))
        context.set_trailing_metadata((("late", "trailer"), ("late-bin", b"\xfe\x01\x02")))
        shown: dict[str, list[str]] = {}
        for key, value in context.invocation_metadata():
            shown.setdefault(key, []).append(value.hex() if isinstance(value, bytes) else value)
        return wrappers_pb2.StringValue(value=json.dumps(shown))

    def collect(self, requests: Iterator[Any], _context: Any) -> Any:
        return wrappers_pb2.Int64Value(value=sum(len(each.value) for each in requests))

    def repeat(self, requests: Iterator[Any], _context: Any) -> Iterator[Any]:
        for number in range(next(requests).value):
            yield wrappers_pb2.Int64Value(value=number)

    def chat(self, requests: Iterator[Any], _context: Any) -> Iterator[Any]:
        yield from requests

    def register(self, server: Any) -> None:
        octets, text, number = wrappers_pb2.BytesValue, wrappers_pb2.StringValue, wrappers_pb2.Int64Value
        handlers = {
            name: maker(getattr(self, name.lower()), request.FromString, lambda answer: answer.SerializeToString())
            for name, maker, request in (
                ("Unary", grpc.unary_unary_rpc_method_handler, octets),
                ("Fail", grpc.unary_unary_rpc_method_handler, status_pb2.Status),
                ("Sleep", grpc.unary_unary_rpc_method_handler, number),
                ("Counts", grpc.unary_unary_rpc_method_handler, text),
                ("Metadata", grpc.unary_unary_rpc_method_handler, text),
                ("Collect", grpc.stream_unary_rpc_method_handler, octets),
                ("Repeat", grpc.stream_stream_rpc_method_handler, number),
                ("Chat", grpc.stream_stream_rpc_method_handler, octets),
            )
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("interop.Echo", handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)


@contextmanager
def _serving(identities: Identities, echo: Echo, caller: str = GO) -> Iterator[str]:
    with ThreadPoolExecutor(8) as pool:
        server = mtls_server(pool, identities.source, authorize_id(caller), options=BIG)
        echo.register(server)
        port = server.add_mtls_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(0).wait()


@pytest.mark.anyio
async def test_a_go_client_calls_our_grpcio_server(identities: Identities, go_client: Callable[..., Any]) -> None:
    echo = Echo()
    with _serving(identities, echo) as target:

        async def run(scenario: str, *flags: str) -> Any:
            return await go_client(target, scenario, *identities.flags, *flags)

        assert (await run("unary", "-size", "3000000"))["code"] == "OK"
        assert echo.callers == {GO}
        assert await run("collect", "-size", "100000", "-count", "100") == {"total": 10_000_000}
        assert await run("repeat", "-count", "500") == {"messages": 500}
        assert await run("chat", "-size", "1000", "-count", "50") == {"messages": 50}
        failed = await run("fail")
        assert (failed["code"], failed["message"]) == ("PermissionDenied", "nicht erlaubt: 100 % sicher\nno")
        assert failed["details"] == ["type.googleapis.com/google.protobuf.StringValue"]
        answer = {key: json.loads(value) for key, value in (await run("metadata")).items()}
        assert (answer["seen"]["plain"], answer["seen"]["some-bin"]) == (["one", "two"], ["00ff10"])
        assert (answer["header"]["early"], answer["header"]["early-bin"]) == (["header"], ["00ff"])
        assert (answer["trailer"]["late"], answer["trailer"]["late-bin"]) == (["trailer"], ["fe0102"])
        assert (await run("gzip"))["code"] == "OK"
        assert await run("health") == {"status": "SERVING"}
        assert (await run("deadline", "-timeout", "300ms"))["code"] == "DeadlineExceeded"
        assert (await run("cancel", "-timeout", "300ms"))["code"] == "Canceled"


@pytest.mark.anyio
async def test_a_go_client_with_another_id_is_refused_by_our_grpcio_server(
    identities: Identities, go_client: Callable[..., Any]
) -> None:
    echo = Echo()
    with _serving(identities, echo, caller="spiffe://example.org/another") as target:
        for scenario in ("unary", "health"):
            found = await go_client(target, scenario, *identities.flags)
            assert "PermissionDenied" in json.dumps(found)
    assert echo.callers == set()


@asynccontextmanager
async def _go_serving(go_peer: Path, identities: Identities, *flags: str) -> AsyncIterator[str]:
    command = [str(go_peer), "grpc-server", "-network", "tcp", "-address", "127.0.0.1:0", *identities.flags, *flags]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        ready = (await process.stdout.readline()).decode().split()
        assert ready[0] == "READY"
        yield ready[1]
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.anyio
async def test_our_grpcio_channel_calls_a_go_server(identities: Identities, go_peer: Path) -> None:
    octets = wrappers_pb2.BytesValue
    coded = (octets.SerializeToString, octets.FromString)
    async with (
        _go_serving(go_peer, identities) as target,
        mtls_aio_channel(target, identities.source, authorize_id(GO), options=BIG) as channel,
    ):
        large = octets(value=bytes(3_000_000))
        assert await channel.unary_unary("/interop.Echo/Unary", *coded)(large, timeout=30) == large
        assert str(channel.peer_spiffe_id) == GO
        total = channel.stream_unary("/interop.Echo/Collect", coded[0], wrappers_pb2.Int64Value.FromString)
        assert (await total(iter([large] * 5), timeout=30)).value == 15_000_000
        repeat = channel.stream_stream(
            "/interop.Echo/Repeat", wrappers_pb2.Int64Value.SerializeToString, wrappers_pb2.Int64Value.FromString
        )
        answers = [each.value async for each in repeat(iter([wrappers_pb2.Int64Value(value=500)]), timeout=30)]
        assert answers == list(range(500))
        await _statuses(channel)
        checked = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert checked.status == health_pb2.HealthCheckResponse.SERVING


async def _statuses(channel: Any) -> None:
    fail = channel.unary_unary("/interop.Echo/Fail", status_pb2.Status.SerializeToString, empty_pb2.Empty.FromString)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await fail(status_pb2.Status(code=9, message="nicht äußerst"), timeout=30)
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "nicht äußerst")
    number, text = wrappers_pb2.Int64Value, wrappers_pb2.StringValue
    sleep = channel.unary_unary("/interop.Echo/Sleep", number.SerializeToString, number.FromString)
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await sleep(number(value=60_000), timeout=0.2)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    call = sleep(number(value=60_000), timeout=30)
    counts = channel.unary_unary("/interop.Echo/Counts", empty_pb2.Empty.SerializeToString, text.FromString)

    async def count() -> Any:
        return json.loads((await counts(empty_pb2.Empty(), timeout=30)).value)

    async with asyncio.timeout(30):
        while (await count())["started"] < 2:
            await asyncio.sleep(0.01)
        call.cancel()
        while (await count())["cancelled"] < 2:
            await asyncio.sleep(0.01)
    mine = channel.unary_unary("/interop.Echo/Metadata", empty_pb2.Empty.SerializeToString, text.FromString)
    told = mine(empty_pb2.Empty(), metadata=(("mine", "1"), ("mine-bin", b"\x00\x01")), timeout=30)
    seen = json.loads((await told).value)
    assert (seen["mine"], seen["mine-bin"]) == (["1"], ["0001"])
    assert ("early-bin", b"\x00\xff") in tuple(await told.initial_metadata())
    assert ("late-bin", b"\xfe\x01\x02") in tuple(await told.trailing_metadata())


@pytest.mark.anyio
async def test_a_go_server_with_another_id_is_refused_before_a_call(identities: Identities, go_peer: Path) -> None:
    async with _go_serving(go_peer, identities) as target:
        with mtls_channel(target, identities.source, authorize_id("spiffe://example.org/another")) as channel:
            method = channel.unary_unary("/interop.Echo/Unary")
            with pytest.raises(grpc.RpcError) as refused:
                await asyncio.to_thread(method, b"", timeout=30)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert isinstance(channel.last_error, PeerVerificationError)


@pytest.mark.anyio
async def test_connection_age_of_a_go_server_fails_no_call(identities: Identities, go_peer: Path) -> None:
    flags = ("-max-connection-age", "300ms", "-max-connection-age-grace", "20s")
    async with (
        _go_serving(go_peer, identities, *flags) as target,
        mtls_aio_channel(target, identities.source, authorize_id(GO)) as channel,
    ):
        method = channel.unary_unary("/interop.Echo/Unary")
        async with asyncio.timeout(60):
            for _ in range(150):
                assert await method(b"", timeout=30) == b""
                await asyncio.sleep(0.01)
