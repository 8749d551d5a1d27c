"""x509pop at the server: which nodes get in and what is known of them, and everything that must not get in."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.spire.attestation import x509pop as wire
from authsec_sdk.spire.attestation.messages import MAXIMUM_BYTES, AttestationMessageError
from icp_server.domain.errors import Internal, InvalidArgument, PermissionDenied

pytestmark = pytest.mark.anyio

RSA_2048 = rsa.generate_private_key(65537, 2048)
NODE_KEYS = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


def answering(key: Any) -> Any:
    return lambda challenge: wire.response(key, challenge, os.urandom(32))


def payload(*held: Any) -> bytes:
    return wire.payload([each.der for each in held])


@pytest.fixture
def attestor(make_attestor: Any, pki: Any, pem: Any) -> Any:
    return make_attestor("x509pop", f'ca_bundle_path = "{pem(pki.root)}"')


async def test_a_node_gets_upstreams_id_and_selectors(attestor: Any, attest: Any, pki: Any) -> None:
    (intermediate,) = pki.chain(1)
    uris = ("x509pop://example.org/rack/a/b", "x509pop://other.org/rack/z", "x509pop://example.org/alone", "urn:x")
    node = pki.sign("node.example.org", intermediate, uris=uris, serial=0xABC)
    result = await attest(attestor, payload(node, intermediate), answering(node.key))
    sha1 = {held: held.certificate.fingerprint(hashes.SHA1()).hex() for held in (node, intermediate, pki.root)}
    assert str(result.agent_id) == f"spiffe://example.org/spire/agent/x509pop/{sha1[node]}"
    assert [str(each) for each in result.selectors] == [
        "x509pop:subject:cn:node.example.org",
        f"x509pop:ca:fingerprint:{sha1[intermediate]}",
        f"x509pop:ca:fingerprint:{sha1[pki.root]}",
        "x509pop:serialnumber:0abc",
        "x509pop:san:rack:a/b",
    ]
    assert result.can_reattest
    assert not result.first_use_only


@pytest.mark.parametrize("key", [RSA_2048, *map(ec.generate_private_key, NODE_KEYS.values())])
async def test_nodes_with_every_kind_of_key(attestor: Any, attest: Any, pki: Any, key: Any) -> None:
    node = pki.sign("node", pki.root, key=key)
    await attest(attestor, payload(node), answering(key))


async def test_every_authority_that_vouches_is_a_selector(make_attestor: Any, attest: Any, pki: Any, pem: Any) -> None:
    """A key that two roots certify, as while one of them is replaced."""
    (first,) = pki.chain(1)
    other = pki.sign("Other root", ca=True)
    cross = pki.sign("Intermediate 0", other, key=first.key, ca=True)
    node = pki.sign("node", first)
    paths = f'ca_bundle_paths = ["{pem(pki.root, name="a")}", "{pem(other, name="b")}"]'
    result = await attest(make_attestor("x509pop", paths), payload(node, first, cross), answering(node.key))
    values = {each.value for each in result.selectors}
    for held in (pki.root, other):
        assert f"ca:fingerprint:{held.certificate.fingerprint(hashes.SHA1()).hex()}" in values


@pytest.mark.parametrize("number", [0, 4])
async def test_as_many_intermediates_as_allowed(attestor: Any, attest: Any, pki: Any, number: int) -> None:
    chain = pki.chain(number)
    node = pki.sign("node", chain[0] if chain else pki.root)
    await attest(attestor, payload(node, *chain), answering(node.key))


async def test_more_intermediates_than_allowed(attestor: Any, attest: Any, pki: Any) -> None:
    chain = pki.chain(5)
    node = pki.sign("node", chain[0])
    with pytest.raises(InvalidArgument, match=r"^too many intermediate certificates$"):
        await attest(attestor, payload(node, *chain))


async def test_more_intermediates_where_the_operator_says_so(
    make_attestor: Any, attest: Any, pki: Any, pem: Any
) -> None:
    attestor = make_attestor("x509pop", f'ca_bundle_path = "{pem(pki.root)}" max_intermediates = 10')
    chain = pki.chain(10)
    node = pki.sign("node", chain[0])
    await attest(attestor, payload(node, *chain), answering(node.key))


async def test_keys_that_are_too_large(make_attestor: Any, attest: Any, pki: Any, pem: Any) -> None:
    """RSA-8192 takes seconds to make, so the bound is lowered; it holds for every certificate."""
    attestor = make_attestor("x509pop", f'ca_bundle_path = "{pem(pki.root)}" max_rsa_key_size = 2047')
    node = pki.sign("node", pki.root, key=RSA_2048)
    with pytest.raises(InvalidArgument, match=r"^leaf certificate key size too large$"):
        await attest(attestor, payload(node))
    big = pki.sign("Big", pki.root, ca=True, key=RSA_2048)
    node = pki.sign("node", big)
    with pytest.raises(InvalidArgument, match=r"^intermediate certificate 0 key size too large$"):
        await attest(attestor, payload(node, big))


async def test_the_bound_on_rsa_is_8192_bits_unless_said_otherwise(attestor: Any, attest: Any, pki: Any) -> None:
    numbers = rsa.RSAPublicNumbers(65537, (1 << 8192) + 1)

    class Pretender:
        """No private key is needed for a certificate that an authority signs."""

        def public_key(self) -> Any:
            return numbers.public_key()

    node = pki.sign("node", pki.root, key=Pretender())
    with pytest.raises(InvalidArgument, match=r"leaf certificate key size too large"):
        await attest(attestor, payload(node))


def _expired(pki: Any) -> tuple[Any, ...]:
    return (pki.sign("node", pki.root, days=-1),)


def _unknown_authority(pki: Any) -> tuple[Any, ...]:
    return (pki.sign("node", pki.sign("Root", ca=True)),)


def _intermediate_is_no_authority(pki: Any) -> tuple[Any, ...]:
    middle = pki.sign("Not an authority", pki.root)
    return (pki.sign("node", middle), middle)


def _intermediate_may_not_sign(pki: Any) -> tuple[Any, ...]:
    middle = pki.sign("Not for certificates", pki.root, ca=True, cert_sign=False)
    return (pki.sign("node", middle), middle)


def _intermediate_is_missing(pki: Any) -> tuple[Any, ...]:
    return (pki.sign("node", pki.chain(1)[0]),)


def _path_length_is_exceeded(pki: Any) -> tuple[Any, ...]:
    short = pki.sign("Short", pki.root, ca=True, path_length=0)
    below = pki.sign("Below", short, ca=True)
    return (pki.sign("node", below), below, short)


def _signed_by_itself(pki: Any) -> tuple[Any, ...]:
    return (pki.sign("node"),)


@pytest.mark.parametrize(
    "chain",
    [
        _expired,
        _unknown_authority,
        _intermediate_is_no_authority,
        _intermediate_may_not_sign,
        _intermediate_is_missing,
        _path_length_is_exceeded,
        _signed_by_itself,
    ],
)
async def test_chains_that_lead_nowhere(attestor: Any, attest: Any, pki: Any, chain: Any) -> None:
    with pytest.raises(PermissionDenied, match=r"^certificate verification failed: "):
        await attest(attestor, payload(*chain(pki)))


async def test_an_authority_that_has_expired_vouches_for_nobody(
    attestor: Any, attest: Any, pki: Any, clock: Any
) -> None:
    node = pki.sign("node", pki.root, days=9)
    await attest(attestor, payload(node), answering(node.key))
    clock.forward(days=2)
    with pytest.raises(PermissionDenied, match=r"certificate verification failed"):
        await attest(attestor, payload(node))


class TestProofs:
    """The certificate is public; what counts is the signature."""

    async def refused(self, attest: Any, attestor: Any, node: Any, respond: Any, words: str) -> None:
        with pytest.raises(PermissionDenied, match=f"^challenge response verification failed: {words}"):
            await attest(attestor, payload(node), respond)

    @pytest.mark.parametrize("key", [RSA_2048, ec.generate_private_key(ec.SECP256R1())])
    async def test_a_signature_with_another_key(self, attestor: Any, attest: Any, pki: Any, key: Any) -> None:
        node = pki.sign("node", pki.root, key=key)
        other = rsa.generate_private_key(65537, 2048) if key is RSA_2048 else ec.generate_private_key(ec.SECP256R1())
        await self.refused(attest, attestor, node, answering(other), "(RSA|ECDSA) signature verify failed")

    async def test_an_answer_given_before_is_worth_nothing(self, attestor: Any, attest: Any, pki: Any) -> None:
        node = pki.sign("node", pki.root)
        seen: list[bytes] = []

        def record(challenge: bytes) -> bytes:
            seen.append(wire.response(node.key, challenge, os.urandom(32)))
            return seen[0]

        await attest(attestor, payload(node), record)
        await self.refused(attest, attestor, node, lambda _: seen[0], "ECDSA signature verify failed")

    async def test_the_servers_nonce_sent_back_as_ours(self, attestor: Any, attest: Any, pki: Any) -> None:
        node = pki.sign("node", pki.root)

        def mirror(challenge: bytes) -> bytes:
            nonce = json.loads(challenge)["ecdsa_signature"]["nonce"]
            return json.dumps({"ecdsa_signature": {"nonce": nonce, "r": "", "s": ""}}).encode()

        await self.refused(attest, attestor, node, mirror, "ECDSA signature verify failed")

    @pytest.mark.parametrize("length", [0, 31, 33])
    async def test_a_nonce_of_another_length(self, attestor: Any, attest: Any, pki: Any, length: int) -> None:
        node = pki.sign("node", pki.root)
        with pytest.raises(AttestationMessageError, match=r"invalid response nonce"):
            wire.response(node.key, wire.challenge(node.key.public_key(), bytes(32)), bytes(length))

        def respond(challenge: bytes) -> bytes:
            answer = json.loads(wire.response(node.key, challenge, os.urandom(32)))
            answer["ecdsa_signature"]["nonce"] = ("A" * (length * 4 // 3 + 4))[: (length + 2) // 3 * 4]
            return json.dumps(answer).encode()

        await self.refused(attest, attestor, node, respond, "(invalid response nonce|ECDSA)")

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"", "no JSON"),
            (b"{}", "expecting ECDSA response"),
            (b'{"rsa_signature": {"nonce": "", "signature": ""}}', "expecting ECDSA response"),
            (b'{"ecdsa_signature": {"nonce": "!"}}', "nonce is no base64"),
            (b'{"ecdsa_signature": []}', "ecdsa_signature is no object"),
            (b'{"ecdsa_signature": {"nonce": "%s", "r": "%s"}}' % (b"A" * 43 + b"=", b"A" * 4000), "ECDSA"),
            (b" " * (MAXIMUM_BYTES + 1), "the message has"),
        ],
    )
    async def test_answers_that_are_none(self, attestor: Any, attest: Any, pki: Any, answer: bytes, words: str) -> None:
        await self.refused(attest, attestor, pki.sign("node", pki.root), lambda _: answer, words)

    async def test_a_key_that_may_not_sign(self, attestor: Any, attest: Any, pki: Any) -> None:
        node = pki.sign("node", pki.root, digital_signature=False)
        with pytest.raises(Internal, match=r"^unable to generate challenge: certificate not intended for digital"):
            await attest(attestor, payload(node))

    async def test_a_key_of_another_kind(self, attestor: Any, attest: Any, pki: Any) -> None:
        node = pki.sign("node", pki.root, key=ed25519.Ed25519PrivateKey.generate())
        with pytest.raises((Internal, PermissionDenied)):
            await attest(attestor, payload(node))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "^failed to unmarshal data: no JSON"),
        (b"[]", "^failed to unmarshal data: not a JSON object"),
        (b'{"certificates": "x"}', "no list"),
        (b'{"certificates": [1]}', "no list"),
        (b'{"certificates": ["\xc3\xa9"]}', "no base64"),
        (b'{"certificates": [], "Certificates": []}', "twice"),
        (b"{}", "^no certificate to attest$"),
        (b'{"certificates": null}', "^no certificate to attest$"),
        (b'{"certificates": ["AAAA"]}', "^unable to parse leaf certificate: "),
        (b'{"certificates": [' + b'"AAAA",' * 99999 + b'"AAAA"]}', "the message has"),
        (b"[" * 60000, "no JSON"),
    ],
)
async def test_payloads_that_are_none(attestor: Any, attest: Any, data: bytes, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        await attest(attestor, data)


async def test_an_intermediate_that_is_none(attestor: Any, attest: Any, pki: Any) -> None:
    node = pki.sign("node", pki.root)
    with pytest.raises(InvalidArgument, match=r"^unable to parse intermediate certificate 0: "):
        await attest(attestor, wire.payload([node.der, b"\x30\x00"]))


@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: json.dumps({"certificates": [text]}).encode()))
def test_any_payload_is_read_or_refused(data: bytes) -> None:
    try:
        assert all(isinstance(each, bytes) for each in wire.parse_payload(data, most=5))
    except AttestationMessageError:
        pass


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_what_is_written_is_read(chain: list[bytes]) -> None:
    assert list(wire.parse_payload(wire.payload(chain), most=6)) == chain


class TestAddresses:
    @pytest.fixture
    def attestor(self, make_attestor: Any, pki: Any, pem: Any) -> Any:
        return make_attestor("x509pop", f'ca_bundle_path = "{pem(pki.root)}" verify_client_ip = true')

    @pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7"])
    async def test_a_call_from_an_address_of_the_certificate(
        self, attestor: Any, attest: Any, pki: Any, peer: str
    ) -> None:
        node = pki.sign("node", pki.root, ips=("192.0.2.7", "2001:db8::7"))
        await attest(attestor, payload(node), answering(node.key), peer=peer)

    @pytest.mark.parametrize("ips", [(), ("192.0.2.8",)])
    async def test_a_call_from_elsewhere(self, attestor: Any, attest: Any, pki: Any, ips: tuple[str, ...]) -> None:
        node = pki.sign("node", pki.root, ips=ips)
        with pytest.raises(PermissionDenied, match=r"^client IP 192.0.2.7 does not match any certificate IP SAN$"):
            await attest(attestor, payload(node), peer="192.0.2.7")

    async def test_an_address_nobody_knows(self, attestor: Any, attest: Any, pki: Any) -> None:
        node = pki.sign("node", pki.root, ips=("192.0.2.7",))
        with pytest.raises(Internal, match=r"^client IP not available for verification$"):
            await attest(attestor, payload(node))


class TestExchangeOfSVIDs:
    """mode = "spiffe": an SVID of our own trust domain becomes an agent."""

    @pytest.fixture
    async def pki(self, pki: Any, store: Any) -> Any:
        await store.bundles.append_x509(pki.root.der)
        return pki

    async def test_the_path_names_the_agent(self, make_attestor: Any, attest: Any, pki: Any) -> None:
        node = pki.sign("", pki.root, uris=("spiffe://example.org/spire-exchange/rack/7",))
        result = await attest(make_attestor("x509pop", 'mode = "spiffe"'), payload(node), answering(node.key))
        assert str(result.agent_id) == "spiffe://example.org/spire/agent/x509pop/rack/7"

    @pytest.mark.parametrize("setting", ["svid_prefix", "spiffe_prefix"])
    async def test_another_prefix(self, make_attestor: Any, attest: Any, pki: Any, setting: str) -> None:
        attestor = make_attestor("x509pop", f'mode = "spiffe" {setting} = "/nodes"')
        node = pki.sign("", pki.root, uris=("spiffe://example.org/nodes/7",))
        assert str((await attest(attestor, payload(node), answering(node.key))).agent_id).endswith("/x509pop/7")

    @pytest.mark.parametrize(
        ("uris", "words"),
        [
            ((), "valid SVID x509 cert not found"),
            (("urn:x",), "valid SVID x509 cert not found"),
            (("spiffe://example.org/web",), "x509 cert doesnt match SVID prefix"),
            (("spiffe://other.org/spire-exchange/7",), "is no SVID of trust domain example.org"),
            (("spiffe://example.org/spire-exchange/7", "spiffe://example.org/b"), "is no SVID"),
        ],
    )
    async def test_what_is_no_such_svid(
        self, make_attestor: Any, attest: Any, pki: Any, uris: tuple[str, ...], words: str
    ) -> None:
        node = pki.sign("", pki.root, uris=uris)
        with pytest.raises(PermissionDenied, match=words):
            await attest(make_attestor("x509pop", 'mode = "spiffe"'), payload(node), answering(node.key))


async def test_an_svid_before_there_is_a_bundle(make_attestor: Any, attest: Any, pki: Any) -> None:
    node = pki.sign("", pki.root, uris=("spiffe://example.org/spire-exchange/7",))
    with pytest.raises(PermissionDenied, match=r"certificate verification failed"):
        await attest(make_attestor("x509pop", 'mode = "spiffe"'), payload(node))


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("/cn/{{ .Subject.CommonName }}", "/cn/node.example.org"),
        ("/{{ .PluginName }}/{{ .TrustDomain }}/{{ .SerialNumberHex }}", "/x509pop/example.org/0abc"),
        ("/{{ .URISanSelectors.rack }}", "/7"),
    ],
)
async def test_templates(make_attestor: Any, attest: Any, pki: Any, pem: Any, template: str, path: str) -> None:
    attestor = make_attestor("x509pop", f'ca_bundle_path = "{pem(pki.root)}" agent_path_template = "{template}"')
    node = pki.sign("node.example.org", pki.root, uris=("x509pop://example.org/rack/7",), serial=0xABC)
    result = await attest(attestor, payload(node), answering(node.key))
    assert str(result.agent_id) == f"spiffe://example.org/spire/agent{path}"


@pytest.mark.parametrize("name", ["", "a b", "a/../b", "é"])
async def test_names_that_are_no_path(make_attestor: Any, attest: Any, pki: Any, pem: Any, name: str) -> None:
    """Path tricks in a certificate's name must not become another agent's path."""
    data = f'ca_bundle_path = "{pem(pki.root)}" agent_path_template = "/cn/{{{{ .Subject.CommonName }}}}"'
    node = pki.sign(name, pki.root)
    with pytest.raises(Internal, match=r"^failed to make spiffe id: invalid agent path suffix"):
        await attest(make_attestor("x509pop", data), payload(node), answering(node.key))


async def test_a_field_this_node_does_not_have(make_attestor: Any, attest: Any, pki: Any, pem: Any) -> None:
    data = f'ca_bundle_path = "{pem(pki.root)}" agent_path_template = "/{{{{ .URISanSelectors.rack }}}}"'
    node = pki.sign("node", pki.root)
    with pytest.raises(Internal, match=r"failed to make spiffe id: this node has no .URISanSelectors.rack"):
        await attest(make_attestor("x509pop", data), payload(node), answering(node.key))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "one of ca_bundle_path or ca_bundle_paths must be configured"),
        ('ca_bundle_path = "a" ca_bundle_paths = ["b"]', "only one of ca_bundle_path or ca_bundle_paths"),
        ('mode = "x"', "mode can only be either spiffe or external_pki"),
        ('mode = "spiffe" ca_bundle_path = "a"', "you can not use ca_bundle_path"),
        ('mode = "spiffe" max_intermediates = 0', "max_intermediates must be greater than 0"),
        ('mode = "spiffe" max_rsa_key_size = -1', "max_rsa_key_size must be greater than 0"),
        ('mode = "spiffe" svid_prefix = "/a" spiffe_prefix = "/b"', "one setting"),
        ('mode = "spiffe" ca_bundel_path = "a"', "did you mean 'ca_bundle_path'?"),
        ('mode = "spiffe" agent_path_template = "/{{ .Nope }}"', r"unknown field .Nope; there are: "),
    ],
)
async def test_settings_that_are_refused_when_they_are_read(make_attestor: Any, data: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_attestor("x509pop", data)
    assert words in str(caught.value)
    assert caught.value.line == 1


@pytest.mark.parametrize("content", [b"", b"junk", None])
async def test_bundles_that_are_refused_at_start(make_attestor: Any, tmp_path: Any, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"unable to load trust bundle"):
        make_attestor("x509pop", f'ca_bundle_path = "{path}"')
