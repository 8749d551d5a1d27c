import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import InvalidBundleError, InvalidSpiffeIDError, InvalidX509SVIDError, SpiffeError
from authsec_sdk.jose.fault import InvalidTokenError
from authsec_sdk.proto.spire import types_pb2
from authsec_sdk.spiffe import SpiffeID, TrustBundle, TrustDomain
from authsec_sdk.spire import wire
from authsec_sdk.spire.agents import Agent, JoinToken
from authsec_sdk.spire.entries import (
    AuthorizedEntry,
    EntryRevision,
    InvalidEntryError,
    RegistrationEntry,
)
from authsec_sdk.spire.selectors import InvalidSelectorError, Selector
from authsec_sdk.spire.svids import IssuedToken, IssuedX509SVID
from authsec_sdk.spire.tainted import PublishedBundle, TaintedAuthorities

HOME = TrustDomain("example.org")
CURVE = ec.SECP256R1()


@cache
def certificate(name: str) -> x509.Certificate:
    key = ec.generate_private_key(CURVE)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
        .sign(key, SHA256())
    )


@cache
def public_key(name: str) -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(CURVE).public_key()


words = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=10).filter(
    lambda text: text not in (".", "..")
)
trust_domains = words.map(TrustDomain)
ids = st.builds(lambda td, parts: SpiffeID.from_segments(td, *parts), trust_domains, st.lists(words, max_size=3))
selectors = st.builds(Selector, words, st.text(min_size=1, max_size=10))
int32 = st.integers(-(1 << 31), (1 << 31) - 1)
int64 = st.integers(-(1 << 63), (1 << 63) - 1)
texts = st.text(max_size=10)
entries = st.builds(
    RegistrationEntry,
    id=texts,
    spiffe_id=ids,
    parent_id=ids,
    selectors=st.lists(selectors, max_size=4).map(tuple),
    x509_svid_ttl=int32,
    jwt_svid_ttl=int32,
    federates_with=st.lists(trust_domains, max_size=3).map(tuple),
    admin=st.booleans(),
    downstream=st.booleans(),
    expires_at=int64,
    dns_names=st.lists(texts, max_size=3).map(tuple),
    revision_number=int64,
    store_svid=st.booleans(),
    hint=texts,
    created_at=int64,
    disable_x509_svid_prefetch=st.booleans(),
    jwt_svid_include_jti=st.booleans(),
)
certificates = st.sampled_from("abc").map(certificate)
keys = st.dictionaries(words, st.sampled_from("xyz").map(public_key), max_size=3)


@given(entries)
def test_entries_survive_the_wire(entry: RegistrationEntry) -> None:
    sent = types_pb2.Entry.FromString(wire.entry_to_wire(entry).SerializeToString())
    assert wire.entry_from_wire(sent) == entry


@given(entries.filter(lambda entry: bool(entry.id and entry.selectors)))
def test_agents_read_what_their_mask_lets_through(entry: RegistrationEntry) -> None:
    message = wire.entry_to_wire(entry, wire.AUTHORIZED_ENTRY_MASK)
    assert not message.HasField("parent_id")
    assert not message.dns_names
    assert wire.authorized_entry_from_wire(message, entry.spiffe_id.trust_domain) == AuthorizedEntry.of(entry)


@given(ids)
def test_ids_survive_the_wire(spiffe_id: SpiffeID) -> None:
    assert wire.spiffe_id_from_wire(wire.spiffe_id_to_wire(spiffe_id)) == spiffe_id


@given(
    st.builds(
        Agent,
        id=ids,
        attestation_type=texts,
        serial_number=texts,
        expires_at=int64,
        selectors=st.lists(selectors, max_size=3).map(tuple),
        banned=st.booleans(),
        can_reattest=st.booleans(),
        agent_version=texts,
    )
)
def test_agents_survive_the_wire(agent: Agent) -> None:
    assert wire.agent_from_wire(wire.agent_to_wire(agent)) == agent


@given(texts, int64)
def test_tokens_and_revisions_survive_the_wire(text: str, number: int) -> None:
    token, revision = JoinToken(text, number), EntryRevision(text, number, -1)
    assert wire.join_token_from_wire(wire.join_token_to_wire(token)) == token
    assert wire.revision_from_wire(wire.revision_to_wire(revision)) == revision


@given(st.builds(IssuedX509SVID, ids, st.lists(certificates, min_size=1, max_size=3).map(tuple), int64, texts))
def test_svids_survive_the_wire(svid: IssuedX509SVID) -> None:
    assert wire.svid_from_wire(wire.svid_to_wire(svid)) == svid


