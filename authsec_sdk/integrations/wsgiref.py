"""A WSGI server over mutual TLS made of the standard library's `wsgiref` (no extra needed).

``make_server(app, source, authorizer, port=8443)`` gives a server whose certificate follows the source, which refuses
callers in the handshake, and whose applications read the caller from the environ
(:func:`authsec_sdk.integrations.wsgi.peer_spiffe_id`). One thread and one connection for each request: for tools,
tests and internal services; under load use gunicorn.
"""

import contextlib
import logging
import socket
import socketserver
import ssl
import sys
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

from authsec_sdk.authz import Authorizer
from authsec_sdk.errors import CallerError
from authsec_sdk.integrations.wsgi import RAW_HEADERS, SOCKET, WSGIApp
from authsec_sdk.spiffe import X509ContextSource
from authsec_sdk.tls import RejectionHook, SpiffeSSLContext, mtls_server_context

__all__ = ["HANDSHAKE_TIMEOUT", "READ_TIMEOUT", "MTLSWSGIServer", "make_server"]

HANDSHAKE_TIMEOUT = 10.0
"""Seconds from the beginning of a handshake to its end."""
READ_TIMEOUT = 60.0
"""Seconds for which a caller may send, or take, nothing."""
_GOODBYE = 1.0
_MAX_REQUEST_LINE = 65536

logger = logging.getLogger(__name__)


class _Handler(WSGIRequestHandler):
    server: "MTLSWSGIServer"

    def get_environ(self) -> dict[str, Any]:
        raw = tuple(self.headers.items())
        for name in {name for name, _ in raw if "_" in name}:
            del self.headers[name]  # it would become one with the header that has dashes there
        environ = super().get_environ()
        return {**environ, SOCKET: self.connection, RAW_HEADERS: raw, "RAW_URI": self.path, "HTTPS": "on"}

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline(_MAX_REQUEST_LINE + 1)
        if len(self.raw_requestline) > _MAX_REQUEST_LINE:
            self.requestline = self.request_version = self.command = ""
            self.send_error(414)
            return
        if not self.raw_requestline or not self.parse_request():
            return
        handler = ServerHandler(self.rfile, self.wfile, self.get_stderr(), self.get_environ(), multithread=True)  # type: ignore[arg-type]
        handler.request_handler = self  # type: ignore[attr-defined] # where wsgiref looks for who logs
        handler.run(self.server.get_app())  # type: ignore[arg-type]

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        logger.info("%s peer=%s", format % args, getattr(self.connection, "peer_spiffe_id", None))


class MTLSWSGIServer(socketserver.ThreadingMixIn, WSGIServer):
    """A server of `wsgiref` that handshakes in the thread of each connection. `server_close` waits for the threads."""

    request_queue_size = 128

    def __init__(self, address: tuple[str, int], context: SpiffeSSLContext, handshake_timeout: float) -> None:
        self._context = context
        self._handshake_timeout = handshake_timeout
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind, and ask no name server who we are."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Handshake, then serve one request."""
        request.settimeout(self._handshake_timeout)
        with self._context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as connection:
            connection.do_handshake()
            connection.settimeout(READ_TIMEOUT)
            _Handler(connection, client_address, self)
            connection.settimeout(_GOODBYE)
            with contextlib.suppress(OSError):
                connection.unwrap()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what ended a connection; refusals are told by `authsec_sdk.tls` and the hook."""
        logger.debug("Connection ended from=%s error=%r", client_address, sys.exception())


def make_server(
    app: WSGIApp,
    source: X509ContextSource,
    authorizer: Authorizer,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    on_rejected: RejectionHook | None = None,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
) -> MTLSWSGIServer:
    """Return a server that listens; ``with`` it, and ``serve_forever()`` until ``shutdown()`` from another thread.

    Raises:
        CallerError: ``handshake_timeout`` is not positive.
        InvalidAuthorizerError: ``authorizer`` cannot be one.
        OSError: the address cannot be had.

    """
    if not handshake_timeout > 0:
        raise CallerError(f"handshake_timeout={handshake_timeout}: give seconds, more than none")
    context = mtls_server_context(
        source, authorizer, minimum_version=minimum_version, alpn=("http/1.1",), on_rejected=on_rejected
    )
    server = MTLSWSGIServer((host, port), context, handshake_timeout)
    server.set_app(app)
    return server
