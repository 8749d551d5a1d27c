"""The web PKI on one side: host names checked where they must be, SVIDs where they must be, and files that change."""

import os
import pickle
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from authsec_sdk.authz import authorize_id
from authsec_sdk.errors import ConfigurationError, NoIdentityError, PeerNotAuthorizedError
from authsec_sdk.spiffe import X509ContextHolder
from authsec_sdk.testing import Credential
from authsec_sdk.testing.certificates import CertificatePlan, build_certificate, name, new_key
from authsec_sdk.tls import (
    ContextSettingError,
    IdentityUnavailableError,
    PeerVerificationError,
    WebCertificate,
    mtls_web_client_context,
    mtls_web_server_context,
)

DEADLINE = 30.0


class WebAuthority:
    """A public certificate authority, and files as its customers keep them."""

    def __init__(self, folder):
        self.folder = folder
        self.key = new_key()
        self.certificate = self._issue(self.key, "web root", ca=True)

    def _issue(self, key, common_name, ca=False, **more):
        now = datetime.now(UTC)
        usage = frozenset({"key_cert_sign", "crl_sign"}) if ca else frozenset({"digital_signature"})
        plan = CertificatePlan(
            subject=name(common_name),
            not_before=now - timedelta(hours=1),
            not_after=now + timedelta(hours=1),
            uris=(),
            ca=ca,
            key_usage=usage,
            extended_key_usage=None if ca else (x509.ExtendedKeyUsageOID.SERVER_AUTH,),
            **more,
        )
        return build_certificate(plan, key, self.key, None if ca else self.certificate)

    def pair(self, host="api.example", key=None):
        key = key or new_key()
        certificate = self._issue(key, host, dns_names=(host,))
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass"))
        return certificate.public_bytes(Encoding.PEM), pem

    def write(self, certificate=None, key=None):
        for file, data in (("tls.crt", certificate), ("tls.key", key)):
            if data is not None:
                scratch = self.folder / f"{file}.new"
                scratch.write_bytes(data)
                scratch.rename(self.folder / file)

    def lay(self, host="api.example"):
        pair = self.pair(host)
        self.write(*pair)
        return pair

    def files(self):
        return WebCertificate(self.folder / "tls.crt", self.folder / "tls.key", password=b"pass", interval=0.0)


@pytest.fixture
def web(tmp_path):
    return WebAuthority(tmp_path)


def serial(pem_or_der):
    load = x509.load_pem_x509_certificate if pem_or_der.startswith(b"-") else x509.load_der_x509_certificate
    return load(pem_or_der).serial_number


@pytest.fixture
def pair(web, world):
    """Our client that knows hosts, and our server that has a host's certificate and knows SVIDs."""
    web.lay()
    client = mtls_web_client_context(world.client_source, roots=[web.certificate])
    server = mtls_web_server_context(world.server_source, authorize_id("spiffe://a.test/client"), web.files())
    return server, client


def test_each_knows_the_other_by_its_own_kind_of_name(pair, shake):
    server, client = pair
    pipe = shake(server, client, server_hostname="api.example")
    assert pipe.done
    assert str(pipe.server.peer_spiffe_id) == "spiffe://a.test/client"
    assert pipe.client.peer_spiffe_id is None
    assert pipe.to_server() == b"ping"
    assert pipe.to_client() == b"pong"
    assert client.check_hostname
    assert not server.check_hostname


def test_a_wrong_host_name_is_refused(pair, shake):
    server, client = pair
    told = []
    client._verifier._on_rejected = told.append
    error = shake(server, client, server_hostname="other.example").client_error
    assert isinstance(error, PeerVerificationError)
    assert "other.example" in str(error)
    assert "authorities of the web PKI" in str(error)
    assert client.rejections == len(told) == 1


def test_a_common_name_names_no_host(pair, shake, web):
    server, client = pair
    key = new_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass"))
    web.write(web._issue(key, "api.example").public_bytes(Encoding.PEM), pem)
    assert "Hostname mismatch" in str(shake(server, client, server_hostname="api.example").client_error)


def test_without_a_host_name_no_connection_begins(pair):
    _, client = pair
    for missing in (None, ""):
        with pytest.raises(ValueError, match="host"):
            client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=missing)
    with socket.socket() as plain, pytest.raises(ValueError, match="hostname"):
        client.wrap_socket(plain)


def test_host_names_cannot_be_left_unchecked(pair):
    server, client = pair
    client.check_hostname = True
    with pytest.raises(ContextSettingError, match="host name"):
        client.check_hostname = False
    with pytest.raises(ContextSettingError, match="SPIFFE ID"):
        server.check_hostname = True
    for mode in (ssl.CERT_NONE, ssl.CERT_OPTIONAL):
        with pytest.raises(ContextSettingError):
            client.verify_mode = mode


def test_a_server_of_another_authority_is_refused(pair, shake, foreign, tmp_path, world):
    _, client = pair
    other = WebAuthority(tmp_path / "other")
    other.folder.mkdir()
    other.lay()
    impostor = mtls_web_server_context(world.server_source, authorize_id("spiffe://a.test/client"), other.files())
    assert isinstance(shake(impostor, client, server_hostname="api.example").client_error, PeerVerificationError)