@given(
    trust_domains,
    st.lists(certificates, max_size=3),
    keys,
    st.integers(0, (1 << 64) - 1),
    st.one_of(st.none(), st.integers(1, 1 << 30).map(lambda seconds: timedelta(seconds=seconds))),
)
def test_bundles_survive_the_wire(
    trust_domain: TrustDomain,
    authorities: list[x509.Certificate],
    jwt: dict[str, ec.EllipticCurvePublicKey],
    sequence: int,
    hint: timedelta | None,
) -> None:
    wit = {f"wit-{key_id}~": key for key_id, key in jwt.items()}
    bundle = TrustBundle(trust_domain, tuple(authorities), jwt, wit, sequence, hint)
    message = types_pb2.Bundle.FromString(wire.bundle_to_wire(bundle).SerializeToString())
    assert wire.bundle_from_wire(message) == bundle
    assert not wire.tainted_from_wire(message)


def test_masks_let_through_what_they_name() -> None:
    bundle = TrustBundle(HOME, (certificate("a"),), {"k": public_key("x")}, {}, 3, timedelta(seconds=60))
    message = wire.bundle_to_wire(bundle, types_pb2.BundleMask(sequence_number=True))
    assert message == types_pb2.Bundle(trust_domain="example.org", sequence_number=3)
    assert wire.bundle_to_wire(bundle, types_pb2.BundleMask()) == types_pb2.Bundle(trust_domain="example.org")
    agent = Agent(id=SpiffeID.parse("spiffe://example.org/spire/agent/a/b"), attestation_type="a", banned=True)
    masked = wire.agent_to_wire(agent, types_pb2.AgentMask(banned=True))
    assert masked == types_pb2.Agent(id=wire.spiffe_id_to_wire(agent.id), banned=True)


def test_an_empty_entry_mask_lets_only_the_id_through(make_entry: Callable[..., RegistrationEntry]) -> None:
    entry = make_entry(id="e", hint="h", jwt_svid_include_jti=True)
    assert wire.entry_to_wire(entry, types_pb2.EntryMask()) == types_pb2.Entry(id="e")


def test_attributes_nobody_set_are_absent(make_entry: Callable[..., RegistrationEntry]) -> None:
    assert not wire.entry_to_wire(make_entry()).HasField("additional_attributes")
    assert wire.entry_to_wire(make_entry(jwt_svid_include_jti=True)).HasField("additional_attributes")


@pytest.fixture
def message(make_entry: Callable[..., RegistrationEntry]) -> types_pb2.Entry:
    return wire.entry_to_wire(make_entry(id="e"))


@pytest.mark.parametrize(
    ("break_it", "text"),
    [
        (lambda m: m.ClearField("parent_id"), "invalid parent ID: request must specify SPIFFE ID"),
        (lambda m: m.ClearField("spiffe_id"), "invalid spiffe ID: request must specify SPIFFE ID"),
        (lambda m: setattr(m.parent_id, "path", "no-slash"), "invalid parent ID: "),
        (lambda m: setattr(m.spiffe_id, "trust_domain", "Upper"), "invalid spiffe ID: "),
        (lambda m: setattr(m.spiffe_id, "trust_domain", "other.org"), "invalid spiffe ID: "),
        (lambda m: setattr(m.spiffe_id, "path", "/spire/x"), "path is in the reserved namespace"),
        (lambda m: m.dns_names.append("a..b"), "invalid DNS name: "),
        (lambda m: m.federates_with.append("spiffe://A"), "invalid federated trust domain: "),
        (lambda m: m.ClearField("selectors"), "selector list is empty"),
        (lambda m: m.selectors.add(type="", value="x"), "missing selector type"),
        (lambda m: m.selectors.add(type="a:b", value="x"), "selector type contains ':'"),
        (lambda m: m.selectors.add(type="a", value=""), "missing selector value"),
        (lambda m: setattr(m, "hint", "h" * 1025), "hint is too long, max length is 1024 characters"),
    ],
)
def test_a_new_entry_that_breaks_a_rule_is_refused(
    message: types_pb2.Entry, break_it: Callable[[types_pb2.Entry], None], text: str
) -> None:
    wire.new_entry_from_wire(message, HOME)
    break_it(message)
    with pytest.raises(InvalidEntryError) as caught:
        wire.new_entry_from_wire(message, HOME)
    assert text in str(caught.value)


def test_a_new_entry_cannot_choose_its_revision_or_age(message: types_pb2.Entry) -> None:
    message.revision_number, message.created_at = 9, 9
    entry = wire.new_entry_from_wire(message, HOME)
    assert (entry.revision_number, entry.created_at) == (0, 0)


