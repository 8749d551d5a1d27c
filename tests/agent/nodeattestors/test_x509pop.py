"""x509pop at the agent: what is read, what is signed, and what is refused before anything goes to a server."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from authsec_sdk.errors import ConfigurationError, OperatorError, SpiffeError
from authsec_sdk.spire.attestation import x509pop as wire
from authsec_sdk.testing import FakeWorkloadAPI, TestCA

pytestmark = pytest.mark.anyio

CA = TestCA("example.org")
NODE = CA.svid("/node")


def pem(key, encryption=None, form=PrivateFormat.PKCS8):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


@pytest.fixture
def files(tmp_path):
    (tmp_path / "key.pem").write_bytes(pem(NODE.private_key))
    (tmp_path / "node.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in NODE.certificates))
    return tmp_path


def data(folder, more=""):
    return f'private_key_path = "{folder}/key.pem" certificate_path = "{folder}/node.pem" {more}'


async def test_it_sends_the_chain_and_signs_what_it_is_asked(make_attestor, files):
    async with make_attestor("x509pop", data(files)).begin() as attestation:
        assert list(wire.parse_payload(attestation.payload, most=4)) == list(NODE.chain_der())
        public_key = NODE.private_key.public_key()
        wire.verify(public_key, b"n" * 32, await attestation.respond(wire.challenge(public_key, b"n" * 32)))
        assert pem(NODE.private_key).decode().splitlines()[1] not in repr(attestation)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())])
async def test_rsa_and_ecdsa_keys_in_both_forms(make_attestor, tmp_path, key, form):
    svid = CA.svid("/node", key=key)
    (tmp_path / "key.pem").write_bytes(pem(key, form=form))
    (tmp_path / "node.pem").write_bytes(svid.leaf.public_bytes(Encoding.PEM))
    async with make_attestor("x509pop", data(tmp_path)).begin() as attestation:
        challenge = wire.challenge(key.public_key(), b"n" * 32)
        wire.verify(key.public_key(), b"n" * 32, await attestation.respond(challenge))


async def test_intermediates_of_a_second_file_are_appended(make_attestor, files):
    (files / "more.pem").write_bytes(CA.bundle().to_pem())
    async with make_attestor("x509pop", data(files, f'intermediates_path = "{files}/more.pem"')).begin() as attestation:
        assert len(wire.parse_payload(attestation.payload, most=9)) == len(NODE.certificates) + 1


async def test_files_are_read_at_each_attempt(make_attestor, files):
    attestor = make_attestor("x509pop", data(files))
    (files / "key.pem").unlink()
    with pytest.raises(ConfigurationError, match="unable to read private key"):
        async with attestor.begin():
            pass
    (files / "key.pem").write_bytes(pem(NODE.private_key))
    async with attestor.begin():
        pass


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("node.pem", b"junk", "unable to load certificates"),
        ("node.pem", b"x" * 300_000, "larger than"),
        ("key.pem", b"junk", "holds no private key in PEM"),
        ("key.pem", pem(NODE.private_key, BestAvailableEncryption(b"secret")), "without a password"),
        ("key.pem", pem(ec.generate_private_key(ec.SECP256R1())), "is not that of the first certificate"),
        ("key.pem", pem(ed25519.Ed25519PrivateKey.generate()), "is not that of the first certificate"),
    ],
    ids=map(str, range(6)),
)
async def test_files_that_are_wrong(make_attestor, files, name, content, words):
    (files / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=words):
        async with make_attestor("x509pop", data(files)).begin():
            pass


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"{}",
        wire.challenge(rsa.generate_private_key(65537, 2048).public_key(), b"n" * 32),
        json.dumps({"ecdsa_signature": {"nonce": "AAAA"}}).encode(),
    ],
    ids=map(str, range(4)),
)
async def test_a_server_that_asks_for_something_else_gets_no_signature(make_attestor, files, challenge):
    async with make_attestor("x509pop", data(files)).begin() as attestation:
        with pytest.raises(OperatorError, match="failed to calculate challenge response"):
            await attestation.respond(challenge)


async def test_an_svid_of_another_agent(make_attestor, tmp_path):
    with FakeWorkloadAPI() as api:
        api.set(NODE, bundles=[CA.bundle()])
        data_ = f'spiffe_endpoint_socket = "{api.address}"'
        async with make_attestor("x509pop", data_).begin() as attestation:
            assert list(wire.parse_payload(attestation.payload, most=4)) == list(NODE.chain_der())


async def test_no_svid_of_another_agent(make_attestor, tmp_path):
    with pytest.raises((SpiffeError, OSError)):
        async with make_attestor("x509pop", f'spiffe_endpoint_socket = "unix://{tmp_path}/none.sock"').begin():
            pass


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('certificate_path = "c"', "private_key_path is required"),
        ('private_key_path = "k"', "certificate_path is required"),
        ('private_key_path = "k" certificate_path = "c" x = 1', "unknown key 'x'"),
    ],
)
def test_settings_that_are_refused(make_attestor, text, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        make_attestor("x509pop", text)
    assert caught.value.line == 1
