"""Where protobuf stops: the Workload API's messages become `X509Context` and `BundleSet`, or are refused. Pure.

What breaks the agent's own contract (SPIFFE Workload API, sections 4.5 and 5.2) refuses the whole update. What another
trust domain published wrongly costs only that domain: it is left out and named in `problems`, for otherwise any domain
we federate with could stop our own identity from being renewed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from authsec_sdk.errors import (
    InvalidBundleError,
    InvalidSpiffeIDError,
    InvalidX509SVIDError,
    NoIdentityError,
    SpiffeError,
    WorkloadAPIError,
)
from authsec_sdk.proto import workload_pb2
from authsec_sdk.spiffe import X509SVID, BundleSet, SpiffeID, TrustDomain, X509Bundle, X509Context
from authsec_sdk.workloadapi.limits import UpdateLimits

__all__ = [
    "BundlesUpdate",
    "X509Update",
    "check_count",
    "check_size",
    "decode_x509_bundles",
    "decode_x509_context",
    "encode_x509_bundles",
    "encode_x509_context",
    "read_domain",
    "shielded",
]

_Message = TypeVar("_Message")
_Decoded = TypeVar("_Decoded")


@dataclass(frozen=True, slots=True)
class X509Update:
    """One message of FetchX509SVID. `problems` says which foreign bundles and CRLs were left out, and why."""

    context: X509Context
    problems: tuple[SpiffeError, ...] = ()


@dataclass(frozen=True, slots=True)
class BundlesUpdate:
    """One message of FetchX509Bundles. `problems` says which bundles and CRLs were left out, and why."""

    bundles: BundleSet[X509Bundle]
    problems: tuple[SpiffeError, ...] = ()
    crls: tuple[x509.CertificateRevocationList, ...] = ()


def decode_x509_context(response: workload_pb2.X509SVIDResponse, now: datetime, limits: UpdateLimits) -> X509Update:
    """Read one message of FetchX509SVID.

    What holds of the result: at least one SVID; each keeps the X509-SVID standard, matches its key, has the ID that
    the message says, has not expired at `now` and has a bundle of its own trust domain with an authority in it; no
    two have the same hint (the first one wins, section 5.2.1). Federated bundles may be empty: they then trust nobody.
    Not checked: that the SVIDs chain to these bundles, and that they are valid already (clocks differ).

    Raises:
        NoIdentityError: the message holds no SVID.
        InvalidX509SVIDError: an SVID is malformed, expired, or not the one that the message says.
        InvalidBundleError: the bundle of our own trust domain is empty, malformed, or given twice with differences.
        WorkloadAPIError: a limit is exceeded. None of these carries key material, in its traceback either.
    """
    try:
        return shielded(lambda message: _x509_update(message, now, limits), response)
    finally:
        del response  # it prints the private keys, and tracebacks show locals


def decode_x509_bundles(response: workload_pb2.X509BundlesResponse, limits: UpdateLimits) -> BundlesUpdate:
    """Read one message of FetchX509Bundles.

    Which of the bundles is that of the own trust domain the message does not say, so any of them may be left out.

    Raises:
        InvalidBundleError: the message holds no bundle (section 5.2.2 requires one).
        WorkloadAPIError: a limit is exceeded.
    """
    check_count(len(response.bundles), limits.bundles, "bundles")
    bundles, problems = _foreign_bundles(response.bundles, {}, limits)
    if not bundles and not problems:
        raise InvalidBundleError("the agent sent an update without any bundle")
    crls, unread = _crls(response.crl, limits)
    return BundlesUpdate(BundleSet(bundles), (*problems, *unread), crls)


def _x509_update(response: workload_pb2.X509SVIDResponse, now: datetime, limits: UpdateLimits) -> X509Update:
    if not response.svids:
        raise NoIdentityError("the agent sent an update without any SVID")
    check_count(len(response.svids), limits.svids, "SVIDs")
    check_count(len(response.federated_bundles), limits.bundles, "federated bundles")
    gathered = _Gathered()
    for number, message in enumerate(response.svids, start=1):
        _add_svid(gathered, message, number, now, limits)
    foreign, problems = _foreign_bundles(response.federated_bundles, gathered.bundles, limits)
    bundles = BundleSet([*gathered.bundles.values(), *foreign])
    crls, unread = _crls(response.crl, limits)
    return X509Update(X509Context(tuple(gathered.svids), bundles, crls), (*problems, *unread))


@dataclass(slots=True)
class _Gathered:
    svids: list[X509SVID] = field(default_factory=list)
    bundles: dict[TrustDomain, X509Bundle] = field(default_factory=dict)
    hints: set[str] = field(default_factory=set)


def _add_svid(
    gathered: _Gathered, message: workload_pb2.X509SVID, number: int, now: datetime, limits: UpdateLimits
) -> None:
    what = f"SVID {number} of the agent's update"
    if not (message.spiffe_id and message.x509_svid and message.x509_svid_key):
        raise InvalidX509SVIDError(f"{what} lacks its SPIFFE ID, its certificates or its key")
    check_size(len(message.x509_svid), limits.chain_bytes, f"the certificate chain of {what}")
    check_size(len(message.x509_svid_key), limits.key_bytes, f"the key of {what}")
    check_size(len(message.hint.encode()), limits.hint_bytes, f"the hint of {what}")
    svid = X509SVID.parse_der(message.x509_svid, message.x509_svid_key, hint=message.hint)
    if str(svid.id) != message.spiffe_id:
        raise InvalidX509SVIDError(f"{what} is said to be {message.spiffe_id[:200]!r}, its certificate says {svid.id}")
    if svid.is_expired(now):
        raise InvalidX509SVIDError(
            f"{what} ({svid.id}) expired at {svid.not_after.isoformat()} and it is {now.isoformat()}: "
            "compare the clocks, or look why the agent does not renew it"
        )
    _add_own_bundle(gathered.bundles, svid.id.trust_domain, message.bundle, what, limits)
    if svid.hint in gathered.hints:
        return
    if svid.hint:
        gathered.hints.add(svid.hint)
    gathered.svids.append(svid)


def _add_own_bundle(
    bundles: dict[TrustDomain, X509Bundle], domain: TrustDomain, data: bytes, what: str, limits: UpdateLimits
) -> None:
    bundle = _bundle(domain, data, limits)
    if not bundle.authorities:
        raise InvalidBundleError(f"{what} comes with an empty bundle of its own trust domain {domain}")
    if bundles.setdefault(domain, bundle) != bundle:
        raise InvalidBundleError(f"{what} comes with another bundle of {domain} than an SVID before it")


def _foreign_bundles(
    messages: Mapping[str, bytes], own: Mapping[TrustDomain, X509Bundle], limits: UpdateLimits
) -> tuple[list[X509Bundle], list[SpiffeError]]:
    """Read what other domains published; sorted, so that the same update has the same order each time."""
    bundles: dict[TrustDomain, X509Bundle] = {}
    problems: list[SpiffeError] = []
    for key in sorted(messages):
        try:
            domain = read_domain(key)
            if domain in own or domain in bundles:
                raise InvalidBundleError(f"the bundle of {domain} is given twice; the first one is used")
            bundles[domain] = _bundle(domain, messages[key], limits)
        except SpiffeError as error:
            problems.append(error.with_traceback(None))
    return list(bundles.values()), problems


def _crls(
    messages: Iterable[bytes], limits: UpdateLimits
) -> tuple[tuple[x509.CertificateRevocationList, ...], list[SpiffeError]]:
    """Read revocation lists. One that cannot be read is left out, and keeps nobody's identity from being renewed."""
    crls: list[x509.CertificateRevocationList] = []
    problems: list[SpiffeError] = []
    for number, data in enumerate(messages, start=1):
        try:
            check_count(number, limits.crls, "revocation lists")
            check_size(len(data), limits.crl_bytes, f"revocation list {number}")
            crls.append(x509.load_der_x509_crl(data))
        except SpiffeError as error:
            problems.append(error.with_traceback(None))
            if number > limits.crls:
                break
        except Exception as error:  # noqa: BLE001 - whatever a parser of somebody else's bytes raises
            problems.append(InvalidBundleError(f"revocation list {number} is malformed ({type(error).__name__})"))
    return tuple(crls), problems


