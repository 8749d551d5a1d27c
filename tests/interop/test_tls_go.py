"""go-spiffe's whole set of TLS configurations against ours, both ways round: mutual, one-sided, web PKI on one side."""

import json
import queue
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_sdk.authz import authorize_id
from authsec_sdk.spiffe import X509ContextHolder
from authsec_sdk.testing import FakeWorkloadAPI, TestCA
from authsec_sdk.testing.certificates import CertificatePlan, build_certificate, name, new_key
from authsec_sdk.tls import (
    PeerVerificationError,
    SpiffeSSLContext,
    WebCertificate,
    mtls_client_context,
    mtls_server_context,
    mtls_web_client_context,
    mtls_web_server_context,
    tls_client_context,
    tls_server_context,
)
from authsec_sdk.workloadapi import X509Source

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

HOST = "service.example"
DEADLINE = 60.0
ID = "spiffe://interop.test/workload"


@pytest.fixture
def api() -> Iterator[FakeWorkloadAPI]:
    with FakeWorkloadAPI() as api:
        api.issue(TestCA("interop.test"), "/workload")
        yield api


@pytest.fixture
def source(api: FakeWorkloadAPI) -> Iterator[X509Source]:
    with X509Source(api.address) as source:
        source.wait(timeout=DEADLINE)
        yield source