def test_federation_takes_names_and_ids(message: types_pb2.Entry) -> None:
    message.federates_with.extend(["one.org", "spiffe://two.org"])
    assert wire.new_entry_from_wire(message, HOME).federates_with == (TrustDomain("one.org"), TrustDomain("two.org"))


def test_a_masked_update_needs_no_other_field_and_looks_at_none() -> None:
    message = types_pb2.Entry(id="e", hint="new", dns_names=["..."])
    changes = wire.entry_changes_from_wire(message, HOME, types_pb2.EntryMask(hint=True, admin=True))
    assert (changes.id, changes.hint, changes.admin) == ("e", "new", False)
    assert changes.spiffe_id is None
    assert changes.selectors is None
    assert changes.dns_names is None
    assert changes.jwt_svid_include_jti is None


def test_an_update_without_mask_replaces_all(make_entry: Callable[..., RegistrationEntry]) -> None:
    old = make_entry(id="e", hint="old", admin=True, jwt_svid_include_jti=True, revision_number=4)
    changes = wire.entry_changes_from_wire(wire.entry_to_wire(make_entry(id="e")), HOME, None)
    assert changes.apply_to(old) == make_entry(id="e", revision_number=4)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda m: setattr(m, "id", ""),
        lambda m: setattr(m.spiffe_id, "trust_domain", "other.org"),
        lambda m: m.ClearField("spiffe_id"),
        lambda m: m.ClearField("selectors"),
        lambda m: m.selectors.add(type="", value=""),
        lambda m: m.federates_with.append(""),
    ],
)
def test_an_agent_refuses_entries_it_could_not_use(
    message: types_pb2.Entry, break_it: Callable[[types_pb2.Entry], None]
) -> None:
    wire.authorized_entry_from_wire(message, HOME)
    break_it(message)
    with pytest.raises(InvalidEntryError):
        wire.authorized_entry_from_wire(message, HOME)


@pytest.mark.parametrize(
    ("trust_domain", "path"), [("", ""), ("", "/a"), ("A", "/a"), ("a", "a"), ("a", "/"), ("a", "/../b"), ("a", "/%41")]
)
def test_wrong_ids_are_refused(trust_domain: str, path: str) -> None:
    with pytest.raises(InvalidSpiffeIDError):
        wire.spiffe_id_from_wire(types_pb2.SPIFFEID(trust_domain=trust_domain, path=path))


def test_wrong_selectors_of_an_agent_are_refused() -> None:
    agent = types_pb2.Agent(id=types_pb2.SPIFFEID(trust_domain="a", path="/b"))
    agent.selectors.add(type="x")
    with pytest.raises(InvalidSelectorError):
        wire.agent_from_wire(agent)


@pytest.mark.parametrize("chain", [[], [b""], [b"junk"], ["good", b"junk"]])
def test_wrong_chains_are_refused(chain: list[object]) -> None:
    good = certificate("a").public_bytes(Encoding.DER)
    ders = [good if der == "good" else der for der in chain]
    message = types_pb2.X509SVID(cert_chain=ders, id=types_pb2.SPIFFEID(trust_domain="a", path="/b"))  # type: ignore[arg-type]
    with pytest.raises(InvalidX509SVIDError):
        wire.svid_from_wire(message)


def spki(key: ec.EllipticCurvePublicKey | x25519.X25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda b: b.x509_authorities.add(asn1=b""),
        lambda b: b.x509_authorities.add(asn1=b"junk"),
        lambda b: b.x509_authorities.add(asn1=certificate("a").public_bytes(Encoding.DER)[:-1]),
        lambda b: b.jwt_authorities.add(public_key=spki(public_key("x"))),
        lambda b: b.jwt_authorities.add(key_id="k", public_key=b""),
        lambda b: b.jwt_authorities.add(key_id="k", public_key=spki(x25519.X25519PrivateKey.generate().public_key())),
        lambda b: [b.jwt_authorities.add(key_id="k", public_key=spki(public_key("x"))) for _ in "12"],
        lambda b: [
            b.jwt_authorities.add(key_id="k", public_key=spki(public_key("x"))),
            b.wit_authorities.add(key_id="k", public_key=spki(public_key("x"))),
        ],
        lambda b: setattr(b, "refresh_hint", -1),
    ],
)
def test_wrong_bundles_are_refused(break_it: Callable[[types_pb2.Bundle], None]) -> None:
    message = types_pb2.Bundle(trust_domain="example.org")
    wire.bundle_from_wire(message)
    break_it(message)
    with pytest.raises(InvalidBundleError):
        wire.bundle_from_wire(message)


