"""The first trust bundle: what is read, what is fetched, and everything that must not be believed."""

import asyncio
import datetime
import ipaddress
import os
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.errors import ConfigurationError, InvalidBundleError
from authsec_sdk.spiffe import TrustDomain
from authsec_sdk.testing import TestCA
from icp_agent.bootstrap import MAXIMUM_BUNDLE_BYTES, BootstrapTrust, BundleFormat, bootstrap_bundle
from icp_agent.domain.trust_watch import BootstrapAttempt
from icp_agent.download import download as download_
from icp_agent.ports import ServerUnavailableError

TRUST_DOMAIN = TrustDomain.parse("example.org")
CA = TestCA("example.org")


def download(url, **options):
    return asyncio.run(download_(url, maximum=MAXIMUM_BUNDLE_BYTES, **options))


def read(trust: BootstrapTrust):
    return asyncio.run(bootstrap_bundle(trust, TRUST_DOMAIN, BootstrapAttempt(1, datetime.datetime.now(datetime.UTC))))


class TestFile:
    def test_pem(self, tmp_path):
        path = tmp_path / "bundle.pem"
        path.write_bytes(CA.bundle().to_pem())
        assert read(BootstrapTrust(path=path)) == CA.bundle()

    @pytest.mark.parametrize("content", [b"", b"\n", b"junk", b"{}", b"\xff" * 10])
    @pytest.mark.parametrize("format_", list(BundleFormat))
    def test_wrong_content(self, tmp_path, content, format_):
        path = tmp_path / "bundle"
        path.write_bytes(content)
        with pytest.raises(InvalidBundleError, match="trust bundle"):
            read(BootstrapTrust(path=path, format=format_))

    def test_missing(self, tmp_path):
        with pytest.raises(ConfigurationError, match="unable to read trust bundle"):
            read(BootstrapTrust(path=tmp_path / "nowhere"))

    def test_too_large(self, tmp_path):
        path = tmp_path / "bundle.pem"
        path.write_bytes(CA.bundle().to_pem() + b"\n" * MAXIMUM_BUNDLE_BYTES)
        with pytest.raises(ConfigurationError, match="larger"):
            read(BootstrapTrust(path=path))

    def test_a_fifo_does_not_hold_up_the_agent(self, tmp_path):
        os.mkfifo(tmp_path / "bundle.pem")
        with pytest.raises(InvalidBundleError, match="holds no"):
            read(BootstrapTrust(path=tmp_path / "bundle.pem"))


def web_certificate(tmp_path) -> ssl.SSLContext:
    """A server's context for 127.0.0.1; the certificate is written beside, for clients to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, SHA256())
    )
    (tmp_path / "web.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "web.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "web.pem", tmp_path / "web.key")
    return context


@contextmanager
def website(tmp_path, answer):
    """Serve `answer(handler)` on https; gives the URL and a context that trusts it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                answer(self)
            except OSError:
                pass

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = web_certificate(tmp_path).wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        trusting = ssl.create_default_context(cafile=tmp_path / "web.pem")
        yield f"https://127.0.0.1:{server.server_port}/bundle?x=1", trusting
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(handler, body=b"", status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class TestURL:
    def test_https(self, tmp_path):
        paths = []

        def answer(handler):
            paths.append(handler.path)
            send(handler, b"content")

        with website(tmp_path, answer) as (url, context):
            assert download(url, context=context) == b"content"
        assert paths == ["/bundle?x=1"]

    def test_a_server_the_system_does_not_trust(self, tmp_path):
        with website(tmp_path, lambda handler: send(handler, b"evil")) as (url, _):
            with pytest.raises(ServerUnavailableError, match="unable to fetch"):
                download(url)

    @pytest.mark.parametrize("url", ["http://127.0.0.1/", "file:///etc/passwd", "https://", "ftp://x/"])
    def test_no_other_scheme(self, url):
        with pytest.raises(ServerUnavailableError, match=r"not https|names no host"):
            download(url)

    def test_a_redirect_within_https(self, tmp_path):
        def answer(handler):
            if handler.path == "/there":
                send(handler, b"there")
            else:
                send(handler, status=302, Location="/there")

        with website(tmp_path, answer) as (url, context):
            assert download(url, context=context) == b"there"

    @pytest.mark.parametrize("to", ["http://127.0.0.1:1/", "file:///etc/passwd"])
    def test_no_redirect_to_anything_else(self, tmp_path, to):
        with website(tmp_path, lambda handler: send(handler, status=302, Location=to)) as (url, context):
            with pytest.raises(ServerUnavailableError, match="not https"):
                download(url, context=context)

    @pytest.mark.parametrize("to", ["https://[half", "https://host:99999/", "https://host:port/", "https://a\tb c/"])
    def test_a_redirect_to_nonsense(self, tmp_path, to):
        with website(tmp_path, lambda handler: send(handler, status=302, Location=to)) as (url, context):
            with pytest.raises(ServerUnavailableError):
                download(url, context=context)

    def test_no_endless_redirects(self, tmp_path):
        with website(tmp_path, lambda handler: send(handler, status=302, Location="/again")) as (url, context):
            with pytest.raises(ServerUnavailableError, match="redirects more than"):
                download(url, context=context)

    @pytest.mark.parametrize("status", [204, 404, 500])
    def test_another_status(self, tmp_path, status):
        with website(tmp_path, lambda handler: send(handler, status=status)) as (url, context):
            with pytest.raises(ServerUnavailableError, match=str(status)):
                download(url, context=context)

    def test_more_than_is_reasonable(self, tmp_path):
        def flood(handler):
            handler.send_response(200)
            handler.end_headers()
            while True:
                handler.wfile.write(bytes(1 << 16))

        with website(tmp_path, flood) as (url, context):
            with pytest.raises(ServerUnavailableError, match="more than 4194304 bytes"):
                download(url, context=context)

    @pytest.mark.parametrize("where", ["headers", "body"])
    def test_slower_than_is_reasonable(self, tmp_path, where):
        over = threading.Event()

        def trickle(handler):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if where == "body" else b""))
            while not over.wait(0.02):
                handler.wfile.write(b"X: 1\r\n")

        with website(tmp_path, trickle) as (url, context):
            try:
                with pytest.raises(ServerUnavailableError, match=r"takes more than 0\.5 s"):
                    download(url, context=context, seconds=0.5)
            finally:
                over.set()

    def test_cut_short(self, tmp_path):
        def cut(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b"half")

        with website(tmp_path, cut) as (url, context):
            with pytest.raises(ServerUnavailableError, match="unable to fetch"):
                download(url, context=context)
