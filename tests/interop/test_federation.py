"""Federation with programs that are not ours: go-spiffe's client and handler, and upstream's server."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.federation import (
    BundleEndpoint,
    BundleServer,
    FederationSource,
    RefreshPolicy,
    read_bundle_file,
    wait_bundle,
)
from authsec_sdk.spiffe import (
    BundleSet,
    TrustBundle,
    X509Context,
    X509ContextHolder,
    format_bundle_document,
    parse_bundle_document,
)
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import PeerVerificationError, tls_server_context

pytestmark = pytest.mark.interop
SERVER_ID = "spiffe://b.test/bundle-server"
QUICK = RefreshPolicy(default=0.1, minimum=0.05, maximum=0.2)


class Domain:
    """A trust domain with files as other programs read them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = TestCA("b.test")
        self.number = 5
        self.holder = X509ContextHolder()
        self.write()

    @property
    def bundle(self) -> TrustBundle:
        keys = self.ca.tokens.jwt_bundle().authorities
        hint = timedelta(seconds=75)
        return TrustBundle(self.ca.trust_domain, self.ca.bundle().authorities, keys, {}, self.number, hint)

    @property
    def document(self) -> Path:
        return self.folder / "bundle.json"

    def write(self) -> None:
        credential = self.ca.credential("/bundle-server")
        (self.folder / "svid.pem").write_bytes(credential.chain_pem())
        (self.folder / "svid.key").write_bytes(credential.key_pem())
        new = self.folder / "new.json"
        new.write_bytes(format_bundle_document(self.bundle))
        new.replace(self.document)
        self.holder.publish(X509Context((self.ca.svid("/bundle-server"),), BundleSet.of(self.ca.bundle())))

    def web_certificate(self) -> tuple[Path, Path]:
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        chain, secret = self.folder / "web.pem", self.folder / "web.key"
        chain.write_bytes(certificate.public_bytes(Encoding.PEM))
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return chain, secret


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return Domain(tmp_path)


@contextmanager
def served(app: Any, **options: Any) -> Iterator[str]:
    """Our own application in uvicorn; gives host and port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started and server.servers)
        yield f"localhost:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def until(done: Callable[[], Any]) -> Any:
    end = time.monotonic() + 60
    while not (answer := done()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return answer


@contextmanager
def go(program: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [str(program), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def fetched_by_go(program: Path, url: str, *flags: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(program), "bundle-fetch", "-trust-domain", "b.test", "-url", url, *flags]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:  # its input stays open while it works
        assert process.stdout is not None
        assert process.stderr is not None
        out, errors = process.stdout.read(), process.stderr.read()
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


class TestOurServer:
    """go-spiffe's `FetchBundle` and `WatchBundle` against `BundleServer`."""

    def test_https_spiffe(self, go_peer: Path, domain: Domain) -> None:
        context = tls_server_context(domain.holder, alpn=["http/1.1"])
        spiffe = ("-id", SERVER_ID, "-bundle", str(domain.document))
        with served(BundleServer(lambda: domain.bundle), ssl_context_factory=lambda *_: context) as where:
            done = fetched_by_go(go_peer, f"https://{where}/", *spiffe)
            assert done.returncode == 0, done.stderr
            assert parse_bundle_document(domain.ca.trust_domain, done.stdout) == domain.bundle
            other = fetched_by_go(go_peer, f"https://{where}/", "-id", "spiffe://b.test/other", *spiffe[2:])
            assert other.returncode == 1
            assert b"unexpected ID" in other.stderr

    def test_https_web(self, go_peer: Path, domain: Domain) -> None:
        chain, key = domain.web_certificate()
        with served(BundleServer(lambda: domain.bundle), ssl_certfile=str(chain), ssl_keyfile=str(key)) as where:
            done = fetched_by_go(go_peer, f"https://{where}/", "-roots", str(chain))
            assert done.returncode == 0, done.stderr
            assert parse_bundle_document(domain.ca.trust_domain, done.stdout) == domain.bundle
            assert fetched_by_go(go_peer, f"https://{where}/nothing", "-roots", str(chain)).returncode == 1

    def test_watched(self, go_peer: Path, domain: Domain) -> None:
        context = tls_server_context(domain.holder, alpn=["http/1.1"])

        def numberless() -> TrustBundle:
            return replace(domain.bundle, sequence_number=None, refresh_hint=None)

        with (
            served(BundleServer(numberless), ssl_context_factory=lambda *_: context) as where,
            go(
                go_peer,
                *("bundle-watch", "-trust-domain", "b.test", "-url", f"https://{where}/"),
                *("-id", SERVER_ID, "-bundle", str(domain.document)),
            ) as watcher,
        ):
            assert watcher.stdout is not None
            first = json.loads(watcher.stdout.readline())
            assert (first["x509"], first["jwt"], first["hint"]) == (1, 1, 300)
            domain.ca.rotate()
            second = json.loads(watcher.stdout.readline())
            assert second["x509"] == 2
            assert second["sequence"] > first["sequence"]


