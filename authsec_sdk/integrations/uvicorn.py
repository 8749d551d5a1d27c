"""uvicorn serving an ASGI application over mutual TLS (extra ``uvicorn``).

``await serve(app, source, authorizer, port=8443)`` runs a server whose certificate follows the source, which refuses
callers in the handshake, and whose applications read the caller from the scope
(:func:`authsec_sdk.integrations.asgi.peer_spiffe_id`). :class:`MTLSConfig` and :class:`MTLSServer` are the same in two
steps, for those who need the server in their hands. It works with the h11 and httptools protocols, on asyncio and
uvloop, over TCP and Unix sockets, for HTTP and websockets.

One process serves: ``workers`` and ``reload`` start others that would not have the source, and are refused.
"""

import asyncio
import logging
import os
import socket
import ssl
from typing import Any

import anyio
import uvicorn

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations.asgi import ASGIApp, Receive, Scope, Send
from authsec_sdk.spiffe import X509ContextSource
from authsec_sdk.tls import RejectionHook, mtls_server_context, peer_spiffe_id

__all__ = ["HANDSHAKE_TIMEOUT", "MTLSConfig", "MTLSServer", "serve"]

HANDSHAKE_TIMEOUT = 10.0
"""Seconds from accept to the end of the handshake. asyncio's own limit is 60, and uvicorn has no option for it."""

_uvicorn_logger = logging.getLogger("uvicorn.error")  # where its users look for the line that says where it listens

_OUR_OPTIONS = (
    "http2",
    "reload",
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_ciphers",
    "ssl_context_factory",
    "ssl_keyfile",
    "ssl_keyfile_password",
    "ssl_version",
    "workers",
)


class MTLSConfig(uvicorn.Config):
    """A ``uvicorn.Config`` for mutual TLS with a source's identity; give it to :class:`MTLSServer`.

    ``options`` are uvicorn's own (``host``, ``port``, ``uds``, ``http``, ``log_level``, …) without those that say which
    certificates to use. ``proxy_headers`` is off unless asked for: a header must not say who the caller is.
    An ordinary ``uvicorn.Server`` takes it too, but does not know ``handshake_timeout``.

    Raises:
        CallerError: for an option that this class decides itself, or a ``handshake_timeout`` that is not positive.
        InvalidAuthorizerError: ``authorizer`` cannot be one.

    """

    def __init__(
        self,
        app: ASGIApp | str,
        source: X509ContextSource,
        authorizer: Authorizer,
        *,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        on_rejected: RejectionHook | None = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        **options: Any,
    ) -> None:
        if foreign := sorted(set(options) & set(_OUR_OPTIONS)):
            raise CallerError(
                f"{', '.join(foreign)}: not taken here; certificates, keys and trust come from the source, and one "
                "process serves (start more behind one address with SO_REUSEPORT or a supervisor)"
            )
        if not handshake_timeout > 0:
            raise CallerError(f"handshake_timeout={handshake_timeout}: give seconds, more than none")
        self.handshake_timeout = handshake_timeout
        context = mtls_server_context(
            source, authorizer, minimum_version=minimum_version, alpn=("http/1.1",), on_rejected=on_rejected
        )
        options.setdefault("proxy_headers", False)
        super().__init__(app, ssl_context_factory=lambda _config, _default: context, **options)

    def load(self) -> None:
        """Load as uvicorn does, then make each connection carry its peer into the scope."""
        super().load()
        self.http_protocol_class = _identified(self.http_protocol_class)
        if self.ws_protocol_class is not None:
            self.ws_protocol_class = _identified(self.ws_protocol_class)


