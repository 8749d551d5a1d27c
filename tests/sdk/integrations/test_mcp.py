"""The contract of every integration, for MCP over streamable HTTP: the client on asyncio and trio, uvicorn serving."""

import asyncio
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from integration_contract.loops import LoopThread
from integration_contract.pair import Exchange, Pair
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Context, MCPServer

from authsec_sdk.authz import authorize_id, authorize_member_of
from authsec_sdk.errors import CallerError, PeerNotAuthorizedError
from authsec_sdk.integrations.mcp import (
    CallerBoundSessions,
    InsecureURLError,
    authorize_caller,
    mtls_http_client,
    peer_spiffe_id,
)
from authsec_sdk.integrations.uvicorn import MTLSConfig, MTLSServer
from authsec_sdk.spiffe import SpiffeID
from authsec_sdk.testing import FakeWorkloadAPI
from authsec_sdk.tls import PeerVerificationError

# On trio, mcp leaves generators of its HTTP library to the garbage collector when a stream of events ends.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator '(httpx2|httpcore2):ResourceWarning")

Row = Callable[[Pair], None]
ROOT = Path(__file__).resolve().parents[3]


def tools(wanted: Any = None) -> MCPServer:
    server = MCPServer("tools", log_level="WARNING")

    @server.tool()
    async def whoami(context: Context) -> str:  # type: ignore[type-arg] # mcp asks for it bare
        return str(peer_spiffe_id(context) if wanted is None else authorize_caller(context, wanted))

    return server


class Served:
    """An MCP server on a loop of its own."""

    def __init__(self) -> None:
        self.port = self.hits = 0
        self.app: Any = None
        self.server: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def count() -> Any:
            message = await receive()
            self.hits += b'"tools/call"' in message.get("body", b"")
            return message

        await self.app(scope, count, send)

    async def start(self, source: Any, authorizer: Any, on_rejected: Any, inner: MCPServer) -> None:
        self.app = CallerBoundSessions(inner.streamable_http_app(), max_sessions=20)
        config = MTLSConfig(
            self, source, authorizer, on_rejected=on_rejected, host="127.0.0.1", port=0, log_level="warning"
        )
        self.server = MTLSServer(config)
        self._task = asyncio.create_task(self.server.serve())
        while not self.server.started:
            assert not self._task.done()
            await asyncio.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.server.should_exit = True
        await self._task
        for task in asyncio.all_tasks():  # sse-starlette's own, which ends with the process
            if getattr(task.get_coro(), "__name__", "") == "_shutdown_watcher":
                task.cancel()


async def ask(http: httpx2.AsyncClient, port: int, tool: str = "whoami") -> Any:
    async with streamable_http_client(f"https://127.0.0.1:{port}/mcp", http_client=http) as (read, write):
        async with ClientSession(read, write) as session:
            await session.initialize()
            return await session.call_tool(tool)


class MCPPair(Pair):
    def __init__(self, loop: str, inner: MCPServer | None = None) -> None:
        self._loop = loop
        self._inner = inner or tools()

    @contextmanager
    def serve(self, source: Any, authorizer: Any, on_rejected: Any = None) -> Iterator[Served]:
        served = Served()
        with LoopThread("asyncio") as thread:
            thread.run(served.start, source, authorizer, on_rejected, self._inner)
            try:
                yield served
            finally:
                thread.run(served.stop)

    @contextmanager
    def connect(
        self, port: int, source: Any, authorizer: Any, on_rejected: Any = None
    ) -> Iterator[Callable[[], Exchange]]:
        async def call() -> Exchange:
            seen: list[SpiffeID] = []

            async def note(response: httpx2.Response) -> None:
                seen.append(peer_spiffe_id(response))

            hooks = {"response": [note]}
            async with mtls_http_client(source, authorizer, on_rejected=on_rejected, event_hooks=hooks) as http:
                result = await ask(http, port)
            assert not result.is_error, result
            assert len(set(seen)) == 1
            return Exchange(seen[0], SpiffeID.parse(result.content[0].text))

        with LoopThread(self._loop) as thread:
            yield lambda: thread.run(call)


