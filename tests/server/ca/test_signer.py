"""Leaves as verifiers see them, and the IDs that are never signed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from authsec_sdk.spiffe import X509SVID, SpiffeID, TrustDomain
from icp_server.ca.authority import SigningAuthority, self_signed
from icp_server.ca.keys import generate_private_key
from icp_server.ca.keys_memory import MemoryKeyManager
from icp_server.ca.kinds import CASettings, slot_kinds
from icp_server.ca.rotator import AuthorityRotator
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.ca.token_signer import SVIDTokenSigner, TokenSettings
from icp_server.domain.ca_slots import AuthorityRecord, Status
from icp_server.domain.errors import Internal, InvalidArgument, Unavailable
from icp_server.domain.issued import LeafRequest
from icp_server.domain.key_type import KeyType
from icp_server.domain.svid_template import CASubject, ca_template
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio

TD = TrustDomain("example.org")
WEB = SpiffeID.parse("spiffe://example.org/web")


def new_authority(
    clock: Any, key_type: KeyType = KeyType.EC_P256, ttl: timedelta = timedelta(days=1)
) -> SigningAuthority:
    key = generate_private_key(key_type)
    template = ca_template(TD, clock(), ttl, CASubject(), 4711)
    certificate, authority_id = self_signed(template, key)
    record = AuthorityRecord(authority_id, "A", Status.ACTIVE, clock(), template.not_after, certificate)
    authority = SigningAuthority.of(record, key)
    assert authority is not None
    return authority


@pytest.fixture
def signer(clock: Any) -> SVIDSigner:
    made = SVIDSigner(TD, Lifetimes(timedelta(hours=1), timedelta(hours=2)), clock)
    made.activate(new_authority(clock))
    return made


def root_of(signer: SVIDSigner) -> x509.Certificate:
    return x509.load_der_x509_certificate(signer.authority.record.data)


@pytest.mark.parametrize("key_type", list(KeyType), ids=lambda key_type: key_type.value)
async def test_leaves_of_every_kind_of_authority_keep_every_rule(clock: Any, requester: Any, key_type: KeyType) -> None:
    signer = SVIDSigner(TD, Lifetimes(), clock)
    signer.activate(new_authority(clock, key_type))
    [result] = await signer.sign([LeafRequest(requester.csr(), WEB, dns_names=("a.test", "b.test"), hint="h")])
    assert result.value is not None
    root, leaf = root_of(signer), x509.load_der_x509_certificate(result.value.chain[0])
    leaf.verify_directly_issued_by(root)
    svid = X509SVID((leaf,), requester.key)  # keeps every leaf rule of the standard
    assert svid.id == WEB
    assert leaf.not_valid_before_utc == clock() - timedelta(seconds=10)
    assert leaf.not_valid_after_utc == clock() + timedelta(hours=1)
    assert result.value.expires_at == int(leaf.not_valid_after_utc.timestamp())
    assert result.value.serial_number == str(leaf.serial_number)
    assert result.value.hint == "h"
    assert leaf.subject.rfc4514_string() == "CN=a.test,O=SPIRE,C=US"
    extensions = leaf.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.test", "b.test"]
    usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert extensions.get_extension_for_class(x509.BasicConstraints).critical
    key_usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert key_usage.critical
    assert key_usage.value.digital_signature
    assert key_usage.value.key_encipherment
    assert key_usage.value.key_agreement
    assert not key_usage.value.key_cert_sign
    authority_key_id = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert authority_key_id == root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_the_root_is_as_verifiers_expect(signer: SVIDSigner, clock: Any) -> None:
    root = root_of(signer)
    assert root.subject == root.issuer
    assert root.subject.rfc4514_string() == "2.5.4.5=4711,O=SPIFFE,C=US"
    assert root.not_valid_before_utc == clock() - timedelta(seconds=10)
    names = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org"]
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).critical
    with pytest.raises(x509.ExtensionNotFound):
        root.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    root.verify_directly_issued_by(root)


async def test_nothing_but_the_key_is_taken_from_a_workloads_request(signer: SVIDSigner, requester: Any) -> None:
    csr = requester.csr(uris=("spiffe://example.org/admin",), dns=("evil.test",), common_name="evil.test")
    [result] = await signer.sign([LeafRequest(csr, WEB)])
    assert result.value is not None
    leaf = x509.load_der_x509_certificate(result.value.chain[0])
    assert leaf.subject.rfc4514_string() == "O=SPIRE,C=US"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == [str(WEB)]
    agent = await signer.sign_agent(csr, SpiffeID.parse("spiffe://example.org/spire/agent/join_token/a"))
    leaf = x509.load_der_x509_certificate(agent.chain[0])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == [str(agent.spiffe_id)]


async def test_every_item_of_a_batch_has_its_own_outcome_in_order(
    signer: SVIDSigner, requester: Any, new_requester: Callable[..., Any]
) -> None:
    others = [new_requester() for _ in range(12)]
    requests = [LeafRequest(other.csr(), WEB, ttl=60 + place) for place, other in enumerate(others)]
    requests[3] = LeafRequest(b"junk", WEB)
    requests[5] = LeafRequest(requester.csr(), SpiffeID.parse("spiffe://example.org"))
    results = await signer.sign(requests)
    assert [result.ok for result in results] == [place not in (3, 5) for place in range(12)]
    assert isinstance(results[3].error, InvalidArgument)
    assert isinstance(results[5].error, Internal)
    for place, other in enumerate(others):
        issued = results[place].value
        if issued is not None:
            leaf = x509.load_der_x509_certificate(issued.chain[0])
            assert leaf.public_key() == other.key.public_key()
            assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(seconds=70 + place)
    serials = [result.value.serial_number for result in results if result.value]
    assert len(set(serials)) == len(serials)


@pytest.mark.parametrize(
    "wrong",
    ["spiffe://example.org", "spiffe://other.org/web", "spiffe://example.org/spire/server",
     "spiffe://example.org/spire/agent/join_token/a"],
)  # fmt: skip
async def test_ids_that_are_never_signed(signer: SVIDSigner, requester: Any, wrong: str) -> None:
    """A leaf without a path crashes go-spiffe's gRPC peers; a reserved one would be an agent or the server."""
    [result] = await signer.sign([LeafRequest(requester.csr(), SpiffeID.parse(wrong))])
    assert isinstance(result.error, Internal)
    with pytest.raises(InvalidArgument, match="CSR URI SAN is invalid"):
        await signer.mint(requester.csr(uris=(wrong,)), 0)
    if "agent" not in wrong:
        with pytest.raises(Internal):
            await signer.sign_agent(requester.csr(), SpiffeID.parse(wrong))
    if "server" not in wrong:
        with pytest.raises(Internal):
            signer.sign_server(requester.csr(), SpiffeID.parse(wrong))


