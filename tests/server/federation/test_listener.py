"""The bundle endpoint over real TLS: the document and nothing else, whoever asks, however badly."""

from __future__ import annotations

import asyncio
import datetime
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.federation import BundleEndpoint, BundleEndpointError, fetch_bundle
from authsec_sdk.spiffe import BundleSet, TrustBundle, TrustDomain, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import tls_server_context
from icp_server.config.federation import Federation, ServedBundle, ServingFiles
from icp_server.domain.errors import Internal
from icp_server.federation import listener as module
from icp_server.federation.certificate import ServingCertificate
from icp_server.federation.listener import BundleListener

pytestmark = pytest.mark.anyio

TD = TrustDomain("example.org")
HINT = timedelta(minutes=7)


@dataclass(frozen=True)
class WebCertificate:
    """For localhost, and its own authority."""

    certificate: bytes
    key: bytes
    encrypted_key: bytes


def web_certificate() -> WebCertificate:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "web")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )

    def pem(how: KeySerializationEncryption) -> bytes:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)

    return WebCertificate(
        certificate.public_bytes(Encoding.PEM), pem(NoEncryption()), pem(BestAvailableEncryption(b"secret"))
    )


class Source:
    """What the listener serves; fails when told to."""

    def __init__(self, bundle: TrustBundle) -> None:
        self.bundle = bundle
        self.broken = False

    async def __call__(self) -> TrustBundle:
        if self.broken:
            raise Internal("the database is away")
        return self.bundle


@pytest.fixture
def ca() -> TestCA:
    return TestCA(TD.name)


@pytest.fixture
def source(ca: TestCA) -> Source:
    return Source(TrustBundle(TD, ca.bundle().authorities, sequence_number=3))


@pytest.fixture
async def listener(ca: TestCA, source: Source) -> AsyncIterator[BundleListener]:
    holder = X509ContextHolder(X509Context((ca.svid("/spire/server"),), BundleSet.of(ca.bundle())))
    context = tls_server_context(holder, alpn=("http/1.1",))
    made = BundleListener(source, lambda: context, refresh_hint=HINT, timeout=2.0)
    yield made
    await made.close()


@pytest.fixture
async def address(listener: BundleListener) -> tuple[str, int]:
    return await listener.listen("127.0.0.1", 0)


async def ask(address: tuple[str, int], request: bytes) -> tuple[int, bytes]:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    try:
        writer.write(request)
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


async def test_the_document_is_at_the_root(address: tuple[str, int]) -> None:
    status, body = await ask(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    document = json.loads(body)
    assert (status, document["spiffe_sequence"], document["spiffe_refresh_hint"]) == (200, 3, 420)
    assert [key["use"] for key in document["keys"]] == ["x509-svid"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /other HTTP/1.1\r\n\r\n", 404),
        (b"GET /../ HTTP/1.1\r\n\r\n", 404),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"HEAD / HTTP/1.0\r\n\r\n", 200),
        (b"GET /?query HTTP/1.1\r\n\r\n", 200),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 400),
        (b"\x00\xff\r\n\r\n", 400),
    ],
)
async def test_requests(address: tuple[str, int], request_: bytes, status: int) -> None:
    found, body = await ask(address, request_)
    assert found == status
    assert status == 200 or b"keys" not in body


async def test_what_was_known_is_served_while_the_store_is_away(address: tuple[str, int], source: Source) -> None:
    source.broken = True
    assert (await ask(address, b"GET / HTTP/1.1\r\n\r\n"))[0] == 503
    source.broken = False
    assert (await ask(address, b"GET / HTTP/1.1\r\n\r\n"))[0] == 200
    source.broken = True
    assert (await ask(address, b"GET / HTTP/1.1\r\n\r\n"))[0] == 200


async def test_those_who_hang_or_flood_keep_nobody_out_for_long(address: tuple[str, int]) -> None:
    """More connections than one address may have: those above are closed, the others when their time is over."""
    loop = asyncio.get_running_loop()
    held = []
    for _ in range(module.MAX_CONNECTIONS_PER_ADDRESS + 20):
        one = socket.socket()
        one.setblocking(False)
        await loop.sock_connect(one, address)
        held.append(one)
    async with asyncio.timeout(60):
        while True:
            try:
                assert (await ask(address, b"GET / HTTP/1.1\r\n\r\n"))[0] == 200
                break
            except (OSError, IndexError):
                await asyncio.sleep(0.1)
    for one in held:
        one.close()


async def test_closing_ends_those_who_are_half_way(listener: BundleListener, address: tuple[str, int]) -> None:
    with socket.create_connection(address) as waiting:
        waiting.settimeout(30)
        await asyncio.sleep(0.05)
        await listener.close()
        await listener.close()
        assert await asyncio.to_thread(waiting.recv, 1) == b""
    with pytest.raises(OSError):
        socket.create_connection(address, timeout=5)


async def test_a_server_shows_its_own_identity_and_no_other(start_server: Any) -> None:
    live = await start_server(federation=Federation(ServedBundle("127.0.0.1", 0)))
    url = f"https://127.0.0.1:{live.app.bundle_address[1]}/"
    own = await live.bundle()
    fetched = await fetch_bundle(BundleEndpoint.spiffe(TD, url, "spiffe://example.org/spire/server", bundle=own))
    assert fetched.x509_authorities == own.authorities
    assert fetched.jwt_authorities
    assert fetched.refresh_hint == timedelta(minutes=5)
    with pytest.raises(BundleEndpointError):
        await fetch_bundle(BundleEndpoint.web(TD, url))


async def test_a_web_certificate_is_served_and_read_again(start_server: Any, tmp_path: Path) -> None:
    first, second = web_certificate(), web_certificate()
    certificate, key, authorities = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    certificate.write_bytes(first.certificate)
    key.write_bytes(first.key)
    authorities.write_bytes(first.certificate)
    files = ServingFiles(certificate, key, timedelta(seconds=0.05))
    live = await start_server(federation=Federation(ServedBundle("localhost", 0, files=files)))
    running = asyncio.create_task(live.app.run())
    try:
        endpoint = BundleEndpoint.web(TD, f"https://localhost:{live.app.bundle_address[1]}/", ca_file=authorities)
        assert (await fetch_bundle(endpoint)).x509_authorities == (await live.bundle()).authorities
        certificate.write_bytes(b"half of a fi")  # whoever writes it is not done
        await asyncio.sleep(0.2)
        assert await fetch_bundle(endpoint)
        certificate.write_bytes(second.certificate)
        key.write_bytes(second.key)
        authorities.write_bytes(second.certificate)
        async with asyncio.timeout(60):
            while True:
                try:
                    assert await fetch_bundle(endpoint)
                    break
                except BundleEndpointError:
                    await asyncio.sleep(0.05)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("fault", ["missing", "another key", "no certificate", "a password"])
def test_files_that_cannot_be_used(tmp_path: Path, fault: str) -> None:
    good, other = web_certificate(), web_certificate()
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"" if fault == "no certificate" else good.certificate)
    key.write_bytes(other.key if fault == "another key" else good.key)
    if fault == "missing":
        key.unlink()
    if fault == "a password":
        key.write_bytes(good.encrypted_key)
    with pytest.raises(ConfigurationError, match="certificate of the bundle endpoint cannot be used"):
        ServingCertificate(certificate, key, every=timedelta(hours=1)).load()
