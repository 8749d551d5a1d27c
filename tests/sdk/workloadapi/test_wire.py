"""An agent's message becomes a context or is refused whole; what other domains published cannot stop our renewal."""

import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import (
    InvalidBundleError,
    InvalidX509SVIDError,
    NoIdentityError,
    SpiffeError,
    WorkloadAPIError,
)
from authsec_sdk.proto import workload_pb2
from authsec_sdk.spiffe import BundleSet, TrustDomain, X509Bundle, X509Context
from authsec_sdk.testing import Credential, TestCA
from authsec_sdk.testing.certificates import new_key
from authsec_sdk.workloadapi import UpdateLimits
from authsec_sdk.workloadapi.wire import (
    decode_x509_bundles,
    decode_x509_context,
    encode_x509_bundles,
    encode_x509_context,
)

CA = TestCA("example.org")
FOREIGN = TestCA("foreign.test")
NOW = datetime.now(UTC)
LIMITS = UpdateLimits()
SVIDS = [CA.svid("/a"), CA.svid("/b", hint="internal"), CA.intermediate().svid("/c"), FOREIGN.svid("/d", hint="x")]
BUNDLES = [X509Bundle(TrustDomain("empty.test")), TestCA("far.test").bundle()]


def response(*credentials: Credential, **fields: object) -> workload_pb2.X509SVIDResponse:
    """A good message of `CA` for /workload, or of what is given."""
    message = workload_pb2.X509SVIDResponse()
    for credential in credentials or (CA.credential(),):
        svid = message.svids.add(
            spiffe_id="spiffe://example.org/workload",
            x509_svid=credential.chain_der(),
            x509_svid_key=credential.key_der(),
            bundle=CA.bundle().to_der(),
        )
        for name, value in fields.items():
            setattr(svid, name, value)
    return message


@given(
    st.lists(st.sampled_from(SVIDS), min_size=1, max_size=4, unique_by=lambda svid: svid.id),
    st.lists(st.sampled_from(BUNDLES), unique_by=id),
)
def test_a_context_survives_the_wire(svids: list[object], foreign: list[X509Bundle]) -> None:
    context = X509Context(tuple(svids), BundleSet([CA.bundle(), FOREIGN.bundle(), *foreign]))  # type: ignore[arg-type]
    message = workload_pb2.X509SVIDResponse.FromString(encode_x509_context(context).SerializeToString())
    update = decode_x509_context(message, NOW, LIMITS)
    assert update.context == context
    assert update.problems == ()
    assert [svid.key_der() for svid in update.context.svids] == [svid.key_der() for svid in context.svids]


@given(st.lists(st.sampled_from([CA.bundle(), *BUNDLES]), min_size=1, unique_by=id))
def test_bundles_survive_the_wire(bundles: list[X509Bundle]) -> None:
    update = decode_x509_bundles(encode_x509_bundles(BundleSet(bundles)), LIMITS)
    assert update.bundles == BundleSet(bundles)
    assert update.problems == ()