@pytest.fixture(params=["asyncio", "trio"])
def pair(request: pytest.FixtureRequest) -> MCPPair:
    return MCPPair(request.param)


def test_client_contract(client_row: Row, pair: MCPPair) -> None:
    client_row(pair)


def test_server_contract(server_row: Row) -> None:
    server_row(MCPPair("asyncio"))


def test_rotation_under_load(load_row: Row, pair: MCPPair) -> None:
    load_row(pair)


def asked(pair: MCPPair, question: Callable[..., Any], *args: Any) -> Any:
    with LoopThread(pair._loop) as thread:
        return thread.run(question, *args)


def test_a_tool_refuses_with_little_for_the_caller_and_all_for_the_operator(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pair = MCPPair("asyncio", tools(authorize_id("spiffe://example.org/orders")))

    async def question(port: int) -> Any:
        async with mtls_http_client(world.frontend, authorize_id(world.payments_id)) as http:
            return await ask(http, port)

    with caplog.at_level(logging.WARNING), pair.serve(world.payments, authorize_member_of("example.org")) as served:
        result = asked(pair, question, served.port)
    assert result.is_error
    assert "not authorized" in result.content[0].text
    assert "spiffe://" not in result.content[0].text
    assert "spiffe://example.org/orders" in caplog.text
    assert str(world.frontend_id) in caplog.text


def test_a_session_is_the_callers_who_opened_it(world: Any, pair: MCPPair) -> None:
    """Whoever learns a session ID has nothing, if it is not theirs."""
    thief = type(world.frontend)()
    thief.publish(world.context(world.ca.svid("/thief")))
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    parameters = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    begin = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": parameters}
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}

    async def question(port: int) -> tuple[list[int], int]:
        url, members = f"https://127.0.0.1:{port}/mcp", authorize_member_of("example.org")
        async with mtls_http_client(world.frontend, members, headers=headers) as owner:
            sessions = [(await owner.post(url, json=begin)).headers["mcp-session-id"] for _ in range(2)]
            mine = {"mcp-session-id": sessions[0]}
            answers = [(await owner.post(url, json=call, headers=mine)).status_code]
            async with mtls_http_client(thief, members, headers=headers) as other:
                answers.append((await other.post(url, json=call, headers=mine)).status_code)
                answers.append((await other.delete(url, headers=mine)).status_code)
            twice = [("mcp-session-id", sessions[1]), ("mcp-session-id", sessions[0])]
            answers.append((await owner.post(url, json=call, headers=[*headers.items(), *twice])).status_code)
            answers.append((await owner.post(url, json=call, headers={"mcp-session-id": "guessed"})).status_code)
            answers.append((await owner.post(url, json=call, headers=mine)).status_code)
            for _ in range(20):  # more than are remembered
                await owner.post(url, json=begin)
            forgotten = (await owner.post(url, json=call, headers=mine)).status_code
        return answers, forgotten

    with pair.serve(world.payments, authorize_member_of("example.org")) as served:
        answers, forgotten = asked(pair, question, served.port)
    assert answers == [200, 404, 404, 404, 404, 200]
    assert forgotten == 404


def test_a_session_is_bound_whatever_the_case_of_its_header() -> None:
    """Hypercorn passes names on as they came where `h11_pass_raw_headers` is set."""
    reached: list[str] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        reached.append(scope["path"])

    async def send(_message: Any) -> None: ...

    async def call(name: bytes) -> None:
        peer = SpiffeID.parse("spiffe://example.org/frontend")
        scope = {"type": "http", "path": "/mcp", "headers": [(name, b"x")], "extensions": {"spiffe": {"peer": peer}}}
        await CallerBoundSessions(app)(scope, send, send)

    for name in (b"mcp-session-id", b"Mcp-Session-Id"):
        asyncio.run(call(name))
    assert reached == []