class MTLSServer(uvicorn.Server):
    """A ``uvicorn.Server`` that gives each handshake ``MTLSConfig.handshake_timeout`` and no longer.

    Without that, whoever connects and stays silent holds a connection for a minute. All else is uvicorn's, but that an
    address which cannot be had raises OSError instead of ending the process.
    """

    config: MTLSConfig

    def __init__(self, config: MTLSConfig) -> None:
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen."""
        await super().startup(sockets=[])  # no sockets: uvicorn starts the application, and cannot listen as we must
        if not self.started:
            return
        self.started = False
        try:
            self.servers = await self._listen(sockets)
        except BaseException:
            await self.lifespan.shutdown()
            raise
        self.started = True
        for listener in (listener for server in self.servers for listener in server.sockets):
            _uvicorn_logger.info("Uvicorn running on %s, mutual TLS (Press CTRL+C to quit)", _where(listener))

    async def _listen(self, sockets: list[socket.socket] | None) -> list[asyncio.Server]:
        config, loop = self.config, asyncio.get_running_loop()
        options: dict[str, Any] = {
            "ssl": config.ssl,
            "ssl_handshake_timeout": config.handshake_timeout,
            "backlog": config.backlog,
        }
        if sockets is None and config.fd is not None:
            sockets = [socket.socket(fileno=os.dup(config.fd))]
        if sockets is not None:
            return [await loop.create_server(self._protocol, sock=listener, **options) for listener in sockets]
        if config.uds is not None:
            path = anyio.Path(config.uds)
            mode = (await path.stat()).st_mode if await path.exists() else 0o666  # the handshake decides who gets in
            server = await loop.create_unix_server(self._protocol, config.uds, **options)
            await path.chmod(mode)
            return [server]
        return [await loop.create_server(self._protocol, config.host, config.port, **options)]

    def _protocol(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        made: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


async def serve(app: ASGIApp | str, source: X509ContextSource, authorizer: Authorizer, **options: Any) -> None:
    """Serve an application over mutual TLS until the process is told to stop.

    ``options`` are those of :class:`MTLSConfig`. uvicorn handles SIGINT and SIGTERM and shuts down gracefully.

    Raises:
        CallerError, InvalidAuthorizerError: as :class:`MTLSConfig` says.
        OSError: the address cannot be had.

    """
    await MTLSServer(MTLSConfig(app, source, authorizer, **options)).serve()


def _where(listener: socket.socket) -> str:
    address = listener.getsockname()
    if not isinstance(address, tuple):
        return f"unix socket {address}"
    host, port = address[:2]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _identified(protocol: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """Return a protocol whose application, one per connection, knows the peer of that connection."""

    class Identified(protocol):  # type: ignore[valid-type,misc] # the class is chosen when the configuration loads
        app: ASGIApp

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.app = _WithPeer(self.app, transport.get_extra_info("ssl_object"))

    Identified.__name__ = Identified.__qualname__ = f"Identified{protocol.__name__}"
    return Identified


class _WithPeer:
    """An application called with the connection's verified peer in the scope's extensions."""

    def __init__(self, app: ASGIApp, ssl_object: ssl.SSLObject | None) -> None:
        self._app = app
        self._extensions: dict[str, dict[str, Any]] = {}
        if ssl_object is not None:
            self._extensions["spiffe"] = {"peer": peer_spiffe_id(ssl_object)}
            self._extensions["tls"] = _tls_extension(ssl_object)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A copy for each request: what one handler does to its scope is nothing to the next on this connection.
        ours = {name: dict(values) for name, values in self._extensions.items()}
        scope["extensions"] = {**(scope.get("extensions") or {}), **ours}
        await self._app(scope, receive, send)


_TLS_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


def _tls_extension(ssl_object: ssl.SSLObject) -> dict[str, Any]:
    """Return the ASGI TLS extension (version 0.2): the peer's leaf as PEM, the protocol version as its number."""
    leaf = ssl_object.getpeercert(binary_form=True)
    return {
        "client_cert_chain": [] if leaf is None else [ssl.DER_cert_to_PEM_cert(leaf)],
        "client_cert_name": None,
        "client_cert_error": None,
        "server_cert": None,
        "tls_version": _TLS_VERSIONS.get(ssl_object.version() or ""),
        "cipher_suite": None,
    }
