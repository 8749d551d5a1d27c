"""psycopg 3 over mutual TLS with this workload's identity (extra ``psycopg``): sync, asyncio, and both pools.

``PsycopgConnector(source, authorizer)`` gives ordinary psycopg connections and pools. Each new connection presents the
newest X509-SVID, and not a byte of it, the user's name included, reaches a server whose SPIFFE ID the authorizer does
not accept. libpq has no place for such a check, so its connections pass through a Unix socket inside this process
(Linux only; ``docs/integrations/postgres.md`` says what that costs).

What is not checked: DNS names. A connection that is open keeps the identities it was made with; ``max_lifetime`` of a
pool bounds that.
"""

import ssl
from types import TracebackType
from typing import Any

import psycopg
import psycopg_pool
from psycopg.conninfo import conninfo_to_dict

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations._postgres_bridge import Route, open_route
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook, SpiffeSSLContext, mtls_client_context

__all__ = ["PsycopgConnector", "peer_spiffe_id"]

# libpq's own TLS, and what would decide over the socket that we put in between.
_NOT_OURS_TO_TAKE = ("channel_binding", "gssencmode", "requirepeer", "requiressl", "service")
# Said outright, so that PGHOSTADDR, PGSSLMODE and their like in the environment have no say.
_SETTLED = {
    "hostaddr": "",
    "sslmode": "disable",  # of the Unix socket; TLS begins behind it
    "sslnegotiation": "postgres",
    "channel_binding": "disable",
    "gssencmode": "disable",
    "requirepeer": "",
}
_DEFAULT_PORT = "5432"
_NO_CANCEL = "cancel with cancel_safe(), and with libpq 17 or newer (psycopg[binary] brings it)"


class PsycopgConnector:
    """Makes psycopg connections and pools that speak mutual TLS with servers the authorizer accepts.

    Cheap to keep and with nothing to close: it holds a TLS context and no connection. ``connection_class`` and
    ``async_connection_class`` are for whoever builds connections elsewhere; their ``connect`` does the same.

    Raises:
        InvalidAuthorizerError: ``authorizer`` cannot be one.

    """

    connection_class: type[psycopg.Connection[Any]]
    async_connection_class: type[psycopg.AsyncConnection[Any]]

    def __init__(
        self,
        source: X509ContextSource,
        authorizer: Authorizer,
        *,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        on_rejected: RejectionHook | None = None,
    ) -> None:
        context = mtls_client_context(
            source, authorizer, minimum_version=minimum_version, alpn=("postgresql",), on_rejected=on_rejected
        )

        class MTLSConnection(_SyncConnection):
            _spiffe_context = context

        class AsyncMTLSConnection(_AsyncConnection):
            _spiffe_context = context

        self.connection_class = MTLSConnection
        self.async_connection_class = AsyncMTLSConnection

    def connect(self, conninfo: str = "", **options: Any) -> psycopg.Connection[Any]:
        """Connect, as ``psycopg.connect`` does. ``host`` must be named, here or in ``conninfo``.

        Raises:
            psycopg.OperationalError: the server was refused, or refused us, or cannot be reached. When it was refused
                the ``PeerVerificationError`` with the ID seen and what was wanted is the ``__cause__``.
            CallerError: no host, a Unix socket for a host, or an option that would go round the policy.

        """
        return self.connection_class.connect(conninfo, **options)

    async def connect_async(self, conninfo: str = "", **options: Any) -> psycopg.AsyncConnection[Any]:
        """Connect, as ``psycopg.AsyncConnection.connect`` does.

        Raises:
            psycopg.OperationalError, CallerError: as :meth:`connect` says.

        """
        return await self.async_connection_class.connect(conninfo, **options)

    def pool(self, conninfo: str = "", **options: Any) -> psycopg_pool.ConnectionPool[psycopg.Connection[Any]]:
        """Return a ``psycopg_pool.ConnectionPool``, not yet open unless ``open=True``; use it in ``with``.

        ``kwargs=`` holds options of the connections, as the pool has it.

        Raises:
            CallerError: ``connection_class`` is given.

        """
        _refuse_class(options)
        options.setdefault("open", False)
        return psycopg_pool.ConnectionPool(conninfo, connection_class=self.connection_class, **options)

    def pool_async(
        self, conninfo: str = "", **options: Any
    ) -> psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[Any]]:
        """Return a ``psycopg_pool.AsyncConnectionPool``, not yet open; use it in ``async with``.

        Raises:
            CallerError: ``connection_class`` is given.

        """
        _refuse_class(options)
        options.setdefault("open", False)
        return psycopg_pool.AsyncConnectionPool(conninfo, connection_class=self.async_connection_class, **options)


