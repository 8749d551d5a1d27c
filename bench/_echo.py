"""One end of `bench.py_spiffe` in a process of its own: `server|client ours|spiffe-tls [PORT]`, on blocking sockets.

Identities come from the socket in SPIFFE_ENDPOINT_SOCKET. The same file runs in two environments, each with one SDK.
"""

import socket
import statistics
import sys
import threading
import time
from typing import Any

SIZE = 100
PEER = "spiffe://bench.test/workload"


def ours(server: bool, port: int) -> Any:
    """Return what accepts, or what connects: our contexts on blocking sockets."""
    from authsec_sdk.authz import authorize_id
    from authsec_sdk.tls import mtls_client_context, mtls_server_context
    from authsec_sdk.workloadapi import X509Source

    source = X509Source()
    source.start()
    source.wait(timeout=30)
    context = (mtls_server_context if server else mtls_client_context)(source, authorize_id(PEER))
    if server:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        print(listener.getsockname()[1], flush=True)

        def accept() -> Any:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return context.wrap_socket(connection, server_side=True)

        return accept

    def connect() -> Any:
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain, server_hostname="x")

    return connect


def spiffe_tls(server: bool, port: int) -> Any:
    """Return the same with py-spiffe's source, and `listen` and `dial` of spiffe-tls."""
    from spiffe import SpiffeId, X509Source
    from spiffetls import ListenOptions, dial, listen  # type: ignore[import-not-found]
    from spiffetls.mode import ClientTlsMode, ServerTlsMode  # type: ignore[import-not-found]
    from spiffetls.tlsconfig.authorize import authorize_id  # type: ignore[import-not-found]

    source: Any = X509Source()
    authorize = authorize_id(SpiffeId(PEER))
    if server:
        options = ListenOptions(tls_mode=ServerTlsMode.MTLS, authorize_fn=authorize, backlog=128)
        with socket.create_server(("127.0.0.1", 0)) as probe:  # it does not tell which port it chose
            chosen = probe.getsockname()[1]
        listener = listen(f"127.0.0.1:{chosen}", source, options)
        print(chosen, flush=True)

        def accept() -> Any:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.do_handshake()
            return connection

        return accept

    def connect() -> Any:
        connection = dial(f"127.0.0.1:{port}", source, ClientTlsMode.TLS, authorize)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    return connect


def echo(connection: Any) -> None:
    """Send back what comes, until the end."""
    try:
        while data := connection.recv(SIZE):
            connection.sendall(data)
    except Exception:
        pass
    finally:
        connection.close()


def call(connection: Any) -> None:
    """Send, and wait for all of it."""
    connection.sendall(b"x" * SIZE)
    left = SIZE
    while left:
        left -= len(connection.recv(left))


def main(role: str, kind: str, port: str = "0") -> None:
    """Serve until killed, or do what the lines of the standard input say: `steady N` and `fresh N`."""
    make = (ours if kind == "ours" else spiffe_tls)(role == "server", int(port))
    if role == "server":
        while True:
            threading.Thread(target=echo, args=(make(),), daemon=True).start()
    kept = make()
    print("ready", flush=True)
    for line in sys.stdin:
        what, count = line.split()
        spent = [0]
        for _ in range(int(count)):
            begun = time.perf_counter_ns()
            if what == "steady":
                call(kept)
            else:
                connection = make()
                call(connection)
                connection.close()
            spent.append(time.perf_counter_ns() - begun)
        print(statistics.median(spent[1:]) / 1e3, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
