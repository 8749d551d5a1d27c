"""What server integrations write into an ASGI scope about the peer of a TLS connection (no extra needed)."""

import ssl
from typing import Any, Protocol

from authsec_sdk.integrations.asgi import ASGIApp, Receive, Scope, Send
from authsec_sdk.tls import peer_spiffe_id

__all__ = ["TLSConnection", "WithPeer", "add_extensions", "extensions_of"]

Extensions = dict[str, dict[str, Any]]

_TLS_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class TLSConnection(Protocol):
    """What `ssl.SSLObject`, `ssl.SSLSocket` and `trio.SSLStream` have in common and is needed here."""

    def getpeercert(self, binary_form: bool = False) -> Any:
        """The peer's certificate."""

    def version(self) -> str | None:
        """The protocol version agreed on."""


def extensions_of(connection: TLSConnection | None) -> Extensions:
    """Return the scope's extensions for a connection whose handshake is over; none for one without TLS."""
    if connection is None:
        return {}
    leaf = connection.getpeercert(binary_form=True)
    return {
        "spiffe": {"peer": peer_spiffe_id(connection)},
        # The ASGI TLS extension, version 0.2: the peer's leaf as PEM, the protocol version as its number.
        "tls": {
            "client_cert_chain": [] if leaf is None else [ssl.DER_cert_to_PEM_cert(leaf)],
            "client_cert_name": None,
            "client_cert_error": None,
            "server_cert": None,
            "tls_version": _TLS_VERSIONS.get(connection.version() or ""),
            "cipher_suite": None,
        },
    }


def add_extensions(scope: Scope, extensions: Extensions) -> None:
    """Write a copy into a scope: what one handler does to its scope is nothing to the next on this connection."""
    ours = {name: dict(values) for name, values in extensions.items()}
    scope["extensions"] = {**(scope.get("extensions") or {}), **ours}


class WithPeer:
    """An application called with the connection's verified peer in the scope's extensions."""

    def __init__(self, app: ASGIApp, connection: TLSConnection | None) -> None:
        self._app = app
        self._extensions = extensions_of(connection)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        add_extensions(scope, self._extensions)
        await self._app(scope, receive, send)
