"""Handshakes for the TLS tests: in memory, and through each stack that people use, over real sockets."""

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc
import anyio.streams.tls
import pytest
import trio
import uvloop

from authsec_sdk.authz import authorize_member_of
from authsec_sdk.spiffe import X509Bundle, X509Context, X509ContextHolder
from authsec_sdk.testing import Begun, Pipe, TestCA, begin, plain_context, shake, snapshot
from authsec_sdk.tls import SpiffeSSLContext, mtls_client_context, mtls_server_context, peer_spiffe_id

DEADLINE = 30.0
PEER_GONE = (OSError, EOFError, anyio.BrokenResourceError, anyio.EndOfStream, trio.BrokenResourceError)


# --- in memory -------------------------------------------------------------------------------------------------------


@pytest.fixture(name="begin")
def _begin() -> Callable[..., Begun]:
    return begin


@pytest.fixture(name="shake")
def _shake() -> Callable[..., Pipe]:
    return shake


# --- two workloads ---------------------------------------------------------------------------------------------------


@dataclass
class World:
    """A server and a client of one trust domain, with a source each; further domains as a test wants."""

    ca: TestCA = field(default_factory=lambda: TestCA("a.test"))

    def __post_init__(self) -> None:
        self.server_source = X509ContextHolder(snapshot(self.ca.svid("/server"), self.ca))
        self.client_source = X509ContextHolder(snapshot(self.ca.svid("/client"), self.ca))

    def server(self, authorizer: Any = None, **options: Any) -> SpiffeSSLContext:
        return mtls_server_context(self.server_source, authorizer or authorize_member_of("a.test"), **options)

    def client(self, authorizer: Any = None, **options: Any) -> SpiffeSSLContext:
        return mtls_client_context(self.client_source, authorizer or authorize_member_of("a.test"), **options)

    def rotate_svids(self) -> None:
        self.publish(self.ca)

    def publish(self, *authorities: TestCA | X509Bundle) -> None:
        """Give both new SVIDs of the own authority, and these bundles."""
        self.server_source.publish(snapshot(self.ca.svid("/server"), *authorities))
        self.client_source.publish(snapshot(self.ca.svid("/client"), *authorities))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(name="snapshot")
def _snapshot() -> Callable[..., X509Context]:
    return snapshot


# --- peers without our code ------------------------------------------------------------------------------------------


@pytest.fixture
def foreign() -> Callable[..., ssl.SSLContext]:
    """Make contexts of the standard library alone, with whatever credential: attackers, and other languages' peers."""
    return plain_context


# --- stacks over real sockets ----------------------------------------------------------------------------------------


@dataclass
class Attempt:
    """What a client saw of one connection."""

    answer: bytes = b""
    peer: object = None
    leaf: bytes | None = None
    error: BaseException | None = None


class Server:
    """A server of some stack which answers `ping` with the caller's SPIFFE ID; `served` is what the application saw."""

    def __init__(self, port: int, client: Callable[[int, ssl.SSLContext], Attempt]) -> None:
        self.port = port
        self.served: list[str] = []
        self._client = client

    def attempt(self, context: ssl.SSLContext) -> Attempt:
        return self._client(self.port, context)

    def answer(self, connection: object) -> bytes:
        self.served.append(str(peer_spiffe_id(connection)))
        return self.served[-1].encode()


def listening_socket() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def connected_socket(port: int) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


@contextlib.contextmanager
def running(thread: threading.Thread, stop: Callable[[], object]) -> Iterator[None]:
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def _asyncio_client(run: Callable[[Any], Attempt], port: int, context: ssl.SSLContext) -> Attempt:
    async def connect() -> Attempt:
        attempt = Attempt()
        try:
            async with asyncio.timeout(DEADLINE):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="x")
                try:
                    attempt.peer = peer_spiffe_id(writer)
                    attempt.leaf = writer.get_extra_info("ssl_object").getpeercert(True)
                    writer.write(b"ping")
                    attempt.answer = await reader.read()
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except OSError as error:
            attempt.error = error
        return attempt

    return run(connect())


