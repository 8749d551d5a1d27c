"""sshpop at the server: host certificates of known authorities, and everything that is none."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spire.attestation import sshpop as wire
from authsec_sdk.spire.attestation.messages import AttestationMessageError
from icp_server.domain.errors import Internal

pytestmark = pytest.mark.anyio

AUTHORITY = ed25519.Ed25519PrivateKey.generate()
HOST = ed25519.Ed25519PrivateKey.generate()
KEYS: dict[str, Any] = {
    "ed25519": HOST,
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
}


def line(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def certify(
    key: Any = HOST,
    *,
    by: Any = AUTHORITY,
    principals: tuple[str, ...] = ("node.example.org",),
    kind: SSHCertificateType = SSHCertificateType.HOST,
    after: int = 0,
    before: int = (1 << 64) - 1,
    options: tuple[str, ...] = (),
) -> bytes:
    """A certificate in wire format."""
    builder = (
        SSHCertificateBuilder()
        .public_key(key.public_key())
        .serial(7)
        .type(kind)
        .key_id(b"the node")
        .valid_after(after)
        .valid_before(before)
    )
    if principals:
        builder = builder.valid_principals([each.encode() for each in principals])
    else:
        builder = builder.valid_for_all_principals()  # type: ignore[no-untyped-call]
    for option in options:
        builder = builder.add_critical_option(option.encode(), b"")
    return base64.b64decode(builder.sign(by).public_bytes().split()[1])


def answering(key: Any) -> Any:
    return lambda challenge: wire.response(key, challenge, os.urandom(32))


@pytest.fixture
def attestor(make_attestor: Any) -> Any:
    return make_attestor("sshpop", f'cert_authorities = ["{line(AUTHORITY)} a comment"]')


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
async def test_a_host_with_every_kind_of_key_gets_upstreams_id(attestor: Any, attest: Any, key: Any) -> None:
    blob = certify(key)
    result = await attest(attestor, wire.payload(blob), answering(key))
    digest = base64.urlsafe_b64encode(hashlib.sha256(blob).digest()).rstrip(b"=").decode()
    assert str(result.agent_id) == f"spiffe://example.org/spire/agent/sshpop/{digest}"
    assert result.selectors == ()
    assert result.can_reattest


@pytest.mark.parametrize("by", KEYS.values(), ids=KEYS)
async def test_authorities_with_every_kind_of_key(make_attestor: Any, attest: Any, by: Any, tmp_path: Any) -> None:
    (tmp_path / "ca.pub").write_text(f"# ours\n\n{line(by)}\n")
    attestor = make_attestor("sshpop", f'cert_authorities_path = "{tmp_path}/ca.pub"')
    await attest(attestor, wire.payload(certify(by=by)), answering(HOST))


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (certify(by=HOST), "failed to check host key: no authorities for hostname"),
        (certify(kind=SSHCertificateType.USER), "failed to check host key: it is no host's certificate"),
        (certify(principals=()), "cert has no valid principals"),
        (certify(options=("force-command",)), "failed to check host key: it has critical options"),
        (certify(before=1), "failed to check host key: it has expired"),
        (certify(after=(1 << 64) - 2), "failed to check host key: it is not yet valid"),
        (certify()[:-1] + b"x", "failed to check host key: its signature does not verify"),
        (b"x", "failed to unmarshal data: failed to parse public key"),
        (certify() + b"more", "failed to unmarshal data: failed to parse public key"),
        (base64.b64decode(line(HOST).split()[1]), "failed to unmarshal data: pubkey in response is not a certificate"),
        (b"\xff\xff\xff\xff", "failed to unmarshal data: failed to parse public key"),
        (b"", "failed to unmarshal data: no certificate in response"),
    ],
    ids=map(str, range(12)),
)
async def test_certificates_that_are_refused(attestor: Any, attest: Any, blob: bytes, words: str) -> None:
    with pytest.raises(Internal, match=words):
        await attest(attestor, wire.payload(blob))


class TestProofs:
    async def refused(self, attest: Any, attestor: Any, respond: Any, key: Any = HOST) -> None:
        with pytest.raises(Internal, match="failed to verify signature: "):
            await attest(attestor, wire.payload(certify(key)), respond)

    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
    async def test_a_signature_with_another_key(self, attestor: Any, attest: Any, key: Any) -> None:
        other = ed25519.Ed25519PrivateKey.generate()
        await self.refused(attest, attestor, answering(other), key)

    async def test_an_answer_given_before_is_worth_nothing(self, attestor: Any, attest: Any) -> None:
        seen: list[bytes] = []

        def record(challenge: bytes) -> bytes:
            seen.append(wire.response(HOST, challenge, os.urandom(32)))
            return seen[0]

        await attest(attestor, wire.payload(certify()), record)
        await self.refused(attest, attestor, lambda _: seen[0])

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda answer: {},
            lambda answer: answer | {"Signature": None},
            lambda answer: answer | {"Nonce": base64.b64encode(bytes(31)).decode()},
            lambda answer: answer | {"Signature": answer["Signature"] | {"Format": "ssh-rsa"}},
            lambda answer: answer | {"Signature": answer["Signature"] | {"Format": ""}},
            lambda answer: answer | {"Signature": answer["Signature"] | {"Blob": "AAAA"}},
            lambda answer: answer | {"Signature": answer["Signature"] | {"Blob": None}},
            lambda answer: answer | {"Signature": []},
        ],
    )
    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
    async def test_answers_that_are_none(self, attestor: Any, attest: Any, spoil: Any, key: Any) -> None:
        def respond(challenge: bytes) -> bytes:
            answer = spoil(json.loads(wire.response(key, challenge, os.urandom(32))))
            if (
                (answer.get("Signature") or {})
                and answer["Signature"].get("Format") == "ssh-rsa"
                and key is KEYS["rsa"]
            ):
                answer["Signature"]["Format"] = "rsa-sha2-256"  # of this key, and not what it signed with
            return json.dumps(answer).encode()

        await self.refused(attest, attestor, respond, key)


async def test_a_domain_that_names_must_be_in(make_attestor: Any, attest: Any) -> None:
    data = (
        f'cert_authorities = ["{line(AUTHORITY)}"] canonical_domain = "example.org" '
        'agent_path_template = "/host/{{ .Hostname }}/{{ index .ValidPrincipals 1 }}/{{ .Serial }}"'
    )
    attestor = make_attestor("sshpop", data)
    blob = certify(principals=("a.example.org", "b"))
    assert str((await attest(attestor, wire.payload(blob), answering(HOST))).agent_id).endswith("/host/a/b/7")
    for name in ("a.example.com", "example.org", "aexample.org"):
        with pytest.raises(
            Internal, match=r'decanonicalize hostname: cert principal is not in domain "\.example\.org"'
        ):
            await attest(attestor, wire.payload(certify(principals=(name,))))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", 'missing required config value for "cert_authorities" or "cert_authorities_path"'),
        ('cert_authorities = ["junk"]', "failed to parse public key 'junk'"),
        ('cert_authority = ["x"]', "did you mean 'cert_authorities'?"),
        (f'cert_authorities = ["{line(AUTHORITY)}"] agent_path_template = "/{{{{ .Nope }}}}"', "unknown field .Nope"),
    ],
)
async def test_settings_that_are_refused_when_they_are_read(make_attestor: Any, data: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_attestor("sshpop", data)
    assert words in str(caught.value)
    assert caught.value.line == 1


@pytest.mark.parametrize("content", [None, b"", b"# nothing\n", b"\xff", b"junk"])
async def test_files_of_authorities_that_are_refused_at_start(
    make_attestor: Any, tmp_path: Any, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "ca.pub").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"failed to (get cert authorities|parse public key)"):
        make_attestor("sshpop", f'cert_authorities_path = "{tmp_path}/ca.pub"')


@given(st.binary(max_size=200))
def test_any_certificate_is_read_or_refused(blob: bytes) -> None:
    try:
        wire.parse_certificate(blob)
    except AttestationMessageError:
        pass


@given(st.integers(0, len(certify()) - 1), st.integers(1, 255))
def test_no_byte_of_a_certificate_can_be_changed(position: int, change: int) -> None:
    """Whatever is changed is refused, or is not what was signed."""
    blob = bytearray(certify())
    blob[position % len(blob)] ^= change
    try:
        certificate = wire.parse_certificate(bytes(blob))
    except AttestationMessageError:
        return
    with pytest.raises(Exception):  # noqa: B017 - the library has no one error for it
        certificate.verify_cert_signature()


@given(st.binary(max_size=100))
def test_any_signature_is_refused(blob: bytes) -> None:
    for name, form in (("p256", "ecdsa-sha2-nistp256"), ("rsa", "ssh-rsa"), ("ed25519", "ssh-ed25519")):
        signature = {"Format": form, "Blob": base64.b64encode(blob).decode()}
        answer = json.dumps({"Nonce": base64.b64encode(bytes(32)).decode(), "Signature": signature}).encode()
        with pytest.raises(AttestationMessageError):
            wire.verify(KEYS[name].public_key(), bytes(32), answer)
