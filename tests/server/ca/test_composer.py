"""Credential composers: what they may change, and that nothing they do widens what a credential says."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from authsec_sdk.cli.postgres_lines import unique_identifier
from authsec_sdk.errors import ConfigurationError
from authsec_sdk.hcl import Fields
from authsec_sdk.spiffe import BundleSet, SpiffeID, TrustDomain
from authsec_sdk.spiffe.verify import verify_chain
from authsec_sdk.spire.reserved_ids import server_id
from icp_server.ca import composer_registry
from icp_server.ca.composer import Composers
from icp_server.ca.composer_uniqueid import UniqueID
from icp_server.ca.keys_memory import MemoryKeyManager
from icp_server.ca.kinds import CASettings, slot_kinds
from icp_server.ca.rotator import AuthorityRotator
from icp_server.ca.signer import Lifetimes, SVIDSigner
from icp_server.ca.token_signer import SVIDTokenSigner, TokenSettings
from icp_server.domain.composer import CAAttributes, CredentialComposer, X509Attributes
from icp_server.domain.errors import Internal
from icp_server.domain.issued import LeafRequest
from icp_server.domain.token_template import JWTRequest
from icp_server.store.handle import SQLStore

pytestmark = pytest.mark.anyio
TD = TrustDomain("example.org")
WORKLOAD = SpiffeID.parse("spiffe://example.org/w")
AGENT = SpiffeID.parse("spiffe://example.org/spire/agent/x509pop/a")
PRIVATE = ObjectIdentifier("1.3.6.1.4.1.99999.1.200")


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Marking(CredentialComposer):
    """Writes into each credential which step made it."""

    def server_ca(self, attributes: CAAttributes) -> CAAttributes:
        return replace(attributes, subject=named("ca"), extensions=(_extension(PRIVATE, b"\x05\x00"),))

    def server_svid(self, spiffe_id: SpiffeID, attributes: X509Attributes) -> X509Attributes:
        return replace(attributes, subject=named("server"))

    def agent_svid(self, spiffe_id: SpiffeID, attributes: X509Attributes) -> X509Attributes:
        return replace(attributes, subject=named("agent"))

    def workload_svid(self, spiffe_id: SpiffeID, attributes: X509Attributes) -> X509Attributes:
        earlier = attributes.not_after - timedelta(minutes=30)
        more = (_extension(PRIVATE, b"\x05\x00"), _extension(ObjectIdentifier("2.5.29.32.99"), b"\x0c\x01x"))
        return X509Attributes(named(f"workload {spiffe_id.path}"), ("added.test",), earlier, more)

    def workload_jwt_svid(self, spiffe_id: SpiffeID, claims: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**claims, "team": "blue", "exp": claims["exp"] - 60}


def _extension(oid: ObjectIdentifier, value: bytes, *, critical: bool = False) -> Any:
    return x509.Extension(oid, critical, x509.UnrecognizedExtension(oid, value))


class CA:
    """A CA whose credentials are composed."""

    def __init__(self, store: SQLStore, clock: Any, *composers: CredentialComposer) -> None:
        chain = Composers(tuple((f"c{at}", composer) for at, composer in enumerate(composers)))
        self.store, self.clock = store, clock
        self.signer = SVIDSigner(TD, Lifetimes(), clock, chain)
        self.tokens = SVIDTokenSigner(TD, TokenSettings(jwt_issuer="me"), clock, chain)
        kinds = slot_kinds(store, self.signer, self.tokens, CASettings())
        self.rotator = AuthorityRotator(store, MemoryKeyManager(), kinds, clock)

    async def leaf(self, csr: bytes) -> x509.Certificate:
        (done,) = await self.signer.sign([LeafRequest(csr, WORKLOAD, dns_names=("a.test",))])
        if done.error is not None:
            raise done.error
        assert done.value is not None
        leaf = x509.load_der_x509_certificate(done.value.chain[0])
        assert done.value.expires_at == leaf.not_valid_after_utc.timestamp()
        bundle = await self.store.bundles.get(TD)
        assert bundle is not None
        assert verify_chain([leaf], BundleSet.of(bundle.x509_bundle()), at=self.clock()) == WORKLOAD
        return leaf


def _claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return claims


def common_name(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


async def test_each_kind_of_credential_is_composed(store: SQLStore, clock: Any, requester: Any) -> None:
    ca = CA(store, clock, Marking())
    await ca.rotator.start()
    root = x509.load_der_x509_certificate(ca.signer.authority.record.data)
    assert root.subject == named("ca")
    assert root.extensions.get_extension_for_oid(PRIVATE).value.public_bytes() == b"\x05\x00"
    assert common_name(ca.signer.sign_server(requester.csr(), server_id(TD)).chain[0]) == "CN=server"
    assert common_name((await ca.signer.sign_agent(requester.csr(), AGENT)).chain[0]) == "CN=agent"
    assert common_name((await ca.signer.mint(requester.csr(uris=(str(WORKLOAD),)), 0)).chain[0]) == "CN=workload /w"
    assert common_name((await ca.signer.sign_downstream(requester.csr(), 0))[0][0]) == "CN=ca"
    leaf = await ca.leaf(requester.csr())
    assert leaf.subject == named("workload /w")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["added.test"]
    assert leaf.not_valid_after_utc == clock() + timedelta(minutes=30)
    assert leaf.extensions.get_extension_for_oid(PRIVATE).value.public_bytes() == b"\x05\x00"
    assert leaf.extensions.get_extension_for_oid(ObjectIdentifier("2.5.29.32.99")).value.public_bytes() == b"\x0c\x01x"
    issued = await ca.tokens.sign_jwt(JWTRequest(WORKLOAD, ("a",), 300))
    claims = _claims(issued.token)
    assert claims["team"] == "blue"
    assert claims["exp"] == issued.expires_at == int(clock().timestamp()) + 240


async def test_composers_work_on_what_the_one_before_made(store: SQLStore, clock: Any, requester: Any) -> None:
    ca = CA(store, clock, Marking(), UniqueID())
    await ca.rotator.start()
    leaf = await ca.leaf(requester.csr())
    assert [attribute.value for attribute in leaf.subject] == ["workload /w", unique_identifier(WORKLOAD)]


async def test_uniqueid_is_as_spire_writes_it(store: SQLStore, clock: Any, requester: Any) -> None:
    ca = CA(store, clock, UniqueID())
    await ca.rotator.start()
    leaf = await ca.leaf(requester.csr())
    assert [(a.oid.dotted_string, a.value) for a in leaf.subject] == [
        ("2.5.4.6", "US"), ("2.5.4.10", "SPIRE"), ("2.5.4.3", "a.test"), ("2.5.4.45", unique_identifier(WORKLOAD))
    ]  # fmt: skip
    identifier = unique_identifier(WORKLOAD).encode()
    assert bytes.fromhex("0603550 42d".replace(" ", "")) + b"\x13\x20" + identifier in leaf.public_bytes(Encoding.DER)
    agent = await ca.signer.sign_agent(requester.csr(), AGENT)
    assert "2.5.4.45" not in common_name(agent.chain[0])


class Doing(CredentialComposer):
    """Does to a workload's SVID what a test says."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        self.change = change

    def workload_svid(self, spiffe_id: SpiffeID, attributes: X509Attributes) -> X509Attributes:
        return self.change(attributes)  # type: ignore[no-any-return]

    def workload_jwt_svid(self, spiffe_id: SpiffeID, claims: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.change(claims)  # type: ignore[no-any-return]


def _with(**changes: Any) -> Callable[[Any], Any]:
    return lambda attributes: replace(attributes, **changes)


_USAGE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
_SAN = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://example.org/admin")])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: None, "answered with NoneType"),
        (lambda a: (a.subject, a.dns_names), "answered with tuple"),
        (lambda a: 1 / 0, "failed"),
        (_with(subject="CN=x"), "made a subject that is none"),
        (_with(subject=x509.Name([x509.NameAttribute(PRIVATE, "x" * 5000)])), "longer than 4096"),
        (lambda a: replace(a, not_after=a.not_after + timedelta(seconds=1)), "is the latest"),
        (lambda a: replace(a, not_after=a.not_after.replace(tzinfo=None)), "is the latest"),
        (lambda a: replace(a, not_after=a.not_after - timedelta(hours=2)), "before the beginning"),
        (_with(dns_names=("a b",)), "made a DNS name that is none"),
        (_with(dns_names=("*.test", "a.test")), "made a DNS name that is none"),
        (_with(dns_names=tuple(f"n{at}.test" for at in range(1001))), "made 1001 DNS names"),
        (_with(extensions=(x509.Extension(_SAN.oid, False, _SAN),)), "may not set the extension"),
        (_with(extensions=(x509.Extension(_USAGE.oid, False, _USAGE),)), "may not set the extension"),
        (_with(extensions=("x",)), "may not set the extension"),
        (_with(extensions=(_extension(PRIVATE, b"x", critical=True),)), "which verifiers refuse"),
        (_with(extensions=(_extension(PRIVATE, b"x"),) * 2), "twice"),
        (_with(extensions=(_extension(PRIVATE, b"x" * 20000),)), "made extensions of 20000 bytes"),
    ],
    ids=range(17),
)
async def test_an_x509_svid_beyond_bounds_is_not_signed(
    store: SQLStore, clock: Any, requester: Any, change: Any, words: str
) -> None:
    ca = CA(store, clock, Doing(change))
    await ca.rotator.start()
    with pytest.raises(Internal, match=words):
        await ca.leaf(requester.csr())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: None, "answered with NoneType"),
        (lambda c: 1 / 0, "failed"),
        (lambda c: {**c, "sub": "spiffe://example.org/admin"}, "changed the claim 'sub'"),
        (lambda c: {k: v for k, v in c.items() if k != "sub"}, "changed the claim 'sub'"),
        (lambda c: {**c, "aud": [*c["aud"], "b"]}, "changed the claim 'aud'"),
        (lambda c: {**c, "iat": c["iat"] - 1}, "changed the claim 'iat'"),
        (lambda c: {**c, "iss": "you"}, "changed the claim 'iss'"),
        (lambda c: {**c, "exp": c["exp"] + 1}, "is the latest"),
        (lambda c: {**c, "exp": float(c["exp"])}, "is the latest"),
        (lambda c: {**c, "exp": True}, "is the latest"),
        (lambda c: {**c, "exp": c["iat"]}, "is the latest"),
        (lambda c: {k: v for k, v in c.items() if k != "exp"}, "is the latest"),
        (lambda c: {**c, "nbf": c["exp"]}, "asked for a beginning"),
        (lambda c: {**c, "x": object()}, "claims that are no JSON"),
        (lambda c: {**c, "x": float("nan")}, "claims that are no JSON"),
        (lambda c: {**c, "x": "y" * 20000}, "is the most"),
    ],
    ids=range(16),
)
async def test_a_jwt_svid_beyond_bounds_is_not_signed(store: SQLStore, clock: Any, change: Any, words: str) -> None:
    ca = CA(store, clock, Doing(change))
    await ca.rotator.start()
    with pytest.raises(Internal, match=words):
        await ca.tokens.sign_jwt(JWTRequest(WORKLOAD, ("a",)))


