"""Calls over a grpcio channel and server of ours behave as native ones do, and the policy holds for each of them."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import h2.config
import h2.connection
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, PeerNotAuthorizedError
from authsec_sdk.integrations.grpc import mtls_aio_channel, mtls_channel, mtls_server, peer_spiffe_id
from authsec_sdk.tls import PeerVerificationError

MEMBERS = authorize_member_of("example.org")
BIG = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Service:
    """Handlers of each kind."""

    def __init__(self) -> None:
        self.hits = 0
        self.cancelled = threading.Event()
        self.go_on = threading.Event()

    def echo(self, request: bytes, context: Any) -> bytes:
        self.hits += 1
        context.send_initial_metadata((("early-bin", b"\x00\xff"),))
        context.set_trailing_metadata(tuple((f"late-{k}", v) for k, v in context.invocation_metadata() if k == "mine"))
        return request

    def fail(self, _request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not äußerst now")
        raise AssertionError

    def wait(self, _request: bytes, context: Any) -> bytes:
        context.add_callback(self.cancelled.set)
        self.cancelled.wait(20)
        return b""

    def ticks(self, _request: bytes, context: Any) -> Iterator[bytes]:
        yield str(peer_spiffe_id(context)).encode()
        self.go_on.wait(20)
        yield str(peer_spiffe_id(context)).encode()

    def size(self, requests: Iterator[bytes], _context: Any) -> bytes:
        return str(sum(map(len, requests))).encode()

    def chat(self, requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        yield from requests

    def register(self, server: Any) -> None:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        handlers = {name: unary(getattr(self, name)) for name in ("echo", "fail", "wait")}
        handlers["again"] = handlers["echo"]
        handlers["ticks"] = stream(self.ticks)
        handlers["size"] = grpc.stream_unary_rpc_method_handler(self.size)
        handlers["chat"] = grpc.stream_stream_rpc_method_handler(self.chat)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.S", handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def serve(world: Any, service: Service) -> Callable[..., Any]:
    @contextmanager
    def start(authorizer: Any = MEMBERS, threads: int = 8, **more: Any) -> Iterator[int]:
        with ThreadPoolExecutor(threads) as pool:
            server = mtls_server(pool, world.payments, authorizer, options=BIG, **more)
            service.register(server)
            port = server.add_mtls_port("127.0.0.1:0")
            server.start()
            try:
                yield port
            finally:
                service.go_on.set()
                service.cancelled.set()
                server.stop(0).wait()

    return start


@pytest.fixture
def channel(world: Any, serve: Any) -> Iterator[Any]:
    with serve() as port, mtls_channel(f"127.0.0.1:{port}", world.frontend, MEMBERS, options=BIG) as channel:
        yield channel


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def status_of(call: Callable[[], Any]) -> Any:
    with pytest.raises(grpc.RpcError) as info:
        call()
    return info.value


def test_metadata_status_deadline_and_cancellation(channel: Any, service: Service) -> None:
    answer, call = channel.unary_unary("/t.S/echo").with_call(b"x", metadata=(("mine", "1"),), timeout=20)
    assert answer == b"x"
    assert ("early-bin", b"\x00\xff") in [tuple(each) for each in call.initial_metadata()]
    assert ("late-mine", "1") in [tuple(each) for each in call.trailing_metadata()]
    error = status_of(lambda: channel.unary_unary("/t.S/fail")(b"", timeout=20))
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not äußerst now")
    assert status_of(lambda: channel.unary_unary("/t.S/none")(b"", timeout=20)).code() is grpc.StatusCode.UNIMPLEMENTED
    assert (
        status_of(lambda: channel.unary_unary("/t.S/wait")(b"", timeout=0.2)).code()
        is grpc.StatusCode.DEADLINE_EXCEEDED
    )
    assert service.cancelled.wait(20)
    service.cancelled.clear()
    future = channel.unary_unary("/t.S/wait").future(b"", timeout=20)
    time.sleep(0.1)
    future.cancel()
    assert service.cancelled.wait(20)


def test_large_messages_each_way(channel: Any) -> None:
    large = bytes(20_000_000)
    assert channel.unary_unary("/t.S/echo")(large, timeout=60) == large
    assert channel.stream_unary("/t.S/size")(iter([large, large]), timeout=60) == b"40000000"


def test_health(channel: Any) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_thousand_streams_at_once(world: Any, serve: Any) -> None:
    import asyncio

    async def run(port: int) -> None:
        async with mtls_aio_channel(f"127.0.0.1:{port}", world.frontend, MEMBERS) as channel:
            method = channel.stream_stream("/t.S/chat")

            async def chat(number: int) -> None:
                call = method(timeout=60)
                await call.write(b"%d" % number)
                await call.done_writing()
                assert await call.read() == b"%d" % number
                assert await call.read() is grpc.aio.EOF

            await asyncio.gather(*(chat(number) for number in range(1000)))

    with serve() as port:
        asyncio.run(run(port))


def test_a_stream_survives_rotation_and_the_next_connection_is_new(world: Any, serve: Any, service: Service) -> None:
    with serve() as port, mtls_channel(f"127.0.0.1:{port}", world.frontend, MEMBERS) as channel:
        stream = channel.unary_stream("/t.S/ticks")(b"", timeout=30)
        first = next(stream)
        world.frontend.publish(world.context(world.ca.svid("/renewed")))
        world.payments.publish(world.context(world.ca.svid("/payments")))
        service.go_on.set()
        assert [first, *stream] == [str(world.frontend_id).encode()] * 2
        channel.drop_connections()

        def another() -> bytes:
            try:
                return bytes(next(channel.unary_stream("/t.S/ticks")(b"", wait_for_ready=True, timeout=20)))
            except grpc.RpcError:  # on the connection that was just dropped
                return first

        until(lambda: another() == b"spiffe://example.org/renewed")


def test_every_port_of_a_server_follows_the_source(world: Any, service: Service) -> None:
    with ThreadPoolExecutor(4) as pool:
        server = mtls_server(pool, world.payments, MEMBERS)
        service.register(server)
        ports = [server.add_mtls_port("127.0.0.1:0") for _ in range(2)]
        server.start()
        try:
            world.ca.rotate()
            world.ca.remove_old_roots()
            for source, path in ((world.payments, "/payments"), (world.frontend, "/frontend")):
                source.publish(world.context(world.ca.svid(path)))
            for port in ports:
                with mtls_channel(f"127.0.0.1:{port}", world.frontend, MEMBERS) as channel:
                    assert channel.unary_unary("/t.S/echo")(b"x", timeout=20) == b"x"
        finally:
            server.stop(0).wait()


def test_a_removed_root_ends_live_connections_at_the_next_call(world: Any, serve: Any, service: Service) -> None:
    with serve() as port, mtls_channel(f"127.0.0.1:{port}", world.frontend, MEMBERS) as channel:
        channel.unary_unary("/t.S/echo")(b"", timeout=20)
        world.ca.rotate()
        world.ca.remove_old_roots()
        world.payments.publish(world.context(world.ca.svid("/payments")))
        error = status_of(lambda: channel.unary_unary("/t.S/echo")(b"", timeout=20))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert service.hits == 1


def test_policy_per_method(world: Any, serve: Any) -> None:
    heard: list[Any] = []
    methods = {"/t.S/*": MEMBERS, "/t.S/fail": authorize_id("spiffe://example.org/admin")}
    with serve(methods=methods, on_rejected=heard.append) as port:
        with mtls_channel(f"127.0.0.1:{port}", world.frontend, MEMBERS) as channel:
            assert channel.unary_unary("/t.S/echo")(b"x", timeout=20) == b"x"
            for method in ("/t.S/fail", "/grpc.health.v1.Health/Check", "/not/there"):
                error = status_of(lambda method=method: channel.unary_unary(method)(b"", timeout=20))
                assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert [isinstance(each.reason, PeerNotAuthorizedError) for each in heard] == [True] * 3


def test_one_handler_under_two_names_has_the_policy_of_each(world: Any, serve: Any, service: Service) -> None:
    methods = {"/t.S/*": MEMBERS, "/t.S/again": authorize_id("spiffe://example.org/admin")}
    with serve(methods=methods) as port, mtls_channel(f"127.0.0.1:{port}", world.frontend, MEMBERS) as channel:
        for _ in range(3):
            assert channel.unary_unary("/t.S/echo")(b"x", timeout=20) == b"x"
            error = status_of(lambda: channel.unary_unary("/t.S/again")(b"", timeout=20))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert service.hits == 3


def test_the_refusal_of_a_server_is_the_cause(world: Any, serve: Any, service: Service) -> None:
    with serve() as port:
        other = authorize_id("spiffe://example.org/orders")
        with mtls_channel(f"127.0.0.1:{port}", world.frontend, other) as channel:
            error = status_of(lambda: channel.unary_unary("/t.S/echo")(b"", timeout=20))
            assert isinstance(channel.last_error, PeerVerificationError)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "spiffe://example.org/orders" in str(error.__cause__)
    assert service.hits == 0


def test_a_stub_outlives_its_channel(world: Any, serve: Any) -> None:
    with serve() as port:
        method = mtls_channel(f"127.0.0.1:{port}", world.frontend, MEMBERS).unary_unary("/t.S/echo")
        assert method(b"x", timeout=20) == b"x"


def test_a_client_without_a_certificate_is_refused_in_the_handshake(world: Any, serve: Any, service: Service) -> None:
    context = world.context_without_certificate()
    context.set_alpn_protocols(["h2"])
    with serve() as port, socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        received = b""
        with contextlib.suppress(ssl.SSLError, ConnectionError), context.wrap_socket(plain) as tls:
            tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            received = tls.recv(4096)  # a server that accepts sends its settings
    assert received == b""
    assert service.hits == 0


def call(
    port: int, context: ssl.SSLContext, session: Any = None, method: str = "/t.S/echo"
) -> tuple[str, ssl.SSLSession | None, bool]:
    """Call without grpcio, which keeps its sessions and looks at names; no status where the server hung up."""
    headers = [(":method", "POST"), (":scheme", "https"), (":path", method), (":authority", "x")]
    headers += [("content-type", "application/grpc"), ("te", "trailers")]
    http2 = h2.connection.H2Connection(
        h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
    )
    status = ""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        try:
            with context.wrap_socket(plain, session=session) as tls:
                http2.initiate_connection()
                http2.send_headers(1, headers)
                http2.send_data(1, bytes(5), end_stream=True)
                tls.sendall(http2.data_to_send())
                while not status and (data := tls.recv(65536)):
                    for event in http2.receive_data(data):
                        status = dict(getattr(event, "headers", None) or ()).get("grpc-status", status)
                return status, tls.session, bool(tls.session_reused)
        except (ssl.SSLError, ConnectionError):
            return status, None, False


@pytest.fixture
def presenting(world: Any, tmp_path: Path) -> Callable[[Any], ssl.SSLContext]:
    def make(credential: Any) -> ssl.SSLContext:
        file = tmp_path / "credential.pem"
        file.write_bytes(credential.key_pem() + credential.chain_pem())
        context: ssl.SSLContext = world.context_without_certificate()
        context.load_cert_chain(file)
        context.set_alpn_protocols(["h2"])
        return context

    return make


@pytest.mark.parametrize("methods", [None, {"/t.S/*": MEMBERS}])
def test_a_method_with_control_characters_writes_no_log_lines(
    world: Any, serve: Any, presenting: Any, methods: Any, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []
    only = authorize_id("spiffe://example.org/admin") if methods is None else MEMBERS
    with serve(only, methods=methods, on_rejected=heard.append) as port:
        context = presenting(world.ca.credential("/frontend"))
        call(port, context, method="/u.V/echo\nERROR all is well\x1b[2J")
    [line] = [record.getMessage() for record in caplog.records if "Call refused" in record.getMessage()]
    assert line.isprintable()
    assert str(heard[0].reason).isprintable()


def test_a_session_does_not_outlive_the_callers_certificate(world: Any, serve: Any, presenting: Any) -> None:
    """grpcio's core resumes TLS sessions without looking at certificates again."""
    expires = datetime.now(UTC) + timedelta(seconds=6)
    context = presenting(world.ca.credential("/frontend", not_after=expires))
    heard: list[Any] = []
    with serve(on_rejected=heard.append) as port:
        status, session, _ = call(port, context)
        assert (status, heard) == ("0", [])
        status, session, resumed = call(port, context, session)
        assert (status, resumed) == ("0", True)
        until(lambda: datetime.now(UTC) > expires + timedelta(seconds=1))
        status, _, resumed = call(port, context, session)
        assert (status, resumed) == (str(grpc.StatusCode.UNAUTHENTICATED.value[0]), True)
        assert call(port, context)[0] == "", "with a whole handshake it does not come that far"
    assert "resumed" in str(heard[0].reason)


