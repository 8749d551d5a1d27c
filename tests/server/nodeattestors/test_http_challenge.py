"""http_challenge at the server: names that prove themselves, and all that a node could make the server call."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spire.attestation.http_challenge import Host, challenge, is_agent_name, parse_challenge
from authsec_sdk.spire.attestation.messages import AttestationMessageError
from icp_server.domain.errors import InvalidArgument, PermissionDenied
from icp_server.nodeattestors.callback import CallbackError, Reach, fetch
from icp_server.services.agents import AgentService

pytestmark = pytest.mark.anyio

HERE = 'allowed_networks = ["127.0.0.1/32"]'


class Node:
    """A node's HTTP server: what it answers, and what it was asked."""

    def __init__(self) -> None:
        self.nonce = ""
        self.port = 0
        self.asked: list[str] = []
        self.answer: Callable[[str], bytes] = lambda nonce: _ok(f"{nonce}\n")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
            writer.write(self.answer(self.nonce))
            await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    def respond(self, text: bytes) -> bytes:
        self.nonce = parse_challenge(text)
        return b"\n"

    def payload(self, hostname: str = "127.0.0.1", name: str = "default", port: int | None = None) -> bytes:
        return Host(hostname, name, self.port if port is None else port).payload()


def _ok(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    running = Node()
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    running.port = server.sockets[0].getsockname()[1]
    yield running
    server.close()


@pytest.fixture
def attestor(make_attestor: Any) -> Any:
    return make_attestor("http_challenge", HERE)


async def test_a_node_gets_upstreams_id_and_selectors(attestor: Any, attest: Any, node: Node) -> None:
    result = await attest(attestor, node.payload(name="agent-2"), node.respond)
    assert str(result.agent_id) == "spiffe://example.org/spire/agent/http_challenge/127.0.0.1"
    assert [str(each) for each in result.selectors] == ["http_challenge:hostname:127.0.0.1"]
    assert not result.can_reattest
    assert result.first_use_only
    assert node.asked == ["GET /.well-known/spiffe/nodeattestor/http_challenge/agent-2/challenge HTTP/1.1"]


async def test_without_tofu_it_may_come_again(make_attestor: Any, attest: Any, node: Node) -> None:
    data = f"{HERE} tofu = false allow_non_root_ports = false"
    with pytest.raises(InvalidArgument, match=r"port \d+ is not allowed to be >= 1024"):
        await attest(make_attestor("http_challenge", data), node.payload(), node.respond)


class TestAddresses:
    """What a stranger can make the server call: nothing on its own machine or link, and nothing it was told not to."""

    @pytest.mark.parametrize(
        "hostname",
        ["127.0.0.1", "127.1", "127.9.9.9", "2130706433", "0x7f.1", "0177.1", "0.0.0.0", "0", "169.254.169.254"],
    )
    async def test_every_way_to_write_this_machine(
        self, make_attestor: Any, attest: Any, node: Node, hostname: str
    ) -> None:
        with pytest.raises(PermissionDenied, match="leads to an address that this server does not call"):
            await attest(make_attestor("http_challenge", ""), node.payload(hostname), node.respond)
        assert node.asked == []

    @pytest.mark.parametrize("hostname", ["localhost", "LOCALHOST", "localhost.", "localHost"])
    async def test_the_name_of_this_machine(self, attestor: Any, attest: Any, node: Node, hostname: str) -> None:
        with pytest.raises(PermissionDenied, match=r"^you can not use localhost as a hostname$"):
            await attest(attestor, node.payload(hostname))

    @pytest.mark.parametrize(
        "hostname",
        ["::1", "[::1]", "a/b", "a:80", "a@b", "a?b", "a#b", "a b", "a\r\nX: y", "é", "", "a%00b", "../x", "a\n"],
    )
    async def test_hostnames_that_are_none(self, attestor: Any, attest: Any, node: Node, hostname: str) -> None:
        with pytest.raises(PermissionDenied, match=r"^challenge verification failed: hostname"):
            await attest(attestor, node.payload(hostname))

    @pytest.mark.parametrize("port", [0, -1, 65536, 10**30])
    async def test_ports_that_are_none(self, attestor: Any, attest: Any, node: Node, port: int) -> None:
        with pytest.raises(PermissionDenied, match="port is invalid"):
            await attest(attestor, node.payload(port=port))

    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1", "127.255.255.255", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "240.0.0.1",
            "::1", "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
            "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1:2::80ff:fffe",
        ],
    )  # fmt: skip
    def test_what_is_never_called(self, address: str) -> None:
        assert not Reach().permits(ipaddress.ip_address(address))

    @pytest.mark.parametrize(
        "address", ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2606:4700::1", "64:ff9b::808:808"]
    )
    def test_what_is_called(self, address: str) -> None:
        assert Reach().permits(ipaddress.ip_address(address))

    def test_networks_that_the_operator_forbids(self) -> None:
        reach = Reach(denied=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")))
        for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::1"):
            assert not reach.permits(ipaddress.ip_address(address))
        assert reach.permits(ipaddress.ip_address("192.168.1.1"))

    @given(st.ip_addresses(v=4))
    def test_an_address_is_judged_alike_in_every_disguise(self, address: ipaddress.IPv4Address) -> None:
        reach = Reach(denied=(ipaddress.ip_network("10.0.0.0/8"),))
        disguises = [f"::ffff:{address}", f"64:ff9b::{address}"]
        if not reach.permits(address):
            assert not any(reach.permits(ipaddress.ip_address(each)) for each in disguises)

    async def test_a_name_that_leads_nowhere(self, attestor: Any, attest: Any, node: Node) -> None:
        with pytest.raises(PermissionDenied, match="the node cannot be called"):
            await attest(attestor, node.payload("no-such-host.invalid"), node.respond)

    async def test_a_name_that_is_too_long(self, attestor: Any, attest: Any, node: Node) -> None:
        with pytest.raises(PermissionDenied, match="hostname is too long"):
            await attest(attestor, node.payload("a" * 254), node.respond)

    async def test_the_name_is_resolved_once(self, node: Node) -> None:
        """What was judged is what is called: a name that changes meanwhile (DNS rebinding) changes nothing."""
        asked = []

        def resolve(host: str, port: int, **kwargs: Any) -> Any:
            asked.append(host)
            return socket.getaddrinfo("127.0.0.1", port, **kwargs)

        node.nonce = "n"
        reach = Reach(allowed=(ipaddress.ip_network("127.0.0.1/32"),))
        # Resolved again it would lead nowhere.
        assert await fetch("rebound.invalid", node.port, "/", reach, resolve=resolve)
        assert asked == ["rebound.invalid"]

    async def test_names_whose_servers_are_silent_hold_up_nothing_else(self, node: Node) -> None:
        """Lookups have threads of their own: with those that sign taken, they go on, and so it is the other way."""
        loop, silent, looking_up = asyncio.get_running_loop(), threading.Event(), threading.Event()

        def resolve(*_: Any, **__: Any) -> Any:
            looking_up.set()
            silent.wait()
            raise OSError("no name")

        with ThreadPoolExecutor(1) as others:
            loop.set_default_executor(others)
            waiting = asyncio.create_task(fetch("slow.invalid", node.port, "/", Reach(), resolve=resolve))
            try:
                with anyio.fail_after(30):
                    while not looking_up.is_set():
                        await asyncio.sleep(0.01)
                    assert await asyncio.to_thread(lambda: "signed") == "signed"
            finally:
                silent.set()
            with pytest.raises(CallbackError, match="the node cannot be called"):
                await waiting


class TestAnswers:
    async def refused(self, attest: Any, attestor: Any, node: Node, words: str) -> None:
        with pytest.raises(PermissionDenied, match=f"^challenge verification failed: .*{words}"):
            await attest(attestor, node.payload(), node.respond)

    @pytest.mark.parametrize("body", ["", "wrong", "x" * 1000])
    async def test_another_nonce(self, attestor: Any, attest: Any, node: Node, body: str) -> None:
        node.answer = lambda _: _ok(body)
        await self.refused(attest, attestor, node, "expected nonce was not found in HTTP response")

    async def test_the_nonce_among_other_things(self, attestor: Any, attest: Any, node: Node) -> None:
        """A server that serves what anybody uploads must not prove anything by more than it was asked."""
        node.answer = lambda nonce: _ok(f"{nonce} and more")
        await self.refused(attest, attestor, node, "expected nonce was not found")

    async def test_a_nonce_of_before(self, attestor: Any, attest: Any, node: Node) -> None:
        await attest(attestor, node.payload(), node.respond)
        with pytest.raises(PermissionDenied, match="expected nonce was not found"):
            await attest(attestor, node.payload(), lambda _: b"\n")

    async def test_a_redirect_is_not_followed(self, attestor: Any, attest: Any, node: Node) -> None:
        head = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{node.port}/secret\r\nContent-Length: 0\r\n\r\n"
        node.answer = lambda _: head.encode()
        await self.refused(attest, attestor, node, "HTTP 302")
        assert len(node.asked) == 1

    @pytest.mark.parametrize("status", ["404 Not Found", "500 Oops", "204 No Content"])
    async def test_any_answer_but_200(self, attestor: Any, attest: Any, node: Node, status: str) -> None:
        node.answer = lambda nonce: f"HTTP/1.1 {status}\r\n\r\n{nonce}".encode()
        await self.refused(attest, attestor, node, "HTTP ")

    @pytest.mark.parametrize(
        "raw",
        [b"", b"junk\r\n\r\n", _ok("x" * 100_000), b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000 + b"\r\n"],
    )
    async def test_no_answer_or_too_much_of_it(self, attestor: Any, attest: Any, node: Node, raw: bytes) -> None:
        node.answer = lambda _: raw
        await self.refused(attest, attestor, node, "the node cannot be called")

    async def test_nobody_there(self, attestor: Any, attest: Any, node: Node) -> None:
        with pytest.raises(PermissionDenied, match="the node cannot be called"):
            await attest(attestor, node.payload(port=1), node.respond)

    async def test_what_is_where_in_our_network_is_for_the_operator_alone(
        self, attestor: Any, attest: Any, node: Node, caplog: Any
    ) -> None:
        with pytest.raises(PermissionDenied) as caught:
            await attest(attestor, node.payload(port=1), node.respond)
        assert caught.value.message == "challenge verification failed: the node cannot be called"
        assert "host=127.0.0.1 port=1 error=" in caplog.text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "^failed to unmarshal data: no JSON"),
        (b'{"hostname": 1}', "hostname is no string"),
        (b'{"hostname": "a", "agentname": "a", "port": "80"}', "port is no whole number"),
        (b'{"hostname": "a", "agentname": "a", "port": true}', "port is no whole number"),
        (Host("a", "1a", 80).payload(), "^agent name is not valid$"),
        (Host("a", "a" * 33, 80).payload(), "^agent name is not valid$"),
        (Host("a", "a/../b", 80).payload(), "^agent name is not valid$"),
        (Host("a", "a\n", 80).payload(), "^agent name is not valid$"),
    ],
)
async def test_payloads_that_are_refused(attestor: Any, attest: Any, data: bytes, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        await attest(attestor, data)


async def test_names_and_ports_that_are_not_allowed(make_attestor: Any, attest: Any, node: Node) -> None:
    attestor = make_attestor("http_challenge", f'{HERE} allowed_dns_patterns = ["^p[0-9][.]example[.]com$"]')
    for name in ("127.0.0.1", "p1.example.com.attacker.net", "xp1.example.com"):
        with pytest.raises(PermissionDenied, match=r"^the requested hostname is not allowed to connect$"):
            await attest(attestor, node.payload(name))
    attestor = make_attestor("http_challenge", f"{HERE} required_port = 80")
    with pytest.raises(InvalidArgument, match=r"^port \d+ is not allowed to be used by this server$"):
        await attest(attestor, node.payload())


async def test_no_pattern_is_tried_on_what_can_be_no_name(make_attestor: Any, attest: Any, node: Node) -> None:
    """This one takes hours for the longest payload."""
    attestor = make_attestor("http_challenge", f'{HERE} allowed_dns_patterns = ["^.*.*[.]example[.]com$"]')
    with pytest.raises(PermissionDenied, match="hostname is too long"):
        await attest(attestor, node.payload("a" * 60_000))


async def test_patterns_that_match_within_longer_names_are_warned_of(make_attestor: Any, caplog: Any) -> None:
    make_attestor("http_challenge", 'allowed_dns_patterns = ["example[.]com", "^a$"]')
    assert [record.args for record in caplog.records] == [("example[.]com",)]


class TestTrustOnFirstUse:
    @pytest.fixture
    def agents(self, server: Any, clock: Any, attestor: Any) -> AgentService:
        return AgentService(server.store, server.signer, {"http_challenge": attestor}, clock)

    def attest(self, agents: AgentService, node: Node, requester: Any) -> Any:
        async def ask(text: bytes) -> bytes:
            return node.respond(text)

        return agents.attest("http_challenge", node.payload(), requester.csr(), ask)

    async def test_a_name_counts_once(self, agents: Any, node: Node, requester: Any, new_requester: Any) -> None:
        first = await self.attest(agents, node, requester)
        before = await agents.get(first.svid.spiffe_id)
        words = r"^nodeattestor\(http_challenge\): attestation data has already been used to attest an agent$"
        with pytest.raises(PermissionDenied, match=words):
            await self.attest(agents, node, new_requester(ec.generate_private_key(ec.SECP256R1())))
        assert await agents.get(first.svid.spiffe_id) == before, "the first one keeps its SVID"

    async def test_of_several_at_the_same_time_one_wins(self, agents: Any, new_requester: Any) -> None:
        """All of them answer at the name, and none has a record when it is asked for."""
        nonces: dict[str, str] = {}
        everybody = asyncio.Barrier(4)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            name = (await reader.readuntil(b"\r\n\r\n")).decode().split("/")[5]
            await everybody.wait()
            writer.write(_ok(nonces[name]))
            writer.close()

        async def one(name: str, port: int) -> Any:
            async def ask(text: bytes) -> bytes:
                nonces[name] = parse_challenge(text)
                return b"\n"

            payload = Host("127.0.0.1", name, port).payload()
            return await agents.attest("http_challenge", payload, new_requester().csr(), ask)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        results = await asyncio.gather(*(one(f"agent-{each}", port) for each in range(4)), return_exceptions=True)
        server.close()
        refused = [each for each in results if isinstance(each, BaseException)]
        assert [type(each) for each in refused] == [PermissionDenied] * 3
        assert all("has already been used" in str(each) for each in refused)

    async def test_evicted_it_may_come_again(self, agents: Any, node: Node, requester: Any) -> None:
        first = await self.attest(agents, node, requester)
        await agents.delete(first.svid.spiffe_id)
        await self.attest(agents, node, requester)

    async def test_banned_it_may_not(self, agents: Any, node: Node, requester: Any) -> None:
        first = await self.attest(agents, node, requester)
        await agents.ban(first.svid.spiffe_id)
        with pytest.raises(PermissionDenied):
            await self.attest(agents, node, requester)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('allowed_dns_patterns = ["("]', "cannot compile allowed_dns_pattern: '('"),
        ("tofu = false", "you can not turn off trust on first use (TOFU) when non-root ports are allowed"),
        ("tofu = false required_port = 8080", "you can not turn off trust"),
        ("tofu = false allow_non_root_ports = true", "you can not turn off trust"),
        ('denied_networks = ["10.0.0.1/8"]', "denied_networks: "),
        ('allowed_networks = ["x"]', "allowed_networks: "),
        ("required_port = 70000", "at most 65535"),
        ("requird_port = 80", "did you mean 'required_port'?"),
    ],
)
async def test_settings_that_are_refused(make_attestor: Any, data: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_attestor("http_challenge", data)
    assert words in str(caught.value)
    assert caught.value.line == 1


@pytest.mark.parametrize("data", ["tofu = false required_port = 80", "tofu = false allow_non_root_ports = false"])
async def test_settings_by_which_root_alone_can_answer(make_attestor: Any, data: str) -> None:
    assert make_attestor("http_challenge", data).name == "http_challenge"


@given(st.text(max_size=30), st.text(max_size=30), st.integers())
def test_what_is_written_is_read(hostname: str, name: str, port: int) -> None:
    assert Host.parse(Host(hostname, name, port).payload()) == Host(hostname, name, port)
    assert parse_challenge(challenge(name)) == name


@given(st.text(max_size=40))
def test_an_agents_name_is_one_segment_of_a_path(name: str) -> None:
    if is_agent_name(name):
        assert name.isascii()
        assert name.replace("-", "").isalnum()


@given(st.dictionaries(st.sampled_from(["hostname", "agentname", "port"]), st.none() | st.integers() | st.text()))
def test_any_payload_is_read_or_refused(values: dict[str, Any]) -> None:
    try:
        Host.parse(json.dumps(values).encode())
    except AttestationMessageError:
        pass
