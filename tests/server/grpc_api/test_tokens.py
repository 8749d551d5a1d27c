"""Tokens over real sockets: minted and for entries, what is refused in which words, and what is switched off."""

import logging
from typing import Any

import grpclib.client
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsec_sdk.proto.spire import (
    agent_grpc,
    agent_pb2,
    bundle_grpc,
    bundle_pb2,
    entry_grpc,
    entry_pb2,
    localauthority_grpc,
    localauthority_pb2,
    svid_grpc,
    svid_pb2,
    types_pb2,
)
from authsec_sdk.rpc import GRPCError, Status
from authsec_sdk.spiffe import JWTSVID, X509SVID, BundleSet, TrustBundle
from authsec_sdk.spire.wire import bundle_from_wire
from icp_server.config.model import RateLimitSwitches, Tokens

pytestmark = pytest.mark.anyio
KEY = ec.generate_private_key(ec.SECP256R1())


def spki(key: Any = KEY) -> bytes:
    der: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


def an_id(path: str = "/web", trust_domain: str = "example.org") -> types_pb2.SPIFFEID:
    return types_pb2.SPIFFEID(trust_domain=trust_domain, path=path)


async def entry(live: Any, entry_id: str, path: str, **fields: Any) -> None:
    made = types_pb2.Entry(
        id=entry_id,
        spiffe_id=an_id(path),
        parent_id=an_id(fields.pop("parent", "/node")),
        selectors=[types_pb2.Selector(type="unix", value="uid:1")],
        **fields,
    )
    answer = await entry_grpc.EntryStub(live.admin).BatchCreateEntry(entry_pb2.BatchCreateEntryRequest(entries=[made]))
    assert answer.results[0].status.code == 0


async def agent(live: Any) -> svid_grpc.SVIDStub:
    return svid_grpc.SVIDStub(await live.caller(await live.attest()))


async def bundle(live: Any) -> TrustBundle:
    return bundle_from_wire(await bundle_grpc.BundleStub(live.admin).GetBundle(bundle_pb2.GetBundleRequest()))


async def refusal(call: Any) -> tuple[Status, str]:
    with pytest.raises(GRPCError) as caught:
        await call
    return Status(caught.value.status), caught.value.message or ""


async def test_a_minted_jwt_svid_verifies_with_the_published_key(live: Any) -> None:
    stub = svid_grpc.SVIDStub(live.admin)
    request = svid_pb2.MintJWTSVIDRequest(id=an_id(), audience=["b", "", "a"], ttl=60)
    svid = (await stub.MintJWTSVID(request)).svid
    assert svid.id == an_id()
    assert svid.expires_at - svid.issued_at == 60
    published = await bundle(live)
    read = JWTSVID.parse_and_validate(
        svid.token, BundleSet.of(published.jwt_bundle()), ["a"], now=JWTSVID.unsafe_parse(svid.token).issued_at
    )
    assert (str(read.id), read.audience) == ("spiffe://example.org/web", ("b", "a"))


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"id": an_id()}, Status.INVALID_ARGUMENT, "at least one audience is required"),
        (
            {"id": an_id(), "audience": [""]},
            Status.INTERNAL,
            "failed to sign JWT-SVID: invalid JWT-SVID audience: cannot be empty",
        ),
        ({"audience": ["a"]}, Status.INVALID_ARGUMENT, "invalid SPIFFE ID: request must specify SPIFFE ID"),
        (
            {"id": an_id(""), "audience": ["a"]},
            Status.INVALID_ARGUMENT,
            'invalid SPIFFE ID: "spiffe://example.org" is not a workload in trust domain "example.org"; path is empty',
        ),
        (
            {"id": an_id("/web", "other.org"), "audience": ["a"]},
            Status.INVALID_ARGUMENT,
            'invalid SPIFFE ID: "spiffe://other.org/web" is not a member of trust domain "example.org"',
        ),
        (
            {"id": an_id("/spire/agent/x"), "audience": ["a"]},
            Status.INVALID_ARGUMENT,
            'invalid SPIFFE ID: "spiffe://example.org/spire/agent/x" is not a workload in trust domain',
        ),
        ({"id": an_id("web"), "audience": ["a"]}, Status.INVALID_ARGUMENT, "invalid SPIFFE ID: "),
    ],
)
async def test_what_is_not_minted(live: Any, fields: dict[str, Any], status: Status, words: str) -> None:
    call = svid_grpc.SVIDStub(live.admin).MintJWTSVID(svid_pb2.MintJWTSVIDRequest(**fields))
    found, message = await refusal(call)
    assert found is status
    assert message.startswith(words)