def read_domain(key: str) -> TrustDomain:
    """Read the key of a bundle: the SPIFFE ID of a trust domain, without a path. Raises: InvalidSpiffeIDError."""
    spiffe_id = SpiffeID.parse(key)
    if spiffe_id.path:
        raise InvalidSpiffeIDError(f"a bundle is given for {key[:200]!r}, which is not the ID of a trust domain")
    return spiffe_id.trust_domain


def _bundle(domain: TrustDomain, data: bytes, limits: UpdateLimits) -> X509Bundle:
    check_size(len(data), limits.bundle_bytes, f"the bundle of {domain}")
    bundle = X509Bundle.parse_der(domain, data)
    check_count(len(bundle.authorities), limits.authorities, f"authorities in the bundle of {domain}")
    return bundle


def check_count(count: int, limit: int, what: str) -> None:
    """Refuse more than a limit of something. Raises: WorkloadAPIError."""
    if count > limit:
        raise WorkloadAPIError(f"the agent sent {count} {what} and this client takes {limit} (UpdateLimits)")


def check_size(size: int, limit: int, what: str) -> None:
    """Refuse something larger than a limit of bytes. Raises: WorkloadAPIError."""
    if size > limit:
        raise WorkloadAPIError(f"{what} has {size} bytes and this client takes {limit} (UpdateLimits)")