def test_a_session_keeps_its_owner_whoever_is_told_its_name() -> None:
    reached: list[str] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        reached.append(str(scope["extensions"]["spiffe"]["peer"]))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"mcp-session-id", b"x")]})

    async def send(_message: Any) -> None: ...

    async def call(caller: str, *headers: Any) -> None:
        scope = {"type": "http", "path": "/mcp", "headers": headers}
        peer = SpiffeID.parse(f"spiffe://example.org/{caller}")
        await bound({**scope, "extensions": {"spiffe": {"peer": peer}}}, send, send)

    bound = CallerBoundSessions(app)
    mine = (b"mcp-session-id", b"x")
    for caller, headers in (("owner", []), ("other", []), ("other", [mine]), ("owner", [mine])):
        asyncio.run(call(caller, *headers))
    assert [one.rpartition("/")[2] for one in reached] == ["owner", "other", "owner"]


def test_the_refusal_names_the_id_seen_and_the_one_wanted(world: Any, pair: MCPPair) -> None:
    async def question(port: int) -> BaseException | None:
        async with mtls_http_client(world.frontend, authorize_id("spiffe://example.org/orders")) as http:
            with pytest.raises(httpx2.ConnectError) as info:
                await http.get(f"https://127.0.0.1:{port}/mcp")
        return info.value

    with pair.serve(world.payments, authorize_id(world.frontend_id)) as served:
        error = asked(pair, question, served.port)
    while error is not None and not isinstance(error, PeerVerificationError):
        error = error.__cause__ or error.__context__
    assert error is not None
    assert isinstance(error.reason, PeerNotAuthorizedError)
    assert "spiffe://example.org/orders" in str(error)
    assert str(world.payments_id) in str(error)


def test_plain_http_is_refused_before_anything_is_sent(world: Any, pair: MCPPair) -> None:
    async def question(port: int) -> None:
        async with mtls_http_client(world.frontend, authorize_member_of("example.org")) as http:
            with pytest.raises(InsecureURLError, match="mutual TLS only"):
                await http.get(f"http://127.0.0.1:{port}/mcp")

    with socket.create_server(("127.0.0.1", 0)) as nobody:
        asked(pair, question, nobody.getsockname()[1])


@pytest.mark.parametrize("option", ["verify", "cert", "proxy", "transport", "mounts", "trust_env"])
def test_options_that_go_round_the_policy_are_refused(world: Any, option: str) -> None:
    with pytest.raises(CallerError, match=option):
        mtls_http_client(world.frontend, authorize_member_of("example.org"), **{option: None})


def test_what_did_not_come_over_our_connections_has_no_peer() -> None:
    with pytest.raises(CallerError, match="mtls_http_client"):
        peer_spiffe_id(httpx2.Response(200))


def test_the_page_and_the_examples(world: Any) -> None:
    page = (ROOT / "docs/integrations/mcp.md").read_text()
    server, client = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    served = ["-c", server.replace("8443", port)], [str(ROOT / "examples/mcp_server.py"), port, str(world.frontend_id)]
    called = (
        ["-c", client.replace("8443", port)],
        [str(ROOT / "examples/mcp_client.py"), f"https://127.0.0.1:{port}/mcp", str(world.payments_id)],
    )
    with FakeWorkloadAPI() as frontend, FakeWorkloadAPI() as payments:
        frontend.issue(world.ca, "/frontend")
        payments.issue(world.ca, "/payments")

        def environment(agent: FakeWorkloadAPI) -> dict[str, str]:
            return {"PATH": os.environ["PATH"], "SPIFFE_ENDPOINT_SOCKET": agent.address, "PYTHONPATH": str(ROOT)}

        for serving, calling in zip(served, called, strict=True):
            with subprocess.Popen(
                [sys.executable, *serving], env=environment(payments), stderr=subprocess.PIPE
            ) as process:
                try:
                    assert process.stderr is not None
                    for line in process.stderr:
                        if b"running on" in line:
                            break
                    done = subprocess.run(
                        [sys.executable, *calling],
                        env=environment(frontend),
                        capture_output=True,
                        text=True,
                        timeout=60,
                    )
                    assert (done.returncode, done.stdout) == (0, f"{world.frontend_id}\n"), done.stderr
                finally:
                    process.terminate()
                    process.communicate()
