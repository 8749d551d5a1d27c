"""sshpop at the agent: host key and certificate as OpenSSH writes them."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)

from authsec_sdk.errors import ConfigurationError, OperatorError
from authsec_sdk.spire.attestation import sshpop as wire

pytestmark = pytest.mark.anyio

KEYS = [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())]
KEYS.append(rsa.generate_private_key(65537, 2048))


def write(folder, key, *, form=PrivateFormat.OpenSSH, certified=None):
    (folder / "key").write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))
    builder = SSHCertificateBuilder().public_key((certified or key).public_key()).serial(1)
    builder = builder.type(SSHCertificateType.HOST).key_id(b"x").valid_principals([b"h"])
    certificate = builder.valid_after(0).valid_before(2**64 - 1).sign(KEYS[0]).public_bytes()
    (folder / "key-cert.pub").write_bytes(certificate + b" root@host\n")
    return base64.b64decode(certificate.split()[1])


def data(folder):
    return f'host_key_path = "{folder}/key" host_cert_path = "{folder}/key-cert.pub"'


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
async def test_it_sends_the_certificate_and_signs_what_it_is_asked(make_attestor, tmp_path, key, form):
    blob = write(tmp_path, key, form=form)
    async with make_attestor("sshpop", data(tmp_path)).begin() as attestation:
        assert wire.parse_payload(attestation.payload) == blob
        wire.verify(key.public_key(), b"n" * 32, await attestation.respond(wire.challenge(b"n" * 32)))


@pytest.mark.parametrize("challenge", [b"", b"{}", wire.challenge(b"short")])
async def test_a_server_that_asks_for_something_else_gets_no_signature(make_attestor, tmp_path, challenge):
    write(tmp_path, KEYS[0])
    async with make_attestor("sshpop", data(tmp_path)).begin() as attestation:
        with pytest.raises(OperatorError, match="failed to answer the challenge"):
            await attestation.respond(challenge)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("key", b"junk", "holds no RSA, ECDSA or Ed25519 key"),
        ("key-cert.pub", b"", "holds no SSH certificate"),
        ("key-cert.pub", b"ssh-ed25519 AAAA", "holds no SSH certificate"),
        ("key-cert.pub", b"ssh-ed25519 !", "holds no SSH certificate"),
        ("key-cert.pub", None, "failed to read host certificate file"),
        ("key", None, "failed to read host key file"),
    ],
)
async def test_files_that_are_wrong(make_attestor, tmp_path, name, content, words):
    write(tmp_path, KEYS[0])
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=words):
        async with make_attestor("sshpop", data(tmp_path)).begin():
            pass


async def test_a_key_that_is_not_the_certificates(make_attestor, tmp_path):
    write(tmp_path, KEYS[0], certified=KEYS[1])
    with pytest.raises(ConfigurationError, match="is not that of the certificate"):
        async with make_attestor("sshpop", data(tmp_path)).begin():
            pass


def test_settings_that_are_refused(make_attestor):
    with pytest.raises(ConfigurationError, match="did you mean 'host_key_path'"):
        make_attestor("sshpop", 'host_key = "k"')
