"""Attests by this node's name: serves the server's nonce over HTTP, for as long as an attempt lasts."""

import asyncio
import errno
import logging
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from authsec_sdk.errors import ConfigurationError, OperatorError
from authsec_sdk.hcl import Fields
from authsec_sdk.spire.attestation import http_challenge as wire
from authsec_sdk.spire.attestation.messages import AttestationMessageError
from icp_agent.ports import MakeNodeAttestor, NodeAttestor, NodeParts

logger = logging.getLogger(__name__)

NAME: Final = wire.NAME
_SECONDS: Final = 10.0
_MAXIMUM_HEAD: Final = 16 * 1024
_MAXIMUM_CONNECTIONS: Final = 16
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{1,128}={0,2}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class HTTPChallengeSettings:
    """What `plugin_data` says; called, it makes the attestor. Port 0: any that is free; advertised 0: the same."""

    hostname: str = ""
    agent_name: str = "default"
    port: int = 0
    advertised_port: int = 0

    def __call__(self, parts: NodeParts) -> NodeAttestor:
        """Make the attestor."""
        del parts
        return HTTPChallengeAttestor(self)


class _Answering:
    """Serves one nonce at one path; anything else is not found. Speaks just enough HTTP for that."""

    def __init__(self, path: str) -> None:
        self._request_line = f"GET {path} HTTP/1.".encode()
        self._tasks: set[asyncio.Task[object]] = set()
        self.nonce = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if len(self._tasks) <= _MAXIMUM_CONNECTIONS:
                async with asyncio.timeout(_SECONDS):
                    await self._answer(reader, writer)
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
            logger.debug("A caller of http_challenge went away error=%r", str(error))
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        """End the conversations that are under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found = bool(self.nonce) and head.startswith(self._request_line)
        status, body = ("200 OK", f"{self.nonce}\n") if found else ("404 Not Found", "not found\n")
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()


@dataclass(frozen=True, slots=True)
class HTTPChallengeAttestation:
    """One attempt: where this node answers, and the nonce once the server has said it."""

    payload: bytes
    answering: _Answering

    async def respond(self, challenge: bytes) -> bytes:
        """Serve the nonce from now on, and say so.

        Raises:
            OperatorError: it is no such challenge, or the nonce no such word.
        """
        try:
            nonce = wire.parse_challenge(challenge)
        except AttestationMessageError as error:
            raise OperatorError(f"unable to unmarshal challenge: {error}") from error
        # Served to whoever asks, on this host's name: so not just anything that a server says.
        if not _NONCE.match(nonce):
            raise OperatorError("the server's nonce is no word of base64")
        self.answering.nonce = nonce
        return wire.ACKNOWLEDGEMENT


class HTTPChallengeAttestor:
    """Listens while an attempt lasts, and at no other time."""

    name = NAME

    def __init__(self, settings: HTTPChallengeSettings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[HTTPChallengeAttestation]:
        """Listen on the port, on all addresses.

        Raises:
            ConfigurationError: the port cannot be listened on.
        """
        settings = self._settings
        host = wire.Host(settings.hostname or socket.gethostname(), settings.agent_name, settings.port)
        answering = _Answering(host.path)
        try:
            listener = _listener(settings.port)
        except OSError as error:
            raise ConfigurationError(f"could not listen on port {settings.port}: {error.strerror}") from error
        server = await asyncio.start_server(answering, sock=listener, limit=_MAXIMUM_HEAD)
        try:
            port = settings.advertised_port or listener.getsockname()[1]
            yield HTTPChallengeAttestation(wire.Host(host.hostname, host.agent_name, port).payload(), answering)
        finally:
            server.close()
            await answering.close()


def _listener(port: int) -> socket.socket:
    """Listen for IPv4 and IPv6 at one port, or for IPv4 where there is no IPv6."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return socket.create_server(("", port))


def read(data: Fields) -> MakeNodeAttestor:
    """Read the settings.

    Raises:
        ConfigurationError: the agent's name is none, a port is out of range, or a key is unknown.
    """
    with data:
        name = data.text("agentname") or "default"
        if not wire.is_agent_name(name):
            raise data.error(f"agentname {name!r} is not valid: a letter, then letters, digits and dashes", "agentname")
        port = data.integer("port", minimum=0, maximum=65535) or 0
        advertised = data.integer("advertised_port", minimum=0, maximum=65535) or port
        return HTTPChallengeSettings(data.text("hostname") or "", name, port, advertised)