@contextlib.contextmanager
def _serve_asyncio(run: Callable[[Any], Any], context: ssl.SSLContext) -> Iterator[Server]:
    listener = listening_socket()
    server = Server(listener.getsockname()[1], functools.partial(_asyncio_client, run))
    ready = threading.Event()
    stopping: list[Callable[[], object]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await reader.readexactly(4) == b"ping":
                writer.write(server.answer(writer))
                await writer.drain()
        except PEER_GONE:
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stopping.append(lambda: loop.call_soon_threadsafe(stop.set))
        async with await asyncio.start_server(handle, sock=listener, ssl=context):
            ready.set()
            await stop.wait()

    with running(threading.Thread(target=run, args=(main(),)), lambda: stopping[0]()):
        assert ready.wait(DEADLINE)
        yield server


def _run_asyncio(coroutine: Any) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


def _run_uvloop(coroutine: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def _trio_client(port: int, context: ssl.SSLContext) -> Attempt:
    async def connect() -> Attempt:
        attempt = Attempt()
        try:
            with trio.fail_after(DEADLINE):
                plain = await trio.open_tcp_stream("127.0.0.1", port)
                async with trio.SSLStream(plain, context, server_hostname="x", https_compatible=True) as stream:
                    await stream.do_handshake()
                    attempt.peer = peer_spiffe_id(stream)
                    attempt.leaf = stream._ssl_object.getpeercert(True)
                    await stream.send_all(b"ping")
                    attempt.answer = await stream.receive_some()
        except (trio.BrokenResourceError, OSError) as error:
            attempt.error = error
        return attempt

    return trio.run(connect)


@contextlib.contextmanager
def _serve_trio(context: ssl.SSLContext) -> Iterator[Server]:
    listener = listening_socket()
    server = Server(listener.getsockname()[1], _trio_client)
    ready = threading.Event()
    stopping: list[Callable[[], object]] = []

    async def handle(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            async with stream:
                if await stream.receive_some(4) == b"ping":
                    await stream.send_all(server.answer(stream))
        except PEER_GONE:
            pass

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            token = trio.lowlevel.current_trio_token()
            stopping.append(lambda: token.run_sync_soon(nursery.cancel_scope.cancel))
            plain = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
            ready.set()
            await trio.serve_listeners(handle, [trio.SSLListener(plain, context, https_compatible=True)])

    with running(threading.Thread(target=trio.run, args=(main,)), lambda: stopping[0]()):
        assert ready.wait(DEADLINE)
        yield server


def _anyio_client(port: int, context: ssl.SSLContext) -> Attempt:
    async def connect() -> Attempt:
        attempt = Attempt()
        try:
            with anyio.fail_after(DEADLINE):
                async with await anyio.connect_tcp(
                    "127.0.0.1", port, ssl_context=context, tls_standard_compatible=False, tls_hostname="x"
                ) as stream:
                    attempt.peer = peer_spiffe_id(stream)
                    attempt.leaf = stream.extra(anyio.streams.tls.TLSAttribute.peer_certificate_binary)
                    await stream.send(b"ping")
                    attempt.answer = await stream.receive()
        except PEER_GONE as error:
            attempt.error = error
        return attempt

    return anyio.run(connect)


@contextlib.contextmanager
def _serve_anyio(context: ssl.SSLContext) -> Iterator[Server]:
    ready = threading.Event()
    servers: list[Server] = []
    stopping: list[Callable[[], object]] = []

    async def handle(stream: anyio.streams.tls.TLSStream) -> None:
        try:
            async with stream:
                if await stream.receive(4) == b"ping":
                    await stream.send(servers[0].answer(stream))
        except PEER_GONE:
            pass

    async def ignore(error: BaseException, stream: anyio.abc.AnyByteStream) -> None:
        await anyio.aclose_forcefully(stream)
        assert isinstance(error, Exception)

    class Listener(anyio.streams.tls.TLSListener):
        handle_handshake_error = staticmethod(ignore)

    async def main() -> None:
        plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
        servers.append(Server(plain.extra(anyio.abc.SocketAttribute.local_port), _anyio_client))
        listener = Listener(plain, context, standard_compatible=False, handshake_timeout=DEADLINE)
        async with listener, anyio.create_task_group() as group:
            loop = asyncio.get_running_loop()
            stopping.append(lambda: loop.call_soon_threadsafe(group.cancel_scope.cancel))
            ready.set()
            await listener.serve(handle)

    with running(threading.Thread(target=anyio.run, args=(main,)), lambda: stopping[0]()):
        assert ready.wait(DEADLINE)
        yield servers[0]


def _blocking_client(port: int, context: ssl.SSLContext, *, explicit: bool) -> Attempt:
    attempt = Attempt()
    try:
        with (
            connected_socket(port) as plain,
            context.wrap_socket(plain, server_hostname="x", do_handshake_on_connect=explicit) as tls,
        ):
            tls.sendall(b"ping")
            attempt.peer = peer_spiffe_id(tls)
            attempt.leaf = tls.getpeercert(True)
            attempt.answer = tls.recv(100)
    except OSError as error:
        attempt.error = error
    return attempt


@contextlib.contextmanager
def _serve_blocking(context: ssl.SSLContext, *, explicit: bool) -> Iterator[Server]:
    """Wrap the listening socket once and for all; each accepted one is a new connection of the same context."""
    listener = context.wrap_socket(listening_socket(), server_side=True, do_handshake_on_connect=explicit)
    server = Server(listener.getsockname()[1], functools.partial(_blocking_client, explicit=explicit))
    stopping = threading.Event()

    def handle(connection: ssl.SSLSocket) -> None:
        with connection:
            connection.settimeout(DEADLINE)
            try:
                if connection.recv(4) == b"ping":
                    connection.sendall(server.answer(connection))
            except OSError:
                pass

    def accept() -> None:
        while not stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                continue
            handle(connection)

    def stop() -> None:
        stopping.set()
        with contextlib.suppress(OSError), connected_socket(server.port):
            pass

    with listener, running(threading.Thread(target=accept), stop):
        yield server


STACKS: dict[str, Callable[[ssl.SSLContext], contextlib.AbstractContextManager[Server]]] = {
    "asyncio": functools.partial(_serve_asyncio, _run_asyncio),
    "uvloop": functools.partial(_serve_asyncio, _run_uvloop),
    "trio": _serve_trio,
    "anyio": _serve_anyio,
    "blocking": functools.partial(_serve_blocking, explicit=True),
    "implicit": functools.partial(_serve_blocking, explicit=False),
}


@pytest.fixture(params=STACKS)
def serve(request: pytest.FixtureRequest) -> Callable[[ssl.SSLContext], contextlib.AbstractContextManager[Server]]:
    """Serve a context through one stack after the other."""
    return STACKS[request.param]


@pytest.fixture
def serve_blocking() -> Callable[[ssl.SSLContext], contextlib.AbstractContextManager[Server]]:
    """Serve a context with blocking sockets, for tests that are about something else than the stack."""
    return STACKS["blocking"]
