"""Peers that do what no peer should, for servers and clients under test: wrong certificates, rubbish, silence, floods.

`plain_context` presents whatever it is given and checks nothing; `hostile_credentials` are leaves that every SPIFFE
verifier has to refuse; `RUBBISH` is what strangers send in the place of a handshake; `send_rubbish` and
`HostileServer` bring it to a port, and to clients.
"""

import contextlib
import os
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.spiffe import X509SVID
from authsec_sdk.testing.ca import TestCA
from authsec_sdk.testing.certificates import Credential

__all__ = ["RUBBISH", "HostileServer", "hostile_credentials", "padded_chain", "plain_context", "send_rubbish"]

DEADLINE: Final = 30.0
_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time: close with a reset
_SLOW_STEP: Final = 0.02


def _client_hello() -> bytes:
    """Return what a TLS client of the standard library says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x").do_handshake()
    return outgoing.read()


CLIENT_HELLO: Final = _client_hello()

RUBBISH: Final[Mapping[str, bytes]] = MappingProxyType(
    {
        "nothing": b"",
        "one byte": b"\x16",
        "random": bytes(range(256)) * 16,
        "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "an SSH banner": b"SSH-2.0-OpenSSH_9.6\r\n",
        "an h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "half a hello": CLIENT_HELLO[: len(CLIENT_HELLO) // 2],
        "a hello and no more": CLIENT_HELLO,
        "a hello twice": CLIENT_HELLO * 2,
        "a hello with rubbish behind it": CLIENT_HELLO + os.urandom(2000),
        "a record that promises 64 KiB": b"\x16\x03\x01\xff\xff" + b"\x01" * 1000,
        "a hello of version 0": CLIENT_HELLO[:9] + b"\0\0" + CLIENT_HELLO[11:],
        "an SSL 2 hello": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"\0" * 40,
        "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
        "application data": b"\x17\x03\x03\x00\x10" + b"\0" * 16,
    }
)
"""What strangers send in the place of a handshake, by name."""


def plain_context(
    credential: Credential | X509SVID | None, *, server: bool = False, minimum: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """Return a context of the standard library alone, which presents `credential`, or nothing, and checks nothing.

    So attackers look, and peers in other languages. The key is in a file for a moment: it is a test's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if minimum is not None:
        context.minimum_version = minimum
    if isinstance(credential, X509SVID):
        credential = Credential(credential.certificates, credential.private_key)
    if credential is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(credential.key_pem() + credential.chain_pem())
            file.flush()
            context.load_cert_chain(file.name)
    return context


def hostile_credentials(ca: TestCA) -> dict[str, Credential]:
    """Return credentials that a peer of `ca`'s trust domain has to refuse whatever its policy, by what is wrong.

    All but the last four are signed by `ca` itself. A verifier that accepts one of them has a hole.
    """
    domain = ca.trust_domain.name
    past = datetime.now(UTC) - timedelta(days=1)
    rubbish = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.1"), b"\x04\x00rubbish")
    many = tuple(f"spiffe://{domain}/{number}" for number in range(200))
    leaf = ca.credential("/leaf")
    return {
        "two URI SANs": ca.credential("/x", uris=many[:2]),
        "200 URI SANs": ca.credential("/x", uris=many),
        "no URI SAN": ca.credential("/x", uris=()),
        "an ID of 30 kB": ca.credential("/x", uris=(f"spiffe://{domain}/" + "x" * 30_000,)),
        "an ID without a path": ca.credential("/x", uris=(f"spiffe://{domain}",)),
        "a CA as leaf": ca.credential("/x", ca=True),
        "no key usage": ca.credential("/x", key_usage=None),
        "a leaf that signs": ca.credential("/x", key_usage=frozenset({"digital_signature", "key_cert_sign"})),
        "an extension of rubbish": ca.credential("/x", extensions={rubbish: False}),
        "another trust domain": ca.credential("spiffe://other-domain.test/x"),
        "expired": ca.credential("/x", not_before=past - timedelta(days=1), not_after=past),
        "not valid yet": ca.credential(
            "/x", not_before=datetime.now(UTC) + timedelta(days=1), not_after=datetime.now(UTC) + timedelta(days=2)
        ),
        "signed by a leaf": ca.intermediate(signer=leaf).credential("/x"),
        "another CA of the same name": TestCA(domain).credential("/x"),
        "another domain's CA": TestCA("other-domain.test").credential(f"spiffe://{domain}/x"),
    }


def padded_chain(ca: TestCA, size: int, path_or_id: str = "/client") -> Credential:
    """Return a good credential with so many bytes of strangers' certificates behind it."""
    credential = ca.credential(path_or_id)
    filler = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x04\x82\x1f\x40" + b"x" * 8000)
    stranger = TestCA("stranger.test").credential("/x", extensions={filler: False}).leaf
    count = size // len(stranger.public_bytes(Encoding.DER))
    return Credential((*credential.certificates, *(stranger,) * count), credential.private_key)


def send_rubbish(port: int, data: bytes, *, host: str = "127.0.0.1", abort: bool = False, slowly: bool = False) -> None:
    """Connect, send `data`, and leave: politely, or with `abort` by a reset; `slowly` sends it byte by byte."""
    with socket.create_connection((host, port), timeout=DEADLINE) as plain, contextlib.suppress(OSError):
        if slowly:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pause = threading.Event()
            for byte in data:
                plain.sendall(bytes([byte]))
                pause.wait(_SLOW_STEP)
        else:
            plain.sendall(data)
        if abort:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return
        plain.shutdown(socket.SHUT_WR)
        while plain.recv(4096):
            pass


class HostileServer:
    """A server for clients under test, on `127.0.0.1` at `port`: sends `data` to whoever connects, and nothing else.

    With `hold` it stays silent afterwards until it is closed, which a client has to bear with a deadline of its own;
    else it hangs up. `connections` counts who came.
    """

    def __init__(self, data: bytes = b"", *, hold: bool = False) -> None:
        self._data = data
        self._hold = hold
        self._ending = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, name="hostile-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        with contextlib.suppress(OSError):  # wakes the one that waits in accept
            socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE).close()
        self._thread.join(DEADLINE)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.ExitStack() as held:
            while True:
                accepted, _ = self._listener.accept()
                if self._ending.is_set():
                    accepted.close()
                    return
                self.connections += 1
                held.enter_context(accepted)
                with contextlib.suppress(OSError):
                    accepted.sendall(self._data)
                    if not self._hold:
                        accepted.shutdown(socket.SHUT_RDWR)
