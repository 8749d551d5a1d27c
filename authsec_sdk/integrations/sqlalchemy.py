"""SQLAlchemy 2 engines for PostgreSQL over mutual TLS (extras ``psycopg`` or ``asyncpg``, and SQLAlchemy itself).

``mtls_engine(url, source, authorizer)`` for ``postgresql+psycopg://``, ``mtls_async_engine`` for that and for
``postgresql+asyncpg://``. The engines are SQLAlchemy's own; each connection they make is one of
:class:`authsec_sdk.integrations.psycopg.PsycopgConnector` or
:class:`authsec_sdk.integrations.asyncpg.AsyncpgConnector`, with what those check and refuse.

``pool_recycle`` (seconds) bounds how long a connection keeps the identities it was made with.
"""

from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.spiffe import SpiffeID, X509ContextSource
from authsec_sdk.tls import RejectionHook

__all__ = ["mtls_async_engine", "mtls_engine", "peer_spiffe_id"]

# Each of these would make connections without the policy.
_NOT_OURS_TO_TAKE = ("async_creator", "creator", "module", "pool")


def mtls_engine(
    url: str | URL,
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> Engine:
    """Return what ``create_engine`` does for a URL ``postgresql+psycopg://ROLE@HOST/DATABASE``.

    Raises:
        sqlalchemy.exc.OperationalError: from a connection that could not be made; the ``PeerVerificationError`` of a
            refused server is in its ``__cause__`` chain.
        CallerError: another driver, an option that would go round the policy; and from a connection, as
            ``PsycopgConnector.connect`` says.
        InvalidAuthorizerError: ``authorizer`` cannot be one.

    """
    url = _checked(url, options, "postgresql+psycopg")
    from authsec_sdk.integrations.psycopg import PsycopgConnector

    connector = PsycopgConnector(source, authorizer, on_rejected=on_rejected)
    engine = create_engine(url, **options)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, args: Any, parameters: Any) -> Any:
        return connector.connect(*args, **parameters)

    return engine


def mtls_async_engine(
    url: str | URL,
    source: X509ContextSource,
    authorizer: Authorizer,
    *,
    on_rejected: RejectionHook | None = None,
    **options: Any,
) -> AsyncEngine:
    """Return what ``create_async_engine`` does, for ``postgresql+asyncpg://`` or ``postgresql+psycopg://``.

    Raises:
        CallerError, InvalidAuthorizerError: as :func:`mtls_engine` says. From a connection comes what the driver
            raises: SQLAlchemy's ``OperationalError`` with psycopg, ``PeerVerificationError`` itself with asyncpg.

    """
    url = _checked(url, options, "postgresql+asyncpg", "postgresql+psycopg")
    creator: Any
    if url.drivername == "postgresql+asyncpg":
        from authsec_sdk.integrations.asyncpg import AsyncpgConnector

        creator = AsyncpgConnector(source, authorizer, on_rejected=on_rejected).connect
    else:
        from authsec_sdk.integrations.psycopg import PsycopgConnector

        creator = PsycopgConnector(source, authorizer, on_rejected=on_rejected).connect_async
    arguments = {**options.pop("connect_args", {}), "async_creator_fn": creator}
    return create_async_engine(url, connect_args=arguments, **options)


def peer_spiffe_id(connection: Any) -> SpiffeID:
    """Return the SPIFFE ID of the server behind a ``Connection``, or behind what ``AsyncConnection.run_sync`` gives.

    Raises:
        CallerError: the connection was not made by an engine of this module.

    """
    driver = connection.connection.driver_connection
    if type(driver).__module__.startswith("asyncpg"):
        from authsec_sdk.integrations.asyncpg import peer_spiffe_id as of_asyncpg

        return of_asyncpg(driver)
    from authsec_sdk.integrations.psycopg import peer_spiffe_id as of_psycopg

    return of_psycopg(driver)


def _checked(url: str | URL, options: dict[str, Any], *drivers: str) -> URL:
    url = make_url(url)
    if url.drivername not in drivers:
        raise CallerError(f"{url.drivername}: no driver that this works with; use {' or '.join(drivers)}")
    foreign = [name for name in options if name in _NOT_OURS_TO_TAKE]
    if "async_creator_fn" in (options.get("connect_args") or {}):
        foreign.append("async_creator_fn")
    if foreign:
        raise CallerError(f"{', '.join(sorted(foreign))}: not taken here; its connections would go round the policy")
    return url
