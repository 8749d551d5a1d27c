"""Where the key is on its way into OpenSSL, and where it is not: disk, frames, exceptions, other processes' reach."""

import contextlib
import os
import re
import ssl
import stat
import tempfile
import threading
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from authsec_sdk.errors import InvalidX509SVIDError
from authsec_sdk.tls.keyload import (
    encrypted_pem,
    load_authorities,
    load_identity,
    memory_file,
    readable_file,
    temporary_file,
)

needs_memfd = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this platform has no memfd")
PASSWORD = b"a password used once"


@pytest.fixture(params=["P-256", "P-384", "RSA", "Ed25519"])
def svid(request, world):
    keys = {
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "RSA": lambda: rsa.generate_private_key(65537, 2048),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
    }
    return world.ca.intermediate().svid("/server", key=keys[request.param]())


def plain_forms(svid):
    """The key in every form in which it could be found lying around, and its secret number."""
    key = svid.private_key
    forms = [key.private_bytes(form, PrivateFormat.PKCS8, NoEncryption()) for form in (Encoding.DER, Encoding.PEM)]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        forms.append(key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big"))
    return forms


def test_every_kind_of_key_is_loaded_with_its_chain(world, svid, shake, foreign):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_identity(context, svid)
    pipe = shake(context, foreign(None))
    assert pipe.client.getpeercert(True) == svid.chain_der()[0]


def test_what_is_written_is_encrypted(svid):
    text = encrypted_pem(svid, PASSWORD)
    assert b"ENCRYPTED" in text
    assert not any(form in text for form in plain_forms(svid))
    key = text[: text.index(b"-----BEGIN CERTIFICATE")]
    with pytest.raises((TypeError, ValueError)):
        load_pem_private_key(key, None)
    with pytest.raises(ValueError, match=r"."):
        load_pem_private_key(key, b"another password")
    assert load_pem_private_key(key, PASSWORD).public_key() == svid.leaf.public_key()


FILES = [pytest.param(memory_file, marks=needs_memfd), temporary_file, readable_file]


@pytest.mark.parametrize("file", FILES)
def test_whoever_holds_the_file_open_finds_it_empty_afterwards(file):
    with file(b"ciphertext") as path:
        held = Path(path).open("rb")  # noqa: SIM115 - the attacker holds it on purpose
        assert held.read() == b"ciphertext"
    with held:
        held.seek(0)
        assert held.read() == b""
    assert not Path(path).exists() or path.startswith("/proc/")


@pytest.mark.parametrize("file", FILES)
def test_a_failure_inside_leaves_nothing_behind(file):
    before = descriptors()
    with pytest.raises(ZeroDivisionError), file(b"x") as path:
        _ = 1 / 0
    assert descriptors() == before
    assert path.startswith("/proc/") or not Path(path).exists()


@needs_memfd
def test_a_memory_file_is_on_no_disk_and_not_inherited(svid):
    with memory_file(b"x") as path:
        assert re.fullmatch(r"/proc/self/fd/\d+", path)
        assert str(Path(path).readlink()).startswith("/memfd:")
        assert not os.get_inheritable(int(path.rpartition("/")[2]))


def test_a_temporary_file_is_for_this_user_alone():
    with temporary_file(b"x") as path:
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600


def test_the_fallback_loads_an_identity_too(svid, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with temporary_file(encrypted_pem(svid, PASSWORD)) as path:
        context.load_cert_chain(path, password=PASSWORD)


def descriptors():
    return sorted(Path("/dev/fd").iterdir())


@needs_memfd
def test_building_writes_no_file_and_other_readers_of_our_memory_files_see_ciphertext(world):
    """Look as another process of the same user would, while contexts are built: into temp folder and descriptors."""
    seen: set[bytes] = set()
    stop = threading.Event()
    files_before = set(Path(tempfile.gettempdir()).glob("authsec-*"))

    def watch():
        while not stop.is_set():
            for path in list(Path("/proc/self/fd").iterdir()):
                with contextlib.suppress(OSError):
                    if str(path.readlink()).startswith("/memfd:authsec"):
                        seen.add(path.read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    keys = []
    for _ in range(2000):
        world.rotate_svids()
        keys.append(world.server_source.x509_context.svid)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load_identity(context, keys[-1])
        if any(b"PRIVATE KEY" in data for data in seen):
            break
    stop.set()
    watcher.join(30)
    assert any(b"ENCRYPTED" in data for data in seen), "the watcher saw nothing, so this proves nothing"
    for data in seen:
        assert b"PRIVATE KEY" not in data or b"ENCRYPTED" in data
        assert not any(form in data for key in keys for form in plain_forms(key))
    assert set(Path(tempfile.gettempdir()).glob("authsec-*")) <= files_before


def mismatched(world):
    """An SVID whose key was swapped behind the checks: what OpenSSL must notice if nobody else did."""
    svid = world.ca.svid("/server")
    object.__setattr__(svid, "private_key", ec.generate_private_key(ec.SECP256R1()))
    return svid


def test_a_key_that_does_not_match_is_refused(world):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(InvalidX509SVIDError, match=r"spiffe://a\.test/server.*(?i:mismatch)"):
        load_identity(context, mismatched(world))


def test_neither_the_error_nor_its_frames_hold_secrets(world):
    """Rich and crash reporters print the locals of every frame, of causes and contexts, too."""
    svid = mismatched(world)
    secrets = plain_forms(svid)
    with pytest.raises(InvalidX509SVIDError) as caught:
        load_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), svid)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next  # without this test's own frame
    values = [value for frame, _ in traceback.walk_tb(error.__traceback__) for value in frame.f_locals.values()]
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "load_identity" in shown
    assert "PRIVATE KEY" not in shown
    assert not any(isinstance(value, bytes | bytearray) and value for value in values)
    assert not any(repr(secret) in shown for secret in secrets)


def test_authorities_are_loaded_and_rubbish_is_refused(world):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_authorities(context, b"")
    assert context.cert_store_stats()["x509"] == 0
    load_authorities(context, world.ca.bundle().to_pem())
    assert context.cert_store_stats()["x509_ca"] == 1
    with pytest.raises(ssl.SSLError):
        load_authorities(context, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def test_an_svid_that_openssl_does_not_take_keeps_the_last_one_and_takes_the_new_trust(world, shake, snapshot, caplog):
    server, client = world.server(), world.client()
    good = world.server_source.x509_context.svid
    assert shake(server, client).done
    world.ca.rotate()
    world.client_source.publish(snapshot(world.ca.svid("/client"), world.ca))
    world.server_source.publish(snapshot(mismatched(world), world.ca))
    assert "the last good SVID is kept" in caplog.text
    for _ in range(3):
        pipe = shake(server, client)
        assert pipe.client.getpeercert(True) == good.chain_der()[0]
        assert str(pipe.server.peer_spiffe_id) == "spiffe://a.test/client"
    assert caplog.text.count("the last good SVID is kept") == 1
    number = server.generation
    assert shake(server, client).done
    assert server.generation == number  # tried again at each handshake, and nothing built for nothing
    world.server_source.publish(snapshot(world.ca.svid("/server"), world.ca))
    assert shake(server, client).client.getpeercert(True) == world.server_source.x509_context.svid.chain_der()[0]


def test_an_svid_that_openssl_takes_later_is_used_without_waiting_for_another(world, shake, snapshot):
    """As when there was no descriptor left at the moment of the update."""
    server, client = world.server(), world.client()
    assert shake(server, client).done
    svid = mismatched(world)
    right = world.ca.svid("/server", key=(key := ec.generate_private_key(ec.SECP256R1())))
    object.__setattr__(svid, "certificates", right.certificates)
    world.server_source.publish(snapshot(svid, world.ca))
    assert shake(server, client).client.getpeercert(True) != right.chain_der()[0]
    object.__setattr__(svid, "private_key", key)
    assert shake(server, client).client.getpeercert(True) == right.chain_der()[0]


def test_an_identity_that_was_withdrawn_is_kept_until_it_expires_and_said(world, shake, snapshot, caplog):
    server, client = world.server(), world.client()
    assert shake(server, client).done
    world.server_source.publish(snapshot(None, world.ca))
    assert shake(server, client).done
    assert "holds no SVID" in caplog.text