async def test_an_agent_gets_jwt_svids_of_its_entries_alone(live: Any) -> None:
    stub = await agent(live)
    await entry(live, "mine", "/web", jwt_svid_ttl=77, hint="h")
    attributes = types_pb2.Entry.AdditionalAttributes(jwt_svid_include_jti=True)
    await entry(live, "tracked", "/tracked", additional_attributes=attributes)
    await entry(live, "foreign", "/other", parent="/elsewhere")
    svid = (await stub.NewJWTSVID(svid_pb2.NewJWTSVIDRequest(entry_id="mine", audience=["x"]))).svid
    assert svid.expires_at - svid.issued_at == 77
    assert svid.id == an_id("/web")
    assert "jti" not in JWTSVID.unsafe_parse(svid.token).claims
    svid = (await stub.NewJWTSVID(svid_pb2.NewJWTSVIDRequest(entry_id="tracked", audience=["x"]))).svid
    assert "jti" in JWTSVID.unsafe_parse(svid.token).claims
    for entry_id in ("foreign", "unknown", ""):
        call = stub.NewJWTSVID(svid_pb2.NewJWTSVIDRequest(entry_id=entry_id, audience=["x"]))
        assert await refusal(call) == (Status.NOT_FOUND, "entry not found or not authorized")
    no_audience = await refusal(stub.NewJWTSVID(svid_pb2.NewJWTSVIDRequest(entry_id="mine")))
    assert no_audience == (Status.INVALID_ARGUMENT, "at least one audience is required")
    empty = await refusal(stub.NewJWTSVID(svid_pb2.NewJWTSVIDRequest(entry_id="mine", audience=[""])))
    assert empty[0] is Status.INTERNAL


async def test_what_is_signed_is_audited_and_no_token_is_logged(
    start_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "icp_server")
    caplog.set_level(logging.DEBUG, "authsec_sdk")
    live = await start_server(audit_log_enabled=True, tokens=Tokens(wit=True))
    admin = svid_grpc.SVIDStub(live.admin)
    minted = (await admin.MintJWTSVID(svid_pb2.MintJWTSVIDRequest(id=an_id(), audience=["x", "y"], ttl=60))).svid
    wit = svid_pb2.MintWITSVIDRequest(id=an_id(), public_key=spki(), signing_algorithm="ES256")
    bound = (await admin.MintWITSVID(wit)).svid
    stub = await agent(live)
    await entry(live, "mine", "/web")
    new = (await stub.NewJWTSVID(svid_pb2.NewJWTSVIDRequest(entry_id="mine", audience=["z"]))).svid
    local = localauthority_grpc.LocalAuthorityStub(live.admin)
    prepared = await local.PrepareJWTAuthority(localauthority_pb2.PrepareJWTAuthorityRequest())
    await refusal(local.TaintJWTAuthority(localauthority_pb2.TaintJWTAuthorityRequest(authority_id="nope")))
    lines = {
        method: next(line for line in caplog.messages if "type=audit" in line and f"method={method} " in f"{line} ")
        for method in ("MintJWTSVID", "MintWITSVID", "NewJWTSVID", "PrepareJWTAuthority", "TaintJWTAuthority")
    }
    for part in ("audience=", "x,y", "spiffe_id=", "spiffe://example.org/web", "ttl=60", "expires_at="):
        assert part in lines["MintJWTSVID"]
    assert "entry_id=mine" in lines["NewJWTSVID"]
    assert prepared.prepared_authority.authority_id in lines["PrepareJWTAuthority"]
    assert "status_code=InvalidArgument" in lines["TaintJWTAuthority"]
    for token in (minted.token, bound.token, new.token):
        assert token.rpartition(".")[2] not in caplog.text


async def test_jwt_svids_that_are_switched_off_answer_as_upstream(start_server: Any) -> None:
    live = await start_server(tokens=Tokens(jwt=False))
    local = localauthority_grpc.LocalAuthorityStub(live.admin)
    stub = await agent(live)
    for call in (
        svid_grpc.SVIDStub(live.admin).MintJWTSVID(svid_pb2.MintJWTSVIDRequest()),
        stub.NewJWTSVID(svid_pb2.NewJWTSVIDRequest()),
        local.GetJWTAuthorityState(localauthority_pb2.GetJWTAuthorityStateRequest()),
        local.PrepareJWTAuthority(localauthority_pb2.PrepareJWTAuthorityRequest()),
        local.ActivateJWTAuthority(localauthority_pb2.ActivateJWTAuthorityRequest()),
        local.TaintJWTAuthority(localauthority_pb2.TaintJWTAuthorityRequest()),
        local.RevokeJWTAuthority(localauthority_pb2.RevokeJWTAuthorityRequest()),
    ):
        assert await refusal(call) == (Status.UNIMPLEMENTED, "JWT functionality is disabled")
    assert not (await bundle(live)).jwt_authorities


