"""gunicorn serving over mutual TLS: WSGI in sync and gthread workers; the hooks that ASGI and aiohttp workers share.

In ``gunicorn.conf.py`` (gunicorn itself is all this needs)::

    mtls = MTLS(authorize_id("spiffe://example.org/frontend"))
    certfile, ssl_context, post_fork = mtls.certfile, mtls.ssl_context, mtls.post_fork

Each worker process has a source of its own, begun after the fork; the master holds no key. A WSGI application reads its
caller with :func:`authsec_sdk.integrations.wsgi.peer_spiffe_id`. For ASGI see
:mod:`authsec_sdk.integrations.gunicorn_uvicorn`, for ``aiohttp.web`` :mod:`authsec_sdk.integrations.gunicorn_aiohttp`.
"""

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any

from authsec_sdk.authz import Authorizer, require_authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.tls import RejectionHook, SpiffeSSLContext, mtls_server_context
from authsec_sdk.workloadapi import X509Source

__all__ = ["HANDSHAKE_TIMEOUT", "MTLS"]

HANDSHAKE_TIMEOUT = 10.0
"""Seconds for a handshake. gunicorn has no limit: a caller that says nothing would hold a worker or a thread."""

_ALPN = {"h1": "http/1.1", "h2": "h2"}


class MTLS:
    """What ``gunicorn.conf.py`` takes its settings ``certfile``, ``ssl_context`` and ``post_fork`` from.

    ``source`` makes the source of a worker and is called in each, after the fork. A worker without an identity in time
    does not boot. Whoever has a ``post_fork`` of their own calls this one from it.

    Raises:
        InvalidAuthorizerError: ``authorizer`` cannot be one.
        CallerError: ``handshake_timeout`` is not positive.

    """

    certfile = os.devnull
    """gunicorn speaks TLS if a certificate file is named. This one exists, and nothing reads it."""

    def __init__(
        self,
        authorizer: Authorizer,
        *,
        source: Callable[[], X509Source] = X509Source,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        on_rejected: RejectionHook | None = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
    ) -> None:
        if not handshake_timeout > 0:
            raise CallerError(f"handshake_timeout={handshake_timeout}: give seconds, more than none")
        self.handshake_timeout = handshake_timeout
        self._authorizer = require_authorizer(authorizer)
        self._make_source = source
        self._minimum_version = minimum_version
        self._on_rejected = on_rejected
        self._lock = threading.Lock()
        self._begun: tuple[X509Source, SpiffeSSLContext] | None = None

    @classmethod
    def of(cls, conf: Any) -> "MTLS":
        """Return the one a gunicorn configuration was made with, for worker classes.

        Raises:
            CallerError: its ``ssl_context`` is another.

        """
        found = getattr(conf.ssl_context, "__self__", None)
        if not isinstance(found, cls):
            raise CallerError(
                "this worker class wants mutual TLS: in gunicorn.conf.py, take certfile, ssl_context and post_fork "
                "from an authsec_sdk.integrations.gunicorn.MTLS"
            )
        return found

    def post_fork(self, _server: Any, _worker: Any) -> None:
        """Begin this worker's source and wait for its identity: gunicorn's hook of that name.

        Raises:
            NotReadyError: none in time; gunicorn then says that the worker did not boot.

        """
        self._here()

    def ssl_context(self, conf: Any, _default: Callable[[], ssl.SSLContext]) -> Any:
        """Return what wraps a connection: gunicorn's hook of that name, asked for each one or once for a worker."""
        context = self.context(_ALPN[name] for name in getattr(conf, "http_protocols", ["h1"]) if name in _ALPN)
        if _blocks(conf):
            return _Wrapping(context, self.handshake_timeout)
        return context

    def context(self, alpn: Iterable[str] = ("http/1.1",)) -> SpiffeSSLContext:
        """Return the context of this process, for worker classes that hand one to their event loop."""
        return self._here().view(alpn=tuple(alpn))

    def _here(self) -> SpiffeSSLContext:
        if self._begun is None:
            with self._lock:
                if self._begun is None:
                    self._begin()
        assert self._begun is not None
        return self._begun[1]

    def _begin(self) -> None:
        source = self._make_source()
        try:
            source.__enter__()
            context = mtls_server_context(
                source, self._authorizer, minimum_version=self._minimum_version, on_rejected=self._on_rejected
            )
        except BaseException:
            source.close()
            raise
        self._begun = source, context  # until the process ends


def _blocks(conf: Any) -> bool:
    """Tell whether the worker class, by whatever name the configuration calls it, handshakes in a thread that waits."""
    from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]
    from gunicorn.workers.sync import SyncWorker  # type: ignore[import-untyped]

    return issubclass(conf.worker_class, (SyncWorker, ThreadWorker))


class _Wrapping:
    """What sync and gthread workers wrap a connection with: the whole handshake at once, and in bounded time."""

    def __init__(self, context: SpiffeSSLContext, timeout: float) -> None:
        self._context = context
        self._timeout = timeout

    def wrap_socket(self, plain: socket.socket, **options: Any) -> ssl.SSLSocket:
        """Return the connection with its peer verified.

        Raises:
            ssl.SSLEOFError: it was refused, or did not end in time; the one error that gunicorn closes the connection
                at without an answer. `authsec_sdk.tls` and `on_rejected` have the reason.

        """
        wrapped = self._context.wrap_socket(plain, **{**options, "do_handshake_on_connect": False})
        try:
            before = wrapped.gettimeout()
            wrapped.settimeout(self._timeout)
            wrapped.do_handshake()
            wrapped.settimeout(before)
        except OSError as error:
            wrapped.close()
            raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the handshake was refused or did not end in time") from error
        except BaseException:
            wrapped.close()
            raise
        return wrapped