class TestOurClient:
    """`FederationSource` and `wait_bundle` against go-spiffe's `NewHandler`, which offers HTTP/2, too."""

    @contextmanager
    def server(self, program: Path, domain: Domain, chain: Path, key: Path, *flags: str) -> Iterator[str]:
        files = ("-bundle", str(domain.document), "-cert", str(chain), "-key", str(key))
        with go(program, "bundle-serve", "-trust-domain", "b.test", *files, *flags) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            ready = process.stdout.readline().split()
            assert ready[0] == "READY"
            yield ready[1].replace("127.0.0.1", "localhost")

    def test_https_web(self, go_peer: Path, domain: Domain) -> None:
        chain, key = domain.web_certificate()
        with self.server(go_peer, domain, chain, key, "-web") as where:
            assert wait_bundle(BundleEndpoint.web("b.test", f"https://{where}/", ca_file=chain)) == domain.bundle

    def test_https_spiffe(self, go_peer: Path, domain: Domain) -> None:
        with self.server(go_peer, domain, domain.folder / "svid.pem", domain.folder / "svid.key") as where:
            first = read_bundle_file("b.test", domain.document)
            url = f"https://{where}/"
            assert wait_bundle(BundleEndpoint.spiffe("b.test", url, SERVER_ID, bundle=first)) == domain.bundle
            with pytest.raises(PeerVerificationError, match="not authorized"):
                wait_bundle(BundleEndpoint.spiffe("b.test", url, "spiffe://b.test/other", bundle=first))
            stranger = TestCA("b.test").bundle()
            with pytest.raises(PeerVerificationError):
                wait_bundle(BundleEndpoint.spiffe("b.test", url, SERVER_ID, bundle=stranger))

    def test_followed(self, go_peer: Path, domain: Domain) -> None:
        with self.server(go_peer, domain, domain.folder / "svid.pem", domain.folder / "svid.key") as where:
            endpoint = BundleEndpoint.spiffe("b.test", f"https://{where}/", SERVER_ID, bundle=domain.bundle)
            with FederationSource(endpoint, refresh=QUICK) as source:
                td = domain.ca.trust_domain
                until(lambda: source.status.of(td).current)
                domain.ca.rotate()
                domain.number += 1
                domain.write()
                until(lambda: source.trust_bundles.require(td) == domain.bundle)
                domain.number -= 1
                domain.write()
                until(lambda: source.status.of(td).rejected > 0)
                assert source.status.of(td).sequence_number == domain.number + 1


UPSTREAM_CONF = """
server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  trust_domain = "upstream.test"
  socket_path = "{folder}/api.sock"
  data_dir = "{folder}/data"
  log_level = "DEBUG"
  federation {{
    bundle_endpoint {{ address = "127.0.0.1" port = {endpoint} refresh_hint = "2m" profile "https_spiffe" {{}} }}
    {federates}
  }}
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{folder}/data/db.sqlite3" }} }}
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"""