async def test_wit_svids_are_off_unless_the_flag_is_on(live: Any) -> None:
    local = localauthority_grpc.LocalAuthorityStub(live.admin)
    mint = svid_grpc.SVIDStub(live.admin).MintWITSVID(svid_pb2.MintWITSVIDRequest())
    assert await refusal(mint) == (Status.UNIMPLEMENTED, "WIT functionality is disabled")
    for call in (
        local.GetWITAuthorityState(localauthority_pb2.GetWITAuthorityStateRequest()),
        local.PrepareWITAuthority(localauthority_pb2.PrepareWITAuthorityRequest()),
        local.ActivateWITAuthority(localauthority_pb2.ActivateWITAuthorityRequest()),
        local.TaintWITAuthority(localauthority_pb2.TaintWITAuthorityRequest()),
        local.RevokeWITAuthority(localauthority_pb2.RevokeWITAuthorityRequest()),
    ):
        assert await refusal(call) == (Status.UNIMPLEMENTED, "WIT-SVID functionality is not yet implemented")
    stub = await agent(live)
    await entry(live, "mine", "/web")
    params = [svid_pb2.NewWITSVIDParams(entry_id="mine", public_key=spki(), signing_algorithm="ES256")]
    [result] = (await stub.BatchNewWITSVID(svid_pb2.BatchNewWITSVIDRequest(params=params))).results
    assert (result.status.code, result.status.message) == (
        Status.INTERNAL.value,
        "failed to sign WIT-SVID: WIT key is not available for signing",
    )


WRONG_CONFIRMATIONS = [
    (spki(), "", "invalid signing algorithm or key type: unsupported signing algorithm for ec-p256 key: "),
    (spki(), "RS256", "invalid signing algorithm or key type: unsupported signing algorithm for ec-p256 key: RS256"),
    (spki(), "EdDSA", "invalid signing algorithm or key type: unsupported signing algorithm for ec-p256 key: EdDSA"),
    (
        spki(rsa.generate_private_key(65537, 2048)),
        "ES256",
        "invalid signing algorithm or key type: unsupported signing algorithm for rsa-2048 key: ES256",
    ),
    (spki(x25519.X25519PrivateKey.generate()), "ES256", " public key: no key of a kind that signs tokens"),
    (b"junk", "ES256", " public key: "),
    (b"\0" * 5000, "ES256", " public key: longer than 4096 bytes"),
]


@pytest.mark.parametrize(("public_key", "algorithm", "words"), WRONG_CONFIRMATIONS, ids=map(str, range(7)))
async def test_what_no_wit_svid_is_bound_to(start_server: Any, public_key: bytes, algorithm: str, words: str) -> None:
    live = await start_server(tokens=Tokens(wit=True))
    mint = svid_pb2.MintWITSVIDRequest(id=an_id(), public_key=public_key, signing_algorithm=algorithm)
    status, message = await refusal(svid_grpc.SVIDStub(live.admin).MintWITSVID(mint))
    assert status is Status.INVALID_ARGUMENT
    assert message.removeprefix("invalid").startswith(words.removeprefix("invalid"))
    stub = await agent(live)
    await entry(live, "mine", "/web")
    params = [svid_pb2.NewWITSVIDParams(entry_id="mine", public_key=public_key, signing_algorithm=algorithm)]
    [result] = (await stub.BatchNewWITSVID(svid_pb2.BatchNewWITSVIDRequest(params=params))).results
    assert result.status.code == Status.INVALID_ARGUMENT.value
    assert (
        result.status.message.removeprefix("malformed")
        .removeprefix("invalid")
        .startswith(words.removeprefix("invalid"))
    )


