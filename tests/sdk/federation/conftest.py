"""Servers of bundles, good and hostile, on real sockets; and documents for them."""

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.federation import RefreshPolicy
from authsec_sdk.spiffe import BundleSet, TrustBundle, X509Context, X509ContextHolder, format_bundle_document
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import tls_server_context

Answer = Callable[[ssl.SSLSocket, str], None]


@dataclass
class Web:
    """A certificate for 127.0.0.1 that nobody but `ca_file` believes."""

    folder: Path

    @property
    def ca_file(self) -> Path:
        return self.folder / "web.pem"

    def server(self, *, name: str = "127.0.0.1", days: int = 1) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "web")])
        san = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)]
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=3))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(san, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.ca_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        secret = self.folder / "web.key"
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca_file, secret)
        return context


@pytest.fixture
def web(tmp_path: Path) -> Web:
    return Web(tmp_path)


@dataclass
class Site:
    """An https server that answers each request as the test says, however badly. Notes the paths asked for."""

    context: ssl.SSLContext
    answer: Answer
    paths: list[str] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}/bundle"

    def close(self) -> None:
        self._ended.set()
        self._acceptor.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def pause(self, seconds: float) -> None:
        """Wait, or leave when the test is over."""
        if self._ended.wait(seconds):
            raise OSError("the test is over")

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        with raw:
            raw.settimeout(10)
            try:
                with self.context.wrap_socket(raw, server_side=True) as connection:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        if not (more := connection.recv(4096)):
                            return
                        request += more
                    path = request.split(b" ")[1].decode()
                    self.paths.append(path)
                    self.answer(connection, path)
            except (OSError, ValueError):  # the client has had enough
                return


def reply(body: bytes = b"", status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def always(data: bytes) -> Answer:
    return lambda connection, _: connection.sendall(data)


@pytest.fixture
def site() -> Iterator[Callable[[ssl.SSLContext, Answer], Site]]:
    with ExitStack() as stack:

        def make(context: ssl.SSLContext, answer: Answer) -> Site:
            made = Site(context, answer)
            stack.callback(made.close)
            return made

        yield make


@dataclass
class Publisher:
    """A trust domain whose bundle is served by our own `BundleServer`, or by whatever is given."""

    ca: TestCA
    holder: X509ContextHolder = field(default_factory=X509ContextHolder)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.renew()

    @property
    def server_id(self) -> str:
        return f"spiffe://{self.ca.trust_domain}/bundle-server"

    def renew(self) -> None:
        svid = self.ca.svid("/bundle-server")
        self.holder.publish(X509Context((svid,), BundleSet.of(self.ca.bundle())))

    def bundle(self) -> TrustBundle:
        return replace(TrustBundle(self.ca.trust_domain, self.ca.bundle().authorities), **self.extra)

    def document(self) -> bytes:
        return format_bundle_document(self.bundle())

    def tls(self) -> ssl.SSLContext:
        return tls_server_context(self.holder, minimum_version=ssl.TLSVersion.TLSv1_2, alpn=["http/1.1"])

    def answer(self, connection: ssl.SSLSocket, _path: str) -> None:
        connection.sendall(reply(self.document(), "200 OK", "Content-Type: application/json"))


@pytest.fixture
def publisher() -> Callable[..., Publisher]:
    def make(trust_domain: str = "b.test", **extra: Any) -> Publisher:
        return Publisher(TestCA(trust_domain), extra=extra)

    return make


@contextmanager
def served_by_uvicorn(app: Any, context: ssl.SSLContext) -> Iterator[str]:
    config = uvicorn.Config(
        app, port=0, log_config=None, ssl_context_factory=lambda *_: context, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not (server.started and server.servers):
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"https://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def serving() -> Callable[..., Any]:
    return served_by_uvicorn


@pytest.fixture
def quick() -> RefreshPolicy:
    """Several times a second, whatever the publisher hints."""
    return RefreshPolicy(default=0.05, minimum=0.02, maximum=0.1)


Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def eventually() -> Eventually:
    """Wait for a condition in a test that is a task, without blocking its event loop."""

    async def wait(condition: Callable[[], bool]) -> None:
        with anyio.fail_after(30):
            while not condition():
                await anyio.sleep(0.005)

    return wait


@pytest.fixture
def http() -> Any:
    """How answers are written: `http.reply(...)`, `http.always(...)`."""

    class HTTP:
        reply = staticmethod(reply)
        always = staticmethod(always)

    return HTTP