async def test_a_leaf_ends_with_its_authority(signer: SVIDSigner, requester: Any, clock: Any) -> None:
    clock.forward(hours=23, minutes=30)
    [result] = await signer.sign([LeafRequest(requester.csr(), WEB)])
    assert result.value is not None
    assert result.value.expires_at == int(signer.authority.record.not_after.timestamp())
    clock.forward(minutes=30)
    [result] = await signer.sign([LeafRequest(requester.csr(), WEB)])
    assert isinstance(result.error, Unavailable)


async def test_lifetimes(signer: SVIDSigner, requester: Any, clock: Any) -> None:
    for ttl, seconds in ((0, 3600), (-5, 3600), (90, 90)):
        issued = await signer.mint(requester.csr(uris=(str(WEB),)), ttl)
        assert issued.expires_at == int(clock().timestamp()) + seconds
    agent = await signer.sign_agent(requester.csr(), SpiffeID.parse("spiffe://example.org/spire/agent/join_token/a"))
    assert agent.expires_at == int(clock().timestamp()) + 7200


async def test_a_minted_leaf_has_what_the_request_named(signer: SVIDSigner, requester: Any) -> None:
    issued = await signer.mint(requester.csr(uris=(str(WEB),), dns=("a.test",), common_name="me"), 0)
    leaf = x509.load_der_x509_certificate(issued.chain[0])
    assert X509SVID((leaf,), requester.key).id == WEB == issued.spiffe_id
    assert leaf.subject.rfc4514_string() == "CN=a.test"
    leaf.verify_directly_issued_by(root_of(signer))


async def test_without_an_authority_nothing_is_signed(clock: Any, requester: Any) -> None:
    signer = SVIDSigner(TD, Lifetimes(), clock)
    [result] = await signer.sign([LeafRequest(requester.csr(), WEB)])
    assert isinstance(result.error, Unavailable)
    with pytest.raises(Unavailable):
        await signer.mint(requester.csr(uris=(str(WEB),)), 0)


def test_the_key_digest_is_of_the_proven_key_alone(signer: SVIDSigner, requester: Any) -> None:
    assert signer.key_digest(requester.csr()) == signer.key_digest(requester.csr(common_name="other"))
    with pytest.raises(InvalidArgument):
        signer.key_digest(b"")


def test_an_authority_shows_no_key(signer: SVIDSigner) -> None:
    import pickle

    assert "key" not in repr(signer.authority).replace("public_key", "")
    with pytest.raises(TypeError):
        pickle.dumps(signer.authority)


def test_a_record_and_another_key_do_not_join(signer: SVIDSigner) -> None:
    assert SigningAuthority.of(signer.authority.record, generate_private_key(KeyType.EC_P256)) is None
    assert SigningAuthority.of(signer.authority.record, None) is None


async def test_signing_goes_on_while_the_authority_changes(store: SQLStore, clock: Any, requester: Any) -> None:
    """Whatever authority signed, its certificate was in the bundle before."""
    signer = SVIDSigner(TD, Lifetimes(timedelta(seconds=10)), clock)
    tokens = SVIDTokenSigner(store.trust_domain, TokenSettings(), clock)
    kinds = slot_kinds(store, signer, tokens, CASettings(timedelta(minutes=1)))
    rotator = AuthorityRotator(store, MemoryKeyManager(), kinds, clock)
    await rotator.start()
    issuers = set()
    for _ in range(30):
        clock.forward(seconds=5)
        await rotator.tick()
        bundle = await store.bundles.get(TD)
        assert bundle is not None
        by_key = {
            root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest: root
            for root in bundle.x509_authorities
        }
        [result] = await signer.sign([LeafRequest(requester.csr(), WEB)])
        assert result.value is not None
        assert result.value.expires_at - int(clock().timestamp()) == 10  # in full: activation comes in time
        leaf = x509.load_der_x509_certificate(result.value.chain[0])
        issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        assert issuer is not None
        leaf.verify_directly_issued_by(by_key[issuer])
        issuers.add(issuer)
    assert len(issuers) >= 3
    assert len({root.public_bytes(Encoding.DER) for root in bundle.x509_authorities}) == len(by_key)
    assert all(
        root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for root in by_key.values()
    )