async def test_each_wit_svid_of_a_batch_has_an_outcome_of_its_own(start_server: Any) -> None:
    live = await start_server(tokens=Tokens(wit=True))
    stub = await agent(live)
    await entry(live, "mine", "/web", x509_svid_ttl=88)
    await entry(live, "foreign", "/other", parent="/elsewhere")
    right = {"public_key": spki(), "signing_algorithm": "ES256"}
    params = [
        svid_pb2.NewWITSVIDParams(entry_id="mine", **right),
        svid_pb2.NewWITSVIDParams(entry_id="foreign", **right),
        svid_pb2.NewWITSVIDParams(**right),
        svid_pb2.NewWITSVIDParams(entry_id="mine", signing_algorithm="ES256"),
    ]
    results = (await stub.BatchNewWITSVID(svid_pb2.BatchNewWITSVIDRequest(params=params))).results
    assert [(result.status.code, result.status.message) for result in results] == [
        (0, "OK"),  # upstream leaves it out
        (5, "entry not found or not authorized"),
        (3, "missing entry ID"),
        (3, "missing public key"),
    ]
    assert results[0].svid.expires_at - results[0].svid.issued_at == 88
    assert await refusal(stub.BatchNewWITSVID(svid_pb2.BatchNewWITSVIDRequest())) == (
        Status.INVALID_ARGUMENT,
        "missing parameters",
    )


async def test_too_many_wit_svids_are_refused_whole(start_server: Any) -> None:
    live = await start_server(rate_limits=RateLimitSwitches(attestation=False, signing=True))
    request = svid_pb2.BatchNewWITSVIDRequest(params=[svid_pb2.NewWITSVIDParams()] * 501)
    assert await refusal((await agent(live)).BatchNewWITSVID(request)) == (
        Status.RESOURCE_EXHAUSTED,
        "rejecting request due to WIT signing request rate limiting: rate (501) exceeds burst size (500)",
    )


async def downstream(live: Any) -> Any:
    await entry(live, "down", "/down", downstream=True, x509_svid_ttl=60)
    return await live.caller(await live.mint("/down"))


@pytest.mark.parametrize("uri", ["spiffe://example.org", "spiffe://other.org", "spiffe://example.org/x", ""])
async def test_a_downstream_server_gets_a_ca_of_the_trust_domain(live: Any, uri: str) -> None:
    """Whatever its CSR names: only the key counts."""
    stub = svid_grpc.SVIDStub(await downstream(live))
    answer = await stub.NewDownstreamX509CA(svid_pb2.NewDownstreamX509CARequest(csr=live.csr(uri=uri)))
    [der] = answer.ca_cert_chain
    [root] = [x509.load_der_x509_certificate(each) for each in answer.x509_authorities]
    authority = x509.load_der_x509_certificate(der)
    authority.verify_directly_issued_by(root)
    names = authority.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org"]
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    [unit] = authority.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert unit.value == "DOWNSTREAM-1"
    assert authority.not_valid_after_utc == root.not_valid_after_utc


@pytest.mark.parametrize(("ttl", "lasts"), [(30, 40), (-30, None), (10**9, None)])
async def test_a_downstream_ca_ends_with_ours_at_the_latest(live: Any, ttl: int, lasts: int | None) -> None:
    stub = svid_grpc.SVIDStub(await downstream(live))
    answer = await stub.NewDownstreamX509CA(svid_pb2.NewDownstreamX509CARequest(csr=live.csr(), preferred_ttl=ttl))
    authority = x509.load_der_x509_certificate(answer.ca_cert_chain[0])
    if lasts is None:
        root = x509.load_der_x509_certificate(answer.x509_authorities[0])
        assert authority.not_valid_after_utc == root.not_valid_after_utc
    else:
        assert (authority.not_valid_after_utc - authority.not_valid_before_utc).total_seconds() == lasts


@pytest.mark.parametrize("csr", [b"", b"x"])
async def test_a_downstream_server_needs_a_csr(live: Any, csr: bytes) -> None:
    call = svid_grpc.SVIDStub(await downstream(live)).NewDownstreamX509CA(svid_pb2.NewDownstreamX509CARequest(csr=csr))
    status, message = await refusal(call)
    assert status is Status.INVALID_ARGUMENT
    assert message.startswith("malformed CSR: ")


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/boss", "/spire.api.server.agent.v1.Agent/CountAgents"),
        ("/other", "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA"),
        ("/spire/agent/join_token/x", "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries"),
        ("/spire/server", "/spire.api.server.agent.v1.Agent/CountAgents"),
    ],
)
async def test_a_downstream_ca_makes_nobody_more_than_a_workload(live: Any, path: str, method: str) -> None:
    """Threat 14: what it signs leads to our bundle and has the right ID, and we have no record of it."""
    await entry(live, "boss", "/boss", admin=True)
    await entry(live, "other", "/other", downstream=True)
    stub = svid_grpc.SVIDStub(await downstream(live))
    answer = await stub.NewDownstreamX509CA(svid_pb2.NewDownstreamX509CARequest(csr=live.csr()))
    forged = forge(live.key, x509.load_der_x509_certificate(answer.ca_cert_chain[0]), f"spiffe://example.org{path}")
    caller = await live.caller(forged)
    call = grpclib.client.UnaryUnaryMethod(caller, method, types_pb2.SPIFFEID, types_pb2.SPIFFEID)
    status, message = await refusal(call(types_pb2.SPIFFEID()))
    assert (status, message) == (Status.PERMISSION_DENIED, f"authorization denied for method {method}")


