"""http_challenge at the agent: the nonce is served while an attempt lasts, at its path, and nothing else is."""

import asyncio
import socket
from contextlib import suppress

import pytest

from authsec_sdk.errors import ConfigurationError, OperatorError
from authsec_sdk.spire.attestation.http_challenge import ACKNOWLEDGEMENT, Host, challenge

pytestmark = pytest.mark.anyio

PATH = "/.well-known/spiffe/nodeattestor/http_challenge/default/challenge"


async def get(port, path=PATH, *, raw=None):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw or f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.decode()


async def test_the_nonce_is_served_once_the_server_has_said_it(make_attestor):
    async with make_attestor("http_challenge", 'hostname = "node.example.org"').begin() as attestation:
        host = Host.parse(attestation.payload)
        assert (host.hostname, host.agent_name) == ("node.example.org", "default")
        assert "404" in await get(host.port)
        assert await attestation.respond(challenge("abc-_=")) == ACKNOWLEDGEMENT
        answer = await get(host.port)
        assert answer.startswith("HTTP/1.1 200 OK\r\n")
        assert answer.endswith("\r\n\r\nabc-_=\n")
        for path in ("/", PATH + "/more", PATH.replace("default", "other")):
            assert "404" in await get(host.port, path)
        assert "404" in await get(host.port, raw=b"POST " + PATH.encode() + b" HTTP/1.1\r\n\r\n")
    with pytest.raises(ConnectionRefusedError):
        await get(host.port)


async def test_callers_who_say_nothing_end_with_the_attempt(make_attestor):
    async with make_attestor("http_challenge", "").begin() as attestation:
        port = Host.parse(attestation.payload).port
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        await attestation.respond(challenge("abc"))
    for reader, writer in silent:
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_a_flood_of_headers_is_cut(make_attestor):
    async with make_attestor("http_challenge", "").begin() as attestation:
        port = Host.parse(attestation.payload).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    "text", [b"", b"{}", challenge("a b"), challenge("a\r\nb"), challenge("<x>"), challenge("a" * 200)]
)
async def test_what_is_no_nonce_is_not_served(make_attestor, text):
    """A server, or whoever speaks for it, must not put what it likes under this host's name."""
    async with make_attestor("http_challenge", "").begin() as attestation:
        with pytest.raises(OperatorError):
            await attestation.respond(text)
        assert "404" in await get(Host.parse(attestation.payload).port)


async def test_a_port_behind_a_proxy(make_attestor):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    attestor = make_attestor("http_challenge", f'port = {port} advertised_port = 80 agentname = "b"')
    async with attestor.begin() as attestation:
        assert Host.parse(attestation.payload) == Host(socket.gethostname(), "b", 80)
        await attestation.respond(challenge("abc"))
        assert "200" in await get(port, PATH.replace("default", "b"))


async def test_a_port_that_is_taken(make_attestor):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"could not listen on port {port}"):
            async with make_attestor("http_challenge", f"port = {port}").begin():
                pass


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('agentname = "a/b"', "is not valid"),
        ("port = 70000", "at most 65535"),
        ("prot = 80", "did you mean 'port'"),
    ],
)
def test_settings_that_are_refused(make_attestor, data, words):
    with pytest.raises(ConfigurationError, match=words):
        make_attestor("http_challenge", data)