class Web:
    """A public authority and one host's certificate, in the files that Go reads."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key, self.ca = (folder / file for file in ("web.crt", "web.key", "web-ca.crt"))
        root_key, host_key = new_key(), new_key()
        self.root = self._certificate(root_key, root_key, None)
        host = self._certificate(host_key, root_key, self.root)
        self.ca.write_bytes(self.root.public_bytes(Encoding.PEM))
        self.cert.write_bytes(host.public_bytes(Encoding.PEM))
        self.key.write_bytes(host_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    @staticmethod
    def _certificate(key: Any, signer: Any, issuer: x509.Certificate | None) -> x509.Certificate:
        now, ca = datetime.now(UTC), issuer is None
        plan = CertificatePlan(
            subject=name("web root" if ca else HOST),
            not_before=now - timedelta(hours=1),
            not_after=now + timedelta(hours=1),
            uris=(),
            dns_names=() if ca else (HOST,),
            ca=ca,
            key_usage=frozenset({"key_cert_sign"} if ca else {"digital_signature"}),
            extended_key_usage=None if ca else (x509.ExtendedKeyUsageOID.SERVER_AUTH,),
        )
        return build_certificate(plan, key, signer, issuer)


@pytest.fixture
def web(tmp_path: Path) -> Web:
    return Web(tmp_path)


@contextmanager
def go(program: Path, command: str, api: FakeWorkloadAPI, *flags: object) -> Iterator[Callable[[], Any]]:
    """Run a side on go-spiffe; yield a function that waits for its next line."""
    arguments = [str(program), command, "-workload-api", api.address, *map(str, flags)]
    lines: queue.Queue[str] = queue.Queue()
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield lambda: lines.get(timeout=DEADLINE)
        finally:
            process.kill()
            reader.join()


def connect(line: Callable[[], Any], context: SpiffeSSLContext, host: str = HOST) -> tuple[str | None, Any]:
    """Connect to a Go server and return whom we saw, and what it told us of ourselves."""
    address, port = line().split()[1].rsplit(":", 1)
    with socket.create_connection((address, int(port)), timeout=DEADLINE) as raw:
        with context.wrap_socket(raw, server_hostname=host) as tls, tls.makefile() as reader:
            peer = tls.peer_spiffe_id  # type: ignore[attr-defined]
            return None if peer is None else str(peer), json.loads(reader.readline())


@contextmanager
def serving(context: SpiffeSSLContext) -> Iterator[tuple[str, "queue.Queue[Any]"]]:
    """Serve one context; whom it saw, or why it refused, goes to the queue."""
    seen: queue.Queue[Any] = queue.Queue()
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while not stopping.is_set():
                plain, _ = listener.accept()
                plain.settimeout(DEADLINE)
                try:
                    with plain, context.wrap_socket(plain, server_side=True) as tls:
                        seen.put(tls.peer_spiffe_id)  # type: ignore[attr-defined]
                        tls.sendall(b"welcome\n")
                except OSError as error:
                    seen.put(error)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", seen
        finally:
            stopping.set()
            socket.create_connection(listener.getsockname(), timeout=DEADLINE).close()
            thread.join(DEADLINE)
            assert not thread.is_alive()


# --- our client, go-spiffe's server ----------------------------------------------------------------------------------


def test_mutual_client(go_peer: Path, api: FakeWorkloadAPI, source: X509Source) -> None:
    with go(go_peer, "tls-server", api, "-accept", ID) as line:
        peer, told = connect(line, mtls_client_context(source, authorize_id(ID)))
    assert (peer, told["peer"]) == (ID, ID)


def test_tls_client_presents_nothing(go_peer: Path, api: FakeWorkloadAPI, source: X509Source) -> None:
    with go(go_peer, "tls-server", api, "-accept", ID, "-mode", "tls") as line:
        peer, told = connect(line, tls_client_context(source, authorize_id(ID)))
    assert (peer, told["peer"]) == (ID, "")


def test_web_client_presents_its_svid(go_peer: Path, api: FakeWorkloadAPI, source: X509Source, web: Web) -> None:
    flags = ("-accept", ID, "-mode", "mtls-web", "-cert", web.cert, "-key", web.key)
    with go(go_peer, "tls-server", api, *flags) as line:
        peer, told = connect(line, mtls_web_client_context(source, roots=[web.root]))
    assert (peer, told["peer"]) == (None, ID)


def test_web_client_refuses_another_host(go_peer: Path, api: FakeWorkloadAPI, source: X509Source, web: Web) -> None:
    flags = ("-accept", ID, "-mode", "mtls-web", "-cert", web.cert, "-key", web.key)
    with go(go_peer, "tls-server", api, *flags) as line, pytest.raises(PeerVerificationError, match=r"other\.example"):
        connect(line, mtls_web_client_context(source, roots=[web.root]), "other.example")


def test_web_client_is_refused_by_its_id(go_peer: Path, api: FakeWorkloadAPI, source: X509Source, web: Web) -> None:
    other = "spiffe://interop.test/other"
    flags = ("-accept", other, "-mode", "mtls-web", "-cert", web.cert, "-key", web.key)
    with go(go_peer, "tls-server", api, *flags) as line:
        with pytest.raises((OSError, json.JSONDecodeError)):
            connect(line, mtls_web_client_context(source, roots=[web.root]))
        assert ID in json.loads(line())["error"]


# --- our server, go-spiffe's client ----------------------------------------------------------------------------------


def test_mutual_server(go_peer: Path, api: FakeWorkloadAPI, source: X509Source) -> None:
    with serving(mtls_server_context(source, authorize_id(ID))) as (target, seen):
        with go(go_peer, "tls-client", api, "-accept", ID, "-target", target) as line:
            told = json.loads(line())
        assert (str(seen.get(timeout=DEADLINE)), told["peer"], told["said"]) == (ID, ID, "welcome\n")


def test_tls_server_asks_for_nothing(go_peer: Path, api: FakeWorkloadAPI, source: X509Source) -> None:
    with serving(tls_server_context(source)) as (target, seen):
        with go(go_peer, "tls-client", api, "-accept", ID, "-target", target, "-mode", "tls") as line:
            told = json.loads(line())
        assert (seen.get(timeout=DEADLINE), told["peer"], told["said"]) == (None, ID, "welcome\n")


def test_web_server_knows_its_client(go_peer: Path, api: FakeWorkloadAPI, source: X509Source, web: Web) -> None:
    context = mtls_web_server_context(source, authorize_id(ID), WebCertificate(web.cert, web.key))
    flags = ("-accept", ID, "-mode", "mtls-web", "-ca", web.ca, "-name", HOST)
    with serving(context) as (target, seen):
        with go(go_peer, "tls-client", api, *flags, "-target", target) as line:
            told = json.loads(line())
        assert (str(seen.get(timeout=DEADLINE)), told["peer"], told["said"]) == (ID, HOST, "welcome\n")
        with go(go_peer, "tls-client", api, *flags[:-1], "other.example", "-target", target) as line:
            assert "not other.example" in json.loads(line())["error"]


def test_web_server_refuses_the_wrong_client(go_peer: Path, api: FakeWorkloadAPI, source: X509Source, web: Web) -> None:
    other = authorize_id("spiffe://interop.test/other")
    context = mtls_web_server_context(source, other, WebCertificate(web.cert, web.key))
    flags = ("-accept", ID, "-mode", "mtls-web", "-ca", web.ca, "-name", HOST)
    with serving(context) as (target, seen):
        with go(go_peer, "tls-client", api, *flags, "-target", target) as line:
            assert "welcome" not in json.loads(line()).get("said", "")
        assert isinstance(seen.get(timeout=DEADLINE), PeerVerificationError)


def test_a_go_client_that_may_resume_is_judged_each_time(
    go_peer: Path, api: FakeWorkloadAPI, source: X509Source
) -> None:
    """go-spiffe keeps no sessions; with resumption on, its handshakes stay whole and nothing else changes."""
    holder = X509ContextHolder(source.x509_context)
    with serving(mtls_server_context(holder, authorize_id(ID), resumption=True)) as (target, seen):
        with go(go_peer, "tls-client", api, "-accept", ID, "-target", target, "-pause", "1ms") as line:
            for _ in range(5):
                assert json.loads(line())["said"] == "welcome\n"
        assert str(seen.get(timeout=DEADLINE)) == ID
