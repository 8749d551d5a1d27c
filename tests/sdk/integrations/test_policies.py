"""One policy file in front of every server that takes one: the same answers, and a change counts on what is open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from aiohttp import WSMsgType, web
from grpclib.client import StreamStreamMethod
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from integration_contract.loops import LoopThread

from authsec_sdk.authz import authorize_member_of
from authsec_sdk.errors import InvalidAuthorizerError
from authsec_sdk.integrations import aiohttp as over_aiohttp
from authsec_sdk.integrations import grpc as over_grpc
from authsec_sdk.integrations import grpclib as over_grpclib
from authsec_sdk.integrations.asgi import PolicyMiddleware
from authsec_sdk.policyfile import PolicyFile
from authsec_sdk.proto import empty_pb2
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.tls import mtls_client_context

MEMBERS = authorize_member_of("example.org")
FRONTEND = "spiffe://example.org/frontend"
HEAD = "version: 1\nrules:\n"
ALLOW = HEAD + (
    f"  - {{name: front, allow: {FRONTEND}, http: {{paths: [/open/**, /only/*], methods: GET}}, grpc: /t.S/Chat}}\n"
)
DENY = ALLOW + f"  - {{name: stop, deny: {FRONTEND}, http: {{paths: /open/**}}, grpc: /t.S/*}}\n"
NOBODY = HEAD + "  - {name: other, allow: spiffe://example.org/other, everything: true}\n"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Changing:
    """A policy file, and a way to change it that has counted when it returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text(ALLOW)
        self.file = PolicyFile(path, interval=0.01, trust_domains=["example.org"])

    def change(self, text: str) -> None:
        before = self.file.generation
        beside = self._path.with_name("beside")
        beside.write_text(text)
        beside.rename(self._path)
        until(lambda: self.file.generation > before)


@pytest.fixture
def policy(tmp_path: Path) -> Iterator[Changing]:
    changing = Changing(tmp_path / "policy.yaml")
    with changing.file:
        yield changing