def peer_spiffe_id(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> SpiffeID:
    """Return the SPIFFE ID of the server, as the handshake verified it.

    Raises:
        CallerError: the connection was not made by a :class:`PsycopgConnector`.

    """
    peer: SpiffeID | None = getattr(connection, "_spiffe_peer", None)
    if peer is None:
        raise CallerError("this connection carries no verified SPIFFE ID: it was not made by a PsycopgConnector")
    return peer


class _SyncConnection(psycopg.Connection[Any]):
    _spiffe_context: SpiffeSSLContext
    _spiffe_peer: SpiffeID | None = None

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Any:
        with _Routes(cls._spiffe_context, conninfo, options) as routes:
            connection = super().connect(routes.conninfo, **routes.options)
            return routes.used_by(connection)

    def cancel(self) -> None:
        """Cancel what runs, by ``cancel_safe``: libpq's older way blocks the thread that has to carry it."""
        if not psycopg.capabilities.has_cancel_safe():
            raise CallerError(_NO_CANCEL)
        self.cancel_safe()


class _AsyncConnection(psycopg.AsyncConnection[Any]):
    _spiffe_context: SpiffeSSLContext
    _spiffe_peer: SpiffeID | None = None

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Any:
        with _Routes(cls._spiffe_context, conninfo, options) as routes:
            connection = await super().connect(routes.conninfo, **routes.options)
            return routes.used_by(connection)

    def cancel(self) -> None:
        """Refuse: libpq's older way of cancelling blocks the thread that has to carry it."""
        raise CallerError(_NO_CANCEL)


class _Routes:
    """The routes of one call of connect, one for each host; what the connection does not use ends with the call."""

    def __init__(self, context: SpiffeSSLContext, conninfo: str, options: dict[str, Any]) -> None:
        self.conninfo = conninfo
        given = conninfo_to_dict(conninfo)
        given.update({key: value for key, value in options.items() if value is not None})
        self._targets, self._context = _targets(given), context
        self.options = options
        self._routes: list[Route] = []
        self._used: Route | None = None

    def __enter__(self) -> "_Routes":
        for target in self._targets:
            self._routes.append(open_route(target, self._context))
        hosts = ",".join(route.host for route in self._routes)
        self.options = {**self.options, **_SETTLED, "host": hosts, "port": self._routes[0].port}
        return self

    def used_by(self, connection: Any) -> Any:
        self._used = next(route for route in self._routes if route.host == connection.info.host)
        connection._spiffe_peer = self._used.peer
        return connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for route in self._routes:
            if route is not self._used:
                route.close()
        failure = next((route.failure for route in self._routes if route.failure is not None), None)
        if isinstance(error, psycopg.OperationalError) and failure is not None:
            raise error from failure


def _targets(given: dict[str, Any]) -> list[tuple[str, int]]:
    if foreign := sorted(name for name in given if name.startswith("ssl") or name in _NOT_OURS_TO_TAKE):
        raise CallerError(f"{', '.join(foreign)}: not taken here; certificates, keys and trust come from the source")
    hosts = str(given.get("hostaddr") or given.get("host") or "").split(",")
    ports = str(given.get("port") or _DEFAULT_PORT).split(",")
    if any(host == "" or host.startswith(("/", "@")) for host in hosts):
        raise CallerError("name the server with host=: over Unix sockets PostgreSQL speaks no TLS")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise CallerError(f"{len(hosts)} hosts and {len(ports)} ports: give one port, or one for each host")
    try:
        return [(host, int(port or _DEFAULT_PORT)) for host, port in zip(hosts, ports, strict=True)]
    except ValueError:
        raise CallerError(f"port={given.get('port')!r} is no number") from None


def _refuse_class(options: dict[str, Any]) -> None:
    if "connection_class" in options:
        raise CallerError("connection_class: not taken here, because its connections would go round the policy")
