"""Real Java clients (JSSE, as the JDK comes): TLS 1.2 and 1.3, resuming as they do by default, refused with reasons."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from authsec_sdk.authz import authorize_id, authorize_if
from authsec_sdk.errors import PeerNotAuthorizedError
from authsec_sdk.spiffe import X509SVID, BundleSet, SpiffeID, X509Context, X509ContextHolder
from authsec_sdk.testing import TestCA
from authsec_sdk.tls import PeerVerificationError, SpiffeSSLContext, mtls_server_context

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

PROGRAM = Path(__file__).parent / "java" / "Client.java"
DEADLINE = 120.0
TLS12 = ssl.TLSVersion.TLSv1_2
ID = "spiffe://java.test/client"


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Run the client: its lines, one for each connection."""
    if shutil.which("java") is None or shutil.which("javac") is None:
        pytest.skip("no Java: install a JDK of 11 or later")
    classes = tmp_path_factory.mktemp("java")
    subprocess.run(["javac", "-d", str(classes), str(PROGRAM)], check=True, timeout=DEADLINE)

    def run(svid: X509SVID, port: int, protocol: str, times: int) -> list[str]:
        store = classes / "svid.p12"
        leaf, *signers = svid.certificates
        encryption = BestAvailableEncryption(b"changeit")
        store.write_bytes(serialize_key_and_certificates(b"svid", svid.private_key, leaf, signers, encryption))  # type: ignore[arg-type]
        command = ["java", "-cp", str(classes), "Client", str(store), "changeit", str(port), protocol, str(times)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
        return done.stdout.splitlines()

    return run


class Workload:
    """A server of ours and its authority; `errors` is whom it refused and why."""

    def __init__(self) -> None:
        self.ca = TestCA("java.test")
        self.source = X509ContextHolder()
        self.denied: set[SpiffeID] = set()
        self.reused: list[bool] = []
        self.errors: list[Exception] = []
        self.rotate()

    def rotate(self) -> None:
        self.source.publish(X509Context((self.ca.svid("/server"),), BundleSet.of(self.ca.bundle())))

    def context(self, **options: Any) -> SpiffeSSLContext:
        authorizer = authorize_if(lambda peer: peer not in self.denied, "whoever is not denied")
        return mtls_server_context(self.source, authorizer, **options)

    @contextmanager
    def serving(self, context: SpiffeSSLContext) -> Iterator[int]:
        """Greet each client with its ID."""
        stopping = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> None:
                while not stopping.is_set():
                    plain, _ = listener.accept()
                    plain.settimeout(DEADLINE)
                    try:
                        with plain, context.wrap_socket(plain, server_side=True) as tls:
                            self.reused.append(bool(tls.session_reused))
                            tls.recv(4)
                            tls.sendall(str(tls.peer_spiffe_id).encode())  # type: ignore[attr-defined]
                            tls.unwrap()  # a whole goodbye: else JSSE, too, forgets the session
                    except OSError as error:
                        if not stopping.is_set():
                            self.errors.append(error)

            thread = threading.Thread(target=serve)
            thread.start()
            try:
                yield listener.getsockname()[1]
            finally:
                stopping.set()
                socket.create_connection(listener.getsockname(), timeout=DEADLINE).close()
                thread.join(DEADLINE)
                assert not thread.is_alive()


@pytest.fixture
def workload() -> Workload:
    return Workload()


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_it_comes_again_and_again_and_is_verified_each_time(
    java: Callable[..., list[str]], workload: Workload, protocol: str
) -> None:
    """Threat 19: JSSE resumes by default, and no reconnect of it may be refused for that."""
    with workload.serving(workload.context(minimum_version=TLS12)) as port:
        lines = java(workload.ca.svid("/client"), port, protocol, 5)
    assert [line.split()[0:2] + line.split()[4:] for line in lines] == [["OK", protocol, ID]] * 5, lines
    assert workload.errors == []
    assert workload.reused == [False] * 5
    assert all("GCM" in line or "CHACHA20" in line for line in lines)


def test_a_java_server_that_is_a_stdlib_one_would_have_resumed(
    java: Callable[..., list[str]], workload: Workload, tmp_path: Path
) -> None:
    """Without ours, the same client resumes: so the test above shows something."""
    svid = workload.ca.svid("/server")
    file = tmp_path / "server.pem"
    from authsec_sdk.testing import Credential

    credential = Credential(svid.certificates, svid.private_key)
    file.write_bytes(credential.key_pem() + credential.chain_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.maximum_version = TLS12
    reused = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(3):
                plain, _ = listener.accept()
                with plain, context.wrap_socket(plain, server_side=True) as tls:
                    reused.append(tls.session_reused)
                    tls.recv(4)
                    tls.unwrap()

        thread = threading.Thread(target=serve)
        thread.start()
        java(workload.ca.svid("/client"), listener.getsockname()[1], "TLSv1.2", 3)
        thread.join(DEADLINE)
    assert reused == [False, True, True]


def test_where_1_3_is_demanded_an_old_client_is_told_so_and_a_new_one_is_served(
    java: Callable[..., list[str]], workload: Workload
) -> None:
    with workload.serving(workload.context()) as port:
        (old,) = java(workload.ca.svid("/client"), port, "TLSv1.2", 1)
        (new,) = java(workload.ca.svid("/client"), port, "default", 1)
    assert old.startswith("ERROR")
    assert "protocol_version" in old
    assert new.endswith(ID)
    (error,) = workload.errors
    assert "UNSUPPORTED_PROTOCOL" in str(error)


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_a_client_of_another_authority_is_refused(
    java: Callable[..., list[str]], workload: Workload, protocol: str
) -> None:
    with workload.serving(workload.context(minimum_version=TLS12)) as port:
        lines = java(TestCA("java.test").svid("/client"), port, protocol, 2)
    assert all(line.startswith("ERROR") for line in lines)
    assert [type(error) for error in workload.errors] == [PeerVerificationError] * 2


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_a_client_with_the_wrong_id_is_refused(
    java: Callable[..., list[str]], workload: Workload, protocol: str
) -> None:
    context = mtls_server_context(workload.source, authorize_id("spiffe://java.test/other"), minimum_version=TLS12)
    with workload.serving(context) as port:
        lines = java(workload.ca.svid("/client"), port, protocol, 2)
    assert all("spiffe" not in line for line in lines)
    assert {type(error.reason) for error in workload.errors if isinstance(error, PeerVerificationError)} == {
        PeerNotAuthorizedError
    }


def test_with_resumption_it_resumes_and_is_judged_again(java: Callable[..., list[str]], workload: Workload) -> None:
    asked: list[SpiffeID] = []
    authorizer = authorize_if(lambda peer: asked.append(peer) is None, "all")
    with workload.serving(mtls_server_context(workload.source, authorizer, resumption=True)) as port:
        lines = java(workload.ca.svid("/client"), port, "TLSv1.3", 5)
    assert [line.split()[-1] for line in lines] == [ID] * 5
    assert len(asked) == 5
    assert workload.errors == []
    assert workload.reused == [False] + [True] * 4