def test_an_svid_is_no_web_certificate_though_its_authority_is_in_the_bundles(pair, shake, world):
    """The authorities of the bundles are not the web's, nor the reverse."""
    _, client = pair
    server = world.server()
    error = shake(server, client, server_hostname="api.example").client_error
    assert isinstance(error, PeerVerificationError)


def test_a_web_certificate_is_no_svid(pair, shake, foreign, web, world):
    server, _ = pair
    key = new_key()
    certificate = web._issue(key, "client.example", dns_names=("client.example",))
    pipe = shake(server, foreign(Credential((certificate,), key)), server_hostname="api.example")
    assert isinstance(pipe.server_error, PeerVerificationError)
    assert isinstance(shake(server, foreign(None)).server_error, PeerVerificationError)


def test_the_wrong_id_is_refused(web, world, shake):
    web.lay()
    server = mtls_web_server_context(world.server_source, authorize_id("spiffe://a.test/other"), web.files())
    client = mtls_web_client_context(world.client_source, roots=[web.certificate])
    pipe = shake(server, client, server_hostname="api.example")
    assert isinstance(pipe.server_error.reason, PeerNotAuthorizedError)


def test_both_follow_their_sources(pair, shake, world):
    server, client = pair
    assert shake(server, client, server_hostname="api.example").done
    world.ca.rotate()
    world.ca.remove_old_roots()
    world.client_source.publish(world.client_source.x509_context)
    world.publish(world.ca)
    pipe = shake(server, client, server_hostname="api.example")
    assert pipe.done
    assert pipe.server.getpeercert(True) == world.client_source.x509_context.svid.chain_der()[0]


def test_a_server_needs_bundles_only_and_a_client_needs_an_identity(web, world, shake, snapshot):
    web.lay()
    bundles_only = X509ContextHolder(snapshot(None, world.ca))
    server = mtls_web_server_context(bundles_only, authorize_id("spiffe://a.test/client"), web.files())
    client = mtls_web_client_context(world.client_source, roots=[web.certificate])
    assert shake(server, client, server_hostname="api.example").done
    with pytest.raises(IdentityUnavailableError) as caught:
        shake(server, mtls_web_client_context(bundles_only), server_hostname="api.example")
    assert isinstance(caught.value.reason, NoIdentityError)