def shielded(decode: Callable[[_Message], _Decoded], message: _Message) -> _Decoded:
    """Run `decode` and let its errors out without the frames in which a private key is readable (threat model 23)."""
    problem: SpiffeError
    try:
        return decode(message)
    except SpiffeError as error:
        problem = error.with_traceback(None)
    except Exception as error:  # noqa: BLE001 - a defect of ours must not print a key or end the stream either
        problem = WorkloadAPIError(f"an update could not be read: {type(error).__name__}")
    finally:
        del message
    raise problem


def _bundle_messages(bundles: Iterable[X509Bundle]) -> dict[str, bytes]:
    """Write bundles as the wire carries them."""
    return {str(bundle.trust_domain.id): bundle.to_der() for bundle in bundles}


def encode_x509_context(context: X509Context) -> workload_pb2.X509SVIDResponse:
    """Write a context as an agent sends it; bundles of domains of which there is no SVID become federated ones.

    Raises:
        NoBundleForTrustDomainError: there is an SVID without the bundle of its trust domain.
    """
    own = {svid.id.trust_domain for svid in context.svids}
    return workload_pb2.X509SVIDResponse(
        svids=[
            workload_pb2.X509SVID(
                spiffe_id=str(svid.id),
                x509_svid=b"".join(svid.chain_der()),
                x509_svid_key=svid.key_der(),
                bundle=context.bundles.require(svid.id.trust_domain).to_der(),
                hint=svid.hint,
            )
            for svid in context.svids
        ],
        crl=[crl.public_bytes(Encoding.DER) for crl in context.crls],
        federated_bundles=_bundle_messages(bundle for domain, bundle in context.bundles.items() if domain not in own),
    )


def encode_x509_bundles(bundles: BundleSet[X509Bundle]) -> workload_pb2.X509BundlesResponse:
    """Write bundles as an agent sends them."""
    return workload_pb2.X509BundlesResponse(bundles=_bundle_messages(bundles.values()))