def test_nothing_goes_round_the_policy(world: Any) -> None:
    for target in ("unix:/tmp/x", "host", "a:1,b:2", "ipv4:1.2.3.4:5", "host:99999"):
        with pytest.raises(CallerError):
            mtls_channel(target, world.frontend, MEMBERS)
    with pytest.raises(CallerError):
        mtls_channel("a:1", world.frontend, MEMBERS, options=[("grpc.http_proxy", "b:1")])
    with ThreadPoolExecutor(1) as pool:
        server = mtls_server(pool, world.payments, MEMBERS)
        with pytest.raises(CallerError):
            server.add_insecure_port("127.0.0.1:0")
        with pytest.raises(CallerError):
            server.add_secure_port("127.0.0.1:0", None)
        for methods in ({}, {"t.S/echo": MEMBERS}, {"/t.S/ec*": MEMBERS}):
            with pytest.raises(CallerError):
                mtls_server(pool, world.payments, MEMBERS, methods=methods)


def test_another_process_cannot_use_the_bridge(world: Any, serve: Any, service: Service) -> None:
    import subprocess
    import sys

    with serve() as port, mtls_channel(f"127.0.0.1:{port}", world.frontend, MEMBERS) as channel:
        code = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(1))"
        path = channel._lease.bridge.path
        done = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.stdout.strip() in ("b''", "")
        assert channel.peer_spiffe_id is None