async def test_an_administrators_serial_number_is_worth_nothing_either(live: Any) -> None:
    """Threat 14: whoever met the administrator in a handshake knows it, and a downstream CA may sign any number."""
    await entry(live, "boss", "/boss", admin=True)
    boss = await live.mint("/boss")
    stub = svid_grpc.SVIDStub(await downstream(live))
    answer = await stub.NewDownstreamX509CA(svid_pb2.NewDownstreamX509CARequest(csr=live.csr()))
    authority = x509.load_der_x509_certificate(answer.ca_cert_chain[0])
    forged = forge(live.key, authority, "spiffe://example.org/boss", serial_number=boss.leaf.serial_number)
    count = agent_pb2.CountAgentsRequest()
    await agent_grpc.AgentStub(await live.caller(boss)).CountAgents(count)
    status, _ = await refusal(agent_grpc.AgentStub(await live.caller(forged)).CountAgents(count))
    assert status is Status.PERMISSION_DENIED


def forge(key: Any, authority: x509.Certificate, uri: str, *, serial_number: int = 5) -> X509SVID:
    """A leaf for the same key, as a downstream CA can sign it."""
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"),
        False,
    )
    leaf = (
        x509.CertificateBuilder()
        .serial_number(serial_number)
        .subject_name(x509.Name([]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .not_valid_before(authority.not_valid_before_utc)
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, encipher_only=False, decipher_only=False, **usage), critical=True
        )
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return X509SVID((leaf, authority), key)


async def test_a_downstream_servers_jwt_authority_is_published(live: Any) -> None:
    stub = bundle_grpc.BundleStub(await downstream(live))
    key = types_pb2.JWTKey(public_key=spki(), key_id="theirs", expires_at=2_000_000_000)
    for _ in range(2):
        answer = await stub.PublishJWTAuthority(bundle_pb2.PublishJWTAuthorityRequest(jwt_authority=key))
        assert len(answer.jwt_authorities) == 2
        assert answer.jwt_authorities[1] == key
    assert "theirs" in (await bundle(live)).jwt_authorities


OTHER = spki(ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (None, "missing JWT authority"),
        ({"public_key": OTHER}, "invalid JWT authority: missing key ID"),
        ({"key_id": "k"}, "invalid JWT authority: "),
        ({"key_id": "k", "public_key": b"junk"}, "invalid JWT authority: "),
        ({"key_id": "k" * 257, "public_key": OTHER}, "invalid JWT authority: the key ID has more than 256 characters"),
        ({"key_id": "k", "public_key": OTHER, "expires_at": -1}, "invalid JWT authority: it ended before 1970"),
        ({"key_id": "theirs", "public_key": OTHER}, "key ID 'theirs' stands for another authority already"),
    ],
    ids=map(str, range(7)),
)
async def test_what_is_no_jwt_authority(live: Any, fields: dict[str, Any] | None, words: str) -> None:
    stub = bundle_grpc.BundleStub(await downstream(live))
    known = types_pb2.JWTKey(public_key=spki(), key_id="theirs")
    await stub.PublishJWTAuthority(bundle_pb2.PublishJWTAuthorityRequest(jwt_authority=known))
    request = bundle_pb2.PublishJWTAuthorityRequest(
        jwt_authority=None if fields is None else types_pb2.JWTKey(**fields)
    )
    status, message = await refusal(stub.PublishJWTAuthority(request))
    assert status is Status.INVALID_ARGUMENT
    assert message.startswith(words)
    assert len((await bundle(live)).jwt_authorities) == 2


async def test_wit_authorities_are_published_where_the_flag_is_on(start_server: Any) -> None:
    request = bundle_pb2.PublishWITAuthorityRequest(
        wit_authority=types_pb2.WITKey(public_key=spki(), key_id="theirs", expires_at=5)
    )
    off, on = await start_server(), await start_server(tokens=Tokens(wit=True))
    assert await refusal(bundle_grpc.BundleStub(await downstream(off)).PublishWITAuthority(request)) == (
        Status.UNIMPLEMENTED,
        "WIT-SVID functionality is not yet implemented",
    )
    answer = await bundle_grpc.BundleStub(await downstream(on)).PublishWITAuthority(request)
    assert [key.key_id for key in answer.wit_authorities][1:] == ["theirs"]
