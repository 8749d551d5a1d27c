"""Peers made of the standard library's TLS alone, for what no integration would do."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 10


class BareServer:
    """Completes handshakes and counts the application bytes that come; answers nothing."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.received = b""
        self.connections = 0
        self._thread = threading.Thread(target=self._run, name="bare-server")

    def _run(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with accepted, contextlib.suppress(OSError):
                accepted.settimeout(PATIENCE)
                with self._context.wrap_socket(accepted, server_side=True) as tls:
                    self.received += tls.recv(4096)

    @contextmanager
    def running(self) -> Iterator["BareServer"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._thread.join(2 * PATIENCE)


@contextmanager
def bare_server(context: ssl.SSLContext) -> Iterator[BareServer]:
    with BareServer(context).running() as server:
        yield server


def call_without_certificate(port: int, context: ssl.SSLContext) -> None:
    """Connect, say something that HTTP servers answer, and wait for the end."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain:
        with context.wrap_socket(plain) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            while tls.recv(4096):
                pass