async def test_claims_given_to_a_composer_are_a_copy(store: SQLStore, clock: Any) -> None:
    def spoil(claims: dict[str, Any]) -> dict[str, Any]:
        copy = {**claims, "aud": list(claims["aud"])}
        claims["aud"].append("spoiled")
        claims["sub"] = "spoiled"
        return copy

    ca = CA(store, clock, Doing(spoil))
    await ca.rotator.start()
    claims = _claims((await ca.tokens.sign_jwt(JWTRequest(WORKLOAD, ("a",)))).token)
    assert (claims["sub"], claims["aud"]) == (str(WORKLOAD), ["a"])


def _entry_point(value: str) -> Any:
    return composer_registry._loaded_later(EntryPoint("mine", value, composer_registry.GROUP))


def test_composers_of_other_packages() -> None:
    made = _entry_point("icp_server.domain.composer:CredentialComposer")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        made(Fields((), "data"))  # the class takes no settings; what is named must be a function that reads them
    with pytest.raises(ConfigurationError, match=r"cannot be loaded \(no_such_module:read\)"):
        _entry_point("no_such_module:read")(Fields((), "data"))
    with pytest.raises(ConfigurationError, match="gives no CredentialComposer"):
        _entry_point("builtins:repr")(Fields((), "data"))
    assert "uniqueid" in composer_registry.known_composers()