def test_the_systems_authorities_are_the_default(world, shake, web, monkeypatch):
    """OpenSSL finds them by its usual environment variable too."""
    web.lay()
    store = web.folder / "roots.pem"
    store.write_bytes(web.certificate.public_bytes(Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(store))
    server = mtls_web_server_context(world.server_source, authorize_id("spiffe://a.test/client"), web.files())
    assert shake(server, mtls_web_client_context(world.client_source), server_hostname="api.example").done
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    monkeypatch.setenv("SSL_CERT_DIR", str(web.folder / "none"))
    error = shake(server, mtls_web_client_context(world.client_source), server_hostname="api.example").client_error
    assert isinstance(error, PeerVerificationError)
    with pytest.raises(ConfigurationError, match="no authorities"):
        mtls_web_client_context(world.client_source, roots=[])


def test_no_session_is_resumed(pair, shake, foreign, world, web):
    server, client = pair
    assert server.num_tickets == client.num_tickets == 0
    pem, key = web.pair()
    offering = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = web.folder / "both.pem"
    file.write_bytes(pem + key)
    offering.load_cert_chain(file, password=b"pass")
    for _ in range(2):
        pipe = shake(offering, client, server_hostname="api.example")
        assert pipe.done
        pipe.to_client()
        assert not pipe.client.session_reused


def test_over_blocking_sockets(pair):
    server, client = pair
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answers = []

        def serve():
            plain, _ = listener.accept()
            with plain, server.wrap_socket(plain, server_side=True) as tls:
                answers.append(str(tls.peer_spiffe_id))
                tls.sendall(b"hello")

        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(listener.getsockname(), timeout=DEADLINE) as plain:
            with client.wrap_socket(plain, server_hostname="api.example") as tls:
                assert tls.recv(10) == b"hello"
        thread.join(DEADLINE)
    assert answers == ["spiffe://a.test/client"]


# --- files that change -----------------------------------------------------------------------------------------------


def presented(server, client, shake):
    pipe = shake(server, client, server_hostname="api.example")
    assert pipe.done
    return serial(pipe.client.getpeercert(True))


def test_a_renewed_certificate_is_presented_to_the_next_connection(pair, shake, web):
    server, client = pair
    before = presented(server, client, shake)
    open_connection = shake(server, client, server_hostname="api.example")
    certificate, _ = web.lay()
    assert presented(server, client, shake) == serial(certificate) != before
    assert open_connection.to_server() == b"ping"
    assert server.generation == 2
    assert presented(server, client, shake) == serial(certificate)
    assert server.generation == 2, "nothing is built where nothing changed"


def test_the_moment_between_certificate_and_key_is_never_presented(pair, shake, web, caplog):
    server, client = pair
    before = presented(server, client, shake)
    certificate, key = web.pair()
    web.write(certificate)
    for _ in range(3):
        assert presented(server, client, shake) == before
    assert caplog.text.count("does not belong to the certificate") == 1
    assert "last good" in caplog.text
    web.write(None, key)
    assert presented(server, client, shake) == serial(certificate)


@pytest.mark.parametrize("broken", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"])
def test_a_broken_file_leaves_the_last_good_one(pair, shake, web, broken, caplog):
    server, client = pair
    before = presented(server, client, shake)
    web.write(broken, broken)
    assert presented(server, client, shake) == before
    assert "last good web certificate is kept" in caplog.text
    for file in web.folder.glob("tls.*"):
        file.unlink()
    assert presented(server, client, shake) == before
    certificate, _ = web.lay()
    assert presented(server, client, shake) == serial(certificate)


def test_a_certificate_with_a_key_of_a_kind_unknown_leaves_the_last_good_one(pair, shake, web):
    server, client = pair
    before = presented(server, client, shake)
    certificate, key = web.pair()
    der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    ec_key = bytes.fromhex("06072a8648ce3d0201")
    assert ec_key in der
    web.write(ssl.DER_cert_to_PEM_cert(der.replace(ec_key, ec_key[:-1] + b"\x7f")).encode(), key)
    assert presented(server, client, shake) == before


def test_a_mounted_folder_that_is_swapped(web, world, shake):
    """As Kubernetes mounts a secret: files are links into a folder behind a link."""
    first, second = web.folder / "..1", web.folder / "..2"
    certificates = []
    for folder in (first, second):
        folder.mkdir()
        certificate, key = web.pair()
        (folder / "tls.crt").write_bytes(certificate)
        (folder / "tls.key").write_bytes(key)
        certificates.append(certificate)
    (web.folder / "..data").symlink_to(first.name)
    for file in ("tls.crt", "tls.key"):
        (web.folder / file).symlink_to(Path("..data") / file)
    server = mtls_web_server_context(world.server_source, authorize_id("spiffe://a.test/client"), web.files())
    client = mtls_web_client_context(world.client_source, roots=[web.certificate])
    assert presented(server, client, shake) == serial(certificates[0])
    (web.folder / "..next").symlink_to(second.name)
    (web.folder / "..next").rename(web.folder / "..data")
    assert presented(server, client, shake) == serial(certificates[1])


def test_files_are_looked_at_once_an_interval(web):
    web.lay()
    certificate = WebCertificate(web.folder / "tls.crt", web.folder / "tls.key", password=b"pass", interval=3600.0)
    first = certificate.current()
    web.lay()
    assert certificate.current() is first


def test_one_file_may_hold_both(web):
    certificate, key = web.pair()
    file = web.folder / "both.pem"
    file.write_bytes(certificate + key)
    assert serial(certificate) == WebCertificate(file, password=b"pass").current().certificates[0].serial_number


def test_an_rsa_key(web, world, shake):
    key = rsa.generate_private_key(65537, 2048)
    web.write(*web.pair(key=key))
    server = mtls_web_server_context(world.server_source, authorize_id("spiffe://a.test/client"), web.files())
    client = mtls_web_client_context(world.client_source, roots=[web.certificate])
    assert presented(server, client, shake)


def test_wrong_files_at_the_beginning(web):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        web.files()
    certificate, key = web.pair()
    web.write(certificate, b"rubbish")
    with pytest.raises(ConfigurationError, match="cannot be read: ValueError"):
        web.files()
    web.write(certificate, web.pair()[1])
    with pytest.raises(ConfigurationError, match="does not belong"):
        web.files()
    web.write(b"x" * (1 << 20) + b"x", key)
    with pytest.raises(ConfigurationError, match="larger than"):
        web.files()


def test_no_key_is_shown(web):
    _, key = web.lay()
    certificate = web.files()
    secret = certificate.current().private_key.private_numbers().private_value
    for text in (repr(certificate), repr(certificate.current()), str(certificate.current())):
        assert str(secret) not in text
        assert "PRIVATE" not in text
    with pytest.raises(TypeError):
        pickle.dumps(certificate.current())
    web.write(None, key[:-60])
    with pytest.raises(ConfigurationError) as caught:
        web.files()
    assert caught.value.__cause__ is caught.value.__context__ is None
    at = caught.tb.tb_next
    while at is not None:
        assert not [each for each in at.tb_frame.f_locals.values() if isinstance(each, bytes) and b"PRIVATE" in each]
        at = at.tb_next


def test_many_threads_and_a_renewal(pair, shake, web):
    server, client = pair
    failures, stop = [], threading.Event()

    def connect():
        while not stop.is_set():
            pipe = shake(server, client, server_hostname="api.example")
            if not pipe.done:
                failures.append(pipe.server_error or pipe.client_error)

    threads = [threading.Thread(target=connect) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        web.lay()
    stop.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert failures == []
