"""What calls do over our channel and server, beside what they do over grpcio's own TLS: the same, row by row."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from authsec_sdk.authz import authorize_member_of
from authsec_sdk.integrations.grpc import mtls_aio_channel, mtls_channel, mtls_server

MEMBERS = authorize_member_of("example.org")
STREAMS = 1000
RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "t.N"}],
                "timeout": "25s",
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.01s",
                    "maxBackoff": "0.02s",
                    "backoffMultiplier": 1,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


class Service:
    """Handlers that tell how they were called."""

    def __init__(self) -> None:
        self.attempts = 0
        self.left = threading.Event()
        self.entered = threading.Event()

    def echo(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata(
            tuple((f"back-{key}", value) for key, value in context.invocation_metadata() if key.startswith("mine"))
        )
        return request

    def who(self, _request: bytes, context: Any) -> bytes:
        found = {key: value for key, value in context.invocation_metadata() if key in ("authorization", "added")}
        return json.dumps(found, sort_keys=True).encode()

    def fail(self, _request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x09"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not äußerst now")
        raise AssertionError

    def flaky(self, _request: bytes, context: Any) -> bytes:
        self.attempts += 1
        if self.attempts < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return b"%d" % self.attempts

    def wait(self, _request: bytes, context: Any) -> bytes:
        context.add_callback(self.left.set)
        self.entered.set()
        self.left.wait(20)
        return b""

    def count(self, request: bytes, _context: Any) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    def size(self, requests: Iterator[bytes], _context: Any) -> bytes:
        return b"%d" % sum(map(len, requests))

    def chat(self, requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        yield from requests

    def register(self, server: Any) -> None:
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(getattr(self, name))
            for name in ("echo", "who", "fail", "flaky", "wait")
        }
        handlers["count"] = grpc.unary_stream_rpc_method_handler(self.count)
        handlers["size"] = grpc.stream_unary_rpc_method_handler(self.size)
        handlers["chat"] = grpc.stream_stream_rpc_method_handler(self.chat)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.N", handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
        reflection.enable_server_reflection(("t.N",), server)


Options = Sequence[tuple[str, Any]]


class Side:
    """One way to call the service: `open` and `open_aio` give channels to a server of the same kind."""

    def __init__(self, service: Service, open_: Callable[..., Any], open_aio: Callable[..., Any]) -> None:
        self.service, self.open, self.open_aio = service, open_, open_aio


def _pem(credential: Any) -> tuple[bytes, bytes]:
    key = credential.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key, b"".join(certificate.public_bytes(Encoding.PEM) for certificate in credential.certificates)


@pytest.fixture
def native(world: Any) -> Iterator[Side]:
    root = world.ca.bundle().to_pem()
    named = world.ca.credential("spiffe://example.org/payments", dns_names=("native.test",))
    ours = grpc.ssl_channel_credentials(root, *_pem(world.frontend.x509_context.svid))
    with ThreadPoolExecutor(8) as pool:
        service, server = Service(), grpc.server(pool)
        service.register(server)
        credentials = grpc.ssl_server_credentials([_pem(named)], root, require_client_auth=True)
        target = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
        server.start()

        def composed(call_credentials: Sequence[Any]) -> Any:
            return grpc.composite_channel_credentials(ours, *call_credentials) if call_credentials else ours

        def open_(options: Options = (), call_credentials: Sequence[Any] = (), **more: Any) -> Any:
            every = [("grpc.ssl_target_name_override", "native.test"), *options]
            return grpc.secure_channel(target, composed(call_credentials), options=every, **more)

        def open_aio(options: Options = (), call_credentials: Sequence[Any] = (), **more: Any) -> Any:
            every = [("grpc.ssl_target_name_override", "native.test"), *options]
            return grpc.aio.secure_channel(target, composed(call_credentials), options=every, **more)

        try:
            yield Side(service, open_, open_aio)
        finally:
            service.left.set()
            server.stop(0).wait()


@pytest.fixture
def ours(world: Any) -> Iterator[Side]:
    with ThreadPoolExecutor(8) as pool:
        service, server = Service(), mtls_server(pool, world.payments, MEMBERS)
        service.register(server)
        target = f"dns:///localhost:{server.add_mtls_port('127.0.0.1:0')}"
        server.start()
        try:
            yield Side(
                service,
                lambda **more: mtls_channel(target, world.frontend, MEMBERS, **more),
                lambda **more: mtls_aio_channel(target, world.frontend, MEMBERS, **more),
            )
        finally:
            service.left.set()
            server.stop(0).wait()


def _outcome(call: Callable[[], Any]) -> tuple[str, str]:
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def status_and_details(side: Side) -> Any:
    with side.open() as channel, pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/t.N/fail")(b"", timeout=20)
    return failed.value.code().name, failed.value.details(), dict(failed.value.trailing_metadata())


def unknown_method(side: Side) -> Any:
    with side.open() as channel:
        return _outcome(lambda: channel.unary_unary("/t.N/none")(b"", timeout=20))


def deadline(side: Side) -> Any:
    with side.open() as channel:
        outcome = _outcome(lambda: channel.unary_unary("/t.N/wait")(b"", timeout=0.2))
    return outcome, side.service.left.wait(20)


def cancellation(side: Side) -> Any:
    with side.open() as channel:
        future = channel.unary_unary("/t.N/wait").future(b"", timeout=20)
        assert side.service.entered.wait(20)
        return future.cancel(), future.code().name, side.service.left.wait(20)


def metadata(side: Side) -> Any:
    mine = (("mine-text", "v"), ("mine-bin", bytes(range(256)) * 16))
    with side.open() as channel:
        _, call = channel.unary_unary("/t.N/echo").with_call(b"", metadata=mine, timeout=20)
        return sorted((key, value) for key, value in call.trailing_metadata() if key.startswith("back-"))


def metadata_too_big(side: Side) -> Any:
    with side.open() as channel:
        mine = (("mine-bin", bytes(200_000)),)
        return _outcome(lambda: channel.unary_unary("/t.N/echo")(b"", metadata=mine, timeout=20))[0]


def message_beyond_the_limit(side: Side) -> Any:
    with side.open() as channel:
        return _outcome(lambda: channel.unary_unary("/t.N/echo")(bytes(5_000_000), timeout=30))


def many_messages(side: Side) -> Any:
    with side.open() as channel:
        total = channel.stream_unary("/t.N/size")((bytes(1_000_000) for _ in range(30)), timeout=60)
        return total, len(list(channel.unary_stream("/t.N/count")(b"5000", timeout=60)))


def compression(side: Side) -> Any:
    with side.open(compression=grpc.Compression.Gzip) as channel:
        return channel.unary_unary("/t.N/echo")(b"z" * 100_000, timeout=20) == b"z" * 100_000


def retries_of_the_service_config(side: Side) -> Any:
    with side.open(options=[("grpc.service_config", RETRIES)]) as channel:
        return channel.unary_unary("/t.N/flaky")(b"", timeout=20)


def call_credentials(side: Side) -> Any:
    with side.open(call_credentials=[grpc.access_token_call_credentials("token-1")]) as channel:
        of_the_channel = channel.unary_unary("/t.N/who")(b"", timeout=20)
    with side.open() as channel:
        more = grpc.access_token_call_credentials("token-2")
        return of_the_channel, channel.unary_unary("/t.N/who")(b"", credentials=more, timeout=20)


class _Adding(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details._replace(metadata=(("added", "1"),)), request)


def interceptors(side: Side) -> Any:
    with side.open() as channel:
        return grpc.intercept_channel(channel, _Adding()).unary_unary("/t.N/who")(b"", timeout=20)


def connectivity(side: Side) -> Any:
    seen: list[str] = []
    with side.open() as channel:
        channel.subscribe(lambda state: seen.append(state.name), try_to_connect=True)
        grpc.channel_ready_future(channel).result(20)
    return "READY" in seen


def health_and_its_watch(side: Side) -> Any:
    with side.open() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        found = stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        first = next(watch).status
        watch.cancel()
        none = _outcome(lambda: stub.Check(health_pb2.HealthCheckRequest(service="none"), timeout=20))
        return found, first, none[0]


def reflected_services(side: Side) -> Any:
    with side.open() as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=20)
        return [each.name for answer in answers for each in answer.list_services_response.service]


def a_thousand_streams(side: Side) -> Any:
    async def run() -> int:
        async with side.open_aio() as channel:
            method = channel.stream_stream("/t.N/chat")

            async def chat(number: int) -> bool:
                call = method(timeout=90)
                await call.write(b"%d" % number)
                await call.done_writing()
                return (await call.read(), await call.read()) == (b"%d" % number, grpc.aio.EOF)

            return sum(await asyncio.gather(*(chat(number) for number in range(STREAMS))))

    return asyncio.run(run())


class _AioAdding(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details._replace(metadata=grpc.aio.Metadata(("added", "1"))), request)


def asyncio_interceptors_credentials_and_states(side: Side) -> Any:
    async def run() -> Any:
        token = grpc.access_token_call_credentials("token-3")
        async with side.open_aio(interceptors=[_AioAdding()], call_credentials=[token]) as channel:
            before = channel.get_state(try_to_connect=True).name
            await asyncio.wait_for(channel.channel_ready(), 20)
            found = await channel.unary_unary("/t.N/who")(b"", timeout=20)
            ready = channel.get_state().name
        return before, found, ready, channel.get_state().name

    return asyncio.run(run())


def asyncio_cancellation_and_deadline(side: Side) -> Any:
    async def run() -> Any:
        async with side.open_aio() as channel:
            task = asyncio.ensure_future(channel.unary_unary("/t.N/wait")(b"", timeout=20))
            assert await asyncio.to_thread(side.service.entered.wait, 20)
            task.cancel()
            await asyncio.wait([task])
            left = await asyncio.to_thread(side.service.left.wait, 20)
            side.service.left.clear()
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await channel.unary_unary("/t.N/wait")(b"", timeout=0.2)
            return task.cancelled(), left, late.value.code().name

    return asyncio.run(run())


TOO_LARGE = "SERVER: Received message larger than max (5000000 vs. 4194304)"
BOTH = b'{"added": "1", "authorization": "Bearer token-3"}'
TABLE: list[tuple[Callable[[Side], Any], Any]] = [
    (status_and_details, ("FAILED_PRECONDITION", "not äußerst now", {"grpc-status-details-bin": b"\x08\x09"})),
    (unknown_method, ("UNIMPLEMENTED", "Method not found!")),
    (deadline, (("DEADLINE_EXCEEDED", "Deadline Exceeded"), True)),
    (cancellation, (True, "CANCELLED", True)),
    (metadata, [("back-mine-bin", bytes(range(256)) * 16), ("back-mine-text", "v")]),
    (metadata_too_big, "RESOURCE_EXHAUSTED"),
    (
        message_beyond_the_limit,
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (5000000 vs. 4194304)"),
    ),
    (many_messages, (b"30000000", 5000)),
    (compression, True),
    (retries_of_the_service_config, b"3"),
    (call_credentials, tuple(b'{"authorization": "Bearer token-%d"}' % number for number in (1, 2))),
    (interceptors, b'{"added": "1"}'),
    (connectivity, True),
    (health_and_its_watch, (1, 1, "NOT_FOUND")),
    (reflected_services, ["t.N"]),
    (a_thousand_streams, STREAMS),
    (asyncio_interceptors_credentials_and_states, ("IDLE", BOTH, "READY", "SHUTDOWN")),
    (asyncio_cancellation_and_deadline, (True, True, "DEADLINE_EXCEEDED")),
]


@pytest.mark.parametrize(("behaviour", "wanted"), TABLE, ids=lambda each: getattr(each, "__name__", ""))
def test_calls_do_what_native_ones_do(behaviour: Callable[[Side], Any], wanted: Any, native: Side, ours: Side) -> None:
    assert behaviour(native) == wanted, "natively"
    assert behaviour(ours) == wanted


FORKING = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import grpc
from authsec_sdk.authz import authorize_member_of
from authsec_sdk.integrations.grpc import mtls_channel, mtls_server
from authsec_sdk.spiffe import BundleSet, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA
ca, members = TestCA("example.org"), authorize_member_of("example.org")
source = X509ContextHolder(X509Context((ca.svid("/a"),), BundleSet.of(ca.bundle())))
server = mtls_server(ThreadPoolExecutor(2), source, members)
handlers = {"echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request)}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.F", handlers),))
port = server.add_mtls_port("127.0.0.1:0")
server.start()
channel = mtls_channel(f"127.0.0.1:{port}", source, members)
method = channel.unary_unary("/t.F/echo")
assert method(b"1", timeout=20) == b"1"
folder = os.path.dirname(channel._lease.bridge.path)
child = os.fork()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert method(b"2", timeout=20) == b"2"
channel.close()
server.stop(0).wait()
print("left" if os.path.exists(folder) else "nothing left")
"""


def test_a_fork_after_use_leaves_the_parents_channel_as_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "nothing left", done.stderr
