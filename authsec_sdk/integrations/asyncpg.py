"""asyncpg over mutual TLS with this workload's identity (extra ``asyncpg``), on asyncio and uvloop.

``AsyncpgConnector(source, authorizer)`` gives ordinary asyncpg connections and pools. Each new connection presents the
newest X509-SVID, and not a byte of it, the user's name included, reaches a server whose SPIFFE ID the authorizer does
not accept.

What is not checked: DNS names. A connection that is open keeps the identities it was made with:
``await pool.expire_connections()`` makes a pool use new ones.
"""

import ssl
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg  # type: ignore[import-untyped]

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook, mtls_client_context
from authsec_sdk.tls import peer_spiffe_id as _peer_of

__all__ = ["AsyncpgConnector", "peer_spiffe_id"]

# Each of these would make connections without the policy, or decide where they go behind its back.
_NOT_OURS_TO_TAKE = ("connect", "service", "servicefile", "ssl")


class AsyncpgConnector:
    """Makes asyncpg connections and pools that speak mutual TLS with servers the authorizer accepts.

    Cheap to keep and with nothing to close: it holds a TLS context and no connection.

    Raises:
        InvalidAuthorizerError: ``authorizer`` cannot be one.

    """

    def __init__(
        self,
        source: X509ContextSource,
        authorizer: Authorizer,
        *,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        on_rejected: RejectionHook | None = None,
    ) -> None:
        self._context = mtls_client_context(
            source, authorizer, minimum_version=minimum_version, alpn=("postgresql",), on_rejected=on_rejected
        )

    async def connect(self, dsn: str | None = None, **options: Any) -> asyncpg.Connection:
        """Connect, as ``asyncpg.connect`` does. The host must be named, in ``dsn`` or with ``host=``.

        Raises:
            PeerVerificationError: the server is refused; holds the ID seen and what was wanted.
            asyncpg.ConnectionDoesNotExistError, ConnectionError, ssl.SSLError: the server refused us. In TLS 1.3 that
                comes after the handshake, and it does not say why: look into the server's log.
            CallerError: no host, a Unix socket for a host, or an option that would go round the policy.

        """
        return await asyncpg.connect(dsn, **self._secured(dsn, options))

    def pool(self, dsn: str | None = None, **options: Any) -> asyncpg.Pool:
        """Return an ``asyncpg.Pool``, to be used in ``async with`` or awaited, as ``asyncpg.create_pool`` does.

        Raises:
            CallerError: as :meth:`connect` says. What a connection raises comes from the pool.

        """
        return asyncpg.create_pool(dsn, **self._secured(dsn, options))

    def _secured(self, dsn: str | None, options: dict[str, Any]) -> dict[str, Any]:
        query = parse_qs(urlsplit(dsn).query) if dsn else {}
        foreign = [name for name in options if name in _NOT_OURS_TO_TAKE]
        foreign += [name for name in query if name in _NOT_OURS_TO_TAKE or name.startswith("ssl")]
        if foreign:
            raise CallerError(
                f"{', '.join(sorted(foreign))}: not taken here; certificates, keys and trust come from the source"
            )
        hosts = _hosts(options.get("host")) or [host for host in _of_dsn(dsn, query) if host]
        if not hosts or any(host.startswith("/") for host in hosts):
            raise CallerError("name the server's host: over Unix sockets PostgreSQL speaks no TLS")
        return {**options, "ssl": self._context}


def peer_spiffe_id(connection: Any) -> SpiffeID:
    """Return the SPIFFE ID of the server, as the handshake verified it; of a pool's connection too.

    Raises:
        CallerError: the connection was not made by an :class:`AsyncpgConnector`, or is closed.

    """
    peer = None if connection.is_closed() else _peer_of(connection._transport)  # asyncpg has no public way to it
    if peer is None:
        raise CallerError("no verified SPIFFE ID: this connection is closed, or was not made by an AsyncpgConnector")
    return peer


def _hosts(host: str | Iterable[str] | None) -> list[str]:
    if host is None:
        return []
    return host.split(",") if isinstance(host, str) else list(host)


def _of_dsn(dsn: str | None, query: dict[str, list[str]]) -> list[str]:
    """Return the hosts that asyncpg reads from a DSN: the authority's go before the query's."""
    if not dsn:
        return []
    authority = urlsplit(dsn).netloc.rpartition("@")[2]
    in_authority = [unquote(part) for part in authority.split(",")] if authority else []
    return in_authority or [host for value in query.get("host", []) for host in value.split(",")]