def crl(number: int = 1) -> x509.CertificateRevocationList:
    """A revocation list of `CA`."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(CA.certificate.subject)
    builder = builder.last_update(NOW).next_update(NOW + timedelta(days=1))
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    return builder.sign(CA.private_key, hashes.SHA256())


def test_revocation_lists_survive_the_wire() -> None:
    context = X509Context((CA.svid("/a"),), BundleSet([CA.bundle()]), (crl(1), crl(2)))
    update = decode_x509_context(encode_x509_context(context), NOW, LIMITS)
    assert update.context == context
    assert update.context != X509Context(context.svids, context.bundles)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (LIMITS, "revocation list 1 is malformed"),
        (UpdateLimits(crls=0), "1 revocation lists"),
        (UpdateLimits(crl_bytes=3), "revocation list 1 has 4 bytes"),
    ],
)
def test_a_revocation_list_that_cannot_be_read_is_left_out_and_renewal_goes_on(
    limits: UpdateLimits, words: str
) -> None:
    message = response()
    message.crl.append(b"none")
    update = decode_x509_context(message, NOW, limits)
    assert update.context.svid.hint == ""
    assert update.context.crls == ()
    assert words in str(update.problems[0])
    bundles = encode_x509_bundles(BundleSet([CA.bundle()]))
    bundles.crl.extend([b"none", crl().public_bytes(Encoding.DER)])
    assert words in str(decode_x509_bundles(bundles, limits).problems[0])
    assert len(decode_x509_bundles(bundles, LIMITS).crls) == 1


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_whatever_stands_for_revocation_lists_renewal_goes_on(lists: list[bytes]) -> None:
    message = response()
    message.crl.extend(lists)
    update = decode_x509_context(message, NOW, UpdateLimits(crls=3))
    assert len(update.context.crls) + len(update.problems) == min(len(lists), 4)


WRONG: list[tuple[str, workload_pb2.X509SVIDResponse, type[SpiffeError], str]] = [
    ("no svid", workload_pb2.X509SVIDResponse(), NoIdentityError, "without any SVID"),
    ("no id", response(spiffe_id=""), InvalidX509SVIDError, "lacks"),
    ("no certificate", response(x509_svid=b""), InvalidX509SVIDError, "lacks"),
    ("no key", response(x509_svid_key=b""), InvalidX509SVIDError, "lacks"),
    ("other id", response(spiffe_id="spiffe://example.org/admin"), InvalidX509SVIDError, "is said to be"),
    ("upper case", response(spiffe_id="SPIFFE://example.org/workload"), InvalidX509SVIDError, "is said to be"),
    ("newline", response(spiffe_id="spiffe://example.org/workload\n"), InvalidX509SVIDError, "is said to be"),
    ("garbage certificate", response(x509_svid=b"garbage"), InvalidX509SVIDError, ""),
    ("PEM certificate", response(x509_svid=CA.credential().chain_pem()), InvalidX509SVIDError, ""),
    ("garbage key", response(x509_svid_key=b"garbage"), InvalidX509SVIDError, ""),
    ("PEM key", response(x509_svid_key=CA.credential().key_pem()), InvalidX509SVIDError, ""),
    ("another key", response(CA.credential(private_key=new_key())), InvalidX509SVIDError, "key"),
    ("own bundle empty", response(bundle=b""), InvalidBundleError, "empty bundle"),
    ("own bundle garbage", response(bundle=b"garbage"), InvalidBundleError, "malformed"),
    ("own bundle cut short", response(bundle=CA.bundle().to_der()[:-1]), InvalidBundleError, "malformed"),
    (
        "expired",
        response(CA.credential(not_before=NOW - timedelta(days=2), not_after=NOW - timedelta(days=1))),
        InvalidX509SVIDError,
        "clocks",
    ),
    ("CA leaf", response(CA.credential(ca=True)), InvalidX509SVIDError, ""),
    ("two ids", response(CA.credential(uris=["spiffe://example.org/a", "spiffe://example.org/b"])), SpiffeError, ""),
    (
        "leaf that signs",
        response(CA.intermediate(signer=CA.credential("/thief")).credential()),
        InvalidX509SVIDError,
        "",
    ),
]


@pytest.mark.parametrize(
    ("message", "error", "words"), [row[1:] for row in WRONG], ids=[row[0].replace(" ", "-") for row in WRONG]
)
def test_an_update_that_breaks_a_rule_is_refused(
    message: workload_pb2.X509SVIDResponse, error: type[SpiffeError], words: str
) -> None:
    with pytest.raises(error) as caught:
        decode_x509_context(message, NOW, LIMITS)
    assert words in str(caught.value)


def test_one_wrong_svid_of_several_refuses_the_update() -> None:
    with pytest.raises(InvalidX509SVIDError, match="SVID 2"):
        decode_x509_context(response(CA.credential(), CA.credential("/other")), NOW, LIMITS)


def test_svids_of_one_domain_have_one_bundle() -> None:
    message = response(CA.credential(), CA.credential())
    message.svids[1].bundle = TestCA("example.org").bundle().to_der()
    with pytest.raises(InvalidBundleError, match=r"another bundle of example\.org"):
        decode_x509_context(message, NOW, LIMITS)


def test_an_svid_that_is_not_valid_yet_is_accepted_for_clocks_differ() -> None:
    early = CA.credential(not_before=NOW + timedelta(minutes=1), not_after=NOW + timedelta(hours=1))
    assert decode_x509_context(response(early), NOW, LIMITS).context.svids


def test_of_equal_hints_the_first_svid_wins_and_empty_hints_are_not_equal() -> None:
    message = response(*(CA.credential() for _ in range(4)))
    message.svids[0].hint = message.svids[2].hint = "internal"
    context = decode_x509_context(message, NOW, LIMITS).context
    assert [svid.hint for svid in context.svids] == ["internal", "", ""]
    assert context.svids[0].chain_der()[0] == message.svids[0].x509_svid


def test_an_empty_federated_bundle_is_kept_and_trusts_nobody() -> None:
    message = response()
    message.federated_bundles["spiffe://empty.test"] = b""
    update = decode_x509_context(message, NOW, LIMITS)
    assert update.context.bundles[TrustDomain("empty.test")].authorities == ()
    assert update.problems == ()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("spiffe://bad.test", b"garbage", "bad.test is malformed"),
        ("spiffe://bad.test", FOREIGN.bundle().to_der() + b"\x30", "bad.test is malformed"),
        ("spiffe://bad.test/path", FOREIGN.bundle().to_der(), "not the ID of a trust domain"),
        ("bad.test", FOREIGN.bundle().to_der(), "spiffe://"),
        ("spiffe://BAD.test", FOREIGN.bundle().to_der(), "lower-case"),
        ("spiffe://example.org", FOREIGN.bundle().to_der(), "given twice"),
        ("spiffe://large.test", b"\x30" * (LIMITS.bundle_bytes + 1), "large.test has"),
    ],
)
def test_what_another_domain_published_wrongly_costs_only_that_domain(key: str, value: bytes, words: str) -> None:
    message = response()
    message.federated_bundles[key] = value
    message.federated_bundles["spiffe://foreign.test"] = FOREIGN.bundle().to_der()
    update = decode_x509_context(message, NOW, LIMITS)
    assert update.context.bundles == BundleSet.of(CA.bundle(), FOREIGN.bundle())
    (problem,) = update.problems
    assert words in str(problem)
    assert problem.__traceback__ is None


def test_bundle_messages_keep_what_is_right_of_them() -> None:
    message = workload_pb2.X509BundlesResponse(
        bundles={"spiffe://example.org": CA.bundle().to_der(), "spiffe://bad.test": b"garbage"}
    )
    update = decode_x509_bundles(message, LIMITS)
    assert update.bundles == BundleSet.of(CA.bundle())
    assert len(update.problems) == 1
    with pytest.raises(InvalidBundleError, match="without any bundle"):
        decode_x509_bundles(workload_pb2.X509BundlesResponse(), LIMITS)


def _many_bundles(message: workload_pb2.X509SVIDResponse) -> None:
    for number in range(3):
        message.federated_bundles[f"spiffe://td{number}.test"] = b""


@pytest.mark.parametrize(
    ("limits", "change", "words"),
    [
        (UpdateLimits(svids=0), lambda message: None, "1 SVIDs"),
        (UpdateLimits(chain_bytes=100), lambda message: None, "certificate chain"),
        (UpdateLimits(key_bytes=10), lambda message: None, "the key of"),
        (UpdateLimits(hint_bytes=3), lambda message: setattr(message.svids[0], "hint", "abcd"), "hint"),
        (UpdateLimits(bundles=2), _many_bundles, "3 federated bundles"),
        (UpdateLimits(bundle_bytes=100), lambda message: None, "bundle of example.org"),
        (UpdateLimits(authorities=0), lambda message: None, "1 authorities"),
    ],
)
def test_limits_are_kept_and_named(
    limits: UpdateLimits, change: Callable[[workload_pb2.X509SVIDResponse], None], words: str
) -> None:
    message = response()
    change(message)
    with pytest.raises(WorkloadAPIError, match="UpdateLimits") as caught:
        decode_x509_context(message, NOW, limits)
    assert words in str(caught.value)


def test_the_number_of_bundles_alone_is_limited() -> None:
    message = encode_x509_bundles(BundleSet([CA.bundle(), *BUNDLES]))
    with pytest.raises(WorkloadAPIError, match="3 bundles"):
        decode_x509_bundles(message, UpdateLimits(bundles=2))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_that_is_refused_or_no_message(data: bytes) -> None:
    try:
        message = workload_pb2.X509SVIDResponse.FromString(data)
    except Exception:
        return
    with pytest.raises(SpiffeError):
        decode_x509_context(message, NOW, LIMITS)


@given(
    field=st.sampled_from(["spiffe_id", "x509_svid", "x509_svid_key", "bundle"]), data=st.data(), cut=st.integers(0, 40)
)
def test_damaged_fields_are_refused_and_nothing_else_is_raised(field: str, data: st.DataObject, cut: int) -> None:
    message = response()
    value = getattr(message.svids[0], field)
    if isinstance(value, str):
        changed: str | bytes = value[:cut] + data.draw(st.text(max_size=5))
    else:
        changed = value[:cut] + data.draw(st.binary(max_size=20)) + value[cut + 1 :]
    setattr(message.svids[0], field, changed)
    try:
        svid = decode_x509_context(message, NOW, LIMITS).context.svid
    except SpiffeError:
        return
    # A changed serial number, say: whether anybody trusts the chain, the first handshake tells.
    assert str(svid.id) == message.svids[0].spiffe_id
    assert svid.private_key.public_key() == svid.leaf.public_key()


def locals_of(error: BaseException) -> list[object]:
    """Every local variable that a traceback of the error, its causes and its contexts would print."""
    found: list[object] = []
    chain: BaseException | None = error
    while chain is not None:
        frame: TracebackType | None = chain.__traceback__
        while frame is not None:
            if "authsec_sdk/" in frame.tb_frame.f_code.co_filename:
                found += frame.tb_frame.f_locals.values()
            frame = frame.tb_next
        chain = chain.__cause__ or chain.__context__
    return found


@pytest.mark.parametrize("message", [row[1] for row in WRONG], ids=[row[0].replace(" ", "-") for row in WRONG])
def test_no_frame_of_an_error_holds_a_key(message: workload_pb2.X509SVIDResponse) -> None:
    """Threat model 23: rich, pytest and crash reporters print the local variables of every frame."""
    with pytest.raises(SpiffeError) as caught:
        decode_x509_context(message, NOW, LIMITS)
    for value in locals_of(caught.value):
        assert not isinstance(value, workload_pb2.X509SVIDResponse | workload_pb2.X509SVID)
        for svid in message.svids:
            assert svid.x509_svid_key == b"" or value != svid.x509_svid_key
    printed = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=False).format())
    assert "x509_svid_key" not in printed
