"""uvicorn serving an ASGI application over mutual TLS (extra ``uvicorn``).

``await serve(app, source, authorizer, port=8443)`` runs a server whose certificate follows the source, which refuses
callers in the handshake, and whose applications read the caller from the scope
(:func:`authsec_sdk.integrations.asgi.peer_spiffe_id`). :class:`MTLSConfig` is an ordinary ``uvicorn.Config`` for those
who run ``uvicorn.Server`` themselves. It works with the h11 and httptools protocols, on asyncio and uvloop, for HTTP
and websockets.

One process serves: ``workers`` and ``reload`` start others that would not have the source, and are refused.
"""

import asyncio
import ssl
from typing import Any

import uvicorn

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations.asgi import ASGIApp, Receive, Scope, Send
from authsec_sdk.spiffe import X509ContextSource
from authsec_sdk.tls import RejectionHook, mtls_server_context, peer_spiffe_id

__all__ = ["MTLSConfig", "serve"]

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
    """A ``uvicorn.Config`` for mutual TLS with a source's identity; give it to ``uvicorn.Server``.

    ``options`` are uvicorn's own (``host``, ``port``, ``http``, ``log_level``, …) without those that say which
    certificates to use. ``proxy_headers`` is off unless asked for: a header must not say who the caller is.

    Raises:
        CallerError: for an option that this class decides itself.

    """

    def __init__(
        self,
        app: ASGIApp | str,
        source: X509ContextSource,
        authorizer: Authorizer,
        *,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        on_rejected: RejectionHook | None = None,
        **options: Any,
    ) -> None:
        if foreign := sorted(set(options) & set(_OUR_OPTIONS)):
            raise CallerError(
                f"{', '.join(foreign)}: not taken here; certificates, keys and trust come from the source, and one "
                "process serves (start more behind one address with SO_REUSEPORT or a supervisor)"
            )
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


async def serve(app: ASGIApp | str, source: X509ContextSource, authorizer: Authorizer, **options: Any) -> None:
    """Serve an application over mutual TLS until the process is told to stop.

    ``options`` are those of :class:`MTLSConfig`. uvicorn handles SIGINT and SIGTERM and shuts down gracefully.

    Raises:
        CallerError: for an option that :class:`MTLSConfig` decides itself.

    """
    await uvicorn.Server(MTLSConfig(app, source, authorizer, **options)).serve()


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
        scope["extensions"] = {**(scope.get("extensions") or {}), **self._extensions}
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