class Upstream:
    """One `spire-server` with its bundle endpoint."""

    def __init__(self, binary: str, folder: Path, federates: str = "") -> None:
        self._binary, self.folder = binary, folder
        (folder / "data").mkdir(mode=0o700)
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            port, self.port = one.getsockname()[1], two.getsockname()[1]
        (folder / "server.conf").write_text(
            UPSTREAM_CONF.format(port=port, endpoint=self.port, folder=folder, federates=federates)
        )

    @contextmanager
    def running(self) -> Iterator["Upstream"]:
        with (
            (self.folder / "log").open("wb") as log,
            subprocess.Popen(
                [self._binary, "run", "-config", f"{self.folder}/server.conf"], stdout=log, stderr=log
            ) as process,
        ):
            try:
                until(lambda: self.cli("healthcheck").returncode == 0)
                yield self
            finally:
                process.terminate()
                process.wait(30)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._binary, *arguments, "-socketPath", f"{self.folder}/api.sock"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def upstream() -> Iterator[Callable[..., Upstream]]:
    binary = os.environ.get("SPIRE_SERVER_BIN") or shutil.which("spire-server")
    if not binary:
        pytest.skip("upstream is not here: set SPIRE_SERVER_BIN and SPIRE_AGENT_BIN to spire-server and spire-agent")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield lambda federates="": Upstream(binary, Path(folder), federates)


class TestUpstream:
    def test_its_endpoint_and_our_client(self, upstream: Callable[..., Upstream], tmp_path: Path) -> None:
        with upstream().running() as spire:
            first = tmp_path / "bundle.json"
            first.write_text(spire.cli("bundle", "show", "-format", "spiffe").stdout)
            endpoint = BundleEndpoint.spiffe(
                "upstream.test",
                f"https://127.0.0.1:{spire.port}/",
                "spiffe://upstream.test/spire/server",
                bundle=read_bundle_file("upstream.test", first),
            )
            bundle = wait_bundle(endpoint)
            assert len(bundle.x509_authorities) == 1
            assert bundle.jwt_authorities
            assert bundle.sequence_number is not None
            assert bundle.refresh_hint == timedelta(minutes=2)
            with FederationSource(endpoint, refresh=QUICK) as source:
                domain = endpoint.trust_domain
                until(lambda: source.status.of(domain).current)
                before = source.trust_bundles.require(domain)
                until(lambda: spire.cli("localauthority", "x509", "prepare").returncode == 0)
                until(lambda: len(source.bundles.require(domain).authorities) == 2)
                assert (source.trust_bundles.require(domain).sequence_number or 0) > (before.sequence_number or 0)
                assert source.status.of(domain).rejected == 0

    def test_our_endpoint_and_its_client(self, upstream: Callable[..., Upstream], domain: Domain) -> None:
        context = tls_server_context(domain.holder, alpn=["http/1.1"])
        with served(BundleServer(lambda: domain.bundle), ssl_context_factory=lambda *_: context) as where:
            federates = (
                f'federates_with "b.test" {{ bundle_endpoint_url = "https://{where}/" '
                f'bundle_endpoint_profile "https_spiffe" {{ endpoint_spiffe_id = "{SERVER_ID}" }} }}'
            )
            with upstream(federates).running() as spire:
                done = spire.cli("bundle", "set", "-id", "b.test", "-format", "spiffe", "-path", str(domain.document))
                assert done.returncode == 0, done.stderr
                domain.ca.rotate()
                domain.number += 1

                def taken() -> bool:
                    spire.cli("federation", "refresh", "-id", "b.test")
                    listed = spire.cli("bundle", "list", "-id", "b.test", "-format", "spiffe").stdout
                    return len(json.loads(listed or '{"keys": []}')["keys"]) == 3  # two roots, one key of tokens

                until(taken)
