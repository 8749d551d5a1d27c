"""The thread that all sources share, at its end."""

import asyncio
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.testing import TestCA
from authsec_sdk.workloadapi.thread import start_job

PATIENCE = 30.0


def test_connections_that_say_goodbye_end_before_their_loop(tmp_path: Path) -> None:
    """A loop that closes first leaves the connection, and its socket, to the garbage collector."""
    svid = TestCA("example.org").svid("/server")
    chain, key = tmp_path / "chain", tmp_path / "key"
    chain.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in svid.certificates))
    key.write_bytes(svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.check_hostname, ours.verify_mode = False, ssl.CERT_NONE
    theirs.load_cert_chain(chain, key)
    over = threading.Event()
    connections: list[Any] = []

    def serve() -> None:
        accepted, _ = listener.accept()
        with theirs.wrap_socket(accepted, server_side=True):
            over.wait(PATIENCE)  # and answers no goodbye

    async def leave() -> None:
        _, writer = await asyncio.open_connection(
            *listener.getsockname(), ssl=ours, server_hostname="x", ssl_shutdown_timeout=0.2
        )
        connections.append(writer.get_extra_info("socket"))
        connections.append(threading.current_thread())
        writer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        try:
            assert start_job(leave).join(PATIENCE)
            connection, thread = connections
            thread.join(PATIENCE)
            assert not thread.is_alive()
            assert connection.fileno() == -1
        finally:
            over.set()
            server.join(PATIENCE)