def raw_request(world: Any, port: int, head: str) -> str:
    """Send a request as it stands, over mutual TLS as the frontend; return the status line's code."""

    async def ask() -> str:
        context = mtls_client_context(world.frontend, MEMBERS)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="")
        try:
            writer.write(f"{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return (await reader.read()).decode("latin-1").partition("\r\n")[0].split(" ")[1]
        finally:
            writer.close()

    return asyncio.run(asyncio.wait_for(ask(), 30))


# --- HTTP ------------------------------------------------------------------------------------------------------------


async def ok(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def asgi_server(_world: Any, serve: Any, policy: PolicyFile) -> Iterator[int]:
    with serve(PolicyMiddleware(ok, policy), lifespan="off") as running:
        yield int(running.url.rpartition(":")[2])


@contextmanager
def aiohttp_server(world: Any, _serve: Any, policy: PolicyFile) -> Iterator[int]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(middlewares=[over_aiohttp.policy_middleware(policy)])
    app.router.add_route("*", "/{rest:.*}", answer)

    async def start() -> web.AppRunner:
        runner = web.AppRunner(app)
        await runner.setup()
        await over_aiohttp.mtls_site(runner, world.payments, policy.authorizer, "127.0.0.1", 0).start()
        return runner

    with LoopThread("asyncio") as thread:
        runner = thread.run(start)
        try:
            yield runner.addresses[0][1]
        finally:
            thread.run(runner.cleanup)


@pytest.fixture(params=[asgi_server, aiohttp_server], ids=["asgi", "aiohttp"])
def http_port(request: pytest.FixtureRequest, world: Any, serve: Any, policy: Changing) -> Iterator[int]:
    with request.param(world, serve, policy.file) as port:
        yield port


def test_http_requests_are_judged_by_path_and_method(world: Any, http_port: int, policy: Changing) -> None:
    good = [
        "GET /open",
        "GET /open/",
        "GET /open/a/b?c=/..",
        "HEAD /open",
        "GET /only/a",
        "GET /only/a/",
        "GET /%6fpen",
    ]
    wrong = ["POST /open", "GET /only", "GET /only/a/b", "GET /", "GET /Open", "OPTIONS /open", "FOO /open"]
    odd = [
        "GET /open/../only/a",
        "GET /open/%2e%2e/admin",
        "GET /open//a",
        "GET /open/%2Fa",
        "GET /only/a%2Fb",
        "GET /only/a%5Cb",
        "GET /only/%252e",
        "GET /only/%00",
        "GET /only/%ff",
    ]
    assert {head: raw_request(world, http_port, head) for head in good} == dict.fromkeys(good, "200")
    found = {head: raw_request(world, http_port, head) for head in wrong + odd}
    assert {head: code for head, code in found.items() if code not in ("400", "403")} == {}
    policy.change(DENY)
    assert [raw_request(world, http_port, head) for head in ("GET /open", "GET /only/a")] == ["403", "200"]
    assert policy.file.counts["stop", "refused"] == 1


def test_who_is_allowed_nothing_is_refused_in_the_handshake(world: Any, policy: Changing) -> None:
    with aiohttp_server(world, None, policy.file) as port:
        assert raw_request(world, port, "GET /open") == "200"
        policy.change(NOBODY)
        with pytest.raises((OSError, IndexError)):  # TLS 1.3: the client hears of it when it reads
            raw_request(world, port, "GET /open")
    assert policy.file.counts["", "refused"] >= 1


def test_what_aiohttp_holds_open_is_cut_when_the_policy_refuses_it(world: Any, policy: Changing) -> None:
    served = []

    async def hold(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(str(message.data))
        served.append(request.path)
        return socket

    app = web.Application(middlewares=[over_aiohttp.policy_middleware(policy.file)])
    app.router.add_get("/{rest:.*}", hold)

    async def start() -> web.AppRunner:
        runner = web.AppRunner(app)
        await runner.setup()
        await over_aiohttp.mtls_site(runner, world.payments, MEMBERS, "127.0.0.1", 0).start()
        return runner

    async def talk(port: int) -> None:
        url = f"wss://127.0.0.1:{port}"
        async with over_aiohttp.mtls_session(world.frontend, MEMBERS) as session:
            async with session.ws_connect(f"{url}/open") as refused, session.ws_connect(f"{url}/only/a") as kept:
                for each in (refused, kept):
                    await each.send_str("1")
                    assert await each.receive_str() == "1"
                await asyncio.to_thread(policy.change, DENY)
                assert (await refused.receive(timeout=30)).type in (WSMsgType.CLOSED, WSMsgType.ERROR)
                await kept.send_str("2")
                assert await kept.receive_str() == "2"

    with LoopThread("asyncio") as thread:
        runner = thread.run(start)
        try:
            thread.run(talk, runner.addresses[0][1])
            until(lambda: sorted(served) == ["/only/a", "/open"])
        finally:
            thread.run(runner.cleanup)


class Conversation:
    """One ASGI request or websocket, driven by hand."""

    def __init__(self, app: Any, policy: Any, **scope: Any) -> None:
        self.sent: list[Any] = []
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        peer = {"peer": SpiffeID.parse(FRONTEND)}
        self.scope = {"type": "http", "path": "/open", "method": "GET", "extensions": {"spiffe": peer}, **scope}
        self.task = asyncio.ensure_future(PolicyMiddleware(app, policy)(self.scope, self.inbox.get, self._send))

    async def _send(self, message: Any) -> None:
        self.sent.append(message)


async def echoing(scope: Any, receive: Any, send: Any) -> None:
    """Send every message back until there is none."""
    if scope["type"] == "websocket":
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
    while (message := await receive())["type"].partition(".")[2] in ("receive", "request"):
        await send({"type": f"{scope['type']}.send", "text": message.get("text", "")})
    scope["left"] = message


def test_a_websocket_ends_when_the_policy_refuses_it(policy: Changing) -> None:
    async def main() -> None:
        talk = Conversation(echoing, policy.file, type="websocket", method=None)
        del talk.scope["method"]
        for message in ({"type": "websocket.connect"}, {"type": "websocket.receive", "text": "1"}):
            talk.inbox.put_nowait(message)
        await asyncio.wait_for(_until(lambda: len(talk.sent) == 2), 30)
        await asyncio.to_thread(policy.change, DENY)
        talk.inbox.put_nowait({"type": "websocket.receive", "text": "2"})
        await asyncio.wait_for(talk.task, 30)
        assert [each["type"] for each in talk.sent] == ["websocket.accept", "websocket.send", "websocket.close"]
        assert talk.sent[-1]["code"] == 1008
        assert talk.scope["left"] == {"type": "websocket.disconnect", "code": 1008}

    asyncio.run(main())


def test_a_long_answer_stops_when_the_policy_refuses_it(policy: Changing) -> None:
    changed = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await changed.wait()
        with pytest.raises(OSError, match="not authorized any more"):
            await send({"type": "http.response.body", "body": b"2"})
        assert (await receive())["type"] == "http.disconnect"

    async def main() -> None:
        talk = Conversation(slow, policy.file)
        await asyncio.wait_for(_until(lambda: len(talk.sent) == 2), 30)
        await asyncio.to_thread(policy.change, DENY)
        changed.set()
        await asyncio.wait_for(talk.task, 30)
        assert [each.get("body") for each in talk.sent] == [None, b"1"]

    asyncio.run(main())


def test_a_change_that_still_accepts_ends_nothing_and_one_before_the_answer_is_a_403(policy: Changing) -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/only/a":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            return
        with pytest.raises(OSError, match="not authorized any more"):
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def main() -> None:
        refused, kept = Conversation(late, policy.file), Conversation(late, policy.file, path="/only/a")
        await asyncio.sleep(0)
        await asyncio.to_thread(policy.change, DENY)
        for talk, expected in ((refused, 403), (kept, 200)):
            talk.inbox.put_nowait({"type": "http.request", "body": b""})
            await asyncio.wait_for(talk.task, 30)
            assert [each["status"] for each in talk.sent if "status" in each] == [expected]

    asyncio.run(main())


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_a_closed_policy_refuses_and_what_is_none_is_refused_at_once(policy: Changing) -> None:
    async def main() -> None:
        talk = Conversation(ok, policy.file)
        await asyncio.wait_for(talk.task, 30)
        assert talk.sent[0]["status"] == 403

    policy.file.close()
    asyncio.run(main())
    for wrong in (None, MEMBERS, "policy.yaml"):
        with pytest.raises(InvalidAuthorizerError):
            PolicyMiddleware(ok, wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidAuthorizerError):
            over_aiohttp.policy_middleware(wrong)  # type: ignore[arg-type]


# --- gRPC ------------------------------------------------------------------------------------------------------------


def test_grpclib_calls_are_judged_by_method_and_streams_again(world: Any, policy: Changing) -> None:
    async def chat(stream: Any) -> None:
        async for message in stream:
            await stream.send_message(message)

    handler = Handler(chat, Cardinality.STREAM_STREAM, empty_pb2.Empty, empty_pb2.Empty)
    service = SimpleNamespace(__mapping__=lambda: {"/t.S/Chat": handler, "/t.S/Other": handler})

    async def start() -> Any:
        server = over_grpclib.MTLSServer([service], world.payments, MEMBERS, policy=policy.file)
        await server.start("127.0.0.1", 0)
        return server

    async def stop(server: Any) -> None:
        server.close()
        await server.wait_closed()

    async def call(port: int) -> None:
        async with over_grpclib.mtls_channel("127.0.0.1", port, world.frontend, MEMBERS) as channel:

            def method(name: str) -> Any:
                return StreamStreamMethod(channel, f"/t.S/{name}", empty_pb2.Empty, empty_pb2.Empty)

            with pytest.raises(GRPCError) as info:
                async with method("Other").open(timeout=20) as stream:
                    await stream.send_message(empty_pb2.Empty(), end=True)
                    await stream.recv_message()
            assert info.value.status is Status.PERMISSION_DENIED
            with pytest.raises(GRPCError) as info:
                async with method("Chat").open(timeout=20) as stream:
                    await stream.send_message(empty_pb2.Empty())
                    assert await stream.recv_message() is not None
                    await asyncio.to_thread(policy.change, DENY)
                    await stream.send_message(empty_pb2.Empty())
                    await stream.recv_message()
            assert info.value.status is Status.PERMISSION_DENIED
            assert info.value.message == "the caller is not authorized"

    with LoopThread("asyncio") as thread:
        server = thread.run(start)
        try:
            thread.run(call, server._server.sockets[0].getsockname()[1])
        finally:
            thread.run(stop, server)


def test_grpcio_calls_are_judged_by_method_and_newest_policy(world: Any, policy: Changing) -> None:
    def echo(request: bytes, _context: Any) -> bytes:
        return request

    handlers = {name: grpc.unary_unary_rpc_method_handler(echo) for name in ("Chat", "Other")}
    with ThreadPoolExecutor(2) as pool:
        server = over_grpc.mtls_server(pool, world.payments, policy.file.authorizer, policy=policy.file)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.S", handlers),))
        port = server.add_mtls_port("127.0.0.1:0")
        server.start()
        try:
            with over_grpc.mtls_channel(f"127.0.0.1:{port}", world.frontend, MEMBERS) as channel:

                def outcome(name: str) -> Any:
                    try:
                        return channel.unary_unary(f"/t.S/{name}")(b"x", timeout=20)
                    except grpc.RpcError as error:
                        return error.code()

                assert [outcome("Chat"), outcome("Other")] == [b"x", grpc.StatusCode.PERMISSION_DENIED]
                policy.change(DENY)
                assert outcome("Chat") is grpc.StatusCode.PERMISSION_DENIED
                policy.change(ALLOW)
                assert outcome("Chat") == b"x"
                policy.change(NOBODY)
                assert outcome("Chat") is grpc.StatusCode.PERMISSION_DENIED
        finally:
            server.stop(0).wait()


def chat(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
    yield from requests


async def aio_chat(requests: Any, _context: Any) -> Any:
    async for each in requests:
        yield each


async def aio_last(requests: Any, _context: Any) -> bytes:
    last = b""
    async for each in requests:
        last = each
    return last


def last(requests: Iterator[bytes], _context: Any) -> bytes:
    *_, found = requests
    return found


@pytest.mark.parametrize("behavior", [chat, last, aio_chat, aio_last])
def test_grpcio_streams_end_at_their_next_message_when_the_policy_refuses_them(
    behavior: Any, world: Any, policy: Changing
) -> None:
    kind = grpc.stream_stream_rpc_method_handler if "chat" in behavior.__name__ else None
    handler = (kind or grpc.stream_unary_rpc_method_handler)(behavior)
    handlers = grpc.method_handlers_generic_handler("t.S", {"Chat": handler})

    def ask(port: int, change: str | None) -> bytes:
        """Send two messages, with a change of the policy between them once the first has passed."""

        before = policy.file.counts.get(("front", "allowed"), 0)

        def requests() -> Iterator[bytes]:
            yield b"1"
            if change is not None:
                until(lambda: policy.file.counts.get(("front", "allowed"), 0) >= before + 2)  # call and message
                policy.change(change)
            yield b"2"

        with over_grpc.mtls_channel(f"127.0.0.1:{port}", world.frontend, MEMBERS) as channel:
            if kind is None:
                return bytes(channel.stream_unary("/t.S/Chat")(requests(), timeout=20))
            return bytes([*channel.stream_stream("/t.S/Chat")(requests(), timeout=20)][-1])

    def check(port: int) -> None:
        assert ask(port, None) == b"2"
        assert ask(port, ALLOW + "  # the same\n" + NOBODY.removeprefix(HEAD)) == b"2"
        with pytest.raises(grpc.RpcError) as info:
            ask(port, DENY)
        assert info.value.code() is grpc.StatusCode.PERMISSION_DENIED

    if behavior in (chat, last):
        with ThreadPoolExecutor(2) as pool:
            server = over_grpc.mtls_server(pool, world.payments, MEMBERS, policy=policy.file)
            server.add_generic_rpc_handlers((handlers,))
            port = server.add_mtls_port("127.0.0.1:0")
            server.start()
            try:
                check(port)
            finally:
                server.stop(0).wait()
        return

    async def start() -> tuple[Any, int]:
        server = over_grpc.mtls_aio_server(world.payments, MEMBERS, policy=policy.file)
        server.add_generic_rpc_handlers((handlers,))
        port = server.add_mtls_port("127.0.0.1:0")
        await server.start()
        return server, port

    with LoopThread("asyncio") as thread:
        aio_server, port = thread.run(start)
        try:
            check(port)
        finally:
            thread.run(aio_server.stop, 0)
