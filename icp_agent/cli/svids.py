"""X.509 answers of the Workload API for people: checked as a workload would check them, then printed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509

from authsec_sdk.errors import InvalidBundleError, SpiffeError
from authsec_sdk.hcl.durations import format_duration
from authsec_sdk.proto import workload_pb2
from authsec_sdk.spiffe import X509SVID, BundleSet, TrustDomain, X509Bundle
from authsec_sdk.spiffe.verify import verify_chain
from icp_agent.cli.client import CommandError

Print = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Received:
    """One SVID, its bundle, and the bundles of others that came with it, keyed by their trust domain's ID."""

    svid: X509SVID
    bundle: X509Bundle
    federated: Mapping[str, X509Bundle]


def parse_response(response: workload_pb2.X509SVIDResponse, *, now: datetime) -> list[Received]:
    """Read an answer and verify each SVID against the bundle it came with.

    Raises:
        CommandError: there is none, or one that cannot be read or verified.
    """
    if not response.svids:
        raise CommandError("workload response contains no svids")
    federated = {}
    for name, der in sorted(response.federated_bundles.items()):
        try:
            bundle = X509Bundle.parse_der(TrustDomain.parse(name), der)
        except SpiffeError as error:
            raise CommandError(f'failed to parse bundle for federated domain "{name}": {error}') from error
        federated[name] = bundle
    return [_parse(number, each, federated, now) for number, each in enumerate(response.svids)]


def _parse(number: int, message: workload_pb2.X509SVID, federated: Mapping[str, X509Bundle], now: datetime) -> Received:
    try:
        svid = X509SVID.parse_der(message.x509_svid, message.x509_svid_key, hint=message.hint)
        bundle = X509Bundle.parse_der(svid.id.trust_domain, message.bundle)
        if str(svid.id) != message.spiffe_id:
            raise InvalidBundleError(f"its certificate names {svid.id}")
        verify_chain(svid.certificates, BundleSet.of(bundle), at=now)
    except SpiffeError as error:
        raise CommandError(
            f'failed to parse svid entry {number} for spiffe id "{message.spiffe_id}": {error}'
        ) from error
    return Received(svid, bundle, federated)


def print_received(received: list[Received], after: timedelta, print_: Print, *, hints: bool = True) -> None:
    """Print in upstream's words."""
    count = len(received)
    print_(f"Received {count} svid{'' if count == 1 else 's'} after {format_duration(after)}")
    for each in received:
        print_("")
        print_(f"SPIFFE ID:\t\t{each.svid.id}")
        if hints and each.svid.hint:
            print_(f"Hint:\t\t\t{each.svid.hint}")
        _print_validity("SVID", each.svid.leaf, print_)
        for number, certificate in enumerate(each.svid.certificates[1:], 1):
            _print_validity(f"Intermediate #{number}", certificate, print_)
        for number, certificate in enumerate(each.bundle.authorities, 1):
            _print_validity(f"CA #{number}", certificate, print_)
        for name, bundle in each.federated.items():
            for number, certificate in enumerate(bundle.authorities, 1):
                _print_validity(f"[{name}] CA #{number}", certificate, print_)
    print_("")


def _print_validity(what: str, certificate: x509.Certificate, print_: Print) -> None:
    print_(f"{what} Valid After:\t{_moment(certificate.not_valid_before_utc)}")
    print_(f"{what} Valid Until:\t{_moment(certificate.not_valid_after_utc)}")


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
