"""Redis over mutual TLS with this workload's identity (extra ``redis``): redis-py's client, blocking and asyncio.

``mtls_client`` and ``mtls_async_client`` give ordinary clients of redis-py whose every connection presents the newest
X509-SVID and is refused, before a command is sent, unless the server's SPIFFE ID satisfies the authorizer.
:class:`MTLSConnection` and :class:`AsyncMTLSConnection` are the ``connection_class`` of pools made by hand.

What is not checked: DNS names; the server is known by its SPIFFE ID alone. What the server does with the client's ID is
the server's: Redis itself looks no further than the chain (``tls-auth-clients yes``). A connection that is already open
keeps the identities it was made with; redis-py opens a new one when it needs one.
"""

import socket
import ssl
from typing import Any

import redis.asyncio
from redis.asyncio.connection import Connection as _AsyncConnection
from redis.connection import Connection as _Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError, NoIdentityError
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import PeerVerificationError, RejectionHook, SpiffeSSLContext, mtls_client_context
from authsec_sdk.tls import peer_spiffe_id as _peer_of

__all__ = [
    "AsyncMTLSConnection",
    "MTLSConnection",
    "ServerRefusedError",
    "mtls_async_client",
    "mtls_client",
    "peer_spiffe_id",
]

# Each of these would make connections of another kind, or brings certificates of its own.
_FOREIGN = ("connection_class", "connection_pool", "path", "ssl", "ssl_context", "unix_socket_path", "url")


class ServerRefusedError(RedisError):
    """The server's certificate, or its SPIFFE ID, was refused: no command was sent, and redis-py does not try again.

    ``__cause__`` is the ``PeerVerificationError`` with the ID seen and what was wanted.
    """


class MTLSConnection(_Connection):
    """A connection of redis-py in mutual TLS, for a pool: ``ConnectionPool(MTLSConnection, spiffe_context=…)``."""

    def __init__(self, *, spiffe_context: SpiffeSSLContext, **options: Any) -> None:
        _refuse(options)
        self._spiffe_context = spiffe_context
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def _connect(self) -> socket.socket:
        plain: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
        plain.settimeout(self.socket_connect_timeout)  # the handshake is part of connecting
        try:
            secured = self._spiffe_context.wrap_socket(plain, server_hostname=self.host)
        except PeerVerificationError as error:
            plain.close()
            raise _refusal(self.host, self.port, error) from error
        except BaseException:
            plain.close()
            raise
        secured.settimeout(self.socket_timeout)
        return secured


class AsyncMTLSConnection(_AsyncConnection):
    """The same for the pools of ``redis.asyncio``."""

    def __init__(self, *, spiffe_context: SpiffeSSLContext, **options: Any) -> None:
        _refuse(options)
        self._spiffe_context = spiffe_context
        super().__init__(**options)

    def _connection_arguments(self) -> dict[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._spiffe_context, "server_hostname": self.host}

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect once, and let a refusal through as what it is: redis-py tries again what it takes for an outage."""
        try:
            await super().connect_check_health(check_health, retry_socket_connect)
        except RedisConnectionError as error:
            refusal = error.__cause__ or error.__context__
            if isinstance(refusal, PeerVerificationError):
                raise _refusal(self.host, self.port, refusal) from refusal
            raise


def mtls_client(
    source: X509ContextSource,
    authorizer: Authorizer,
    host: str,
    port: int = 6379,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> redis.Redis:
    """Return a ``redis.Redis`` that presents this workload's SVID to a server the authorizer accepts only.

    ``options`` go to its connection pool: ``db``, ``username``, ``password``, ``decode_responses``,
    ``max_connections``, ``health_check_interval``, timeouts in seconds, and so on. Closing the client closes the pool.

    Raises:
        ServerRefusedError: from a command, when the server is refused.
        CallerError: at once, for an option that would go round the policy.

    """
    _refuse(options)
    context = mtls_client_context(source, authorizer, minimum_version=minimum_version, on_rejected=on_rejected)
    pool = redis.ConnectionPool(MTLSConnection, spiffe_context=context, host=host, port=port, **options)
    return redis.Redis.from_pool(pool)


def mtls_async_client(
    source: X509ContextSource,
    authorizer: Authorizer,
    host: str,
    port: int = 6379,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> redis.asyncio.Redis:
    """Return a ``redis.asyncio.Redis`` as :func:`mtls_client` returns a blocking one; close it with ``aclose()``.

    Raises:
        ServerRefusedError: from a command, when the server is refused.
        CallerError: at once, for an option that would go round the policy.

    """
    _refuse(options)
    context = mtls_client_context(source, authorizer, minimum_version=minimum_version, on_rejected=on_rejected)
    pool = redis.asyncio.ConnectionPool(AsyncMTLSConnection, spiffe_context=context, host=host, port=port, **options)
    return redis.asyncio.Redis.from_pool(pool)


def peer_spiffe_id(connection: MTLSConnection | AsyncMTLSConnection) -> SpiffeID:
    """Return the SPIFFE ID of the server at the other end of a connection that a pool handed out.

    Raises:
        NoIdentityError: the connection is not open.

    """
    if isinstance(connection, MTLSConnection):
        secured = connection._sock
        peer = None if secured is None else _peer_of(secured)
    else:
        writer = connection._writer
        peer = None if writer is None else _peer_of(writer.transport)
    if peer is None:
        raise NoIdentityError("this connection has no verified SPIFFE ID: it is not open")
    return peer


def _refusal(host: str, port: int, error: PeerVerificationError) -> ServerRefusedError:
    return ServerRefusedError(f"refused the server at {host}:{port}: {error}")


def _refuse(options: dict[str, Any]) -> None:
    if wrong := sorted(name for name in options if name in _FOREIGN or name.startswith("ssl_")):
        raise CallerError(
            f"{', '.join(wrong)}: not taken here; certificates, keys and trust come from the source, and connections "
            "made otherwise would go round the SPIFFE policy"
        )