def test_a_bundle_without_trust_domain_is_refused() -> None:
    with pytest.raises(InvalidSpiffeIDError):
        wire.bundle_from_wire(types_pb2.Bundle())


def test_an_endless_refresh_hint_is_only_long() -> None:
    assert wire.bundle_from_wire(types_pb2.Bundle(trust_domain="a", refresh_hint=(1 << 63) - 1)).refresh_hint


def test_tainted_authorities_verify_and_are_told_apart() -> None:
    message = types_pb2.Bundle(trust_domain="example.org")
    for name in "ab":
        message.x509_authorities.add(asn1=certificate(name).public_bytes(Encoding.DER), tainted=name == "b")
        message.jwt_authorities.add(key_id=name, public_key=spki(public_key(name)), tainted=name == "b")
    assert len(wire.bundle_from_wire(message).x509_authorities) == 2
    tainted = wire.tainted_from_wire(message)
    assert tainted
    assert tainted.x509_authorities == (certificate("b"),)
    assert tainted.jwt_key_ids == {"b"}


def test_a_published_bundle_keeps_its_marks_over_the_wire() -> None:
    keys = {"j": public_key("j"), "k": public_key("k")}
    bundle = TrustBundle(HOME, (certificate("a"), certificate("b")), keys, {"w": public_key("w")}, 7)
    tainted = TaintedAuthorities((certificate("b"),), frozenset({"k"}), frozenset({"w"}))
    published = PublishedBundle(bundle, tainted, {"j": 10, "k": 20, "w": 30})
    message = types_pb2.Bundle.FromString(wire.published_to_wire(published).SerializeToString())
    assert [each.tainted for each in message.x509_authorities] == [False, True]
    assert wire.published_from_wire(message) == published
    assert wire.published_to_wire(published, types_pb2.BundleMask()) == types_pb2.Bundle(trust_domain="example.org")


@given(
    st.text(min_size=1).filter(lambda text: text.isascii()), st.integers(1, 1 << 40), st.integers(1, 1 << 40), st.text()
)
def test_tokens_survive_the_wire(token: str, issued: int, expires: int, hint: str) -> None:
    svid = IssuedToken(SpiffeID.parse("spiffe://example.org/a/b"), token, issued, expires, hint)
    jwt = types_pb2.JWTSVID.FromString(wire.jwt_svid_to_wire(svid).SerializeToString())
    wit = types_pb2.WITSVID.FromString(wire.wit_svid_to_wire(svid).SerializeToString())
    assert wire.token_from_wire(jwt) == svid == wire.token_from_wire(wit)


@pytest.mark.parametrize("wrong", [{"token": ""}, {"expires_at": 0}, {"issued_at": -1}, {"id": types_pb2.SPIFFEID()}])
def test_a_token_without_what_the_agent_needs_is_refused(wrong: dict[str, Any]) -> None:
    whole: dict[str, Any] = {
        "token": "t",
        "id": types_pb2.SPIFFEID(trust_domain="a", path="/b"),
        "expires_at": 2,
        "issued_at": 1,
    }
    assert wire.token_from_wire(types_pb2.JWTSVID(**whole)).token == "t"
    with pytest.raises(InvalidTokenError):
        wire.token_from_wire(types_pb2.JWTSVID(**{**whole, **wrong}))


def test_an_issued_token_is_not_shown_and_not_pickled() -> None:
    svid = IssuedToken(SpiffeID.parse("spiffe://example.org/a"), "s3cret-token", 1, 2)
    assert "s3cret" not in repr(svid)
    with pytest.raises(TypeError):
        pickle.dumps(svid)


def test_a_join_token_is_not_shown() -> None:
    assert "s3cret" not in repr(JoinToken("s3cret", 1))


@given(st.binary(max_size=200), st.sampled_from(["Entry", "Agent", "Bundle", "X509SVID", "SPIFFEID"]))
def test_any_message_is_read_or_refused(data: bytes, kind: str) -> None:
    readers: dict[str, Callable[..., object]] = {
        "Entry": lambda m: wire.new_entry_from_wire(m, HOME),
        "Agent": wire.agent_from_wire,
        "Bundle": wire.bundle_from_wire,
        "X509SVID": wire.svid_from_wire,
        "SPIFFEID": wire.spiffe_id_from_wire,
    }
    from google.protobuf.message import DecodeError

    try:
        message = getattr(types_pb2, kind).FromString(data)
    except DecodeError:
        return
    try:
        readers[kind](message)
    except SpiffeError:
        return
